//! Ids as the wire formats spell them.
//!
//! OTLP has 16 and 8 bytes, in JSON as hex; standard protobuf JSON has base64, whose length and
//! final `=` tell it from hex. Jaeger and Zipkin drop leading zeros, and their 64-bit trace ids
//! are padded on the left.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::span::{SpanId, TraceId};

/// A trace id of OTLP JSON: 32 hex digits, 16 of an older 64-bit id, or the 24 characters of
/// base64.
pub(super) fn otlp_trace_id(text: &str) -> Result<TraceId, String> {
    if text.len() == 24 && text.ends_with("==") {
        return trace_id_of_bytes(&decode_base64(text, "trace id")?);
    }
    if text.is_empty() {
        return Err("trace id is empty".to_string());
    }
    TraceId::parse(text).map_err(|error| error.message().to_string())
}

/// A span id of OTLP JSON: 16 hex digits or the 12 characters of base64.
pub(super) fn otlp_span_id(text: &str) -> Result<SpanId, String> {
    if text.len() == 12 && text.ends_with('=') {
        return span_id_of_bytes(&decode_base64(text, "span id")?);
    }
    if text.is_empty() {
        return Err("span id is empty".to_string());
    }
    SpanId::parse(text).map_err(|error| error.message().to_string())
}

/// The parent's id of OTLP JSON; none where it is empty or zero.
pub(super) fn otlp_parent_id(text: &str) -> Result<Option<SpanId>, String> {
    if text.bytes().all(|byte| byte == b'0') && matches!(text.len(), 0 | 16) {
        return Ok(None);
    }
    if text == "AAAAAAAAAAA=" {
        return Ok(None);
    }
    otlp_span_id(text)
        .map(Some)
        .map_err(|reason| format!("parent: {reason}"))
}

/// A trace id of exactly 16 bytes.
pub(super) fn trace_id_of_bytes(bytes: &[u8]) -> Result<TraceId, String> {
    let Ok(array) = <[u8; 16]>::try_from(bytes) else {
        return Err(format!("trace id has {} bytes; expected 16", bytes.len()));
    };
    TraceId::from_bytes(array).ok_or_else(|| "trace id is all zeros".to_string())
}

/// A span id of exactly 8 bytes.
pub(super) fn span_id_of_bytes(bytes: &[u8]) -> Result<SpanId, String> {
    let Ok(array) = <[u8; 8]>::try_from(bytes) else {
        return Err(format!("span id has {} bytes; expected 8", bytes.len()));
    };
    SpanId::from_bytes(array).ok_or_else(|| "span id is all zeros".to_string())
}

/// The parent's id; none where it is empty or zero.
pub(super) fn parent_id_of_bytes(bytes: &[u8]) -> Result<Option<SpanId>, String> {
    if bytes.is_empty() || bytes == [0; 8] {
        return Ok(None);
    }
    span_id_of_bytes(bytes)
        .map(Some)
        .map_err(|reason| format!("parent: {reason}"))
}

/// A trace id of 1 to 32 hex digits, as Jaeger and Zipkin write it.
pub(super) fn padded_trace_id(text: &str) -> Result<TraceId, String> {
    let digits: [u8; 32] = padded(text, "trace id")?;
    let mut bytes = [0; 16];
    decode_hex(&digits, &mut bytes, text, "trace id")?;
    TraceId::from_bytes(bytes).ok_or_else(|| "trace id is all zeros".to_string())
}

/// A span id of 1 to 16 hex digits, as Jaeger and Zipkin write it.
pub(super) fn padded_span_id(text: &str) -> Result<SpanId, String> {
    padded_parent_id(text)?.ok_or_else(|| {
        let what = if text.is_empty() {
            "empty"
        } else {
            "all zeros"
        };
        format!("span id is {what}")
    })
}

/// The parent's id of up to 16 hex digits; none where it is empty or zero.
pub(super) fn padded_parent_id(text: &str) -> Result<Option<SpanId>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits: [u8; 16] = padded(text, "span id")?;
    let mut bytes = [0; 8];
    decode_hex(&digits, &mut bytes, text, "span id")?;
    Ok(SpanId::from_bytes(bytes))
}

fn padded<const N: usize>(text: &str, what: &str) -> Result<[u8; N], String> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if bytes.len() > N {
        return Err(malformed(text, what, &format!("at most {N} hex digits")));
    }
    let mut digits = [b'0'; N];
    digits[N - bytes.len()..].copy_from_slice(bytes);
    Ok(digits)
}

fn decode_hex(digits: &[u8], out: &mut [u8], text: &str, what: &str) -> Result<(), String> {
    hex::decode_to_slice(digits, out).map_err(|_| malformed(text, what, "hex digits"))
}

fn decode_base64(text: &str, what: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|_| malformed(text, what, "hex digits or base64"))
}

fn malformed(text: &str, what: &str, expected: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    format!("malformed {what} {shown:?}; expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_told_from_hex_by_its_form() {
        let id = otlp_trace_id("O6VWCcPN5JZJzXfR+dzZNg==").unwrap();
        assert_eq!(id.to_string(), "3ba55609c3cde49649cd77d1f9dcd936");
        assert_eq!(
            otlp_span_id("Sc130fnc2TY=").unwrap().to_string(),
            "49cd77d1f9dcd936"
        );
        assert!(otlp_trace_id("!!!!!!!!!!!!!!!!!!!!!!==").is_err());
        for text in [
            "",
            "0102",
            "xyz",
            &"0".repeat(32),
            &"a".repeat(31),
            &"a".repeat(48),
        ] {
            assert!(otlp_trace_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_parent_is_empty_or_zero() {
        for text in ["", "0000000000000000", "AAAAAAAAAAA="] {
            assert_eq!(otlp_parent_id(text).unwrap(), None);
        }
        assert!(otlp_parent_id("--").is_err());
        assert_eq!(parent_id_of_bytes(&[0; 8]).unwrap(), None);
        assert!(parent_id_of_bytes(&[1; 7]).is_err());
        assert_eq!(padded_parent_id("0").unwrap(), None);
    }

    #[test]
    fn short_ids_are_padded_on_the_left() {
        let id = padded_trace_id("1F0").unwrap();
        assert_eq!(id.to_string(), format!("{:0>32}", "1f0"));
        assert_eq!(
            padded_span_id("c26551047c72d19").unwrap().to_string(),
            "0c26551047c72d19"
        );
        for text in ["", "z", "#2", "-1", "+1", &"1".repeat(17), "0"] {
            assert!(padded_span_id(text).is_err(), "{text}");
        }
        assert!(padded_trace_id(&"1".repeat(33)).is_err());
    }
}
