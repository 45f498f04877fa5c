//! What the body of `POST /api/v1/search` says.
//!
//! Read [`read_search`].

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::search::{Condition, TraceQuery};

/// The member that holds conditions as text, besides those of a [`TraceQuery`].
const ATTRIBUTES: &str = "attributes";

/// Reads a search: the fields of a [`TraceQuery`] as JSON, and `attributes` as `search_traces` has
/// it.
pub(super) fn read_search(body: &[u8]) -> Result<TraceQuery> {
    let wrong =
        |error: serde_json::Error| Error::invalid_input(format!("the body is no search: {error}"));
    // As a map, since an array would be taken for the fields in their order.
    let mut asked: Map<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
    let text = asked.remove(ATTRIBUTES);
    let asked = Value::Object(asked);
    let mut query: TraceQuery = serde_json::from_value(asked).map_err(wrong)?;
    match text {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.trim().is_empty() => {}
        Some(Value::String(text)) => query = query.with_condition(text.parse::<Condition>()?),
        Some(_) => {
            return Err(Error::invalid_input(
                "conditions in `attributes` are text; those of `condition` are JSON",
            ));
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_read_with_conditions_as_text_and_as_json() {
        let query = read_search(
            br#"{"service_name":"shop","attributes":"number >= 5",
                 "condition":{"attribute":{"key":"k","test":{"equal":"v"}}},"limit":3}"#,
        )
        .unwrap();
        assert_eq!(query.service_name.as_deref(), Some("shop"));
        assert_eq!(query.condition.unwrap().terms().len(), 2);
        assert_eq!(read_search(b"{}").unwrap(), TraceQuery::new());
    }

    #[test]
    fn what_is_no_search_is_refused() {
        for body in [
            "",
            "[]",
            "null",
            r#"{"servce":"x"}"#,
            r#"{"attributes":7}"#,
            r#"{"attributes":"((("}"#,
            r#"{"limit":-1}"#,
        ] {
            assert!(read_search(body.as_bytes()).is_err(), "{body}");
        }
    }
}
