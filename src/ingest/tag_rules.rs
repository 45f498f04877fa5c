//! What OpenTelemetry's exporters put into tags of Jaeger and Zipkin, taken out again
//! (<https://opentelemetry.io/docs/specs/otel/common/mapping-to-non-otlp/>).

use crate::span::{Attributes, StatusCode, Value};

/// The name and version of a scope.
pub(super) type ScopeName = (String, String);

/// Removes every entry of `key`; the last value.
pub(super) fn take(attributes: &mut Attributes, key: &str) -> Option<Value> {
    let mut found = None;
    while let Some(index) = attributes.iter().rposition(|(name, _)| name == key) {
        let (_, value) = attributes.remove(index);
        found.get_or_insert(value);
    }
    found
}

/// Like [`take`], where the value is text; other values stay.
pub(super) fn take_text(attributes: &mut Attributes, key: &str) -> Option<String> {
    let last = attributes.iter().rev().find(|(name, _)| name == key);
    if !matches!(last, Some((_, Value::String(_)))) {
        return None;
    }
    match take(attributes, key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Removes the tags that name the scope, in their current or their older form.
pub(super) fn take_scope(attributes: &mut Attributes) -> ScopeName {
    let mut either = |current, older| {
        let older = take_text(attributes, older);
        take_text(attributes, current).or(older).unwrap_or_default()
    };
    (
        either("otel.scope.name", "otel.library.name"),
        either("otel.scope.version", "otel.library.version"),
    )
}

/// The status of an `otel.status_code` tag, by number or name.
pub(super) fn status_of_code(value: &Value) -> StatusCode {
    match value {
        Value::Int(number) => StatusCode::from_number(*number),
        Value::String(text) => text
            .parse()
            .map(StatusCode::from_number)
            .ok()
            .or_else(|| StatusCode::from_name(text))
            .unwrap_or_default(),
        _ => StatusCode::Unset,
    }
}
