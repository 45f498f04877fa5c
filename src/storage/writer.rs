//! Writes decoded spans as files.
//!
//! Read [`write_batch`]. Nothing is visible before the log has committed what it returns.

use arrow::array::RecordBatch;

use super::{LakeFile, Store};
use crate::config::StorageConfig;
use crate::error::Result;

/// Writes a batch of decoded columns, in any order, as one file for each hour in it.
///
/// The files are durable when this returns, but not committed.
pub async fn write_batch(
    store: &Store,
    config: &StorageConfig,
    batch: RecordBatch,
    ingested_at_micros: i64,
) -> Result<Vec<LakeFile>> {
    let _ = (store, config, batch, ingested_at_micros);
    Err(crate::error::Error::internal("not yet written"))
}
