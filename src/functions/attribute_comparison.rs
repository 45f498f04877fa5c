//! Makes a comparison of an attribute with a number one of numbers.
//!
//! Read [`AttributeComparison`].

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::coalesce;

use super::scalar::AttributeFunc;
use super::semconv_keys::as_coalesced;
use crate::span::AttributeOutput;

/// Integers below this size are told apart as doubles; the next one is not.
const EXACT: i128 = 1 << 53;

/// `attributes['http.response.status_code'] >= 500` compares numbers, whether the producer sent
/// a number or its text; without this rule SQL would compare the texts. Integers too large for
/// a double are compared as text for `=` and `IN`, which is exact, and as doubles where the order
/// matters. With a boolean the attribute is compared as text, so that other values differ instead
/// of failing.
#[derive(Debug)]
pub struct AttributeComparison {
    double: Arc<ScalarUDF>,
}

impl Default for AttributeComparison {
    fn default() -> Self {
        Self {
            double: Arc::new(ScalarUDF::from(AttributeFunc::new(AttributeOutput::Double))),
        }
    }
}

impl AnalyzerRule for AttributeComparison {
    fn name(&self) -> &str {
        "attribute_comparison"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = DFSchema::empty();
            for input in plan.inputs() {
                schema.merge(input.schema());
            }
            // What stands above the plan refers to its expressions by name.
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| self.rewrite(expr, &schema))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .data()
    }
}

impl AttributeComparison {
    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if is_comparison(op) || op.is_numerical_operators() =>
            {
                let left_new = self.operand(&left, op, &right, schema);
                let right_new = self.operand(&right, op, &left, schema);
                let changed = left_new.is_some() || right_new.is_some();
                let (left, right) = (left_new.unwrap_or(*left), right_new.unwrap_or(*right));
                let expr = BinaryExpr::new(Box::new(left), op, Box::new(right));
                Transformed::new_transformed(Expr::BinaryExpr(expr), changed)
            }
            Expr::InList(InList {
                expr,
                list,
                negated,
            }) if is_attribute(&expr) && !list.is_empty() => {
                let numbers = list.iter().all(|item| is_exact_number(item, schema));
                let expr = if numbers {
                    Box::new(self.as_double(&expr))
                } else {
                    expr
                };
                let list = if numbers {
                    list
                } else {
                    list.into_iter().map(as_text).collect()
                };
                Transformed::yes(Expr::InList(InList::new(expr, list, negated)))
            }
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) if is_attribute(&expr) && is_number(&low, schema) && is_number(&high, schema) => {
                let expr = Box::new(self.as_double(&expr));
                Transformed::yes(Expr::Between(Between::new(expr, negated, low, high)))
            }
            other => Transformed::no(other),
        })
    }

    /// What stands in the place of `expr` when it meets `other`, if anything else.
    fn operand(&self, expr: &Expr, op: Operator, other: &Expr, schema: &DFSchema) -> Option<Expr> {
        let as_number = |operand: &Expr| {
            is_number(operand, schema) && !(is_equality(op) && is_large_integer(operand))
        };
        if is_attribute(expr) && as_number(other) {
            return Some(self.as_double(expr));
        }
        // The literal becomes text where the attribute stays text.
        if is_attribute(other) && !as_number(expr) {
            let text = as_text(expr.clone());
            return (text != *expr).then_some(text);
        }
        None
    }

    fn as_double(&self, attribute: &Expr) -> Expr {
        if let Some(lookups) = as_coalesced(attribute) {
            return coalesce(lookups.iter().map(|one| self.as_double(one)).collect());
        }
        match attribute {
            Expr::ScalarFunction(function) => self.double.call(function.args.clone()),
            other => other.clone(),
        }
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(
        op,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

fn is_equality(op: Operator) -> bool {
    use Operator::{Eq, IsDistinctFrom, IsNotDistinctFrom, NotEq};
    matches!(op, Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_attribute(expr: &Expr) -> bool {
    if let Some(lookups) = as_coalesced(expr) {
        return lookups.iter().all(is_lookup);
    }
    is_lookup(expr)
}

fn is_lookup(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, .. }) => {
            func.name() == AttributeOutput::Text.function_name()
        }
        _ => false,
    }
}

/// A number that tells equal doubles from others.
fn is_exact_number(expr: &Expr, schema: &DFSchema) -> bool {
    is_number(expr, schema) && !is_large_integer(expr)
}

fn is_number(expr: &Expr, schema: &DFSchema) -> bool {
    let data_type = expr.get_type(schema);
    data_type.is_ok_and(|data_type| data_type.is_numeric())
}

fn is_large_integer(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else {
        return false;
    };
    match value {
        ScalarValue::Int64(Some(number)) => i128::from(*number).abs() >= EXACT,
        ScalarValue::UInt64(Some(number)) => i128::from(*number) >= EXACT,
        ScalarValue::Decimal128(Some(number), _, 0) => number.abs() >= EXACT,
        _ => false,
    }
}

/// A literal that is a boolean or a number as the text an attribute has for it.
fn as_text(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Boolean(Some(value)), _) => lit(value.to_string()),
        Expr::Literal(value, _) if value.data_type().is_numeric() && !value.is_null() => {
            match value.cast_to(&DataType::Utf8) {
                Ok(text) => lit(text),
                Err(_) => expr,
            }
        }
        _ => expr,
    }
}
