//! Plans calls of table functions.
//!
//! Read [`TableCalls`]: arguments may be given by name, `search_traces(service => 'checkout')`,
//! and each call is a relation of its own.

use std::collections::HashMap;

use datafusion::common::{DFSchema, Result, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, TableFactor, Value,
};
use datafusion::logical_expr::{Documentation, LogicalPlanBuilder};

use crate::error::Error;

/// Puts named arguments into the places their names have in the function's manual, and NULL into
/// those that are left out before the last.
///
/// The scan of a call is named for its arguments: DataFusion takes scans of the same name and
/// columns for the same relation, so that of two subqueries over `f('a')` and `f('b')` only one
/// would be run and serve for both. To the rest of the statement it is `f()`.
#[derive(Debug, Default)]
pub struct TableCalls {
    /// The names of each function's arguments, in order.
    functions: HashMap<String, Vec<String>>,
}

impl TableCalls {
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
}

impl RelationPlanner for TableCalls {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table {
            name,
            alias,
            args: Some(arguments),
            ..
        } = &relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let function = name.to_string().to_lowercase();
        let Some(names) = self.functions.get(&function) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let given: Vec<String> = arguments.args.iter().map(ToString::to_string).collect();
        let mut exprs = Vec::with_capacity(given.len());
        for argument in in_order(&function, names, arguments.args.clone())? {
            let FunctionArgExpr::Expr(expr) = argument else {
                return refuse(&function, &format!("takes values, not `{argument}`"));
            };
            exprs.push(context.sql_expr_to_logical_expr(expr, &DFSchema::empty())?);
        }
        let source = context.context_provider();
        let source = source.get_table_function_source(&function, exprs)?;
        let bare = |name: String| TableReference::Bare { table: name.into() };
        let call = bare(format!("{function}({})", given.join(", ")));
        let plan = LogicalPlanBuilder::scan(call, source, None)?;
        let plan = plan.alias(bare(format!("{function}()")))?.build()?;
        let planned = PlannedRelation::new(plan, alias.clone());
        Ok(RelationPlanning::Planned(Box::new(planned)))
    }
}

/// The values of a call in the order of the function's arguments.
fn in_order(
    function: &str,
    names: &[String],
    given: Vec<FunctionArg>,
) -> Result<Vec<FunctionArgExpr>> {
    let mut places: Vec<Option<FunctionArgExpr>> = Vec::new();
    let mut is_named = false;
    for argument in given {
        let (name, value) = match argument {
            FunctionArg::Unnamed(value) if !is_named => {
                places.push(Some(value));
                continue;
            }
            FunctionArg::Unnamed(_) => {
                return refuse(
                    function,
                    "takes arguments without a name before those with one",
                );
            }
            FunctionArg::Named { name, arg, .. } => (name.value, arg),
            FunctionArg::ExprNamed { name, arg, .. } => match name {
                Expr::Identifier(name) => (name.value, arg),
                other => (other.to_string(), arg),
            },
        };
        if !is_named {
            is_named = true;
            places.resize(names.len().max(places.len()), None);
        }
        let mut all = names.iter();
        let Some(place) = all.position(|known| known.eq_ignore_ascii_case(&name)) else {
            let names = names.join(", ");
            return refuse(
                function,
                &format!("has no argument `{name}`; it has {names}"),
            );
        };
        if places[place].replace(value).is_some() {
            return refuse(function, &format!("is given `{}` twice", names[place]));
        }
    }
    let null = || FunctionArgExpr::Expr(Expr::value(Value::Null));
    let places = places.into_iter();
    Ok(places.map(|value| value.unwrap_or_else(null)).collect())
}

fn refuse<T>(function: &str, what: &str) -> Result<T> {
    Err(Error::invalid_input(format!("{function}() {what}")).into())
}
