//! Reads a value back from the JSON that `value.rs` writes.
//!
//! Read [`Value::parse_json`]. It keeps what that writer keeps: integers apart from doubles,
//! every digit, bytes, NaN and the order of keys.

use base64::Engine as _;

use super::json::{list_items, members, unquote};
use super::{Attributes, Value};

/// Levels of nesting that are read; decoders take fewer.
const MAX_DEPTH: usize = 256;

impl Value {
    /// The value that [`Value::write_json`] wrote; `None` for another text.
    pub fn parse_json(json: &str) -> Option<Self> {
        parse(json, MAX_DEPTH)
    }
}

/// As deep as `depth`: the writer's own values are never deeper, and other text ends there.
fn parse(json: &str, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match json.as_bytes().first()? {
        b'n' => Value::Null,
        b't' => Value::Bool(true),
        b'f' => Value::Bool(false),
        b'"' => Value::String(unquote(json).into_owned()),
        b'[' => {
            let items = list_items(json).map(|item| parse(item, depth));
            Value::Array(items.collect::<Option<_>>()?)
        }
        b'{' => parse_object(json, depth)?,
        // A double always has a point or an exponent.
        _ => match json.parse() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Double(json.parse().ok()?),
        },
    })
}

/// Attributes as they were written: all their keys are the sender's own.
pub(super) fn parse_attributes(json: &str) -> Option<Attributes> {
    parse_members(json, MAX_DEPTH)
}

fn parse_members(json: &str, depth: usize) -> Option<Attributes> {
    members(json)
        .map(|(key, value)| Some((unquote(key).into_owned(), parse(value, depth)?)))
        .collect()
}

fn parse_object(json: &str, depth: usize) -> Option<Value> {
    let mut entries = parse_members(json, depth)?;
    let [(key, value)] = &mut entries[..] else {
        return Some(Value::Object(entries));
    };
    match (key.as_str(), &*value) {
        ("$bytes", Value::String(text)) => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .ok()?;
            return Some(Value::Bytes(bytes));
        }
        ("$double", Value::String(text)) => {
            return Some(Value::Double(match text.as_str() {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                _ => return None,
            }));
        }
        _ => {}
    }
    // The sender's own key, which got one `$` more.
    if key.starts_with("$$") {
        key.remove(0);
    }
    Some(Value::Object(entries))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            ".*".prop_map(Value::String),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>()
                .prop_filter("NaN differs from itself", |n| !n.is_nan())
                .prop_map(Value::Double),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        ];
        let key = prop_oneof![
            ".{0,4}",
            Just("$bytes".to_string()),
            Just("$$double".to_string())
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map(key.clone(), inner, 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_again(value in any_value()) {
            let mut json = String::new();
            value.write_json(&mut json);
            prop_assert_eq!(Value::parse_json(&json), Some(value));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\":,$a0-9. ]{0,40}") {
            let _ = Value::parse_json(&text);
        }
    }

    #[test]
    fn nan_and_deep_text_end_well() {
        let nan = Value::parse_json(r#"{"$double":"NaN"}"#);
        assert!(matches!(nan, Some(Value::Double(number)) if number.is_nan()));
        assert_eq!(Value::parse_json(&"[".repeat(100_000)), None);
    }
}
