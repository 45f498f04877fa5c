//! The type of an attribute's value.

use super::write_json_string;

/// What an attribute holds: the cases of OTLP's `AnyValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ValueType {
    /// Text.
    String = 0,
    /// A 64-bit integer.
    Int = 1,
    /// A double, NaN and infinities included.
    Double = 2,
    /// True or false.
    Bool = 3,
    /// A list.
    Array = 4,
    /// A nested set of attributes.
    Object = 5,
    /// Bytes.
    Bytes = 6,
    /// Nothing: the key is there without a value.
    Null = 7,
}

impl ValueType {
    /// All types, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::String,
        Self::Int,
        Self::Double,
        Self::Bool,
        Self::Array,
        Self::Object,
        Self::Bytes,
        Self::Null,
    ];

    /// The type with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The type of a value in the JSON that [`super::Value::write_json`] writes.
    pub fn of_json(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') | None => Self::String,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            Some(b'[') => Self::Array,
            Some(b'{') if raw.starts_with("{\"$double\":") => Self::Double,
            Some(b'{') if raw.starts_with("{\"$bytes\":") => Self::Bytes,
            Some(b'{') => Self::Object,
            Some(_) if raw.contains(['.', 'e', 'E']) => Self::Double,
            Some(_) => Self::Int,
        }
    }

    /// Appends the JSON of a value of this type, of which SQL shows `text` (nothing of a null): the
    /// same that [`super::Value::write_json`] appends.
    pub fn write_json(self, text: &str, out: &mut String) {
        let mut in_object = |key: &str| {
            out.push_str("{\"");
            out.push_str(key);
            out.push_str("\":");
            write_json_string(text, out);
            out.push('}');
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::String => write_json_string(text, out),
            Self::Bytes => in_object("$bytes"),
            // What no digits say.
            Self::Double if text.ends_with(['N', 'y']) => in_object("$double"),
            Self::Int | Self::Double | Self::Bool | Self::Array | Self::Object => {
                out.push_str(text);
            }
        }
    }

    /// The name as SQL shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Double => "double",
            Self::Bool => "bool",
            Self::Array => "array",
            Self::Object => "object",
            Self::Bytes => "bytes",
            Self::Null => "null",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{Value, render_value};

    #[test]
    fn the_type_is_read_off_the_json() {
        for (value, expected) in [
            (Value::Null, ValueType::Null),
            (Value::String("1.5".into()), ValueType::String),
            (Value::Int(-3), ValueType::Int),
            (Value::Double(1e300), ValueType::Double),
            (Value::Double(f64::NAN), ValueType::Double),
            (Value::Double(f64::NEG_INFINITY), ValueType::Double),
            (Value::String("a\"\n\u{1}".into()), ValueType::String),
            (Value::Array(vec![Value::Int(1)]), ValueType::Array),
            (Value::Bool(false), ValueType::Bool),
            (Value::Array(vec![]), ValueType::Array),
            (Value::Object(vec![]), ValueType::Object),
            (
                Value::Object(vec![("$bytes".into(), Value::Int(1))]),
                ValueType::Object,
            ),
            (Value::Bytes(vec![1]), ValueType::Bytes),
        ] {
            let mut json = String::new();
            value.write_json(&mut json);
            assert_eq!(ValueType::of_json(&json), expected, "{json}");
            assert_eq!(ValueType::from_number(expected as u8), Some(expected));
            let mut again = String::new();
            let text = render_value(&json).unwrap_or_default();
            expected.write_json(&text, &mut again);
            assert_eq!(again, json);
        }
        assert_eq!(ValueType::from_number(8), None);
    }
}
