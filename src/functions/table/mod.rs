//! Functions that stand where a table does: what is to be known of one trace, or of a few.
//!
//! To add one over traces by id: write its file with a `OneTraceFunc`, or another
//! [`TraceFunction`], add it to `trace_functions`, add a test of its rows. Any other goes into [`all`] directly.

mod constant;
mod arguments;
mod trace_reader;
mod trace_function;
mod one_trace;
mod span_columns;
mod tree_columns;
mod table_calls;
mod search_arguments;

mod trace;
mod trace_tree;
mod relatives;
mod critical_path;
mod trace_stats;
mod service_stats;
mod trace_dependencies;
mod related_traces;
mod trace_diff;
mod search_traces;

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableFunctionImpl;
use datafusion::logical_expr::Documentation;

pub use arguments::{Arguments, substitute_parameters};
pub use relatives::Relation;
pub use search_traces::TraceSearcher;
pub use table_calls::TableCalls;
pub use trace_function::TraceFunction;
pub use trace_reader::TraceReader;

use search_traces::SearchTracesFunc;
use trace_function::TraceTableFunc;

use super::time_range;
use crate::error::{Error, Result};

/// A table function: what it is called, its manual, and what it does.
#[derive(Debug, Clone)]
pub struct TableFunc {
    /// The name, as SQL calls it.
    pub name: &'static str,
    /// Description, syntax, arguments and an example with its output.
    pub documentation: Documentation,
    /// What makes a table of a call.
    pub implementation: Arc<dyn TableFunctionImpl>,
}

/// Every table function, over the traces that `reader` reads and `searcher` finds.
pub fn all(reader: &Arc<dyn TraceReader>, searcher: Arc<dyn TraceSearcher>) -> Vec<TableFunc> {
    let functions = trace_functions().into_iter();
    let search = TableFunc {
        name: SearchTracesFunc::NAME,
        documentation: SearchTracesFunc::documentation(),
        implementation: Arc::new(SearchTracesFunc::new(searcher)),
    };
    functions
        .map(|function| TableFunc {
            name: function.name(),
            documentation: function.documentation(),
            implementation: Arc::new(TraceTableFunc::new(function, Arc::clone(reader))),
        })
        .chain([search])
        .collect()
}

/// The names and manuals of all of them, and of those over ranges of time.
pub fn manuals() -> Vec<(&'static str, Documentation)> {
    let functions = trace_functions().into_iter();
    functions
        .map(|function| (function.name(), function.documentation()))
        .chain([(SearchTracesFunc::NAME, SearchTracesFunc::documentation())])
        .chain(time_range::manuals())
        .collect()
}

/// Every function over traces by their ids.
fn trace_functions() -> Vec<Arc<dyn TraceFunction>> {
    let mut functions: Vec<Arc<dyn TraceFunction>> = vec![
        Arc::new(trace::TraceFunc),
        Arc::new(trace_tree::FUNCTION),
        Arc::new(critical_path::FUNCTION),
        Arc::new(trace_stats::FUNCTION),
        Arc::new(service_stats::FUNCTION),
        Arc::new(trace_dependencies::TraceDependenciesFunc),
        Arc::new(related_traces::RelatedTracesFunc),
        Arc::new(trace_diff::TraceDiffFunc),
    ];
    for relation in Relation::ALL {
        functions.push(Arc::new(relatives::RelativesFunc::new(relation)));
    }
    functions
}

/// The rows of a function over traces, for callers who have no SQL.
pub async fn rows(
    function: &str,
    reader: &dyn TraceReader,
    arguments: &Arguments,
) -> Result<RecordBatch> {
    let functions = trace_functions();
    let found = functions.iter().find(|other| other.name() == function);
    match found {
        Some(function) => function.rows(reader, arguments).await,
        None => Err(Error::not_found(format!(
            "no function `{function}` over traces"
        ))),
    }
}
