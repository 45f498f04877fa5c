//! What is Zipkin version 1's own: who did what shows in annotations (`cs`, `sr`, …), and both
//! sides of a call may stand in one span.
//!
//! Read [`sides`]. The rules are those by which Zipkin itself turned version 1 into 2
//! (<https://zipkin.io/pages/instrumenting.html>): the annotations of a side give its kind, its
//! endpoint and, where the span has none, its times; `sa` and `ca` name the other side; what
//! carries the endpoint of one side belongs to it.

use serde::Deserialize;

use super::json_field::{Micros, Number, Object, decode_base64, or_default, value_of_json};
use super::zipkin::{AnnotationJson, EndpointJson, Side, SpanJson};
use crate::span::{SpanKind, Value};

#[derive(Deserialize)]
pub(super) struct BinaryAnnotationJson {
    #[serde(default, deserialize_with = "or_default")]
    key: String,
    #[serde(default)]
    value: serde_json::Value,
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: String,
    endpoint: Option<Object<EndpointJson>>,
}

/// Whether the span uses what only version 1 has.
pub(super) fn is_v1(json: &SpanJson) -> bool {
    !json.binary_annotations.is_empty()
        || json
            .annotations
            .iter()
            .any(|annotation| annotation.endpoint.is_some())
}

/// The kind of the side that records an annotation of this name.
pub(super) fn kind_of_annotation(value: &str) -> Option<SpanKind> {
    match value {
        "cs" | "cr" => Some(SpanKind::Client),
        "sr" | "ss" => Some(SpanKind::Server),
        "ms" => Some(SpanKind::Producer),
        "mr" => Some(SpanKind::Consumer),
        _ => None,
    }
}

/// The one or two sides that the span speaks of.
pub(super) fn sides(json: SpanJson) -> Result<Vec<Side>, String> {
    let mut sides: Vec<Side> = Vec::new();
    for annotation in &json.annotations {
        let Some(kind) = kind_of_annotation(&annotation.value) else {
            continue;
        };
        if !sides.iter().any(|side| side.kind == kind) {
            sides.push(side_of_kind(&json, kind));
        }
    }
    // Both sides only where their endpoints say so; else it is one service's view.
    sides.retain_mut(|side| side.kind != SpanKind::Unspecified);
    sides.sort_by_key(|side| (side.kind == SpanKind::Server, side.kind as i8));
    let has_endpoints = sides.iter().all(|side| side.local.is_some());
    sides.truncate(if has_endpoints { 2 } else { 1 });
    if sides.is_empty() {
        sides.push(Side {
            kind: implied_kind(&json),
            ..Side::default()
        });
    }
    let is_alone = sides.len() == 1;
    if !is_alone && sides[1].kind == SpanKind::Server {
        sides[1].is_shared = true;
    }
    if is_alone {
        // Without a flag, a server that gave no start of the span is known to share it.
        sides[0].is_shared = sides[0].kind == SpanKind::Server
            && json.timestamp.is_none()
            && !json.parent_id.is_empty();
    }
    // The span's own times are those of the side that began it.
    sides[0].start = json.timestamp.or(sides[0].start);
    sides[0].duration = json.duration.or(sides[0].duration);
    if sides[0].local.is_none() {
        sides[0].local = any_endpoint(&json);
    }
    for annotation in json.annotations {
        add_event(&mut sides, annotation);
    }
    for annotation in json.binary_annotations {
        add_tag(&mut sides, annotation)?;
    }
    Ok(sides)
}

/// The side with its endpoint and times, as its annotations have them.
fn side_of_kind(json: &SpanJson, kind: SpanKind) -> Side {
    let own = || {
        json.annotations
            .iter()
            .filter(move |annotation| kind_of_annotation(&annotation.value) == Some(kind))
    };
    let first = own().map(|annotation| annotation.timestamp.0).min();
    let last = own().map(|annotation| annotation.timestamp.0).max();
    let duration = match (first, last) {
        (Some(first), Some(last)) if own().count() > 1 => Some(Micros(last.saturating_sub(first))),
        _ => None,
    };
    let local = own().find_map(|annotation| annotation.endpoint.clone());
    Side {
        kind,
        start: first.map(Micros),
        duration,
        local: local.map(|endpoint| endpoint.0),
        ..Side::default()
    }
}

/// Without annotations of a side, the address of the other tells it.
fn implied_kind(json: &SpanJson) -> SpanKind {
    let has = |key: &str| {
        json.binary_annotations
            .iter()
            .any(|annotation| annotation.key == key)
    };
    if has("sa") {
        SpanKind::Client
    } else if has("ca") {
        SpanKind::Server
    } else {
        SpanKind::from_name(&json.kind).unwrap_or_default()
    }
}

fn any_endpoint(json: &SpanJson) -> Option<EndpointJson> {
    let of_tags = json
        .binary_annotations
        .iter()
        .filter(|annotation| !is_address(annotation))
        .filter_map(|annotation| annotation.endpoint.as_ref());
    let of_events = json
        .annotations
        .iter()
        .filter_map(|annotation| annotation.endpoint.as_ref());
    let local = json.local_endpoint.as_ref();
    local
        .into_iter()
        .chain(of_events)
        .chain(of_tags)
        .map(|endpoint| endpoint.0.clone())
        .next()
}

fn add_event(sides: &mut [Side], annotation: AnnotationJson) {
    // What made a side's kind and times is not an event as well.
    if kind_of_annotation(&annotation.value).is_some() {
        return;
    }
    let side = side_at(sides, annotation.endpoint.as_ref());
    side.events.push(annotation.into_event());
}

fn is_address(annotation: &BinaryAnnotationJson) -> bool {
    matches!(annotation.key.as_str(), "sa" | "ca" | "ma") && annotation.endpoint.is_some()
}

fn add_tag(sides: &mut [Side], annotation: BinaryAnnotationJson) -> Result<(), String> {
    if is_address(&annotation) {
        let of_server = annotation.key == "ca";
        let side = sides
            .iter_mut()
            .find(|side| (side.kind == SpanKind::Server) == of_server);
        if let Some(side) = side {
            side.remote = annotation.endpoint.map(|endpoint| endpoint.0);
        }
        return Ok(());
    }
    let value = tag_value(&annotation.kind, annotation.value)
        .map_err(|reason| format!("binary annotation {:?}: {reason}", annotation.key))?;
    // The local component's name is empty where only its endpoint is meant.
    if annotation.key == "lc" && value == Value::String(String::new()) {
        return Ok(());
    }
    side_at(sides, annotation.endpoint.as_ref())
        .tags
        .push((annotation.key, value));
    Ok(())
}

/// The side with this endpoint's service; the first where there is none.
fn side_at<'a>(sides: &'a mut [Side], endpoint: Option<&Object<EndpointJson>>) -> &'a mut Side {
    let index = endpoint.and_then(|endpoint| {
        sides.iter().position(|side| {
            side.local
                .as_ref()
                .is_some_and(|local| local.service_name == endpoint.0.service_name)
        })
    });
    &mut sides[index.unwrap_or(0)]
}

fn tag_value(kind: &str, json: serde_json::Value) -> Result<Value, String> {
    match (kind, json) {
        ("I16" | "I32" | "I64", serde_json::Value::String(text)) => text
            .parse()
            .map(Value::Int)
            .map_err(|_| "not a whole number".to_string()),
        ("DOUBLE", serde_json::Value::Number(number)) => {
            Ok(number.as_f64().map_or(Value::Null, Value::Double))
        }
        ("DOUBLE", serde_json::Value::String(text)) => Number::from_text(&text)
            .map(|number| Value::Double(number.to_double()))
            .ok_or_else(|| "not a number".to_string()),
        ("BYTES", serde_json::Value::String(text)) => decode_base64(&text)
            .map(Value::Bytes)
            .ok_or_else(|| "not base64".to_string()),
        (_, other) => Ok(value_of_json(other)),
    }
}
