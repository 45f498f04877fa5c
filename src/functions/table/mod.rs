//! Functions that stand where a table does: what is to be known of one trace, or of a few.
//!
//! To add one over traces by id: write its file with a [`TraceFunction`], add it to
//! [`trace_functions`], add a test of its rows. Any other goes into [`all`] directly.

mod arguments;
mod trace_reader;
mod trace_function;
mod span_columns;
mod tree_columns;

mod trace;
mod relatives;

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;
use datafusion::logical_expr::Documentation;

pub use arguments::{Arguments, substitute_parameters};
pub use relatives::Relation;
pub use trace_function::TraceFunction;
pub use trace_reader::TraceReader;

use trace_function::TraceTableFunc;

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

/// Every table function, over the traces that `reader` finds.
pub fn all(reader: &Arc<dyn TraceReader>) -> Vec<TableFunc> {
    let functions = trace_functions().into_iter();
    functions
        .map(|function| TableFunc {
            name: function.name(),
            documentation: function.documentation(),
            implementation: Arc::new(TraceTableFunc::new(function, Arc::clone(reader))),
        })
        .collect()
}

/// Every function over traces by their ids.
fn trace_functions() -> Vec<Arc<dyn TraceFunction>> {
    let mut functions: Vec<Arc<dyn TraceFunction>> = vec![Arc::new(trace::TraceFunc)];
    for relation in Relation::ALL {
        functions.push(Arc::new(relatives::RelativesFunc::new(relation)));
    }
    functions
}
