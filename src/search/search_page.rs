//! What a search finds.
//!
//! Read [`SearchPage`].

use crate::span::{SpanId, TraceId};

/// One page of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPage<T = SearchHit> {
    /// The traces found, in the order asked for.
    pub hits: Vec<T>,
    /// The cursor of the next page; `None` where this is the last.
    pub next_cursor: Option<String>,
    /// All traces found, on whatever page, where that was asked for.
    pub total: Option<u64>,
}

/// A trace that was found, and no more than where it stands in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPlace {
    /// The trace.
    pub trace_id: TraceId,
    /// What the order compares: the start of the latest matching span, in nanoseconds since the
    /// epoch, or the duration of the longest, the least number there is where none ended.
    pub key: i64,
    /// The place behind this trace, for [`TraceQuery::cursor`](super::TraceQuery::cursor).
    pub cursor: String,
}

/// A trace that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHit {
    /// The whole trace in a few figures.
    pub trace: TraceOverview,
    /// Its matching spans, exact copies counted once.
    pub matched_span_count: u64,
    /// The ids of the first of them, in the order of start and id.
    pub matched_span_ids: Vec<SpanId>,
    /// The start of the latest matching span, in nanoseconds since the epoch: what the newest
    /// are ordered by.
    pub last_match_nano: i64,
    /// The duration of the longest matching span, in nanoseconds, `None` where none ended: what
    /// the slowest are ordered by.
    pub longest_match_nano: Option<i64>,
    /// The place behind this trace, for [`TraceQuery::cursor`](super::TraceQuery::cursor).
    pub cursor: String,
}

/// A trace in a few figures: a row of relation `traces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOverview {
    /// The trace.
    pub trace_id: TraceId,
    /// The service of its root, the earliest span that names no parent.
    pub root_service: Option<String>,
    /// The name of its root; `None` where every span names a parent.
    pub root_name: Option<String>,
    /// The earliest start, in nanoseconds since the epoch.
    pub start_nano: i64,
    /// The latest end; a span that never ended, or ended before it began, ends at its start.
    pub end_nano: i64,
    /// Spans, exact copies counted once.
    pub span_count: u64,
    /// Services, those of unknown service not counted.
    pub service_count: u64,
    /// Spans with the status `ERROR`.
    pub error_count: u64,
    /// Whether some span names no parent.
    pub has_root: bool,
    /// Spans that name a parent which is not there.
    pub orphan_count: u64,
    /// When the first of its spans was committed, in microseconds since the epoch.
    pub first_ingested_micros: Option<i64>,
    /// When the last of its spans was committed.
    pub last_ingested_micros: Option<i64>,
}

impl TraceOverview {
    /// From the earliest start to the latest end, in nanoseconds.
    pub fn duration_nano(&self) -> i64 {
        self.end_nano.saturating_sub(self.start_nano)
    }
}
