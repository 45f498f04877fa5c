//! The keys of JSON objects, found quickly where objects that follow one another are alike.
//!
//! Read [`KeyTable`].

use std::collections::HashMap;

use crate::span::{MemberReader, write_json_string};

/// No key.
const NONE: usize = usize::MAX;

/// Keys by number, and after each key those that came next the last two times: most keys of an
/// object are found by one comparison.
#[derive(Debug, Clone)]
pub(super) struct KeyTable {
    keys: Vec<Key>,
    numbers: HashMap<Box<str>, usize>,
    first: [usize; 2],
}

#[derive(Debug, Clone)]
struct Key {
    /// As it stands in an object: quoted, with its colon.
    text: Box<str>,
    next: [usize; 2],
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// The number of its key, if the table has it.
    pub(super) key: Option<usize>,
    /// Its key where the table does not have it: quoted, with its colon.
    pub(super) key_text: &'a str,
    /// Its raw value.
    pub(super) value: &'a str,
}

impl KeyTable {
    pub(super) fn new() -> Self {
        Self {
            keys: Vec::new(),
            numbers: HashMap::new(),
            first: [NONE; 2],
        }
    }

    /// Adds a key as it stands in an object, quoted and with its colon; its number.
    pub(super) fn insert(&mut self, text: &str) -> usize {
        let number = self.keys.len();
        self.keys.push(Key {
            text: text.into(),
            next: [NONE; 2],
        });
        self.numbers.insert(text.into(), number);
        number
    }

    /// Adds a key; its number.
    pub(super) fn insert_key(&mut self, key: &str) -> usize {
        self.insert(&key_text(key))
    }

    /// The number of a key.
    pub(super) fn number(&self, key: &str) -> Option<usize> {
        self.numbers.get(key_text(key).as_str()).copied()
    }

    /// A key as it stands in an object: quoted, with its colon.
    pub(super) fn text(&self, number: usize) -> &str {
        &self.keys[number].text
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The next member of the object of `reader`, whose member before had the key `before`.
    pub(super) fn next<'a>(
        &mut self,
        reader: &mut MemberReader<'a>,
        before: Option<usize>,
    ) -> Option<Member<'a>> {
        let expected = match before {
            Some(before) => self.keys[before].next,
            None => self.first,
        };
        for number in expected {
            if let Some(key) = self.keys.get(number)
                && let Some(value) = reader.value_of(&key.text)
            {
                return Some(Member {
                    key: Some(number),
                    key_text: "",
                    value,
                });
            }
        }
        let (key_text, value) = reader.member()?;
        let key = self.numbers.get(key_text).copied();
        if let Some(number) = key {
            self.expect(before, number);
        }
        Some(Member {
            key,
            key_text,
            value,
        })
    }

    /// Remembers that `number` came after `before`.
    pub(super) fn expect(&mut self, before: Option<usize>, number: usize) {
        let expected = match before {
            Some(before) => &mut self.keys[before].next,
            None => &mut self.first,
        };
        *expected = [number, expected[0]];
    }
}

fn key_text(key: &str) -> String {
    let mut text = String::with_capacity(key.len() + 3);
    write_json_string(key, &mut text);
    text.push(':');
    text
}
