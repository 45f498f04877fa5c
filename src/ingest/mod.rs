//! Stub.
use std::fmt;
use std::str::FromStr;

use crate::span::{Resource, Scope, Span};
use crate::{Error, Result};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OTLP/JSON.
    OtlpJson,
    /// OTLP/protobuf.
    OtlpProtobuf,
    /// Jaeger JSON.
    Jaeger,
    /// Zipkin JSON.
    Zipkin,
}

impl Format {
    /// All.
    pub const ALL: [Self; 4] = [
        Self::OtlpJson,
        Self::OtlpProtobuf,
        Self::Jaeger,
        Self::Zipkin,
    ];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtlpJson => "otlp-json",
            Self::OtlpProtobuf => "otlp-proto",
            Self::Jaeger => "jaeger",
            Self::Zipkin => "zipkin",
        })
    }
}

impl FromStr for Format {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.to_string() == text)
            .ok_or_else(|| Error::invalid_input(format!("unknown format `{text}`")))
    }
}

/// Something skipped.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Where.
    pub location: String,
    /// Why.
    pub reason: String,
    /// Spans lost.
    pub span_count: u64,
}

/// One request as JSON.
pub fn encode_otlp_json(_: &Resource, _: &[(Scope, Vec<Span>)], out: &mut String) {
    out.push_str("{}");
}

/// One request as protobuf.
pub fn encode_otlp_proto(_: &Resource, _: &[(Scope, Vec<Span>)], _: &mut Vec<u8>) {}
