//! What the body of `POST /api/v1/sql` says: a statement and the values of its placeholders.
//!
//! Read [`SqlRequest::read`].

use datafusion::scalar::ScalarValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A statement with the values of its placeholders.
#[derive(Debug, PartialEq)]
pub(super) struct SqlRequest {
    pub(super) sql: String,
    /// `1`, `2`, … or names, each with its value.
    pub(super) parameters: Vec<(String, ScalarValue)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    sql: String,
    #[serde(default)]
    parameters: Value,
}

impl SqlRequest {
    /// Reads a body: `{"sql", "parameters"}` where its type is JSON, else the statement alone.
    pub(super) fn read(media_type: &str, body: &[u8]) -> Result<Self> {
        if media_type.starts_with("application/json") {
            let wrong = |error: serde_json::Error| {
                let what = "the body is not {\"sql\", \"parameters\"}";
                Error::invalid_input(format!("{what}: {error}"))
            };
            // As a map, since an array would be taken for the members in their order.
            let members: Map<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
            let members = Value::Object(members);
            let members: Members = serde_json::from_value(members).map_err(wrong)?;
            return Ok(Self {
                sql: members.sql,
                parameters: parameters(&members.parameters)?,
            });
        }
        let sql =
            std::str::from_utf8(body).map_err(|_| Error::invalid_input("the SQL is not UTF-8"))?;
        Ok(Self {
            sql: sql.to_string(),
            parameters: Vec::new(),
        })
    }
}

/// Values for `$1`, `$2`, … from an array, for `$name` from an object.
fn parameters(given: &Value) -> Result<Vec<(String, ScalarValue)>> {
    match given {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => {
            let numbered = values.iter().enumerate();
            numbered
                .map(|(index, value)| Ok(((index + 1).to_string(), scalar(value)?)))
                .collect()
        }
        Value::Object(values) => values
            .iter()
            .map(|(name, value)| Ok((name.clone(), scalar(value)?)))
            .collect(),
        _ => Err(Error::invalid_input(
            "`parameters` is an array for $1, $2, … or an object for $name",
        )),
    }
}

fn scalar(value: &Value) -> Result<ScalarValue> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(bit) => ScalarValue::from(*bit),
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => ScalarValue::from(number),
            (None, Some(number)) => ScalarValue::from(number),
            (None, None) => return Err(Error::invalid_input("a parameter is out of range")),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err(Error::invalid_input(
                "a parameter is a text, a number, a boolean or null",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_json_or_the_statement_alone() {
        let read = |media_type, body: &str| SqlRequest::read(media_type, body.as_bytes());
        let json = "application/json; charset=utf-8";
        // Digits at which a quick parser misses the nearest double by one.
        let body = r#"{"sql":"SELECT $x","parameters":{"x":0.9073038322028689}}"#;
        let nearest: f64 = "0.9073038322028689".parse().unwrap();
        assert_eq!(
            read(json, body).unwrap().parameters,
            [("x".to_string(), ScalarValue::from(nearest))]
        );
        let numbered = read(json, r#"{"sql":"","parameters":[null,"t",7,true]}"#).unwrap();
        assert_eq!(numbered.parameters.len(), 4);
        assert_eq!(
            numbered.parameters[2],
            ("3".to_string(), ScalarValue::from(7i64))
        );
        assert_eq!(read("text/plain", "SELECT 1").unwrap().sql, "SELECT 1");
        for body in [
            "",
            "[]",
            r#"["SELECT 1"]"#,
            "{}",
            r#"{"sql":1}"#,
            r#"{"sql":"","parameters":1}"#,
            r#"{"sql":"","parameters":[[]]}"#,
            r#"{"sql":"","more":1}"#,
        ] {
            assert!(read(json, body).is_err(), "{body}");
        }
        assert!(SqlRequest::read("", b"\xff").is_err());
    }
}
