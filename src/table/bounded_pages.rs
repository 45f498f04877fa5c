//! A physical optimizer rule: pages are skipped by their statistics where the rows found so far set
//! a bound to those that are still wanted.
//!
//! Read [`BoundedPages`].

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

/// Lets scans of `spans` that do without the statistics of pages use them after all, where a sort
/// with a limit or a join tells them while they read what else can be skipped.
///
/// Whether it does is known only when all else is planned: `ORDER BY duration_nano DESC LIMIT 20`
/// finds long spans early and then skips the pages that have only shorter ones, of which no index
/// knows.
#[derive(Debug, Default)]
pub struct BoundedPages;

impl PhysicalOptimizerRule for BoundedPages {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let scan = plan.downcast_ref::<DataSourceExec>();
            let rewritten = scan.and_then(with_page_statistics);
            Ok(rewritten.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "bounded_pages"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan with the statistics of pages; `None` where it has them already or has no use for them.
fn with_page_statistics(scan: &DataSourceExec) -> Option<Arc<dyn ExecutionPlan>> {
    let (config, source) = scan.downcast_to_file_source::<ParquetSource>()?;
    let options = &source.table_parquet_options().global;
    if !options.pruning || options.enable_page_index || !is_bounded(&source.filter()?) {
        return None;
    }
    let source = source.clone().with_enable_page_index(true);
    let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source));
    Some(DataSourceExec::from_data_source(config.build()))
}

/// Whether what rows must be like is told anew while they are read.
fn is_bounded(predicate: &Arc<dyn PhysicalExpr>) -> bool {
    let told = predicate.exists(|expr| Ok(expr.is::<DynamicFilterPhysicalExpr>()));
    told.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::config::TableParquetOptions;
    use datafusion::datasource::listing::PartitionedFile;
    use datafusion::execution::object_store::ObjectStoreUrl;
    use datafusion::physical_expr::expressions::lit;

    use super::*;

    /// Whether a scan with this predicate uses the statistics of pages once all is planned.
    fn uses_pages(predicate: Arc<dyn PhysicalExpr>, (pruning, pages): (bool, bool)) -> bool {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let mut options = TableParquetOptions::new();
        options.global.pruning = pruning;
        options.global.enable_page_index = pages;
        let source = ParquetSource::new(schema).with_table_parquet_options(options);
        let source = Arc::new(source.with_predicate(predicate));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
            .with_file(PartitionedFile::new("none", 0));
        let scan = DataSourceExec::from_data_source(config.build());
        let planned = BoundedPages.optimize(scan, &ConfigOptions::default());
        let planned = planned.unwrap();
        let scan = planned.downcast_ref::<DataSourceExec>().unwrap();
        let (_, source) = scan.downcast_to_file_source::<ParquetSource>().unwrap();
        source.table_parquet_options().global.enable_page_index
    }

    #[test]
    fn statistics_of_pages_are_used_where_a_bound_is_told_while_reading() {
        let bound = || Arc::new(DynamicFilterPhysicalExpr::new(vec![], lit(true)));
        assert!(uses_pages(bound(), (true, false)));
        assert!(!uses_pages(lit(true), (true, false)));
        assert!(uses_pages(lit(true), (true, true)));
        assert!(!uses_pages(bound(), (false, false)));
    }
}
