//! What Jaeger's clients ask of `GET /api/traces`, as a search.
//!
//! Read [`JaegerRequest`]. Parameters and errors are those of Jaeger 2.9's query service
//! (`cmd/query/app/query_parser.go`), which Grafana's data source and older user interfaces speak.

use serde_json::Value as Json;

use super::{AttributeTest, TraceQuery, parse_duration};
use crate::error::{Error, Result};
use crate::span::{SpanKind, StatusCode, TraceId};

/// Traces returned where no limit is given.
const DEFAULT_LIMIT: usize = 100;

/// How far a search without a start looks back.
const LOOKBACK_NANO: i64 = 48 * 3_600_000_000_000;

/// A request for traces.
#[derive(Debug, Clone, PartialEq)]
pub struct JaegerRequest {
    /// What is asked for.
    pub query: JaegerQuery,
    /// Whether traces are wanted as they were sent, without Jaeger's adjustments.
    pub raw: bool,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum JaegerQuery {
    /// These traces; one that is missing is an error beside the others.
    Traces(Vec<TraceId>),
    /// The traces a search finds.
    Search(Box<TraceQuery>),
}

impl JaegerRequest {
    /// Reads the decoded parameters of a request that came at `now_nano`.
    ///
    /// A tag matches attributes of the span, its resource, scope, events and links, values as
    /// text. `error=true` means the status `ERROR` and `span.kind` the span's kind, which Jaeger
    /// shows as tags though OpenTelemetry has no such attributes. Times are microseconds, both
    /// ends included. Parameters that are not known are left aside.
    pub fn parse<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        now_nano: i64,
    ) -> Result<Self> {
        let parameters: Vec<(&str, &str)> = parameters.into_iter().collect();
        let parameters = Parameters(&parameters);
        let raw = match parameters.get("raw") {
            None => false,
            Some(text) => parse_bool(text).ok_or_else(|| unable("raw", text))?,
        };
        let ids = parameters.all("traceID").map(parse_trace_id);
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let limit = parameters.get("limit");
        let limit = limit.map(|text| text.parse().map_err(|_| unable("limit", text)));
        let limit = limit.transpose()?.unwrap_or(DEFAULT_LIMIT);
        let query = if ids.is_empty() {
            let query = search(&parameters, limit, now_nano)?;
            JaegerQuery::Search(Box::new(query))
        } else {
            JaegerQuery::Traces(ids)
        };
        Ok(Self { query, raw })
    }
}

fn search(parameters: &Parameters<'_>, limit: usize, now_nano: i64) -> Result<TraceQuery> {
    let start = parameters.micros("start")?;
    let end = parameters.micros("end")?;
    let Some(service) = parameters.get("service") else {
        return Err(Error::invalid_input("parameter 'service' is required"));
    };
    let mut query = TraceQuery::new().with_limit(limit).with_service(service);
    query.span_name = parameters
        .get("operation")
        .map(|name| super::SpanName::Exact(name.to_string()));
    query.from_nano = Some(start.unwrap_or(now_nano.saturating_sub(LOOKBACK_NANO)));
    // The last microsecond belongs to the range.
    query.to_nano = Some(end.unwrap_or(now_nano).saturating_add(1));
    query.min_duration_nano = parameters.duration("minDuration")?;
    query.max_duration_nano = parameters.duration("maxDuration")?;
    if let (Some(least), Some(most)) = (query.min_duration_nano, query.max_duration_nano)
        && least > most
    {
        return Err(Error::invalid_input(
            "'maxDuration' should be greater than 'minDuration'",
        ));
    }
    if query.from_nano > query.to_nano {
        return Err(Error::invalid_input("'start' should be before 'end'"));
    }
    for (key, value) in parameters.tags()? {
        query = with_tag(query, &key, &value);
    }
    Ok(query)
}

fn with_tag(query: TraceQuery, key: &str, value: &str) -> TraceQuery {
    match (key, SpanKind::from_name(value)) {
        ("error", _) if value == "true" => query.with_status(StatusCode::Error),
        ("span.kind", Some(kind)) => query.with_kind(kind),
        _ => query.with_attribute(key, AttributeTest::Equal(value.into())),
    }
}

/// Names and values, in the order they came.
struct Parameters<'a>(&'a [(&'a str, &'a str)]);

impl<'a> Parameters<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(other, _)| *other == name);
        named.map(|(_, value)| *value)
    }

    /// The first value that is not empty.
    fn get(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    fn micros(&self, name: &'static str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse::<i64>() {
            Ok(micros) => Ok(Some(micros.saturating_mul(1_000))),
            Err(_) => Err(unable(name, text)),
        }
    }

    fn duration(&self, name: &'static str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let unit_is_missing = text.parse::<f64>().is_ok_and(|number| number != 0.0);
        let nanos = parse_duration(text).map_err(|error| {
            let why = if unit_is_missing {
                format!("time: missing unit in duration \"{text}\"")
            } else {
                error.message().to_string()
            };
            Error::invalid_input(format!("unable to parse param '{name}': {why}"))
        })?;
        if nanos < 0 {
            return Err(Error::invalid_input(format!(
                "unable to parse param '{name}': a duration below zero, \"{text}\""
            )));
        }
        // Zero says nothing in Jaeger.
        Ok((nanos > 0).then_some(nanos))
    }

    /// The tags of `tag=key:value` and of `tags={"key":"value"}`.
    fn tags(&self) -> Result<Vec<(String, String)>> {
        let mut tags = Vec::new();
        for tag in self.all("tag") {
            let Some((key, value)) = tag.split_once(':') else {
                return Err(Error::invalid_input(format!(
                    "malformed 'tag' parameter, expecting key:value, received: {tag}"
                )));
            };
            tags.push((key.to_string(), value.to_string()));
        }
        for text in self.all("tags") {
            let malformed = |why: &str| {
                Error::invalid_input(format!(
                    "malformed 'tags' parameter, cannot unmarshal JSON: {why}"
                ))
            };
            let object: serde_json::Map<String, Json> =
                serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
            for (key, value) in object {
                let Json::String(value) = value else {
                    return Err(malformed(&format!("the value of {key} is not a string")));
                };
                tags.push((key, value));
            }
        }
        Ok(tags)
    }
}

fn unable(name: &str, text: &str) -> Error {
    Error::invalid_input(format!(
        "unable to parse param '{name}': \"{}\"",
        text.escape_debug()
    ))
}

/// The booleans of Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An id as Jaeger writes it, without the zeros at its left.
fn parse_trace_id(text: &str) -> Result<TraceId> {
    let cannot = || Error::invalid_input(format!("cannot parse traceID param: {text}"));
    if text.is_empty() || text.len() > 32 {
        return Err(cannot());
    }
    TraceId::parse(&format!("{text:0>32}")).map_err(|_| cannot())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000_000_000;

    fn parse(parameters: &[(&'static str, &'static str)]) -> Result<JaegerRequest> {
        JaegerRequest::parse(parameters.iter().copied(), NOW)
    }

    #[test]
    fn a_search_becomes_a_query() {
        let request = parse(&[
            ("service", "cart"),
            ("operation", "GET /"),
            ("start", "5"),
            ("end", "7"),
            ("minDuration", "1ms"),
            ("tag", "http.status_code:200"),
            ("tags", r#"{"error":"true","span.kind":"server"}"#),
            ("lookback", "1h"),
        ])
        .unwrap();
        let expected = TraceQuery::new()
            .with_limit(100)
            .with_service("cart")
            .with_span_name("GET /")
            .with_time_range(5_000, 7_001)
            .with_min_duration_nano(1_000_000)
            .query_attribute("http.status_code", "200")
            .with_status(StatusCode::Error)
            .with_kind(SpanKind::Server);
        assert_eq!(request.query, JaegerQuery::Search(Box::new(expected)));
    }

    #[test]
    fn ids_are_padded() {
        let request = parse(&[("traceID", "1f00"), ("traceID", "1E00")]).unwrap();
        let JaegerQuery::Traces(ids) = request.query else {
            panic!("ids were asked for");
        };
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids[0], format!("{}1f00", "0".repeat(28)));
        assert_eq!(ids[1], format!("{}1e00", "0".repeat(28)));
    }

    #[test]
    fn what_jaeger_refuses_is_refused() {
        for (parameters, message) in [
            (&[][..], "parameter 'service' is required"),
            (
                &[("service", "s"), ("start", "x")],
                "unable to parse param 'start'",
            ),
            (
                &[("service", "s"), ("limit", "x")],
                "unable to parse param 'limit'",
            ),
            (&[("service", "s"), ("tag", "k")], "received: k"),
            (
                &[("service", "s"), ("tags", r#"{"x":1}"#)],
                "cannot unmarshal JSON",
            ),
            (
                &[("service", "s"), ("raw", "maybe")],
                "unable to parse param 'raw'",
            ),
            (&[("traceID", "x2")], "cannot parse traceID param"),
            (
                &[("service", "s"), ("minDuration", "20")],
                "time: missing unit in duration \"20\"",
            ),
            (
                &[
                    ("service", "s"),
                    ("minDuration", "2s"),
                    ("maxDuration", "1s"),
                ],
                "'maxDuration' should be greater than 'minDuration'",
            ),
        ] {
            let error = parse(parameters).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
