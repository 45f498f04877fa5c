//! Gathers the rows of a catalogue, from indexes or from spans.
//!
//! Read [`Entries`]. Both ways must count the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, TimestampNanosecondArray,
};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::memory_pool::MemoryReservation;

use super::catalog::Catalog;
use super::catalog_predicate::CatalogPredicate;
use crate::span::{SpanKind, StatusCode, ValueType, members, render_value, unquote};
use crate::storage::{AttributeScope, Hour, IndexedKey, OperationSpans, RowGroupIndex};
use crate::storage::{FileIndex, SpanOperation};

/// What an entry takes in memory beside its texts.
const ENTRY_BYTES: usize = 200;

/// The spans of an operation or a service.
#[derive(Debug, Clone, Copy)]
struct Spans {
    count: u64,
    errors: u64,
    first: i64,
    last: i64,
}

/// What tells an operation from others in a catalogue.
type OperationKey = (Option<String>, String, u8);

/// Scope, key and type; the value where values are asked for.
type ValueKey = (AttributeScope, String, ValueType, Option<String>);

/// The rows of a catalogue, growing.
#[derive(Debug)]
pub(super) struct Entries {
    catalog: Catalog,
    predicate: CatalogPredicate,
    counts_values: bool,
    operations: BTreeMap<OperationKey, Spans>,
    values: HashMap<ValueKey, (u64, Hour)>,
    distinct: HashMap<(AttributeScope, String, ValueType), HashSet<Box<str>>>,
    memory: MemoryReservation,
}

impl Entries {
    /// No rows; `counts_values` says whether distinct values are asked for.
    pub(super) fn new(
        catalog: Catalog,
        predicate: CatalogPredicate,
        counts_values: bool,
        memory: MemoryReservation,
    ) -> Self {
        Self {
            catalog,
            predicate,
            counts_values,
            operations: BTreeMap::new(),
            values: HashMap::new(),
            distinct: HashMap::new(),
            memory,
        }
    }

    /// Adds what the index of a file knows. The file must be one of which
    /// [`Catalog::is_answered_by`] is true.
    pub(super) async fn add_file(&mut self, file: &FileIndex, hour: Hour) -> Result<()> {
        for group in file.row_groups().await? {
            if self.catalog.is_of_operations() {
                if let Some(operations) = group.operations(file).await? {
                    for (operation, spans) in operations.all() {
                        self.add_operation(operation, spans)?;
                    }
                }
            } else {
                self.add_keys(file, group, hour).await?;
            }
        }
        Ok(())
    }

    async fn add_keys(
        &mut self,
        file: &FileIndex,
        group: &RowGroupIndex,
        hour: Hour,
    ) -> Result<()> {
        for listed in group.keys(file).await?.unwrap_or_default() {
            if !self
                .catalog
                .asks(&self.predicate, listed.scope, &listed.key)
            {
                continue;
            }
            let is_keys = self.catalog == Catalog::AttributeKeys;
            if is_keys {
                for value_type in ValueType::ALL {
                    let count = listed.type_counts[value_type as usize];
                    if count > 0 {
                        let key = (listed.scope, listed.key.clone(), value_type, None);
                        self.add_value(key, count, hour)?;
                    }
                }
                if !self.counts_values {
                    continue;
                }
            }
            let IndexedKey::Terms(terms) = group.key(file, listed.scope, &listed.key).await? else {
                continue;
            };
            let mut added = Ok(());
            let prefix = self.predicate.value_prefix.clone();
            terms.each_value_with_prefix(&prefix, |place, text, value_type| {
                if added.is_err() || value_type == ValueType::Null {
                    return;
                }
                added = if is_keys {
                    self.add_distinct(listed.scope, &listed.key, value_type, text)
                } else {
                    let text = Some(text.to_string());
                    let key = (listed.scope, listed.key.clone(), value_type, text);
                    self.add_value(key, terms.row_count_of(place), hour)
                };
            });
            added?;
        }
        Ok(())
    }

    fn add_operation(&mut self, operation: &SpanOperation, spans: &OperationSpans) -> Result<()> {
        let is_error = operation.status_code == StatusCode::Error;
        let spans = Spans {
            count: spans.span_count,
            errors: if is_error { spans.span_count } else { 0 },
            first: spans.first_start_nano,
            last: spans.last_start_nano,
        };
        let key = if self.catalog == Catalog::Services {
            (operation.service_name.clone(), String::new(), 0)
        } else {
            let kind = operation.kind as u8;
            (operation.service_name.clone(), operation.name.clone(), kind)
        };
        match self.operations.get_mut(&key) {
            Some(known) => {
                known.count += spans.count;
                known.errors += spans.errors;
                known.first = known.first.min(spans.first);
                known.last = known.last.max(spans.last);
            }
            None => {
                self.memory.try_grow(ENTRY_BYTES + key.1.len())?;
                self.operations.insert(key, spans);
            }
        }
        Ok(())
    }

    fn add_value(&mut self, key: ValueKey, count: u64, hour: Hour) -> Result<()> {
        if let Some((known, first)) = self.values.get_mut(&key) {
            *known += count;
            *first = (*first).min(hour);
            return Ok(());
        }
        let text = key.3.as_ref().map_or(0, String::len);
        self.memory.try_grow(ENTRY_BYTES + key.1.len() + text)?;
        self.values.insert(key, (count, hour));
        Ok(())
    }

    fn add_distinct(
        &mut self,
        scope: AttributeScope,
        key: &str,
        value_type: ValueType,
        text: &str,
    ) -> Result<()> {
        let values = self
            .distinct
            .entry((scope, key.to_string(), value_type))
            .or_default();
        if !values.contains(text) {
            self.memory.try_grow(ENTRY_BYTES / 4 + text.len())?;
            values.insert(text.into());
        }
        Ok(())
    }

    /// Adds spans, of the columns that [`Catalog::scanned_columns`] names.
    pub(super) fn add_spans(&mut self, batch: &RecordBatch) -> Result<()> {
        let starts = batch
            .column_by_name("start_time")
            .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
            .ok_or_else(|| exec_datafusion_err!("spans have no start time"))?;
        if self.catalog.is_of_operations() {
            let texts = |name: &str| texts(batch, name);
            let (services, names) = (texts("service_name")?, texts("name")?);
            let (kinds, codes) = (texts("kind")?, texts("status_code")?);
            for row in 0..batch.num_rows() {
                let start = starts.value(row);
                let operation = SpanOperation {
                    service_name: services
                        .is_valid(row)
                        .then(|| services.value(row).to_string()),
                    name: names.value(row).to_string(),
                    kind: SpanKind::from_name(kinds.value(row)).unwrap_or_default(),
                    status_code: StatusCode::from_name(codes.value(row)).unwrap_or_default(),
                };
                let spans = OperationSpans {
                    span_count: 1,
                    first_start_nano: start,
                    last_start_nano: start,
                };
                self.add_operation(&operation, &spans)?;
            }
            return Ok(());
        }
        for row in 0..batch.num_rows() {
            self.add_attributes_of(batch, row, Hour::of_nano(starts.value(row)))?;
        }
        Ok(())
    }

    fn add_attributes_of(&mut self, batch: &RecordBatch, row: usize, hour: Hour) -> Result<()> {
        let mut of_row: HashSet<ValueKey> = HashSet::new();
        for (scope, name) in [
            (AttributeScope::Resource, "resource_attributes"),
            (AttributeScope::Scope, "scope_attributes"),
            (AttributeScope::Span, "attributes"),
        ] {
            let objects = texts(batch, name)?;
            if objects.is_valid(row) {
                self.gather(scope, objects.value(row), &mut of_row)?;
            }
        }
        for (scope, name) in [
            (AttributeScope::Event, "events"),
            (AttributeScope::Link, "links"),
        ] {
            let lists = batch
                .column_by_name(name)
                .and_then(|lists| lists.as_list_opt::<i32>());
            let Some(lists) = lists.filter(|lists| lists.is_valid(row)) else {
                continue;
            };
            let items = lists.value(row);
            let objects = items.as_struct().column_by_name("attributes");
            let Some(objects) = objects.and_then(|objects| objects.as_string_view_opt()) else {
                continue;
            };
            for object in objects.iter().flatten() {
                self.gather(scope, object, &mut of_row)?;
            }
        }
        for key in of_row {
            self.add_value(key, 1, hour)?;
        }
        Ok(())
    }

    /// Puts the values of an object into `of_row`: a span counts once, however often it has one.
    fn gather(
        &mut self,
        scope: AttributeScope,
        object: &str,
        of_row: &mut HashSet<ValueKey>,
    ) -> Result<()> {
        for (key, raw) in members(object) {
            let key = unquote(key);
            if !self.catalog.asks(&self.predicate, scope, &key) {
                continue;
            }
            let value_type = ValueType::of_json(raw);
            let text = render_value(raw);
            if self.catalog == Catalog::AttributeKeys {
                if self.counts_values
                    && let Some(text) = &text
                {
                    self.add_distinct(scope, &key, value_type, text)?;
                }
                of_row.insert((scope, key.into_owned(), value_type, None));
            } else if let Some(text) = text
                && text.starts_with(self.predicate.value_prefix.as_str())
            {
                of_row.insert((scope, key.into_owned(), value_type, Some(text.into_owned())));
            }
        }
        Ok(())
    }

    /// The rows, in order of their texts.
    pub(super) fn finish(self, schema: &SchemaRef) -> Result<RecordBatch> {
        let columns = if self.catalog.is_of_operations() {
            self.operation_columns()
        } else {
            self.value_columns()
        };
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    fn operation_columns(self) -> Vec<ArrayRef> {
        let all = || self.operations.iter();
        let numbers = |number: fn(&Spans) -> u64| -> ArrayRef {
            let numbers = all().map(|(_, spans)| i64::try_from(number(spans)).unwrap_or(i64::MAX));
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let times = |time: fn(&Spans) -> i64| -> ArrayRef {
            let times = all().map(|(_, spans)| time(spans));
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
        };
        let services = all().map(|((service, _, _), _)| service.as_deref());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(services.collect::<StringViewArray>())];
        if self.catalog == Catalog::Operations {
            let names = all().map(|((_, name, _), _)| name);
            columns.push(Arc::new(StringViewArray::from_iter_values(names)));
            let kinds = all().map(|((_, _, kind), _)| SpanKind::from_number((*kind).into()).name());
            columns.push(Arc::new(StringViewArray::from_iter_values(kinds)));
        }
        columns.extend([numbers(|s| s.count), numbers(|s| s.errors)]);
        columns.extend([times(|s| s.first), times(|s| s.last)]);
        columns.push(times(|s| Hour::of_nano(s.first).start_nano()));
        columns
    }

    fn value_columns(self) -> Vec<ArrayRef> {
        let mut all: Vec<(&ValueKey, &(u64, Hour))> = self.values.iter().collect();
        all.sort_unstable_by(|((s, k, t, v), _), ((s2, k2, t2, v2), _)| {
            (s, k, v, t).cmp(&(s2, k2, v2, t2))
        });
        let texts = |text: fn(&ValueKey) -> &str| -> ArrayRef {
            let texts = all.iter().map(|(key, _)| text(key));
            Arc::new(StringViewArray::from_iter_values(texts))
        };
        let mut columns = vec![texts(|key| key.0.name()), texts(|key| &key.1)];
        if self.catalog == Catalog::AttributeValues {
            columns.push(texts(|key| key.3.as_deref().unwrap_or_default()));
        }
        columns.push(texts(|key| key.2.name()));
        let counts = all
            .iter()
            .map(|(_, (count, _))| i64::try_from(*count).unwrap_or(i64::MAX));
        columns.push(Arc::new(Int64Array::from_iter_values(counts)));
        if self.catalog == Catalog::AttributeKeys {
            let distinct = all.iter().map(|((scope, key, value_type, _), _)| {
                let values = self.distinct.get(&(*scope, key.clone(), *value_type));
                values.map_or(0, HashSet::len) as i64
            });
            columns.push(Arc::new(Int64Array::from_iter_values(distinct)));
        }
        let hours = all.iter().map(|(_, (_, hour))| hour.start_nano());
        let hours = TimestampNanosecondArray::from_iter_values(hours).with_timezone("UTC");
        columns.push(Arc::new(hours));
        columns
    }
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringViewArray> {
    let column = batch.column_by_name(name);
    let texts = column.and_then(|column| column.as_string_view_opt());
    texts.ok_or_else(|| exec_datafusion_err!("spans have no column `{name}`"))
}
