//! Spans of traces, in any order, as what is told of each trace.
//!
//! Read [`TraceSpans`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringViewArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, TimestampNanosecondType};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use crate::error::{Error, Result};
use crate::search::TraceOverview;
use crate::span::{SpanId, StatusCode, TraceId};

/// The spans of a trace that matched.
#[derive(Debug)]
pub(super) struct MatchedSpans {
    /// All of them, exact copies counted once.
    pub(super) count: u64,
    /// The first of them in the order of start and id, each once.
    pub(super) ids: Vec<SpanId>,
    /// The latest start.
    pub(super) last_start_nano: i64,
    /// The longest duration.
    pub(super) longest_nano: Option<i64>,
}

/// What a summary needs of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SpanRow {
    // In this order exact copies lie side by side, and the earliest span is first.
    start_nano: i64,
    span_id: [u8; 8],
    kind: u32,
    duration_nano: Option<i64>,
    name: u32,
    service: u32,
    parent: Option<[u8; 8]>,
    has_error: bool,
    ingested_micros: Option<i64>,
}

impl SpanRow {
    /// What compaction tells exact copies by, within one trace.
    fn identity(&self) -> (i64, [u8; 8], u32, Option<i64>, u32) {
        let Self {
            start_nano,
            span_id,
            kind,
            duration_nano,
            name,
            ..
        } = *self;
        (start_nano, span_id, kind, duration_nano, name)
    }
}

/// The spans of found traces, all of them and those that match.
#[derive(Debug)]
pub(super) struct FoundSpans {
    pub(super) whole: TraceSpans,
    pub(super) matching: TraceSpans,
}

impl FoundSpans {
    /// None so far; what is collected counts against the memory of `pool`.
    pub(super) fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            whole: TraceSpans::new(pool),
            matching: TraceSpans::new(pool),
        }
    }

    /// Adds spans: [`super::search_plan::SUMMARY_COLUMNS`], then whether they match.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.whole.add(batch)?;
        self.matching.add(&matching(batch)?)
    }
}

/// Those of some spans of which the last column says that they match.
pub(super) fn matching(batch: &RecordBatch) -> Result<RecordBatch> {
    let matches = batch
        .columns()
        .last()
        .and_then(|last| last.as_boolean_opt());
    let matches = matches.ok_or_else(|| Error::internal("spans without their matches"))?;
    Ok(filter_record_batch(batch, matches)?)
}

/// Collects the spans of traces.
#[derive(Debug)]
pub(super) struct TraceSpans {
    traces: HashMap<TraceId, Vec<SpanRow>>,
    texts: Texts,
    reservation: MemoryReservation,
}

/// Texts by number; 0 is NULL.
#[derive(Debug, Default)]
struct Texts {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Texts {
    fn number(&mut self, texts: &StringViewArray, row: usize) -> u32 {
        if texts.is_null(row) {
            return 0;
        }
        let text = texts.value(row);
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.texts.push(text.to_string());
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(text.to_string(), number);
        number
    }

    fn text(&self, number: u32) -> Option<String> {
        let index = (number as usize).checked_sub(1)?;
        self.texts.get(index).cloned()
    }
}

impl TraceSpans {
    fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            traces: HashMap::new(),
            texts: Texts::default(),
            reservation: MemoryConsumer::new("traces found").register(pool),
        }
    }

    /// Adds spans: the columns of [`super::search_plan::SUMMARY_COLUMNS`], and more.
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.reservation
            .try_grow(batch.num_rows() * size_of::<SpanRow>())
            .map_err(Error::from)?;
        let text = |index: usize| batch.column(index).as_string_view();
        let (trace_ids, span_ids, parents) = (text(0), text(1), text(2));
        let (services, names, kinds, codes) = (text(3), text(4), text(5), text(8));
        let starts = batch.column(6).as_primitive::<TimestampNanosecondType>();
        let durations = batch.column(7).as_primitive::<Int64Type>();
        let ingested = batch.column(9).as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let trace_id = TraceId::parse(trace_ids.value(row))?;
            let span = SpanRow {
                start_nano: starts.value(row),
                span_id: span_id_bytes(span_ids.value(row))?,
                kind: self.texts.number(kinds, row),
                duration_nano: durations.is_valid(row).then(|| durations.value(row)),
                name: self.texts.number(names, row),
                service: self.texts.number(services, row),
                parent: match parents.is_valid(row) {
                    true => Some(span_id_bytes(parents.value(row))?),
                    false => None,
                },
                has_error: codes.value(row) == StatusCode::Error.name(),
                ingested_micros: ingested.is_valid(row).then(|| ingested.value(row)),
            };
            self.traces.entry(trace_id).or_default().push(span);
        }
        Ok(())
    }

    /// The spans of a trace by start and id, exact copies once. They are taken out.
    fn take(&mut self, trace_id: TraceId) -> Vec<SpanRow> {
        let mut rows = self.traces.remove(&trace_id).unwrap_or_default();
        rows.sort_unstable();
        rows.dedup_by_key(|row| row.identity());
        rows
    }

    /// A trace all of whose spans were added; `None` where none was.
    pub(super) fn overview(&mut self, trace_id: TraceId) -> Option<TraceOverview> {
        let ingested = self.traces.get(&trace_id)?.iter();
        let ingested = ingested.filter_map(|row| row.ingested_micros);
        let (first_ingested_micros, last_ingested_micros) =
            (ingested.clone().min(), ingested.max());
        let rows = self.take(trace_id);
        let ids: HashSet<[u8; 8]> = rows.iter().map(|row| row.span_id).collect();
        let is_orphan = |row: &&SpanRow| row.parent.is_some_and(|parent| !ids.contains(&parent));
        let root = rows.iter().find(|row| row.parent.is_none());
        let services: HashSet<u32> = rows.iter().map(|row| row.service).collect();
        let end = |row: &SpanRow| {
            let duration = row.duration_nano.unwrap_or(0).max(0);
            row.start_nano.saturating_add(duration)
        };
        Some(TraceOverview {
            trace_id,
            root_service: root.and_then(|root| self.texts.text(root.service)),
            root_name: root.and_then(|root| self.texts.text(root.name)),
            start_nano: rows.first()?.start_nano,
            end_nano: rows.iter().map(end).max()?,
            span_count: rows.len() as u64,
            service_count: services.iter().filter(|service| **service != 0).count() as u64,
            error_count: rows.iter().filter(|row| row.has_error).count() as u64,
            has_root: root.is_some(),
            orphan_count: rows.iter().filter(is_orphan).count() as u64,
            first_ingested_micros,
            last_ingested_micros,
        })
    }

    /// A trace whose matching spans were added, with the ids of the first `max_ids` of them.
    pub(super) fn matched(&mut self, trace_id: TraceId, max_ids: usize) -> MatchedSpans {
        let rows = self.take(trace_id);
        let mut seen = HashSet::new();
        let ids = rows.iter().map(|row| row.span_id);
        let ids = ids.filter(|id| seen.insert(*id)).take(max_ids);
        MatchedSpans {
            ids: ids.filter_map(SpanId::from_bytes).collect(),
            count: rows.len() as u64,
            last_start_nano: rows.last().map_or(0, |row| row.start_nano),
            longest_nano: rows.iter().filter_map(|row| row.duration_nano).max(),
        }
    }
}

fn span_id_bytes(text: &str) -> Result<[u8; 8]> {
    Ok(*SpanId::parse(text)?.as_bytes())
}
