//! What calls of silent services say they call.
//!
//! Read [`Peers`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, StringViewBuilder};

use super::numbering::Numbering;
use crate::span::{JsonLookup, unquote};
use crate::trace::NONE;

/// The attributes that name a peer, the first that is there and not empty counts.
const KEYS: [&str; 4] = [
    "peer.service",
    "server.address",
    "db.system.name",
    "db.system",
];

/// Numbers from here on are those of peers that no service has the name of.
const FIRST_PEER: u32 = 1 << 31;

/// Peers, numbered beside the services of a range: a peer that has a service's name has its
/// number.
#[derive(Debug, Default)]
pub(super) struct Peers {
    others: Numbering,
}

impl Peers {
    /// The number of the peer that a span's attributes, a JSON object, name; [`NONE`] where they
    /// name none.
    pub(super) fn of(&mut self, attributes: &str, services: &Numbering) -> u32 {
        static LOOKUPS: LazyLock<[JsonLookup; 4]> = LazyLock::new(|| KEYS.map(JsonLookup::new));
        for lookup in LOOKUPS.iter() {
            let Some(value) = lookup.find(attributes) else {
                continue;
            };
            let text = unquote(value);
            if text.is_empty() || value == "null" {
                continue;
            }
            return match services.find(&text) {
                Some(number) => number,
                None => FIRST_PEER | self.others.number(&text),
            };
        }
        NONE
    }

    /// The names of numbers as a column.
    pub(super) fn column(&self, numbers: &[u32], services: &Numbering) -> ArrayRef {
        let mut texts = StringViewBuilder::with_capacity(numbers.len()).with_deduplicate_strings();
        for number in numbers {
            let text = match number.checked_sub(FIRST_PEER) {
                Some(peer) => self.others.text(peer),
                None => services.text(*number),
            };
            texts.append_value(text.unwrap_or_default());
        }
        Arc::new(texts.finish())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn the_first_attribute_that_is_not_empty_names_the_peer() {
        let mut services = Numbering::default();
        let cart = services.number("cart");
        let mut peers = Peers::default();
        let of = |peers: &mut Peers, text| peers.of(text, &services);
        assert_eq!(of(&mut peers, r#"{"peer.service":"cart"}"#), cart);
        assert_eq!(of(&mut peers, r#"{"http.method":"GET"}"#), NONE);
        let redis = of(&mut peers, r#"{"db.system":"redis","peer.service":""}"#);
        let names = peers.column(&[redis, cart], &services);
        let names = names.as_string_view();
        assert_eq!((names.value(0), names.value(1)), ("redis", "cart"));
        assert_eq!(of(&mut peers, r#"{"db.system.name":"redis"}"#), redis);
    }
}
