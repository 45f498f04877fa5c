//! `service_dependencies`: which service calls which, in a range of time.
//!
//! Read [`ServiceDependenciesFunc`].

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{
    Documentation, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::col;

use super::arguments::{TimeRange, quantile_columns, quantiles, scan, text_argument};
use super::{EdgeRelations, TraceRelations};
use crate::error::Error;
use crate::trace::EdgeMode;

const NAME: &str = "service_dependencies";

/// A row an edge: caller, callee and kind, how often, how slow, how many errors.
#[derive(Debug)]
pub(super) struct ServiceDependenciesFunc {
    relations: TraceRelations,
}

impl ServiceDependenciesFunc {
    pub(super) fn new(relations: TraceRelations) -> Self {
        Self { relations }
    }
}

pub(super) fn documentation() -> Documentation {
    Documentation::builder(
        DOC_SECTION_OTHER,
        "The dependency graph of a range of time: a row for each pair of services of which one \
         called the other, with the number of calls and errors, quantiles and the sum of the \
         callees' durations. A call belongs to the range by the start of the called side. The \
         kind is `call`, `messaging`, or `virtual` where the callee sends no spans itself, such \
         as a database.",
        "service_dependencies(from, to [, mode])",
    )
    .with_sql_example(
        "select caller, callee, kind, call_count\n\
         from service_dependencies('2026-11-20', '2026-11-21') order by callee;\n\
         +---------+------------+-----------+------------+\n\
         | caller  | callee     | kind      | call_count |\n\
         +---------+------------+-----------+------------+\n\
         | library | catalog    | call      | 1          |\n\
         | library | mailer     | messaging | 1          |\n\
         | catalog | postgresql | virtual   | 1          |\n\
         +---------+------------+-----------+------------+",
    )
    .with_argument(
        "from",
        "The beginning of the range, a time or a text that reads as one.",
    )
    .with_argument("to", "Its end, which is not part of it.")
    .with_argument(
        "mode",
        "By whose rules: `calls`, which is what is taken where it is left out; `strict`, only \
         spans whose parent is of another service; `jaeger`, what Jaeger's dependency job finds, \
         calls within a service too; `zipkin`, what Zipkin's dependency linker finds.",
    )
    .build()
}

impl TableFunctionImpl for ServiceDependenciesFunc {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (range, others) = TimeRange::read(NAME, arguments.exprs(), 3)?;
        let mode = match text_argument(NAME, others.first())? {
            None => EdgeMode::default(),
            Some(name) => EdgeMode::from_name(&name).ok_or_else(|| unknown_mode(&name))?,
        };
        dependencies(&self.relations, mode, range)
    }
}

/// The edges of a range of time by the rules of a mode.
pub(super) fn dependencies(
    relations: &TraceRelations,
    mode: EdgeMode,
    range: TimeRange,
) -> Result<Arc<dyn TableProvider>> {
    let edges = relations.edges.iter().find(|edges| edges.mode == mode);
    let Some(EdgeRelations { calls, counts, .. }) = edges else {
        return plan_err!("no relation has the edges of {mode:?}");
    };
    let plan = from_edges(calls, &range)?;
    // Counts that are sums of counts may be NULL as far as planning can tell.
    let fields = plan.schema().fields().iter().map(|field| {
        let nullable = field.is_nullable() || field.name().ends_with("_count");
        field.as_ref().clone().with_nullable(nullable)
    });
    Ok(Arc::new(ServiceDependenciesTable {
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        edges: Arc::clone(calls),
        counts: Arc::clone(counts),
        range,
    }))
}

fn unknown_mode(name: &str) -> DataFusionError {
    let known = EdgeMode::ALL.map(|(known, _)| format!("`{known}`"));
    let message = format!(
        "the mode of {NAME}() is one of {}, not `{name}`",
        known.join(", ")
    );
    Error::invalid_input(message).into()
}

/// All columns, from the calls one by one.
fn from_edges(edges: &Arc<dyn TableProvider>, range: &TimeRange) -> Result<LogicalPlan> {
    let failed = count(lit(1)).filter(col("has_error")).build()?;
    let aggregates = vec![
        count(lit(1)).alias("call_count"),
        failed.alias("error_count"),
        quantiles(col("duration_nano")),
        sum(col("duration_nano")).alias("total_duration_nano"),
    ];
    let mut columns: Vec<_> = ["caller", "callee", "kind", "call_count", "error_count"]
        .map(col)
        .to_vec();
    columns.extend(quantile_columns("duration_nano"));
    columns.push(col("total_duration_nano"));
    scan("service_edges", edges)?
        .filter(range.holds(col("start_time")))?
        .aggregate(["caller", "callee", "kind"].map(col), aggregates)?
        .project(columns)?
        .build()
}

/// The columns that are no quantiles, from counts that are made where edges are found.
fn from_counts(counts: Arc<dyn TableProvider>, columns: &[&str]) -> Result<LogicalPlan> {
    let keys = ["caller", "callee", "kind"].into_iter();
    let total = |of: &str, name: &str| sum(col(of)).alias(name);
    scan("service_edges", &counts)?
        .aggregate(
            keys.map(col),
            [
                total("call_count", "calls"),
                total("error_count", "errors"),
                total("duration_nano", "nanos"),
            ],
        )?
        .project(columns.iter().map(|column| match *column {
            "call_count" => col("calls").alias("call_count"),
            "error_count" => col("errors").alias("error_count"),
            "total_duration_nano" => col("nanos").alias("total_duration_nano"),
            other => col(other),
        }))?
        .build()
}

/// The rows of a call.
#[derive(Debug)]
struct ServiceDependenciesTable {
    schema: SchemaRef,
    edges: Arc<dyn TableProvider>,
    counts: Arc<dyn TableProvider>,
    range: TimeRange,
}

#[async_trait]
impl TableProvider for ServiceDependenciesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let fields = self.schema.fields();
        let columns: Vec<&str> = match projection {
            Some(columns) => columns.iter().map(|c| fields[*c].name().as_str()).collect(),
            None => fields.iter().map(|field| field.name().as_str()).collect(),
        };
        let is_counted = !columns.iter().any(|column| column.starts_with('p'));
        let plan = if is_counted {
            let filters = self.range.known(state)?;
            let counts = Arc::clone(&self.counts);
            from_counts(Arc::new(Prefiltered { counts, filters }), &columns)?
        } else {
            let all = LogicalPlanBuilder::from(from_edges(&self.edges, &self.range)?);
            all.project(columns.into_iter().map(col))?.build()?
        };
        state.create_physical_plan(&plan).await
    }
}

/// Counts of edges of a range of time, which they do not show.
#[derive(Debug)]
struct Prefiltered {
    counts: Arc<dyn TableProvider>,
    filters: Vec<Expr>,
}

#[async_trait]
impl TableProvider for Prefiltered {
    fn schema(&self) -> SchemaRef {
        self.counts.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.counts
            .scan(state, projection, &self.filters, None)
            .await
    }
}
