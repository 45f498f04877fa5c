//! Tells the scan below an unnested list what its events or links must be like.
//!
//! Read [`ItemFilters`]. A filter of `span_events` or `span_links` stands above the unnesting and
//! judges items; a span can only matter if one of its items passes, which its index knows.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Unnest};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::SpansTable;
use super::index_predicate::{EVENT_ATTRIBUTES, EVENT_NAME, LINK_ATTRIBUTES, subject_of};

/// Finds filters on events and links, and adds what they say to the scan of the spans.
#[derive(Debug)]
pub struct ItemFilters;

impl OptimizerRule for ItemFilters {
    fn name(&self) -> &str {
        "item_filters"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let LogicalPlan::Unnest(unnest) = filter.input.as_ref() else {
            return Ok(Transformed::no(plan));
        };
        let mut conditions = Vec::new();
        for conjunct in split_conjunction(&filter.predicate) {
            let condition = over_items(conjunct)?;
            if condition.transformed && subject_of(&condition.data).is_some() {
                conditions.push(condition.data);
            }
        }
        if conditions.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let Some(input) = with_conditions(&unnest.input, conditions) else {
            return Ok(Transformed::no(plan));
        };
        let unnest = Unnest {
            input: Arc::new(input),
            ..unnest.clone()
        };
        let mut filter = filter.clone();
        filter.input = Arc::new(LogicalPlan::Unnest(unnest));
        Ok(Transformed::yes(LogicalPlan::Filter(filter)))
    }
}

/// A condition on an unnested item, over the columns that stand for items in the index.
fn over_items(condition: &Expr) -> Result<Transformed<Expr>> {
    condition.clone().transform_down(|expr| {
        let name = item_column(&expr);
        Ok(match name {
            Some(name) => Transformed::yes(Expr::Column(Column::from_name(name))),
            None => Transformed::no(expr),
        })
    })
}

/// The column that stands for a field of an unnested item.
fn item_column(expr: &Expr) -> Option<&'static str> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    let [Expr::Column(item), Expr::Literal(field, _)] = call.args.as_slice() else {
        return None;
    };
    // The name that DataFusion gives to what it unnests.
    let list = item.name.strip_prefix("__unnest_placeholder(")?;
    let list = list.strip_suffix(",depth=1)")?;
    let list = list.rsplit('.').next()?;
    if call.func.name() != "get_field" {
        return None;
    }
    match (list, field.try_as_str()??) {
        ("events", "name") => Some(EVENT_NAME),
        ("events", "attributes") => Some(EVENT_ATTRIBUTES),
        ("links", "attributes") => Some(LINK_ATTRIBUTES),
        _ => None,
    }
}

/// The plan below an unnesting, whose scan knows these conditions; `None` where it is no scan of
/// spans, or knows some already.
fn with_conditions(plan: &LogicalPlan, conditions: Vec<Expr>) -> Option<LogicalPlan> {
    let mut above: Vec<&LogicalPlan> = Vec::new();
    let mut plan = plan;
    let scan = loop {
        match plan {
            LogicalPlan::Projection(projection) => {
                above.push(plan);
                plan = &projection.input;
            }
            LogicalPlan::Filter(filter) => {
                above.push(plan);
                plan = &filter.input;
            }
            LogicalPlan::SubqueryAlias(alias) => {
                above.push(plan);
                plan = &alias.input;
            }
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => break scan,
            _ => return None,
        }
    };
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<SpansTable>()?;
    let scan = TableScan {
        source: provider_as_source(Arc::new(table.with_item_conditions(conditions)?)),
        ..scan.clone()
    };
    let mut plan = LogicalPlan::TableScan(scan);
    for node in above.into_iter().rev() {
        plan = node.with_new_exprs(node.expressions(), vec![plan]).ok()?;
    }
    Some(plan)
}
