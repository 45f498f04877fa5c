//! What calls of silent services say they call.
//!
//! Read [`Peers`]. Names repeat, so that a number is kept for each span rather than a text.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use datafusion::common::{Result, exec_err};

use super::numbering::Numbering;
use crate::trace::NONE;

/// Numbers from here on are those of peers that no service has the name of.
const FIRST_PEER: u32 = 1 << 31;

/// The peers of the spans of a range, numbered beside its services: a peer that has a service's
/// name has its number.
#[derive(Debug, Default)]
pub(super) struct Peers {
    names: Numbering,
    /// The name of each span's peer, by its number.
    of_rows: Vec<u32>,
    /// The numbers of names beside those of services; none before all services are known.
    numbers: Vec<u32>,
}

impl Peers {
    /// Appends spans: for each the first of these columns that is not empty names its peer.
    pub(super) fn extend(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let Some(column) = columns.first() else {
            return Ok(());
        };
        let empty = self.names.number("");
        let start = self.of_rows.len();
        self.of_rows.resize(start + column.len(), NONE);
        let mut numbers = Vec::new();
        for column in columns {
            let Some(texts) = column.as_string_view_opt() else {
                return exec_err!("names of peers are {}", column.data_type());
            };
            numbers.clear();
            self.names.extend(texts, &mut numbers);
            for (row, number) in self.of_rows[start..].iter_mut().zip(&numbers) {
                if *row == NONE && *number != empty {
                    *row = *number;
                }
            }
        }
        Ok(())
    }

    /// Numbers the names, once all services are known.
    pub(super) fn finish(&mut self, services: &Numbering) {
        let numbers = self.names.texts().zip(0..);
        let numbers = numbers.map(|(name, n)| services.find(name).unwrap_or(FIRST_PEER | n));
        self.numbers = numbers.collect();
    }

    /// The number of the peer of a span; [`NONE`] where it names none.
    pub(super) fn number(&self, row: usize) -> u32 {
        let name = self.of_rows.get(row).copied().unwrap_or(NONE);
        self.numbers.get(name as usize).copied().unwrap_or(NONE)
    }

    /// The names of numbers as a column.
    pub(super) fn column(&self, numbers: &[u32], services: &Numbering) -> ArrayRef {
        let mut texts = StringViewBuilder::with_capacity(numbers.len()).with_deduplicate_strings();
        for number in numbers {
            let text = match number.checked_sub(FIRST_PEER) {
                Some(peer) => self.names.text(peer),
                None => services.text(*number),
            };
            texts.append_value(text.unwrap_or_default());
        }
        Arc::new(texts.finish())
    }

    /// The bytes that the spans take.
    pub(super) fn size(&self) -> usize {
        self.of_rows.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::*;

    #[test]
    fn the_first_name_that_is_not_empty_counts_and_services_keep_their_numbers() {
        let mut services = Numbering::default();
        let cart = services.number("cart");
        let mut peers = Peers::default();
        let column = |texts: [Option<&str>; 4]| -> ArrayRef {
            Arc::new(StringViewArray::from(texts.to_vec()))
        };
        let first = column([Some("cart"), Some(""), Some(""), None]);
        let second = column([Some("redis"), Some(""), Some("redis"), Some("redis")]);
        peers.extend(&[first, second]).unwrap();
        peers.finish(&services);
        let redis = peers.number(2);
        let found: Vec<u32> = (0..5).map(|row| peers.number(row)).collect();
        assert_eq!(found, [cart, NONE, redis, redis, NONE]);
        let names = peers.column(&[redis, cart], &services);
        let names = names.as_string_view();
        assert_eq!((names.value(0), names.value(1)), ("redis", "cart"));
    }
}
