//! Collects decoded spans into Arrow columns.
//!
//! Read [`SpanBatchBuilder`]. Rows keep the order in which they came; sorting, splitting by
//! hour and the columns the writer adds are `storage`'s.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryBuilder, Int8Builder, Int64Builder, ListArray, RecordBatch,
    StringViewBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use super::storage_schema::{decoded_schema, event_fields, link_fields};
use super::value::write_attributes;
use super::{Event, Link, Origin, Span, Value};

/// Builds a batch of the decoded columns, one row a span.
///
/// An absent text is NULL, as is a set of attributes that is empty, a list of events or links
/// that is empty, and a dropped count of zero.
#[derive(Debug)]
pub struct SpanBatchBuilder {
    row_count: usize,
    text_bytes: usize,
    json: String,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    parent_span_id: FixedSizeBinaryBuilder,
    trace_state: StringViewBuilder,
    flags: Int64Builder,
    name: StringViewBuilder,
    kind: Int8Builder,
    start_time_unix_nano: Int64Builder,
    duration_nano: Int64Builder,
    status_code: Int8Builder,
    status_message: StringViewBuilder,
    service_name: StringViewBuilder,
    service_namespace: StringViewBuilder,
    service_version: StringViewBuilder,
    service_instance_id: StringViewBuilder,
    deployment_environment: StringViewBuilder,
    resource_attributes: StringViewBuilder,
    scope_name: StringViewBuilder,
    scope_version: StringViewBuilder,
    scope_attributes: StringViewBuilder,
    attributes: StringViewBuilder,
    events: EventColumns,
    links: LinkColumns,
    dropped_attributes_count: Int64Builder,
    dropped_events_count: Int64Builder,
    dropped_links_count: Int64Builder,
    schema_url: StringViewBuilder,
    resource_schema_url: StringViewBuilder,
    resource_dropped_attributes_count: Int64Builder,
    scope_dropped_attributes_count: Int64Builder,
}

impl Default for SpanBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SpanBatchBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        // Texts that repeat are stored once a batch, whatever their length.
        let repeated = || StringViewBuilder::new().with_deduplicate_strings();
        Self {
            row_count: 0,
            text_bytes: 0,
            json: String::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            parent_span_id: FixedSizeBinaryBuilder::new(8),
            trace_state: repeated(),
            flags: Int64Builder::new(),
            name: repeated(),
            kind: Int8Builder::new(),
            start_time_unix_nano: Int64Builder::new(),
            duration_nano: Int64Builder::new(),
            status_code: Int8Builder::new(),
            status_message: repeated(),
            service_name: repeated(),
            service_namespace: repeated(),
            service_version: repeated(),
            service_instance_id: repeated(),
            deployment_environment: repeated(),
            resource_attributes: repeated(),
            scope_name: repeated(),
            scope_version: repeated(),
            scope_attributes: repeated(),
            attributes: text_builder(),
            events: EventColumns::new(),
            links: LinkColumns::new(),
            dropped_attributes_count: Int64Builder::new(),
            dropped_events_count: Int64Builder::new(),
            dropped_links_count: Int64Builder::new(),
            schema_url: repeated(),
            resource_schema_url: repeated(),
            resource_dropped_attributes_count: Int64Builder::new(),
            scope_dropped_attributes_count: Int64Builder::new(),
        }
    }

    /// The number of spans collected.
    pub fn len(&self) -> usize {
        self.row_count
    }

    /// Whether no span was collected.
    pub fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// About how much memory the collected spans take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        // 24 views of 16 bytes, the ids and the numbers.
        self.text_bytes + self.row_count * 512
    }

    /// Adds one span.
    pub fn push(&mut self, origin: &Origin, span: &Span) {
        self.row_count += 1;
        append_bytes(&mut self.trace_id, Some(span.trace_id.as_bytes()));
        append_bytes(&mut self.span_id, Some(span.span_id.as_bytes()));
        let parent = span.parent_span_id.as_ref().map(|id| id.as_bytes());
        append_bytes(&mut self.parent_span_id, parent);
        append_text(&mut self.trace_state, &span.trace_state);
        self.flags.append_option(span.flags.map(i64::from));
        self.name.append_value(&span.name);
        self.kind.append_value(span.kind as i8);
        self.start_time_unix_nano
            .append_value(span.start_time_unix_nano);
        self.duration_nano.append_option(span.duration_nano);
        self.status_code.append_value(span.status_code as i8);
        append_text(&mut self.status_message, &span.status_message);
        self.push_origin(origin);
        self.text_bytes += span.name.len() + span.status_message.len() + span.trace_state.len();
        self.text_bytes += append_json(&mut self.attributes, &mut self.json, &span.attributes);
        self.text_bytes += self.events.push(&span.events, &mut self.json);
        self.text_bytes += self.links.push(&span.links, &mut self.json);
        append_count(
            &mut self.dropped_attributes_count,
            span.dropped_attributes_count,
        );
        append_count(&mut self.dropped_events_count, span.dropped_events_count);
        append_count(&mut self.dropped_links_count, span.dropped_links_count);
    }

    fn push_origin(&mut self, origin: &Origin) {
        self.service_name
            .append_option(origin.service_name.as_deref());
        self.service_namespace
            .append_option(origin.service_namespace.as_deref());
        self.service_version
            .append_option(origin.service_version.as_deref());
        self.service_instance_id
            .append_option(origin.service_instance_id.as_deref());
        self.deployment_environment
            .append_option(origin.deployment_environment.as_deref());
        self.resource_attributes
            .append_option(origin.resource_attributes.as_deref());
        self.scope_name.append_option(origin.scope_name.as_deref());
        self.scope_version
            .append_option(origin.scope_version.as_deref());
        self.scope_attributes
            .append_option(origin.scope_attributes.as_deref());
        self.schema_url.append_option(origin.schema_url.as_deref());
        self.resource_schema_url
            .append_option(origin.resource_schema_url.as_deref());
        self.resource_dropped_attributes_count
            .append_option(origin.resource_dropped_attributes_count);
        self.scope_dropped_attributes_count
            .append_option(origin.scope_dropped_attributes_count);
    }

    /// The spans collected, as one batch of the decoded columns; the builder is empty after.
    pub fn finish(&mut self) -> RecordBatch {
        self.row_count = 0;
        self.text_bytes = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.parent_span_id.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.start_time_unix_nano.finish()),
            Arc::new(self.duration_nano.finish()),
            Arc::new(self.status_code.finish()),
            Arc::new(self.status_message.finish()),
            Arc::new(self.service_name.finish()),
            Arc::new(self.service_namespace.finish()),
            Arc::new(self.service_version.finish()),
            Arc::new(self.service_instance_id.finish()),
            Arc::new(self.deployment_environment.finish()),
            Arc::new(self.resource_attributes.finish()),
            Arc::new(self.scope_name.finish()),
            Arc::new(self.scope_version.finish()),
            Arc::new(self.scope_attributes.finish()),
            Arc::new(self.attributes.finish()),
            Arc::new(self.events.finish()),
            Arc::new(self.links.finish()),
            Arc::new(self.dropped_attributes_count.finish()),
            Arc::new(self.dropped_events_count.finish()),
            Arc::new(self.dropped_links_count.finish()),
            Arc::new(self.schema_url.finish()),
            Arc::new(self.resource_schema_url.finish()),
            Arc::new(self.resource_dropped_attributes_count.finish()),
            Arc::new(self.scope_dropped_attributes_count.finish()),
        ];
        RecordBatch::try_new(decoded_schema(), columns)
            .expect("the columns are those of the decoded schema, all as long as the rows pushed")
    }
}

/// Events of all rows, one after another, with the offset at which each row's begin.
#[derive(Debug)]
struct EventColumns {
    lists: ListOffsets,
    time_unix_nano: Int64Builder,
    name: StringViewBuilder,
    attributes: StringViewBuilder,
    dropped_attributes_count: Int64Builder,
}

impl EventColumns {
    fn new() -> Self {
        Self {
            lists: ListOffsets::new(),
            time_unix_nano: Int64Builder::new(),
            name: StringViewBuilder::new().with_deduplicate_strings(),
            attributes: text_builder(),
            dropped_attributes_count: Int64Builder::new(),
        }
    }

    fn push(&mut self, events: &[Event], json: &mut String) -> usize {
        let mut bytes = 0;
        for event in events {
            self.time_unix_nano.append_value(event.time_unix_nano);
            self.name.append_value(&event.name);
            bytes += 64 + append_json(&mut self.attributes, json, &event.attributes);
            append_count(
                &mut self.dropped_attributes_count,
                event.dropped_attributes_count,
            );
        }
        self.lists.push(events.len());
        bytes
    }

    fn finish(&mut self) -> ListArray {
        let fields = event_fields();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.time_unix_nano.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.attributes.finish()),
            Arc::new(self.dropped_attributes_count.finish()),
        ];
        self.lists.finish(StructArray::new(fields, columns, None))
    }
}

/// Links of all rows, one after another, with the offset at which each row's begin.
#[derive(Debug)]
struct LinkColumns {
    lists: ListOffsets,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    trace_state: StringViewBuilder,
    attributes: StringViewBuilder,
    flags: Int64Builder,
    dropped_attributes_count: Int64Builder,
}

impl LinkColumns {
    fn new() -> Self {
        Self {
            lists: ListOffsets::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            trace_state: text_builder(),
            attributes: text_builder(),
            flags: Int64Builder::new(),
            dropped_attributes_count: Int64Builder::new(),
        }
    }

    fn push(&mut self, links: &[Link], json: &mut String) -> usize {
        let mut bytes = 0;
        for link in links {
            append_bytes(&mut self.trace_id, Some(link.trace_id.as_bytes()));
            append_bytes(&mut self.span_id, Some(link.span_id.as_bytes()));
            append_text(&mut self.trace_state, &link.trace_state);
            bytes += 96 + append_json(&mut self.attributes, json, &link.attributes);
            self.flags.append_option(link.flags.map(i64::from));
            append_count(
                &mut self.dropped_attributes_count,
                link.dropped_attributes_count,
            );
        }
        self.lists.push(links.len());
        bytes
    }

    fn finish(&mut self) -> ListArray {
        let fields = link_fields();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.attributes.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.dropped_attributes_count.finish()),
        ];
        self.lists.finish(StructArray::new(fields, columns, None))
    }
}

/// The lengths of a list column's rows; an empty list is NULL.
#[derive(Debug)]
struct ListOffsets {
    lengths: Vec<usize>,
}

impl ListOffsets {
    fn new() -> Self {
        Self {
            lengths: Vec::new(),
        }
    }

    fn push(&mut self, length: usize) {
        self.lengths.push(length);
    }

    fn finish(&mut self, items: StructArray) -> ListArray {
        let lengths = std::mem::take(&mut self.lengths);
        let nulls = lengths
            .iter()
            .map(|length| *length > 0)
            .collect::<Vec<_>>()
            .into();
        let element = Field::new("element", DataType::Struct(items.fields().clone()), false);
        let offsets = OffsetBuffer::from_lengths(lengths);
        ListArray::new(Arc::new(element), offsets, Arc::new(items), Some(nulls))
    }
}

/// A builder for texts that rarely repeat: large blocks, no hashing.
fn text_builder() -> StringViewBuilder {
    StringViewBuilder::new().with_fixed_block_size(1 << 20)
}

fn append_bytes(builder: &mut FixedSizeBinaryBuilder, bytes: Option<impl AsRef<[u8]>>) {
    match bytes {
        Some(bytes) => builder
            .append_value(bytes)
            .expect("ids have the width of their column"),
        None => builder.append_null(),
    }
}

fn append_text(builder: &mut StringViewBuilder, text: &str) {
    builder.append_option((!text.is_empty()).then_some(text));
}

fn append_count(builder: &mut Int64Builder, count: u32) {
    builder.append_option((count > 0).then_some(i64::from(count)));
}

fn append_json(
    builder: &mut StringViewBuilder,
    json: &mut String,
    attributes: &[(String, Value)],
) -> usize {
    if attributes.is_empty() {
        builder.append_null();
        return 0;
    }
    json.clear();
    write_attributes(attributes, json);
    builder.append_value(&json);
    json.len()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::span::{Resource, Scope, SpanId, TraceId, column};

    #[test]
    fn absent_things_are_null_and_present_ones_keep_their_value() {
        let trace_id = TraceId::parse("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let span_id = SpanId::parse("00f067aa0ba902b7").unwrap();
        let resource = Resource {
            attributes: vec![("service.name".into(), Value::String("cart".into()))],
            ..Resource::default()
        };
        let origin = Origin::new(&resource, &Scope::default());
        let mut span = Span::new(trace_id, span_id, 7);
        let mut builder = SpanBatchBuilder::new();
        builder.push(&origin, &span);
        span.events.push(Event {
            name: "e".into(),
            ..Event::default()
        });
        span.attributes.push(("k".into(), Value::Int(1)));
        builder.push(&origin, &span);
        let batch = builder.finish();
        assert_eq!(batch.num_rows(), 2);
        assert!(builder.is_empty());
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string_view().clone();
        assert_eq!(text(column::SERVICE_NAME).value(0), "cart");
        assert!(text(column::ATTRIBUTES).is_null(0));
        assert_eq!(text(column::ATTRIBUTES).value(1), r#"{"k":1}"#);
        let events = batch.column_by_name(column::EVENTS).unwrap();
        assert!(events.is_null(0) && events.is_valid(1));
    }
}
