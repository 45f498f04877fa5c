//! Checks and normalizes literals that are compared with ids.
//!
//! Read [`IdLiterals`]. It runs before anything else sees the plan, so that `'4BF9…'` finds
//! what `'4bf9…'` does, and a mistyped id is an error instead of an empty answer.

use arrow::datatypes::DataType;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, ExprSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList, Like, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use crate::error::Error;
use crate::span::{IdKind, SpanId, TraceId};

/// Rewrites literals that meet an id column by `=`, `<>`, `IN` or `CASE`, alone or as part of a row
/// such as `(trace_id, span_id)`, to the form rows show: lower-case, 16-digit trace ids padded; those of `<`, `BETWEEN` and `LIKE`, which may be parts
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
            let (left_kinds, right_kinds) = (id_kinds(&left, schema), id_kinds(&right, schema));
            let right = map_literals(*right, &left_kinds)?;
            let left = map_literals(*left, &right_kinds)?;
            let changed = left.transformed || right.transformed;
            let (left, right) = (Box::new(left.data), Box::new(right.data));
            let expr = Expr::BinaryExpr(BinaryExpr::new(left, op, right));
            Transformed::new_transformed(expr, changed)
        }
        Expr::BinaryExpr(binary) if is_order(binary.op) => in_order(binary, schema),
        Expr::Between(mut between) if id_kind(&between.expr, schema).is_some() => {
            let (low, high) = (lower_case(&between.low), lower_case(&between.high));
            let changed = low.is_some() || high.is_some();
            between.low = low.map_or(between.low, Box::new);
            between.high = high.map_or(between.high, Box::new);
            Transformed::new_transformed(Expr::Between(between), changed)
        }
        Expr::Case(case) => case_of(case, schema)?,
        Expr::InList(InList {
            expr,
            list,
            negated,
        }) => {
            let kinds = id_kinds(&expr, schema);
            let mut changed = false;
            let mut items = Vec::with_capacity(list.len());
            for item in list {
                let item = map_literals(item, &kinds)?;
                changed |= item.transformed;
                items.push(item.data);
            }
            let list = InList::new(expr, items, negated);
            Transformed::new_transformed(Expr::InList(list), changed)
        }
        // `id = ANY(ARRAY[…])`.
        Expr::ScalarFunction(call) if call.func.name() == "array_has" && call.args.len() == 2 => {
            any_of(call, schema)?
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

/// A part of an id may stand here as well as a whole one.
fn in_order(comparison: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let BinaryExpr { left, op, right } = comparison;
    let (left_kind, right_kind) = (id_kind(&left, schema), id_kind(&right, schema));
    let lower_right = left_kind.and_then(|_| lower_case(&right));
    let lower_left = right_kind.and_then(|_| lower_case(&left));
    let changed = lower_right.is_some() || lower_left.is_some();
    let right = lower_right.map_or(right, Box::new);
    let left = lower_left.map_or(left, Box::new);
    let expr = Expr::BinaryExpr(BinaryExpr::new(left, op, right));
    Transformed::new_transformed(expr, changed)
}

/// `CASE id WHEN … END`.
fn case_of(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let kind = case.expr.as_ref().and_then(|base| id_kind(base, schema));
    let mut changed = false;
    let mut branches = Vec::with_capacity(case.when_then_expr.len());
    for (when, then) in case.when_then_expr {
        let when = map_literal(*when, kind)?;
        changed |= when.transformed;
        branches.push((Box::new(when.data), then));
    }
    case.when_then_expr = branches;
    Ok(Transformed::new_transformed(Expr::Case(case), changed))
}

/// `array_has(make_array(…), id)`.
fn any_of(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let kind = call.args.get(1).and_then(|id| id_kind(id, schema));
    let mut changed = false;
    if let Some(Expr::ScalarFunction(array)) = call.args.first_mut()
        && array.func.name() == "make_array"
    {
        for item in &mut array.args {
            let mapped = map_literal(item.clone(), kind)?;
            changed |= mapped.transformed;
            *item = mapped.data;
        }
    }
    Ok(Transformed::new_transformed(
        Expr::ScalarFunction(call),
        changed,
    ))
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

/// The kinds of the parts of a row, `(trace_id, span_id)`; of anything else that of the one value.
fn id_kinds(expr: &Expr, schema: &DFSchema) -> Vec<Option<IdKind>> {
    match expr {
        Expr::ScalarFunction(call) if is_row(call) => {
            let parts = call.args.iter();
            parts.map(|part| id_kind(part, schema)).collect()
        }
        one => vec![id_kind(one, schema)],
    }
}

/// Whether a call makes a row of its arguments.
fn is_row(call: &ScalarFunction) -> bool {
    call.func.name() == "struct"
}

/// A literal, or a row with literals in it, that meets something of these kinds.
fn map_literals(expr: Expr, kinds: &[Option<IdKind>]) -> Result<Transformed<Expr>> {
    let mut call = match expr {
        Expr::ScalarFunction(call) if is_row(&call) && call.args.len() == kinds.len() => call,
        Expr::ScalarFunction(call) if is_row(&call) => {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
        one => match kinds {
            [kind] => return map_literal(one, *kind),
            _ => return Ok(Transformed::no(one)),
        },
    };
    let mut changed = false;
    for (part, kind) in call.args.iter_mut().zip(kinds) {
        let mapped = map_literal(std::mem::take(part), *kind)?;
        changed |= mapped.transformed;
        *part = mapped.data;
    }
    let row = Expr::ScalarFunction(call);
    Ok(Transformed::new_transformed(row, changed))
}

fn map_literal(expr: Expr, kind: Option<IdKind>) -> Result<Transformed<Expr>> {
    let (Some(kind), Some((value, metadata))) = (kind, text_literal(&expr)) else {
        return Ok(Transformed::no(expr));
    };
    if value.data_type().is_numeric() && !value.is_null() {
        let message = format!("an id is compared with the number {value}; put it in quotes");
        return Err(Error::invalid_input(message).into());
    }
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
    Ok(Transformed::yes(literal))
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
