//! Values that stand as arguments of table functions.
//!
//! Read [`constant`].

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use crate::error::{Error, Result};
use crate::search::parse_duration;

/// What is known of an argument when the statement is planned.
pub(super) enum Constant {
    Value(ScalarValue),
    /// A parameter of the statement that has no value yet, by its name.
    Placeholder(String),
}

/// What an argument is; `None` where it is computed from rows.
pub(super) fn constant(expr: &Expr) -> Option<Constant> {
    match expr {
        Expr::Literal(value, _) => Some(Constant::Value(value.clone())),
        Expr::Placeholder(placeholder) => Some(Constant::Placeholder(placeholder.id.clone())),
        Expr::Cast(cast) => constant(&cast.expr),
        Expr::Alias(alias) => constant(&alias.expr),
        // A list with a parameter in it.
        Expr::ScalarFunction(call) => call.args.iter().find_map(|argument| {
            let argument = constant(argument);
            argument.filter(|argument| matches!(argument, Constant::Placeholder(_)))
        }),
        _ => None,
    }
}

/// A whole number of at least zero; `None` where the value is none.
pub(super) fn whole_number(value: &ScalarValue) -> Option<u64> {
    match value.cast_to(&DataType::UInt64) {
        Ok(ScalarValue::UInt64(number)) if value.data_type().is_integer() => number,
        _ => None,
    }
}

/// The nanoseconds of an interval or of a text such as `250ms`. An error calls it `what`.
pub(super) fn duration_nano(what: &str, value: &ScalarValue) -> Result<i64> {
    if let Some(Some(text)) = value.try_as_str() {
        return parse_duration(text).map_err(|error| error.with_context(what));
    }
    let interval = value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano));
    let is_interval = matches!(
        value.data_type(),
        DataType::Interval(_) | DataType::Duration(_)
    );
    match interval {
        // A month has no certain length.
        Ok(ScalarValue::IntervalMonthDayNano(Some(interval)))
            if is_interval && interval.months == 0 =>
        {
            let days = i64::from(interval.days).saturating_mul(86_400_000_000_000);
            Ok(days.saturating_add(interval.nanoseconds))
        }
        _ => Err(wrong(
            what,
            "an interval, or a text such as `250ms` or `1.5s`",
            value,
        )),
    }
}

/// That a statement is run whose parameter has no value.
pub(super) fn no_value(parameter: &str) -> Error {
    let message = format!("the parameter {parameter} of the statement has no value");
    Error::invalid_input(message)
}

/// That an argument is something else than it should be.
pub(super) fn wrong(what: &str, expected: &str, value: &ScalarValue) -> Error {
    Error::invalid_input(format!("{what} is {expected}, not `{value}`"))
}
