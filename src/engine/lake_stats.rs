//! What a lake looks like at the moment, told without asking the store.
//!
//! Read [`LakeStats`].

use super::Lake;
use crate::storage::Bucket;

/// Numbers for whoever watches a running process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LakeStats {
    /// The version last seen.
    pub version: u64,
    /// Files.
    pub file_count: u64,
    /// Files as ingested, which compaction has not merged yet.
    pub level0_file_count: u64,
    /// Spans, exact re-deliveries counted until compaction drops them.
    pub span_count: u64,
    /// Bytes of all files.
    pub byte_count: u64,
    /// Memory that running queries hold.
    pub query_memory_bytes: u64,
    /// File footers in the cache.
    pub cached_footer_count: u64,
    /// Their bytes.
    pub cached_footer_bytes: u64,
}

impl Lake {
    /// What the lake looks like at the version last seen.
    pub fn stats(&self) -> LakeStats {
        let snapshot = self.log().snapshot();
        let level0 = snapshot
            .files()
            .filter(|file| file.bucket == Bucket::Level0);
        let cache = self.runtime().cache_manager.get_file_metadata_cache();
        let entries = cache.list_entries();
        let footers = entries.values();
        LakeStats {
            version: snapshot.version(),
            file_count: snapshot.file_count() as u64,
            level0_file_count: level0.count() as u64,
            span_count: snapshot.row_count(),
            byte_count: snapshot.byte_count(),
            query_memory_bytes: self.runtime().memory_pool.reserved() as u64,
            cached_footer_count: entries.len() as u64,
            cached_footer_bytes: footers.map(|info| info.size_bytes as u64).sum(),
        }
    }
}
