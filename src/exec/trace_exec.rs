//! The operator that reads whole traces and makes the rows of a relation of them.
//!
//! Read [`TraceExec`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::TryStreamExt;

use super::column_buffer::id_column;
use super::range_load::LoadPlan;
use super::range_rows::{Gathered, RangeRows};
use super::relation::{RelationRows, TraceRelation};
use crate::table::{TraceRange, TraceScan};

/// Makes the rows of a relation, range of traces by range of traces.
///
/// ```text
///   ranges of trace ids   1  2  3  4  5  6  7        few rows first, so that LIMIT is quick
///   output partition 0    1     3     5     7
///   output partition 1       2     4     6
/// ```
///
/// It reads for itself: to the optimizer it is a leaf. In memory it holds the spans of one range
/// an output partition, accounted for in the query's memory.
#[derive(Debug, Clone)]
pub struct TraceExec {
    relation: Arc<dyn TraceRelation>,
    scan: Arc<TraceScan>,
    plan: Arc<LoadPlan>,
    projection: Arc<[usize]>,
    schema: SchemaRef,
    /// Filters on the trace id alone, over a batch that has nothing else, some of which a join
    /// fills in while it runs.
    trace_filters: Vec<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TraceExec {
    pub(super) fn try_new(
        relation: Arc<dyn TraceRelation>,
        scan: TraceScan,
        plan: LoadPlan,
        projection: Vec<usize>,
        partitions: usize,
    ) -> Result<Self> {
        let schema = Arc::new(relation.schema().project(&projection)?);
        let count = partitions.clamp(1, scan.ranges().len().max(1));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            relation,
            scan: Arc::new(scan),
            plan: Arc::new(plan),
            projection: projection.into(),
            schema,
            trace_filters: Vec::new(),
            limit: None,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same, ending after so many rows of each output partition.
    #[must_use]
    pub fn with_limit(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }

    fn trace_id_schema(&self) -> Result<SchemaRef> {
        let schema = self.relation.schema();
        Ok(Arc::new(Schema::new(vec![
            schema.field_with_name("trace_id")?.clone(),
        ])))
    }

    /// A filter as one over the trace id alone, if it is that.
    fn trace_filter(
        &self,
        filter: &Arc<dyn PhysicalExpr>,
    ) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let columns = collect_columns(filter);
        if columns.is_empty() || columns.iter().any(|column| column.name() != "trace_id") {
            return Ok(None);
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
        moved.data().map(Some)
    }
}

impl DisplayAs for TraceExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (relation, ranges) = (self.relation.name(), self.scan.ranges().len());
        let columns: Vec<&str> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        match format {
            DisplayFormatType::TreeRender => write!(f, "relation={relation}"),
            _ => {
                let files = self.scan.file_count();
                write!(
                    f,
                    "TraceExec: relation={relation}, files={files}, ranges={ranges}"
                )?;
                write!(f, ", projection=[{}]", columns.join(", "))?;
                if let Some(limit) = self.limit {
                    write!(f, ", limit={limit}")?;
                }
                for filter in &self.trace_filters {
                    write!(f, ", filter={filter}")?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for TraceExec {
    fn name(&self) -> &'static str {
        "TraceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("TraceExec reads for itself and takes no children")
        }
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.trace_filters {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let mut exec = self.clone();
        let filters = child_pushdown_result.parent_filters;
        let mut known = vec![PushedDown::No; filters.len()];
        for (filter, known) in filters.iter().zip(&mut known) {
            if let Some(filter) = self.trace_filter(&filter.filter)? {
                exec.trace_filters.push(filter);
                *known = PushedDown::Yes;
            }
        }
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(known);
        Ok(if exec.trace_filters.len() > self.trace_filters.len() {
            propagation.with_updated_node(Arc::new(exec))
        } else {
            propagation
        })
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.clone().with_limit(limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        for metric in self.scan.metrics().iter() {
            metrics.push(Arc::clone(metric));
        }
        Some(metrics)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let partitions = self.properties.partitioning.partition_count();
        let ranges = self.scan.ranges().iter().copied();
        let ranges = ranges.skip(partition).step_by(partitions).collect();
        let consumer = MemoryConsumer::new(format!("TraceExec[{partition}]"));
        let work = Work {
            exec: self.clone(),
            reservation: consumer.register(context.memory_pool()),
            trace_id_schema: self.trace_id_schema()?,
            batch_rows: context.session_config().batch_size().max(1),
            left: self.limit.unwrap_or(usize::MAX),
            ranges,
            current: None,
            ready: VecDeque::new(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            trace_count: MetricBuilder::new(&self.metrics).counter("traces", partition),
            context,
        };
        let stream = futures::stream::try_unfold(work, |mut work| async move {
            let batch = work.next_batch().await?;
            Ok(batch.map(|batch| (batch, work)))
        });
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            stream.into_stream(),
        )))
    }
}

/// What is left to do for an output partition.
struct Work {
    exec: TraceExec,
    context: Arc<TaskContext>,
    reservation: MemoryReservation,
    trace_id_schema: SchemaRef,
    batch_rows: usize,
    /// Rows still wanted.
    left: usize,
    ranges: VecDeque<TraceRange>,
    current: Option<Current>,
    ready: VecDeque<RecordBatch>,
    baseline: BaselineMetrics,
    trace_count: datafusion::physical_plan::metrics::Count,
}

/// The range at hand.
struct Current {
    range: RangeRows,
    /// The first run of the next trace.
    next: usize,
    room: Gathered,
    rows: Box<dyn RelationRows>,
    /// Bytes reserved for the spans of the range.
    reserved: usize,
}

impl Work {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
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
                continue;
            }
            let Some(range) = self.ranges.pop_front() else {
                self.baseline.done();
                return Ok(None);
            };
            self.load(&range).await?;
        }
    }

    async fn load(&mut self, range: &TraceRange) -> Result<()> {
        let exec = &self.exec;
        let loaded = exec
            .plan
            .load(&exec.scan, range, &self.context, &self.reservation);
        let mut range = loaded.await?;
        self.keep_traces(&mut range)?;
        let reserved = self.reservation.size();
        let rows = self
            .exec
            .relation
            .rows(&self.exec.projection, self.exec.scan.start_nanos());
        self.current = Some(Current {
            range,
            next: 0,
            room: Gathered::default(),
            rows,
            reserved,
        });
        Ok(())
    }

    /// Drops the traces that filters on the trace id rule out.
    fn keep_traces(&self, range: &mut RangeRows) -> Result<()> {
        if self.exec.trace_filters.is_empty() {
            return Ok(());
        }
        let traces = range.distinct_traces();
        let ids = id_column(traces.iter().map(|trace| Some(trace.to_be_bytes())));
        let batch = RecordBatch::try_new(Arc::clone(&self.trace_id_schema), vec![ids])?;
        let mut keep = vec![true; traces.len()];
        for filter in &self.exec.trace_filters {
            let kept = filter.evaluate(&batch)?.into_array(traces.len())?;
            let kept: &BooleanArray = kept.as_boolean();
            for (row, keep) in keep.iter_mut().enumerate() {
                *keep &= kept.is_valid(row) && kept.value(row);
            }
        }
        range.keep(&keep);
        Ok(())
    }

    /// Works through traces until there are rows for a batch, or none are left.
    fn work_on(&mut self) -> Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let timer = self.baseline.elapsed_compute().timer();
        let wanted = self.batch_rows.min(self.left);
        while current.next < current.range.runs().len() && current.rows.len() < wanted {
            let (trace, next) = current.range.trace(current.next, &mut current.room);
            current.rows.push(&trace);
            current.next = next;
            self.trace_count.add(1);
        }
        self.reservation
            .try_resize(current.reserved + current.rows.size())?;
        let row_count = current.rows.len();
        let columns = current.rows.finish(&current.range)?;
        if current.next == current.range.runs().len() {
            self.current = None;
            self.reservation.free();
        }
        timer.done();
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
}
