//! Reads the spans of a range of traces out of all files that may hold some.
//!
//! Read [`LoadPlan`]. Files are read some at a time and taken in one after another, so that what
//! comes out does not depend on which was faster.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use futures::{StreamExt, TryStreamExt};

use super::linked_spans::follow_links;
use super::needs::Needs;
use super::range_rows::{RangeRows, trace_numbers};
use super::trace_selection::{Rising, TraceSelection};
use crate::span::column;
use crate::table::{
    SpanReader, TraceRange, TraceScan, scan_column, stored_index, trace_scan_schema,
};

/// How many files of a range are read at the same time.
pub(super) const FILE_READS: usize = 4;

/// What is read of each span, and where it then stands.
#[derive(Debug, Clone)]
pub(super) struct LoadPlan {
    needs: Needs,
    columns: Vec<ProjectionExpr>,
    trace_id: usize,
    needed: Vec<usize>,
    passed: Vec<usize>,
    passed_schema: SchemaRef,
    follows_links: bool,
}

impl LoadPlan {
    /// Reads what is needed, and passes on these expressions over the schema of a scan of traces.
    pub(super) fn try_new(
        needs: Needs,
        passed: &[ProjectionExpr],
        follows_links: bool,
    ) -> Result<Self> {
        let mut columns: Vec<ProjectionExpr> = Vec::new();
        let mut place = |column: ProjectionExpr| {
            let known = columns
                .iter()
                .position(|other| other.expr.as_ref() == column.expr.as_ref());
            known.unwrap_or_else(|| {
                columns.push(column);
                columns.len() - 1
            })
        };
        let trace_id = place(scan_column(stored_index(column::TRACE_ID)?));
        let mut needed = Vec::new();
        for need in Needs::ALL.into_iter().filter(|need| needs.has(*need)) {
            needed.push(place(scan_column(need.index()?)));
        }
        let schema = trace_scan_schema();
        let mut fields = Vec::with_capacity(passed.len());
        for (index, column) in passed.iter().enumerate() {
            let data_type = column.expr.data_type(&schema)?;
            fields.push(Field::new(format!("passed {index}"), data_type, true));
        }
        let passed = passed.iter().map(|column| place(column.clone())).collect();
        // Each has a name of its own, whatever it had before.
        for (index, column) in columns.iter_mut().enumerate() {
            column.alias = format!("column {index}");
        }
        Ok(Self {
            needs,
            columns,
            trace_id,
            needed,
            passed,
            passed_schema: Arc::new(Schema::new(fields)),
            follows_links,
        })
    }

    /// The columns that are read, as indices of the schema of a scan of traces.
    pub(super) fn columns(&self) -> Vec<usize> {
        let columns = self.columns.iter().flat_map(|column| {
            let columns = collect_columns(&column.expr);
            columns.into_iter().map(|column| column.index())
        });
        columns.collect()
    }

    /// What reads these columns.
    pub(super) fn reader(&self, scan: &TraceScan) -> Result<SpanReader> {
        scan.reader(self.columns.clone())
    }

    /// Reads the spans of a range, of all its traces or of those selected. What they take is
    /// added to `reservation`.
    pub(super) async fn load(
        &self,
        (scan, reader): (&TraceScan, &SpanReader),
        (range, selection): (&TraceRange, Option<&TraceSelection>),
        context: &Arc<TaskContext>,
        reservation: &MemoryReservation,
    ) -> Result<RangeRows> {
        let files = (0..scan.file_count()).filter_map(|file| {
            let rows = match selection {
                Some(selection) => selection.rows(file),
                None => scan.rows(file, range),
            };
            (!rows.is_empty()).then_some((file, rows))
        });
        let asked: Option<Vec<u128>> = match (selection, scan.trace_ids()) {
            (Some(selection), _) => Some(selection.traces().to_vec()),
            (None, Some(ids)) => {
                let numbers = ids.iter().map(|id| u128::from_be_bytes(*id.as_bytes()));
                Some(numbers.collect())
            }
            (None, None) => None,
        };
        let mut batches = futures::stream::iter(files)
            .map(|(file, places)| {
                let stream = scan.read(reader, file, &places, Arc::clone(context));
                async move {
                    let mut stream = stream?;
                    let mut batches = Vec::new();
                    while let Some(batch) = stream.try_next().await? {
                        let bytes = batch.get_array_memory_size();
                        reservation.try_grow(bytes).map_err(too_large)?;
                        batches.push(batch);
                    }
                    Ok::<_, DataFusionError>((file, places, batches))
                }
            })
            .buffered(FILE_READS);
        let mut rows = RangeRows::new(self.needs);
        let mut traces = Vec::new();
        while let Some((file, places, batches)) = batches.try_next().await? {
            rows.begin_file(file, places);
            for batch in batches {
                trace_numbers(batch.column(self.trace_id), &mut traces)?;
                for wanted in wanted(range, asked.as_deref(), &traces) {
                    rows.locate(&wanted);
                    self.append(&mut rows, &traces, &batch, wanted)?;
                }
                rows.step(traces.len());
            }
        }
        rows.finish(&self.passed_schema)?;
        if self.follows_links {
            follow_links(scan, &mut rows, context).await?;
        }
        Ok(rows)
    }

    fn append(
        &self,
        rows: &mut RangeRows,
        traces: &[u128],
        batch: &RecordBatch,
        wanted: Range<usize>,
    ) -> Result<()> {
        let batch = batch.slice(wanted.start, wanted.len());
        let column = |place: &usize| Arc::clone(batch.column(*place));
        let needed: Vec<_> = self.needed.iter().map(column).collect();
        let passed = (!self.passed.is_empty()).then(|| {
            let columns = self.passed.iter().map(column).collect();
            RecordBatch::try_new(Arc::clone(&self.passed_schema), columns)
        });
        rows.append(&traces[wanted], &needed, passed.transpose()?)
    }
}

/// The rows, in stretches, that belong to a range and to the traces asked for, which are sorted.
pub(super) fn wanted(
    range: &TraceRange,
    asked: Option<&[u128]>,
    traces: &[u128],
) -> Vec<Range<usize>> {
    let first = traces.partition_point(|trace| *trace < range.first);
    let end = traces.partition_point(|trace| *trace <= range.last);
    let Some(asked) = asked else {
        return std::iter::once(first..end.max(first))
            .filter(|rows| !rows.is_empty())
            .collect();
    };
    let mut asked = Rising::new(asked);
    let mut stretches: Vec<Range<usize>> = Vec::new();
    let mut at = first;
    for same in traces[first..end.max(first)].chunk_by(|a, b| a == b) {
        let rows = at..at + same.len();
        at = rows.end;
        if !asked.contains(same[0]) {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => stretches.push(rows),
        }
    }
    stretches
}

/// Says what the memory was for.
pub(super) fn too_large(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::ResourcesExhausted(what) => DataFusionError::ResourcesExhausted(format!(
            "the spans of some traces must be in memory together, with every column the query \
             uses: {what}"
        )),
        other => other,
    }
}
