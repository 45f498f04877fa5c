//! Conditions on the first of several values that is not NULL, which `semconv` and `coalesce`
//! make, as conditions on each of the values. Pure.
//!
//! Read [`alternatives`].

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Case;

/// For an expression over `coalesce(a, b, …)` the same over `a`, over `b`, and so on. Where the
/// first is true so is one of these; not the other way round, since a later value does not count
/// where an earlier one is there. `None` where there is no `coalesce`.
///
/// Planning has made `CASE WHEN a IS NOT NULL THEN a … ELSE z END` of it.
pub(super) fn alternatives(expr: &Expr) -> Option<Vec<Expr>> {
    let mut found = None;
    let walked = expr.apply(|expr| {
        if let Expr::Case(case) = expr
            && let Some(values) = values_of(case)
        {
            found = Some((expr.clone(), values));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.ok()?;
    let (whole, values) = found?;
    let over = |value: Expr| {
        let replaced = expr.clone().transform_down(|expr| {
            Ok(if expr == whole {
                Transformed::new(value.clone(), true, TreeNodeRecursion::Jump)
            } else {
                Transformed::no(expr)
            })
        });
        replaced.data().ok()
    };
    values.into_iter().map(over).collect()
}

/// The values of which a `CASE` gives the first that is not NULL.
fn values_of(case: &Case) -> Option<Vec<Expr>> {
    let (None, Some(last)) = (&case.expr, &case.else_expr) else {
        return None;
    };
    let mut values = Vec::with_capacity(case.when_then_expr.len() + 1);
    for (when, then) in &case.when_then_expr {
        match when.as_ref() {
            Expr::IsNotNull(value) if value == then => values.push(then.as_ref().clone()),
            _ => return None,
        }
    }
    values.push(last.as_ref().clone());
    Some(values)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::when;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn each_value_stands_where_the_first_of_them_stood() {
        let first = when(col("a").is_not_null(), col("a"))
            .otherwise(col("b"))
            .unwrap();
        let found = alternatives(&first.eq(lit(5))).unwrap();
        assert_eq!(found, [col("a").eq(lit(5)), col("b").eq(lit(5))]);
        let other = when(col("a").is_null(), col("a"))
            .otherwise(col("b"))
            .unwrap();
        assert_eq!(alternatives(&other.eq(lit(5))), None);
    }
}
