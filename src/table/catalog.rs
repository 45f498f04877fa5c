//! The catalogues: which services, operations, attribute keys and values a lake holds.
//!
//! Read [`CatalogTable`]. Rows come from the indexes of files, without a span being read; files
//! without one, or whose index does not list what is asked for, are scanned and added.
//!
//! A filter on `hour` chooses whose spans are counted, in whole hours; the column itself shows
//! the first of these hours in which the row's spans are.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use super::SpansTable;
use super::catalog_entries::Entries;
use super::catalog_predicate::{CatalogPredicate, hour_bound};
use super::pruning::{FilePlan, files_of};
use crate::span::logical_schema;
use crate::storage::{AttributeScope, FileIndex, Hour, LakeFile};

/// A catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalog {
    /// One row a service.
    Services,
    /// One row for each service, span name and kind.
    Operations,
    /// One row for each key of attributes and type of its values.
    AttributeKeys,
    /// One row for each value of an attribute.
    AttributeValues,
}

impl Catalog {
    /// All catalogues.
    pub const ALL: [Self; 4] = [
        Self::Services,
        Self::Operations,
        Self::AttributeKeys,
        Self::AttributeValues,
    ];

    /// The name of the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Operations => "operations",
            Self::AttributeKeys => "attribute_keys",
            Self::AttributeValues => "attribute_values",
        }
    }

    pub(super) fn is_of_operations(self) -> bool {
        matches!(self, Self::Services | Self::Operations)
    }

    fn schema(self) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let text = |name: &str| Field::new(name, DataType::Utf8View, false);
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        let time = |name: &str| Field::new(name, time.clone(), false);
        let service = Field::new("service_name", DataType::Utf8View, true);
        let spans = [
            count("span_count"),
            count("error_count"),
            time("first_seen"),
            time("last_seen"),
            time("hour"),
        ];
        let fields: Vec<Field> = match self {
            Self::Services => [service].into_iter().chain(spans).collect(),
            Self::Operations => {
                let operation = [service, text("name"), text("kind")];
                operation.into_iter().chain(spans).collect()
            }
            Self::AttributeKeys => vec![
                text("scope"),
                text("key"),
                text("type"),
                count("span_count"),
                count("distinct_count"),
                time("hour"),
            ],
            Self::AttributeValues => vec![
                text("scope"),
                text("key"),
                text("value"),
                text("type"),
                count("span_count"),
                time("hour"),
            ],
        };
        Arc::new(Schema::new(fields))
    }

    /// The columns of `spans` from which rows are made without an index.
    pub(super) fn scanned_columns(self) -> &'static [&'static str] {
        if self.is_of_operations() {
            &["service_name", "name", "kind", "status_code", "start_time"]
        } else {
            &[
                "resource_attributes",
                "scope_attributes",
                "attributes",
                "events",
                "links",
                "start_time",
            ]
        }
    }

    /// Whether rows of a key are asked for.
    pub(super) fn asks(
        self,
        predicate: &CatalogPredicate,
        scope: AttributeScope,
        key: &str,
    ) -> bool {
        scope != AttributeScope::EventName
            && predicate.admits_scope(scope.name())
            && predicate.admits_key(key)
    }

    /// Whether the index of a file has all that is asked for.
    async fn is_answered_by(
        self,
        file: &FileIndex,
        predicate: &CatalogPredicate,
        needs_values: bool,
    ) -> crate::Result<bool> {
        let groups = file.row_groups().await?;
        for group in groups {
            if self.is_of_operations() {
                if group.operations(file).await?.is_none() {
                    return Ok(false);
                }
                continue;
            }
            let Some(keys) = group.keys(file).await? else {
                return Ok(false);
            };
            let asked = keys
                .iter()
                .filter(|key| self.asks(predicate, key.scope, &key.key));
            if needs_values && !asked.into_iter().all(|key| key.is_listable) {
                return Ok(false);
            }
        }
        Ok(!groups.is_empty())
    }
}

/// A catalogue of a lake as a table; each scan sees the lake's last known snapshot.
#[derive(Debug)]
pub struct CatalogTable {
    catalog: Catalog,
    spans: Arc<SpansTable>,
    schema: SchemaRef,
}

impl CatalogTable {
    /// The catalogue of the lake whose spans are in `spans`.
    pub fn new(catalog: Catalog, spans: Arc<SpansTable>) -> Self {
        Self {
            catalog,
            spans,
            schema: catalog.schema(),
        }
    }

    /// The files of the hours asked for: those whose index answers, and the others.
    async fn files(
        &self,
        predicate: &CatalogPredicate,
        needs_values: bool,
    ) -> crate::Result<(Vec<(Arc<FileIndex>, Hour)>, Vec<Arc<LakeFile>>)> {
        let (mut indexed, mut others) = (Vec::new(), Vec::new());
        if predicate.is_never() {
            return Ok((indexed, others));
        }
        let log = &self.spans.log;
        let snapshot = log.snapshot();
        let files = snapshot
            .files_by_hour()
            .range(predicate.hours())
            .flat_map(|(_, files)| files.iter());
        for file in files {
            if let Some(indexes) = self.spans.indexes() {
                let index = indexes.of_file(log.store(), file);
                if self
                    .catalog
                    .is_answered_by(&index, predicate, needs_values)
                    .await?
                {
                    indexed.push((index, file.hour));
                    continue;
                }
            }
            others.push(Arc::clone(file));
        }
        Ok((indexed, others))
    }
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // What is said of the hour chooses spans; it is no filter of rows.
        let exact = |filter: &&Expr| match hour_bound(filter) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(exact).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = CatalogPredicate::extract(filters);
        let asked = |name: &str| {
            let index = self.schema.index_of(name).ok();
            projection.is_none_or(|columns| index.is_some_and(|index| columns.contains(&index)))
        };
        let counts_values = self.catalog == Catalog::AttributeKeys && asked("distinct_count");
        let needs_values = counts_values || self.catalog == Catalog::AttributeValues;
        let (indexed, others) = self.files(&predicate, needs_values).await?;
        let scan = if others.is_empty() {
            None
        } else {
            let names: BTreeSet<&str> = self.catalog.scanned_columns().iter().copied().collect();
            let columns = logical_schema();
            let columns = columns.fields().iter().enumerate();
            let columns = columns.filter(|(_, field)| names.contains(field.name().as_str()));
            let columns: Vec<usize> = columns.map(|(index, _)| index).collect();
            let plan: FilePlan = files_of(&others);
            Some(
                self.spans
                    .scan_files(state, &plan, Some(&columns), None)
                    .await?,
            )
        };
        let partition = CatalogPartition {
            catalog: self.catalog,
            predicate,
            counts_values,
            indexed,
            scan,
            schema: Arc::clone(&self.schema),
        };
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(partition)];
        let schema = Arc::clone(&self.schema);
        let exec = StreamingTableExec::try_new(schema, partitions, projection, [], false, None)?;
        Ok(Arc::new(exec))
    }
}

/// The rows of a catalogue, made when they are asked for.
struct CatalogPartition {
    catalog: Catalog,
    predicate: CatalogPredicate,
    counts_values: bool,
    indexed: Vec<(Arc<FileIndex>, Hour)>,
    scan: Option<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
}

impl std::fmt::Debug for CatalogPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogPartition")
            .field("catalog", &self.catalog)
            .field("indexed_files", &self.indexed.len())
            .field("scans", &self.scan.is_some())
            .finish_non_exhaustive()
    }
}

impl PartitionStream for CatalogPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let consumer = MemoryConsumer::new(self.catalog.name());
        let memory = consumer.register(context.memory_pool());
        let predicate = self.predicate.clone();
        let entries = Entries::new(self.catalog, predicate, self.counts_values, memory);
        let (indexed, scan) = (self.indexed.clone(), self.scan.clone());
        let schema = Arc::clone(&self.schema);
        let rows = async move { rows(entries, indexed, scan, context, &schema).await };
        let stream = futures::stream::once(rows);
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            stream,
        ))
    }
}

async fn rows(
    mut entries: Entries,
    indexed: Vec<(Arc<FileIndex>, Hour)>,
    scan: Option<Arc<dyn ExecutionPlan>>,
    context: Arc<TaskContext>,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    for (file, hour) in indexed {
        entries.add_file(&file, hour).await?;
    }
    if let Some(scan) = scan {
        let mut batches = execute_stream(scan, context)?;
        while let Some(batch) = batches.try_next().await? {
            entries.add_spans(&batch)?;
        }
    }
    entries.finish(schema)
}
