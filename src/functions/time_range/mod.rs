//! Functions over a range of time that stand where a table does. Each is a plan over the
//! relations of whole traces, so optimizing and running them is DataFusion's.

mod arguments;
mod service_dependencies;
mod service_nodes;
mod time_range_stats;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Documentation;

use service_dependencies::ServiceDependenciesFunc;
use service_nodes::ServiceNodesFunc;
use time_range_stats::TimeRangeStatsFunc;

use super::table::TableFunc;
use crate::trace::EdgeMode;

/// The relations that these functions read.
#[derive(Debug, Clone)]
pub struct TraceRelations {
    /// `traces`.
    pub traces: Arc<dyn TableProvider>,
    /// `span_tree`.
    pub span_tree: Arc<dyn TableProvider>,
    /// `service_edges`, by the rules of each mode.
    pub edges: Vec<EdgeRelations>,
}

/// The edges of one mode.
#[derive(Debug, Clone)]
pub struct EdgeRelations {
    /// By whose rules.
    pub mode: EdgeMode,
    /// The calls one by one.
    pub calls: Arc<dyn TableProvider>,
    /// The same, counted: what is pushed down of times is exact.
    pub counts: Arc<dyn TableProvider>,
}

/// Every function over a range of time.
pub fn all(relations: &TraceRelations) -> Vec<TableFunc> {
    vec![
        TableFunc {
            name: "service_dependencies",
            documentation: service_dependencies::documentation(),
            implementation: Arc::new(ServiceDependenciesFunc::new(relations.clone())),
        },
        TableFunc {
            name: "service_nodes",
            documentation: service_nodes::documentation(),
            implementation: Arc::new(ServiceNodesFunc::new(relations.clone())),
        },
        TableFunc {
            name: "time_range_stats",
            documentation: time_range_stats::documentation(),
            implementation: Arc::new(TimeRangeStatsFunc::new(relations.clone())),
        },
    ]
}

/// The names and manuals of all of them.
pub fn manuals() -> Vec<(&'static str, Documentation)> {
    vec![
        (
            "service_dependencies",
            service_dependencies::documentation(),
        ),
        ("service_nodes", service_nodes::documentation()),
        ("time_range_stats", time_range_stats::documentation()),
    ]
}
