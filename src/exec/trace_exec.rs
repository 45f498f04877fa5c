//! The operator that reads whole traces and makes the rows of a relation of them.
//!
//! Read [`TraceExec`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, ScalarFunctionExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::TryStreamExt;

use super::id_set::IdSet;
use super::range_load::LoadPlan;
use super::relation::{Computed, TraceRelation};
use super::trace_selection::{FilterReader, TraceFilters};
use super::trace_work::TraceWork;
use crate::span::logical_schema;
use crate::table::{SpanReader, TraceScan, scan_column};

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
    pub(super) relation: Arc<dyn TraceRelation>,
    pub(super) scan: Arc<TraceScan>,
    pub(super) plan: Arc<LoadPlan>,
    pub(super) projection: Arc<[usize]>,
    pub(super) schema: SchemaRef,
    pub(super) filters: TraceFilters,
    pub(super) reader: SpanReader,
    /// What reads as much as simple traces need, where that is less.
    pub(super) quick: Option<Arc<(LoadPlan, SpanReader)>>,
    /// What finds the traces that the filters leave.
    pub(super) filter_reader: FilterReader,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TraceExec {
    pub(super) fn try_new(
        relation: Arc<dyn TraceRelation>,
        scan: Arc<TraceScan>,
        plan: LoadPlan,
        projection: Vec<usize>,
        by_span: Option<Arc<dyn PhysicalExpr>>,
        partitions: usize,
    ) -> Result<Self> {
        let schema = Arc::new(relation.schema().project(&projection)?);
        let count = partitions.clamp(1, scan.ranges().len().max(1));
        let properties = properties(&schema, count);
        let filters = TraceFilters {
            by_span,
            by_start: relation.starts_with_spans(),
            ..TraceFilters::default()
        };
        let quick = match relation.quick_needs(&projection, scan.is_within_time()) {
            Some(needs) => {
                let plan = LoadPlan::try_new(needs)?;
                let reader = plan.reader(&scan)?;
                Some(Arc::new((plan, reader)))
            }
            None => None,
        };
        Ok(Self {
            quick,
            reader: plan.reader(&scan)?,
            filter_reader: filters.reader(&scan)?,
            filters,
            relation,
            scan,
            plan: Arc::new(plan),
            projection: projection.into(),
            schema,
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

    /// The same with other columns: its own, or such that are computed of a span's columns by a
    /// function of one of them. `None` where one is neither.
    fn projected(&self, projection: &ProjectionExec) -> Result<Option<Self>> {
        let spans = logical_schema();
        let relation = self.relation.schema();
        let (mut columns, mut computed) = (Vec::new(), Vec::new());
        let fields = projection.schema();
        for (column, field) in projection.expr().iter().zip(fields.fields()) {
            if let Some(own) = column.expr.downcast_ref::<Column>() {
                columns.push(self.projection[own.index()]);
                continue;
            }
            let used = collect_columns(&column.expr);
            let is_of_span = |column: &Column| {
                let index = self.projection[column.index()];
                spans.fields().get(index) == relation.fields().get(index)
            };
            if !is_lookup(&column.expr) || !used.iter().all(is_of_span) {
                return Ok(None);
            }
            let moved = Arc::clone(&column.expr).transform_up(|expr| {
                Ok(match expr.downcast_ref::<Column>() {
                    Some(column) => {
                        let index = self.projection[column.index()];
                        let moved: Arc<dyn PhysicalExpr> = scan_column(index).expr;
                        Transformed::yes(moved)
                    }
                    None => Transformed::no(expr),
                })
            });
            columns.push(relation.fields().len() + computed.len());
            computed.push(Computed {
                expr: ProjectionExpr::new(moved.data()?, column.alias.clone()),
                field: Arc::clone(field),
            });
        }
        let relation = match self.relation.with_computed(&computed) {
            _ if computed.is_empty() => Arc::clone(&self.relation),
            Some(relation) => relation,
            None => return Ok(None),
        };
        let plan = LoadPlan::of(relation.as_ref(), &columns)?;
        let partitions = self.properties.partitioning.partition_count();
        let mut exec = Self::try_new(
            relation,
            Arc::clone(&self.scan),
            plan,
            columns,
            self.filters.by_span.clone(),
            partitions,
        )?;
        exec.filters = self.filters.clone();
        exec.limit = self.limit;
        exec.schema = fields;
        exec.properties = Arc::new(properties(&exec.schema, partitions));
        Ok(Some(exec))
    }
}

/// Whether this looks up something in one column, such as an attribute by its key.
fn is_lookup(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>()
        .is_some_and(|call| match call.args() {
            [column, rest @ ..] => {
                column.is::<Column>() && !rest.is_empty() && rest.iter().all(|a| a.is::<Literal>())
            }
            [] => false,
        })
}

fn properties(schema: &SchemaRef, partitions: usize) -> PlanProperties {
    PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(schema)),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
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
                for filter in self.filters.by_id.iter().chain(&self.filters.by_span) {
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
        for filter in self.filters.by_id.iter().chain(&self.filters.by_span) {
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
            let trace_id = self.relation.trace_id_column();
            let is_trace_id = |column: &Column| {
                trace_id.is_some() && self.projection.get(column.index()).copied() == trace_id
            };
            if exec.filters.add_by_id(&filter.filter, is_trace_id)? {
                *known = PushedDown::Yes;
            }
        }
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(known);
        Ok(if exec.filters.by_id.len() > self.filters.by_id.len() {
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

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let exec = self.projected(projection)?;
        Ok(exec.map(|exec| Arc::new(exec) as Arc<dyn ExecutionPlan>))
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
        let work = TraceWork {
            exec: self.clone(),
            reservation: consumer.register(context.memory_pool()),
            batch_rows: context.session_config().batch_size().max(1),
            left: self.limit.unwrap_or(usize::MAX),
            ranges,
            current: None,
            again: None,
            ready: VecDeque::new(),
            seen: IdSet::default(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            trace_count: MetricBuilder::new(&self.metrics).counter("traces", partition),
            read_again: MetricBuilder::new(&self.metrics).counter("traces_read_again", partition),
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
