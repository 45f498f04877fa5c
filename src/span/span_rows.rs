//! Rows of the `spans` table, as SQL shows them, back to what a producer sent.
//!
//! Read [`resource_spans`]. It is the inverse of decoding and storing: what it gives can be
//! encoded again, but for what storing lets go (of a key sent twice, the first value).

use std::collections::HashSet;

use arrow::array::{
    Array, AsArray, ListArray, PrimitiveArray, RecordBatch, StringViewArray, StructArray,
};
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, TimestampNanosecondType, UInt32Type};

use super::value_text::parse_attributes;
use super::{
    Attributes, Event, Link, Resource, Scope, Span, SpanId, SpanKind, StatusCode, TraceId,
};
use crate::error::{Error, Result};

/// The spans of a resource, by the scope that made them.
pub type ResourceSpans = (Resource, Vec<(Scope, Vec<Span>)>);

/// Resources in the order of their first row, each with its scopes, each with its spans, from
/// batches of all columns of `spans`. Exact re-deliveries (same trace, span id, kind, start,
/// duration and name) are left out, as compaction does.
pub fn resource_spans(batches: &[RecordBatch]) -> Result<Vec<ResourceSpans>> {
    let mut resources: Vec<ResourceSpans> = Vec::new();
    let mut seen = HashSet::new();
    for batch in batches {
        let columns = Columns::try_new(batch)?;
        for row in 0..batch.num_rows() {
            let span = columns.span(row)?;
            let key = (
                (span.trace_id, span.span_id, span.kind as i8),
                (span.start_time_unix_nano, span.duration_nano),
                columns.text("name", row),
            );
            if !seen.insert(key) {
                continue;
            }
            let resource = columns.resource(row);
            let at = position(&resources, &resource).unwrap_or_else(|| {
                resources.push((resource, Vec::new()));
                resources.len() - 1
            });
            let scope = columns.scope(row);
            let scopes = &mut resources[at].1;
            let at = position(scopes, &scope).unwrap_or_else(|| {
                scopes.push((scope, Vec::new()));
                scopes.len() - 1
            });
            scopes[at].1.push(span);
        }
    }
    Ok(resources)
}

/// Where an entry stands; looked for from the end, as neighbours have the same.
fn position<K: PartialEq, V>(entries: &[(K, V)], key: &K) -> Option<usize> {
    entries.iter().rposition(|(other, _)| other == key)
}

struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    /// Columns of the types that SQL promises, so that reading a value cannot fail.
    fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        for field in super::logical_schema().fields() {
            let found = batch.schema_ref().column_with_name(field.name());
            if found.is_none_or(|(_, found)| found.data_type() != field.data_type()) {
                let name = field.name();
                return Err(Error::internal(format!(
                    "rows of spans lack a column or have it in another type; column=`{name}`"
                )));
            }
        }
        Ok(Self(batch))
    }

    fn resource(&self, row: usize) -> Resource {
        Resource {
            attributes: attributes(self.text("resource_attributes", row)),
            dropped_attributes_count: self.count("resource_dropped_attributes_count", row),
            schema_url: self.owned("resource_schema_url", row),
        }
    }

    fn scope(&self, row: usize) -> Scope {
        Scope {
            name: self.owned("scope_name", row),
            version: self.owned("scope_version", row),
            attributes: attributes(self.text("scope_attributes", row)),
            dropped_attributes_count: self.count("scope_dropped_attributes_count", row),
            schema_url: self.owned("schema_url", row),
        }
    }

    fn span(&self, row: usize) -> Result<Span> {
        let trace_id = TraceId::parse(self.text("trace_id", row).unwrap_or_default())?;
        let span_id = SpanId::parse(self.text("span_id", row).unwrap_or_default())?;
        let start = self.number::<TimestampNanosecondType>("start_time", row);
        let mut span = Span::new(trace_id, span_id, start.unwrap_or_default());
        let parent = self.text("parent_span_id", row);
        span.parent_span_id = parent.map(SpanId::parse).transpose()?;
        span.trace_state = self.owned("trace_state", row);
        span.flags = self.number::<UInt32Type>("flags", row);
        span.name = self.owned("name", row);
        let kind = self.text("kind", row).and_then(SpanKind::from_name);
        span.kind = kind.unwrap_or_default();
        span.duration_nano = self.number::<Int64Type>("duration_nano", row);
        let code = self
            .text("status_code", row)
            .and_then(StatusCode::from_name);
        span.status_code = code.unwrap_or_default();
        span.status_message = self.owned("status_message", row);
        span.attributes = attributes(self.text("attributes", row));
        if let Some(events) = self.list("events", row) {
            let events = StructColumns(&events);
            span.events = (0..events.0.len()).map(|at| events.event(at)).collect();
        }
        if let Some(links) = self.list("links", row) {
            let links = StructColumns(&links);
            let all = (0..links.0.len()).map(|at| links.link(at));
            span.links = all.collect::<Result<_>>()?;
        }
        span.dropped_attributes_count = self.count("dropped_attributes_count", row);
        span.dropped_events_count = self.count("dropped_events_count", row);
        span.dropped_links_count = self.count("dropped_links_count", row);
        Ok(span)
    }

    fn text(&self, name: &str, row: usize) -> Option<&'a str> {
        value_of_text(self.0.column_by_name(name)?.as_string_view_opt()?, row)
    }

    fn owned(&self, name: &str, row: usize) -> String {
        self.text(name, row).unwrap_or_default().to_string()
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str, row: usize) -> Option<T::Native> {
        value_of_number(self.0.column_by_name(name)?.as_primitive_opt::<T>()?, row)
    }

    fn count(&self, name: &str, row: usize) -> u32 {
        self.number::<UInt32Type>(name, row).unwrap_or_default()
    }

    fn list(&self, name: &str, row: usize) -> Option<StructArray> {
        let lists: &ListArray = self.0.column_by_name(name)?.as_list_opt()?;
        lists
            .is_valid(row)
            .then(|| lists.value(row).as_struct_opt().cloned())
            .flatten()
    }
}

/// Events or links of one span.
struct StructColumns<'a>(&'a StructArray);

impl StructColumns<'_> {
    fn event(&self, at: usize) -> Event {
        let time = self.number::<TimestampNanosecondType>("time", at);
        Event {
            time_unix_nano: time.unwrap_or_default(),
            name: self.text("name", at).unwrap_or_default().to_string(),
            attributes: attributes(self.text("attributes", at)),
            dropped_attributes_count: self.count("dropped_attributes_count", at),
        }
    }

    fn link(&self, at: usize) -> Result<Link> {
        Ok(Link {
            trace_id: TraceId::parse(self.text("trace_id", at).unwrap_or_default())?,
            span_id: SpanId::parse(self.text("span_id", at).unwrap_or_default())?,
            trace_state: self.text("trace_state", at).unwrap_or_default().to_string(),
            attributes: attributes(self.text("attributes", at)),
            flags: self.number::<UInt32Type>("flags", at),
            dropped_attributes_count: self.count("dropped_attributes_count", at),
        })
    }

    fn text(&self, name: &str, at: usize) -> Option<&str> {
        value_of_text(self.0.column_by_name(name)?.as_string_view_opt()?, at)
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str, at: usize) -> Option<T::Native> {
        value_of_number(self.0.column_by_name(name)?.as_primitive_opt::<T>()?, at)
    }

    fn count(&self, name: &str, at: usize) -> u32 {
        self.number::<UInt32Type>(name, at).unwrap_or_default()
    }
}

fn value_of_text(column: &StringViewArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn value_of_number<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    row: usize,
) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}

/// Attributes of the JSON object that was stored for them.
fn attributes(json: Option<&str>) -> Attributes {
    json.and_then(parse_attributes).unwrap_or_default()
}
