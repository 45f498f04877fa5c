//! Functions of many rows.

mod grouped_values;
mod quantile_cont;

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

use quantile_cont::QuantileContFunc;

/// `quantile_cont`, for functions that are made of it.
pub(super) fn quantile_cont() -> AggregateUDF {
    AggregateUDF::from(QuantileContFunc::new())
}

/// Every aggregate function.
pub fn all() -> Vec<Arc<AggregateUDF>> {
    vec![Arc::new(quantile_cont())]
}
