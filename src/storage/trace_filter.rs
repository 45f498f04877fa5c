//! Which files can hold a trace, by the Bloom filters in their footers.
//!
//! Read [`TraceFilters`]. Filters only ever rule a file out; rows are still compared.

use std::collections::hash_map::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::bloom_filter::Sbbf;
use tokio::sync::OnceCell;

use super::file_reader::{FileReader, name_file};
use super::{LakeFile, Store};
use crate::error::{Error, Result};
use crate::span::{TraceId, column};

/// What one cached file costs beside its filters: its key, its entry, its cell.
const ENTRY_BYTES: usize = 256;

/// A cache of the trace-id filters of files, bounded in bytes, the least recently used first
/// to go. Keyed by path, which is unique to a file for ever.
pub struct TraceFilters {
    max_bytes: usize,
    cache: Mutex<Cache>,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct Cache {
    entries: LruCache<String, Arc<OnceCell<FileFilters>>, RandomState>,
    bytes: usize,
}

/// The filters of a file's row groups; `None` where one has none.
pub(super) struct FileFilters(Vec<Option<Sbbf>>);

impl TraceFilters {
    /// An empty cache of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            cache: Mutex::new(Cache {
                entries: LruCache::unbounded_with_hasher(RandomState::new()),
                bytes: 0,
            }),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Whether the file may hold a span of any of these traces. A file without a filter may.
    ///
    /// Reads the file's footer and filters the first time; callers that ask at once wait for
    /// one read.
    pub async fn may_contain(
        &self,
        store: &Store,
        file: &LakeFile,
        ids: &[TraceId],
    ) -> Result<bool> {
        Ok(!self.matching(store, file, ids).await?.is_empty())
    }

    /// Those of these traces of which the file may hold a span, like [`Self::may_contain`].
    pub async fn matching(
        &self,
        store: &Store,
        file: &LakeFile,
        ids: &[TraceId],
    ) -> Result<Vec<TraceId>> {
        let (cell, known) = self.entry(&file.path);
        let counter = if known { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        let loaded = cell.get_or_try_init(|| async {
            let filters = read_filters(store, file).await?;
            self.account(&file.path, &cell, filters.byte_count());
            Ok::<_, Error>(filters)
        });
        match loaded.await {
            Ok(filters) => {
                let may_hold = |id: &TraceId| filters.may_contain(std::slice::from_ref(id));
                Ok(ids.iter().copied().filter(may_hold).collect())
            }
            Err(error) => {
                self.forget(&file.path, &cell);
                Err(error)
            }
        }
    }

    /// Forgets the filters of a file.
    pub fn remove(&self, file: &LakeFile) {
        let mut cache = self.lock();
        if let Some(filters) = cache.entries.pop(&file.path) {
            cache.bytes -= filters.get().map_or(0, FileFilters::byte_count);
        }
    }

    /// Remembers the filters of a file that was just written.
    pub(super) fn put(&self, file: &LakeFile, filters: FileFilters) {
        let bytes = filters.byte_count();
        let cell = Arc::new(OnceCell::new_with(Some(filters)));
        let put = self
            .lock()
            .entries
            .put(file.path.clone(), Arc::clone(&cell));
        debug_assert!(put.is_none(), "paths are unique");
        self.account(&file.path, &cell, bytes);
    }

    /// How often a file's filters were known, or being read.
    pub fn hit_count(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How often they had to be read.
    pub fn miss_count(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// The bytes held.
    pub fn byte_count(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Every change leaves the cache whole, so a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell of a file, and whether it was there.
    fn entry(&self, path: &str) -> (Arc<OnceCell<FileFilters>>, bool) {
        let mut cache = self.lock();
        if let Some(cell) = cache.entries.get(path) {
            return (Arc::clone(cell), true);
        }
        let cell = Arc::new(OnceCell::new());
        cache.entries.put(path.to_owned(), Arc::clone(&cell));
        (cell, false)
    }

    /// Counts the bytes of a cell just filled, and drops the least recently used beyond the
    /// limit. The cell itself may go: its callers hold it until they are done.
    fn account(&self, path: &str, cell: &Arc<OnceCell<FileFilters>>, bytes: usize) {
        let mut cache = self.lock();
        if cache
            .entries
            .peek(path)
            .is_none_or(|held| !Arc::ptr_eq(held, cell))
        {
            return;
        }
        cache.bytes += bytes;
        while cache.bytes > self.max_bytes {
            let Some((dropped, filters)) = cache.entries.pop_lru() else {
                break;
            };
            // The cell of this call may not yet be seen as filled.
            let size = if dropped == path {
                bytes
            } else {
                filters.get().map_or(0, FileFilters::byte_count)
            };
            cache.bytes -= size;
        }
    }

    /// Forgets a cell that could not be filled.
    fn forget(&self, path: &str, cell: &Arc<OnceCell<FileFilters>>) {
        let mut cache = self.lock();
        let held = cache.entries.peek(path);
        if held.is_some_and(|held| Arc::ptr_eq(held, cell)) && !cell.initialized() {
            cache.entries.pop(path);
        }
    }
}

impl std::fmt::Debug for TraceFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceFilters")
            .field("max_bytes", &self.max_bytes)
            .field("bytes", &self.byte_count())
            .finish_non_exhaustive()
    }
}

impl FileFilters {
    /// The filter of a file with these traces, `count` of them.
    pub(super) fn of_traces(
        ids: impl Iterator<Item = u128>,
        count: u64,
        rate: f64,
    ) -> Result<Self> {
        let mut filter = Sbbf::new_with_ndv_fpp(count.max(1), rate)
            .map_err(|error| Error::internal("cannot make a filter").with_source(error))?;
        ids.for_each(|id| filter.insert(&id.to_be_bytes()[..]));
        Ok(Self(vec![Some(filter)]))
    }

    fn may_contain(&self, ids: &[TraceId]) -> bool {
        let any_of = |filter: &Sbbf| ids.iter().any(|id| filter.check(&id.as_bytes()[..]));
        self.0
            .iter()
            .any(|filter| filter.as_ref().is_none_or(any_of))
    }

    fn byte_count(&self) -> usize {
        let blocks: usize = self.0.iter().flatten().map(Sbbf::num_blocks).sum();
        ENTRY_BYTES + blocks * 32
    }
}

async fn read_filters(store: &Store, file: &LakeFile) -> Result<FileFilters> {
    let reader = FileReader::new(store, file);
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader)
        .await
        .map_err(|error| name_file(error, file))?;
    let metadata = Arc::clone(builder.metadata());
    let schema = metadata.file_metadata().schema_descr();
    let index = (0..schema.num_columns())
        .find(|index| schema.column(*index).path().string() == column::TRACE_ID);
    let Some(index) = index else {
        return Err(Error::corrupt(format!(
            "a file of the lake has no trace ids; path=`{}`",
            file.path
        )));
    };
    let mut filters = Vec::with_capacity(metadata.num_row_groups());
    for row_group in 0..metadata.num_row_groups() {
        let filter = builder
            .get_row_group_column_bloom_filter(row_group, index)
            .await;
        filters.push(filter.map_err(|error| name_file(error, file))?);
    }
    Ok(FileFilters(filters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageConfig;
    use crate::storage::sample::{read_file, spans, trace_id};
    use crate::storage::sort::KeyColumns;
    use crate::storage::write_batch;

    #[tokio::test]
    async fn present_traces_pass_absent_ones_rarely_and_the_cache_stays_small() {
        let store = Store::open("memory://").unwrap();
        let config = StorageConfig {
            row_group_rows: 500,
            ..StorageConfig::default()
        };
        let batch = spans(5, 3000, 2);
        let files = write_batch(&store, &config, batch, 1).await.unwrap();
        let filters = TraceFilters::new(1 << 20);
        for file in &files {
            let rows = read_file(&store, file).await;
            let keys = KeyColumns::try_new(&rows).unwrap();
            for row in 0..rows.num_rows() {
                let ids = [trace_id(1), trace_id(keys.trace(row))];
                assert!(filters.may_contain(&store, file, &ids).await.unwrap());
            }
            let mut passed = 0;
            for number in 1..2000 {
                let ids = [trace_id(number)];
                passed += u32::from(filters.may_contain(&store, file, &ids).await.unwrap());
            }
            // Four row groups of at most 1 % each, with room for chance.
            assert!(passed < 200, "{passed}");
        }
        assert_eq!(filters.miss_count(), files.len() as u64);
        assert!(filters.byte_count() > 0);
        let tiny = TraceFilters::new(1);
        for file in files.iter().chain(&files) {
            tiny.may_contain(&store, file, &[trace_id(1)])
                .await
                .unwrap();
        }
        assert_eq!((tiny.byte_count(), tiny.miss_count()), (0, 4));
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_named_each_time() {
        let store = Store::open("memory://").unwrap();
        let config = StorageConfig::default();
        let files = write_batch(&store, &config, spans(5, 10, 1), 1)
            .await
            .unwrap();
        let mut file = files[0].clone();
        file.path = file.path.replace("L0-", "L0-x");
        let filters = TraceFilters::new(1 << 20);
        for _ in 0..2 {
            let error = filters.may_contain(&store, &file, &[trace_id(1)]).await;
            assert!(error.unwrap_err().message().contains(&file.path));
        }
        assert_eq!(filters.miss_count(), 2);
    }
}
