//! Literals of SQL as the stored columns hold them.
//!
//! Read [`stored_literal`].

use arrow::datatypes::TimeUnit;
use datafusion::common::ScalarValue;

use crate::span::{SpanId, SpanKind, StatusCode, TraceId};

/// A literal that meets a logical column.
#[derive(Debug, PartialEq)]
pub(super) enum StoredLiteral {
    /// The stored column's value for it.
    Value(ScalarValue),
    /// No row can hold it.
    Absent,
    /// Cannot be said: the comparison stays one of logical values.
    Unknown,
}

/// What `literal`, compared with the logical column `name`, is in the stored column.
pub(super) fn stored_literal(name: &str, literal: &ScalarValue) -> StoredLiteral {
    use StoredLiteral::{Absent, Unknown, Value};
    if name == "start_time" {
        return match nanos_of(literal) {
            Some(nanos) => Value(ScalarValue::Int64(Some(nanos))),
            None => Unknown,
        };
    }
    let Some(Some(text)) = literal.try_as_str() else {
        return Unknown;
    };
    match name {
        "trace_id" => match TraceId::parse(text) {
            // Only the canonical form is the text that rows show.
            Ok(id) if id.to_string() == text => Value(ScalarValue::FixedSizeBinary(
                16,
                Some(id.as_bytes().to_vec()),
            )),
            Ok(_) => Unknown,
            Err(_) => absent_or_unknown(text),
        },
        "span_id" | "parent_span_id" => match SpanId::parse(text) {
            Ok(id) if id.to_string() == text => Value(ScalarValue::FixedSizeBinary(
                8,
                Some(id.as_bytes().to_vec()),
            )),
            Ok(_) => Unknown,
            Err(_) => absent_or_unknown(text),
        },
        "kind" => match SpanKind::from_name(text) {
            Some(kind) if kind.name() == text => Value(ScalarValue::Int8(Some(kind as i8))),
            _ => Absent,
        },
        "status_code" => match StatusCode::from_name(text) {
            Some(code) if code.name() == text => Value(ScalarValue::Int8(Some(code as i8))),
            _ => Absent,
        },
        _ => Unknown,
    }
}

/// The empty text is what a dashboard sends for a variable that is not set: it equals no id.
fn absent_or_unknown(text: &str) -> StoredLiteral {
    if text.is_empty() {
        StoredLiteral::Absent
    } else {
        StoredLiteral::Unknown
    }
}

/// A time as nanoseconds since the epoch; `None` for NULL, other types and what does not fit.
pub(super) fn nanos_of(literal: &ScalarValue) -> Option<i64> {
    let (value, unit) = match literal {
        ScalarValue::TimestampNanosecond(value, _) => (*value, TimeUnit::Nanosecond),
        ScalarValue::TimestampMicrosecond(value, _) => (*value, TimeUnit::Microsecond),
        ScalarValue::TimestampMillisecond(value, _) => (*value, TimeUnit::Millisecond),
        ScalarValue::TimestampSecond(value, _) => (*value, TimeUnit::Second),
        _ => return None,
    };
    let factor = match unit {
        TimeUnit::Nanosecond => 1,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Second => 1_000_000_000,
    };
    value?.checked_mul(factor)
}

/// The least and greatest id of `width` bytes whose hex starts as a `LIKE` pattern does;
/// `None` where the pattern has no fixed start of hex digits.
pub(super) fn id_prefix_range(pattern: &str, width: i32) -> Option<(ScalarValue, ScalarValue)> {
    let digits = usize::try_from(width).ok()? * 2;
    let fixed = pattern.split(['%', '_']).next()?;
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if fixed.is_empty() || fixed.len() > digits || !fixed.chars().all(is_hex) {
        return None;
    }
    let filled = |fill: &str| {
        let text = format!("{fixed}{}", fill.repeat(digits - fixed.len()));
        let bytes = hex::decode(text).ok()?;
        Some(ScalarValue::FixedSizeBinary(width, Some(bytes)))
    };
    Some((filled("0")?, filled("f")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_spans_the_ids_that_start_with_it() {
        let (low, high) = id_prefix_range("abc%", 8).unwrap();
        let bytes = |hex: &str| ScalarValue::FixedSizeBinary(8, hex::decode(hex).ok());
        assert_eq!(low, bytes("abc0000000000000"));
        assert_eq!(high, bytes("abcfffffffffffff"));
        for pattern in ["%abc", "", "ABC%", "xyz%", "0123456789abcdef0%"] {
            assert_eq!(id_prefix_range(pattern, 8), None, "{pattern}");
        }
    }
}
