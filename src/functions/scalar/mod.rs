//! Functions of one row.

mod attribute;
mod json_lookup;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use attribute::AttributeFunc;

use crate::span::AttributeOutput;

/// Every scalar function.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    AttributeOutput::ALL
        .into_iter()
        .map(|output| Arc::new(ScalarUDF::from(AttributeFunc::new(output))))
        .collect()
}
