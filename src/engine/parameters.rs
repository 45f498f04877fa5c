//! Values for the placeholders of a statement.
//!
//! Read [`with_parameters`].

use std::collections::HashMap;

use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;

use crate::error::{Error, Result};

/// The plan with values in the place of its placeholders, of which each must have one.
pub(super) fn with_parameters(
    plan: LogicalPlan,
    parameters: &[(String, ScalarValue)],
) -> Result<LogicalPlan> {
    check_values(&plan, parameters)?;
    if parameters.is_empty() {
        return Ok(plan);
    }
    Ok(plan.with_param_values(param_values(parameters))?)
}

/// Says which placeholders have no value.
fn check_values(plan: &LogicalPlan, parameters: &[(String, ScalarValue)]) -> Result<()> {
    if matches!(plan, LogicalPlan::Statement(_) | LogicalPlan::Explain(_)) {
        return Ok(());
    }
    let is_given = |id: &str| {
        parameters
            .iter()
            .any(|(name, _)| Some(name.as_str()) == id.strip_prefix('$'))
    };
    let names = plan.get_parameter_names()?;
    let mut missing: Vec<_> = names.iter().filter(|id| !is_given(id)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    Err(Error::invalid_input(format!(
        "the statement needs a value for each of its placeholders; pass them as parameters (on the \
         command line with --param NAME=VALUE); missing=`{}`",
        missing.join(" ")
    )))
}

/// Values for placeholders: by position where all names are numbers, else by name.
fn param_values(parameters: &[(String, ScalarValue)]) -> ParamValues {
    let value = |value: &ScalarValue| ScalarAndMetadata::from(value.clone());
    let mut positions: Vec<(usize, &ScalarValue)> = parameters
        .iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
        .collect();
    if positions.len() == parameters.len() {
        positions.sort_by_key(|(position, _)| *position);
        return ParamValues::List(positions.into_iter().map(|(_, v)| value(v)).collect());
    }
    let named: HashMap<String, ScalarAndMetadata> = parameters
        .iter()
        .map(|(name, v)| (name.clone(), value(v)))
        .collect();
    ParamValues::Map(named)
}
