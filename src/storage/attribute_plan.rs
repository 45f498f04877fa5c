//! Which attributes of spans get columns of their own in a file. Pure.
//!
//! Read [`AttributeCounts`], which looks at all rows that are to be written, and
//! [`AttributeCounts::choose`]. How rows are taken apart is `attribute_columns.rs`.

use std::collections::HashMap;

use arrow::array::StringViewArray;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::attribute_keys::KeyTable;
use crate::config::StorageConfig;
use crate::span::{AttributeColumn, AttributeType, MemberReader, column, storage_schema, unquote};

/// Keys that are counted at the most. Of a file with more, those that come late stay in the
/// remainder.
const MAX_KEYS: usize = 1 << 16;
/// Rows of a sample that say in which order the columns stand.
const ORDER_ROWS: usize = 4096;
/// Sequences of keys that say so, most frequent first.
const ORDER_SHAPES: usize = 256;

/// The attributes that have columns, in the order in which they are put together again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AttributePlan {
    pub(super) keys: Vec<PlannedKey>,
}

/// An attribute that has columns, of all types that its values have in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedKey {
    pub(super) key: String,
    pub(super) types: Vec<AttributeType>,
}

impl AttributePlan {
    /// The columns, in their order.
    pub(super) fn columns(&self) -> Vec<AttributeColumn> {
        let columns = self.keys.iter().flat_map(|planned| {
            planned.types.iter().map(|value_type| AttributeColumn {
                key: planned.key.clone(),
                value_type: *value_type,
            })
        });
        columns.collect()
    }

    /// All columns of the file.
    pub(super) fn schema(&self) -> SchemaRef {
        let schema = storage_schema();
        if self.keys.is_empty() {
            return schema;
        }
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        let order = AttributeType::Text.data_type();
        fields.push(Field::new(column::ATTRIBUTES_ORDER, order, true).into());
        let columns = self.columns();
        fields.extend(columns.iter().map(|column| column.field().into()));
        Schema::new(fields).into()
    }

    /// Puts the keys in the order in which most of `objects` have them, so that it need not be
    /// stored: sequences of keys are merged, the most frequent first, and a key that is new
    /// comes to stand behind the one before it.
    pub(super) fn arrange(&mut self, objects: &StringViewArray) {
        let mut table = KeyTable::new();
        for planned in &self.keys {
            table.insert_key(&planned.key);
        }
        let mut shapes: HashMap<Vec<usize>, usize> = HashMap::new();
        for object in objects.iter().flatten().take(ORDER_ROWS) {
            let mut reader = MemberReader::new(object);
            let mut shape = Vec::new();
            let mut before = None;
            while let Some(member) = table.next(&mut reader, before) {
                shape.extend(member.key);
                before = member.key.or(before);
            }
            *shapes.entry(shape).or_default() += 1;
        }
        let mut shapes: Vec<_> = shapes.into_iter().collect();
        shapes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut order: Vec<usize> = Vec::with_capacity(self.keys.len());
        for (shape, _) in shapes.iter().take(ORDER_SHAPES) {
            merge_shape(&mut order, shape);
        }
        merge_shape(&mut order, &(0..self.keys.len()).collect::<Vec<_>>());
        let mut keys: Vec<Option<PlannedKey>> = self.keys.drain(..).map(Some).collect();
        let ordered = order.into_iter().filter_map(|number| keys[number].take());
        self.keys = ordered.collect();
    }
}

fn merge_shape(order: &mut Vec<usize>, shape: &[usize]) {
    let position = |order: &[usize], key: usize| order.iter().position(|placed| *placed == key);
    let mut at = shape
        .iter()
        .find_map(|key| position(order, *key))
        .unwrap_or(order.len());
    for key in shape {
        at = match position(order, *key) {
            Some(placed) => placed + 1,
            None => {
                order.insert(at, *key);
                at + 1
            }
        };
    }
}

/// How often each attribute occurs, with values of which types.
#[derive(Debug, Clone)]
pub(super) struct AttributeCounts {
    max_key_bytes: usize,
    table: KeyTable,
    counts: Vec<KeyCount>,
    object_count: u64,
    /// Whether there are objects that are stored as they are, besides what is taken from them.
    has_verbatim: bool,
}

#[derive(Debug, Clone, Default)]
struct KeyCount {
    rows: [u64; AttributeType::ALL.len()],
    /// The object in which it was seen last.
    last_object: u64,
}

impl AttributeCounts {
    /// Of no rows.
    pub(super) fn new(config: &StorageConfig) -> Self {
        Self {
            max_key_bytes: config.attribute_key_bytes,
            table: KeyTable::new(),
            counts: Vec::new(),
            object_count: 0,
            has_verbatim: false,
        }
    }

    /// Counts the members of objects. Every row that is to be written must be counted: a type
    /// that was not seen has no column.
    pub(super) fn add_objects<'a>(&mut self, objects: impl Iterator<Item = Option<&'a str>>) {
        for object in objects.flatten() {
            self.add_object(object);
        }
    }

    fn add_object(&mut self, object: &str) {
        self.object_count += 1;
        let mut reader = MemberReader::new(object);
        let mut before = None;
        while let Some(member) = self.table.next(&mut reader, before) {
            let number = match member.key {
                Some(number) => Some(number),
                None => self.new_key(member.key_text, before),
            };
            let Some(number) = number else {
                continue;
            };
            before = Some(number);
            let count = &mut self.counts[number];
            self.has_verbatim |= count.last_object == self.object_count;
            count.last_object = self.object_count;
            count.rows[AttributeType::of(member.value) as usize] += 1;
        }
        self.has_verbatim |= !reader.is_whole();
    }

    fn new_key(&mut self, text: &str, before: Option<usize>) -> Option<usize> {
        // Two quotes and a colon are no part of the key; an empty one gets no column.
        let length = text.len().saturating_sub(3);
        let counted = (1..=self.max_key_bytes).contains(&length) && self.table.len() < MAX_KEYS;
        // A key written with needless escapes is not found by its name, nor is it here.
        if !counted || (text.contains('\\') && self.is_other_writing(text)) {
            return None;
        }
        let number = self.table.insert(text);
        self.table.expect(before, number);
        self.counts.push(KeyCount::default());
        Some(number)
    }

    fn is_other_writing(&self, text: &str) -> bool {
        let mut written = String::with_capacity(text.len());
        crate::span::write_json_string(&unquote(&text[..text.len() - 1]), &mut written);
        written != text[..text.len() - 1]
    }

    /// Counts a column of a file whose rows are to be written: `row_count` of them have a value.
    pub(super) fn add_column(&mut self, column: &AttributeColumn, row_count: u64) {
        let number = match self.table.number(&column.key) {
            Some(number) => number,
            None => {
                self.counts.push(KeyCount::default());
                self.table.insert_key(&column.key)
            }
        };
        self.counts[number].rows[column.value_type as usize] += row_count;
    }

    /// Notes that some rows to be written are stored as they are.
    pub(super) fn add_verbatim(&mut self) {
        self.has_verbatim = true;
    }

    /// The keys that get columns in files of `row_count` rows: the most frequent, as far as
    /// the options allow.
    pub(super) fn choose(&self, config: &StorageConfig, row_count: u64) -> AttributePlan {
        let least = (row_count as f64 * config.attribute_min_share).ceil() as u64;
        let least = least.max(config.attribute_min_rows).max(1);
        let mut frequent: Vec<(u64, usize)> = Vec::new();
        for (number, count) in self.counts.iter().enumerate() {
            let rows: u64 = count.rows.iter().sum();
            if rows >= least {
                frequent.push((rows, number));
            }
        }
        let text = |number: usize| self.table.text(number);
        frequent.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| text(a.1).cmp(text(b.1))));
        let mut keys = Vec::new();
        let mut column_count = 0;
        for (_, number) in frequent {
            let types = self.types(number);
            column_count += types.len();
            if column_count > config.attribute_columns {
                break;
            }
            let text = text(number);
            let key = unquote(&text[..text.len() - 1]).into_owned();
            keys.push(PlannedKey { key, types });
        }
        AttributePlan { keys }
    }

    fn types(&self, number: usize) -> Vec<AttributeType> {
        let rows = &self.counts[number].rows;
        let mut types = AttributeType::ALL.to_vec();
        // What is taken from objects in another writing was not counted by type.
        types.retain(|value_type| {
            rows[*value_type as usize] > 0
                || (self.has_verbatim && *value_type == AttributeType::Json)
        });
        types
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(objects: &[&str]) -> AttributeCounts {
        let mut counts = AttributeCounts::new(&config());
        counts.add_objects(objects.iter().map(|object| Some(*object)));
        counts
    }

    fn config() -> StorageConfig {
        StorageConfig {
            attribute_min_rows: 1,
            attribute_min_share: 0.5,
            attribute_key_bytes: 8,
            ..StorageConfig::default()
        }
    }

    fn names(plan: &AttributePlan) -> Vec<String> {
        plan.columns().iter().map(AttributeColumn::name).collect()
    }

    #[test]
    fn frequent_keys_get_a_column_a_type() {
        let counts = counts(&[
            r#"{"a":1,"b":"x","far too long":1}"#,
            r#"{"a":"1","c":[]}"#,
            r#"{"":1,"b":"y"}"#,
            r#"{"a":1}"#,
        ]);
        let plan = counts.choose(&config(), 4);
        assert_eq!(
            names(&plan),
            ["attributes.a", "attributes.a#int", "attributes.b"]
        );
        let few = StorageConfig {
            attribute_columns: 2,
            ..config()
        };
        assert_eq!(
            names(&counts.choose(&few, 4)),
            ["attributes.a", "attributes.a#int"]
        );
        let none = StorageConfig {
            attribute_min_rows: 4,
            ..config()
        };
        assert!(counts.choose(&none, 4).keys.is_empty());
    }

    #[test]
    fn objects_in_another_writing_make_every_key_have_room_for_all() {
        let counts = counts(&[r#"{"a":1}"#, r#"{ "a" : 1 }"#, r#"{"a":2,"a":3}"#]);
        let plan = counts.choose(&config(), 3);
        assert_eq!(names(&plan), ["attributes.a#int", "attributes.a#json"]);
    }

    #[test]
    fn columns_stand_in_the_order_that_most_rows_have() {
        let objects = [
            r#"{"a":1,"b":1,"d":1}"#,
            r#"{"a":1,"b":1,"d":1}"#,
            r#"{"b":1,"c":1,"d":1}"#,
            r#"{"x":1,"a":1}"#,
            r#"{"d":1,"a":1}"#,
        ];
        let mut plan = counts(&objects).choose(
            &StorageConfig {
                attribute_min_share: 0.0,
                ..config()
            },
            5,
        );
        plan.arrange(&StringViewArray::from_iter_values(objects));
        let keys: Vec<&str> = plan
            .keys
            .iter()
            .map(|planned| planned.key.as_str())
            .collect();
        assert_eq!(keys, ["x", "a", "b", "c", "d"]);
    }
}
