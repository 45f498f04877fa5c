//! The rows of some traces, read without planning a query.
//!
//! Read [`TraceRows`]. It skips what the scan of `spans` skips and gives the rows that it gives;
//! which files are read at once, and for how long, is the caller's business.

use std::collections::hash_map::RandomState;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::PhysicalExpr;
use datafusion_datasource_parquet::apply_file_schema_type_coercions;
use datafusion_datasource_parquet::metadata::DFParquetMetadata;
use datafusion_physical_expr_adapter::PhysicalExprAdapterFactory;
use lru::LruCache;
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::ParquetMetaData;

use super::adapter::SpanAdapterFactory;
use super::trace_read::{ColumnParts, read_traces};
use crate::error::{Error, Result};
use crate::span::{TraceId, column, logical_schema};
use crate::storage::{Hour, LakeFile, Log, Snapshot, TraceFilters};

/// Reads the rows of some traces, file by file.
#[derive(Debug)]
pub struct TraceRows {
    log: Arc<Log>,
    filters: Arc<TraceFilters>,
    metadata: Arc<FileMetadataCache>,
    projections: Mutex<Projections>,
    pruning: bool,
}

/// How the columns of files become those of `spans`, for the files read last: working it out
/// takes longer than reading a small trace.
struct Projections {
    max_bytes: usize,
    bytes: usize,
    by_path: LruCache<String, Arc<Projection>, RandomState>,
}

impl std::fmt::Debug for Projections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projections")
            .field("max_bytes", &self.max_bytes)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Projections {
    fn put(&mut self, path: &str, projection: &Arc<Projection>) {
        let before = self.by_path.put(path.to_string(), Arc::clone(projection));
        self.bytes += projection.byte_count();
        self.bytes -= before.map_or(0, |before| before.byte_count());
        while self.bytes > self.max_bytes {
            let Some((_, dropped)) = self.by_path.pop_lru() else {
                break;
            };
            self.bytes -= dropped.byte_count();
        }
    }

    fn remove(&mut self, path: &str) {
        let dropped = self.by_path.pop(path);
        self.bytes -= dropped.map_or(0, |dropped| dropped.byte_count());
    }
}

/// A file and those of the traces asked for that it may hold, in order.
#[derive(Debug, Clone)]
pub struct TraceFile {
    /// The file.
    pub file: Arc<LakeFile>,
    /// The traces, sorted.
    pub trace_ids: Vec<TraceId>,
}

impl TraceRows {
    /// Reads the files of the lake behind `log`. Without `pruning` whole files are read; no
    /// answer changes. What is known of the files read last takes at most `max_bytes` beside
    /// `metadata`.
    pub fn new(
        log: Arc<Log>,
        filters: Arc<TraceFilters>,
        metadata: Arc<FileMetadataCache>,
        max_bytes: usize,
        pruning: bool,
    ) -> Self {
        Self {
            log,
            filters,
            metadata,
            projections: Mutex::new(Projections {
                max_bytes,
                bytes: 0,
                by_path: LruCache::unbounded_with_hasher(RandomState::new()),
            }),
            pruning,
        }
    }

    /// The files that hours and buckets cannot rule out, in order of hour, bucket and path.
    /// `ids` are sorted.
    pub fn candidates(
        &self,
        snapshot: &Snapshot,
        ids: &[TraceId],
        hours: &RangeInclusive<Hour>,
    ) -> Vec<TraceFile> {
        if hours.is_empty() {
            return Vec::new();
        }
        let files = snapshot.files_by_hour().range(hours.clone());
        let files = files.flat_map(|(_, files)| files.iter());
        let may_hold = |file: &Arc<LakeFile>| {
            let in_bucket = |id: &&TraceId| !self.pruning || file.bucket.may_contain(id);
            TraceFile {
                file: Arc::clone(file),
                trace_ids: ids.iter().filter(in_bucket).copied().collect(),
            }
        };
        let files = files.map(may_hold);
        files.filter(|file| !file.trace_ids.is_empty()).collect()
    }

    /// The same file with the traces that its filter cannot rule out.
    pub async fn narrow(&self, file: TraceFile) -> Result<TraceFile> {
        if !self.pruning {
            return Ok(file);
        }
        let TraceFile { file, trace_ids } = file;
        let trace_ids = self
            .filters
            .matching(self.log.store(), &file, &trace_ids)
            .await?;
        Ok(TraceFile { file, trace_ids })
    }

    /// The rows of the file that belong to its traces, with the columns of `spans`, in runs of
    /// one trace. A trace may come in several runs, one after another.
    pub async fn read(&self, file: &TraceFile) -> Result<Vec<(TraceId, RecordBatch)>> {
        let mut runs = Vec::new();
        let projection = self.projection_of(&file.file);
        let take = |projection: &Projection, stored| projection.push_runs(stored, &mut runs);
        self.read_with(file, projection, take).await?;
        Ok(runs)
    }

    /// Hands `take` certain columns of the rows of the file that belong to its traces, in batches.
    pub async fn select(
        &self,
        file: &TraceFile,
        columns: &SpanColumns,
        mut take: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let projection = async {
            let metadata = self.metadata_of(&file.file).await?;
            Ok(Arc::new(Projection::try_new(metadata, columns)?))
        };
        let take = |projection: &Projection, stored| {
            let stored = projection.stored(stored)?;
            take(projection.rows(&stored)?)
        };
        self.read_with(file, projection, take).await
    }

    /// Hands `take` the stored columns that a projection of the file needs, in batches.
    async fn read_with(
        &self,
        file: &TraceFile,
        projection: impl Future<Output = Result<Arc<Projection>>>,
        mut take: impl FnMut(&Projection, Vec<ArrayRef>) -> Result<()>,
    ) -> Result<()> {
        let read = async {
            let projection = projection.await?;
            let (store, parts) = (self.log.store(), &projection.parts);
            let take = |stored| take(&projection, stored);
            read_traces(
                store,
                &file.file,
                parts,
                &file.trace_ids,
                self.pruning,
                take,
            )
            .await
        };
        // What is read may be too much for the query, which is no fault of the file.
        read.await.map_err(|error: Error| {
            let path = &file.file.path;
            error.with_context(format!("reading a file of the lake failed; path=`{path}`"))
        })
    }

    async fn projection_of(&self, file: &LakeFile) -> Result<Arc<Projection>> {
        let known = self.projections().by_path.get(&file.path).cloned();
        if let Some(projection) = known {
            return Ok(projection);
        }
        let metadata = self.metadata_of(file).await?;
        let projection = Arc::new(Projection::try_new(metadata, &SpanColumns::all())?);
        self.projections().put(&file.path, &projection);
        Ok(projection)
    }

    /// Drops what is known of files that are no longer read.
    pub fn forget(&self, files: &[Arc<LakeFile>]) {
        let mut projections = self.projections();
        for file in files {
            projections.remove(&file.path);
        }
    }

    fn projections(&self) -> MutexGuard<'_, Projections> {
        // Every change leaves it whole, so a panic elsewhere does not spoil it.
        let projections = self.projections.lock();
        projections.unwrap_or_else(PoisonError::into_inner)
    }

    async fn metadata_of(&self, file: &LakeFile) -> Result<Arc<ParquetMetaData>> {
        let meta = ObjectMeta {
            location: file.location(),
            // Files are never changed in place, so a cache may trust path and size alone.
            last_modified: chrono::DateTime::from_timestamp_millis(file.modified_ms)
                .unwrap_or_default(),
            size: file.size,
            e_tag: None,
            version: None,
        };
        let objects = self.log.store().objects();
        let metadata = DFParquetMetadata::new(objects.as_ref(), &meta)
            .with_file_metadata_cache(Some(Arc::clone(&self.metadata)))
            .fetch_metadata()
            .await?;
        Ok(metadata)
    }
}

/// Expressions over the columns of `spans`, each with a name.
#[derive(Debug, Clone)]
pub struct SpanColumns {
    schema: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

impl SpanColumns {
    /// These expressions over [`logical_schema`].
    pub fn try_new(columns: Vec<(String, Arc<dyn PhysicalExpr>)>) -> Result<Self> {
        let spans = logical_schema();
        let fields = columns.iter().map(|(name, expr)| {
            let data_type = expr.data_type(&spans)?;
            Ok(Field::new(name, data_type, true))
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            exprs: columns.into_iter().map(|(_, expr)| expr).collect(),
        })
    }

    fn all() -> Self {
        let schema = logical_schema();
        let fields = schema.fields().iter().enumerate();
        let columns = fields.map(|(index, field)| Column::new(field.name(), index));
        Self {
            exprs: columns.map(|column| Arc::new(column) as _).collect(),
            schema,
        }
    }
}

/// The columns of a table and those that only its file has, whose texts are read as views.
fn with_views(table: &Schema, file: &Schema) -> Schema {
    let only_stored = file.fields().iter().filter(|field| {
        field.data_type() == &DataType::Utf8 && table.field_with_name(field.name()).is_err()
    });
    let views = only_stored.map(|field| Field::new(field.name(), DataType::Utf8View, true).into());
    let fields = table.fields().iter().cloned().chain(views);
    Schema::new(fields.collect::<Vec<_>>())
}

/// How the stored columns of one file become certain columns of spans.
struct Projection {
    reader: ArrowReaderMetadata,
    parts: ColumnParts,
    /// The stored columns that are read.
    stored: SchemaRef,
    /// Each column over `stored`.
    columns: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    trace_id: usize,
}

impl Projection {
    fn try_new(metadata: Arc<ParquetMetaData>, wanted: &SpanColumns) -> Result<Self> {
        let logical = logical_schema();
        let options = ArrowReaderOptions::new();
        let mut reader = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone())?;
        let views = with_views(&logical, reader.schema());
        if let Some(coerced) = apply_file_schema_type_coercions(&views, reader.schema()) {
            let options = options.with_schema(Arc::new(coerced));
            reader = ArrowReaderMetadata::try_new(metadata, options)?;
        }
        let stored = Arc::clone(reader.schema());
        let adapter = SpanAdapterFactory.create(logical, Arc::clone(&stored))?;
        let mut columns = Vec::with_capacity(wanted.exprs.len());
        let trace_id = stored.index_of(column::TRACE_ID)?;
        let mut roots = vec![trace_id];
        for expr in &wanted.exprs {
            let expr = adapter.rewrite(Arc::clone(expr))?;
            roots.extend(collect_columns(&expr).iter().map(|column| column.index()));
            columns.push(expr);
        }
        roots.sort_unstable();
        roots.dedup();
        let stored = Arc::new(stored.project(&roots)?);
        let columns = columns
            .into_iter()
            .map(|column| reassign_expr_columns(column, &stored))
            .collect::<datafusion::common::Result<Vec<_>>>()?;
        Ok(Self {
            parts: ColumnParts::try_new(&reader, &roots, trace_id)?,
            trace_id: stored.index_of(column::TRACE_ID)?,
            reader,
            stored,
            columns,
            schema: Arc::clone(&wanted.schema),
        })
    }

    /// About how many bytes of memory it takes.
    fn byte_count(&self) -> usize {
        /// A column's expressions and its place in schemas.
        const COLUMN_BYTES: usize = 1024;
        let metadata = self.reader.metadata().memory_size();
        metadata + (self.columns.len() + self.stored.fields().len()) * COLUMN_BYTES
    }

    /// Stored columns as a batch.
    fn stored(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::clone(&self.stored), columns)?)
    }

    /// The columns wanted of a batch of stored ones.
    fn rows(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| {
            let value = column.evaluate(stored)?;
            value.into_array(stored.num_rows())
        });
        let columns = columns.collect::<datafusion::common::Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Adds the runs of one trace of a batch of stored columns.
    fn push_runs(
        &self,
        stored: Vec<ArrayRef>,
        runs: &mut Vec<(TraceId, RecordBatch)>,
    ) -> Result<()> {
        let stored = self.stored(stored)?;
        let rows = self.rows(&stored)?;
        let ids = stored.column(self.trace_id).as_fixed_size_binary();
        let mut start = 0;
        while start < ids.len() {
            let id = ids.value(start);
            let end = (start + 1..ids.len())
                .find(|row| ids.value(*row) != id)
                .unwrap_or(ids.len());
            let bytes = id.try_into().ok().and_then(TraceId::from_bytes);
            let id = bytes.ok_or_else(|| Error::corrupt("a span has an invalid trace id"))?;
            runs.push((id, rows.slice(start, end - start)));
            start = end;
        }
        Ok(())
    }
}
