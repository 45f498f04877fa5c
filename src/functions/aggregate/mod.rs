//! Functions of many rows.

mod quantile_cont;

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

use quantile_cont::QuantileContFunc;

/// Every aggregate function.
pub fn all() -> Vec<Arc<AggregateUDF>> {
    vec![Arc::new(AggregateUDF::from(QuantileContFunc::new()))]
}
