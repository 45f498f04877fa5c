//! Jaeger JSON: traces as its UI and API export them, or spans with their process inline.
//!
//! Read [`JaegerDecoder`]. Fields map as OpenTelemetry's translation from Jaeger says
//! (<https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger/>, read backwards):
//!
//! - process → resource, its `serviceName` → `service.name`;
//! - tags keep their type; `span.kind`, `error` (where true), `otel.status_code`,
//!   `otel.status_description`, `otel.scope.*`, `otel.library.*` and `w3c.tracestate` become
//!   fields. Without a status, `http.status_code` decides: 4xx is an error of all but servers;
//! - logs → events named by their `event` field;
//! - the first CHILD_OF to another span of the trace is the parent; without any CHILD_OF the
//!   first FOLLOWS_FROM. All references but that CHILD_OF become links;
//! - warnings → the attribute `jaeger.warnings`; the debug flag → `jaeger.debug`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json_field::{
    Micros, Number, decode_base64, objects, or_default, parse, parse_shallow, value_of_json,
};
use super::json_place::Place;
use super::tag_rules::{ScopeName, status_of_code, take, take_scope, take_text};
use super::{SpanSink, ids};
use crate::error::Result;
use crate::span::{
    Attributes, Event, Link, Origin, Resource, Scope, Span, SpanId, SpanKind, StatusCode, TraceId,
    Value,
};

/// Inline processes remembered at the most.
const MAX_PROCESSES: usize = 1024;

#[derive(Deserialize)]
struct TraceJson<'a> {
    #[serde(rename = "traceID", default, deserialize_with = "or_default")]
    trace_id: String,
    #[serde(borrow)]
    spans: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    processes: Option<HashMap<String, &'a RawValue>>,
}

#[derive(Deserialize)]
struct ProcessJson {
    #[serde(rename = "serviceName", default, deserialize_with = "or_default")]
    service_name: String,
    #[serde(default, deserialize_with = "objects")]
    tags: Vec<TagJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    #[serde(rename = "traceID", default, deserialize_with = "or_default")]
    trace_id: String,
    #[serde(rename = "spanID", default, deserialize_with = "or_default")]
    span_id: String,
    #[serde(rename = "parentSpanID", default, deserialize_with = "or_default")]
    parent_span_id: String,
    #[serde(default, deserialize_with = "or_default")]
    flags: u32,
    #[serde(default, deserialize_with = "or_default")]
    operation_name: String,
    #[serde(default, deserialize_with = "objects")]
    references: Vec<ReferenceJson>,
    #[serde(default, deserialize_with = "or_default")]
    start_time: Micros,
    #[serde(default, deserialize_with = "or_default")]
    duration: Micros,
    #[serde(default, deserialize_with = "objects")]
    tags: Vec<TagJson>,
    #[serde(default, deserialize_with = "objects")]
    logs: Vec<LogJson>,
    #[serde(rename = "processID", default, deserialize_with = "or_default")]
    process_id: String,
    #[serde(borrow)]
    process: Option<&'a RawValue>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferenceJson {
    #[serde(default, deserialize_with = "or_default")]
    ref_type: String,
    #[serde(rename = "traceID", default, deserialize_with = "or_default")]
    trace_id: String,
    #[serde(rename = "spanID", default, deserialize_with = "or_default")]
    span_id: String,
}

#[derive(Deserialize)]
struct TagJson {
    #[serde(default, deserialize_with = "or_default")]
    key: String,
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Deserialize)]
struct LogJson {
    #[serde(default, deserialize_with = "or_default")]
    timestamp: Micros,
    #[serde(default, deserialize_with = "objects")]
    fields: Vec<TagJson>,
}

/// Decodes traces and spans; remembers inline processes, which every span repeats.
#[derive(Default)]
pub(super) struct JaegerDecoder {
    inline: HashMap<String, Process>,
}

/// A process, and the origins of its spans by scope.
#[derive(Default)]
struct Process {
    resource: Resource,
    origins: Vec<(ScopeName, Origin)>,
}

impl JaegerDecoder {
    /// Decodes a trace with its table of processes.
    pub(super) fn decode_trace(
        &mut self,
        place: &mut Place<'_>,
        text: &str,
        sink: &mut dyn SpanSink,
    ) -> Result<()> {
        let trace: TraceJson<'_> = match parse_shallow(text) {
            Ok(trace) => trace,
            Err(reason) => return sink.reject(place.reject(text, format!("trace: {reason}"))),
        };
        let mut processes = HashMap::new();
        for (id, raw) in trace.processes.into_iter().flatten() {
            match Process::parse(raw.get()) {
                Ok(process) => {
                    processes.insert(id, process);
                }
                // Its spans are kept, as if it were missing.
                Err(reason) => sink.reject(place.reject(raw.get(), reason))?,
            }
        }
        for raw in trace.spans.into_iter().flatten() {
            place.count_span();
            self.span(place, raw.get(), &trace.trace_id, &mut processes, sink)?;
        }
        Ok(())
    }

    /// Decodes a span that stands alone.
    pub(super) fn decode_span(
        &mut self,
        place: &mut Place<'_>,
        text: &str,
        sink: &mut dyn SpanSink,
    ) -> Result<()> {
        place.count_span();
        self.span(place, text, "", &mut HashMap::new(), sink)
    }

    fn span(
        &mut self,
        place: &Place<'_>,
        text: &str,
        trace_id: &str,
        processes: &mut HashMap<String, Process>,
        sink: &mut dyn SpanSink,
    ) -> Result<()> {
        let decoded = parse::<SpanJson<'_>>(text).and_then(|mut json| {
            if json.trace_id.is_empty() {
                json.trace_id = trace_id.to_string();
            }
            let (id, inline) = (std::mem::take(&mut json.process_id), json.process.take());
            let (span, scope) = span_of(json)?;
            let process = match inline {
                Some(raw) => self.inline_process(raw.get())?,
                None => processes.entry(id).or_default(),
            };
            Ok((process.origin(scope), span))
        });
        match decoded {
            Ok((origin, span)) => sink.span(origin, &span),
            Err(reason) => sink.reject(place.reject_span(text, reason)),
        }
    }

    fn inline_process(&mut self, text: &str) -> Result<&mut Process, String> {
        if !self.inline.contains_key(text) {
            if self.inline.len() >= MAX_PROCESSES {
                self.inline.clear();
            }
            self.inline.insert(text.to_string(), Process::parse(text)?);
        }
        Ok(self.inline.entry(text.to_string()).or_default())
    }
}

impl Process {
    fn parse(text: &str) -> Result<Self, String> {
        let json: ProcessJson = parse(text).map_err(|reason| format!("process: {reason}"))?;
        let mut attributes = Attributes::with_capacity(json.tags.len() + 1);
        if !json.service_name.is_empty() {
            attributes.push(("service.name".to_string(), Value::String(json.service_name)));
        }
        attributes.extend(json.tags.into_iter().map(TagJson::into_attribute));
        let resource = Resource {
            attributes,
            ..Resource::default()
        };
        Ok(Self {
            resource,
            origins: Vec::new(),
        })
    }

    fn origin(&mut self, scope: ScopeName) -> &Origin {
        let found = self.origins.iter().position(|(known, _)| *known == scope);
        let index = found.unwrap_or_else(|| {
            let (name, version) = scope.clone();
            let origin = Origin::new(
                &self.resource,
                &Scope {
                    name,
                    version,
                    ..Scope::default()
                },
            );
            self.origins.push((scope, origin));
            self.origins.len() - 1
        });
        &self.origins[index].1
    }
}

fn span_of(json: SpanJson<'_>) -> Result<(Span, ScopeName), String> {
    let trace_id = ids::padded_trace_id(&json.trace_id)?;
    let span_id = ids::padded_span_id(&json.span_id)?;
    let mut span = Span::new(trace_id, span_id, json.start_time.0);
    span.duration_nano = Some(json.duration.0);
    span.name = json.operation_name;
    span.flags = (json.flags & 1 != 0).then_some(1);
    span.attributes = json.tags.into_iter().map(TagJson::into_attribute).collect();
    let scope = take_scope(&mut span.attributes);
    if let Some(Value::String(state)) = take(&mut span.attributes, "w3c.tracestate") {
        span.trace_state = state;
    }
    if let Some(kind) = take_text(&mut span.attributes, "span.kind") {
        span.kind = SpanKind::from_name(&kind).unwrap_or_default();
    }
    set_status(&mut span);
    span.events = json.logs.into_iter().map(LogJson::into_event).collect();
    set_references(&mut span, json.references)?;
    if span.parent_span_id.is_none() && span.links.is_empty() {
        let parent = ids::padded_parent_id(&json.parent_span_id);
        span.parent_span_id = parent.map_err(|reason| format!("parent: {reason}"))?;
    }
    if json.flags & 2 != 0 {
        span.attributes
            .push(("jaeger.debug".to_string(), Value::Bool(true)));
    }
    let warnings: Vec<Value> = json
        .warnings
        .into_iter()
        .flatten()
        .map(Value::String)
        .collect();
    if !warnings.is_empty() {
        span.attributes
            .push(("jaeger.warnings".to_string(), Value::Array(warnings)));
    }
    Ok((span, scope))
}

fn set_status(span: &mut Span) {
    let is_error = match span.attributes.iter().rev().find(|(key, _)| key == "error") {
        Some((_, Value::Bool(bit))) => *bit,
        Some((_, Value::String(text))) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    if is_error {
        take(&mut span.attributes, "error");
        span.status_code = StatusCode::Error;
    }
    let code = take(&mut span.attributes, "otel.status_code");
    let is_explicit = code.is_some();
    if let Some(explicit) = code.as_ref().map(status_of_code)
        && explicit != StatusCode::Unset
    {
        span.status_code = explicit;
    }
    if let Some(message) = take_text(&mut span.attributes, "otel.status_description") {
        span.status_message = message;
    }
    let http = span
        .attributes
        .iter()
        .rev()
        .find(|(key, _)| key == "http.status_code");
    let http = match http.map(|(_, value)| value) {
        Some(Value::Int(number)) => Some(*number),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    if let Some(http) = http
        && span.status_code == StatusCode::Unset
        && !is_explicit
        && is_http_error(http, span.kind)
    {
        span.status_code = StatusCode::Error;
    }
    if span.status_code == StatusCode::Error && span.status_message.is_empty() {
        let message = span
            .attributes
            .iter()
            .rev()
            .find(|(key, _)| key == "http.status_message");
        if let Some((_, Value::String(message))) = message {
            span.status_message.clone_from(message);
        }
    }
}

/// OpenTelemetry's rule for HTTP spans: a server is not at fault for what it answers with 4xx.
/// What is not an HTTP status at all is an error.
fn is_http_error(status: i64, kind: SpanKind) -> bool {
    match status {
        100..=399 => false,
        400..=499 => kind != SpanKind::Server,
        _ => true,
    }
}

fn set_references(span: &mut Span, references: Vec<ReferenceJson>) -> Result<(), String> {
    let references = references
        .into_iter()
        .map(|reference| Reference::new(reference, span.trace_id))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|reason| format!("reference: {reason}"))?;
    let is_other = |reference: &&Reference| {
        reference.trace_id == span.trace_id && reference.span_id != span.span_id
    };
    let child_of = references
        .iter()
        .position(|reference| !reference.is_follows_from && is_other(&reference));
    span.parent_span_id = match child_of {
        Some(index) => Some(references[index].span_id),
        None if references.iter().all(|reference| reference.is_follows_from) => references
            .iter()
            .find(is_other)
            .map(|reference| reference.span_id),
        None => None,
    };
    let others = references
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != child_of);
    span.links = others.map(|(_, reference)| reference.to_link()).collect();
    Ok(())
}

struct Reference {
    is_follows_from: bool,
    trace_id: TraceId,
    span_id: SpanId,
}

impl Reference {
    fn new(json: ReferenceJson, own_trace: TraceId) -> Result<Self, String> {
        let trace_id = if json.trace_id.is_empty() {
            own_trace
        } else {
            ids::padded_trace_id(&json.trace_id)?
        };
        Ok(Self {
            is_follows_from: json.ref_type.eq_ignore_ascii_case("FOLLOWS_FROM"),
            trace_id,
            span_id: ids::padded_span_id(&json.span_id)?,
        })
    }

    fn to_link(&self) -> Link {
        let kind = if self.is_follows_from {
            "follows_from"
        } else {
            "child_of"
        };
        Link {
            trace_id: self.trace_id,
            span_id: self.span_id,
            trace_state: String::new(),
            attributes: vec![(
                "opentracing.ref_type".to_string(),
                Value::String(kind.to_string()),
            )],
            flags: None,
            dropped_attributes_count: 0,
        }
    }
}

impl LogJson {
    fn into_event(self) -> Event {
        let mut attributes: Attributes = self
            .fields
            .into_iter()
            .map(TagJson::into_attribute)
            .collect();
        let name = take_text(&mut attributes, "event").unwrap_or_default();
        Event {
            time_unix_nano: self.timestamp.0,
            name,
            attributes,
            dropped_attributes_count: 0,
        }
    }
}

impl TagJson {
    /// The tag by its declared type; a value that is not of that type keeps its own.
    fn into_attribute(self) -> (String, Value) {
        let value = match (self.kind.to_ascii_lowercase().as_str(), self.value) {
            ("bool", serde_json::Value::String(text)) => match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::String(text),
            },
            ("int64", serde_json::Value::String(text)) => text
                .parse()
                .map_or_else(|_| Value::String(text), Value::Int),
            ("float64", serde_json::Value::String(text)) => match Number::from_text(&text) {
                Some(number) => Value::Double(number.to_double()),
                None => Value::String(text),
            },
            ("float64", serde_json::Value::Number(number)) => {
                number.as_f64().map_or(Value::Null, Value::Double)
            }
            ("binary", serde_json::Value::String(text)) => {
                decode_base64(&text).map_or_else(|| Value::String(text), Value::Bytes)
            }
            (_, other) => value_of_json(other),
        };
        (self.key, value)
    }
}
