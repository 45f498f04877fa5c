//! Writes OTLP requests, JSON and protobuf, for generated workloads and round trips.
//!
//! Read [`encode_otlp_json`] and [`encode_otlp_proto`].

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as ProtoSpan, Status, span as proto_span,
};
use prost::Message;

use crate::span::{self, Attributes, Event, Link, Resource, Scope, Span, StatusCode, Value};

/// Appends one `ExportTraceServiceRequest` to `out`, without a length before it.
pub fn encode_otlp_proto(
    resource: &Resource,
    scope_spans: &[(Scope, Vec<Span>)],
    out: &mut Vec<u8>,
) {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(ProtoResource {
                attributes: key_values(&resource.attributes),
                dropped_attributes_count: resource.dropped_attributes_count,
                ..ProtoResource::default()
            }),
            scope_spans: scope_spans
                .iter()
                .map(|(scope, spans)| proto_scope(scope, spans))
                .collect(),
            schema_url: resource.schema_url.clone(),
        }],
    };
    request
        .encode(out)
        .expect("a growing vector has room for any message");
}

/// The deepest nesting of lists and key-value lists that readers of protobuf take: they stop at a
/// hundred messages within each other, and a key-value list is three of them.
const PROTO_NESTING: usize = 30;

/// Whether readers of protobuf take these spans: JSON may hold values that are nested deeper.
pub fn fits_otlp_proto(resources: &[span::ResourceSpans]) -> bool {
    fn fits(attributes: &Attributes) -> bool {
        let mut values = attributes.iter().map(|(_, value)| value);
        values.all(|value| value.nesting() <= PROTO_NESTING)
    }
    let span_fits = |span: &Span| {
        fits(&span.attributes)
            && span.events.iter().all(|event| fits(&event.attributes))
            && span.links.iter().all(|link| fits(&link.attributes))
    };
    resources.iter().all(|(resource, scopes)| {
        let scope_fits = |(scope, spans): &(Scope, Vec<Span>)| {
            fits(&scope.attributes) && spans.iter().all(span_fits)
        };
        fits(&resource.attributes) && scopes.iter().all(scope_fits)
    })
}

fn proto_scope(scope: &Scope, spans: &[Span]) -> ScopeSpans {
    ScopeSpans {
        scope: Some(InstrumentationScope {
            name: scope.name.clone(),
            version: scope.version.clone(),
            attributes: key_values(&scope.attributes),
            dropped_attributes_count: scope.dropped_attributes_count,
        }),
        spans: spans.iter().map(proto_of_span).collect(),
        schema_url: scope.schema_url.clone(),
    }
}

fn proto_of_span(span: &Span) -> ProtoSpan {
    let has_status = span.status_code != StatusCode::Unset || !span.status_message.is_empty();
    ProtoSpan {
        trace_id: span.trace_id.as_bytes().to_vec(),
        span_id: span.span_id.as_bytes().to_vec(),
        parent_span_id: span
            .parent_span_id
            .map(|id| id.as_bytes().to_vec())
            .unwrap_or_default(),
        trace_state: span.trace_state.clone(),
        flags: span.flags.unwrap_or_default(),
        name: span.name.clone(),
        kind: span.kind as i32,
        start_time_unix_nano: unsigned(span.start_time_unix_nano),
        end_time_unix_nano: end_time(span),
        attributes: key_values(&span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.iter().map(proto_of_event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: span.links.iter().map(proto_of_link).collect(),
        dropped_links_count: span.dropped_links_count,
        status: has_status.then(|| Status {
            message: span.status_message.clone(),
            code: span.status_code as i32,
        }),
    }
}

fn proto_of_event(event: &Event) -> proto_span::Event {
    proto_span::Event {
        time_unix_nano: unsigned(event.time_unix_nano),
        name: event.name.clone(),
        attributes: key_values(&event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn proto_of_link(link: &Link) -> proto_span::Link {
    proto_span::Link {
        trace_id: link.trace_id.as_bytes().to_vec(),
        span_id: link.span_id.as_bytes().to_vec(),
        trace_state: link.trace_state.clone(),
        attributes: key_values(&link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
        flags: link.flags.unwrap_or_default(),
    }
}

fn key_values(attributes: &Attributes) -> Vec<KeyValue> {
    let entry = |(key, value): &(String, Value)| KeyValue {
        key: key.clone(),
        value: Some(any_value(value)),
        ..KeyValue::default()
    };
    attributes.iter().map(entry).collect()
}

fn any_value(value: &Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::String(text) => Some(any_value::Value::StringValue(text.clone())),
        Value::Bool(bit) => Some(any_value::Value::BoolValue(*bit)),
        Value::Int(number) => Some(any_value::Value::IntValue(*number)),
        Value::Double(number) => Some(any_value::Value::DoubleValue(*number)),
        Value::Array(items) => Some(any_value::Value::ArrayValue(ArrayValue {
            values: items.iter().map(any_value).collect(),
        })),
        Value::Object(entries) => Some(any_value::Value::KvlistValue(KeyValueList {
            values: key_values(entries),
        })),
        Value::Bytes(bytes) => Some(any_value::Value::BytesValue(bytes.clone())),
    };
    AnyValue { value }
}

/// OTLP has no times before 1970; they become 1970.
fn unsigned(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or_default()
}

fn end_time(span: &Span) -> u64 {
    let end = |duration| span.start_time_unix_nano.saturating_add(duration);
    span.duration_nano
        .map_or(0, |duration| unsigned(end(duration)))
}

/// Appends one `ExportTraceServiceRequest` to `out`, as an object without line breaks. 64-bit
/// integers are quoted and ids are hex, as OTLP's JSON encoding has them.
pub fn encode_otlp_json(resource: &Resource, scope_spans: &[(Scope, Vec<Span>)], out: &mut String) {
    write_otlp_json(&[(resource, scope_spans)], out);
}

/// Appends one request that holds the spans of several resources.
pub fn encode_otlp_json_all(resources: &[span::ResourceSpans], out: &mut String) {
    let borrowed: Vec<_> = resources
        .iter()
        .map(|(resource, scope_spans)| (resource, &scope_spans[..]))
        .collect();
    write_otlp_json(&borrowed, out);
}

/// The spans of a resource, by scope, that somebody else has.
type BorrowedSpans<'a> = (&'a Resource, &'a [(Scope, Vec<Span>)]);

fn write_otlp_json(resources: &[BorrowedSpans<'_>], out: &mut String) {
    let mut json = JsonWriter { out, first: true };
    json.object(|json| {
        json.key("resourceSpans")
            .array(resources.len(), |json, index| {
                let (resource, scope_spans) = resources[index];
                json.object(|json| {
                    json.key("resource").object(|json| {
                        json.attributes(&resource.attributes);
                        json.count("droppedAttributesCount", resource.dropped_attributes_count);
                    });
                    json.key("scopeSpans")
                        .array(scope_spans.len(), |json, index| {
                            let (scope, spans) = &scope_spans[index];
                            json.scope_spans(scope, spans);
                        });
                    json.text("schemaUrl", &resource.schema_url);
                });
            });
    });
}

/// Writes JSON without spaces; fields that hold a default are left out.
struct JsonWriter<'a> {
    out: &'a mut String,
    /// Whether no field of the object at hand was written yet.
    first: bool,
}

impl JsonWriter<'_> {
    fn scope_spans(&mut self, scope: &Scope, spans: &[Span]) {
        self.object(|json| {
            json.key("scope").object(|json| {
                json.text("name", &scope.name);
                json.text("version", &scope.version);
                json.attributes(&scope.attributes);
                json.count("droppedAttributesCount", scope.dropped_attributes_count);
            });
            json.key("spans")
                .array(spans.len(), |json, index| json.span(&spans[index]));
            json.text("schemaUrl", &scope.schema_url);
        });
    }

    fn span(&mut self, span: &Span) {
        self.object(|json| {
            json.text("traceId", &span.trace_id.to_string());
            json.text("spanId", &span.span_id.to_string());
            if let Some(parent) = span.parent_span_id {
                json.text("parentSpanId", &parent.to_string());
            }
            json.text("traceState", &span.trace_state);
            json.count("flags", span.flags.unwrap_or_default());
            json.text("name", &span.name);
            json.count("kind", u32::from(span.kind as i8 as u8));
            json.text(
                "startTimeUnixNano",
                &unsigned(span.start_time_unix_nano).to_string(),
            );
            json.text("endTimeUnixNano", &end_time(span).to_string());
            json.attributes(&span.attributes);
            json.count("droppedAttributesCount", span.dropped_attributes_count);
            if !span.events.is_empty() {
                json.key("events")
                    .array(span.events.len(), |json, i| json.event(&span.events[i]));
            }
            json.count("droppedEventsCount", span.dropped_events_count);
            if !span.links.is_empty() {
                json.key("links")
                    .array(span.links.len(), |json, i| json.link(&span.links[i]));
            }
            json.count("droppedLinksCount", span.dropped_links_count);
            json.key("status").object(|json| {
                json.text("message", &span.status_message);
                json.count("code", u32::from(span.status_code as i8 as u8));
            });
        });
    }

    fn event(&mut self, event: &Event) {
        self.object(|json| {
            json.text("timeUnixNano", &unsigned(event.time_unix_nano).to_string());
            json.text("name", &event.name);
            json.attributes(&event.attributes);
            json.count("droppedAttributesCount", event.dropped_attributes_count);
        });
    }

    fn link(&mut self, link: &Link) {
        self.object(|json| {
            json.text("traceId", &link.trace_id.to_string());
            json.text("spanId", &link.span_id.to_string());
            json.text("traceState", &link.trace_state);
            json.attributes(&link.attributes);
            json.count("flags", link.flags.unwrap_or_default());
            json.count("droppedAttributesCount", link.dropped_attributes_count);
        });
    }

    fn attributes(&mut self, attributes: &Attributes) {
        if !attributes.is_empty() {
            self.key("attributes").entries(attributes);
        }
    }

    fn entries(&mut self, entries: &Attributes) {
        self.array(entries.len(), |json, index| {
            let (key, value) = &entries[index];
            json.object(|json| {
                json.key("key").string(key);
                json.key("value").value(value);
            });
        });
    }

    fn value(&mut self, value: &Value) {
        self.object(|json| match value {
            Value::Null => {}
            Value::String(text) => json.key("stringValue").string(text),
            Value::Bool(bit) => json
                .key("boolValue")
                .raw(if *bit { "true" } else { "false" }),
            Value::Int(number) => json.key("intValue").string(&number.to_string()),
            Value::Double(number) if number.is_nan() => json.key("doubleValue").raw("\"NaN\""),
            Value::Double(f64::INFINITY) => json.key("doubleValue").raw("\"Infinity\""),
            Value::Double(f64::NEG_INFINITY) => json.key("doubleValue").raw("\"-Infinity\""),
            Value::Double(number) => json.key("doubleValue").raw(&format!("{number:?}")),
            Value::Array(items) => json.key("arrayValue").object(|json| {
                json.key("values")
                    .array(items.len(), |json, index| json.value(&items[index]));
            }),
            Value::Object(entries) => json.key("kvlistValue").object(|json| {
                json.key("values").entries(entries);
            }),
            Value::Bytes(bytes) => json
                .key("bytesValue")
                .string(&base64::engine::general_purpose::STANDARD.encode(bytes)),
        });
    }

    fn object(&mut self, fields: impl FnOnce(&mut JsonWriter<'_>)) {
        self.out.push('{');
        fields(&mut JsonWriter {
            out: self.out,
            first: true,
        });
        self.out.push('}');
    }

    fn array(&mut self, length: usize, mut item: impl FnMut(&mut JsonWriter<'_>, usize)) {
        self.out.push('[');
        for index in 0..length {
            if index > 0 {
                self.out.push(',');
            }
            item(
                &mut JsonWriter {
                    out: self.out,
                    first: true,
                },
                index,
            );
        }
        self.out.push(']');
    }

    fn key(&mut self, key: &str) -> &mut Self {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.string(key);
        self.out.push(':');
        self
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.key(key).string(text);
        }
    }

    fn count(&mut self, key: &str, count: u32) {
        if count > 0 {
            self.key(key).raw(&count.to_string());
        }
    }

    fn raw(&mut self, token: &str) {
        self.out.push_str(token);
    }

    fn string(&mut self, text: &str) {
        let quoted = serde_json::to_string(text).expect("any text can be a JSON string");
        self.out.push_str(&quoted);
    }
}
