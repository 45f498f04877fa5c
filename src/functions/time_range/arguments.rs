//! What stands between the parentheses: times, and what may follow them.
//!
//! Read [`TimeRange`]. Times stay expressions, so `now() - INTERVAL '1 hour'` and parameters of
//! the statement may stand there; the optimizer makes constants of them.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::functions_nested::expr_fn::{array_element, make_array};
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlanBuilder, cast, lit};
use datafusion::prelude::col;

use crate::functions::aggregate;

/// From when on, and until when, which is not itself in the range.
#[derive(Debug, Clone)]
pub(super) struct TimeRange {
    pub(super) from: Expr,
    pub(super) to: Expr,
}

pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

impl TimeRange {
    /// The first two of `most` arguments at the most, and those that follow.
    pub(super) fn read<'a>(
        function: &str,
        arguments: &'a [Expr],
        most: usize,
    ) -> Result<(Self, &'a [Expr])> {
        let [from, to, others @ ..] = arguments else {
            return plan_err!(
                "{function}() takes the beginning and the end of a range of time, such as \
                 {function}(now() - INTERVAL '1 hour', now())"
            );
        };
        if arguments.len() > most {
            return plan_err!(
                "{function}() takes at most {most} arguments, got {}; see `\\df {function}`",
                arguments.len()
            );
        }
        let range = Self {
            from: cast(from.clone(), time_type()),
            to: cast(to.clone(), time_type()),
        };
        Ok((range, others))
    }

    /// Whether a time lies in the range.
    pub(super) fn holds(&self, time: Expr) -> Expr {
        let from = time.clone().gt_eq(self.from.clone());
        from.and(time.lt(self.to.clone()))
    }
}

impl TimeRange {
    /// The same as filters on `start_time` with what the ends of the range are now.
    pub(super) fn known(&self, state: &dyn Session) -> Result<Vec<Expr>> {
        let from = col("start_time").gt_eq(lit(constant(state, &self.from)?));
        let to = col("start_time").lt(lit(constant(state, &self.to)?));
        Ok(vec![from, to])
    }
}

fn constant(state: &dyn Session, time: &Expr) -> Result<ScalarValue> {
    let expr = state.create_physical_expr(time.clone(), &DFSchema::empty())?;
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one)?;
    match expr.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}

/// The text of an optional argument that must be known when the statement is planned.
pub(super) fn text_argument(function: &str, argument: Option<&Expr>) -> Result<Option<String>> {
    let value = match argument {
        None => return Ok(None),
        Some(Expr::Literal(value, _)) => value,
        Some(other) => return plan_err!("`{other}` in {function}() must be a constant text"),
    };
    if value.is_null() {
        return Ok(None);
    }
    match value.try_as_str() {
        Some(text) => Ok(text.map(str::to_string)),
        None => plan_err!("{function}() takes a text, got {value}"),
    }
}

/// A plan that reads a relation.
pub(super) fn scan(name: &str, table: &Arc<dyn TableProvider>) -> Result<LogicalPlanBuilder> {
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::clone(table)), None)
}

/// The name of the list that [`quantiles`] gives.
const QUANTILES: &str = "quantiles";

/// The quantiles 0.5, 0.95 and 0.99 of a number, as one aggregate.
pub(super) fn quantiles(value: Expr) -> Expr {
    let fractions = make_array(vec![lit(0.5), lit(0.95), lit(0.99)]);
    aggregate::quantile_cont()
        .call(vec![value, fractions])
        .alias(QUANTILES)
}

/// Columns of the quantiles, named with what they are of.
pub(super) fn quantile_columns(suffix: &str) -> [Expr; 3] {
    [("p50", 1), ("p95", 2), ("p99", 3)].map(|(name, place)| {
        array_element(col(QUANTILES), lit(place as i64)).alias(format!("{name}_{suffix}"))
    })
}
