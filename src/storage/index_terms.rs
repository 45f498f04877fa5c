//! The values of one attribute in a row group, sorted, with the rows that have each.
//!
//! Read [`Terms`]. A term is a value's text and its type. Terms are front-coded: each says how
//! many bytes it shares with the one before, and every sixteenth starts anew, so that one is
//! found by bisection and all are read in one pass. The same pass checks a list that is read
//! from a file, after which nothing in it can lead out of bounds.

use std::sync::OnceLock;

use arrow::array::{StringViewArray, StringViewBuilder};
use roaring::RoaringBitmap;

use super::index_bytes::{Cursor, checksum, put_varint};
use super::index_posting::{
    Detail, Posting, add_posting, posting_count, put_posting, row_list_bytes, skip_posting,
};
use crate::span::ValueType;

/// Terms from one that stands whole to the next.
const RESTART: usize = 16;

/// How the values of a key are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TermForm {
    /// As they are.
    Values,
    /// As hashes of 32 bits, to find them and not to list them.
    Hashes,
    /// Not at all: only the rows that have the key.
    Presence,
}

/// The values of a key and their rows, while they are gathered.
#[derive(Debug, Default)]
pub(super) struct GatheredTerms {
    /// Terms, in any order; `None` stands for all values that are too long to be kept.
    pub(super) terms: Vec<Option<Vec<u8>>>,
    /// Which term occurs in which row: rows in order, a pair possibly more than once.
    pub(super) postings: Vec<(u32, u32)>,
}

/// The term of a value: its text, then its type.
pub(super) fn term(text: &str, value_type: ValueType) -> Vec<u8> {
    let mut term = Vec::with_capacity(text.len() + 1);
    term.extend_from_slice(text.as_bytes());
    term.push(value_type as u8);
    term
}

fn hashed(text: &[u8]) -> [u8; 4] {
    ((checksum(text) >> 32) as u32).to_be_bytes()
}

/// Terms, each with its place in the lists of rows after them.
type GroupedTerms = (Vec<(Vec<u8>, usize)>, Vec<Vec<u32>>);

impl GatheredTerms {
    /// The rows that have the key.
    pub(super) fn presence(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.postings.iter().map(|(_, row)| *row).collect();
        rows.dedup();
        rows
    }

    /// For each type of value, the rows that have one.
    pub(super) fn type_counts(&self) -> [u64; ValueType::ALL.len()] {
        let mut counts = [0; ValueType::ALL.len()];
        let mut last = [u32::MAX; ValueType::ALL.len()];
        for (term, row) in &self.postings {
            let byte = self.terms[*term as usize]
                .as_ref()
                .and_then(|term| term.last());
            let value_type = byte.map_or(ValueType::String as usize, |byte| *byte as usize);
            if last[value_type] != *row {
                last[value_type] = *row;
                counts[value_type] += 1;
            }
        }
        counts
    }

    /// The section of a key in this form.
    pub(super) fn encode(&self, form: TermForm, row_count: u32) -> Vec<u8> {
        let (order, rows_of) = self.grouped(form);
        let presence = self.presence();
        let list_bytes: usize = rows_of.iter().map(|rows| row_list_bytes(rows)).sum();
        // Rare values that are scattered over most pages: their pages say as much.
        let detail = if form == TermForm::Hashes || list_bytes > row_count as usize * 3 / 10 {
            Detail::Pages
        } else {
            Detail::Rows
        };
        let mut out = Vec::new();
        put_varint(&mut out, order.len() as u64);
        let mut last: &[u8] = &[];
        for (index, (term, _)) in order.iter().enumerate() {
            let shared = if index % RESTART == 0 {
                0
            } else {
                last.iter().zip(term).take_while(|(a, b)| a == b).count()
            };
            put_varint(&mut out, shared as u64);
            put_varint(&mut out, (term.len() - shared) as u64);
            out.extend_from_slice(&term[shared..]);
            last = term;
        }
        put_posting(&mut out, &presence, row_count, Detail::Rows);
        let long = self.rows_of_long_values();
        put_posting(&mut out, &long, row_count, Detail::Rows);
        for (_, index) in &order {
            put_posting(&mut out, &rows_of[*index], row_count, detail);
        }
        out
    }

    /// The terms in this form, sorted, each with its place in the rows beside them.
    fn grouped(&self, form: TermForm) -> GroupedTerms {
        if form == TermForm::Presence {
            return (Vec::new(), Vec::new());
        }
        let formed = self.terms.iter().enumerate().filter_map(|(index, term)| {
            let term = term.as_ref()?;
            Some(match form {
                TermForm::Hashes => (hashed(&term[..term.len() - 1]).to_vec(), index),
                _ => (term.clone(), index),
            })
        });
        let mut order: Vec<(Vec<u8>, usize)> = formed.collect();
        order.sort_unstable();
        let mut place = vec![usize::MAX; self.terms.len()];
        let mut distinct: Vec<(Vec<u8>, usize)> = Vec::with_capacity(order.len());
        for (term, index) in order {
            if distinct.last().is_none_or(|(last, _)| *last != term) {
                distinct.push((term, distinct.len()));
            }
            place[index] = distinct.len() - 1;
        }
        let mut rows_of = vec![Vec::new(); distinct.len()];
        for (term, row) in &self.postings {
            if let Some(rows) = rows_of.get_mut(place[*term as usize])
                && rows.last() != Some(row)
            {
                rows.push(*row);
            }
        }
        (distinct, rows_of)
    }

    fn rows_of_long_values(&self) -> Vec<u32> {
        let is_long = |(term, _): &&(u32, u32)| self.terms[*term as usize].is_none();
        let mut rows: Vec<u32> = self.postings.iter().filter(is_long).map(|p| p.1).collect();
        rows.dedup();
        rows
    }
}

/// The values of one key in a row group, as read from a file.
#[derive(Debug)]
pub struct Terms {
    bytes: Vec<u8>,
    row_count: u32,
    form: TermForm,
    term_count: usize,
    /// Where every sixteenth term starts.
    term_starts: Vec<u32>,
    /// Where every sixteenth posting starts.
    posting_starts: Vec<u32>,
    /// How many rows have each term.
    counts: Vec<u32>,
    presence: u32,
    long: u32,
    texts: OnceLock<StringViewArray>,
}

impl Terms {
    /// Checks a section; `None` where it is damaged.
    pub(super) fn decode(bytes: Vec<u8>, form: TermForm, row_count: u32) -> Option<Self> {
        u32::try_from(bytes.len()).ok()?;
        let mut cursor = Cursor::new(&bytes, 0);
        let term_count = cursor.count()?;
        let mut term_starts = Vec::with_capacity(term_count / RESTART + 1);
        let mut last_length = 0;
        for index in 0..term_count {
            if index % RESTART == 0 {
                term_starts.push(cursor.position() as u32);
                last_length = 0;
            }
            let shared = cursor.varint()?;
            (shared <= last_length).then_some(())?;
            last_length = shared + cursor.bytes()?.len() as u64;
            (last_length > 0).then_some(())?;
        }
        let presence = cursor.position() as u32;
        skip_posting(&mut cursor, row_count)?;
        let long = cursor.position() as u32;
        skip_posting(&mut cursor, row_count)?;
        let mut posting_starts = Vec::with_capacity(term_count / RESTART + 1);
        let mut counts = Vec::with_capacity(term_count);
        for index in 0..term_count {
            if index % RESTART == 0 {
                posting_starts.push(cursor.position() as u32);
            }
            counts.push(u32::try_from(posting_count(cursor)?).ok()?);
            skip_posting(&mut cursor, row_count)?;
        }
        cursor.is_at_end().then_some(())?;
        Some(Self {
            term_count,
            row_count,
            form,
            term_starts,
            posting_starts,
            counts,
            presence,
            long,
            bytes,
            texts: OnceLock::new(),
        })
    }

    /// The number of distinct values, those too long to be kept left out.
    pub fn len(&self) -> usize {
        self.term_count
    }

    /// Whether no value is kept.
    pub fn is_empty(&self) -> bool {
        self.term_count == 0
    }

    /// Whether the values can be listed and judged one by one; else only looked for.
    pub fn has_values(&self) -> bool {
        self.form == TermForm::Values
    }

    /// Whether a value that is not among the terms cannot occur. Values too long to be kept are
    /// [`Self::add_long_values`]'.
    pub fn can_find(&self) -> bool {
        self.form != TermForm::Presence
    }

    /// The memory it takes, in bytes.
    pub(super) fn byte_count(&self) -> usize {
        // The texts are counted before they are made.
        2 * self.bytes.len() + 28 * self.term_count + 256
    }

    /// The text of each value in order, NULL for a key without a value; none where the terms are
    /// not values.
    pub fn texts(&self) -> &StringViewArray {
        self.texts.get_or_init(|| {
            let mut texts = StringViewBuilder::with_capacity(self.term_count);
            self.each_value(|_, text, value_type| {
                texts.append_option((value_type != ValueType::Null).then_some(text));
            });
            texts.finish()
        })
    }

    /// The places of a text in the order of terms: one for each type of value that has it.
    pub fn find(&self, text: &str) -> Vec<usize> {
        match self.form {
            TermForm::Values => {
                // A key without a value has no text.
                let types = ValueType::ALL.into_iter().filter(|t| *t != ValueType::Null);
                types
                    .filter_map(|value_type| self.place_of(&term(text, value_type)))
                    .collect()
            }
            TermForm::Hashes => {
                let place = self.place_of(&hashed(text.as_bytes()));
                place.into_iter().collect()
            }
            TermForm::Presence => Vec::new(),
        }
    }

    fn place_of(&self, wanted: &[u8]) -> Option<usize> {
        let mut place = None;
        self.each_from(wanted, |index, term| {
            place = (term == wanted).then_some(index);
            false
        });
        place
    }

    /// Calls `take` for each value in order, with its place, its text and its type. Of terms
    /// that are hashes there are none.
    pub fn each_value(&self, mut take: impl FnMut(usize, &str, ValueType)) {
        self.each_value_with_prefix("", &mut take);
    }

    /// Calls `take` for each value whose text starts with `prefix`, like [`Self::each_value`].
    pub fn each_value_with_prefix(
        &self,
        prefix: &str,
        mut take: impl FnMut(usize, &str, ValueType),
    ) {
        if self.form != TermForm::Values {
            return;
        }
        self.each_from(prefix.as_bytes(), |index, term| {
            if !term.starts_with(prefix.as_bytes()) {
                return false;
            }
            if let Some((value_type, text)) = term.split_last()
                && text.starts_with(prefix.as_bytes())
                && let Some(value_type) = ValueType::from_number(*value_type)
                && let Ok(text) = std::str::from_utf8(text)
            {
                take(index, text, value_type);
            }
            true
        });
    }

    /// How many rows have the value at this place.
    pub fn row_count_of(&self, index: usize) -> u64 {
        self.counts.get(index).copied().map_or(0, u64::from)
    }

    /// Adds the rows of the value at this place; whether they are exact.
    pub fn add_rows(&self, index: usize, rows: &mut RoaringBitmap) -> bool {
        self.add(self.posting(index), rows)
    }

    /// Adds the rows of the values at these places, which are in order; whether they are exact.
    pub fn add_rows_of(&self, places: &[usize], rows: &mut RoaringBitmap) -> bool {
        let mut exact = true;
        let mut next: Option<(usize, Cursor<'_>)> = None;
        for place in places {
            let from = next
                .take()
                .filter(|(at, _)| at / RESTART == place / RESTART);
            let posting = match from {
                Some((at, mut cursor)) => (at..*place)
                    .try_for_each(|_| skip_posting(&mut cursor, self.row_count))
                    .map(|()| cursor),
                None => self.posting(*place),
            };
            exact &= self.add(posting, rows);
            next = posting.and_then(|mut cursor| {
                skip_posting(&mut cursor, self.row_count)?;
                Some((place + 1, cursor))
            });
        }
        exact
    }

    /// Adds the rows with values too long to be kept. They may hold any text of some length.
    pub fn add_long_values(&self, rows: &mut RoaringBitmap) -> u64 {
        let mut cursor = Cursor::new(&self.bytes, self.long as usize);
        let count = posting_count(cursor).unwrap_or(u64::MAX);
        if count > 0 && add_posting(&mut cursor, self.row_count, rows).is_none() {
            rows.insert_range(0..self.row_count);
        }
        count
    }

    /// The rows that have the key.
    pub fn presence(&self) -> Posting {
        let mut rows = RoaringBitmap::new();
        let cursor = Cursor::new(&self.bytes, self.presence as usize);
        let exact = self.add(Some(cursor), &mut rows);
        let count = posting_count(cursor).unwrap_or_default();
        Posting { count, rows, exact }
    }

    fn add(&self, posting: Option<Cursor<'_>>, rows: &mut RoaringBitmap) -> bool {
        let added = posting.and_then(|mut cursor| add_posting(&mut cursor, self.row_count, rows));
        match added {
            Some((_, exact)) => exact,
            // Damaged: any row may have it.
            None => {
                rows.insert_range(0..self.row_count);
                false
            }
        }
    }

    fn posting(&self, index: usize) -> Option<Cursor<'_>> {
        let start = *self.posting_starts.get(index / RESTART)?;
        let mut cursor = Cursor::new(&self.bytes, start as usize);
        for _ in 0..index % RESTART {
            skip_posting(&mut cursor, self.row_count)?;
        }
        Some(cursor)
    }

    /// Calls `take` for each term from the first that is not less than `from`, until it says no.
    fn each_from(&self, from: &[u8], mut take: impl FnMut(usize, &[u8]) -> bool) {
        let whole = |start: &u32| {
            let mut cursor = Cursor::new(&self.bytes, *start as usize);
            cursor.varint();
            cursor.bytes().unwrap_or_default()
        };
        let group = self
            .term_starts
            .partition_point(|start| whole(start) < from);
        let group = group.saturating_sub(1);
        let Some(start) = self.term_starts.get(group) else {
            return;
        };
        let mut cursor = Cursor::new(&self.bytes, *start as usize);
        let mut term: Vec<u8> = Vec::new();
        for index in group * RESTART..self.term_count {
            let (Some(shared), Some(rest)) = (cursor.varint(), cursor.bytes()) else {
                return;
            };
            term.truncate(shared as usize);
            term.extend_from_slice(rest);
            if term.as_slice() >= from && !take(index, &term) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::Array;
    use proptest::prelude::*;

    use super::*;

    const ROWS: u32 = 5000;

    fn gathered(values: &[(u32, String)]) -> (GatheredTerms, BTreeMap<String, RoaringBitmap>) {
        let mut gathered = GatheredTerms::default();
        let mut expected: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for (row, text) in values {
            let value = term(text, ValueType::String);
            let known = gathered
                .terms
                .iter()
                .position(|t| t.as_ref() == Some(&value));
            let number = known.unwrap_or_else(|| {
                gathered.terms.push(Some(value));
                gathered.terms.len() - 1
            });
            gathered.postings.push((number as u32, *row));
            expected.entry(text.clone()).or_default().insert(*row);
        }
        gathered.postings.sort_by_key(|(_, row)| *row);
        (gathered, expected)
    }

    fn values() -> impl Strategy<Value = Vec<(u32, String)>> {
        proptest::collection::vec((0..ROWS, "[ab\\x00\\x01é]{0,4}"), 0..200)
    }

    proptest! {
        #[test]
        fn every_value_is_found_and_listed_with_its_rows(values in values()) {
            let (gathered, expected) = gathered(&values);
            let bytes = gathered.encode(TermForm::Values, ROWS);
            let terms = Terms::decode(bytes, TermForm::Values, ROWS).unwrap();
            let mut listed = Vec::new();
            terms.each_value(|place, text, _| listed.push((place, text.to_string())));
            prop_assert_eq!(listed.len(), expected.len());
            for (place, text) in &listed {
                prop_assert_eq!(terms.find(text), vec![*place]);
                let mut rows = RoaringBitmap::new();
                prop_assert!(terms.add_rows(*place, &mut rows));
                prop_assert_eq!(&rows, &expected[text]);
                prop_assert_eq!(terms.row_count_of(*place), rows.len());
            }
            for prefix in ["", "a", "ab", "é", "\0"] {
                let mut found = 0;
                terms.each_value_with_prefix(prefix, |_, _, _| found += 1);
                prop_assert_eq!(found, expected.keys().filter(|t| t.starts_with(prefix)).count());
            }
            prop_assert!(terms.find("absent").is_empty());
            let presence: RoaringBitmap = values.iter().map(|(row, _)| *row).collect();
            prop_assert_eq!(terms.presence().rows, presence);
        }

        #[test]
        fn hashes_find_at_least_the_rows(values in values()) {
            let (gathered, expected) = gathered(&values);
            let bytes = gathered.encode(TermForm::Hashes, ROWS);
            let terms = Terms::decode(bytes, TermForm::Hashes, ROWS).unwrap();
            for (text, expected) in expected {
                let mut rows = RoaringBitmap::new();
                for place in terms.find(&text) {
                    terms.add_rows(place, &mut rows);
                }
                prop_assert!(expected.is_subset(&rows));
            }
        }

        #[test]
        fn damaged_terms_end_quietly(
            values in values(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
        ) {
            let mut bytes = gathered(&values).0.encode(TermForm::Values, ROWS);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            if let Some(terms) = Terms::decode(bytes, TermForm::Values, ROWS) {
                let mut places = Vec::new();
                terms.each_value(|place, _, _| places.push(place));
                let mut rows = RoaringBitmap::new();
                terms.add_rows_of(&places, &mut rows);
                terms.find("ab");
                terms.presence();
                terms.add_long_values(&mut rows);
                prop_assert!(terms.texts().len() <= terms.len());
            }
        }
    }
}
