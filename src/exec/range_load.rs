//! Reads the spans of a range of traces out of all files that may hold some.
//!
//! Read [`LoadPlan`]. Files are read some at a time and taken in one after another, so that what
//! comes out does not depend on which was faster.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use futures::{StreamExt, TryStreamExt};

use super::linked_spans::follow_links;
use super::needs::Needs;
use super::range_rows::{RangeRows, trace_numbers};
use super::relation::TraceRelation;
use super::trace_selection::{Rising, TraceSelection};
use crate::span::column;
use crate::table::{
    SpanReader, TraceRange, TraceScan, scan_column, span_column_schema, stored_index,
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
    peers: Vec<usize>,
    follows_links: bool,
}

impl LoadPlan {
    /// Reads what is needed of each span.
    pub(super) fn try_new(needs: Needs) -> Result<Self> {
        Self::with_more(needs, &[], &[])
    }

    /// Reads what the columns of a relation at these indices need.
    pub(super) fn of(relation: &dyn TraceRelation, projection: &[usize]) -> Result<Self> {
        let needs = relation.needs(projection);
        let plan = Self::with_more(needs, &relation.passed(projection), &relation.peers())?;
        Ok(Self {
            follows_links: relation.follows_links(),
            ..plan
        })
    }

    fn with_more(
        needs: Needs,
        passed: &[ProjectionExpr],
        peers: &[ProjectionExpr],
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
        let schema = span_column_schema();
        let mut fields = Vec::with_capacity(passed.len());
        for (index, column) in passed.iter().enumerate() {
            let data_type = column.expr.data_type(&schema)?;
            fields.push(Field::new(format!("passed {index}"), data_type, true));
        }
        let mut places = |columns: &[ProjectionExpr]| -> Vec<usize> {
            columns.iter().map(|column| place(column.clone())).collect()
        };
        let (passed, peers) = (places(passed), places(peers));
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
            peers,
            follows_links: false,
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
                let stream = scan.read(reader, file, &places);
                async move {
                    let mut stream = stream?;
                    let (mut batches, mut bytes) = (Vec::new(), 0);
                    while let Some(batch) = stream.try_next().await? {
                        let size = batch.get_array_memory_size();
                        reservation.try_grow(size).map_err(too_large)?;
                        bytes += size;
                        batches.push(batch);
                    }
                    Ok::<_, DataFusionError>((file, places, batches, bytes))
                }
            })
            .buffered(FILE_READS);
        let mut rows = RangeRows::new(self.needs);
        let mut traces = Vec::new();
        if asked.is_none() {
            rows.reserve(usize::try_from(range.row_count).unwrap_or(0));
        }
        let mut size = 0;
        while let Some((file, places, batches, bytes)) = batches.try_next().await? {
            rows.begin_file(file, places);
            for batch in batches {
                trace_numbers(batch.column(self.trace_id), &mut traces)?;
                for wanted in wanted(range, asked.as_deref(), &traces) {
                    rows.locate(&wanted);
                    self.append(&mut rows, &traces, &batch, wanted)?;
                }
                rows.step(traces.len());
            }
            // What was read is gone; what was made of it stays.
            let grown = rows.size() - std::mem::replace(&mut size, rows.size());
            reservation.shrink(bytes);
            reservation.try_grow(grown).map_err(too_large)?;
        }
        rows.finish(&self.passed_schema)?;
        if self.follows_links {
            follow_links(scan, &mut rows).await?;
        }
        rows.number_peers();
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
        let columns = |places: &[usize]| -> Vec<ArrayRef> {
            let columns = places.iter().map(|place| batch.column(*place));
            columns.cloned().collect()
        };
        let passed = (!self.passed.is_empty()).then(|| {
            let schema = Arc::clone(&self.passed_schema);
            RecordBatch::try_new(schema, columns(&self.passed))
        });
        rows.peers.extend(&columns(&self.peers))?;
        rows.append(&traces[wanted], &columns(&self.needed), passed.transpose()?)
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
