//! A physical optimizer rule: comparisons that a filter makes of decoded columns are made by the
//! scan instead, over the stored values.
//!
//! Read [`StoredComparisons`]. It changes what is computed where, never what comes out.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr,
};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

/// The logical columns whose values have to be made from others: numbers to names, bytes to hex.
const DECODED: [&str; 5] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "kind",
    "status_code",
];

/// Lets the scan of `spans` compute comparisons such as `kind = 'SERVER'`.
///
/// A filter above a scan sees logical columns: ten million names are made from numbers, to be
/// compared and thrown away. As a column of the scan's projection the comparison reaches the
/// adapter of each file, which makes it one of the stored numbers, and the names are made only
/// where the query asks for them.
///
/// ```text
///   FilterExec kind = SERVER             FilterExec "kind = SERVER"
///     scan [kind, duration_nano]   ->      scan [duration_nano, kind = SERVER]
/// ```
#[derive(Debug, Default)]
pub struct StoredComparisons;

impl PhysicalOptimizerRule for StoredComparisons {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let rewritten = match plan.downcast_ref::<FilterExec>() {
                Some(filter) if filter.input().is::<DataSourceExec>() => compared_by_scan(filter)?,
                _ => None,
            };
            Ok(rewritten.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "stored_comparisons"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The filter over a scan that makes its comparisons, if it makes any that the scan could make
/// and the scan takes them.
fn compared_by_scan(filter: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let scan = filter.input();
    let width = scan.schema().fields().len();
    let mut comparisons: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    // Comparisons stand after the scan's columns until it is known which of those are left.
    let predicate = Arc::clone(filter.predicate()).transform_down(|expr| {
        if !is_comparison_of_decoded(&expr) {
            return Ok(Transformed::no(expr));
        }
        let known = comparisons.iter().position(|known| known == &expr);
        let index = known.unwrap_or_else(|| {
            comparisons.push(Arc::clone(&expr));
            comparisons.len() - 1
        });
        let computed = Column::new(&expr.to_string(), width + index);
        Ok(Transformed::new(
            Arc::new(computed) as Arc<dyn PhysicalExpr>,
            true,
            TreeNodeRecursion::Jump,
        ))
    })?;
    if !predicate.transformed {
        return Ok(None);
    }
    let shown: Vec<usize> = match filter.projection() {
        Some(projection) => projection.to_vec(),
        None => (0..width).collect(),
    };
    let compared = collect_columns(&predicate.data);
    let kept: Vec<usize> = (0..width)
        .filter(|index| shown.contains(index) || compared.iter().any(|c| c.index() == *index))
        .collect();
    let Some(scan) = projected(scan, &kept, &comparisons)? else {
        return Ok(None);
    };
    let place = |index: usize| match index.checked_sub(width) {
        Some(comparison) => kept.len() + comparison,
        // Every index asked for is among the columns kept.
        None => kept.partition_point(|kept| *kept < index),
    };
    let predicate = predicate.data.transform_up(|expr| {
        Ok(match expr.downcast_ref::<Column>() {
            Some(column) => {
                let moved = Column::new(column.name(), place(column.index()));
                Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(expr),
        })
    })?;
    let filter = FilterExecBuilder::new(predicate.data, scan)
        .apply_projection(Some(shown.into_iter().map(place).collect()))?
        .with_default_selectivity(filter.default_selectivity())
        .with_batch_size(filter.batch_size())
        .with_fetch(filter.fetch())
        .build()?;
    Ok(Some(Arc::new(filter)))
}

/// The scan with only the columns `kept` and then `comparisons`, unless it cannot compute them.
fn projected(
    scan: &Arc<dyn ExecutionPlan>,
    kept: &[usize],
    comparisons: &[Arc<dyn PhysicalExpr>],
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let schema = scan.schema();
    let columns = kept.iter().map(|index| {
        let name = schema.field(*index).name().clone();
        ProjectionExpr::new(Arc::new(Column::new(&name, *index)), name)
    });
    let comparisons = comparisons
        .iter()
        .map(|expr| ProjectionExpr::new(Arc::clone(expr), expr.to_string()));
    let columns: Vec<ProjectionExpr> = columns.chain(comparisons).collect();
    let projection = ProjectionExec::try_new(columns, Arc::clone(scan))?;
    scan.try_swapping_with_projection(&projection)
}

/// Whether this is a comparison in which columns that have to be decoded, and no others, occur.
fn is_comparison_of_decoded(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_comparison = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => binary.op().supports_propagation(),
        None => {
            expr.is::<InListExpr>()
                || expr.is::<LikeExpr>()
                || expr.is::<IsNullExpr>()
                || expr.is::<IsNotNullExpr>()
        }
    };
    let columns = collect_columns(expr);
    is_comparison
        && !columns.is_empty()
        && columns
            .iter()
            .all(|column| DECODED.contains(&column.name()))
}
