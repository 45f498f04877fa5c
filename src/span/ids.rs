//! Trace and span ids: bytes inside, lower-case hex outside.
//!
//! Read [`TraceId`] and [`SpanId`]. Whether an id is *known* is not decided here.

use std::fmt;

use crate::error::{Error, Result};

/// A trace id: 16 bytes, not all zero, written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// A span id: 8 bytes, not all zero, written as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// The id with these bytes, or `None` where all are zero, which OTLP calls invalid.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Reads 32 hex digits in either case, or 16, which are padded with zeros on the left
    /// as Jaeger and Zipkin do for 64-bit ids.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let mut id = [0u8; 16];
        let parsed = match bytes.len() {
            32 => hex::decode_to_slice(bytes, &mut id).is_ok(),
            16 => hex::decode_to_slice(bytes, &mut id[8..]).is_ok(),
            _ => false,
        };
        if !parsed {
            return Err(malformed("trace id", text, "32 or 16 hex digits"));
        }
        Self::from_bytes(id).ok_or_else(|| {
            Error::invalid_input("trace id is all zeros, which OpenTelemetry calls invalid")
        })
    }

    /// The bytes, in the order of the text.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SpanId {
    /// The id with these bytes, or `None` where all are zero, which OTLP calls invalid.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// Reads 16 hex digits in either case.
    pub fn parse(text: &str) -> Result<Self> {
        let mut id = [0u8; 8];
        if text.len() != 16 || hex::decode_to_slice(text.as_bytes(), &mut id).is_err() {
            return Err(malformed("span id", text, "16 hex digits"));
        }
        Self::from_bytes(id).ok_or_else(|| {
            Error::invalid_input("span id is all zeros, which OpenTelemetry calls invalid")
        })
    }

    /// The bytes, in the order of the text.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// Names a malformed id, cut so that a megabyte of garbage does not become the message.
fn malformed(what: &str, text: &str, wanted: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    Error::invalid_input(format!(
        "malformed {what} {shown:?}{cut}; expected {wanted}"
    ))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_either_case_and_written_in_lower() {
        let id = TraceId::parse("ABCDEF0123456789abcdef0123456789").unwrap();
        assert_eq!(id.to_string(), "abcdef0123456789abcdef0123456789");
        assert_eq!(
            SpanId::parse("00F067AA0BA902B7").unwrap().to_string(),
            "00f067aa0ba902b7"
        );
    }

    #[test]
    fn sixteen_digit_trace_ids_are_padded_on_the_left() {
        let id = TraceId::parse("a3ce929d0e0e4736").unwrap();
        assert_eq!(id.to_string(), "0000000000000000a3ce929d0e0e4736");
    }

    #[test]
    fn malformed_and_zero_ids_are_named_in_the_error() {
        for text in [
            "",
            "xyz",
            "0123",
            &"g".repeat(32),
            &"0".repeat(32),
            &"0".repeat(16),
        ] {
            assert!(TraceId::parse(text).is_err(), "{text:?}");
        }
        let error = TraceId::parse(&"x".repeat(1 << 20)).unwrap_err();
        assert!(error.message().len() < 200);
    }
}
