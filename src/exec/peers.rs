//! What calls of silent services say they call.
//!
//! Read [`Peers`].

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewBuilder};

use super::numbering::Numbering;
use crate::trace::NONE;

/// Numbers from here on are those of peers that no service has the name of.
const FIRST_PEER: u32 = 1 << 31;

/// Peers, numbered beside the services of a range: a peer that has a service's name has its
/// number.
#[derive(Debug, Default)]
pub(super) struct Peers {
    others: Numbering,
}

impl Peers {
    /// The number of the first of these names that is not empty; [`NONE`] where there is none.
    pub(super) fn first<'a>(
        &mut self,
        mut names: impl Iterator<Item = &'a str>,
        services: &Numbering,
    ) -> u32 {
        match names.find(|name| !name.is_empty()) {
            None => NONE,
            Some(name) => match services.find(name) {
                Some(number) => number,
                None => FIRST_PEER | self.others.number(name),
            },
        }
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
    fn the_first_name_that_is_not_empty_counts_and_services_keep_their_numbers() {
        let mut services = Numbering::default();
        let cart = services.number("cart");
        let mut peers = Peers::default();
        assert_eq!(peers.first(["cart", "redis"].into_iter(), &services), cart);
        assert_eq!(peers.first([""].into_iter(), &services), NONE);
        let redis = peers.first(["", "redis"].into_iter(), &services);
        let names = peers.column(&[redis, cart], &services);
        let names = names.as_string_view();
        assert_eq!((names.value(0), names.value(1)), ("redis", "cart"));
        assert_eq!(peers.first(["redis"].into_iter(), &services), redis);
    }
}
