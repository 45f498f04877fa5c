//! An attribute's value, and how a set of attributes is written as JSON.
//!
//! Read [`Value`]. Reading the JSON back is `json.rs`.

use std::fmt::Write as _;

use base64::Engine as _;

/// The value of an attribute: OTLP's `AnyValue`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// An `AnyValue` with nothing set.
    #[default]
    Null,
    /// Text.
    String(String),
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A double, NaN and infinities included.
    Double(f64),
    /// A list of values of any types.
    Array(Vec<Value>),
    /// A nested set of attributes.
    Object(Vec<(String, Value)>),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// How deep lists and key-value lists are nested in it: not at all in a plain value.
    pub fn nesting(&self) -> usize {
        let inner = match self {
            Self::Array(items) => items.iter().map(Self::nesting).max(),
            Self::Object(entries) => entries.iter().map(|(_, value)| value.nesting()).max(),
            _ => return 0,
        };
        1 + inner.unwrap_or_default()
    }

    /// Appends the value as JSON, losing nothing: integers keep every digit, a double always
    /// carries a point or an exponent, `{"$double": "NaN"}` and `{"$bytes": "<base64>"}` hold
    /// what JSON cannot. An object of the sender's own whose only key starts with `$` gets one
    /// more `$`, so that it is never mistaken for those.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::String(text) => write_json_string(text, out),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Int(number) => {
                let _ = write!(out, "{number}");
            }
            Self::Double(number) => write_double(*number, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                // A key that stands twice is written once.
                let escape = entries.first().is_some_and(|(first, _)| {
                    first.starts_with('$') && entries.iter().all(|(key, _)| key == first)
                });
                write_object(entries, if escape { "$" } else { "" }, out);
            }
            Self::Bytes(bytes) => {
                out.push_str("{\"$bytes\":\"");
                base64::engine::general_purpose::STANDARD.encode_string(bytes, out);
                out.push_str("\"}");
            }
        }
    }
}

/// Appends attributes as one JSON object, in their order; of a key that stands twice the last
/// value is written, at the place of the first.
pub(super) fn write_attributes(attributes: &[(String, Value)], out: &mut String) {
    write_object(attributes, "", out);
}

fn write_object(entries: &[(String, Value)], key_prefix: &str, out: &mut String) {
    let last_of = LastOccurrence::of(entries);
    out.push('{');
    let mut first = true;
    for (index, (key, _)) in entries.iter().enumerate() {
        let Some(value) = last_of.value(entries, index) else {
            continue;
        };
        if !first {
            out.push(',');
        }
        first = false;
        if key_prefix.is_empty() {
            write_json_string(key, out);
        } else {
            write_json_string(&format!("{key_prefix}{key}"), out);
        }
        out.push(':');
        value.write_json(out);
    }
    out.push('}');
}

/// Which entry's value is written at each place.
enum LastOccurrence {
    Unique,
    /// For each entry the index of the last with its key, `None` where it is not the first.
    Repeated(Vec<Option<usize>>),
}

impl LastOccurrence {
    fn of(entries: &[(String, Value)]) -> Self {
        // Nearly all sets are small and have no duplicate: comparing pairs beats hashing.
        let unique = if entries.len() <= 24 {
            (1..entries.len()).all(|i| entries[..i].iter().all(|(key, _)| *key != entries[i].0))
        } else {
            let mut seen = std::collections::HashSet::with_capacity(entries.len());
            entries.iter().all(|(key, _)| seen.insert(key))
        };
        if unique {
            return Self::Unique;
        }
        let mut first_of = std::collections::HashMap::with_capacity(entries.len());
        let mut order = vec![None; entries.len()];
        for (index, (key, _)) in entries.iter().enumerate() {
            let first = *first_of.entry(key.as_str()).or_insert(index);
            order[first] = Some(index);
        }
        Self::Repeated(order)
    }

    fn value<'a>(&self, entries: &'a [(String, Value)], index: usize) -> Option<&'a Value> {
        match self {
            Self::Unique => Some(&entries[index].1),
            Self::Repeated(order) => order[index].map(|last| &entries[last].1),
        }
    }
}

/// Appends a double as JSON, as [`Value::write_json`] does.
pub fn write_double(number: f64, out: &mut String) {
    if number.is_finite() {
        // Debug, unlike Display, keeps a point or an exponent: 1.0 stays a double.
        let _ = write!(out, "{number:?}");
    } else {
        let name = if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        let _ = write!(out, "{{\"$double\":\"{name}\"}}");
    }
}

/// Appends text as a JSON string.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain_from..index]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain_from = index + 1;
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value) -> String {
        let mut out = String::new();
        value.write_json(&mut out);
        out
    }

    #[test]
    fn every_type_keeps_its_type() {
        let cases: [(Value, &str); 9] = [
            (Value::Null, "null"),
            (Value::String("a\"\n\u{1}\\é".into()), r#""a\"\n\u0001\\é""#),
            (Value::Int(i64::MAX), "9223372036854775807"),
            (Value::Double(1.0), "1.0"),
            (Value::Double(f64::NAN), r#"{"$double":"NaN"}"#),
            (
                Value::Double(f64::NEG_INFINITY),
                r#"{"$double":"-Infinity"}"#,
            ),
            (Value::Bytes(vec![1, 2, 255]), r#"{"$bytes":"AQL/"}"#),
            (
                Value::Array(vec![Value::Int(1), Value::Bool(true)]),
                "[1,true]",
            ),
            (
                Value::Object(vec![("$bytes".into(), Value::Int(1))]),
                r#"{"$$bytes":1}"#,
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(json(&value), expected);
        }
    }

    #[test]
    fn the_last_of_duplicate_keys_wins_at_the_first_place() {
        let entries = vec![
            ("a".to_string(), Value::Int(1)),
            ("b".to_string(), Value::Int(2)),
            ("a".to_string(), Value::Int(3)),
        ];
        let mut out = String::new();
        write_attributes(&entries, &mut out);
        assert_eq!(out, r#"{"a":3,"b":2}"#);
    }
}
