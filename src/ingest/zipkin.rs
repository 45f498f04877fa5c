//! Zipkin JSON, version 2 (<https://zipkin.io/zipkin-api/>); what is version 1's own is in
//! `zipkin_v1.rs`, what needs more than one span in `zipkin_shared.rs`.
//!
//! Read [`ZipkinDecoder`]. Fields map as OpenTelemetry's translation says
//! (<https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/>, read backwards):
//!
//! - the local endpoint's service → the resource's `service.name`, its address →
//!   `net.host.ip`, `net.host.port`; the remote endpoint → `peer.service`, `net.peer.ip`,
//!   `net.peer.port`; a tag of the same name wins;
//! - annotations → events; tags → attributes, text as Zipkin has it, but types are kept where a
//!   producer sent other JSON;
//! - `otel.status_code`, `otel.status_description`, `otel.scope.*` and `otel.library.*` become
//!   fields; an `error` tag is an error, and its message where it is more than `true`;
//! - a span without a start begins at the epoch and has the attribute
//!   `otel.zipkin.absentField.startTime`; one without a duration has none;
//! - `debug` → the attribute `zipkin.debug`, and the sampled flag.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde::Deserialize;

use super::json_field::{Micros, Object, objects, or_default, parse, value_of_json};
use super::json_place::Place;
use super::tag_rules::{ScopeName, status_of_code, take, take_scope, take_text};
use super::zipkin_shared::{Half, resolve};
use super::zipkin_v1::{self, BinaryAnnotationJson};
use super::{SpanSink, ids};
use crate::error::Result;
use crate::span::{Attributes, Event, Origin, Resource, Scope, Span, SpanKind, StatusCode, Value};

/// How many spans, and how many bytes of their text, are looked at together for the halves of
/// shared spans.
const GROUP_SPANS: usize = 65_536;
const GROUP_BYTES: usize = 64 << 20;

/// Origins remembered at the most.
const MAX_ORIGINS: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpanJson {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) trace_id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) parent_id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) kind: String,
    pub(super) timestamp: Option<Micros>,
    pub(super) duration: Option<Micros>,
    pub(super) local_endpoint: Option<Object<EndpointJson>>,
    pub(super) remote_endpoint: Option<Object<EndpointJson>>,
    #[serde(default, deserialize_with = "objects")]
    pub(super) annotations: Vec<AnnotationJson>,
    pub(super) tags: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) debug: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) shared: bool,
    /// Version 1 only.
    #[serde(default, deserialize_with = "objects")]
    pub(super) binary_annotations: Vec<BinaryAnnotationJson>,
}

#[derive(Deserialize, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointJson {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) service_name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ipv4: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ipv6: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) port: i64,
}

#[derive(Deserialize)]
pub(super) struct AnnotationJson {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) timestamp: Micros,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) value: String,
    /// Version 1 only.
    pub(super) endpoint: Option<Object<EndpointJson>>,
}

/// What one service says of one span: version 2's span, or one side of version 1's.
#[derive(Default)]
pub(super) struct Side {
    pub(super) kind: SpanKind,
    pub(super) start: Option<Micros>,
    pub(super) duration: Option<Micros>,
    pub(super) local: Option<EndpointJson>,
    pub(super) remote: Option<EndpointJson>,
    pub(super) events: Vec<Event>,
    pub(super) tags: Attributes,
    pub(super) is_shared: bool,
}

/// Decodes spans, and holds a group of them back until the halves of shared spans are joined.
#[derive(Default)]
pub(super) struct ZipkinDecoder {
    origins: HashMap<(String, ScopeName), Rc<Origin>>,
    group: Vec<Half>,
    group_bytes: usize,
}

impl ZipkinDecoder {
    /// Decodes one span, of either version.
    pub(super) fn decode_span(
        &mut self,
        place: &mut Place<'_>,
        text: &str,
        sink: &mut dyn SpanSink,
    ) -> Result<()> {
        place.count_span();
        if let Err(reason) = parse::<SpanJson>(text).and_then(|json| self.add(json)) {
            return sink.reject(place.reject_span(text, reason));
        }
        self.group_bytes += text.len();
        if self.group.len() >= GROUP_SPANS || self.group_bytes >= GROUP_BYTES {
            self.flush(sink)?;
        }
        Ok(())
    }

    /// Hands on the spans held back.
    pub(super) fn flush(&mut self, sink: &mut dyn SpanSink) -> Result<()> {
        self.group_bytes = 0;
        resolve(&mut self.group);
        for half in self.group.drain(..) {
            sink.span(&half.origin, &half.span)?;
        }
        Ok(())
    }

    fn add(&mut self, mut json: SpanJson) -> Result<(), String> {
        let mut span = Span::new(
            ids::padded_trace_id(&json.trace_id)?,
            ids::padded_span_id(&json.id)?,
            0,
        );
        span.parent_span_id =
            ids::padded_parent_id(&json.parent_id).map_err(|reason| format!("parent: {reason}"))?;
        // Zipkin's own rule: a span that names itself as parent has none.
        span.parent_span_id = span.parent_span_id.filter(|parent| *parent != span.span_id);
        span.name = std::mem::take(&mut json.name);
        let is_debug = json.debug;
        span.flags = is_debug.then_some(1);
        let sides = if zipkin_v1::is_v1(&json) {
            zipkin_v1::sides(json)?
        } else {
            vec![side(json)]
        };
        let mut halves = Vec::with_capacity(sides.len());
        for side in sides {
            let mut half = self.half(span.clone(), side)?;
            if is_debug {
                half.span
                    .attributes
                    .push(("zipkin.debug".to_string(), Value::Bool(true)));
            }
            halves.push(half);
        }
        self.group.append(&mut halves);
        Ok(())
    }

    fn half(&mut self, mut span: Span, side: Side) -> Result<Half, String> {
        span.kind = side.kind;
        span.start_time_unix_nano = side.start.unwrap_or_default().0;
        span.duration_nano = side.duration.map(|duration| duration.0);
        span.events = side.events;
        let local = side.local.as_ref();
        let service = local
            .map(|local| local.service_name.clone())
            .unwrap_or_default();
        span.attributes = endpoint_attributes(side.local.as_ref(), "host")?;
        if let Some(remote) = &side.remote {
            if !remote.service_name.is_empty() {
                let name = Value::String(remote.service_name.clone());
                span.attributes.push(("peer.service".to_string(), name));
            }
            span.attributes
                .extend(endpoint_attributes(Some(remote), "peer")?);
        }
        span.attributes.extend(side.tags);
        if side.start.is_none() {
            let key = "otel.zipkin.absentField.startTime".to_string();
            span.attributes.push((key, Value::Bool(true)));
        }
        let scope = take_scope(&mut span.attributes);
        if let Some(state) = take_text(&mut span.attributes, "w3c.tracestate") {
            span.trace_state = state;
        }
        if span.kind == SpanKind::Unspecified
            && let Some(kind) = take_text(&mut span.attributes, "span.kind")
        {
            span.kind = SpanKind::from_name(&kind).unwrap_or_default();
        }
        set_status(&mut span);
        let origin = self.origin(&service, scope);
        Ok(Half {
            origin,
            span,
            service,
            is_shared: side.is_shared,
        })
    }

    fn origin(&mut self, service: &str, scope: ScopeName) -> Rc<Origin> {
        let key = (service.to_string(), scope);
        if let Some(origin) = self.origins.get(&key) {
            return Rc::clone(origin);
        }
        let mut resource = Resource::default();
        if !service.is_empty() {
            let name = Value::String(service.to_string());
            resource.attributes.push(("service.name".to_string(), name));
        }
        let (name, version) = key.1.clone();
        let origin = Rc::new(Origin::new(
            &resource,
            &Scope {
                name,
                version,
                ..Scope::default()
            },
        ));
        if self.origins.len() >= MAX_ORIGINS {
            self.origins.clear();
        }
        self.origins.insert(key, Rc::clone(&origin));
        origin
    }
}

fn side(json: SpanJson) -> Side {
    let mut kind = SpanKind::from_name(&json.kind).unwrap_or_default();
    if kind == SpanKind::Unspecified {
        // Some clients of version 2 still write the annotations by which version 1 said it.
        let mut values = json
            .annotations
            .iter()
            .map(|annotation| annotation.value.as_str());
        kind = values
            .find_map(zipkin_v1::kind_of_annotation)
            .unwrap_or_default();
    }
    let tags = json.tags.into_iter().flatten();
    Side {
        kind,
        start: json.timestamp,
        duration: json.duration,
        local: json.local_endpoint.map(|endpoint| endpoint.0),
        remote: json.remote_endpoint.map(|endpoint| endpoint.0),
        events: json
            .annotations
            .into_iter()
            .map(AnnotationJson::into_event)
            .collect(),
        tags: tags
            .map(|(key, value)| (key, value_of_json(value)))
            .collect(),
        is_shared: json.shared && kind == SpanKind::Server,
    }
}

impl AnnotationJson {
    pub(super) fn into_event(self) -> Event {
        Event {
            time_unix_nano: self.timestamp.0,
            name: self.value,
            ..Event::default()
        }
    }
}

fn endpoint_attributes(endpoint: Option<&EndpointJson>, side: &str) -> Result<Attributes, String> {
    let mut attributes = Attributes::new();
    let Some(endpoint) = endpoint else {
        return Ok(attributes);
    };
    let mut addresses = Vec::new();
    for (text, is_v4) in [(&endpoint.ipv4, true), (&endpoint.ipv6, false)] {
        if text.is_empty() {
            continue;
        }
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == is_v4 => addresses.push(text.clone()),
            _ => {
                let shown: String = text.chars().take(64).collect();
                let version = if is_v4 { 4 } else { 6 };
                return Err(format!("malformed IPv{version} address {shown:?}"));
            }
        }
    }
    // A host has one address here; both are rarely given.
    if let Some(address) = addresses.into_iter().next() {
        attributes.push((format!("net.{side}.ip"), Value::String(address)));
    }
    if endpoint.port != 0 {
        attributes.push((format!("net.{side}.port"), Value::Int(endpoint.port)));
    }
    Ok(attributes)
}

fn set_status(span: &mut Span) {
    if let Some(code) = take(&mut span.attributes, "otel.status_code") {
        span.status_code = status_of_code(&code);
    }
    if let Some(message) = take_text(&mut span.attributes, "otel.status_description") {
        span.status_message = message;
    }
    let error = span.attributes.iter().rev().find(|(key, _)| key == "error");
    let message = match error.map(|(_, value)| value) {
        None | Some(Value::Null | Value::Bool(false)) => return,
        Some(Value::String(text)) if text == "false" => return,
        Some(Value::Bool(true)) => String::new(),
        Some(Value::String(text)) if text == "true" => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => String::new(),
    };
    span.status_code = StatusCode::Error;
    if message.is_empty() {
        take(&mut span.attributes, "error");
    } else if span.status_message.is_empty() {
        span.status_message = message;
    }
}
