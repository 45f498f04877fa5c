//! The work of an output partition of [`TraceExec`]: range after range is read and worked
//! through, some traces twice.
//!
//! Read [`TraceWork`].

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count};

use super::TraceExec;
use super::id_set::IdSet;
use super::range_load::too_large;
use super::range_rows::{Gathered, RangeRows};
use super::relation::RelationRows;
use super::trace_selection::TraceSelection;
use crate::table::TraceRange;

/// What is left to do for an output partition.
///
/// Where simple traces need less, a range is read twice: first as much as those need, then, of
/// the traces that turn out not to be simple, everything.
pub(super) struct TraceWork {
    pub(super) exec: TraceExec,
    pub(super) reservation: MemoryReservation,
    pub(super) batch_rows: usize,
    /// Rows still wanted.
    pub(super) left: usize,
    pub(super) ranges: VecDeque<TraceRange>,
    pub(super) current: Option<Current>,
    /// Traces of a range that must be read again.
    pub(super) again: Option<(TraceRange, TraceSelection)>,
    pub(super) ready: VecDeque<RecordBatch>,
    pub(super) seen: IdSet,
    pub(super) baseline: BaselineMetrics,
    pub(super) trace_count: Count,
    pub(super) read_again: Count,
}

/// The range at hand.
pub(super) struct Current {
    bounds: TraceRange,
    range: RangeRows,
    /// Whether only what simple traces need was read.
    is_quick: bool,
    /// The first runs, and the ends of the runs, of traces that are not simple.
    others: Vec<(usize, usize)>,
    /// The first run of the next trace.
    next: usize,
    room: Gathered,
    rows: Box<dyn RelationRows>,
    /// Bytes reserved for the spans of the range.
    reserved: usize,
}

impl TraceWork {
    pub(super) async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            if let Some(batch) = self.ready.pop_front() {
                let batch = batch.slice(0, batch.num_rows().min(self.left));
                self.left -= batch.num_rows();
                self.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.current.is_some() {
                self.work_on()?;
                // Whoever asked to stop is heard between batches.
                tokio::task::yield_now().await;
            } else if let Some((range, selection)) = self.again.take() {
                self.load(range, Some(selection), false).await?;
            } else if let Some(range) = self.ranges.pop_front() {
                self.begin(range).await?;
            } else {
                self.baseline.done();
                return Ok(None);
            }
        }
    }

    async fn begin(&mut self, range: TraceRange) -> Result<()> {
        let exec = &self.exec;
        let scan = (exec.scan.as_ref(), &exec.filter_reader);
        let selection = exec.filters.select(scan, &range).await?;
        if selection.as_ref().is_some_and(|s| s.traces().is_empty()) {
            return Ok(());
        }
        // Where few traces are wanted, reading twice does not pay.
        let is_quick = exec.quick.is_some() && (selection.is_none() || exec.filters.is_empty());
        self.load(range, selection, is_quick).await
    }

    async fn load(
        &mut self,
        bounds: TraceRange,
        selection: Option<TraceSelection>,
        is_quick: bool,
    ) -> Result<()> {
        let exec = &self.exec;
        let (plan, reader) = match exec.quick.as_deref() {
            Some((plan, reader)) if is_quick => (plan, reader),
            _ => (exec.plan.as_ref(), &exec.reader),
        };
        let range = plan
            .load(
                (&exec.scan, reader),
                (&bounds, selection.as_ref()),
                &self.reservation,
            )
            .await?;
        let reserved = self.reservation.size();
        let rows = exec
            .relation
            .rows(&exec.projection, exec.scan.start_nanos());
        self.current = Some(Current {
            bounds,
            range,
            is_quick,
            others: Vec::new(),
            next: 0,
            room: Gathered::default(),
            rows,
            reserved,
        });
        Ok(())
    }

    /// Works through traces until there are rows for a batch, or none are left.
    fn work_on(&mut self) -> Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let timer = self.baseline.elapsed_compute().timer();
        let wanted = self.batch_rows.min(self.left);
        let run_count = current.range.runs().len();
        let mut count = 0;
        while current.next < run_count && current.rows.len() < wanted {
            let (trace, next) = current.range.trace(current.next, &mut current.room);
            if !current.is_quick {
                current.rows.push(&trace);
                count += 1;
            } else if trace.is_simple(&mut self.seen) {
                current.rows.push_simple(&trace);
                count += 1;
            } else {
                current.others.push((current.next, next));
            }
            current.next = next;
        }
        self.trace_count.add(count);
        self.reservation
            .try_resize(current.reserved + current.rows.size())
            .map_err(too_large)?;
        let row_count = current.rows.len();
        let columns = match row_count {
            0 => Vec::new(),
            _ => current.rows.finish(&current.range)?,
        };
        if current.next < run_count {
            self.current = Some(current);
        } else {
            self.again = self.others(&current);
            self.reservation.free();
        }
        timer.done();
        if row_count == 0 {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let schema = Arc::clone(&self.exec.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        // A trace that is larger than a batch comes in several.
        for start in (0..row_count).step_by(self.batch_rows) {
            let count = self.batch_rows.min(row_count - start);
            self.ready.push_back(batch.slice(start, count));
        }
        Ok(())
    }

    /// The traces of a range of which more must be read, and where they lie.
    fn others(&self, current: &Current) -> Option<(TraceRange, TraceSelection)> {
        if current.others.is_empty() {
            return None;
        }
        self.read_again.add(current.others.len());
        let runs = current.range.runs();
        let traces = current.others.iter().map(|(first, _)| runs[*first].trace);
        let others = current.others.iter();
        let rows = others.flat_map(|(first, next)| &runs[*first..*next]);
        let places = rows.flat_map(|run| current.range.file_rows(run));
        let file_count = self.exec.scan.file_count();
        let selection = TraceSelection::new(traces.collect(), file_count, places);
        Some((current.bounds, selection))
    }
}
