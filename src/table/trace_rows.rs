//! The rows of some traces, read without planning a query.
//!
//! Read [`TraceRows`]. It skips what the scan of `spans` skips and gives the rows that it gives;
//! which files are read at once, and for how long, is the caller's business.

use std::collections::hash_map::RandomState;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use lru::LruCache;
use parquet::file::metadata::ParquetMetaData;

use super::file_columns::{FileColumns, FileSchema, SpanColumns};
use super::footers::{footer, while_reading};
use super::trace_read::{ColumnParts, read_traces};
use crate::error::{Error, Result};
use crate::span::TraceId;
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
        let projection = self.projection_of(&file.file).await?;
        let take = |stored| projection.push_runs(stored, &mut runs);
        self.read_with(file, &projection, take).await?;
        Ok(runs)
    }

    /// Hands `take` certain columns of the rows of the file that belong to its traces, in batches.
    pub async fn select(
        &self,
        file: &TraceFile,
        columns: &SpanColumns,
        mut take: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let projection = self.project(&file.file, columns).await?;
        let take = |stored| {
            let stored = projection.columns.stored(stored)?;
            take(projection.columns.rows(&stored)?)
        };
        self.read_with(file, &projection, take).await
    }

    /// Hands `take` the stored columns that a projection of the file needs, in batches.
    async fn read_with(
        &self,
        file: &TraceFile,
        projection: &Projection,
        take: impl FnMut(Vec<ArrayRef>) -> Result<()>,
    ) -> Result<()> {
        let (store, parts) = (self.log.store(), &projection.parts);
        let TraceFile { file, trace_ids } = file;
        let read = read_traces(store, file, parts, trace_ids, self.pruning, take).await;
        // What is read may be too much for the query, which is no fault of the file.
        read.map_err(|error| while_reading(file, error))
    }

    async fn projection_of(&self, file: &LakeFile) -> Result<Arc<Projection>> {
        let known = self.projections().by_path.get(&file.path).cloned();
        if let Some(projection) = known {
            return Ok(projection);
        }
        let projection = self.project(file, &SpanColumns::all()).await?;
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

    /// How these columns are read from a file, worked out anew.
    async fn project(&self, file: &LakeFile, columns: &SpanColumns) -> Result<Arc<Projection>> {
        let metadata = footer(self.log.store(), file, &self.metadata).await?;
        let projection = Projection::try_new(metadata, columns);
        let projection = projection.map_err(|error| while_reading(file, error))?;
        Ok(Arc::new(projection))
    }
}

/// How some columns of spans are read from one file.
struct Projection {
    metadata: Arc<ParquetMetaData>,
    columns: FileColumns,
    parts: ColumnParts,
}

impl Projection {
    fn try_new(metadata: Arc<ParquetMetaData>, wanted: &SpanColumns) -> Result<Self> {
        let file = FileSchema::try_new(Arc::clone(&metadata))?;
        let columns = FileColumns::try_new(&file, wanted)?;
        let roots = columns.roots();
        Ok(Self {
            parts: ColumnParts::try_new(&file, roots, roots[columns.trace_id()])?,
            columns,
            metadata,
        })
    }

    /// About how many bytes of memory it takes.
    fn byte_count(&self) -> usize {
        self.metadata.memory_size() + self.columns.byte_count()
    }

    /// Adds the runs of one trace of a batch of stored columns.
    fn push_runs(
        &self,
        stored: Vec<ArrayRef>,
        runs: &mut Vec<(TraceId, RecordBatch)>,
    ) -> Result<()> {
        let stored = self.columns.stored(stored)?;
        let rows = self.columns.rows(&stored)?;
        let ids = stored.column(self.columns.trace_id());
        let ids = ids.as_fixed_size_binary();
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
