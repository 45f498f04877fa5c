//! OTLP JSON (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).
//!
//! Read [`decode_resource_spans`]. Envelopes are taken apart down to the raw text of each span,
//! so that a bad span costs no other. Accepted beyond the specification: base64 ids, 64-bit
//! trace ids of 16 digits, names of enums, the fields' original names, and the
//! `instrumentationLibrarySpans` and `batches` of older producers. Unknown fields are ignored,
//! null is the default.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json_field::{
    Double, Object, Whole, decode_base64, objects, or_default, parse, parse_shallow,
};
use super::json_place::Place;
use super::otlp_time::{duration_nano, signed_nanos};
use super::{SpanSink, ids};
use crate::error::Result;
use crate::span::{
    Attributes, Event, Link, Origin, Resource, Scope, Span, SpanId, SpanKind, StatusCode, TraceId,
    Value,
};

/// The keys under which a request holds its resource spans.
pub(super) const TOP_LEVEL_KEYS: [&str; 3] = ["resourceSpans", "resource_spans", "batches"];

#[derive(Deserialize)]
struct RequestJson<'a> {
    #[serde(borrow, rename = "resourceSpans", alias = "resource_spans")]
    resource_spans: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    batches: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpansJson<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, alias = "scope_spans")]
    scope_spans: Option<Vec<&'a RawValue>>,
    #[serde(borrow, alias = "instrumentation_library_spans")]
    instrumentation_library_spans: Option<Vec<&'a RawValue>>,
    #[serde(borrow, alias = "schema_url")]
    schema_url: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeSpansJson<'a> {
    #[serde(
        borrow,
        alias = "instrumentationLibrary",
        alias = "instrumentation_library"
    )]
    scope: Option<&'a RawValue>,
    #[serde(borrow)]
    spans: Option<Vec<&'a RawValue>>,
    #[serde(borrow, alias = "schema_url")]
    schema_url: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ResourceJson {
    #[serde(default, deserialize_with = "attributes")]
    attributes: Attributes,
    #[serde(
        default,
        rename = "droppedAttributesCount",
        alias = "dropped_attributes_count"
    )]
    #[serde(deserialize_with = "count")]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
struct ScopeJson {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    version: String,
    #[serde(default, deserialize_with = "attributes")]
    attributes: Attributes,
    #[serde(
        default,
        rename = "droppedAttributesCount",
        alias = "dropped_attributes_count"
    )]
    #[serde(deserialize_with = "count")]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson {
    #[serde(default, alias = "trace_id", deserialize_with = "trace_id")]
    trace_id: Option<TraceId>,
    #[serde(default, alias = "span_id", deserialize_with = "span_id")]
    span_id: Option<SpanId>,
    #[serde(default, alias = "parent_span_id", deserialize_with = "parent_id")]
    parent_span_id: Option<SpanId>,
    #[serde(default, alias = "trace_state", deserialize_with = "or_default")]
    trace_state: String,
    #[serde(default, deserialize_with = "count")]
    flags: u32,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "kind")]
    kind: SpanKind,
    #[serde(default, alias = "start_time_unix_nano", deserialize_with = "time")]
    start_time_unix_nano: i64,
    #[serde(default, alias = "end_time_unix_nano", deserialize_with = "time")]
    end_time_unix_nano: i64,
    #[serde(default, deserialize_with = "attributes")]
    attributes: Attributes,
    #[serde(default, deserialize_with = "objects")]
    events: Vec<EventJson>,
    #[serde(default, deserialize_with = "objects")]
    links: Vec<LinkJson>,
    status: Option<Object<StatusJson>>,
    #[serde(
        default,
        alias = "dropped_attributes_count",
        deserialize_with = "count"
    )]
    dropped_attributes_count: u32,
    #[serde(default, alias = "dropped_events_count", deserialize_with = "count")]
    dropped_events_count: u32,
    #[serde(default, alias = "dropped_links_count", deserialize_with = "count")]
    dropped_links_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventJson {
    #[serde(default, alias = "time_unix_nano", deserialize_with = "time")]
    time_unix_nano: i64,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "attributes")]
    attributes: Attributes,
    #[serde(
        default,
        alias = "dropped_attributes_count",
        deserialize_with = "count"
    )]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkJson {
    #[serde(default, alias = "trace_id", deserialize_with = "link_trace_id")]
    trace_id: Option<TraceId>,
    #[serde(default, alias = "span_id", deserialize_with = "parent_id")]
    span_id: Option<SpanId>,
    #[serde(default, alias = "trace_state", deserialize_with = "or_default")]
    trace_state: String,
    #[serde(default, deserialize_with = "attributes")]
    attributes: Attributes,
    #[serde(default, deserialize_with = "count")]
    flags: u32,
    #[serde(
        default,
        alias = "dropped_attributes_count",
        deserialize_with = "count"
    )]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
struct StatusJson {
    #[serde(default, deserialize_with = "or_default")]
    message: String,
    #[serde(default, deserialize_with = "status_code")]
    code: StatusCode,
}

#[derive(Deserialize)]
struct KeyValueJson {
    #[serde(default, deserialize_with = "or_default")]
    key: String,
    value: Option<AnyValueJson>,
}

#[derive(Deserialize)]
struct ListJson<T> {
    values: Option<Vec<T>>,
}

/// Decodes a whole request whose text is at hand.
pub(super) fn decode_request(
    place: &mut Place<'_>,
    text: &str,
    sink: &mut dyn SpanSink,
) -> Result<()> {
    let request: RequestJson<'_> = match parse_shallow(text) {
        Ok(request) => request,
        Err(reason) => return sink.reject(place.reject(text, reason)),
    };
    let batches = request.resource_spans.into_iter().chain(request.batches);
    for part in batches.flatten() {
        decode_resource_spans(place, part.get(), sink)?;
    }
    Ok(())
}

/// Decodes the spans of one resource.
pub(super) fn decode_resource_spans(
    place: &mut Place<'_>,
    text: &str,
    sink: &mut dyn SpanSink,
) -> Result<()> {
    let envelope: ResourceSpansJson<'_> = match parse_shallow(text) {
        Ok(envelope) => envelope,
        Err(reason) => return sink.reject(place.reject(text, format!("resource spans: {reason}"))),
    };
    let resource = match resource(&envelope) {
        Ok(resource) => resource,
        Err(reason) => return sink.reject(place.reject(text, format!("resource: {reason}"))),
    };
    let scopes = envelope
        .scope_spans
        .into_iter()
        .chain(envelope.instrumentation_library_spans);
    for part in scopes.flatten() {
        decode_scope_spans(place, part.get(), &resource, sink)?;
    }
    Ok(())
}

fn decode_scope_spans(
    place: &mut Place<'_>,
    text: &str,
    resource: &Resource,
    sink: &mut dyn SpanSink,
) -> Result<()> {
    let envelope: ScopeSpansJson<'_> = match parse_shallow(text) {
        Ok(envelope) => envelope,
        Err(reason) => return sink.reject(place.reject(text, format!("scope spans: {reason}"))),
    };
    let scope = match scope(&envelope) {
        Ok(scope) => scope,
        Err(reason) => return sink.reject(place.reject(text, format!("scope: {reason}"))),
    };
    let origin = Origin::new(resource, &scope);
    for raw in envelope.spans.into_iter().flatten() {
        place.count_span();
        match parse::<SpanJson>(raw.get()).and_then(Span::try_from) {
            Ok(span) => sink.span(&origin, &span)?,
            Err(reason) => sink.reject(place.reject_span(raw.get(), reason))?,
        }
    }
    Ok(())
}

fn resource(envelope: &ResourceSpansJson<'_>) -> Result<Resource, String> {
    let mut resource = Resource::default();
    if let Some(raw) = envelope.resource {
        let json: ResourceJson = parse(raw.get())?;
        resource.attributes = json.attributes;
        resource.dropped_attributes_count = json.dropped_attributes_count;
    }
    resource.schema_url = envelope
        .schema_url
        .as_deref()
        .unwrap_or_default()
        .to_string();
    Ok(resource)
}

fn scope(envelope: &ScopeSpansJson<'_>) -> Result<Scope, String> {
    let mut scope = Scope::default();
    if let Some(raw) = envelope.scope {
        let json: ScopeJson = parse(raw.get())?;
        scope.name = json.name;
        scope.version = json.version;
        scope.attributes = json.attributes;
        scope.dropped_attributes_count = json.dropped_attributes_count;
    }
    scope.schema_url = envelope
        .schema_url
        .as_deref()
        .unwrap_or_default()
        .to_string();
    Ok(scope)
}

impl TryFrom<SpanJson> for Span {
    type Error = String;

    fn try_from(json: SpanJson) -> Result<Self, String> {
        let links = json
            .links
            .into_iter()
            .filter_map(LinkJson::into_link)
            .collect();
        let status = json.status.map(|status| status.0);
        let (status_code, status_message) = status
            .map(|status| (status.code, status.message))
            .unwrap_or_default();
        Ok(Self {
            trace_id: json.trace_id.ok_or("trace id is missing")?,
            span_id: json.span_id.ok_or("span id is missing")?,
            parent_span_id: json.parent_span_id,
            trace_state: json.trace_state,
            flags: (json.flags != 0).then_some(json.flags),
            name: json.name,
            kind: json.kind,
            start_time_unix_nano: json.start_time_unix_nano,
            duration_nano: duration_nano(json.start_time_unix_nano, json.end_time_unix_nano),
            status_code,
            status_message,
            attributes: json.attributes,
            events: json.events.into_iter().map(EventJson::into_event).collect(),
            links,
            dropped_attributes_count: json.dropped_attributes_count,
            dropped_events_count: json.dropped_events_count,
            dropped_links_count: json.dropped_links_count,
        })
    }
}

impl EventJson {
    fn into_event(self) -> Event {
        Event {
            time_unix_nano: self.time_unix_nano,
            name: self.name,
            attributes: self.attributes,
            dropped_attributes_count: self.dropped_attributes_count,
        }
    }
}

impl LinkJson {
    /// A link without ids points nowhere, and is left out.
    fn into_link(self) -> Option<Link> {
        Some(Link {
            trace_id: self.trace_id?,
            span_id: self.span_id?,
            trace_state: self.trace_state,
            attributes: self.attributes,
            flags: (self.flags != 0).then_some(self.flags),
            dropped_attributes_count: self.dropped_attributes_count,
        })
    }
}

/// An `AnyValue`; the last field set wins, none set is null.
struct AnyValueJson(Value);

impl<'de> Deserialize<'de> for AnyValueJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyValueVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum AnyValueField {
    #[serde(alias = "string_value")]
    StringValue,
    #[serde(alias = "bool_value")]
    BoolValue,
    #[serde(alias = "int_value")]
    IntValue,
    #[serde(alias = "double_value")]
    DoubleValue,
    #[serde(alias = "array_value")]
    ArrayValue,
    #[serde(alias = "kvlist_value")]
    KvlistValue,
    #[serde(alias = "bytes_value")]
    BytesValue,
    #[serde(other)]
    Unknown,
}

struct AnyValueVisitor;

impl<'de> Visitor<'de> for AnyValueVisitor {
    type Value = AnyValueJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value such as {\"stringValue\": …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValueJson, A::Error> {
        let mut value = Value::Null;
        while let Some(field) = map.next_key::<AnyValueField>()? {
            let found = match field {
                AnyValueField::StringValue => {
                    map.next_value::<Option<String>>()?.map(Value::String)
                }
                AnyValueField::BoolValue => map.next_value::<Option<bool>>()?.map(Value::Bool),
                AnyValueField::IntValue => match map.next_value::<Option<Whole>>()? {
                    Some(whole) => Some(Value::Int(
                        whole.get("intValue").map_err(de::Error::custom)?,
                    )),
                    None => None,
                },
                AnyValueField::DoubleValue => map
                    .next_value::<Option<Double>>()?
                    .map(|double| Value::Double(double.0)),
                AnyValueField::ArrayValue => map
                    .next_value::<Option<Object<ListJson<AnyValueJson>>>>()?
                    .map(|list| array_value(list.0)),
                AnyValueField::KvlistValue => map
                    .next_value::<Option<Object<ListJson<Object<KeyValueJson>>>>>()?
                    .map(|list| Value::Object(entries(list.0.values))),
                AnyValueField::BytesValue => match map.next_value::<Option<Cow<'de, str>>>()? {
                    Some(text) => {
                        Some(Value::Bytes(decode_base64(&text).ok_or_else(|| {
                            de::Error::custom("bytesValue is not base64")
                        })?))
                    }
                    None => None,
                },
                AnyValueField::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            if let Some(found) = found {
                value = found;
            }
        }
        Ok(AnyValueJson(value))
    }
}

fn array_value(list: ListJson<AnyValueJson>) -> Value {
    Value::Array(
        list.values
            .into_iter()
            .flatten()
            .map(|item| item.0)
            .collect(),
    )
}

fn entries(list: Option<Vec<Object<KeyValueJson>>>) -> Attributes {
    let entry = |Object(json): Object<KeyValueJson>| {
        (json.key, json.value.map_or(Value::Null, |value| value.0))
    };
    list.into_iter().flatten().map(entry).collect()
}

fn attributes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
    Option::<Vec<Object<KeyValueJson>>>::deserialize(deserializer).map(entries)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = Option::<Whole>::deserialize(deserializer)?.unwrap_or_default();
    number.get("count").map_err(de::Error::custom)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = Option::<Whole>::deserialize(deserializer)?.unwrap_or_default();
    number
        .get("time")
        .and_then(signed_nanos)
        .map_err(de::Error::custom)
}

fn trace_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceId>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|text| ids::otlp_trace_id(&text))
        .transpose()
        .map_err(de::Error::custom)
}

/// Unlike a span's, a link's trace id may be empty.
fn link_trace_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceId>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    let text = text.filter(|text| !text.bytes().all(|byte| byte == b'0'));
    text.map(|text| ids::otlp_trace_id(&text))
        .transpose()
        .map_err(de::Error::custom)
}

fn span_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SpanId>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|text| ids::otlp_span_id(&text))
        .transpose()
        .map_err(de::Error::custom)
}

fn parent_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SpanId>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?.unwrap_or_default();
    ids::otlp_parent_id(&text).map_err(de::Error::custom)
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SpanKind, D::Error> {
    match Option::<EnumJson<'de>>::deserialize(deserializer)? {
        None => Ok(SpanKind::default()),
        Some(EnumJson::Number(number)) => Ok(SpanKind::from_number(number)),
        Some(EnumJson::Name(name)) => SpanKind::from_name(&name)
            .ok_or_else(|| de::Error::unknown_variant(&name, &["SPAN_KIND_…"])),
    }
}

fn status_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    match Option::<EnumJson<'de>>::deserialize(deserializer)? {
        None => Ok(StatusCode::default()),
        Some(EnumJson::Number(number)) => Ok(StatusCode::from_number(number)),
        Some(EnumJson::Name(name)) => StatusCode::from_name(&name)
            .ok_or_else(|| de::Error::unknown_variant(&name, &["STATUS_CODE_…"])),
    }
}

/// A value of an enum, by number or by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum EnumJson<'a> {
    Number(i64),
    Name(#[serde(borrow)] Cow<'a, str>),
}
