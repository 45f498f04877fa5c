//! Small numbers for texts that repeat: services and span names.
//!
//! Read [`Numbering`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringViewArray, StringViewBuilder};

use crate::trace::NONE;

/// How many views of one array are remembered at the same time.
const REMEMBERED: usize = 512;

/// Texts in the order in which they came, each once. NULL has the number [`NONE`].
#[derive(Debug)]
pub(super) struct Numbering {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// Views of the array at hand with their numbers: an array read from a dictionary has one
    /// view for all rows of a text, so that few texts are looked at.
    remembered: Vec<(u128, u32)>,
}

impl Default for Numbering {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            texts: Vec::new(),
            remembered: vec![(0, NONE); REMEMBERED],
        }
    }
}

impl Numbering {
    /// Appends the number of each text of `array`.
    pub(super) fn extend(&mut self, array: &StringViewArray, numbers: &mut Vec<u32>) {
        // A view means something in its own array only.
        self.remembered.fill((0, NONE));
        numbers.reserve(array.len());
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, view) in array.views().iter().enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                numbers.push(NONE);
                continue;
            }
            let slot = slot(*view);
            let (known, number) = self.remembered[slot];
            // NONE marks a free place: texts have other numbers.
            if known == *view && number != NONE {
                numbers.push(number);
                continue;
            }
            let number = self.number(array.value(row));
            self.remembered[slot] = (*view, number);
            numbers.push(number);
        }
    }

    /// The number of a text that came already.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The number of a text.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        let number = u32::try_from(self.texts.len()).unwrap_or(NONE);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    /// The text of a number; `None` for NULL.
    pub(super) fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(number as usize).map(AsRef::as_ref)
    }

    /// All texts, in the order of their numbers.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(AsRef::as_ref)
    }

    /// The texts of numbers as a column.
    pub(super) fn column(&self, numbers: &[u32]) -> ArrayRef {
        let mut builder =
            StringViewBuilder::with_capacity(numbers.len()).with_deduplicate_strings();
        for number in numbers {
            builder.append_option(self.text(*number));
        }
        Arc::new(builder.finish())
    }
}

/// A place for a view: length and prefix, buffer and offset all count.
fn slot(view: u128) -> usize {
    let folded = (view as u64) ^ ((view >> 64) as u64).rotate_left(23);
    let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as usize % REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_number_in_all_arrays_and_null_has_none() {
        let long = "a service whose name is long";
        let mut numbering = Numbering::default();
        let mut numbers = Vec::new();
        for array in [
            StringViewArray::from(vec![Some("a"), None, Some(long), Some("")]),
            StringViewArray::from(vec![Some(long), Some("b"), Some("a")]),
        ] {
            numbering.extend(&array, &mut numbers);
        }
        assert_eq!(numbers, [0, NONE, 1, 2, 1, 3, 0]);
        assert_eq!(numbering.text(1), Some(long));
        assert_eq!(numbering.text(NONE), None);
        let column = numbering.column(&[2, NONE]);
        assert_eq!((column.len(), column.null_count()), (2, 1));
    }
}
