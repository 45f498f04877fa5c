//! The `spans` table.
//!
//! Read [`SpansTable`]: it turns a snapshot of the lake and a query's filters into DataFusion's
//! own Parquet scan. Nothing of the Parquet reader is ours.

use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use super::adapter::SpanAdapterFactory;
use super::file_parts::{FilePart, file_groups, part_counts, parts_of, table_statistics};
use super::footers::{FOOTER_READS, footer};
use super::index_predicate::IndexPredicate;
use super::newest::Newest;
use super::predicate::SpanPredicate;
use super::pruning::{FilePlan, PlannedFile, all_files, choose_files};
use crate::span::{AttributeColumn, AttributeType, logical_schema};
use crate::storage::{Indexes, Log, TraceFilters};

/// Columns whose values are long: not decoding them for rows that are ruled out pays.
const LARGE_COLUMNS: [&str; 5] = [
    "attributes",
    "resource_attributes",
    "scope_attributes",
    "events",
    "links",
];

/// The spans of a lake as a table; each scan sees the lake's last known snapshot.
#[derive(Debug, Clone)]
pub struct SpansTable {
    pub(super) log: Arc<Log>,
    filters: Arc<TraceFilters>,
    /// `None` where indexes are not to be used.
    indexes: Option<Arc<Indexes>>,
    pub(super) store_url: ObjectStoreUrl,
    pub(super) pruning: bool,
    /// How many spans are wanted, the newest, where that was said.
    newest: Option<usize>,
    /// What one of a span's events or links must be like.
    item_conditions: Vec<Expr>,
}

impl SpansTable {
    /// The table of the lake behind `log`, whose files are found under `store_url`. Without
    /// `pruning` every file, page and row is read, without `indexes` none is skipped for what its
    /// index says; no answer changes.
    pub fn new(
        log: Arc<Log>,
        filters: Arc<TraceFilters>,
        indexes: Option<Arc<Indexes>>,
        store_url: ObjectStoreUrl,
        pruning: bool,
    ) -> Self {
        Self {
            log,
            filters,
            indexes,
            store_url,
            pruning,
            newest: None,
            item_conditions: Vec::new(),
        }
    }

    /// This table for a scan of which only spans matter that have an event or a link like this;
    /// `None` where such conditions are known already, or of no use.
    pub(super) fn with_item_conditions(&self, conditions: Vec<Expr>) -> Option<Self> {
        let known = !self.item_conditions.is_empty() || self.indexes.is_none() || !self.pruning;
        (!known).then(|| Self {
            item_conditions: conditions,
            ..self.clone()
        })
    }

    /// This table for a scan of which only the newest `count` rows that pass its filters matter;
    /// `None` where it is one already, or has no use for it.
    pub(super) fn newest(&self, count: usize) -> Option<Self> {
        let known = self.newest.is_some() || self.indexes.is_none() || !self.pruning;
        (!known).then(|| Self {
            newest: Some(count),
            ..self.clone()
        })
    }

    /// The indexes of files, `None` where they are not to be used.
    pub(super) fn indexes(&self) -> Option<&Arc<Indexes>> {
        self.indexes.as_ref()
    }

    /// The files in which what `predicate` admits can lie.
    pub(super) async fn plan_files(&self, predicate: &SpanPredicate) -> crate::Result<FilePlan> {
        let snapshot = self.log.snapshot();
        if !self.pruning {
            return Ok(all_files(&snapshot));
        }
        choose_files(&snapshot, predicate)
            .prune_by_filters(self.log.store(), &self.filters, predicate)
            .await
    }

    /// The files and rows that filters leave.
    pub(super) async fn plan_rows(&self, filters: &[Expr]) -> crate::Result<FilePlan> {
        let spans = SpanPredicate::extract(filters);
        let plan = self.plan_files(&spans).await?;
        let Some(indexes) = self.indexes.as_ref().filter(|_| self.pruning) else {
            return Ok(plan);
        };
        let filters = [filters, &self.item_conditions].concat();
        let predicate = IndexPredicate::extract(&filters);
        let newest = self.newest.map(|count| Newest::new(count, &spans));
        plan.prune_by_index(self.log.store(), indexes, &predicate, newest)
            .await
    }

    /// What reads the planned files as rows of `schema`.
    fn source(
        &self,
        state: &dyn Session,
        schema: SchemaRef,
        plan: &FilePlan,
        filters_while_decoding: bool,
    ) -> Result<ParquetSource> {
        let mut options = TableParquetOptions::new();
        options.global = state.config_options().execution.parquet.clone();
        options.global.pushdown_filters = filters_while_decoding;
        if plan.is_sparse() {
            // It would decode whole batches around the few rows that are left.
            options.global.max_predicate_cache_size = Some(0);
        }
        // Trace-id filters were asked, and cached, before the scan was planned.
        options.global.bloom_filter_on_read = false;
        options.global.pruning = self.pruning;
        // Indexes have said more than statistics of pages could, and what those rule out besides
        // makes the rest be read page by page. [`super::BoundedPages`] knows when they pay all the same.
        options.global.enable_page_index = self.pruning && !plan.is_judged();
        let runtime = state.runtime_env();
        let store = runtime.object_store(&self.store_url)?;
        let metadata = runtime.cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(store, metadata);
        let source = ParquetSource::new(schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        plan.report.record(source.metrics());
        Ok(source)
    }

    /// The columns of `schema`, and after them those of attributes that are text: the reader
    /// makes views of them only if it knows of them.
    fn with_text_attributes(&self, schema: SchemaRef) -> SchemaRef {
        let snapshot = self.log.snapshot();
        let text = AttributeType::Text.data_type();
        let columns = snapshot.attribute_columns().iter().filter(|name| {
            let column = AttributeColumn::parse(name);
            column.is_none_or(|column| column.value_type.data_type() == text)
        });
        let columns: Vec<_> = columns
            .map(|name| Arc::new(Field::new(name, text.clone(), true)))
            .collect();
        if columns.is_empty() {
            return schema;
        }
        let fields = schema.fields().iter().cloned().chain(columns);
        Arc::new(Schema::new(fields.collect::<Fields>()))
    }

    /// The files for the scan, each with the rows its trace ids can lie in, in parts for so many
    /// partitions.
    async fn file_parts(
        &self,
        state: &dyn Session,
        files: &[PlannedFile],
        schema: &SchemaRef,
        partitions: usize,
    ) -> Result<Vec<FilePart>> {
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let store = self.log.store();
        let counts = part_counts(files, partitions);
        let parts = futures::stream::iter(files.iter().cloned().zip(counts))
            .map(|(planned, count)| {
                let cache = Arc::clone(&cache);
                async move {
                    // With its page index: what reads the file takes it from the cache, and would
                    // fetch it by itself each time.
                    let metadata = footer(store, &planned.file, &cache).await?;
                    Ok::<_, DataFusionError>(parts_of(&planned, &metadata, count, schema))
                }
            })
            .buffered(FOOTER_READS)
            .try_collect::<Vec<_>>();
        Ok(parts.await?.into_iter().flatten().collect())
    }
}

#[async_trait]
impl TableProvider for SpansTable {
    fn schema(&self) -> SchemaRef {
        logical_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Files are skipped by what filters say, rows are filtered by the plan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.plan_rows(filters).await?;
        self.scan_files(state, &plan, projection, limit).await
    }
}

impl SpansTable {
    /// The scan of what is planned.
    pub(super) async fn scan_files(
        &self,
        state: &dyn Session,
        plan: &FilePlan,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.with_text_attributes(logical_schema());
        let while_decoding = filters_while_decoding(plan, projection);
        let source = self.source(state, Arc::clone(&schema), plan, while_decoding)?;
        // The columns after those of SQL are asked for by nobody but the adapter.
        let all = || (0..logical_schema().fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let statistics = table_statistics(&plan.files, &schema);
        // A part is opened for itself, which a limit is likely to make in vain.
        let partitions = state.config().target_partitions();
        let shared_by = if limit.is_some() { 1 } else { partitions };
        let parts = self.file_parts(state, &plan.files, &schema, shared_by);
        let groups = file_groups(parts.await?, partitions);
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(projection))?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(SpanAdapterFactory)))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Whether a filter is better evaluated while decoding, so that what it rules out is not
/// decoded: where few rows are left, or where what else is read is large. Small columns are
/// decoded faster than they are skipped row by row.
fn filters_while_decoding(plan: &FilePlan, projection: Option<&Vec<usize>>) -> bool {
    let schema = logical_schema();
    let large = |index: &usize| LARGE_COLUMNS.contains(&schema.field(*index).name().as_str());
    plan.is_by_id() || projection.is_none_or(|columns| columns.iter().any(large))
}
