//! The arguments of `search_traces` as a query.
//!
//! Read [`SearchArguments`].

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Expr;

use super::constant::{Constant, constant, duration_nano, whole_number};
use crate::error::Error;
use crate::search::{Matching, SearchOrder, SpanName, TraceQuery};
use crate::span::{SpanKind, StatusCode};

/// The arguments' names, in order, and what each is.
pub(super) const SEARCH_ARGUMENTS: [(&str, &str); 17] = [
    ("service", "The service of the span."),
    ("span_name", "The name of the span."),
    ("span_name_prefix", "How the name of the span begins."),
    (
        "kind",
        "The kind of the span: `SERVER`, `CLIENT`, …, in any case.",
    ),
    (
        "status",
        "The status of the span: `ERROR`, `OK` or `UNSET`, in any case.",
    ),
    (
        "since",
        "The span starts then or later: a timestamp, or its text.",
    ),
    ("until", "The span starts before then."),
    (
        "min_duration",
        "The span takes at least so long: an interval, or a text such as `'250ms'`, `'1.5s'`, `'1h30m'`.",
    ),
    ("max_duration", "The span takes at the most so long."),
    (
        "attributes",
        "A condition on attributes, such as `'http.response.status_code >= 500 AND user.tier = \"gold\"'`. \
         Tests are `=`, `!=`, `<`, `<=`, `>`, `>=` (with a number), `IN (…)`, `^=` (starts with), `=~` \
         (a regular expression matches the whole value) and `EXISTS`; AND, OR, NOT and parentheses \
         combine them; texts stand in quotes. A key is looked for on the span, its resource, scope, \
         events and links, or in one of them: `resource:host.name = 'a'`, with `span:`, `scope:`, \
         `event:`, `link:`.",
    ),
    (
        "matching",
        "`same_span` (if not said): one span fulfils all of it; `any_span`: each condition is \
         fulfilled by some span of the trace.",
    ),
    (
        "newest",
        "So many traces, those with the latest matching span first; 20 if nothing is said, 10,000 at \
         the most.",
    ),
    (
        "slowest",
        "So many traces, those with the longest matching span first.",
    ),
    ("cursor", "Go on behind the row with this `cursor`."),
    (
        "page",
        "The page of this number, from 1, in the place of a cursor.",
    ),
    (
        "total",
        "Whether to count all traces found, in `total_count`.",
    ),
    (
        "max_span_ids",
        "So many ids in `matched_span_ids` of a row; 100 if not said.",
    ),
];

/// A call's query, or the parameter of the statement that has no value yet.
pub(super) type SearchArguments = std::result::Result<TraceQuery, String>;

/// Reads the arguments of a call, one for each name or none at all. NULL and the empty text, which
/// dashboards send for a variable that is not set, ask nothing.
pub(super) fn read_arguments(exprs: &[Expr]) -> Result<SearchArguments> {
    if !exprs.is_empty() && exprs.len() != SEARCH_ARGUMENTS.len() {
        let message = "search_traces() takes arguments by name, such as \
                       search_traces(service => 'checkout', newest => 50)";
        return Err(Error::invalid_input(message).into());
    }
    let mut values = Vec::with_capacity(exprs.len());
    for (expr, (name, _)) in exprs.iter().zip(SEARCH_ARGUMENTS) {
        match constant(expr) {
            Some(Constant::Value(value)) => values.push((name, value)),
            Some(Constant::Placeholder(placeholder)) => return Ok(Err(placeholder)),
            None => {
                let message = format!(
                    "`{name}` of search_traces() is a constant or a parameter of the statement, \
                     not computed from rows: `{expr}`"
                );
                return Err(Error::invalid_input(message).into());
            }
        }
    }
    let query = query_of(&Values(values))?;
    query.validate()?;
    Ok(Ok(query))
}

fn query_of(values: &Values) -> crate::Result<TraceQuery> {
    let mut query = TraceQuery::new();
    query.service_name = values.text("service")?;
    query.span_name = match (values.text("span_name")?, values.text("span_name_prefix")?) {
        (Some(_), Some(_)) => return Err(one_of("span_name", "span_name_prefix")),
        (Some(name), None) => Some(SpanName::Exact(name)),
        (None, prefix) => prefix.map(SpanName::Prefix),
    };
    query.kind = values.name(
        "kind",
        SpanKind::from_name,
        &SpanKind::ALL.map(SpanKind::name),
    )?;
    query.status_code = values.name(
        "status",
        StatusCode::from_name,
        &StatusCode::ALL.map(StatusCode::name),
    )?;
    query.from_nano = values.time("since")?;
    query.to_nano = values.time("until")?;
    query.min_duration_nano = values.duration("min_duration")?;
    query.max_duration_nano = values.duration("max_duration")?;
    if let Some(text) = values.text("attributes")? {
        query.condition = Some(text.parse()?);
    }
    let matching = values.name("matching", matching_of, &["same_span", "any_span"])?;
    query.matching = matching.unwrap_or_default();
    match (values.number("newest")?, values.number("slowest")?) {
        (Some(_), Some(_)) => return Err(one_of("newest", "slowest")),
        (None, Some(limit)) => {
            query.order = SearchOrder::Slowest;
            query.limit = limit;
        }
        (limit, None) => query.limit = limit.unwrap_or(query.limit),
    }
    query.cursor = values.text("cursor")?;
    query.page = values.number("page")?;
    query.with_total = values.boolean("total")?.unwrap_or(false);
    query.max_span_ids = values.number("max_span_ids")?.unwrap_or(query.max_span_ids);
    Ok(query)
}

fn matching_of(name: &str) -> Option<Matching> {
    match name.to_lowercase().as_str() {
        "same_span" => Some(Matching::SameSpan),
        "any_span" => Some(Matching::AnySpan),
        _ => None,
    }
}

fn one_of(a: &str, b: &str) -> Error {
    Error::invalid_input(format!("search_traces() takes `{a}` or `{b}`, not both"))
}

/// The values of a call by their names.
struct Values(Vec<(&'static str, ScalarValue)>);

impl Values {
    /// What is said of an argument; `None` for NULL and the empty text.
    fn get(&self, name: &str) -> Option<&ScalarValue> {
        let mut named = self.0.iter().filter(|(other, _)| *other == name);
        let value = named.next().map(|(_, value)| value)?;
        let is_empty = value.is_null() || value.try_as_str() == Some(Some(""));
        (!is_empty).then_some(value)
    }

    fn text(&self, name: &str) -> crate::Result<Option<String>> {
        let value = self.get(name);
        let text = value.map(|value| match value.try_as_str().flatten() {
            Some(text) => Ok(text.to_string()),
            None => Err(wrong(name, "a text", value)),
        });
        text.transpose()
    }

    /// One of some names.
    fn name<T>(
        &self,
        name: &str,
        read: fn(&str) -> Option<T>,
        known: &[&str],
    ) -> crate::Result<Option<T>> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::invalid_input(format!(
                "`{name}` of search_traces() is one of {}: {name}=`{text}`",
                known.join(", ")
            ))),
        }
    }

    fn number(&self, name: &str) -> crate::Result<Option<usize>> {
        let number = self.get(name).map(|value| match whole_number(value) {
            Some(number) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
            None => Err(wrong(name, "a whole number of at least zero", value)),
        });
        number.transpose()
    }

    fn boolean(&self, name: &str) -> crate::Result<Option<bool>> {
        let value = self.get(name).map(|value| match value {
            ScalarValue::Boolean(Some(value)) => Ok(*value),
            other => Err(wrong(name, "true or false", other)),
        });
        value.transpose()
    }

    fn time(&self, name: &str) -> crate::Result<Option<i64>> {
        let nano = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let time = self.get(name).map(|value| {
            let is_time = value.data_type().is_temporal() || value.try_as_str().is_some();
            match (is_time, value.cast_to(&nano)) {
                (true, Ok(ScalarValue::TimestampNanosecond(Some(nano), _))) => Ok(nano),
                _ => Err(wrong(
                    name,
                    "a timestamp such as `2026-11-22 13:00:00Z`",
                    value,
                )),
            }
        });
        time.transpose()
    }

    fn duration(&self, name: &str) -> crate::Result<Option<i64>> {
        let value = self.get(name);
        let nanos = value.map(|value| duration_nano(&named(name), value));
        nanos.transpose()
    }
}

fn named(name: &str) -> String {
    format!("`{name}` of search_traces()")
}

fn wrong(name: &str, expected: &str, value: &ScalarValue) -> Error {
    super::constant::wrong(&named(name), expected, value)
}
