//! The spans of one trace as columns: what every notion of a trace is computed from.
//!
//! Read [`TraceColumns`], the view, and [`TraceBuffer`], which owns columns where nobody has them
//! yet.

use std::collections::HashMap;
use std::ops::Range;

use super::NONE;
use crate::span::{SpanId, SpanKind, StatusCode};

/// What the duration of a span is that never ended.
pub const UNFINISHED: i64 = i64::MIN;

/// What the parent offset of a span is whose parent must be found by its id, if it has one.
pub const NO_OFFSET: i32 = i32::MIN;

/// The spans of one trace, in any order, as slices of whatever buffers the caller has.
///
/// ```text
///   buffers of a batch    │ a a a a a │ b b │ c c c c │       one value a span
///   columns.slice(5..7)                 └─┘                   the trace b, nothing copied
/// ```
///
/// All slices have the length of `start_time_unix_nano`, or are empty, which stands for a column
/// that was not read: every value is then zero ([`NO_OFFSET`] for offsets, [`UNFINISHED`] for
/// durations). What a missing column does to a result is said where it matters.
///
/// Of copies of a span (see [`Forest`](super::Forest)) the one in the first row is kept. Stored
/// copies may differ in what does not make them copies; to get what compaction gets, hand them in
/// by the time of their commit.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceColumns<'a> {
    /// Span ids as big-endian numbers; none is zero. Empty only where the caller knows that no id
    /// stands twice in the trace and that offsets lead to every parent there is: parents are then
    /// found by their offsets alone.
    pub span_id: &'a [u64],
    /// Parents' ids as big-endian numbers, zero where there is none. Without span ids any number
    /// but zero says that there is a parent.
    pub parent_span_id: &'a [u64],
    /// Rows from a span to its parent ([`NO_OFFSET`] where not known), as stored: the parent of
    /// row `i` may be row `i + parent_offset[i]`. Only a hint: with span ids the result is that
    /// without offsets, faster.
    pub parent_offset: &'a [i32],
    /// Nanoseconds since the Unix epoch.
    pub start_time_unix_nano: &'a [i64],
    /// End minus start; negative where clocks were skewed, [`UNFINISHED`] where it never ended.
    pub duration_nano: &'a [i64],
    /// Numbers of [`SpanKind`].
    pub kind: &'a [i8],
    /// Numbers of [`StatusCode`].
    pub status_code: &'a [i8],
    /// Services, numbered by the caller; [`NONE`] where not known.
    pub service: &'a [u32],
    /// Span names, numbered by the caller.
    pub name: &'a [u32],
}

impl<'a> TraceColumns<'a> {
    /// How many spans there are, copies counted.
    pub fn len(&self) -> usize {
        self.start_time_unix_nano.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.start_time_unix_nano.is_empty()
    }

    /// The rows of one trace of columns that hold several. Rows beyond the end are left out.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        fn part<'a, T>(column: &'a [T], rows: &Range<usize>) -> &'a [T] {
            let end = rows.end.min(column.len());
            &column[rows.start.min(end)..end]
        }
        Self {
            span_id: part(self.span_id, &rows),
            parent_span_id: part(self.parent_span_id, &rows),
            parent_offset: part(self.parent_offset, &rows),
            start_time_unix_nano: part(self.start_time_unix_nano, &rows),
            duration_nano: part(self.duration_nano, &rows),
            kind: part(self.kind, &rows),
            status_code: part(self.status_code, &rows),
            service: part(self.service, &rows),
            name: part(self.name, &rows),
        }
    }

    /// The start of a row's span.
    pub fn start(&self, row: usize) -> i64 {
        self.start_time_unix_nano.get(row).copied().unwrap_or(0)
    }

    /// The duration of a row's span, `None` where it never ended.
    pub fn duration(&self, row: usize) -> Option<i64> {
        let nano = self.raw_duration(row);
        (nano != UNFINISHED).then_some(nano)
    }

    /// The end of a row's span as far as the trace goes: its start where it never ended or ended
    /// before it began, so that `start..end` is never turned round.
    pub fn end(&self, row: usize) -> i64 {
        self.start(row)
            .saturating_add(self.raw_duration(row).max(0))
    }

    /// The kind of a row's span.
    pub fn kind(&self, row: usize) -> SpanKind {
        SpanKind::from_number(i64::from(self.raw_kind(row)))
    }

    /// Whether a row's span failed.
    pub fn has_error(&self, row: usize) -> bool {
        self.status_code.get(row).copied().unwrap_or(0) == StatusCode::Error as i8
    }

    /// The number of a row's service.
    pub fn service(&self, row: usize) -> u32 {
        self.service.get(row).copied().unwrap_or(0)
    }

    /// The number of a row's span name.
    pub fn name(&self, row: usize) -> u32 {
        self.name.get(row).copied().unwrap_or(0)
    }

    pub(super) fn span_id(&self, row: usize) -> u64 {
        self.span_id.get(row).copied().unwrap_or(0)
    }

    pub(super) fn parent_span_id(&self, row: usize) -> u64 {
        self.parent_span_id.get(row).copied().unwrap_or(0)
    }

    pub(super) fn raw_kind(&self, row: usize) -> i8 {
        self.kind.get(row).copied().unwrap_or(0)
    }

    pub(super) fn raw_duration(&self, row: usize) -> i64 {
        self.duration_nano.get(row).copied().unwrap_or(UNFINISHED)
    }

    /// The row to which the offset of a row leads, if there is one in the trace.
    pub(super) fn offset_row(&self, row: usize) -> Option<usize> {
        let offset = *self.parent_offset.get(row)?;
        if offset == NO_OFFSET {
            return None;
        }
        let at = row.checked_add_signed(isize::try_from(offset).ok()?)?;
        (at < self.len()).then_some(at)
    }
}

/// A span as [`TraceBuffer::push`] takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRow<'a> {
    /// Its own id.
    pub span_id: SpanId,
    /// Its parent, `None` at a root.
    pub parent_span_id: Option<SpanId>,
    /// Nanoseconds since the Unix epoch.
    pub start_time_unix_nano: i64,
    /// End minus start; `None` where it never ended.
    pub duration_nano: Option<i64>,
    /// Its role in a call.
    pub kind: SpanKind,
    /// How it ended.
    pub status_code: StatusCode,
    /// The service; empty where not known.
    pub service_name: &'a str,
    /// The operation.
    pub name: &'a str,
}

/// Columns of their own for spans that come one by one; services and names are numbered in the
/// order in which they come, and a service that is not known is [`NONE`].
#[derive(Debug, Clone, Default)]
pub struct TraceBuffer {
    span_id: Vec<u64>,
    parent_span_id: Vec<u64>,
    start_time_unix_nano: Vec<i64>,
    duration_nano: Vec<i64>,
    kind: Vec<i8>,
    status_code: Vec<i8>,
    service: Vec<u32>,
    name: Vec<u32>,
    services: Numbering,
    names: Numbering,
}

impl TraceBuffer {
    /// Adds a span.
    pub fn push(&mut self, span: &SpanRow<'_>) {
        let number = |id: SpanId| u64::from_be_bytes(*id.as_bytes());
        self.span_id.push(number(span.span_id));
        self.parent_span_id
            .push(span.parent_span_id.map_or(0, number));
        self.start_time_unix_nano.push(span.start_time_unix_nano);
        self.duration_nano
            .push(span.duration_nano.unwrap_or(UNFINISHED));
        self.kind.push(span.kind as i8);
        self.status_code.push(span.status_code as i8);
        self.service.push(match span.service_name {
            "" => NONE,
            name => self.services.number(name),
        });
        self.name.push(self.names.number(span.name));
    }

    /// Takes out all spans and keeps the numbers of services and names.
    pub fn clear(&mut self) {
        self.span_id.clear();
        self.parent_span_id.clear();
        self.start_time_unix_nano.clear();
        self.duration_nano.clear();
        self.kind.clear();
        self.status_code.clear();
        self.service.clear();
        self.name.clear();
    }

    /// The columns of all spans so far.
    pub fn columns(&self) -> TraceColumns<'_> {
        TraceColumns {
            span_id: &self.span_id,
            parent_span_id: &self.parent_span_id,
            parent_offset: &[],
            start_time_unix_nano: &self.start_time_unix_nano,
            duration_nano: &self.duration_nano,
            kind: &self.kind,
            status_code: &self.status_code,
            service: &self.service,
            name: &self.name,
        }
    }

    /// The number of a service, of which spans may be yet to come.
    pub fn service(&mut self, name: &str) -> u32 {
        self.services.number(name)
    }

    /// The service of a number that [`columns`](Self::columns) has.
    pub fn service_name(&self, number: u32) -> Option<&str> {
        self.services.text(number)
    }

    /// The span name of a number that [`columns`](Self::columns) has.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.text(number)
    }
}

/// Texts and their numbers.
#[derive(Debug, Clone, Default)]
struct Numbering {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Numbering {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // More than four thousand million different texts do not fit into memory.
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(text.to_string(), number);
        self.texts.push(text.to_string());
        number
    }

    fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(number as usize).map(String::as_str)
    }
}
