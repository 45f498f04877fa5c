//! Puts lookups of attributes in the place of `semconv`.
//!
//! Read [`SemconvKeys`].

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::coalesce;

use super::scalar::{AttributeFunc, SEMCONV, keys_meaning};
use crate::span::AttributeOutput;

/// `semconv(attributes, 'http.method')` becomes `coalesce(attributes['http.request.method'],
/// attributes['http.method'])`, before comparisons with numbers are made numeric.
#[derive(Debug)]
pub struct SemconvKeys {
    attribute: Arc<ScalarUDF>,
}

impl Default for SemconvKeys {
    fn default() -> Self {
        Self {
            attribute: Arc::new(ScalarUDF::from(AttributeFunc::new(AttributeOutput::Text))),
        }
    }
}

impl AnalyzerRule for SemconvKeys {
    fn name(&self) -> &str {
        "semconv_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            // What stands above the plan refers to its expressions by name.
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| Ok(self.rewrite(expr)))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .data()
    }
}

impl SemconvKeys {
    fn rewrite(&self, expr: Expr) -> Transformed<Expr> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else {
            return Transformed::no(expr);
        };
        let ([object, key], SEMCONV) = (&args[..], func.name()) else {
            return Transformed::no(expr);
        };
        let Some(key) = text_of(key) else {
            return Transformed::no(expr);
        };
        let lookups = keys_meaning(&key).into_iter();
        let mut lookups: Vec<Expr> = lookups
            .map(|key| self.attribute.call(vec![object.clone(), lit(key)]))
            .collect();
        Transformed::yes(match (lookups.len(), lookups.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                lookups.extend(last);
                coalesce(lookups)
            }
        })
    }
}

/// The text of a literal key.
fn text_of(key: &Expr) -> Option<String> {
    match key {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_string),
        Expr::Cast(cast) => text_of(&cast.expr),
        _ => None,
    }
}

/// Whether an expression is `coalesce` of lookups, as [`SemconvKeys`] makes it.
pub(super) fn as_coalesced(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "coalesce" => {
            Some(args)
        }
        _ => None,
    }
}
