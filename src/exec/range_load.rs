//! Reads the spans of a range of traces out of all files that may hold some.
//!
//! Read [`LoadPlan`]. Files are read some at a time and taken in one after another, so that what
//! comes out does not depend on which was faster.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::{StreamExt, TryStreamExt};

use super::linked_spans::follow_links;
use super::needs::Needs;
use super::range_rows::{RangeRows, trace_numbers};
use crate::table::{TraceRange, TraceScan, trace_id_index, trace_scan_schema};

/// How many files of a range are read at the same time.
const FILE_READS: usize = 4;

/// What is read of each span, and where it then stands.
#[derive(Debug, Clone)]
pub(super) struct LoadPlan {
    needs: Needs,
    columns: Vec<usize>,
    trace_id: usize,
    needed: Vec<usize>,
    passed: Vec<usize>,
    passed_schema: SchemaRef,
    follows_links: bool,
}

impl LoadPlan {
    /// Reads what is needed, and passes on the columns of `spans` at these indices.
    pub(super) fn try_new(needs: Needs, passed: &[usize], follows_links: bool) -> Result<Self> {
        let mut columns: Vec<usize> = Vec::new();
        let mut place = |index: usize| match columns.iter().position(|other| *other == index) {
            Some(place) => place,
            None => {
                columns.push(index);
                columns.len() - 1
            }
        };
        let trace_id = place(trace_id_index()?);
        let mut needed = Vec::new();
        for need in Needs::ALL.into_iter().filter(|need| needs.has(*need)) {
            needed.push(place(need.index()?));
        }
        let passed_schema = Arc::new(trace_scan_schema().project(passed)?);
        let passed = passed.iter().map(|index| place(*index)).collect();
        Ok(Self {
            needs,
            columns,
            trace_id,
            needed,
            passed,
            passed_schema,
            follows_links,
        })
    }

    /// The columns that are read, as indices of the schema of a scan of traces.
    pub(super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Reads the spans of a range. What they take is added to `reservation`.
    pub(super) async fn load(
        &self,
        scan: &TraceScan,
        range: &TraceRange,
        context: &Arc<TaskContext>,
        reservation: &MemoryReservation,
    ) -> Result<RangeRows> {
        let files = (0..scan.file_count()).filter_map(|file| {
            let rows = scan.rows(file, range);
            (!rows.is_empty()).then_some((file, rows))
        });
        let mut batches = futures::stream::iter(files)
            .map(|(file, rows)| {
                let stream = scan.read(file, &rows, &self.columns, Arc::clone(context));
                async move {
                    let mut stream = stream?;
                    let mut batches = Vec::new();
                    while let Some(batch) = stream.try_next().await? {
                        let bytes = batch.get_array_memory_size();
                        reservation.try_grow(bytes).map_err(too_large)?;
                        batches.push(batch);
                    }
                    Ok::<_, DataFusionError>(batches)
                }
            })
            .buffered(FILE_READS);
        let mut rows = RangeRows::new(self.needs);
        let mut traces = Vec::new();
        while let Some(file) = batches.try_next().await? {
            for batch in file {
                trace_numbers(batch.column(self.trace_id), &mut traces)?;
                for wanted in wanted(scan, range, &traces) {
                    self.append(&mut rows, &traces, &batch, wanted)?;
                }
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

/// The rows, in stretches, that belong to a range and to the traces asked for.
fn wanted(scan: &TraceScan, range: &TraceRange, traces: &[u128]) -> Vec<Range<usize>> {
    let first = traces.partition_point(|trace| *trace < range.first);
    let end = traces.partition_point(|trace| *trace <= range.last);
    let Some(ids) = scan.trace_ids() else {
        return std::iter::once(first..end.max(first))
            .filter(|rows| !rows.is_empty())
            .collect();
    };
    let mut stretches: Vec<Range<usize>> = Vec::new();
    let mut at = first;
    for same in traces[first..end.max(first)].chunk_by(|a, b| a == b) {
        let rows = at..at + same.len();
        at = rows.end;
        let id = same[0].to_be_bytes();
        if ids
            .binary_search_by(|other| other.as_bytes().cmp(&id))
            .is_err()
        {
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
fn too_large(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::ResourcesExhausted(what) => DataFusionError::ResourcesExhausted(format!(
            "the spans of some traces must be in memory together, with every column the query \
             uses: {what}"
        )),
        other => other,
    }
}
