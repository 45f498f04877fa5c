//! The spans of a range of traces, as columns, found trace by trace.
//!
//! Read [`RangeRows`] and [`TraceRows`]. Where the spans come from is `range_load.rs`.
//!
//! ```text
//!   rows    │ file a: t1 t1 t1 t2 t3 t3 │ file b: t1 t4 t4 │      in the files' order
//!   runs    t1 0..3   t1 6..7   t2 3..4   t3 4..6   t4 7..9       by trace
//! ```
//!
//! A trace that is one run is used where it lies; the runs of others are gathered first.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringViewArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    ArrowPrimitiveType, Int8Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err};

use super::file_places::FilePlaces;
use super::id_set::IdSet;
use super::needs::Needs;
use super::numbering::Numbering;
use super::peers::Peers;
use crate::span::OFFSET_TRACE_ROWS;
use crate::trace::{LinkTarget, NO_OFFSET, TraceColumns, UNFINISHED};

/// Consecutive rows of one trace in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TraceRun {
    pub(super) trace: u128,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The spans of a range of traces. Columns that are not needed stay empty.
#[derive(Debug, Default)]
pub struct RangeRows {
    needs: Needs,
    pub(super) columns: OwnedColumns,
    pub(super) services: Numbering,
    pub(super) names: Numbering,
    pub(super) peers: Peers,
    runs: Vec<TraceRun>,
    row_count: u32,
    passed: Vec<RecordBatch>,
    passed_bytes: usize,
    linked: HashMap<(u128, u64), LinkTarget>,
    places: FilePlaces,
}

/// Columns for [`TraceColumns`] to point into.
#[derive(Debug, Default)]
pub(super) struct OwnedColumns {
    pub(super) span_id: Vec<u64>,
    pub(super) parent_span_id: Vec<u64>,
    pub(super) parent_offset: Vec<i32>,
    pub(super) start: Vec<i64>,
    pub(super) duration: Vec<i64>,
    pub(super) kind: Vec<i8>,
    status: Vec<i8>,
    service: Vec<u32>,
    name: Vec<u32>,
    pub(super) ingested_at: Vec<i64>,
}

/// The spans of one trace, copies included.
pub struct TraceRows<'a> {
    /// The trace id as a big-endian number.
    pub(super) trace: u128,
    /// What is known of them.
    pub(super) columns: TraceColumns<'a>,
    /// The range they lie in.
    pub(super) range: &'a RangeRows,
    rows: Places<'a>,
}

enum Places<'a> {
    /// One after another from here on.
    Run(u32),
    Gathered(&'a [u32]),
}

impl TraceRows<'_> {
    /// Whether its parents are where the stored offsets lead, and nowhere else: the trace lies in
    /// one file, no id stands in it twice, and each parent comes before its children, so that
    /// there is no circle. Span ids and offsets must have been read.
    pub(super) fn is_simple(&self, seen: &mut IdSet) -> bool {
        let columns = &self.columns;
        matches!(self.rows, Places::Run(_))
            && columns.len() <= OFFSET_TRACE_ROWS
            && columns.span_id.len() == columns.parent_offset.len()
            && columns.parent_offset.iter().all(|offset| *offset < 0)
            && seen.are_distinct(columns.span_id)
    }

    /// Where a row of [`columns`](Self::columns) lies in the range.
    pub(super) fn place(&self, row: usize) -> u32 {
        match self.rows {
            Places::Run(start) => start + row as u32,
            Places::Gathered(rows) => rows[row],
        }
    }
}

/// Room for the spans of a trace that lies in several files.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    columns: OwnedColumns,
    rows: Vec<u32>,
}

impl RangeRows {
    pub(super) fn new(needs: Needs) -> Self {
        Self {
            needs,
            ..Self::default()
        }
    }

    /// Makes room for so many rows, which growing would copy again and again.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.columns.reserve(self.needs, rows);
    }

    /// What comes next are these rows of a file.
    pub(super) fn begin_file(&mut self, file: usize, rows: Vec<Range<u64>>) {
        self.places.begin(file, rows, self.row_count);
    }

    /// Remembers where the rows of the batch at hand that are taken in next lie in the file.
    pub(super) fn locate(&mut self, wanted: &Range<usize>) {
        self.places.locate(wanted, self.row_count);
    }

    /// Goes on to the next batch of the file, after so many rows.
    pub(super) fn step(&mut self, rows: usize) {
        self.places.step(rows);
    }

    /// The rows of a run in its file.
    pub(super) fn file_rows(&self, run: &TraceRun) -> Vec<(usize, Range<u64>)> {
        self.places.file_rows(run)
    }

    /// Takes in consecutive rows of a file, all of traces that are wanted: the trace of each,
    /// the needed columns in the order of [`Needs::ALL`], and what is passed on as it is.
    pub(super) fn append(
        &mut self,
        traces: &[u128],
        needed: &[ArrayRef],
        passed: Option<RecordBatch>,
    ) -> Result<()> {
        let Some(row_count) = u32::try_from(traces.len())
            .ok()
            .and_then(|count| self.row_count.checked_add(count))
        else {
            return exec_err!("a range of traces has more than four billion spans");
        };
        let mut at = 0;
        for same in traces.chunk_by(|a, b| a == b) {
            let start = self.row_count + at;
            at += same.len() as u32;
            match self.runs.last_mut() {
                // A run goes on in the next batch of the file.
                Some(last)
                    if last.trace == same[0]
                        && last.end == start
                        && last.start >= self.places.first_row =>
                {
                    last.end = self.row_count + at;
                }
                _ => self.runs.push(TraceRun {
                    trace: same[0],
                    start,
                    end: self.row_count + at,
                }),
            }
        }
        let wanted = Needs::ALL.into_iter().filter(|need| self.needs.has(*need));
        for (need, array) in wanted.zip(needed) {
            let (services, names) = (&mut self.services, &mut self.names);
            self.columns.extend(need, array, services, names)?;
        }
        self.passed_bytes += passed
            .as_ref()
            .map_or(0, RecordBatch::get_array_memory_size);
        self.passed.extend(passed);
        self.row_count = row_count;
        Ok(())
    }

    /// Brings the runs of each trace together, once all rows are in.
    pub(super) fn finish(&mut self, passed: &SchemaRef) -> Result<()> {
        // Stable, so that of equal traces the run of the earlier file stays first; and quick,
        // since each file's runs rise.
        self.runs.sort_by_key(|run| run.trace);
        if self.passed.len() > 1 {
            let whole = concat_batches(passed, &self.passed)?;
            self.passed = vec![whole];
        }
        Ok(())
    }

    /// Numbers peers beside services, once all of those are known.
    pub(super) fn number_peers(&mut self) {
        self.peers.finish(&self.services);
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        self.columns.size()
            + self.peers.size()
            + self.runs.capacity() * size_of::<TraceRun>()
            + self.passed_bytes
    }

    /// What is passed on as it is, all rows of the range; `None` where that is nothing.
    pub(super) fn passed(&self, index: usize) -> Option<&ArrayRef> {
        self.passed
            .first()
            .and_then(|batch| batch.columns().get(index))
    }

    /// Where a link to a span of another trace leads, if that was found.
    pub(super) fn linked(&self, trace: u128, span: u64) -> Option<LinkTarget> {
        self.linked.get(&(trace, span)).copied()
    }

    /// Keeps where links to spans of other traces lead.
    pub(super) fn set_linked(&mut self, linked: HashMap<(u128, u64), LinkTarget>) {
        self.linked = linked;
    }

    /// The runs of all traces, those of one trace next to each other.
    pub(super) fn runs(&self) -> &[TraceRun] {
        &self.runs
    }

    /// The spans of the trace whose first run is the one at `first`, and the index of the next
    /// trace's first run.
    pub(super) fn trace<'a>(
        &'a self,
        first: usize,
        room: &'a mut Gathered,
    ) -> (TraceRows<'a>, usize) {
        let run = self.runs[first];
        let same = self.runs[first..].iter();
        let count = same.take_while(|other| other.trace == run.trace).count();
        let (columns, rows) = if count == 1 {
            let rows = run.start as usize..run.end as usize;
            (self.columns.view().slice(rows), Places::Run(run.start))
        } else {
            room.gather(&self.columns, &self.runs[first..first + count]);
            (room.columns.view(), Places::Gathered(&room.rows))
        };
        let trace = TraceRows {
            trace: run.trace,
            columns,
            range: self,
            rows,
        };
        (trace, first + count)
    }
}

impl Gathered {
    fn gather(&mut self, from: &OwnedColumns, runs: &[TraceRun]) {
        self.rows.clear();
        self.columns.clear();
        for run in runs {
            self.rows.extend(run.start..run.end);
            self.columns
                .copy(from, run.start as usize..run.end as usize);
        }
    }
}

impl OwnedColumns {
    fn view(&self) -> TraceColumns<'_> {
        TraceColumns {
            span_id: &self.span_id,
            parent_span_id: &self.parent_span_id,
            parent_offset: &self.parent_offset,
            start_time_unix_nano: &self.start,
            duration_nano: &self.duration,
            kind: &self.kind,
            status_code: &self.status,
            service: &self.service,
            name: &self.name,
        }
    }

    fn size(&self) -> usize {
        fn size<T>(numbers: &Vec<T>) -> usize {
            numbers.capacity() * size_of::<T>()
        }
        size(&self.span_id)
            + size(&self.parent_span_id)
            + size(&self.parent_offset)
            + size(&self.start)
            + size(&self.duration)
            + size(&self.kind)
            + size(&self.status)
            + size(&self.service)
            + size(&self.name)
            + size(&self.ingested_at)
    }

    fn reserve(&mut self, needs: Needs, rows: usize) {
        for need in Needs::ALL.into_iter().filter(|need| needs.has(*need)) {
            match need {
                Needs::SPAN_ID => self.span_id.reserve(rows),
                Needs::PARENT_SPAN_ID => self.parent_span_id.reserve(rows),
                Needs::PARENT_OFFSET => self.parent_offset.reserve(rows),
                Needs::START => self.start.reserve(rows),
                Needs::DURATION => self.duration.reserve(rows),
                Needs::KIND => self.kind.reserve(rows),
                Needs::STATUS => self.status.reserve(rows),
                Needs::SERVICE => self.service.reserve(rows),
                Needs::NAME => self.name.reserve(rows),
                _ => self.ingested_at.reserve(rows),
            }
        }
    }

    fn clear(&mut self) {
        self.span_id.clear();
        self.parent_span_id.clear();
        self.parent_offset.clear();
        self.start.clear();
        self.duration.clear();
        self.kind.clear();
        self.status.clear();
        self.service.clear();
        self.name.clear();
        self.ingested_at.clear();
    }

    fn copy(&mut self, from: &Self, rows: Range<usize>) {
        fn copy<T: Copy>(to: &mut Vec<T>, from: &[T], rows: &Range<usize>) {
            to.extend_from_slice(from.get(rows.clone()).unwrap_or_default());
        }
        copy(&mut self.span_id, &from.span_id, &rows);
        copy(&mut self.parent_span_id, &from.parent_span_id, &rows);
        copy(&mut self.parent_offset, &from.parent_offset, &rows);
        copy(&mut self.start, &from.start, &rows);
        copy(&mut self.duration, &from.duration, &rows);
        copy(&mut self.kind, &from.kind, &rows);
        copy(&mut self.status, &from.status, &rows);
        copy(&mut self.service, &from.service, &rows);
        copy(&mut self.name, &from.name, &rows);
        copy(&mut self.ingested_at, &from.ingested_at, &rows);
    }

    fn extend(
        &mut self,
        need: Needs,
        array: &ArrayRef,
        services: &mut Numbering,
        names: &mut Numbering,
    ) -> Result<()> {
        match need {
            Needs::SPAN_ID => extend_ids(&mut self.span_id, binary(array)?),
            Needs::PARENT_SPAN_ID => extend_ids(&mut self.parent_span_id, binary(array)?),
            Needs::PARENT_OFFSET => {
                let offsets = primitive::<Int32Type>(array)?;
                extend_numbers(&mut self.parent_offset, offsets, NO_OFFSET);
            }
            Needs::START => extend_numbers(&mut self.start, primitive::<Int64Type>(array)?, 0),
            Needs::DURATION => {
                let durations = primitive::<Int64Type>(array)?;
                extend_numbers(&mut self.duration, durations, UNFINISHED);
            }
            Needs::KIND => extend_numbers(&mut self.kind, primitive::<Int8Type>(array)?, 0),
            Needs::STATUS => extend_numbers(&mut self.status, primitive::<Int8Type>(array)?, 0),
            Needs::SERVICE => services.extend(text(array)?, &mut self.service),
            Needs::NAME => names.extend(text(array)?, &mut self.name),
            _ => {
                let times = primitive::<TimestampMicrosecondType>(array)?;
                extend_numbers(&mut self.ingested_at, times, NEVER_INGESTED);
            }
        }
        Ok(())
    }
}

/// When a row was committed of which it is not known.
pub(super) const NEVER_INGESTED: i64 = i64::MIN;

/// The ids of a column as big-endian numbers, zero where NULL.
fn extend_ids(ids: &mut Vec<u64>, array: &FixedSizeBinaryArray) {
    let (bytes, _) = array.value_data().as_chunks::<8>();
    let start = array.offset();
    let bytes = bytes.iter().skip(start).take(array.len());
    let first = ids.len();
    ids.extend(bytes.map(|bytes| u64::from_be_bytes(*bytes)));
    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (row, id) in ids[first..].iter_mut().enumerate() {
            if nulls.is_null(row) {
                *id = 0;
            }
        }
    }
}

fn extend_numbers<T: ArrowPrimitiveType>(
    numbers: &mut Vec<T::Native>,
    array: &PrimitiveArray<T>,
    null: T::Native,
) {
    let first = numbers.len();
    numbers.extend_from_slice(array.values());
    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (row, number) in numbers[first..].iter_mut().enumerate() {
            if nulls.is_null(row) {
                *number = null;
            }
        }
    }
}

/// The trace ids of a column as big-endian numbers.
pub(super) fn trace_numbers(array: &ArrayRef, numbers: &mut Vec<u128>) -> Result<()> {
    let array = binary(array)?;
    let (bytes, _) = array.value_data().as_chunks::<16>();
    let bytes = bytes.iter().skip(array.offset()).take(array.len());
    numbers.clear();
    numbers.extend(bytes.map(|bytes| u128::from_be_bytes(*bytes)));
    Ok(())
}

fn binary(array: &ArrayRef) -> Result<&FixedSizeBinaryArray> {
    match array.as_fixed_size_binary_opt() {
        Some(array) => Ok(array),
        None => exec_err!("a column of ids is stored as {}", array.data_type()),
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    match array.as_primitive_opt::<T>() {
        Some(array) => Ok(array),
        None => exec_err!("a column of numbers is stored as {}", array.data_type()),
    }
}

fn text(array: &ArrayRef) -> Result<&StringViewArray> {
    match array.as_string_view_opt() {
        Some(array) => Ok(array),
        None => exec_err!("a column of texts is stored as {}", array.data_type()),
    }
}
