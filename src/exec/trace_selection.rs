//! Finds the traces of a range that a query can want, before all of their columns are read.
//!
//! Read [`TraceFilters`], what a query says of traces, and [`TraceSelection`], what is left.
//!
//! ```text
//!   1. trace id, filter's columns    t1 t1 t2 t2 t2 t3     t2 has a span that passes
//!   2. all columns of its rows             └──────┘
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::PhysicalExpr;
use futures::{StreamExt, TryStreamExt};

use super::column_buffer::id_column;
use super::range_load::{FILE_READS, wanted};
use super::range_rows::trace_numbers;
use crate::span::column;
use crate::table::{SpanReader, TraceRange, TraceScan, scan_column, stored_index};

/// What a query says of the traces that it wants.
#[derive(Debug, Clone, Default)]
pub(super) struct TraceFilters {
    /// Filters on the trace id alone, over a batch that has nothing else, some of which a join
    /// fills in while it runs.
    pub(super) by_id: Vec<Arc<dyn PhysicalExpr>>,
    /// A filter over the schema of a scan of traces that some span of a trace must pass.
    pub(super) by_span: Option<Arc<dyn PhysicalExpr>>,
    /// Whether a trace none of whose spans starts in the time asked for has no row in it.
    pub(super) by_start: bool,
}

/// What finds the traces that filters leave.
#[derive(Debug, Clone)]
pub(super) struct FilterReader {
    ids: SpanReader,
    ids_and_filter: SpanReader,
}

/// The traces of a range that are left, and where their rows lie.
#[derive(Debug)]
pub(super) struct TraceSelection {
    /// Sorted.
    traces: Vec<u128>,
    /// For each file its rows, in stretches.
    files: Vec<Vec<Range<u64>>>,
}

/// Consecutive rows of one trace in a file.
struct FileRun {
    trace: u128,
    rows: Range<u64>,
}

/// Stretches of fewer rows between those wanted are read with them: skipping costs too.
const GAP_ROWS: u64 = 32;

impl TraceFilters {
    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_span.is_none()
    }

    /// Adds a filter over columns of a relation, if it is one on the trace id alone.
    pub(super) fn add_by_id(
        &mut self,
        filter: &Arc<dyn PhysicalExpr>,
        is_trace_id: impl Fn(&Column) -> bool,
    ) -> Result<bool> {
        let columns = collect_columns(filter);
        if columns.is_empty() || !columns.iter().all(is_trace_id) {
            return Ok(false);
        }
        let moved = Arc::clone(filter).transform_up(|expr| {
            Ok(match expr.downcast_ref::<Column>() {
                Some(column) => {
                    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), 0));
                    Transformed::yes(column)
                }
                None => Transformed::no(expr),
            })
        });
        self.by_id.push(moved.data()?);
        Ok(true)
    }

    /// What reads the trace id and whether a span passes.
    pub(super) fn reader(&self, scan: &TraceScan) -> Result<FilterReader> {
        let trace_id = scan_column(stored_index(column::TRACE_ID)?);
        let by_span = self.by_span.iter();
        let by_span =
            by_span.map(|filter| ProjectionExpr::new(Arc::clone(filter), "passes".to_string()));
        let columns = std::iter::once(trace_id.clone()).chain(by_span);
        Ok(FilterReader {
            ids: scan.reader(vec![trace_id])?,
            ids_and_filter: scan.reader(columns.collect())?,
        })
    }

    /// Whether there is anything to select by now: what a join has to say may not be known, or
    /// may be nothing.
    fn says_something(&self, scan: &TraceScan) -> Result<bool> {
        if self.by_span.is_some() || scan.has_index() {
            return Ok(true);
        }
        for filter in &self.by_id {
            let known = snapshot_physical_expr(Arc::clone(filter))?;
            let is_true = known
                .downcast_ref::<Literal>()
                .is_some_and(|literal| *literal.value() == ScalarValue::Boolean(Some(true)));
            if !is_true {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which traces of a range are wanted; `None` where all are, as far as that can be told.
    pub(super) async fn select(
        &self,
        (scan, reader): (&TraceScan, &FilterReader),
        range: &TraceRange,
    ) -> Result<Option<TraceSelection>> {
        let is_cut = self.by_start && scan.is_mostly_margin();
        if !is_cut && !self.says_something(scan)? {
            return Ok(None);
        }
        let asked: Option<Vec<u128>> = scan.trace_ids().map(|ids| {
            let numbers = ids.iter().map(|id| u128::from_be_bytes(*id.as_bytes()));
            numbers.collect()
        });
        let mut files: Vec<Vec<FileRun>> = Vec::with_capacity(scan.file_count());
        let mut passing: Vec<u128> = Vec::new();
        // The traces that have a span in the time asked for, or may have a row without one.
        let mut in_time: Vec<u128> = Vec::new();
        let mut runs = futures::stream::iter(0..scan.file_count())
            .map(|file| self.runs(scan, reader, file, range, asked.as_deref()))
            .buffered(FILE_READS);
        while let Some((runs, passes)) = runs.try_next().await? {
            passing.extend(passes);
            if !self.by_start || scan.is_asked_for(files.len()) {
                in_time.extend(runs.iter().map(|run| run.trace));
            }
            files.push(runs);
        }
        // Stable sorting is quick about what is sorted file by file.
        in_time.sort();
        in_time.dedup();
        passing.sort();
        passing.dedup();
        let mut in_time = Rising::new(&in_time);
        passing.retain(|trace| in_time.contains(*trace));
        let traces = self.pass_by_id(passing)?;
        let files = files.iter().map(|runs| stretches(runs, &traces)).collect();
        Ok(Some(TraceSelection { traces, files }))
    }

    /// The runs of a file within a range, and the traces of spans that pass.
    async fn runs(
        &self,
        scan: &TraceScan,
        reader: &FilterReader,
        file: usize,
        range: &TraceRange,
        asked: Option<&[u128]>,
    ) -> Result<(Vec<FileRun>, Vec<u128>)> {
        let stretches = scan.rows(file, range);
        let (mut runs, mut passes) = (Vec::<FileRun>::new(), Vec::new());
        if stretches.is_empty() {
            return Ok((runs, passes));
        }
        let indexed = scan.passing(file).await?;
        let reader = match indexed {
            Some(_) => &reader.ids,
            None => &reader.ids_and_filter,
        };
        let mut batches = scan.read(reader, file, &stretches)?;
        let mut places = Places::new(stretches);
        let mut traces = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            trace_numbers(batch.column(0), &mut traces)?;
            let flags = batch.columns().get(1).map(AsArray::as_boolean);
            for wanted in wanted(range, asked, &traces) {
                let mut at = wanted.start;
                for same in traces[wanted].chunk_by(|a, b| a == b) {
                    let rows = places.of(at)..places.of(at + same.len() - 1) + 1;
                    let passes_here = match (&indexed, flags) {
                        (Some(any_passes), _) => any_passes(&rows),
                        (None, Some(flags)) => {
                            (at..at + same.len()).any(|row| flags.is_valid(row) && flags.value(row))
                        }
                        (None, None) => true,
                    };
                    if passes_here {
                        passes.push(same[0]);
                    }
                    match runs.last_mut() {
                        Some(last) if last.trace == same[0] && last.rows.end == rows.start => {
                            last.rows.end = rows.end;
                        }
                        _ => runs.push(FileRun {
                            trace: same[0],
                            rows,
                        }),
                    }
                    at += same.len();
                }
            }
            places.step(traces.len());
        }
        Ok((runs, passes))
    }

    /// Those of these traces that filters on the trace id let through.
    fn pass_by_id(&self, mut traces: Vec<u128>) -> Result<Vec<u128>> {
        if self.by_id.is_empty() || traces.is_empty() {
            return Ok(traces);
        }
        let field = Field::new("trace_id", DataType::Utf8View, false);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
        let ids = id_column(traces.iter().map(|trace| Some(trace.to_be_bytes())));
        let batch = RecordBatch::try_new(schema, vec![ids])?;
        let mut keep = vec![true; traces.len()];
        for filter in &self.by_id {
            let kept = filter.evaluate(&batch)?.into_array(traces.len())?;
            let kept = kept.as_boolean();
            for (row, keep) in keep.iter_mut().enumerate() {
                *keep &= kept.is_valid(row) && kept.value(row);
            }
        }
        let mut keep = keep.into_iter();
        traces.retain(|_| keep.next().unwrap_or(true));
        Ok(traces)
    }
}

/// The rows of the runs of these traces, both sorted, in stretches that leave out what is worth
/// leaving out.
fn stretches(runs: &[FileRun], traces: &[u128]) -> Vec<Range<u64>> {
    let mut traces = Rising::new(traces);
    let mut stretches: Vec<Range<u64>> = Vec::new();
    for run in runs.iter().filter(|run| traces.contains(run.trace)) {
        add_rows(&mut stretches, run.rows.clone());
    }
    stretches
}

/// Sorted traces, among which others are looked up, quickly where those rise as well.
pub(super) struct Rising<'a> {
    traces: &'a [u128],
    /// Those before are less than the one looked up last.
    at: usize,
}

impl<'a> Rising<'a> {
    pub(super) fn new(traces: &'a [u128]) -> Self {
        Self { traces, at: 0 }
    }

    pub(super) fn contains(&mut self, trace: u128) -> bool {
        if self.at > 0 && trace <= self.traces[self.at - 1] {
            self.at = 0;
        }
        let left = &self.traces[self.at..];
        let mut end = 1;
        while end < left.len() && left[end] < trace {
            end *= 2;
        }
        let near = &left[..left.len().min(end + 1)];
        self.at += near.partition_point(|other| *other < trace);
        self.traces.get(self.at) == Some(&trace)
    }
}

/// Where in the file rows lie that were read of stretches of it.
struct Places {
    stretches: std::vec::IntoIter<Range<u64>>,
    /// What is left of the stretch in which the batch at hand goes on.
    current: Range<u64>,
    /// The row of the batch at which it does.
    row: usize,
}

impl Places {
    fn new(stretches: Vec<Range<u64>>) -> Self {
        Self {
            stretches: stretches.into_iter(),
            current: 0..0,
            row: 0,
        }
    }

    /// The place of a row of the batch at hand, none of which is asked for after a later one.
    fn of(&mut self, row: usize) -> u64 {
        loop {
            let ahead = (row - self.row) as u64;
            let length = self.current.end - self.current.start;
            if ahead < length {
                return self.current.start + ahead;
            }
            let Some(next) = self.stretches.next() else {
                return self.current.end;
            };
            self.row += length as usize;
            self.current = next;
        }
    }

    /// Goes on to the next batch, after one of so many rows.
    fn step(&mut self, rows: usize) {
        let Some(last) = rows.checked_sub(1) else {
            return;
        };
        self.current.start = self.of(last) + 1;
        self.row = 0;
    }
}

/// Adds rows that come after those that are there.
fn add_rows(stretches: &mut Vec<Range<u64>>, rows: Range<u64>) {
    match stretches.last_mut() {
        Some(last) if rows.start.saturating_sub(last.end) <= GAP_ROWS => last.end = rows.end,
        _ => stretches.push(rows),
    }
}

impl TraceSelection {
    /// The traces, sorted, and where the rows of each lie in which file.
    pub(super) fn new(
        traces: Vec<u128>,
        file_count: usize,
        places: impl IntoIterator<Item = (usize, Range<u64>)>,
    ) -> Self {
        let mut files = vec![Vec::new(); file_count];
        for (file, rows) in places {
            add_rows(&mut files[file], rows);
        }
        Self { traces, files }
    }

    /// The traces, sorted.
    pub(super) fn traces(&self) -> &[u128] {
        &self.traces
    }

    /// The rows of a file, in stretches, that hold them.
    pub(super) fn rows(&self, file: usize) -> Vec<Range<u64>> {
        self.files.get(file).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_found_whatever_the_order_they_are_looked_up_in() {
        let traces: Vec<u128> = (0..100).map(|n| n * 3).collect();
        let mut rising = Rising::new(&traces);
        for trace in (0..310).chain((0..310).rev()).chain([7, 297, 0, 299, 150]) {
            assert_eq!(
                rising.contains(trace),
                trace % 3 == 0 && trace < 300,
                "{trace}"
            );
        }
        assert!(!Rising::new(&[]).contains(1));
    }

    #[test]
    fn places_go_on_from_batch_to_batch_and_stretch_to_stretch() {
        let stretches = vec![5..8, 20..21, 30..36];
        let expected: Vec<u64> = stretches.iter().cloned().flatten().collect();
        for batch in 1..=expected.len() {
            let mut places = Places::new(stretches.clone());
            for batch in expected.chunks(batch) {
                for (row, place) in batch.iter().enumerate() {
                    assert_eq!((places.of(row), places.of(row)), (*place, *place));
                }
                places.step(batch.len());
            }
        }
    }
}
