//! A search for traces.
//!
//! Read [`TraceQuery`].

use serde::{Deserialize, Serialize};

use super::condition::{AttributeTest, AttributeValue, Condition};
use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::span::{SpanKind, StatusCode};

/// Traces a page holds where nothing is said.
const DEFAULT_LIMIT: usize = 20;

/// Traces a page holds at the most.
const MOST_TRACES: usize = 10_000;

/// Matching spans that are named of each trace where nothing is said.
const DEFAULT_SPAN_IDS: usize = 100;

/// A search for traces, by what their spans are.
///
/// Everything asked is asked of spans, as Jaeger's search does: a span *matches* if it starts
/// in the time range and has the service, name, kind, status, duration and attributes asked
/// for, and a trace is found if one of its spans matches ([`Matching::SameSpan`]) or if each of
/// these conditions holds for some span of it in the range ([`Matching::AnySpan`]; matching is
/// then a span for which one of them holds).
///
/// ```
/// use tracelake::search::{AttributeTest, SearchOrder, TraceQuery};
///
/// let query = TraceQuery::new()
///     .with_service("checkout")
///     .with_min_duration_nano(1_000_000_000)
///     .with_attribute("http.response.status_code", AttributeTest::GreaterOrEqual(500.0))
///     .with_order(SearchOrder::Slowest)
///     .with_limit(50);
/// assert!(query.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceQuery {
    /// Matching spans start here or later, in nanoseconds since the epoch.
    pub from_nano: Option<i64>,
    /// Matching spans start before this.
    pub to_nano: Option<i64>,
    /// The service of the span.
    pub service_name: Option<String>,
    /// The name of the span, whole or its beginning.
    pub span_name: Option<SpanName>,
    /// The kind of the span.
    pub kind: Option<SpanKind>,
    /// The status of the span.
    pub status_code: Option<StatusCode>,
    /// The span takes at least so long.
    pub min_duration_nano: Option<i64>,
    /// The span takes at the most so long.
    pub max_duration_nano: Option<i64>,
    /// What its attributes are.
    pub condition: Option<Condition>,
    /// Whether all of it is asked of one span.
    pub matching: Matching,
    /// Which traces come first.
    pub order: SearchOrder,
    /// Traces of a page, from 1 to 10,000.
    pub limit: usize,
    /// Where the page begins: a page's `next_cursor`.
    pub cursor: Option<String>,
    /// The number of the page, from 1, in the place of a cursor.
    pub page: Option<usize>,
    /// Whether all traces found are counted.
    pub with_total: bool,
    /// Of each trace so many ids of matching spans are given, the earliest first.
    pub max_span_ids: usize,
}

impl Default for TraceQuery {
    fn default() -> Self {
        Self {
            from_nano: None,
            to_nano: None,
            service_name: None,
            span_name: None,
            kind: None,
            status_code: None,
            min_duration_nano: None,
            max_duration_nano: None,
            condition: None,
            matching: Matching::default(),
            order: SearchOrder::default(),
            limit: DEFAULT_LIMIT,
            cursor: None,
            page: None,
            with_total: false,
            max_span_ids: DEFAULT_SPAN_IDS,
        }
    }
}

/// What the name of a span must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanName {
    /// Exactly this.
    Exact(String),
    /// It starts so.
    Prefix(String),
}

/// Whether conditions are meant of one span or of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// One span fulfils all of them.
    #[default]
    SameSpan,
    /// Each is fulfilled by some span of the trace: service, name, kind, status, duration, and
    /// each of the attribute conditions that AND joins.
    AnySpan,
}

/// Which traces come first. Ties are in the order of trace ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchOrder {
    /// Those whose latest matching span started last.
    #[default]
    Newest,
    /// Those whose longest matching span took longest; without a duration last.
    Slowest,
}

impl SearchOrder {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Newest, Self::Slowest];

    /// The name as SQL has it.
    pub fn name(self) -> &'static str {
        ["newest", "slowest"][self as usize]
    }
}

/// Where in the order a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageStart {
    /// Behind a trace already seen.
    After(Cursor),
    /// Behind so many traces.
    Offset(usize),
}

impl TraceQuery {
    /// All traces, the newest 20.
    pub fn new() -> Self {
        Self::default()
    }

    /// Matching spans start in `[from, to)`, in nanoseconds since the epoch.
    #[must_use]
    pub fn with_time_range(mut self, from_nano: i64, to_nano: i64) -> Self {
        self.from_nano = Some(from_nano);
        self.to_nano = Some(to_nano);
        self
    }

    /// The span is of this service.
    #[must_use]
    pub fn with_service(mut self, service_name: impl Into<String>) -> Self {
        self.service_name = Some(service_name.into());
        self
    }

    /// The span has exactly this name.
    #[must_use]
    pub fn with_span_name(mut self, name: impl Into<String>) -> Self {
        self.span_name = Some(SpanName::Exact(name.into()));
        self
    }

    /// The span's name starts so.
    #[must_use]
    pub fn with_span_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.span_name = Some(SpanName::Prefix(prefix.into()));
        self
    }

    /// The span is of this kind.
    #[must_use]
    pub fn with_kind(mut self, kind: SpanKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The span ended so.
    #[must_use]
    pub fn with_status(mut self, status_code: StatusCode) -> Self {
        self.status_code = Some(status_code);
        self
    }

    /// The span takes at least so many nanoseconds.
    #[must_use]
    pub fn with_min_duration_nano(mut self, nano: i64) -> Self {
        self.min_duration_nano = Some(nano);
        self
    }

    /// The span takes at the most so many nanoseconds.
    #[must_use]
    pub fn with_max_duration_nano(mut self, nano: i64) -> Self {
        self.max_duration_nano = Some(nano);
        self
    }

    /// One more condition, besides those there are.
    #[must_use]
    pub fn with_condition(mut self, condition: Condition) -> Self {
        self.condition = Some(match self.condition.take() {
            Some(other) => other.and(condition),
            None => condition,
        });
        self
    }

    /// One more condition: an attribute, wherever it stands, passes the test.
    #[must_use]
    pub fn with_attribute(self, key: impl Into<String>, test: AttributeTest) -> Self {
        self.with_condition(Condition::attribute(key, test))
    }

    /// Whether all is asked of one span.
    #[must_use]
    pub fn with_matching(mut self, matching: Matching) -> Self {
        self.matching = matching;
        self
    }

    /// Which traces come first.
    #[must_use]
    pub fn with_order(mut self, order: SearchOrder) -> Self {
        self.order = order;
        self
    }

    /// Traces of a page.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The page behind this cursor.
    #[must_use]
    pub fn with_cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// The page of this number, from 1.
    #[must_use]
    pub fn with_page(mut self, page: usize) -> Self {
        self.page = Some(page);
        self
    }

    /// All traces found are counted.
    #[must_use]
    pub fn with_total(mut self) -> Self {
        self.with_total = true;
        self
    }

    /// Traces with a span whose attribute `key`, wherever it stands, equals `value`.
    #[must_use]
    pub fn query_attribute(self, key: &str, value: impl Into<AttributeValue>) -> Self {
        self.with_attribute(key, AttributeTest::Equal(value.into()))
    }

    /// Traces with a span all of whose attributes equal these values.
    #[must_use]
    pub fn query_and<V: Into<AttributeValue>>(
        self,
        attributes: impl IntoIterator<Item = (impl Into<String>, V)>,
    ) -> Self {
        self.with_condition(Condition::And(equalities(attributes)))
    }

    /// Traces with a span one of whose attributes equals its value here.
    #[must_use]
    pub fn query_or<V: Into<AttributeValue>>(
        self,
        attributes: impl IntoIterator<Item = (impl Into<String>, V)>,
    ) -> Self {
        self.with_condition(Condition::Or(equalities(attributes)))
    }

    /// The same as [`TraceQuery::with_service`].
    #[must_use]
    pub fn filter_by_service(self, service_name: &str) -> Self {
        self.with_service(service_name)
    }

    /// The same as [`TraceQuery::with_span_name_prefix`].
    #[must_use]
    pub fn filter_by_span_name_prefix(self, prefix: &str) -> Self {
        self.with_span_name_prefix(prefix)
    }

    /// Refuses what contradicts itself or asks for too much.
    pub fn validate(&self) -> Result<()> {
        self.start().map(|_| ())
    }

    /// Where its page begins, `None` for the first; an error for what is not valid.
    pub(crate) fn start(&self) -> Result<Option<PageStart>> {
        if self.limit == 0 || self.limit > MOST_TRACES {
            return Err(Error::invalid_input(format!(
                "a page holds from 1 to {MOST_TRACES} traces; ask for more page by page: limit=`{}`",
                self.limit
            )));
        }
        if let (Some(from), Some(to)) = (self.from_nano, self.to_nano)
            && from > to
        {
            return Err(Error::invalid_input(format!(
                "the time range ends before it begins; swap its ends: from=`{from}` to=`{to}`"
            )));
        }
        if let (Some(least), Some(most)) = (self.min_duration_nano, self.max_duration_nano)
            && least > most
        {
            return Err(Error::invalid_input(format!(
                "the least duration is above the greatest: min_duration=`{least}ns` \
                 max_duration=`{most}ns`"
            )));
        }
        if let Some(condition) = &self.condition {
            condition.validate()?;
        }
        match (&self.cursor, self.page) {
            (Some(_), Some(_)) => Err(Error::invalid_input(
                "a page begins at a cursor or has a number, not both",
            )),
            (Some(text), None) => {
                let cursor = Cursor::parse(text)?;
                cursor.check(self)?;
                Ok(Some(PageStart::After(cursor)))
            }
            (None, Some(page)) => match page.checked_sub(1) {
                Some(before) => Ok(Some(PageStart::Offset(before.saturating_mul(self.limit)))),
                None => Err(Error::invalid_input("pages are counted from 1: page=`0`")),
            },
            (None, None) => Ok(None),
        }
    }
}

fn equalities<V: Into<AttributeValue>>(
    attributes: impl IntoIterator<Item = (impl Into<String>, V)>,
) -> Vec<Condition> {
    let attributes = attributes.into_iter();
    attributes
        .map(|(key, value)| Condition::attribute(key, AttributeTest::Equal(value.into())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_json() {
        let query = TraceQuery::new()
            .with_time_range(1, 2)
            .filter_by_service("a")
            .filter_by_span_name_prefix("GET")
            .with_kind(SpanKind::Server)
            .with_status(StatusCode::Error)
            .query_or([("k", "v"), ("l", "w")])
            .query_attribute("n", 5);
        let json = serde_json::to_string(&query).unwrap();
        assert_eq!(serde_json::from_str::<TraceQuery>(&json).unwrap(), query);
        let short: TraceQuery = serde_json::from_str(r#"{"service_name":"a"}"#).unwrap();
        assert_eq!(short, TraceQuery::new().with_service("a"));
        assert!(serde_json::from_str::<TraceQuery>(r#"{"servce":"a"}"#).is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for query in [
            TraceQuery::new().with_limit(0),
            TraceQuery::new().with_limit(10_001),
            TraceQuery::new().with_time_range(2, 1),
            TraceQuery::new().with_page(0),
            TraceQuery::new().with_page(1).with_cursor("x"),
            TraceQuery::new().with_cursor("x"),
            TraceQuery::new()
                .with_min_duration_nano(2)
                .with_max_duration_nano(1),
        ] {
            assert!(query.validate().is_err(), "{query:?}");
        }
    }
}
