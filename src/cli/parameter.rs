//! Values for a query's placeholders, as `--param` gives them.
//!
//! Read [`parse`]. A value without a type is an integer, a decimal number or a boolean only if it
//! is written exactly as one; everything else is text, so that ids made of digits stay whole.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;

/// A placeholder's name, without `$`, and its value.
pub(crate) type Parameter = (String, ScalarValue);

const USAGE: &str = "use name=value or name:type=value, \
    where type is text, int, float, bool, timestamp or null";

/// Reads `name=value` or `name:type=value`.
pub(crate) fn parse(text: &str) -> Result<Parameter, String> {
    let (name, value) = text.split_once('=').ok_or(USAGE)?;
    let (name, data_type) = match name.split_once(':') {
        Some((name, data_type)) => (name, Some(data_type)),
        None => (name, None),
    };
    let name = name.trim().trim_start_matches('$');
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(USAGE.to_string());
    }
    let value = match data_type {
        None => guess(value),
        Some(data_type) => typed(value, &data_type.trim().to_ascii_lowercase())?,
    };
    Ok((name.to_string(), value))
}

/// A placeholder with a text, whatever that looks like.
pub(crate) fn text(name: &str, value: &str) -> Parameter {
    (name.to_string(), ScalarValue::Utf8(Some(value.to_string())))
}

fn guess(value: &str) -> ScalarValue {
    match value {
        "true" => return ScalarValue::Boolean(Some(true)),
        "false" => return ScalarValue::Boolean(Some(false)),
        _ => {}
    }
    if let Ok(integer) = value.parse::<i64>()
        && integer.to_string() == value
    {
        return ScalarValue::Int64(Some(integer));
    }
    // Without a point it may be an id: `12e4567890123456` is a span's.
    if value.contains('.')
        && value.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && let Ok(number) = value.parse::<f64>()
    {
        return ScalarValue::Float64(Some(number));
    }
    ScalarValue::Utf8(Some(value.to_string()))
}

fn typed(value: &str, data_type: &str) -> Result<ScalarValue, String> {
    let wrong = |what: &str| format!("`{value}` is no {what}");
    match data_type {
        "text" | "string" | "varchar" => Ok(ScalarValue::Utf8(Some(value.to_string()))),
        "int" | "integer" | "bigint" => value
            .parse()
            .map(|integer| ScalarValue::Int64(Some(integer)))
            .map_err(|_| wrong("integer of 64 bits")),
        "float" | "double" => value
            .parse()
            .map(|number| ScalarValue::Float64(Some(number)))
            .map_err(|_| wrong("number")),
        "bool" | "boolean" => match value.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(ScalarValue::Boolean(Some(true))),
            "false" | "f" | "0" => Ok(ScalarValue::Boolean(Some(false))),
            _ => Err(wrong("boolean; use true or false")),
        },
        "timestamp" | "time" => {
            let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
            ScalarValue::try_from_string(value.to_string(), &timestamp)
                .map_err(|_| wrong("time; use a form such as 2026-11-22T13:00:00Z"))
        }
        "null" => Ok(ScalarValue::Null),
        _ => Err(USAGE.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> ScalarValue {
        parse(text).expect("the parameter is well formed").1
    }

    #[test]
    fn a_value_is_a_number_only_if_written_exactly_as_one() {
        let text = |value: &str| ScalarValue::Utf8(Some(value.to_string()));
        for (parameter, expected) in [
            ("n=42", ScalarValue::Int64(Some(42))),
            ("n=-7", ScalarValue::Int64(Some(-7))),
            ("n=0.5", ScalarValue::Float64(Some(0.5))),
            ("n=-1.5e3", ScalarValue::Float64(Some(-1500.0))),
            ("n=true", ScalarValue::Boolean(Some(true))),
            ("n=", text("")),
            ("n=a=b", text("a=b")),
            ("n=007", text("007")),
            ("n=1.2.3", text("1.2.3")),
            ("n=.inf", text(".inf")),
            // Ids, which look like numbers now and then.
            (
                "n=12345678901234567890123456789012",
                text("12345678901234567890123456789012"),
            ),
            ("n=12e4567890123456", text("12e4567890123456")),
        ] {
            assert_eq!(value(parameter), expected, "{parameter}");
        }
    }

    #[test]
    fn a_named_type_wins() {
        assert_eq!(
            value("n:text=42"),
            ScalarValue::Utf8(Some("42".to_string()))
        );
        assert_eq!(value("$n:float=1"), ScalarValue::Float64(Some(1.0)));
        assert_eq!(value("n:null="), ScalarValue::Null);
        assert_eq!(
            value("n:timestamp=1970-01-01T00:00:01Z"),
            ScalarValue::TimestampNanosecond(Some(1_000_000_000), Some("UTC".into()))
        );
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in [
            "n",
            "=1",
            "a b=1",
            "n:int=x",
            "n:bool=2",
            "n:timestamp=now",
            "n:what=1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
