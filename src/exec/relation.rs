//! A relation over whole traces, and how SQL reaches it.
//!
//! Read [`TraceRelation`], what a relation says of itself, then [`TraceRelationTable`], which
//! makes a table of it.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, ScalarUDF, TableProviderFilterPushDown};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::needs::Needs;
use super::range_load::LoadPlan;
use super::range_rows::{RangeRows, TraceRows};
use super::{
    CriticalPathsRelation, ServiceEdgesRelation, SpanTreeRelation, TraceExec, TracesRelation,
};
use crate::span::logical_schema;
use crate::table::{SpansTable, TraceScope, span_column_schema};
use crate::trace::EdgeMode;

/// A relation whose rows follow from whole traces, one trace at a time.
pub trait TraceRelation: Debug + Send + Sync {
    /// Its name in SQL.
    fn name(&self) -> &'static str;

    /// Its columns.
    fn schema(&self) -> SchemaRef;

    /// Which of them is the trace id.
    fn trace_id_column(&self) -> Option<usize> {
        Some(0)
    }

    /// What its columns at these indices need of each span.
    fn needs(&self, projection: &[usize]) -> Needs;

    /// What of each span, as expressions over the schema of a scan of traces, it passes on as it
    /// is.
    fn passed(&self, projection: &[usize]) -> Vec<ProjectionExpr>;

    /// What names the peer of each span, as expressions over the schema of a scan of traces: the
    /// first that is not empty.
    fn peers(&self) -> Vec<ProjectionExpr> {
        Vec::new()
    }

    /// What is enough for simple traces, which lie in one file and whose parents are where the
    /// stored offsets lead; `None` where that spares nothing. The others are read again. With
    /// `any_start` no span is read that starts outside the time asked for.
    fn quick_needs(&self, _projection: &[usize], _any_start: bool) -> Option<Needs> {
        None
    }

    /// The same relation with more columns after its own, each computed of a span's columns.
    fn with_computed(&self, _computed: &[Computed]) -> Option<Arc<dyn TraceRelation>> {
        None
    }

    /// Whether each row is a span with the columns of `spans`, so that a filter on those leaves
    /// only traces in which some span passes.
    fn has_span_columns(&self) -> bool {
        false
    }

    /// Whether each row starts when a span of its trace does.
    fn starts_with_spans(&self) -> bool {
        true
    }

    /// Whether it wants to know where links to other traces lead; the first column passed on is
    /// then that of the stored links.
    fn follows_links(&self) -> bool {
        false
    }

    /// Makes rows with the columns at these indices, of which those that start outside the time
    /// asked for, from the least to the greatest nanosecond, may be left out.
    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows>;
}

/// A column that is computed of a span's columns where they are read.
#[derive(Debug, Clone)]
pub struct Computed {
    /// Over the schema of a scan of traces.
    pub expr: ProjectionExpr,
    /// Its name and type.
    pub field: FieldRef,
}

/// Every relation over whole traces. `attribute` is the function that looks up an attribute.
pub fn relations(attribute: &Arc<ScalarUDF>) -> Vec<Arc<dyn TraceRelation>> {
    vec![
        Arc::new(TracesRelation),
        Arc::new(SpanTreeRelation::default()),
        Arc::new(ServiceEdgesRelation::new(
            EdgeMode::default(),
            Arc::clone(attribute),
        )),
        Arc::new(CriticalPathsRelation),
    ]
}

/// Rows of a relation as they are made of one trace after another.
pub trait RelationRows: Send {
    /// Adds the rows of a trace.
    fn push(&mut self, trace: &TraceRows<'_>);

    /// Adds the rows of a simple trace of which only what is quickly read is there.
    fn push_simple(&mut self, trace: &TraceRows<'_>) {
        self.push(trace);
    }

    /// How many rows there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes they take.
    fn size(&self) -> usize;

    /// The columns of all rows so far, of which none are then left.
    fn finish(&mut self, range: &RangeRows) -> Result<Vec<ArrayRef>>;
}

/// A [`TraceRelation`] as a table of the lake.
#[derive(Debug)]
pub struct TraceRelationTable {
    spans: Arc<SpansTable>,
    relation: Arc<dyn TraceRelation>,
    scope: TraceScope,
}

impl TraceRelationTable {
    /// The relation over the spans of a lake.
    pub fn new(
        spans: Arc<SpansTable>,
        relation: Arc<dyn TraceRelation>,
        scope: TraceScope,
    ) -> Self {
        Self {
            spans,
            relation,
            scope,
        }
    }
}

/// Columns that are too large to be read for all spans only to find traces.
const LARGE_COLUMNS: [&str; 5] = [
    "attributes",
    "resource_attributes",
    "scope_attributes",
    "events",
    "links",
];

impl TraceRelationTable {
    /// What some span of each trace must pass: those of the filters that have columns of `spans`
    /// alone. Times and trace ids rule out files already.
    fn span_filters(&self, filters: &[Expr]) -> Result<Vec<Expr>> {
        if !self.relation.has_span_columns() {
            return Ok(Vec::new());
        }
        let spans = logical_schema();
        let says_more = |filter: &&Expr| {
            let columns = filter.column_refs();
            let planned = |name: &str| ["trace_id", "start_time"].contains(&name);
            !filter.is_volatile()
                && columns
                    .iter()
                    .all(|column| spans.index_of(&column.name).is_ok())
                && !columns.iter().all(|column| planned(&column.name))
        };
        let wanted = filters.iter().filter(says_more).cloned();
        let unqualified = wanted.map(|filter| {
            filter.transform(|expr| {
                Ok(match expr {
                    Expr::Column(column) => {
                        Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
                    }
                    other => Transformed::no(other),
                })
            })
        });
        unqualified.map(TransformedResult::data).collect()
    }

    /// The filters on spans that are quickly evaluated for all of them, over the schema of a scan
    /// of traces.
    fn read_filter(
        &self,
        state: &dyn Session,
        span_filters: &[Expr],
    ) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let is_small = |filter: &&Expr| {
            let columns = filter.column_refs();
            let mut columns = columns.iter();
            columns.all(|column| !LARGE_COLUMNS.contains(&column.name.as_str()))
        };
        let small = span_filters.iter().filter(is_small).cloned();
        let Some(filter) = conjunction(small) else {
            return Ok(None);
        };
        let schema = DFSchema::try_from(span_column_schema().as_ref().clone())?;
        state.create_physical_expr(filter, &schema).map(Some)
    }
}

#[async_trait]
impl TableProvider for TraceRelationTable {
    fn schema(&self) -> SchemaRef {
        self.relation.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Traces are skipped by what filters say, rows are filtered by the plan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.relation.schema();
        let projection = match projection {
            Some(projection) => projection.clone(),
            None => (0..schema.fields().len()).collect(),
        };
        let plan = LoadPlan::of(self.relation.as_ref(), &projection)?;
        let span_filters = self.span_filters(filters)?;
        let scan = self
            .spans
            .scan_traces(state, &plan.columns(), filters, &span_filters, self.scope)
            .await?;
        let exec = TraceExec::try_new(
            Arc::clone(&self.relation),
            Arc::new(scan),
            plan,
            projection,
            self.read_filter(state, &span_filters)?,
            state.config().target_partitions(),
        )?;
        Ok(Arc::new(exec.with_limit(limit)))
    }
}
