//! A relation over whole traces, and how SQL reaches it.
//!
//! Read [`TraceRelation`], what a relation says of itself, then [`TraceRelationTable`], which
//! makes a table of it.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::needs::Needs;
use super::range_load::LoadPlan;
use super::range_rows::{RangeRows, TraceRows};
use super::{
    CriticalPathsRelation, ServiceEdgesRelation, SpanTreeRelation, TraceExec, TracesRelation,
};
use crate::table::{SpansTable, TraceScope};

/// A relation whose rows follow from whole traces, one trace at a time.
pub trait TraceRelation: Debug + Send + Sync {
    /// Its name in SQL.
    fn name(&self) -> &'static str;

    /// Its columns.
    fn schema(&self) -> SchemaRef;

    /// What its columns at these indices need of each span.
    fn needs(&self, projection: &[usize]) -> Needs;

    /// The columns of `spans`, by index, that it passes on as they are.
    fn passed(&self, projection: &[usize]) -> Vec<usize>;

    /// Whether it wants to know where links to other traces lead; the second column passed on is
    /// then that of the stored links.
    fn follows_links(&self) -> bool {
        false
    }

    /// Makes rows with the columns at these indices, of which those that start outside the time
    /// asked for, from the least to the greatest nanosecond, may be left out.
    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows>;
}

/// Every relation over whole traces.
pub fn relations() -> Vec<Arc<dyn TraceRelation>> {
    vec![
        Arc::new(TracesRelation),
        Arc::new(SpanTreeRelation),
        Arc::new(ServiceEdgesRelation::default()),
        Arc::new(CriticalPathsRelation),
    ]
}

/// Rows of a relation as they are made of one trace after another.
pub trait RelationRows: Send {
    /// Adds the rows of a trace.
    fn push(&mut self, trace: &TraceRows<'_>);

    /// How many rows there are.
    fn len(&self) -> usize;

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
        let needs = self.relation.needs(&projection);
        let passed = self.relation.passed(&projection);
        let plan = LoadPlan::try_new(needs, &passed, self.relation.follows_links())?;
        let scan = self
            .spans
            .scan_traces(state, plan.columns(), filters, self.scope)
            .await?;
        let exec = TraceExec::try_new(
            Arc::clone(&self.relation),
            scan,
            plan,
            projection,
            state.config().target_partitions(),
        )?;
        Ok(Arc::new(exec.with_limit(limit)))
    }
}
