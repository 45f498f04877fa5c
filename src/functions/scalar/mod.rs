//! Functions of one row.

mod attribute;
mod is_ancestor;
mod json_lookup;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use attribute::{AttributeFunc, AttributeOutput};
pub use is_ancestor::IsAncestorFunc;

/// Every scalar function.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let attributes = AttributeOutput::ALL
        .into_iter()
        .map(|output| Arc::new(ScalarUDF::from(AttributeFunc::new(output))));
    let others = [Arc::new(ScalarUDF::from(IsAncestorFunc::new()))];
    attributes.chain(others).collect()
}
