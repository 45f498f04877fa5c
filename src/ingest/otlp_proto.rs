//! OTLP protobuf: one request, or requests each after its length, as the Collector's file
//! exporter writes them.
//!
//! ```text
//! one request   0a <varint length> <ResourceSpans> 0a <varint length> <ResourceSpans> …
//! a stream      <4 bytes, big-endian length> <request> <4 bytes> <request> …
//! ```
//!
//! Read [`decode_protobuf`]. The envelopes are walked by hand down to each span, which prost
//! decodes alone: one piece of the input is in memory, a bad span (invalid UTF-8, too deep)
//! costs no other, and spans are moved and not copied.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{Span as ProtoSpan, span as proto_span};
use prost::Message;

use super::input::{Input, InputError};
use super::otlp_time::{duration_nano, signed_nanos};
use super::{Location, Rejection, SpanSink, ids};
use crate::error::Result;
use crate::span::{
    Attributes, Event, Link, Origin, Resource, Scope, Span, SpanKind, StatusCode, Value,
};

/// The longest piece that is held at once: a message of a stream, or one resource's spans of a
/// request that stands alone. Nothing is allocated for a length beyond it.
const MAX_PIECE_BYTES: u64 = 64 << 20;

/// Decodes requests until the input ends.
pub(super) fn decode_protobuf(mut input: Input<'_>, sink: &mut dyn SpanSink) -> Result<()> {
    let mut requests = Requests {
        sink,
        buffer: Vec::new(),
        spans: 0,
        message: None,
    };
    let outcome = requests.decode(&mut input);
    match outcome {
        Ok(()) => Ok(()),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Broken(location, reason)) => requests.sink.reject(Rejection {
            location,
            reason,
            span_count: 0,
        }),
    }
}

/// Why decoding stops before the end.
enum Stop {
    /// The sink or the caller's reader failed.
    Error(crate::error::Error),
    /// What follows cannot be found.
    Broken(Location, String),
}

impl From<crate::error::Error> for Stop {
    fn from(error: crate::error::Error) -> Self {
        Self::Error(error)
    }
}

struct Requests<'a> {
    sink: &'a mut dyn SpanSink,
    buffer: Vec<u8>,
    /// Spans of the request so far, good and bad.
    spans: u64,
    /// Which message of the stream is decoded; `None` where the request stands alone.
    message: Option<u64>,
}

impl Requests<'_> {
    fn decode(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        let head = input.ensure(4).map_err(|error| stop(error, 0))?;
        match head {
            [] => Ok(()),
            // No tag begins with these: they have field number zero.
            [0..=3, ..] if head.len() >= 4 => self.decode_stream(input),
            _ => self.decode_bare(input),
        }
    }

    fn decode_stream(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        for message in 1u64.. {
            self.message = Some(message);
            self.spans = 0;
            let offset = input.offset();
            let head = input.ensure(4).map_err(|error| stop(error, offset))?;
            let &[a, b, c, d, ..] = head else {
                if head.is_empty() {
                    return Ok(());
                }
                let reason = "the stream ends inside a message's length".to_string();
                return Err(Stop::Broken(Location::Byte(offset), reason));
            };
            let length = u64::from(u32::from_be_bytes([a, b, c, d]));
            if length > MAX_PIECE_BYTES {
                let reason = format!(
                    "a message of {length} bytes exceeds the limit of {MAX_PIECE_BYTES}; \
                     what follows is not read"
                );
                return Err(Stop::Broken(Location::Message(message), reason));
            }
            input.consume(4);
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            input
                .read_up_to(length, &mut buffer)
                .map_err(|error| stop(error, offset))?;
            if (buffer.len() as u64) < length {
                let reason = format!(
                    "the stream ends {} bytes into a message of {length}",
                    buffer.len()
                );
                return Err(Stop::Broken(Location::Message(message), reason));
            }
            let decoded = self.decode_request(&buffer);
            self.buffer = buffer;
            decoded?;
        }
        Ok(())
    }

    /// A message of a stream; one that cannot be walked is left out from there on.
    fn decode_request(&mut self, request: &[u8]) -> Result<()> {
        for field in Fields(request) {
            match field.and_then(|field| field.bytes_of(1)) {
                Ok(Some(bytes)) => self.decode_resource_spans(bytes)?,
                Ok(None) => {}
                Err(reason) => {
                    let location = self.location(0);
                    return self.sink.reject(Rejection {
                        location,
                        reason,
                        span_count: 0,
                    });
                }
            }
        }
        Ok(())
    }

    /// A request that stands alone, of any size, one resource's spans after another.
    fn decode_bare(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        loop {
            let offset = input.offset();
            let broken = |reason: String| Stop::Broken(Location::Byte(offset), reason);
            // A tag and a length, or the whole of a number.
            let head = input.ensure(20).map_err(|error| stop(error, offset))?;
            if head.is_empty() {
                return Ok(());
            }
            let mut rest = head;
            let (number, wire_type) = tag(&mut rest).map_err(broken)?;
            if number != 1 || wire_type != LENGTH_DELIMITED {
                if number == 1 {
                    return Err(broken(wrong_wire_type(number, wire_type)));
                }
                let skipped = unknown_length(wire_type, &mut rest).map_err(broken)?;
                let before = head.len() - rest.len();
                input.consume(before);
                if input.skip(skipped).map_err(|error| stop(error, offset))? < skipped {
                    return Err(broken("the request ends inside a field".to_string()));
                }
                continue;
            }
            let length = varint(&mut rest).map_err(broken)?;
            let before = head.len() - rest.len();
            if length > MAX_PIECE_BYTES {
                let reason = format!(
                    "the spans of one resource take {length} bytes, more than the limit of \
                     {MAX_PIECE_BYTES}; what follows is not read"
                );
                return Err(broken(reason));
            }
            input.consume(before);
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            input
                .read_up_to(length, &mut buffer)
                .map_err(|error| stop(error, offset))?;
            if (buffer.len() as u64) < length {
                let reason = format!(
                    "the request ends {} bytes into the {length} of a resource's spans",
                    buffer.len()
                );
                return Err(broken(reason));
            }
            let decoded = self.decode_resource_spans(&buffer);
            self.buffer = buffer;
            decoded?;
        }
    }

    fn decode_resource_spans(&mut self, bytes: &[u8]) -> Result<()> {
        // The resource may stand behind the spans it belongs to: look for it first.
        let mut resource = ProtoResource::default();
        let mut schema_url = "";
        let mut scopes = Vec::new();
        for field in Fields(bytes) {
            let merged = field.and_then(|field| match field.number {
                1 => field.merge_into(&mut resource),
                2 => field.bytes_of(2).map(|bytes| scopes.extend(bytes)),
                3 => field.text_of(3).map(|text| schema_url = text),
                _ => Ok(()),
            });
            if let Err(reason) = merged {
                return self.reject_part(format!("resource spans: {reason}"));
            }
        }
        let resource = Resource {
            attributes: attributes(resource.attributes),
            dropped_attributes_count: resource.dropped_attributes_count,
            schema_url: schema_url.to_string(),
        };
        for scope in scopes {
            self.decode_scope_spans(scope, &resource)?;
        }
        Ok(())
    }

    fn decode_scope_spans(&mut self, bytes: &[u8], resource: &Resource) -> Result<()> {
        let mut scope = InstrumentationScope::default();
        let mut schema_url = "";
        for field in Fields(bytes) {
            let merged = field.and_then(|field| match field.number {
                1 => field.merge_into(&mut scope),
                2 => field.bytes_of(2).map(drop),
                3 => field.text_of(3).map(|text| schema_url = text),
                _ => Ok(()),
            });
            if let Err(reason) = merged {
                return self.reject_part(format!("scope spans: {reason}"));
            }
        }
        let scope = Scope {
            name: scope.name,
            version: scope.version,
            attributes: attributes(scope.attributes),
            dropped_attributes_count: scope.dropped_attributes_count,
            schema_url: schema_url.to_string(),
        };
        let origin = Origin::new(resource, &scope);
        for field in Fields(bytes) {
            // The fields were all found sound above.
            let Ok(Some(bytes)) = field.and_then(|field| field.bytes_of(2)) else {
                continue;
            };
            self.spans += 1;
            let decoded = ProtoSpan::decode(bytes).map_err(|error| prost_reason(&error));
            match decoded.and_then(span) {
                Ok(span) => self.sink.span(&origin, &span)?,
                Err(reason) => {
                    let location = self.location(self.spans);
                    self.sink.reject(Rejection {
                        location,
                        reason,
                        span_count: 1,
                    })?;
                }
            }
        }
        Ok(())
    }

    fn reject_part(&mut self, reason: String) -> Result<()> {
        let location = self.location(0);
        self.sink.reject(Rejection {
            location,
            reason,
            span_count: 0,
        })
    }

    /// The place of a span of the request, or of the request where `span` is zero.
    fn location(&self, span: u64) -> Location {
        match (self.message, span) {
            (Some(message), 0) => Location::Message(message),
            (Some(message), span) => Location::SpanOfMessage { span, message },
            (None, 0) => Location::Input,
            (None, span) => Location::Span(span),
        }
    }
}

fn stop(error: InputError, offset: u64) -> Stop {
    match error {
        InputError::Source(error) => Stop::Error(error),
        InputError::Damaged(reason) => Stop::Broken(Location::Byte(offset), reason),
    }
}

fn span(proto: ProtoSpan) -> Result<Span, String> {
    let start = signed_nanos(proto.start_time_unix_nano)?;
    let end = signed_nanos(proto.end_time_unix_nano)?;
    let status = proto.status.unwrap_or_default();
    Ok(Span {
        trace_id: ids::trace_id_of_bytes(&proto.trace_id)?,
        span_id: ids::span_id_of_bytes(&proto.span_id)?,
        parent_span_id: ids::parent_id_of_bytes(&proto.parent_span_id)?,
        trace_state: proto.trace_state,
        flags: (proto.flags != 0).then_some(proto.flags),
        name: proto.name,
        kind: SpanKind::from_number(proto.kind.into()),
        start_time_unix_nano: start,
        duration_nano: duration_nano(start, end),
        status_code: StatusCode::from_number(status.code.into()),
        status_message: status.message,
        attributes: attributes(proto.attributes),
        events: proto
            .events
            .into_iter()
            .map(event)
            .collect::<Result<_, _>>()?,
        links: proto
            .links
            .into_iter()
            .map(link)
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?,
        dropped_attributes_count: proto.dropped_attributes_count,
        dropped_events_count: proto.dropped_events_count,
        dropped_links_count: proto.dropped_links_count,
    })
}

fn event(proto: proto_span::Event) -> Result<Event, String> {
    Ok(Event {
        time_unix_nano: signed_nanos(proto.time_unix_nano)?,
        name: proto.name,
        attributes: attributes(proto.attributes),
        dropped_attributes_count: proto.dropped_attributes_count,
    })
}

/// A link without ids points nowhere, and is left out.
fn link(proto: proto_span::Link) -> Result<Option<Link>, String> {
    let nowhere = |id: &[u8]| id.iter().all(|byte| *byte == 0);
    if nowhere(&proto.trace_id) || nowhere(&proto.span_id) {
        return Ok(None);
    }
    Ok(Some(Link {
        trace_id: ids::trace_id_of_bytes(&proto.trace_id)
            .map_err(|reason| format!("link: {reason}"))?,
        span_id: ids::span_id_of_bytes(&proto.span_id)
            .map_err(|reason| format!("link: {reason}"))?,
        trace_state: proto.trace_state,
        attributes: attributes(proto.attributes),
        flags: (proto.flags != 0).then_some(proto.flags),
        dropped_attributes_count: proto.dropped_attributes_count,
    }))
}

fn attributes(proto: Vec<KeyValue>) -> Attributes {
    proto
        .into_iter()
        .map(|entry| (entry.key, entry.value.map_or(Value::Null, value)))
        .collect()
}

/// Recursion is as deep as prost's, which stops at 100 nested messages.
fn value(proto: AnyValue) -> Value {
    match proto.value {
        // An index into a table of strings, which only profiles have.
        None | Some(any_value::Value::StringValueStrindex(_)) => Value::Null,
        Some(any_value::Value::StringValue(text)) => Value::String(text),
        Some(any_value::Value::BoolValue(bit)) => Value::Bool(bit),
        Some(any_value::Value::IntValue(number)) => Value::Int(number),
        Some(any_value::Value::DoubleValue(number)) => Value::Double(number),
        Some(any_value::Value::ArrayValue(list)) => {
            Value::Array(list.values.into_iter().map(value).collect())
        }
        Some(any_value::Value::KvlistValue(list)) => Value::Object(attributes(list.values)),
        Some(any_value::Value::BytesValue(bytes)) => Value::Bytes(bytes),
    }
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

/// The fields of a message, one after another; after an error there are no more.
struct Fields<'a>(&'a [u8]);

/// One field of a message.
struct Field<'a> {
    number: u64,
    wire_type: u8,
    /// What a length-delimited field holds; empty for the others.
    bytes: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<Field<'a>, String> {
        let (number, wire_type) = tag(&mut self.0)?;
        let length = if wire_type == LENGTH_DELIMITED {
            varint(&mut self.0)?
        } else {
            unknown_length(wire_type, &mut self.0)?
        };
        let (bytes, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or_else(|| {
                format!(
                    "field {number} has {length} bytes, but only {} follow",
                    self.0.len()
                )
            })?;
        self.0 = rest;
        Ok(Field {
            number,
            wire_type,
            bytes,
        })
    }
}

impl<'a> Field<'a> {
    /// The field's bytes where it has this number, `None` where it has another.
    fn bytes_of(&self, number: u64) -> Result<Option<&'a [u8]>, String> {
        if self.number != number {
            return Ok(None);
        }
        if self.wire_type != LENGTH_DELIMITED {
            return Err(wrong_wire_type(number, self.wire_type));
        }
        Ok(Some(self.bytes))
    }

    fn merge_into(&self, message: &mut impl Message) -> Result<(), String> {
        let bytes = self.bytes_of(self.number)?.unwrap_or_default();
        message.merge(bytes).map_err(|error| prost_reason(&error))
    }

    fn text_of(&self, number: u64) -> Result<&'a str, String> {
        let bytes = self.bytes_of(number)?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| format!("field {number} is not UTF-8"))
    }
}

/// What prost says, without the path of fields to it where that is long.
fn prost_reason(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    match text.rsplit_once(": ") {
        Some((path, cause)) if path.len() > 120 => {
            format!("failed to decode Protobuf message: {cause}")
        }
        _ => text,
    }
}

fn wrong_wire_type(number: u64, wire_type: u8) -> String {
    format!("field {number} has wire type {wire_type}; this is not an OTLP trace request")
}

fn tag(bytes: &mut &[u8]) -> Result<(u64, u8), String> {
    let tag = varint(bytes)?;
    let number = tag >> 3;
    if number == 0 {
        return Err("field number 0; this is not protobuf".to_string());
    }
    Ok((number, (tag & 7) as u8))
}

/// The bytes a field of that type has after what is read of it here.
fn unknown_length(wire_type: u8, bytes: &mut &[u8]) -> Result<u64, String> {
    match wire_type {
        VARINT => varint(bytes).map(|_| 0),
        FIXED_64 => Ok(8),
        FIXED_32 => Ok(4),
        LENGTH_DELIMITED => varint(bytes),
        other => Err(format!(
            "wire type {other} is not used by OTLP; this is not an OTLP trace request"
        )),
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && *byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(number);
        }
    }
    if bytes.len() < 10 {
        return Err("the message ends inside a number".to_string());
    }
    Err("a variable-length number is longer than 64 bits".to_string())
}
