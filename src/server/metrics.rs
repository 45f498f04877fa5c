//! What `/metrics` tells, in Prometheus' text format.
//!
//! Read [`Metrics`]. What the engine counts itself is read when it is asked for.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::own_traces::OwnTraces;
use crate::engine::{CommitStats, LakeStats};
use crate::error::{Error, Result};
use crate::span::Value;

/// Bounds of histograms of time, in seconds.
const TIME_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// What the server itself counts.
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    queries: IntCounterVec,
    query_seconds: HistogramVec,
    query_rows: IntCounter,
    queries_running: IntGauge,
    queries_waiting: IntGauge,
    own_traces: OwnTraces,
}

impl Metrics {
    pub(super) fn try_new() -> Result<Self> {
        let build = || -> prometheus::Result<Self> {
            let times = |name: &str, help: &str| {
                let options = HistogramOpts::new(name, help).buckets(TIME_BUCKETS.to_vec());
                HistogramVec::new(options, &["protocol"])
            };
            let outcomes = |name: &str, help: &str| {
                IntCounterVec::new(Opts::new(name, help), &["protocol", "outcome"])
            };
            let metrics = Self {
                registry: Registry::new(),
                requests: outcomes("tracelake_ingest_requests_total", "Requests with spans.")?,
                request_seconds: times(
                    "tracelake_ingest_request_seconds",
                    "From a request with spans to its answer, after the commit.",
                )?,
                queries: outcomes("tracelake_queries_total", "Queries that ended.")?,
                query_seconds: times("tracelake_query_seconds", "From a query to its last row.")?,
                query_rows: IntCounter::new("tracelake_query_rows_total", "Rows of results.")?,
                queries_running: IntGauge::new("tracelake_queries_running", "Queries running.")?,
                queries_waiting: IntGauge::new(
                    "tracelake_queries_waiting",
                    "Queries that wait for their turn.",
                )?,
                own_traces: OwnTraces::default(),
            };
            let registry = &metrics.registry;
            registry.register(Box::new(metrics.requests.clone()))?;
            registry.register(Box::new(metrics.request_seconds.clone()))?;
            registry.register(Box::new(metrics.queries.clone()))?;
            registry.register(Box::new(metrics.query_seconds.clone()))?;
            registry.register(Box::new(metrics.query_rows.clone()))?;
            registry.register(Box::new(metrics.queries_running.clone()))?;
            registry.register(Box::new(metrics.queries_waiting.clone()))?;
            Ok(metrics)
        };
        build().map_err(|error| Error::internal("cannot set up metrics").with_source(error))
    }

    /// The same, which also tells of each request and query by a span.
    pub(super) fn with_own_traces(mut self, own_traces: OwnTraces) -> Self {
        self.own_traces = own_traces;
        self
    }

    /// A request with spans was answered, so many of which were taken.
    pub(super) fn received(&self, protocol: &str, outcome: &str, time: Duration, spans: u64) {
        self.request(protocol, outcome);
        let seconds = self.request_seconds.with_label_values(&[protocol]);
        seconds.observe(time.as_secs_f64());
        let is_taken = ["accepted", "partial"].contains(&outcome);
        let count = i64::try_from(spans).unwrap_or(i64::MAX);
        let attributes = [
            ("tracelake.protocol", Value::String(protocol.to_string())),
            ("tracelake.span_count", Value::Int(count)),
        ];
        self.own_traces
            .record("ingest", time, outcome, !is_taken, &attributes);
    }

    /// A request with spans ended so.
    pub(super) fn request(&self, protocol: &str, outcome: &str) {
        self.requests.with_label_values(&[protocol, outcome]).inc();
    }

    /// A query ended so.
    pub(super) fn query(&self, protocol: &str, outcome: &str, time: Duration, rows: u64) {
        self.queries.with_label_values(&[protocol, outcome]).inc();
        let seconds = self.query_seconds.with_label_values(&[protocol]);
        seconds.observe(time.as_secs_f64());
        self.query_rows.inc_by(rows);
        let is_fine = ["done", "cancelled"].contains(&outcome);
        let count = i64::try_from(rows).unwrap_or(i64::MAX);
        let attributes = [
            ("tracelake.protocol", Value::String(protocol.to_string())),
            ("tracelake.row_count", Value::Int(count)),
        ];
        self.own_traces
            .record("query", time, outcome, !is_fine, &attributes);
    }

    pub(super) fn queries_running(&self) -> &IntGauge {
        &self.queries_running
    }

    pub(super) fn queries_waiting(&self) -> &IntGauge {
        &self.queries_waiting
    }

    /// Everything, as Prometheus reads it.
    pub(super) fn render(&self, lake: &LakeStats, commits: Option<&CommitStats>) -> Result<String> {
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .map_err(|error| Error::internal("cannot write metrics").with_source(error))?;
        let mut page = Page { text: &mut text };
        page.lake(lake);
        if let Some(commits) = commits {
            page.commits(commits);
        }
        Ok(text)
    }
}

struct Page<'a> {
    text: &'a mut String,
}

impl Page<'_> {
    fn lake(&mut self, lake: &LakeStats) {
        self.gauge(
            "tracelake_lake_version",
            "Version of the lake last seen.",
            lake.version,
        );
        self.gauge(
            "tracelake_lake_files",
            "Files of the lake.",
            lake.file_count,
        );
        self.gauge(
            "tracelake_lake_level0_files",
            "Files as ingested, which compaction has not merged yet.",
            lake.level0_file_count,
        );
        self.gauge(
            "tracelake_lake_spans",
            "Spans of the lake.",
            lake.span_count,
        );
        self.gauge(
            "tracelake_lake_bytes",
            "Bytes of the lake's files.",
            lake.byte_count,
        );
        self.gauge(
            "tracelake_query_memory_bytes",
            "Memory that running queries hold.",
            lake.query_memory_bytes,
        );
        self.gauge(
            "tracelake_metadata_cache_entries",
            "File footers in the cache.",
            lake.cached_footer_count,
        );
        self.gauge(
            "tracelake_metadata_cache_bytes",
            "Bytes of the file footers in the cache.",
            lake.cached_footer_bytes,
        );
    }

    fn commits(&mut self, commits: &CommitStats) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = [
            (
                "tracelake_ingest_spans_total",
                "Spans committed.",
                &commits.span_count,
            ),
            (
                "tracelake_ingest_rejected_spans_total",
                "Spans left out, since they are broken.",
                &commits.rejected_span_count,
            ),
            (
                "tracelake_ingest_cut_values_total",
                "Values of attributes that were cut.",
                &commits.cut_value_count,
            ),
            (
                "tracelake_ingest_refused_requests_total",
                "Requests refused for lack of room.",
                &commits.refused_count,
            ),
            (
                "tracelake_commits_total",
                "Commits made.",
                &commits.commit_count,
            ),
            (
                "tracelake_commits_failed_total",
                "Commits that failed.",
                &commits.failed_commit_count,
            ),
            (
                "tracelake_commit_files_total",
                "Files written.",
                &commits.file_count,
            ),
            (
                "tracelake_commit_bytes_total",
                "Bytes written.",
                &commits.byte_count,
            ),
        ];
        for (name, help, counter) in counters {
            self.counter(name, help, &read(counter).to_string());
        }
        let seconds = read(&commits.commit_micros) as f64 / 1e6;
        self.counter(
            "tracelake_commit_seconds_total",
            "The time all commits took.",
            &seconds.to_string(),
        );
        self.gauge(
            "tracelake_ingest_pending_bytes",
            "Bytes of requests and spans that wait for their commit.",
            read(&commits.pending_bytes),
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, help, "gauge", &value.to_string());
    }

    fn counter(&mut self, name: &str, help: &str, value: &str) {
        self.metric(name, help, "counter", value);
    }

    fn metric(&mut self, name: &str, help: &str, kind: &str, value: &str) {
        // Writing to a text cannot fail.
        let _ = write!(
            self.text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
}
