//! The footers of files, from the cache that DataFusion's scans use as well.
//!
//! Read [`footer`].

use std::sync::Arc;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion_datasource_parquet::metadata::DFParquetMetadata;
use object_store::ObjectMeta;
use parquet::file::metadata::ParquetMetaData;

use crate::error::{Error, Result};
use crate::storage::{LakeFile, Store};

/// How many footers are read at the same time.
pub(super) const FOOTER_READS: usize = 16;

/// The footer of a file, with its page index.
pub(super) async fn footer(
    store: &Store,
    file: &LakeFile,
    cache: &Arc<FileMetadataCache>,
) -> Result<Arc<ParquetMetaData>> {
    let objects = store.objects();
    let read = DFParquetMetadata::new(objects.as_ref(), &located(file))
        .with_file_metadata_cache(Some(Arc::clone(cache)))
        .fetch_metadata()
        .await;
    read.map_err(|error| while_reading(file, error.into()))
}

/// Where a file lies, as the store and its caches know it.
pub(super) fn located(file: &LakeFile) -> ObjectMeta {
    ObjectMeta {
        location: file.location(),
        // Files are never changed in place, so a cache may trust path and size alone.
        last_modified: chrono::DateTime::from_timestamp_millis(file.modified_ms)
            .unwrap_or_default(),
        size: file.size,
        e_tag: None,
        version: None,
    }
}

/// Names the file that was read when something went wrong.
pub(super) fn while_reading(file: &LakeFile, error: Error) -> Error {
    let path = &file.path;
    error.with_context(format!("reading a file of the lake failed; path=`{path}`"))
}
