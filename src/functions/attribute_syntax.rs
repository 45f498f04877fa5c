//! What `attributes['k']`, `attributes->>'k'`, `attributes->'k'` and `attributes ? 'k'` mean.
//!
//! Read [`AttributeSyntax`].

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, ScalarUDF, lit};

use super::scalar::AttributeFunc;
use crate::span::AttributeOutput;

/// Plans subscripts and arrows on text columns as lookups of an attribute. On structs and lists
/// they keep their usual meaning.
#[derive(Debug)]
pub struct AttributeSyntax {
    text: Arc<ScalarUDF>,
    json: Arc<ScalarUDF>,
    double: Arc<ScalarUDF>,
    exists: Arc<ScalarUDF>,
}

impl Default for AttributeSyntax {
    fn default() -> Self {
        let function = |output| Arc::new(ScalarUDF::from(AttributeFunc::new(output)));
        Self {
            text: function(AttributeOutput::Text),
            json: function(AttributeOutput::Json),
            double: function(AttributeOutput::Double),
            exists: function(AttributeOutput::Exists),
        }
    }
}

impl ExprPlanner for AttributeSyntax {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::LongArrow => &self.text,
            BinaryOperator::Arrow => &self.json,
            BinaryOperator::Question => &self.exists,
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo => return Ok(self.arithmetic(expr, schema)),
            BinaryOperator::Eq | BinaryOperator::NotEq => {
                return Ok(PlannerResult::Original(self.with_boolean(expr)));
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        if !is_text(&expr.left, schema) {
            return Ok(PlannerResult::Original(expr));
        }
        // A number is the place of an item in a list.
        let key = match expr.right.get_type(schema) {
            Ok(data_type) if data_type.is_integer() => {
                expr.right.cast_to(&DataType::Int64, schema)?
            }
            _ => expr.right,
        };
        let arguments = vec![expr.left, key];
        Ok(PlannerResult::Planned(function.call(arguments)))
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let GetFieldAccess::NamedStructField { name } = &expr.field_access else {
            return Ok(PlannerResult::Original(expr));
        };
        if !is_text(&expr.expr, schema) {
            return Ok(PlannerResult::Original(expr));
        }
        let key = lit(name.clone());
        Ok(PlannerResult::Planned(self.text.call(vec![expr.expr, key])))
    }
}

impl AttributeSyntax {
    /// An attribute that is reckoned with is a number. It has to be said here already: the type
    /// of the result is asked for before any rule sees the plan.
    fn arithmetic(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> PlannerResult<RawBinaryExpr> {
        let is_number = |expr: &Expr| expr.get_type(schema).is_ok_and(|t| t.is_numeric());
        let left = self.attribute_as_double(&expr.left);
        let right = self.attribute_as_double(&expr.right);
        match (left, right) {
            (Some(left), Some(right)) => (expr.left, expr.right) = (left, right),
            (Some(left), None) if is_number(&expr.right) => expr.left = left,
            (None, Some(right)) if is_number(&expr.left) => expr.right = right,
            _ => {}
        }
        PlannerResult::Original(expr)
    }

    /// An attribute that meets a boolean is compared as text, for the same reason.
    fn with_boolean(&self, mut expr: RawBinaryExpr) -> RawBinaryExpr {
        let text = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Boolean(Some(value)), _) => Some(lit(value.to_string())),
            _ => None,
        };
        let is_attribute = |expr: &Expr| self.attribute_as_double(expr).is_some();
        if let (true, Some(right)) = (is_attribute(&expr.left), text(&expr.right)) {
            expr.right = right;
        } else if let (Some(left), true) = (text(&expr.left), is_attribute(&expr.right)) {
            expr.left = left;
        }
        expr
    }

    fn attribute_as_double(&self, expr: &Expr) -> Option<Expr> {
        match expr {
            Expr::ScalarFunction(function) if function.func == self.text => {
                Some(self.double.call(function.args.clone()))
            }
            _ => None,
        }
    }
}

fn is_text(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(
        expr.get_type(schema),
        Ok(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    )
}
