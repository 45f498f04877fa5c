//! `service_dependencies`: which service calls which, in a range of time.
//!
//! Read [`ServiceDependenciesFunc`].

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{Documentation, ExprFunctionExt, lit};
use datafusion::prelude::col;

use super::TraceRelations;
use super::arguments::{TimeRange, quantile_columns, quantiles, scan, text_argument};

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
        "`calls`, which is what is taken where it is left out, or `strict`: only spans whose \
         parent is of another service.",
    )
    .build()
}

impl TableFunctionImpl for ServiceDependenciesFunc {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (range, others) = TimeRange::read(NAME, arguments.exprs(), 3)?;
        let edges = match text_argument(NAME, others.first())?.as_deref() {
            None | Some("calls") => &self.relations.service_edges,
            Some("strict") => &self.relations.strict_edges,
            Some(other) => {
                return plan_err!("the mode of {NAME}() is `calls` or `strict`, not `{other}`");
            }
        };
        let failed = count(lit(1)).filter(col("has_error")).build()?;
        let keys = ["caller", "callee", "kind"].map(col);
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
        let plan = scan("service_edges", edges)?
            .filter(range.holds(col("start_time")))?
            .aggregate(keys, aggregates)?
            .project(columns)?
            .build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}
