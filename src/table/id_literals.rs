//! Checks and normalizes literals that are compared with ids.
//!
//! Read [`IdLiterals`]. It runs before anything else sees the plan, so that `'4BF9…'` finds
//! what `'4bf9…'` does, and a mistyped id is an error instead of an empty answer.

use arrow::datatypes::DataType;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, ExprSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList, Like};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use crate::span::{IdKind, SpanId, TraceId};

/// Rewrites literals that meet an id column by `=`, `<>`, `IN` or `CASE` to the form rows show:
/// lower-case, 16-digit trace ids padded; those of `<`, `BETWEEN` and `LIKE`, which may be parts
/// of ids, to lower case. A malformed one is an error that names it; the empty
/// text, which dashboards send for a variable that is not set, is left and matches nothing.
#[derive(Debug)]
pub struct IdLiterals;

impl AnalyzerRule for IdLiterals {
    fn name(&self) -> &str {
        "id_literals"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = DFSchema::empty();
            for input in plan.inputs() {
                schema.merge(input.schema());
            }
            // A scan's own filters, and a table's own columns, are seen by its schema.
            schema.merge(plan.schema());
            // What stands above the plan refers to its expressions by name.
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let normalized = expr.transform_up(|expr| normalize(expr, &schema))?;
                Ok(normalized.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .data()
    }
}

fn normalize(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_equality(op) => {
            let (left_kind, right_kind) = (id_kind(&left, schema), id_kind(&right, schema));
            let right = map_literal(right, left_kind)?;
            let left = map_literal(left, right_kind)?;
            let changed = left.transformed || right.transformed;
            let expr = Expr::BinaryExpr(BinaryExpr::new(left.data, op, right.data));
            Transformed::new_transformed(expr, changed)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_order(op) => {
            let (left_kind, right_kind) = (id_kind(&left, schema), id_kind(&right, schema));
            let lower_right = left_kind.and_then(|_| lower_case(&right));
            let lower_left = right_kind.and_then(|_| lower_case(&left));
            let changed = lower_right.is_some() || lower_left.is_some();
            let right = lower_right.map_or(right, Box::new);
            let left = lower_left.map_or(left, Box::new);
            let expr = Expr::BinaryExpr(BinaryExpr::new(left, op, right));
            Transformed::new_transformed(expr, changed)
        }
        Expr::Between(mut between) if id_kind(&between.expr, schema).is_some() => {
            let (low, high) = (lower_case(&between.low), lower_case(&between.high));
            let changed = low.is_some() || high.is_some();
            between.low = low.map_or(between.low, Box::new);
            between.high = high.map_or(between.high, Box::new);
            Transformed::new_transformed(Expr::Between(between), changed)
        }
        Expr::Case(Case {
            expr: Some(base),
            when_then_expr,
            else_expr,
        }) if id_kind(&base, schema).is_some() => {
            let kind = id_kind(&base, schema);
            let mut changed = false;
            let mut branches = Vec::with_capacity(when_then_expr.len());
            for (when, then) in when_then_expr {
                let when = map_literal(when, kind)?;
                changed |= when.transformed;
                branches.push((when.data, then));
            }
            let case = Case::new(Some(base), branches, else_expr);
            Transformed::new_transformed(Expr::Case(case), changed)
        }
        Expr::InList(InList {
            expr,
            list,
            negated,
        }) => {
            let kind = id_kind(&expr, schema);
            let mut changed = false;
            let mut items = Vec::with_capacity(list.len());
            for item in list {
                let item = map_literal(Box::new(item), kind)?;
                changed |= item.transformed;
                items.push(*item.data);
            }
            let list = InList::new(expr, items, negated);
            Transformed::new_transformed(Expr::InList(list), changed)
        }
        Expr::Like(like) if !like.case_insensitive && id_kind(&like.expr, schema).is_some() => {
            let pattern = lower_case(&like.pattern);
            match pattern {
                Some(pattern) => Transformed::yes(Expr::Like(Like {
                    pattern: Box::new(pattern),
                    ..like
                })),
                None => Transformed::no(Expr::Like(like)),
            }
        }
        other => Transformed::no(other),
    })
}

fn is_equality(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom
    )
}

/// Comparisons in which a part of an id is meant as well as a whole one.
fn is_order(op: Operator) -> bool {
    matches!(
        op,
        Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    )
}

/// The kind of id a column holds, by the mark its field carries.
fn id_kind(expr: &Expr, schema: &DFSchema) -> Option<IdKind> {
    match expr {
        Expr::Column(column) => schema
            .field_from_column(column)
            .ok()
            .and_then(|f| IdKind::of(f)),
        Expr::Alias(alias) => id_kind(&alias.expr, schema),
        Expr::OuterReferenceColumn(field, _) => IdKind::of(field),
        _ => None,
    }
}

fn map_literal(expr: Box<Expr>, kind: Option<IdKind>) -> Result<Transformed<Box<Expr>>> {
    let (Some(kind), Some((value, metadata))) = (kind, text_literal(&expr)) else {
        return Ok(Transformed::no(expr));
    };
    let Some(Some(text)) = value.try_as_str() else {
        return Ok(Transformed::no(expr));
    };
    if text.is_empty() {
        return Ok(Transformed::no(expr));
    }
    let canonical = match kind {
        IdKind::Trace => TraceId::parse(text).map(|id| id.to_string()),
        IdKind::Span => SpanId::parse(text).map(|id| id.to_string()),
    }
    .map_err(DataFusionError::from)?;
    if canonical == text {
        return Ok(Transformed::no(expr));
    }
    let literal = Expr::Literal(ScalarValue::Utf8(Some(canonical)), metadata.clone());
    Ok(Transformed::yes(Box::new(literal)))
}

/// A literal, also one that is cast to text, as clients write it.
fn text_literal(expr: &Expr) -> Option<(&ScalarValue, &Option<FieldMetadata>)> {
    match expr {
        Expr::Literal(value, metadata) => Some((value, metadata)),
        Expr::Cast(Cast { expr, field }) if is_text(field.data_type()) => text_literal(expr),
        _ => None,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// A literal in lower case, if that changes it.
fn lower_case(literal: &Expr) -> Option<Expr> {
    let (value, metadata) = text_literal(literal)?;
    let text = value.try_as_str()??;
    let lower = text.to_lowercase();
    (lower != text).then(|| Expr::Literal(ScalarValue::Utf8(Some(lower)), metadata.clone()))
}
