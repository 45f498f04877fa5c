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

use super::scalar::{AttributeFunc, AttributeOutput};

/// Integers up to this size are exact as doubles.
const EXACT: i128 = 1 << 53;

/// `attributes['http.response.status_code'] >= 500` compares numbers, whether the producer sent
/// a number or its text; without this rule SQL would compare the texts. Integers too large for
/// a double are compared as text, which is exact for `=` and `IN`. With a boolean the attribute
/// is compared as text, so that other values differ instead of failing.
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
                let left_new = self.operand(&left, &right, schema);
                let right_new = self.operand(&right, &left, schema);
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
            }) if is_attribute(&expr)
                && is_exact_number(&low, schema)
                && is_exact_number(&high, schema) =>
            {
                let expr = Box::new(self.as_double(&expr));
                Transformed::yes(Expr::Between(Between::new(expr, negated, low, high)))
            }
            other => Transformed::no(other),
        })
    }

    /// What stands in the place of `expr` when it is compared with `other`, if anything else.
    fn operand(&self, expr: &Expr, other: &Expr, schema: &DFSchema) -> Option<Expr> {
        if is_attribute(expr) && is_exact_number(other, schema) {
            return Some(self.as_double(expr));
        }
        // The literal becomes text where the attribute stays text.
        if is_attribute(other) && !is_exact_number(expr, schema) {
            let text = as_text(expr.clone());
            return (text != *expr).then_some(text);
        }
        None
    }

    fn as_double(&self, attribute: &Expr) -> Expr {
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

fn is_attribute(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, .. }) => {
            func.name() == AttributeOutput::Text.function_name()
        }
        _ => false,
    }
}

/// A number, known or not, that a double can be compared with.
fn is_exact_number(expr: &Expr, schema: &DFSchema) -> bool {
    let numeric = expr
        .get_type(schema)
        .is_ok_and(|data_type| data_type.is_numeric());
    numeric && !is_large_integer(expr)
}

fn is_large_integer(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else {
        return false;
    };
    match value {
        ScalarValue::Int64(Some(number)) => i128::from(*number).abs() > EXACT,
        ScalarValue::UInt64(Some(number)) => i128::from(*number) > EXACT,
        ScalarValue::Decimal128(Some(number), _, 0) => number.abs() > EXACT,
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
