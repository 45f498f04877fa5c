//! Arguments of table functions by their names: `search_traces(service => 'checkout')`.
//!
//! Read [`NamedArguments`].

use std::collections::HashMap;

use datafusion::common::Result;
use datafusion::logical_expr::Documentation;
use datafusion::logical_expr::planner::{
    RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, TableFactor, Value,
};

use crate::error::Error;

/// Puts named arguments into the places their names have in the function's manual, and NULL into
/// those that are left out, which is all that DataFusion's planner knows of.
#[derive(Debug, Default)]
pub struct NamedArguments {
    /// The names of each function's arguments, in order.
    functions: HashMap<String, Vec<String>>,
}

impl NamedArguments {
    /// Of functions by their names and manuals.
    pub fn new<'a>(functions: impl IntoIterator<Item = (&'a str, &'a Documentation)>) -> Self {
        let functions = functions.into_iter().map(|(name, documentation)| {
            let arguments = documentation.arguments.iter().flatten();
            let names = arguments.map(|(argument, _)| argument.clone());
            (name.to_string(), names.collect())
        });
        Self {
            functions: functions.collect(),
        }
    }

    fn in_order(&self, name: &ObjectName, given: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
        let is_named = |argument: &FunctionArg| !matches!(argument, FunctionArg::Unnamed(_));
        let function = name.to_string().to_lowercase();
        let Some(names) = self.functions.get(&function) else {
            return Ok(given);
        };
        if !given.iter().any(is_named) {
            return Ok(given);
        }
        let mut places: Vec<Option<FunctionArgExpr>> = vec![None; names.len()];
        let mut named_before = false;
        for (index, argument) in given.into_iter().enumerate() {
            let (place, value) = match argument {
                FunctionArg::Unnamed(value) if !named_before => (index, value),
                FunctionArg::Unnamed(_) => {
                    return refuse(
                        &function,
                        "takes arguments without a name before those with one",
                    );
                }
                FunctionArg::Named { name, arg, .. } => {
                    named_before = true;
                    (place_of(&function, names, &name.value)?, arg)
                }
                FunctionArg::ExprNamed { name, arg, .. } => {
                    named_before = true;
                    let Expr::Identifier(name) = name else {
                        return refuse(&function, &format!("has no argument `{name}`"));
                    };
                    (place_of(&function, names, &name.value)?, arg)
                }
            };
            match places.get_mut(place) {
                None => return refuse(&function, "is given too many arguments"),
                Some(Some(_)) => {
                    return refuse(&function, &format!("is given `{}` twice", names[place]));
                }
                Some(empty) => *empty = Some(value),
            }
        }
        let null = || FunctionArgExpr::Expr(Expr::value(Value::Null));
        let values = places.into_iter();
        let values = values.map(|value| FunctionArg::Unnamed(value.unwrap_or_else(null)));
        Ok(values.collect())
    }
}

fn place_of(function: &str, names: &[String], name: &str) -> Result<usize> {
    let mut all = names.iter();
    match all.position(|known| known.eq_ignore_ascii_case(name)) {
        Some(place) => Ok(place),
        None => {
            let names = names.join(", ");
            refuse(
                function,
                &format!("has no argument `{name}`; it has {names}"),
            )
        }
    }
}

fn refuse<T>(function: &str, what: &str) -> Result<T> {
    Err(Error::invalid_input(format!("{function}() {what}")).into())
}

impl RelationPlanner for NamedArguments {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        _context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if let TableFactor::Table {
            name,
            args: Some(arguments),
            ..
        } = &mut relation
        {
            let given = std::mem::take(&mut arguments.args);
            arguments.args = self.in_order(name, given)?;
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}
