//! `service_nodes`: the services of a dependency graph.
//!
//! Read [`ServiceNodesFunc`].

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::functions::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::{bool_and, count, sum};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{Documentation, Expr, ExprFunctionExt, grouping_set, lit, when};
use datafusion::prelude::col;

use super::TraceRelations;
use super::arguments::{TimeRange, scan};
use super::service_dependencies::dependencies;
use crate::trace::{EdgeKind, EdgeMode};

const NAME: &str = "service_nodes";

/// A row a service.
#[derive(Debug)]
pub(super) struct ServiceNodesFunc {
    relations: TraceRelations,
}

impl ServiceNodesFunc {
    pub(super) fn new(relations: TraceRelations) -> Self {
        Self { relations }
    }
}

pub(super) fn documentation() -> Documentation {
    Documentation::builder(
        DOC_SECTION_OTHER,
        "The services of a range of time, as nodes for the edges of `service_dependencies`: how \
         many spans and errors each has, and how many calls come in and go out. `is_virtual` \
         marks what is called but sends no spans.",
        "service_nodes(from, to)",
    )
    .with_sql_example(
        "select service_name, span_count, incoming_call_count\n\
         from service_nodes('2026-11-20', '2026-11-21') order by service_name;\n\
         +--------------+------------+---------------------+\n\
         | service_name | span_count | incoming_call_count |\n\
         +--------------+------------+---------------------+\n\
         | catalog      | 2          | 1                   |\n\
         | library      | 3          | 0                   |\n\
         | mailer       | 1          | 1                   |\n\
         | postgresql   | 0          | 1                   |\n\
         +--------------+------------+---------------------+",
    )
    .with_argument(
        "from",
        "The beginning of the range, a time or a text that reads as one.",
    )
    .with_argument("to", "Its end, which is not part of it.")
    .build()
}

impl TableFunctionImpl for ServiceNodesFunc {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (range, _) = TimeRange::read(NAME, arguments.exprs(), 2)?;
        let failed = count(lit(1)).filter(col("has_error")).build()?;
        let columns = |names: [&str; 6]| names.map(col);
        let spans = scan("span_tree", &self.relations.span_tree)?
            .filter(
                range
                    .holds(col("start_time"))
                    .and(col("service_name").is_not_null()),
            )?
            .aggregate(
                [col("service_name")],
                [count(lit(1)).alias("spans"), failed.alias("errors")],
            )?
            .project([
                col("service_name"),
                lit(false).alias("is_virtual"),
                col("spans"),
                col("errors"),
                lit(0i64).alias("incoming"),
                lit(0i64).alias("outgoing"),
            ])?
            .build()?;
        // Each edge counts twice, once for either end, in one pass over the traces.
        let edges = dependencies(&self.relations, EdgeMode::default(), range)?;
        let callee = vec![col("callee"), col("kind")];
        let ends = grouping_set(vec![callee, vec![col("caller")]]);
        let is_incoming = || col("callee").is_not_null();
        let calls = |is_wanted: Expr| when(is_wanted, col("calls")).otherwise(lit(0i64));
        let calls = scan("service_dependencies", &edges)?
            .aggregate([ends], [sum(col("call_count")).alias("calls")])?
            .project([
                coalesce(vec![col("callee"), col("caller")]).alias("service_name"),
                is_incoming()
                    .and(col("kind").eq(lit(EdgeKind::Virtual.name())))
                    .alias("is_virtual"),
                lit(0i64).alias("spans"),
                lit(0i64).alias("errors"),
                calls(is_incoming())?.alias("incoming"),
                calls(col("caller").is_not_null())?.alias("outgoing"),
            ])?
            .build()?;
        let plan = datafusion::logical_expr::LogicalPlanBuilder::from(spans)
            .union(calls)?
            .aggregate(
                [col("service_name")],
                [
                    bool_and(col("is_virtual")).alias("is_virtual"),
                    sum(col("spans")).alias("span_count"),
                    sum(col("errors")).alias("error_count"),
                    sum(col("incoming")).alias("incoming_call_count"),
                    sum(col("outgoing")).alias("outgoing_call_count"),
                ],
            )?
            .project(columns([
                "service_name",
                "is_virtual",
                "span_count",
                "error_count",
                "incoming_call_count",
                "outgoing_call_count",
            ]))?
            .build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}
