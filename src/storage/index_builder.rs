//! Gathers the terms of a row group's rows and encodes them.
//!
//! Read [`IndexBuilder`]. What it holds grows with the rows of a row group; its caller ends the
//! row group where that becomes too much.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Int8Array, RecordBatch, StringViewArray, StructArray};
use arrow::datatypes::Int8Type;

use super::index_bytes::pack;
use super::index_directory::{Directory, KeyEntry, SectionPlace};
use super::index_rows::{GatheredRows, SpanOperation};
use super::index_terms::{GatheredTerms, TermForm, term};
use super::sort::numbers;
use crate::error::{Error, Result};
use crate::span::{SpanKind, StatusCode, ValueType, column, members, render_value, unquote};

/// Keys of a row group that are indexed; of more than these, any row may have them.
const MAX_KEYS: usize = 4096;
/// Bytes of a key as JSON, above which it is not indexed.
pub(super) const MAX_KEY_BYTES: usize = 1024;
/// Bytes of a value as JSON, above which only the rows that have such a value are kept.
const MAX_VALUE_BYTES: usize = 1024;
/// What a distinct value costs in memory beside its bytes.
const TERM_BYTES: usize = 160;

/// Whose attribute a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum AttributeScope {
    /// The resource's.
    Resource = 0,
    /// The instrumentation scope's.
    Scope = 1,
    /// The span's own.
    Span = 2,
    /// An event's.
    Event = 3,
    /// A link's.
    Link = 4,
    /// No attribute: the name of an event, with an empty key.
    EventName = 5,
}

impl AttributeScope {
    /// All scopes, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Resource,
        Self::Scope,
        Self::Span,
        Self::Event,
        Self::Link,
        Self::EventName,
    ];

    /// The name as SQL shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::Event => "event",
            Self::Link => "link",
            Self::EventName => "event name",
        }
    }
}

/// Gathers rows, and makes the index of them.
#[derive(Debug)]
pub(super) struct IndexBuilder {
    hour_nano: i64,
    rows: GatheredRows,
    keys: Vec<GatheredKey>,
    numbers: [HashMap<Box<str>, u32>; AttributeScope::ALL.len()],
    origins: [Origins; 2],
    is_incomplete: bool,
    bytes: usize,
}

#[derive(Debug)]
struct GatheredKey {
    scope: AttributeScope,
    key: String,
    values: HashMap<Box<str>, u32>,
    long: Option<u32>,
    terms: GatheredTerms,
    /// The number of the key that followed this one last: it mostly does so again.
    next: u32,
}

/// Attributes that many rows share, by their JSON.
#[derive(Debug, Default)]
struct Origins {
    numbers: HashMap<Box<str>, u32>,
    /// The key and the value of each attribute of each.
    attributes: Vec<Vec<(u32, u32)>>,
    of_row: Vec<u32>,
}

impl IndexBuilder {
    /// An index of rows that start in the hour that starts at `hour_nano`.
    pub(super) fn new(hour_nano: i64) -> Self {
        Self {
            hour_nano,
            rows: GatheredRows::new(hour_nano),
            keys: Vec::new(),
            numbers: Default::default(),
            origins: Default::default(),
            is_incomplete: false,
            bytes: 0,
        }
    }

    /// The memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.rows.byte_count()
    }

    /// Adds rows of the storage schema, in the order of the file.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let first = u32::try_from(self.rows.row_count()).unwrap_or(u32::MAX);
        self.add_rows(batch)?;
        let resource = texts(batch, column::RESOURCE_ATTRIBUTES)?;
        self.add_origins(AttributeScope::Resource, resource);
        let scope = texts(batch, column::SCOPE_ATTRIBUTES)?;
        self.add_origins(AttributeScope::Scope, scope);
        let attributes = texts(batch, column::ATTRIBUTES)?;
        for (row, object) in (first..).zip(attributes.iter()) {
            if let Some(object) = object {
                self.add_object(AttributeScope::Span, object, row);
            }
        }
        self.add_lists(batch, column::EVENTS, AttributeScope::Event, first)?;
        self.add_lists(batch, column::LINKS, AttributeScope::Link, first)
    }

    fn add_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let services = texts(batch, column::SERVICE_NAME)?;
        let names = texts(batch, column::NAME)?;
        let (kinds, codes) = (
            small(batch, column::KIND)?,
            small(batch, column::STATUS_CODE)?,
        );
        let starts = numbers(batch, column::START_TIME_UNIX_NANO)?;
        // The view of a text is the same where the text is the same place in memory.
        let mut known = HashMap::new();
        for row in 0..batch.num_rows() {
            let service = services.is_valid(row).then(|| services.views()[row]);
            let (kind, code) = (kinds.value(row), codes.value(row));
            let number = known.entry((service, names.views()[row], kind, code));
            let number = *number.or_insert_with(|| {
                self.rows.number(SpanOperation {
                    service_name: service.map(|_| services.value(row).to_string()),
                    name: names.value(row).to_string(),
                    kind: SpanKind::from_number(kind.into()),
                    status_code: StatusCode::from_number(code.into()),
                })
            });
            self.rows.push(number, starts.value(row));
        }
        Ok(())
    }

    fn add_origins(&mut self, scope: AttributeScope, objects: &StringViewArray) {
        let mut last: Option<(u128, u32)> = None;
        self.bytes += 4 * objects.len();
        for row in 0..objects.len() {
            if objects.is_null(row) {
                self.origins[scope as usize].of_row.push(u32::MAX);
                continue;
            }
            let view = objects.views()[row];
            let number = match last {
                Some((last, number)) if last == view => number,
                _ => self.origin(scope, objects.value(row)),
            };
            last = Some((view, number));
            self.origins[scope as usize].of_row.push(number);
        }
    }

    fn origin(&mut self, scope: AttributeScope, object: &str) -> u32 {
        if let Some(number) = self.origins[scope as usize].numbers.get(object) {
            return *number;
        }
        let mut attributes = Vec::new();
        for (key, value) in members(object) {
            if let Some(key) = self.key(scope, key, None) {
                let value = self.value(key, value);
                attributes.push((key, value));
            }
        }
        self.bytes += 2 * object.len() + 8 * attributes.len() + TERM_BYTES;
        let origins = &mut self.origins[scope as usize];
        let number = origins.attributes.len() as u32;
        origins.numbers.insert(object.into(), number);
        origins.attributes.push(attributes);
        number
    }

    fn add_object(&mut self, scope: AttributeScope, object: &str, row: u32) {
        let mut last = None;
        for (key, value) in members(object) {
            let Some(key) = self.key(scope, key, last) else {
                continue;
            };
            last = Some(key);
            self.post(key, value, row);
        }
    }

    fn post(&mut self, key: u32, value: &str, row: u32) {
        let value = self.value(key, value);
        self.keys[key as usize].terms.postings.push((value, row));
        self.bytes += 8;
    }

    fn add_lists(
        &mut self,
        batch: &RecordBatch,
        name: &str,
        scope: AttributeScope,
        first: u32,
    ) -> Result<()> {
        let wrong = || Error::internal("a file does not have the columns of spans");
        let lists = batch.column_by_name(name).ok_or_else(wrong)?;
        let lists = lists.as_list_opt::<i32>().ok_or_else(wrong)?;
        let items: &StructArray = lists.values().as_struct_opt().ok_or_else(wrong)?;
        let objects = items.column_by_name("attributes").ok_or_else(wrong)?;
        let objects = objects.as_string_view_opt().ok_or_else(wrong)?;
        let names = match scope {
            AttributeScope::Event => items.column_by_name("name"),
            _ => None,
        };
        let names = names.and_then(|names| names.as_string_view_opt());
        let mut json = String::new();
        for (row, list) in lists.offsets().windows(2).enumerate() {
            if lists.is_null(row) {
                continue;
            }
            for item in list[0] as usize..list[1] as usize {
                let row = first + row as u32;
                if let Some(names) = names
                    && let Some(key) = self.key(AttributeScope::EventName, "\"\"", None)
                {
                    json.clear();
                    crate::span::write_json_string(names.value(item), &mut json);
                    self.post(key, &json, row);
                }
                if objects.is_valid(item) {
                    self.add_object(scope, objects.value(item), row);
                }
            }
        }
        Ok(())
    }

    /// The number of a key, which is quoted as in JSON; `None` where it is not indexed.
    fn key(&mut self, scope: AttributeScope, raw: &str, last: Option<u32>) -> Option<u32> {
        let guess = last.and_then(|last| {
            let next = self.keys[last as usize].next;
            let key = self.keys.get(next as usize)?;
            // Keys that need escapes are rare, and found below.
            let inner = raw.get(1..raw.len().saturating_sub(1))?;
            (key.scope == scope && key.key == inner && !inner.contains('\\')).then_some(next)
        });
        if guess.is_some() {
            return guess;
        }
        let number = match self.numbers[scope as usize].get(raw) {
            Some(number) => *number,
            None => self.new_key(scope, raw)?,
        };
        if let Some(last) = last {
            self.keys[last as usize].next = number;
        }
        Some(number)
    }

    fn new_key(&mut self, scope: AttributeScope, raw: &str) -> Option<u32> {
        if raw.len() > MAX_KEY_BYTES {
            return None;
        }
        if self.keys.len() >= MAX_KEYS {
            self.is_incomplete = true;
            return None;
        }
        let number = self.keys.len() as u32;
        self.keys.push(GatheredKey {
            scope,
            key: unquote(raw).into_owned(),
            values: HashMap::new(),
            long: None,
            terms: GatheredTerms::default(),
            next: u32::MAX,
        });
        self.numbers[scope as usize].insert(raw.into(), number);
        self.bytes += 2 * raw.len() + TERM_BYTES;
        Some(number)
    }

    /// The number of a value of a key.
    fn value(&mut self, key: u32, raw: &str) -> u32 {
        let key = &mut self.keys[key as usize];
        if let Some(number) = key.values.get(raw) {
            return *number;
        }
        let number = key.terms.terms.len() as u32;
        if raw.len() > MAX_VALUE_BYTES {
            return *key.long.get_or_insert_with(|| {
                key.terms.terms.push(None);
                number
            });
        }
        let text = render_value(raw).unwrap_or_default();
        key.terms
            .terms
            .push(Some(term(&text, ValueType::of_json(raw))));
        key.values.insert(raw.into(), number);
        self.bytes += 2 * raw.len() + TERM_BYTES;
        number
    }

    /// The index of the rows added, of at most `max_bytes` where that can be held, and the
    /// directory at its end with its length; the builder is empty after.
    pub(super) fn finish(&mut self, max_bytes: usize) -> (Vec<u8>, usize) {
        let full = std::mem::replace(self, Self::new(self.hour_nano));
        full.encode(max_bytes)
    }

    fn encode(mut self, max_bytes: usize) -> (Vec<u8>, usize) {
        let row_count = self.rows.row_count() as u32;
        let operations = self.rows.encode_operations().map(|bytes| pack(&bytes));
        let rows = operations.is_some().then(|| pack(&self.rows.encode_rows()));
        let mut sections = Vec::with_capacity(self.keys.len());
        for number in 0..self.keys.len() {
            self.fill_origins(number);
            let key = &self.keys[number];
            let entry = KeyEntry {
                scope: key.scope,
                key: key.key.clone(),
                form: TermForm::Values,
                type_counts: key.terms.type_counts(),
                value_count: key.terms.terms.len() as u64,
                has_long_values: key.long.is_some(),
                section: SectionPlace::default(),
            };
            sections.push((entry, pack(&key.terms.encode(TermForm::Values, row_count))));
            self.empty_origins(number);
        }
        let fixed = operations.as_ref().map_or(0, Vec::len) + rows.as_ref().map_or(0, Vec::len);
        self.shrink(&mut sections, max_bytes.saturating_sub(fixed), row_count);
        let is_incomplete = self.is_incomplete;
        drop(self);
        Directory::write(row_count, is_incomplete, operations, rows, sections)
    }

    /// Keeps the largest keys in less detail until all together fit.
    fn shrink(&mut self, sections: &mut [(KeyEntry, Vec<u8>)], max_bytes: usize, row_count: u32) {
        let mut total: usize = sections.iter().map(|(_, section)| section.len()).sum();
        while total > max_bytes {
            let shrinkable = sections.iter().enumerate();
            let shrinkable = shrinkable.filter(|(_, (e, _))| e.form != TermForm::Presence);
            let Some((number, _)) = shrinkable.max_by_key(|(_, (_, section))| section.len()) else {
                return;
            };
            self.fill_origins(number);
            let (entry, section) = &mut sections[number];
            entry.form = match entry.form {
                TermForm::Values => TermForm::Hashes,
                _ => TermForm::Presence,
            };
            total -= section.len();
            *section = pack(&self.keys[number].terms.encode(entry.form, row_count));
            total += section.len();
            self.empty_origins(number);
        }
    }

    /// Makes the postings of a key that comes with origins.
    fn fill_origins(&mut self, number: usize) {
        let key = &mut self.keys[number];
        let Some(origins) = self.origins.get(key.scope as usize) else {
            return;
        };
        let value_of = |attributes: &Vec<(u32, u32)>| {
            let found = attributes.iter().find(|(key, _)| *key as usize == number);
            found.map(|(_, value)| *value)
        };
        let values: Vec<Option<u32>> = origins.attributes.iter().map(value_of).collect();
        for (row, origin) in (0..).zip(&origins.of_row) {
            if let Some(Some(value)) = values.get(*origin as usize) {
                key.terms.postings.push((*value, row));
            }
        }
    }

    fn empty_origins(&mut self, number: usize) {
        let key = &mut self.keys[number];
        if (key.scope as usize) < self.origins.len() {
            key.terms.postings = Vec::new();
        }
    }
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringViewArray> {
    let column = batch.column_by_name(name);
    let texts = column.and_then(|column| column.as_string_view_opt());
    texts.ok_or_else(|| Error::internal("a file does not have the columns of spans"))
}

fn small<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int8Array> {
    let column = batch.column_by_name(name);
    let numbers = column.and_then(|column| column.as_primitive_opt::<Int8Type>());
    numbers.ok_or_else(|| Error::internal("a file does not have the columns of spans"))
}
