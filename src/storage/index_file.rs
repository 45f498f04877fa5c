//! The indexes of files, read as far as they are asked for, and kept within a limit.
//!
//! Read [`Indexes`], then [`FileIndex`] and [`RowGroupIndex`]. An index that is absent, of a newer
//! version or damaged answers that it knows nothing; only a store that fails is an error.

use std::collections::hash_map::RandomState;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use tokio::sync::OnceCell;

use super::file_reader::{FileReader, name_file};
use super::index_bytes::{checksum, unpack};
use super::index_directory::{Directory, INDEX_KEY, IndexPlace, SectionPlace, parse_places};
use super::index_rows::{Operations, RowSummary};
use super::index_terms::Terms;
use super::{AttributeScope, Bucket, LakeFile, Store};
use crate::error::{Error, Result};
use crate::span::ValueType;

/// What a file costs in memory beside what is read of its index.
const FILE_BYTES: usize = 512;

/// A cache of the indexes of files, bounded in bytes, the least recently used first to go.
/// Keyed by path, which is unique to a file for ever.
pub struct Indexes {
    inner: Arc<Inner>,
}

struct Inner {
    max_bytes: usize,
    cache: Mutex<Cache>,
}

struct Cache {
    files: LruCache<String, (Arc<FileIndex>, usize), RandomState>,
    bytes: usize,
}

impl Indexes {
    /// An empty cache of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let cache = Mutex::new(Cache {
            files: LruCache::unbounded_with_hasher(RandomState::new()),
            bytes: 0,
        });
        Self {
            inner: Arc::new(Inner { max_bytes, cache }),
        }
    }

    /// The index of a file; nothing is read yet.
    pub fn of_file(&self, store: &Store, file: &Arc<LakeFile>) -> Arc<FileIndex> {
        let mut cache = self.inner.lock();
        if let Some((index, _)) = cache.files.get(&file.path) {
            return Arc::clone(index);
        }
        let index = Arc::new(FileIndex {
            store: store.clone(),
            file: Arc::clone(file),
            cache: Arc::clone(&self.inner),
            row_groups: OnceCell::new(),
        });
        let entry = (Arc::clone(&index), 0);
        cache.files.put(file.path.clone(), entry);
        drop(cache);
        self.inner
            .account(&file.path, FILE_BYTES + 2 * file.path.len());
        index
    }

    /// Forgets the index of a file.
    pub fn remove(&self, file: &LakeFile) {
        let mut cache = self.inner.lock();
        if let Some((_, held)) = cache.files.pop(&file.path) {
            cache.bytes -= held;
        }
    }

    /// The bytes held.
    pub fn byte_count(&self) -> usize {
        self.inner.lock().bytes
    }
}

impl std::fmt::Debug for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Indexes")
            .field("max_bytes", &self.inner.max_bytes)
            .field("bytes", &self.byte_count())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Every change leaves the cache whole, so a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes just read for a file, and drops the least recently used files beyond the
    /// limit. Those who use one of these keep it until they are done.
    fn account(&self, path: &str, bytes: usize) {
        let mut cache = self.lock();
        let Some((_, held)) = cache.files.get_mut(path) else {
            return;
        };
        *held += bytes;
        cache.bytes += bytes;
        while cache.bytes > self.max_bytes
            && let Some((_, (_, held))) = cache.files.pop_lru()
        {
            cache.bytes -= held;
        }
    }
}

/// The index of one file.
pub struct FileIndex {
    store: Store,
    file: Arc<LakeFile>,
    cache: Arc<Inner>,
    row_groups: OnceCell<Vec<RowGroupIndex>>,
}

/// The index of one row group.
pub struct RowGroupIndex {
    row_count: u64,
    place: Option<IndexPlace>,
    directory: OnceCell<Option<Sections>>,
}

struct Sections {
    directory: Directory,
    operations: OnceCell<Option<Arc<Operations>>>,
    rows: OnceCell<Option<Arc<RowSummary>>>,
    terms: Vec<OnceCell<Option<Arc<Terms>>>>,
}

/// What an index says of a key.
#[derive(Debug, Clone)]
pub enum IndexedKey {
    /// No row has it.
    Absent,
    /// Its values and their rows.
    Terms(Arc<Terms>),
    /// Any row may have it, with any value.
    Unknown,
}

/// A key as the directory of an index lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedKey {
    /// Whose attribute it is.
    pub scope: AttributeScope,
    /// The key.
    pub key: String,
    /// For each type, the rows that have a value of it.
    pub type_counts: [u64; ValueType::ALL.len()],
    /// Distinct values in the row group.
    pub value_count: u64,
    /// Whether all values can be listed.
    pub is_listable: bool,
}

impl FileIndex {
    /// The indexes of the row groups, in their order; none of a file that was never compacted.
    pub async fn row_groups(&self) -> Result<&[RowGroupIndex]> {
        if self.file.bucket == Bucket::Level0 {
            return Ok(&[]);
        }
        let groups = self.row_groups.get_or_try_init(|| self.read_places());
        Ok(groups.await?)
    }

    async fn read_places(&self) -> Result<Vec<RowGroupIndex>> {
        let mut reader = FileReader::new(&self.store, &self.file);
        let footer = reader.get_metadata(Some(&ArrowReaderOptions::new())).await;
        let footer = footer.map_err(|error| name_file(error, &self.file))?;
        let pairs = footer.file_metadata().key_value_metadata();
        let text = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == INDEX_KEY));
        let text = text.and_then(|pair| pair.value.as_deref()).unwrap_or("");
        let places = parse_places(text, footer.num_row_groups(), self.file.size);
        let groups = footer.row_groups().iter().zip(places);
        Ok(groups
            .map(|(group, place)| RowGroupIndex {
                row_count: u64::try_from(group.num_rows()).unwrap_or_default(),
                place,
                directory: OnceCell::new(),
            })
            .collect())
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = self
            .store
            .objects()
            .get_range(&self.file.location(), range)
            .await;
        read.map_err(|error| name_file(error.into(), &self.file))
    }

    /// The bytes of a section; `None` where they are damaged.
    async fn section(&self, place: IndexPlace, section: SectionPlace) -> Result<Option<Vec<u8>>> {
        if section.length == 0 {
            return Ok(None);
        }
        let start = place.offset + section.offset;
        let packed = self.read(start..start + section.length).await?;
        let is_whole = checksum(&packed) == section.checksum;
        Ok(is_whole.then(|| unpack(&packed)).flatten())
    }

    fn account(&self, bytes: usize) {
        self.cache.account(&self.file.path, bytes);
    }
}

impl RowGroupIndex {
    /// The rows of the row group.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    async fn sections(&self, file: &FileIndex) -> Result<Option<(&Sections, IndexPlace, u32)>> {
        let Some(place) = self.place else {
            return Ok(None);
        };
        let read = self.directory.get_or_try_init(|| async {
            let end = place.offset + place.length;
            let packed = file.read(end - place.directory_length..end).await?;
            let directory = (checksum(&packed) == place.directory_checksum)
                .then(|| Directory::read(&packed, place.length))
                .flatten()
                .filter(|directory| u64::from(directory.row_count) == self.row_count);
            let Some(directory) = directory else {
                return Ok(None);
            };
            file.account(directory.byte_count());
            Ok::<_, Error>(Some(Sections {
                terms: directory.keys.iter().map(|_| OnceCell::new()).collect(),
                directory,
                operations: OnceCell::new(),
                rows: OnceCell::new(),
            }))
        });
        let sections = read.await?.as_ref();
        Ok(sections.map(|sections| (sections, place, sections.directory.row_count)))
    }

    /// Whether there is an index at all.
    pub async fn is_present(&self, file: &FileIndex) -> Result<bool> {
        Ok(self.sections(file).await?.is_some())
    }

    /// The operations; `None` where they are not known.
    pub async fn operations(&self, file: &FileIndex) -> Result<Option<Arc<Operations>>> {
        let Some((sections, place, row_count)) = self.sections(file).await? else {
            return Ok(None);
        };
        let read = sections.operations.get_or_try_init(|| async {
            let bytes = file.section(place, sections.directory.operations).await?;
            let operations = bytes.and_then(|bytes| Operations::decode(bytes, row_count));
            file.account(operations.as_ref().map_or(0, Operations::byte_count));
            Ok::<_, Error>(operations.map(Arc::new))
        });
        Ok(read.await?.clone())
    }

    /// Operation and time of each row; `None` where they are not known.
    pub async fn rows(&self, file: &FileIndex) -> Result<Option<Arc<RowSummary>>> {
        let Some((sections, place, row_count)) = self.sections(file).await? else {
            return Ok(None);
        };
        let read = sections.rows.get_or_try_init(|| async {
            let bytes = file.section(place, sections.directory.rows).await?;
            let hour_nano = file.file.hour.start_nano();
            let rows = bytes.and_then(|bytes| RowSummary::decode(&bytes, row_count, hour_nano));
            file.account(rows.as_ref().map_or(0, RowSummary::byte_count));
            Ok::<_, Error>(rows.map(Arc::new))
        });
        Ok(read.await?.clone())
    }

    /// What is known of a key.
    pub async fn key(
        &self,
        file: &FileIndex,
        scope: AttributeScope,
        key: &str,
    ) -> Result<IndexedKey> {
        let Some((sections, place, row_count)) = self.sections(file).await? else {
            return Ok(IndexedKey::Unknown);
        };
        let directory = &sections.directory;
        let Some(number) = directory.find(scope, key) else {
            return Ok(if directory.knows_absent(key) {
                IndexedKey::Absent
            } else {
                IndexedKey::Unknown
            });
        };
        let entry = &directory.keys[number];
        let read = sections.terms[number].get_or_try_init(|| async {
            let bytes = file.section(place, entry.section).await?;
            let terms = bytes.and_then(|bytes| Terms::decode(bytes, entry.form, row_count));
            file.account(terms.as_ref().map_or(0, Terms::byte_count));
            Ok::<_, Error>(terms.map(Arc::new))
        });
        Ok(match read.await? {
            Some(terms) => IndexedKey::Terms(Arc::clone(terms)),
            None => IndexedKey::Unknown,
        })
    }

    /// The keys of the row group in order of scope and key; `None` where not all are known.
    pub async fn keys(&self, file: &FileIndex) -> Result<Option<Vec<ListedKey>>> {
        let Some((sections, ..)) = self.sections(file).await? else {
            return Ok(None);
        };
        if sections.directory.is_incomplete {
            return Ok(None);
        }
        let keys = sections.directory.keys.iter().map(|entry| ListedKey {
            scope: entry.scope,
            key: entry.key.clone(),
            type_counts: entry.type_counts,
            value_count: entry.value_count,
            is_listable: entry.form == super::index_terms::TermForm::Values
                && !entry.has_long_values,
        });
        Ok(Some(keys.collect()))
    }
}
