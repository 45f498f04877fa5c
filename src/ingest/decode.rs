//! The way in: any input, in any format.
//!
//! Read [`decode`].

use std::io::Read;

use super::format::{Encoding, says_json_lines, sniff};
use super::input::{Input, InputError};
use super::json_document::decode_json;
use super::otlp_proto::decode_protobuf;
use super::{Format, Location, Rejection, SpanSink};
use crate::error::Result;

/// How many bytes are looked at to tell the formats apart.
const HEAD_BYTES: usize = 1024;

/// Decodes everything `input` holds, and hands it to `sink`; returns the format found, `None`
/// where the input had nothing in it that tells.
///
/// gzip and zstd are recognized. `format` overrides what is found by the first bytes and keys;
/// `name` helps with its ending. Memory is bounded whatever the size of the input: of JSON one
/// element of the arrays around the spans is held (one resource's spans, one Jaeger trace; at most
/// 128 MiB), of protobuf one message (at most 64 MiB), of Zipkin also up to 65,536 decoded spans,
/// to join shared ones.
///
/// What cannot be decoded is rejected, not an error: a span alone wherever its envelope can be
/// read, else the element, line or message. Errors are those of `input` and of `sink`.
pub fn decode(
    input: impl Read,
    name: &str,
    format: Option<Format>,
    sink: &mut dyn SpanSink,
) -> Result<Option<Format>> {
    let mut input = Input::new(input)?;
    let encoding = match format {
        Some(Format::OtlpProtobuf) => Encoding::Protobuf,
        Some(_) => Encoding::Json,
        None => match input.ensure(HEAD_BYTES) {
            Ok(head) if head.iter().all(u8::is_ascii_whitespace) && head.len() < HEAD_BYTES => {
                return Ok(None);
            }
            Ok(head) => sniff(name, &head[..head.len().min(HEAD_BYTES)]),
            Err(InputError::Source(error)) => return Err(error),
            Err(InputError::Damaged(reason)) => return reject_input(sink, reason),
        },
    };
    match encoding {
        Encoding::Json => decode_json(input, format, says_json_lines(name), sink),
        Encoding::Protobuf => {
            decode_protobuf(input, sink)?;
            Ok(Some(Format::OtlpProtobuf))
        }
        Encoding::Unknown => {
            let reason = "neither JSON nor OTLP protobuf; name the format if it is one";
            reject_input(sink, reason.to_string())
        }
    }
}

fn reject_input(sink: &mut dyn SpanSink, reason: String) -> Result<Option<Format>> {
    sink.reject(Rejection {
        location: Location::Input,
        reason,
        span_count: 0,
    })?;
    Ok(None)
}
