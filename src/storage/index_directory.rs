//! What the index of a row group holds, and where.
//!
//! Read [`Directory`]. An index is its sections one after another, then the directory, which is
//! read first; then only the sections that a query asks for. The footer of the file says where
//! the indexes of its row groups lie:
//!
//! ```text
//! 1;4096:52133:4711:9f86d081884c7d65;-     version; offset:length:length of the directory:
//!                                          checksum of the directory; none for the second
//! ```

use super::index_builder::{AttributeScope, MAX_KEY_BYTES};
use super::index_bytes::{Cursor, checksum, pack, put_bytes, put_varint, unpack};
use super::index_terms::TermForm;
use crate::span::ValueType;

/// The footer key of the place of the index.
pub(super) const INDEX_KEY: &str = "tracelake.index";
/// The version of the index. A file with another is read without it.
const VERSION: &str = "1";

/// Where the index of a row group lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexPlace {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) directory_length: u64,
    pub(super) directory_checksum: u64,
}

impl IndexPlace {
    pub(super) fn of(offset: u64, index: &[u8], directory_length: usize) -> Self {
        let directory = &index[index.len() - directory_length..];
        Self {
            offset,
            length: index.len() as u64,
            directory_length: directory_length as u64,
            directory_checksum: checksum(directory),
        }
    }
}

/// The footer's text for the indexes of all row groups.
pub(super) fn places_text(places: &[IndexPlace]) -> String {
    let mut text = VERSION.to_string();
    for place in places {
        text += &format!(
            ";{}:{}:{}:{:016x}",
            place.offset, place.length, place.directory_length, place.directory_checksum
        );
    }
    text
}

/// Where the footer's text says the indexes of `count` row groups lie in a file of `size`
/// bytes; none where it is not understood.
pub(super) fn parse_places(text: &str, count: usize, size: u64) -> Vec<Option<IndexPlace>> {
    let mut parts = text.split(';');
    if parts.next() != Some(VERSION) {
        return vec![None; count];
    }
    let mut places: Vec<_> = parts
        .take(count)
        .map(|part| parse_place(part, size))
        .collect();
    places.resize(count, None);
    places
}

fn parse_place(text: &str, size: u64) -> Option<IndexPlace> {
    let mut parts = text.split(':');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let place = IndexPlace {
        offset: number()?,
        length: number()?,
        directory_length: number()?,
        directory_checksum: u64::from_str_radix(parts.next()?, 16).ok()?,
    };
    let within =
        place.offset.checked_add(place.length)? <= size && place.directory_length <= place.length;
    within.then_some(place)
}

/// Where a section lies in the index of its row group; empty where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SectionPlace {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) checksum: u64,
}

/// A key of attributes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeyEntry {
    pub(super) scope: AttributeScope,
    pub(super) key: String,
    pub(super) form: TermForm,
    /// For each type, the rows that have a value of it.
    pub(super) type_counts: [u64; ValueType::ALL.len()],
    /// Distinct values.
    pub(super) value_count: u64,
    /// Whether some values are too long to be kept.
    pub(super) has_long_values: bool,
    pub(super) section: SectionPlace,
}

/// The contents of an index.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) row_count: u32,
    /// Whether there are keys that are not in it.
    pub(super) is_incomplete: bool,
    pub(super) operations: SectionPlace,
    pub(super) rows: SectionPlace,
    /// Sorted by scope and key.
    pub(super) keys: Vec<KeyEntry>,
}

impl Directory {
    /// An index of these sections, and the length of the directory at its end.
    pub(super) fn write(
        row_count: u32,
        is_incomplete: bool,
        operations: Option<Vec<u8>>,
        rows: Option<Vec<u8>>,
        mut keys: Vec<(KeyEntry, Vec<u8>)>,
    ) -> (Vec<u8>, usize) {
        keys.sort_by(|(a, _), (b, _)| (a.scope, &a.key).cmp(&(b.scope, &b.key)));
        let mut index = Vec::new();
        let mut add = |section: &[u8]| {
            let place = SectionPlace {
                offset: index.len() as u64,
                length: section.len() as u64,
                checksum: checksum(section),
            };
            index.extend_from_slice(section);
            place
        };
        let operations = add(operations.as_deref().unwrap_or_default());
        let rows = add(rows.as_deref().unwrap_or_default());
        let mut out = Vec::new();
        put_varint(&mut out, row_count.into());
        out.push(u8::from(is_incomplete));
        put_section(&mut out, operations);
        put_section(&mut out, rows);
        put_varint(&mut out, keys.len() as u64);
        for (entry, section) in &keys {
            let place = add(section);
            out.push(entry.scope as u8);
            put_bytes(&mut out, entry.key.as_bytes());
            out.push(entry.form as u8);
            out.push(u8::from(entry.has_long_values));
            entry
                .type_counts
                .iter()
                .for_each(|count| put_varint(&mut out, *count));
            put_varint(&mut out, entry.value_count);
            put_section(&mut out, place);
        }
        let directory = pack(&out);
        index.extend_from_slice(&directory);
        (index, directory.len())
    }

    /// What [`Self::write`] put at the end of an index of `index_length` bytes.
    pub(super) fn read(packed: &[u8], index_length: u64) -> Option<Self> {
        let bytes = unpack(packed)?;
        let mut cursor = Cursor::new(&bytes, 0);
        let row_count = cursor.small()?;
        let is_incomplete = cursor.byte()? != 0;
        let section = |cursor: &mut Cursor<'_>| take_section(cursor, index_length);
        let operations = section(&mut cursor)?;
        let rows = section(&mut cursor)?;
        let key_count = cursor.count()?;
        let mut keys: Vec<KeyEntry> = Vec::new();
        for _ in 0..key_count {
            let scope = *AttributeScope::ALL.get(usize::from(cursor.byte()?))?;
            let key = cursor.text()?.to_string();
            let form = match cursor.byte()? {
                0 => TermForm::Values,
                1 => TermForm::Hashes,
                2 => TermForm::Presence,
                _ => return None,
            };
            let has_long_values = cursor.byte()? != 0;
            let mut type_counts = [0; ValueType::ALL.len()];
            for count in &mut type_counts {
                *count = cursor.varint()?;
            }
            let value_count = cursor.varint()?;
            let section = section(&mut cursor)?;
            let in_order = keys
                .last()
                .is_none_or(|last| (last.scope, &last.key) < (scope, &key));
            in_order.then(|| {
                keys.push(KeyEntry {
                    scope,
                    key,
                    form,
                    type_counts,
                    value_count,
                    has_long_values,
                    section,
                });
            })?;
        }
        cursor.is_at_end().then_some(Self {
            row_count,
            is_incomplete,
            operations,
            rows,
            keys,
        })
    }

    /// The place of a key in the directory.
    pub(super) fn find(&self, scope: AttributeScope, key: &str) -> Option<usize> {
        let place = self
            .keys
            .binary_search_by(|e| (e.scope, e.key.as_str()).cmp(&(scope, key)));
        place.ok()
    }

    /// Whether a key that is not in the directory is in no row.
    pub(super) fn knows_absent(&self, key: &str) -> bool {
        // An escape makes six bytes of one.
        !self.is_incomplete && key.len() * 6 + 2 <= MAX_KEY_BYTES
    }

    pub(super) fn byte_count(&self) -> usize {
        self.keys.iter().map(|entry| 160 + entry.key.len()).sum()
    }
}

fn put_section(out: &mut Vec<u8>, place: SectionPlace) {
    put_varint(out, place.offset);
    put_varint(out, place.length);
    out.extend_from_slice(&place.checksum.to_le_bytes());
}

fn take_section(cursor: &mut Cursor<'_>, index_length: u64) -> Option<SectionPlace> {
    let place = SectionPlace {
        offset: cursor.varint()?,
        length: cursor.varint()?,
        checksum: u64::from_le_bytes(cursor.take(8)?.try_into().ok()?),
    };
    (place.offset.checked_add(place.length)? <= index_length).then_some(place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_read_back_and_odd_ones_are_none() {
        let place = IndexPlace {
            offset: 4096,
            length: 100,
            directory_length: 10,
            directory_checksum: 77,
        };
        let text = places_text(&[place, place]);
        assert_eq!(parse_places(&text, 2, 5000), [Some(place), Some(place)]);
        assert_eq!(parse_places(&text, 3, 5000)[2], None);
        assert_eq!(parse_places(&text, 1, 4100), [None]);
        for odd in [
            "",
            "2;1:2:1:0",
            "1;x",
            "1;1:2:3:0",
            "1;18446744073709551615:1:1:0",
        ] {
            assert_eq!(parse_places(odd, 1, 5000), [None], "{odd}");
        }
    }

    proptest! {
        #[test]
        fn damaged_directories_end_quietly(
            at in any::<prop::sample::Index>(), byte: u8, bytes in any::<Vec<u8>>(),
        ) {
            let entry = KeyEntry {
                scope: AttributeScope::Span,
                key: "k".into(),
                form: TermForm::Values,
                type_counts: [1; 8],
                value_count: 3,
                has_long_values: false,
                section: SectionPlace::default(),
            };
            let (index, length) = Directory::write(5, false, None, None, vec![(entry, vec![1])]);
            let mut directory = index[index.len() - length..].to_vec();
            prop_assert!(Directory::read(&directory, index.len() as u64).is_some());
            let at = at.index(directory.len());
            directory[at] = byte;
            let _ = Directory::read(&directory, index.len() as u64);
            let _ = Directory::read(&bytes, 100);
        }
    }
}
