//! Attributes that are stored as columns of their own: their names and types.
//!
//! Read [`AttributeColumn`]. A key has a column for each type its values have in a file:
//!
//! ```text
//! attributes.http.route                       text
//! attributes.http.response.status_code#int    64-bit integers
//! attributes.ratio#double                     finite doubles
//! attributes.cache.hit#bool                   true and false
//! attributes.tags#json                        all that no other type holds exactly, as JSON
//! ```
//!
//! Which keys are stored so, and how a row is taken apart, is the writer's business.

use std::borrow::Cow;

use arrow::datatypes::{DataType, Field};

use super::json::unquote;
use super::value::{write_double, write_json_string};

/// What the names of the columns of span attributes begin with.
const PREFIX: &str = "attributes.";

/// The type of a column of attribute values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeType {
    /// Strings.
    Text,
    /// 64-bit integers.
    Int,
    /// Finite doubles.
    Double,
    /// Booleans.
    Bool,
    /// Raw JSON: lists, objects, bytes, NaN, null and whatever else is in no other column.
    Json,
}

impl AttributeType {
    /// All of them, in the order of their columns.
    pub const ALL: [Self; 5] = [Self::Text, Self::Int, Self::Double, Self::Bool, Self::Json];

    /// The type that holds a raw JSON value so that exactly its text comes out again.
    pub fn of(raw: &str) -> Self {
        match raw.as_bytes() {
            [b'"', ..] if is_exact_text(raw) => Self::Text,
            b"true" | b"false" => Self::Bool,
            [b'-' | b'0'..=b'9', ..] if exact_int(raw).is_some() => Self::Int,
            [b'-' | b'0'..=b'9', ..] if exact_double(raw).is_some() => Self::Double,
            _ => Self::Json,
        }
    }

    /// The stored type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Json => DataType::Utf8View,
            Self::Int => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Bool => DataType::Boolean,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::Int => "#int",
            Self::Double => "#double",
            Self::Bool => "#bool",
            Self::Json => "#json",
        }
    }
}

/// Whether a JSON string is written as `value.rs` writes it.
fn is_exact_text(raw: &str) -> bool {
    let Some(inner) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) else {
        return false;
    };
    // Without a way out of the loop it is done for many bytes at once.
    let special = |byte: u8| byte < 0x20 || byte == b'\\' || byte == b'"';
    if !inner.bytes().fold(false, |any, byte| any | special(byte)) {
        return true;
    }
    let mut written = String::with_capacity(raw.len());
    write_json_string(&unquote(raw), &mut written);
    written == raw
}

/// The integer that a raw JSON value is, if it is written in the one way that comes out again.
pub fn exact_int(raw: &str) -> Option<i64> {
    match raw.as_bytes() {
        [b'0'] | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => raw.parse().ok(),
        _ => None,
    }
}

/// The finite double that a raw JSON value is, if it is written in the one way that comes out
/// again.
pub fn exact_double(raw: &str) -> Option<f64> {
    // Integers, which are more frequent, are no doubles.
    if !raw.bytes().any(|byte| matches!(byte, b'.' | b'e')) {
        return None;
    }
    let number: f64 = raw.parse().ok()?;
    let mut written = String::with_capacity(raw.len());
    write_double(number, &mut written);
    (number.is_finite() && written == raw).then_some(number)
}

/// A column of the values of one type of one attribute of spans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeColumn {
    /// The attribute's key.
    pub key: String,
    /// The type of its values.
    pub value_type: AttributeType,
}

impl AttributeColumn {
    /// The column's name. Bytes that other readers of the table may trip over are written as
    /// `%` and two hex digits: all but lower-case letters, digits and `.`, `_`, `-`, `/`, `:`.
    /// So two keys never differ in case only, as names of columns may not.
    pub fn name(&self) -> String {
        attribute_column_name(&self.key, self.value_type)
    }

    /// The column with a name, `None` where the name is not one of an attribute.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix(PREFIX)?;
        let (key, suffix) = name.split_at(name.find('#').unwrap_or(name.len()));
        let value_type = AttributeType::ALL
            .into_iter()
            .find(|value_type| value_type.suffix() == suffix)?;
        let key = decode_key(key)?;
        Some(Self { key, value_type })
    }

    /// The column as a field of a file.
    pub fn field(&self) -> Field {
        Field::new(self.name(), self.value_type.data_type(), true)
    }
}

/// The name of the column of `key`'s values of one type.
pub fn attribute_column_name(key: &str, value_type: AttributeType) -> String {
    let suffix = value_type.suffix();
    let mut name = String::with_capacity(PREFIX.len() + key.len() + suffix.len());
    name.push_str(PREFIX);
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/' | b':' => {
                name.push(char::from(byte));
            }
            _ => {
                name.push('%');
                name.push_str(&hex::encode([byte]));
            }
        }
    }
    name.push_str(suffix);
    name
}

fn decode_key(encoded: &str) -> Option<String> {
    if !encoded.contains('%') {
        return Some(encoded.to_owned());
    }
    let mut parts = encoded.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        bytes.extend(hex::decode(digits).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// What SQL makes of a raw JSON value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeOutput {
    /// Text: a string without quotes, anything else as JSON; JSON null is NULL.
    Text,
    /// The JSON itself, typed: `500` is not `"500"`.
    Json,
    /// A number: numbers, and texts that read as one; anything else is NULL.
    Double,
    /// Whether there is a value, JSON null included.
    Exists,
}

impl AttributeOutput {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Text, Self::Json, Self::Double, Self::Exists];

    /// The name of the SQL function with this output.
    pub fn function_name(self) -> &'static str {
        match self {
            Self::Text => "attribute",
            Self::Json => "attribute_json",
            Self::Double => "attribute_double",
            Self::Exists => "attribute_exists",
        }
    }

    /// The output of the function with that name.
    pub fn of_function(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|output| output.function_name() == name)
    }

    /// The Arrow type of the output.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Json => DataType::Utf8View,
            Self::Double => DataType::Float64,
            Self::Exists => DataType::Boolean,
        }
    }
}

/// The number that the text of an attribute reads as, `None` where it is none.
pub fn number_of_text(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A raw JSON value, of the type whose column holds it, as its parts.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue<'a> {
    /// For a column of text.
    Text(Cow<'a, str>),
    /// For a column of integers.
    Int(i64),
    /// For a column of doubles.
    Double(f64),
    /// For a column of booleans.
    Bool(bool),
    /// For a column of raw JSON.
    Json(&'a str),
}

impl<'a> AttributeValue<'a> {
    /// The value that [`AttributeType::of`] says the text is.
    pub fn of(raw: &'a str) -> Self {
        match AttributeType::of(raw) {
            AttributeType::Text => Self::Text(unquote(raw)),
            AttributeType::Bool => Self::Bool(raw == "true"),
            AttributeType::Int => exact_int(raw).map_or(Self::Json(raw), Self::Int),
            AttributeType::Double => exact_double(raw).map_or(Self::Json(raw), Self::Double),
            AttributeType::Json => Self::Json(raw),
        }
    }

    /// Its type.
    pub fn value_type(&self) -> AttributeType {
        match self {
            Self::Text(_) => AttributeType::Text,
            Self::Int(_) => AttributeType::Int,
            Self::Double(_) => AttributeType::Double,
            Self::Bool(_) => AttributeType::Bool,
            Self::Json(_) => AttributeType::Json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_are_read_back_and_never_differ_in_case_only() {
        let keys = [
            "http.route",
            "Http.Route",
            "a#int",
            "a",
            "%41",
            "A",
            "",
            "é",
            "\"\n",
            "a b",
            "attributes",
            "trace_id",
            "a.b#json",
            "x,;{}()=\t",
        ];
        let mut names = std::collections::BTreeSet::new();
        for key in keys {
            for value_type in AttributeType::ALL {
                let column = AttributeColumn {
                    key: key.to_owned(),
                    value_type,
                };
                let name = column.name();
                assert_eq!(AttributeColumn::parse(&name), Some(column), "{name}");
                assert!(names.insert(name.to_lowercase()), "{name}");
            }
        }
        for other in [
            "attributes",
            "attributes#order",
            "name",
            "attributes.a#x",
            "attributes.%4",
        ] {
            assert_eq!(AttributeColumn::parse(other), None, "{other}");
        }
        assert_eq!(
            attribute_column_name("http.route", AttributeType::Text),
            "attributes.http.route"
        );
    }

    #[test]
    fn a_value_has_the_type_whose_text_is_the_same_again() {
        use AttributeType::{Bool, Double, Int, Json, Text};
        for (raw, value_type) in [
            ("\"\"", Text),
            (r#""a\"\\\n\u0001é""#, Text),
            (r#""\u00e9""#, Json),
            ("\"\n\"", Json),
            ("\"a", Json),
            ("\"", Json),
            ("0", Int),
            ("-1", Int),
            ("-0", Json),
            ("01", Json),
            ("9223372036854775807", Int),
            ("-9223372036854775808", Int),
            ("9223372036854775808", Json),
            ("1.0", Double),
            ("-0.0", Double),
            ("1.50", Json),
            ("1e400", Json),
            ("1e300", Double),
            ("1E300", Json),
            ("0.1", Double),
            ("true", Bool),
            ("True", Json),
            ("null", Json),
            ("[1]", Json),
            (r#"{"$double":"NaN"}"#, Json),
            ("", Json),
        ] {
            assert_eq!(AttributeType::of(raw), value_type, "{raw}");
            let value = AttributeValue::of(raw);
            assert_eq!(value.value_type(), value_type);
            let mut written = String::new();
            match value {
                AttributeValue::Text(text) => write_json_string(&text, &mut written),
                AttributeValue::Int(number) => written = number.to_string(),
                AttributeValue::Double(number) => write_double(number, &mut written),
                AttributeValue::Bool(value) => written = value.to_string(),
                AttributeValue::Json(raw) => written = raw.to_owned(),
            }
            assert_eq!(written, raw);
        }
    }
}
