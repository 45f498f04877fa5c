//! Takes the attributes of spans apart into columns, and puts them together again. Pure.
//!
//! Read [`AttributeColumns::take_apart`] and [`put_together`], which undo each other to the
//! byte. Of a row
//!
//! ```text
//! attributes                     attributes.a#int   attributes.b   attributes   attributes#order
//! {"a":1,"b":"x","c":[]}     ->  1                  x              {"c":[]}     NULL
//! {"c":[],"b":"x"}           ->  NULL               x              {"c":[]}     r
//! { "b": "x" }               ->  NULL               x              { "b": "x" } =
//! ```
//!
//! what has no column stays in `attributes`, the *remainder*. The order is NULL where the
//! members stand in the order of the columns, then those of the remainder. Otherwise it lists
//! members until the rest stands so: `r` is the next of the remainder, a number one of the
//! row's columns, from 0. `=` says that the remainder is the whole text, because it is not
//! written as `span` writes it; lookups are answered by the columns all the same.
//!
//! Of a key that has a column, no other row of the file has its value elsewhere.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Array, Float64Builder,
    Int64Array, Int64Builder, RecordBatch, StringViewArray, StringViewBuilder,
};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef};

use super::attribute_keys::{KeyTable, Member};
use super::attribute_plan::AttributePlan;
use crate::error::{Error, Result};
use crate::span::{
    AttributeColumn, AttributeType, AttributeValue, JsonLookup, MemberReader, column,
    storage_schema, write_double, write_json_string,
};

/// Bytes of text that are allocated at once.
const TEXT_BLOCK_BYTES: u32 = 32 << 10;

/// The order of a row whose remainder is its whole text.
const VERBATIM: &str = "=";

/// Takes batches apart as a plan says.
pub(super) struct AttributeColumns {
    schema: SchemaRef,
    table: KeyTable,
    keys: Vec<TakenKey>,
    remainder: StringViewBuilder,
    order: StringViewBuilder,
    row: usize,
}

/// A key with the columns that are being built for it.
struct TakenKey {
    lookup: JsonLookup,
    columns: Vec<ColumnBuilder>,
    /// The row after the last in which it was seen.
    seen: usize,
}

impl AttributeColumns {
    /// For files of this plan.
    pub(super) fn new(plan: &AttributePlan) -> Self {
        let mut table = KeyTable::new();
        let keys = plan.keys.iter().map(|planned| {
            table.insert_key(&planned.key);
            TakenKey {
                lookup: JsonLookup::new(&planned.key),
                columns: planned
                    .types
                    .iter()
                    .map(|t| ColumnBuilder::new(*t))
                    .collect(),
                seen: 0,
            }
        });
        Self {
            keys: keys.collect(),
            schema: plan.schema(),
            table,
            remainder: text_builder(),
            order: text_builder(),
            row: 0,
        }
    }

    /// A batch of all storage columns as a batch of the columns of the file.
    ///
    /// An error says that the plan was made without these rows.
    pub(super) fn take_apart(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.keys.is_empty() {
            return Ok(batch.clone());
        }
        let place = batch.schema_ref().index_of(column::ATTRIBUTES)?;
        let objects = batch
            .column(place)
            .as_string_view_opt()
            .ok_or_else(|| Error::internal("attributes are not text"))?;
        self.row = 0;
        self.keys.iter_mut().for_each(|key| key.seen = 0);
        let mut members = Vec::new();
        for object in objects {
            match object {
                Some(object) => self.take(object, &mut members)?,
                None => {
                    self.remainder.append_null();
                    self.order.append_null();
                }
            }
            self.row += 1;
        }
        let mut columns = batch.columns().to_vec();
        columns[place] = Arc::new(self.remainder.finish());
        columns.push(Arc::new(self.order.finish()));
        for key in &mut self.keys {
            let built = key.columns.iter_mut();
            columns.extend(built.map(|column| column.finish(self.row)));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn take<'a>(&mut self, object: &'a str, members: &mut Vec<Member<'a>>) -> Result<()> {
        members.clear();
        let mut reader = MemberReader::new(object);
        let mut before = None;
        let mut unique = true;
        while let Some(member) = self.table.next(&mut reader, before) {
            if let Some(number) = member.key {
                before = Some(number);
                let key = &mut self.keys[number];
                unique &= key.seen <= self.row;
                key.seen = self.row + 1;
            }
            members.push(member);
        }
        if !unique || !reader.is_whole() {
            return self.take_verbatim(object);
        }
        let mut rest = String::new();
        for member in members.iter() {
            match member.key {
                Some(number) => self.keys[number].append(self.row, member.value)?,
                None => {
                    rest.push(if rest.is_empty() { '{' } else { ',' });
                    rest.push_str(member.key_text);
                    rest.push_str(member.value);
                }
            }
        }
        match (rest.is_empty(), members.is_empty()) {
            (false, _) => {
                rest.push('}');
                self.remainder.append_value(&rest);
            }
            // An empty object is not the same as none.
            (true, true) => self.remainder.append_value(object),
            (true, false) => self.remainder.append_null(),
        }
        self.order.append_option(order_text(members));
        Ok(())
    }

    fn take_verbatim(&mut self, object: &str) -> Result<()> {
        self.remainder.append_value(object);
        self.order.append_value(VERBATIM);
        for key in &mut self.keys {
            if let Some(value) = key.lookup.find(object) {
                key.append(self.row, value)?;
            }
        }
        Ok(())
    }
}

impl TakenKey {
    fn append(&mut self, row: usize, raw: &str) -> Result<()> {
        let value = AttributeValue::of(raw);
        let value_type = value.value_type();
        let mut columns = self.columns.iter_mut();
        let column = match columns.find(|column| column.value_type() == value_type) {
            Some(column) => column.append(row, value),
            // Raw JSON holds any value.
            None => match self.columns.last_mut() {
                Some(column @ ColumnBuilder::Json(_)) => {
                    column.append(row, AttributeValue::Json(raw))
                }
                _ => false,
            },
        };
        if column {
            return Ok(());
        }
        Err(Error::internal(
            "an attribute has a value of a type that was not planned for",
        ))
    }
}

/// A builder whose memory is soon used again: blocks that grow, as they do by default, would be
/// asked of the system anew for every batch, some megabytes a column.
fn text_builder() -> StringViewBuilder {
    StringViewBuilder::new().with_fixed_block_size(TEXT_BLOCK_BYTES)
}

enum ColumnBuilder {
    Text(StringViewBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Json(StringViewBuilder),
}

impl ColumnBuilder {
    fn new(value_type: AttributeType) -> Self {
        match value_type {
            AttributeType::Text => Self::Text(text_builder()),
            AttributeType::Int => Self::Int(Int64Builder::new()),
            AttributeType::Double => Self::Double(Float64Builder::new()),
            AttributeType::Bool => Self::Bool(BooleanBuilder::new()),
            AttributeType::Json => Self::Json(text_builder()),
        }
    }

    fn value_type(&self) -> AttributeType {
        match self {
            Self::Text(_) => AttributeType::Text,
            Self::Int(_) => AttributeType::Int,
            Self::Double(_) => AttributeType::Double,
            Self::Bool(_) => AttributeType::Bool,
            Self::Json(_) => AttributeType::Json,
        }
    }

    /// Sets a row, after NULL for those left out before it; false where the type is another.
    fn append(&mut self, row: usize, value: AttributeValue<'_>) -> bool {
        self.pad(row);
        match (self, value) {
            (Self::Text(values), AttributeValue::Text(text)) => values.append_value(text),
            (Self::Int(values), AttributeValue::Int(number)) => values.append_value(number),
            (Self::Double(values), AttributeValue::Double(number)) => values.append_value(number),
            (Self::Bool(values), AttributeValue::Bool(value)) => values.append_value(value),
            (Self::Json(values), AttributeValue::Json(raw)) => values.append_value(raw),
            _ => return false,
        }
        true
    }

    fn pad(&mut self, rows: usize) {
        use arrow::array::ArrayBuilder;
        match self {
            Self::Text(values) | Self::Json(values) => {
                (values.len()..rows).for_each(|_| values.append_null());
            }
            Self::Int(values) => values.append_nulls(rows - values.len()),
            Self::Double(values) => values.append_nulls(rows - values.len()),
            Self::Bool(values) => values.append_nulls(rows - values.len()),
        }
    }

    fn finish(&mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        match self {
            Self::Text(values) | Self::Json(values) => Arc::new(values.finish()),
            Self::Int(values) => Arc::new(values.finish()),
            Self::Double(values) => Arc::new(values.finish()),
            Self::Bool(values) => Arc::new(values.finish()),
        }
    }
}

/// Where the members do not stand in the order of the columns, with the remainder last: how
/// they do.
fn order_text(members: &[Member<'_>]) -> Option<String> {
    let place = |member: &Member<'_>| member.key.unwrap_or(usize::MAX);
    if members.is_sorted_by_key(place) {
        return None;
    }
    let mut sorted: Vec<usize> = members.iter().filter_map(|member| member.key).collect();
    sorted.sort_unstable();
    // The members from here on stand in order, before all that comes after them.
    let mut rest = members.len();
    let mut least = usize::MAX;
    while rest > 0 && place(&members[rest - 1]) <= least {
        rest -= 1;
        least = place(&members[rest]);
    }
    let mut text = String::new();
    for member in &members[..rest] {
        if !text.is_empty() {
            text.push(' ');
        }
        match member.key {
            None => text.push('r'),
            Some(number) => {
                let rank = sorted.binary_search(&number).unwrap_or(0);
                let _ = write!(text, "{rank}");
            }
        }
    }
    Some(text)
}

/// A batch of the columns of a file as one of all storage columns.
pub(super) fn put_batch_together(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = storage_schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let stored = batch.column_by_name(field.name());
        columns.push(Arc::clone(stored.ok_or_else(|| {
            Error::corrupt(format!(
                "a file lacks a column of spans; column=`{}`",
                field.name()
            ))
        })?));
    }
    let mut taken = Vec::new();
    for (field, values) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if let Some(column) = AttributeColumn::parse(field.name()) {
            taken.push((column, Arc::clone(values)));
        }
    }
    if !taken.is_empty() {
        let place = schema.index_of(column::ATTRIBUTES)?;
        let order = batch.column_by_name(column::ATTRIBUTES_ORDER);
        columns[place] = Arc::new(put_together(&taken, &columns[place], order)?);
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// The attributes of rows from their columns, in the order of the file, their remainder and
/// their order.
///
/// An error says that the columns do not have the types that their names promise.
pub fn put_together(
    columns: &[(AttributeColumn, ArrayRef)],
    remainder: &ArrayRef,
    order: Option<&ArrayRef>,
) -> Result<StringViewArray> {
    let wrong = || Error::corrupt("a column of attributes does not have the type of its name");
    let remainder = remainder.as_string_view_opt().ok_or_else(wrong)?;
    let order = match order {
        Some(order) => Some(order.as_string_view_opt().ok_or_else(wrong)?),
        None => None,
    };
    let stored = columns.iter().map(|(column, values)| {
        let mut key_text = String::new();
        write_json_string(&column.key, &mut key_text);
        key_text.push(':');
        let values = StoredValues::try_new(column.value_type, values).ok_or_else(wrong)?;
        Ok(StoredColumn { key_text, values })
    });
    let stored = stored.collect::<Result<Vec<_>>>()?;
    let arrays = columns.iter().map(|(_, values)| values);
    let present = PresentColumns::new(arrays, remainder.len());
    let mut objects = StringViewBuilder::with_capacity(remainder.len());
    let mut object = String::new();
    for row in 0..remainder.len() {
        let rest = remainder.is_valid(row).then(|| remainder.value(row));
        let order = order.and_then(|order| order.is_valid(row).then(|| order.value(row)));
        let own = present
            .of(row)
            .iter()
            .map(|column| &stored[*column as usize]);
        object.clear();
        match order {
            None => write_in_order(own, row, rest, &mut object),
            Some(VERBATIM) => object.push_str(rest.unwrap_or_default()),
            Some(order) => write_as_ordered(own, row, rest, order, &mut object),
        }
        objects.append_option((!object.is_empty() || order.is_some()).then_some(&object));
    }
    Ok(objects.finish())
}

/// Which columns have a value in each row, in their order. Most columns have none in a row:
/// going through the values of each is faster than asking each in every row.
struct PresentColumns {
    /// Where the columns of each row begin, and last where those of the last end.
    starts: Vec<u32>,
    columns: Vec<u32>,
}

impl PresentColumns {
    fn new<'a>(arrays: impl Iterator<Item = &'a ArrayRef> + Clone, row_count: usize) -> Self {
        let mut starts = vec![0u32; row_count + 1];
        for array in arrays.clone() {
            for_each_valid(array, |row| starts[row + 1] += 1);
        }
        for row in 0..row_count {
            starts[row + 1] += starts[row];
        }
        let mut ends = starts.clone();
        let mut columns = vec![0; starts[row_count] as usize];
        for (column, array) in (0u32..).zip(arrays) {
            for_each_valid(array, |row| {
                columns[ends[row] as usize] = column;
                ends[row] += 1;
            });
        }
        Self { starts, columns }
    }

    fn of(&self, row: usize) -> &[u32] {
        &self.columns[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

fn for_each_valid(array: &ArrayRef, mut emit: impl FnMut(usize)) {
    match array.nulls() {
        Some(nulls) => nulls.valid_indices().for_each(emit),
        None => (0..array.len()).for_each(&mut emit),
    }
}

/// A column of a key's values.
struct StoredColumn<'a> {
    /// The key as it stands in an object: quoted, with its colon.
    key_text: String,
    values: StoredValues<'a>,
}

impl StoredColumn<'_> {
    fn write(&self, row: usize, out: &mut String) {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(&self.key_text);
        self.values.write(row, out);
    }
}

enum StoredValues<'a> {
    Text(&'a StringViewArray),
    Int(&'a Int64Array),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Json(&'a StringViewArray),
}

impl<'a> StoredValues<'a> {
    fn try_new(value_type: AttributeType, values: &'a ArrayRef) -> Option<Self> {
        Some(match value_type {
            AttributeType::Text => Self::Text(values.as_string_view_opt()?),
            AttributeType::Int => Self::Int(values.as_primitive_opt::<Int64Type>()?),
            AttributeType::Double => Self::Double(values.as_primitive_opt::<Float64Type>()?),
            AttributeType::Bool => Self::Bool(values.as_boolean_opt()?),
            AttributeType::Json => Self::Json(values.as_string_view_opt()?),
        })
    }

    fn write(&self, row: usize, out: &mut String) {
        match self {
            Self::Text(values) => write_json_string(values.value(row), out),
            Self::Json(values) => out.push_str(values.value(row)),
            Self::Int(values) => {
                let _ = write!(out, "{}", values.value(row));
            }
            Self::Double(values) => write_double(values.value(row), out),
            Self::Bool(values) => out.push_str(if values.value(row) { "true" } else { "false" }),
        }
    }
}

fn write_in_order<'a>(
    own: impl Iterator<Item = &'a StoredColumn<'a>>,
    row: usize,
    rest: Option<&str>,
    out: &mut String,
) {
    own.for_each(|column| column.write(row, out));
    match (rest, out.is_empty()) {
        (Some(rest), true) => out.push_str(rest),
        (Some(rest), false) => {
            out.push(',');
            out.push_str(rest.strip_prefix('{').unwrap_or(rest));
        }
        (None, true) => {}
        (None, false) => out.push('}'),
    }
}

fn write_as_ordered<'a>(
    own: impl Iterator<Item = &'a StoredColumn<'a>>,
    row: usize,
    rest: Option<&str>,
    order: &str,
    out: &mut String,
) {
    let mut present: Vec<Option<&StoredColumn<'_>>> = own.map(Some).collect();
    let mut reader = MemberReader::new(rest.unwrap_or("{}"));
    let push_rest = |reader: &mut MemberReader<'_>, out: &mut String| match reader.member() {
        Some((key, value)) => {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(key);
            out.push_str(value);
            true
        }
        None => false,
    };
    for item in order.split(' ') {
        match item.parse::<usize>() {
            Ok(rank) => {
                if let Some(column) = present.get_mut(rank).and_then(Option::take) {
                    column.write(row, out);
                }
            }
            Err(_) => {
                push_rest(&mut reader, out);
            }
        }
    }
    for column in present.into_iter().flatten() {
        column.write(row, out);
    }
    while push_rest(&mut reader, out) {}
    out.push('}');
}

/// Whether the order of a row says that its remainder is its whole text.
pub(super) fn is_verbatim(order: &str) -> bool {
    order == VERBATIM
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::attribute_plan::AttributeCounts;
    use super::*;
    use crate::config::StorageConfig;
    use crate::span::{Origin, Span, SpanBatchBuilder, SpanId, TraceId, Value, lookup};

    fn config(columns: usize) -> StorageConfig {
        StorageConfig {
            attribute_columns: columns,
            attribute_min_rows: 2,
            attribute_min_share: 0.0,
            ..StorageConfig::default()
        }
    }

    fn batch(objects: &[Option<String>]) -> RecordBatch {
        let mut builder = SpanBatchBuilder::new();
        let trace_id = TraceId::from_bytes([1; 16]).unwrap();
        let span_id = SpanId::from_bytes([1; 8]).unwrap();
        for _ in objects {
            builder.push(&Origin::default(), &Span::new(trace_id, span_id, 0));
        }
        let decoded = builder.finish();
        let mut columns = decoded.columns().to_vec();
        let place = decoded.schema_ref().index_of(column::ATTRIBUTES).unwrap();
        columns[place] = Arc::new(StringViewArray::from_iter(objects.iter()));
        let rest = &storage_schema().fields()[columns.len()..].to_vec();
        for field in rest {
            columns.push(arrow::array::new_null_array(
                field.data_type(),
                objects.len(),
            ));
        }
        RecordBatch::try_new(storage_schema(), columns).unwrap()
    }

    fn taken_apart(batch: &RecordBatch, columns: usize) -> RecordBatch {
        let objects = batch.column_by_name(column::ATTRIBUTES).unwrap();
        let objects = objects.as_string_view();
        let mut counts = AttributeCounts::new(&config(columns));
        counts.add_objects(objects.iter());
        let mut plan = counts.choose(&config(columns), batch.num_rows() as u64);
        plan.arrange(objects);
        AttributeColumns::new(&plan).take_apart(batch).unwrap()
    }

    fn check(objects: &[Option<String>], columns: usize) {
        let batch = batch(objects);
        let stored = taken_apart(&batch, columns);
        assert_eq!(put_batch_together(&stored).unwrap(), batch);
        // Every key is wholly in columns, or wholly in the remainder.
        let whole = batch
            .column_by_name(column::ATTRIBUTES)
            .unwrap()
            .as_string_view();
        for field in stored.schema_ref().fields() {
            let Some(found) = AttributeColumn::parse(field.name()) else {
                continue;
            };
            for (row, object) in objects.iter().enumerate() {
                let raw = AttributeType::ALL.into_iter().find_map(|value_type| {
                    let name = crate::span::attribute_column_name(&found.key, value_type);
                    let values = stored.column_by_name(&name)?;
                    let mut raw = String::new();
                    let is_valid = values.is_valid(row);
                    let values = StoredValues::try_new(value_type, values)?;
                    is_valid.then(|| values.write(row, &mut raw))?;
                    Some(raw)
                });
                let expected = whole
                    .is_valid(row)
                    .then(|| lookup(whole.value(row), &found.key));
                let expected = expected.flatten();
                assert_eq!(raw.as_deref(), expected, "{} in {:?}", found.key, object);
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-3i64..3).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            Just(Value::Double(f64::NAN)),
            Just(Value::Double(-0.0)),
            "[a-c\"\\\\\n\u{1}é ]{0,4}".prop_map(Value::String),
            Just(Value::Bytes(vec![1, 2])),
        ];
        leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                proptest::collection::vec((key(), inner), 0..3).prop_map(Value::Object),
            ]
        })
    }

    fn key() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-e]",
            1 => prop_oneof![
                Just(""), Just("\""), Just("a#int"), Just("A"), Just(","), Just(":a"), Just("{\"a\":"),
                Just("trace_id"), Just("attributes"), Just("\n"), Just("$bytes"), Just("a.b"),
            ].prop_map(str::to_owned),
        ]
    }

    fn object() -> impl Strategy<Value = Option<String>> {
        let written = proptest::collection::vec((key(), value()), 0..6).prop_map(|entries| {
            let mut text = String::new();
            Value::Object(entries).write_json(&mut text);
            Some(text)
        });
        prop_oneof![
            12 => written,
            1 => Just(None),
            1 => prop_oneof![
                Just("{ \"a\" : 1 }"), Just("{\"a\":1,\"a\":2}"), Just(""), Just("{"), Just("{}"),
                Just("x,\"a\":1"), Just("{\"a\": 1}"), Just("{\"a\":1 }"), Just("{\"a\":}"),
                Just("{\"a\":1.50,\"b\":01}"), Just("[1]"), Just("{\"\\u0061\":1}"),
                Just("{\"b\":1} trailing"), Just("{\"a\":1\"b\":2}"), Just("{\"a\":\"x"),
            ].prop_map(|text| Some(text.to_owned())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_is_put_together_to_the_byte(
            objects in proptest::collection::vec(object(), 1..40),
            columns in prop_oneof![Just(0usize), Just(3), Just(100)],
        ) {
            check(&objects, columns);
        }
    }

    #[test]
    fn the_order_is_stored_only_where_it_differs() {
        let objects = [
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"a":1,"c":3,"x":1}"#,
            r#"{"b":1,"a":3}"#,
            r#"{"x1":1,"a":2,"x2":3,"b":4}"#,
            r#"{"x3":1,"x4":3}"#,
            "{}",
        ];
        let objects: Vec<_> = objects
            .into_iter()
            .map(|object| Some(object.to_owned()))
            .collect();
        let stored = taken_apart(&batch(&objects), 100);
        let order = stored
            .column_by_name(column::ATTRIBUTES_ORDER)
            .unwrap()
            .as_string_view();
        let order: Vec<_> = order.iter().collect();
        assert_eq!(
            order,
            [None, None, None, Some("1"), Some("r 0 r"), None, None]
        );
        check(&objects, 100);
    }

    #[test]
    fn thousands_of_keys_and_long_keys_are_kept() {
        let many: Vec<_> = (0..3000)
            .map(|number| format!("\"key {number}\":{number}"))
            .collect();
        let long = format!("{{\"{}\":1,\"a\":2}}", "k".repeat(1 << 20));
        let many = format!("{{{}}}", many.join(","));
        check(
            &[
                Some(many.clone()),
                Some(long.clone()),
                Some(many),
                Some(long),
            ],
            50,
        );
    }

    #[test]
    fn deep_values_are_kept() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        check(&[Some(deep.clone()), Some(deep)], 50);
    }
}
