//! What can be said of a statement before its placeholders are filled.
//!
//! Read [`Session::describe`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{Expr, TableFactor, Value, Visit, Visitor};

use super::{Session, Statement};
use crate::error::{Error, Result};

/// What stands for a value of a table function's argument until it is known: it reads as the id
/// of a trace and as that of a span.
const EXAMPLE: &str = "0000000000000001";

/// The most placeholders a statement may have.
const MAX_PLACEHOLDERS: usize = 1000;

/// A statement that is planned, its placeholders not yet filled.
#[derive(Debug, Clone)]
pub struct Description {
    /// The plan.
    pub plan: LogicalPlan,
    /// The types of `$1`, `$2`, … as far as the plan tells them.
    pub parameters: Vec<Option<DataType>>,
    /// Whether the plan can be run, and run again: the rows of a table function are decided
    /// when a statement is planned, so that it must be planned anew each time.
    pub stays: bool,
}

impl Session {
    /// Plans a statement with placeholders `$1`, `$2`, …, of which those that stand in table
    /// functions need an example; `types` tells what a client said of them.
    pub async fn describe(
        &self,
        statement: &Statement,
        types: &[Option<DataType>],
    ) -> Result<Description> {
        let mut found = Found::default();
        if let ParsedStatement::Statement(syntax) = &statement.parsed {
            let _ = syntax.visit(&mut found);
        }
        let count = found.placeholder_count()?;
        let stays = !found.has_table_functions;
        let examples: Vec<(String, ScalarValue)> = match stays {
            true => Vec::new(),
            false => (0..count)
                .map(|at| {
                    let given = types.get(at).cloned().flatten();
                    ((at + 1).to_string(), example(given.as_ref()))
                })
                .collect(),
        };
        let plan = self.logical_plan_with(statement.clone(), &examples).await?;
        let mut parameters = vec![None; count];
        for (name, data_type) in plan.get_parameter_types()? {
            if let Some(number) = number_of(&name)
                && let Some(place) = parameters.get_mut(number - 1)
            {
                *place = data_type;
            }
        }
        for name in limits(&plan)? {
            if let Some(number) = number_of(&name)
                && let Some(place) = parameters.get_mut(number - 1)
            {
                place.get_or_insert(DataType::Int64);
            }
        }
        Ok(Description {
            plan,
            parameters,
            stays,
        })
    }
}

/// The placeholders that stand for numbers of rows, which the plan gives no type.
fn limits(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for number in [&limit.skip, &limit.fetch].into_iter().flatten() {
                number.apply(|expr| {
                    if let PlanExpr::Placeholder(placeholder) = expr {
                        names.push(placeholder.id.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

fn example(data_type: Option<&DataType>) -> ScalarValue {
    match data_type {
        Some(data_type) if data_type.is_integer() => ScalarValue::from(1i64),
        Some(data_type) if data_type.is_floating() => ScalarValue::from(1.0),
        Some(DataType::Boolean) => ScalarValue::from(true),
        _ => ScalarValue::from(EXAMPLE),
    }
}

/// The number of `$7`, from one.
fn number_of(placeholder: &str) -> Option<usize> {
    let number = placeholder.strip_prefix('$')?.parse().ok()?;
    (1..=MAX_PLACEHOLDERS).contains(&number).then_some(number)
}

/// What stands in a statement.
#[derive(Default)]
struct Found {
    placeholders: BTreeSet<String>,
    has_table_functions: bool,
}

impl Found {
    fn placeholder_count(&self) -> Result<usize> {
        let numbers = self.placeholders.iter().map(|name| {
            number_of(name).ok_or_else(|| {
                Error::invalid_input(format!(
                    "placeholders are $1, $2, … up to ${MAX_PLACEHOLDERS}; placeholder=`{name}`"
                ))
            })
        });
        let numbers: Vec<usize> = numbers.collect::<Result<_>>()?;
        Ok(numbers.into_iter().max().unwrap_or_default())
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            self.placeholders.insert(name.clone());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        self.has_table_functions |= matches!(
            table,
            TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. }
        );
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Lake;

    #[tokio::test]
    async fn placeholders_are_counted_and_typed_where_they_stand() {
        let lake = Lake::create("memory://", Default::default()).await.unwrap();
        let session = lake.session().await.unwrap();
        for (sql, types, stays) in [
            ("SELECT 1", vec![], true),
            (
                "SELECT * FROM spans WHERE trace_id = $1 AND duration_nano > $3",
                vec![Some(DataType::Utf8View), None, Some(DataType::Int64)],
                true,
            ),
            (
                "SELECT name FROM spans LIMIT $2 OFFSET $1",
                vec![Some(DataType::Int64), Some(DataType::Int64)],
                true,
            ),
            ("SELECT name FROM trace($1)", vec![None], false),
        ] {
            let statement = Session::statements(sql).unwrap().remove(0);
            let described = session.describe(&statement, &[]).await.unwrap();
            assert_eq!(
                (described.parameters, described.stays),
                (types, stays),
                "{sql}"
            );
        }
        let named = Session::statements("SELECT $name").unwrap().remove(0);
        assert!(session.describe(&named, &[]).await.is_err());
    }
}
