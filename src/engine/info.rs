//! What a lake holds.
//!
//! Read [`LakeInfo`].

use std::sync::Arc;

use super::Lake;
use crate::error::Result;
use crate::storage::{Bucket, ColumnSizes, LakeFile, column_sizes};

/// What a lake holds, from its log and the footers of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakeInfo {
    /// Where it lies.
    pub url: String,
    /// Its version: one more with every commit.
    pub version: u64,
    /// Files.
    pub file_count: u64,
    /// Files as ingested, which compaction has not merged yet.
    pub level0_file_count: u64,
    /// Hours that have files.
    pub hour_count: u64,
    /// Spans, exact re-deliveries counted until compaction drops them.
    pub span_count: u64,
    /// Traces, counted once in every file that has them.
    pub trace_count: u64,
    /// Bytes of all files.
    pub byte_count: u64,
    /// The earliest start of a span.
    pub min_start_nano: Option<i64>,
    /// The latest start of a span.
    pub max_start_nano: Option<i64>,
}

impl Lake {
    /// Reads the log and every footer.
    pub async fn info(&self) -> Result<LakeInfo> {
        let snapshot = self.log().refresh().await?;
        let files: Vec<Arc<LakeFile>> = snapshot.files().cloned().collect();
        let sizes: ColumnSizes = column_sizes(self.log().store(), &files).await?;
        let level0 = files.iter().filter(|file| file.bucket == Bucket::Level0);
        Ok(LakeInfo {
            url: self.url().to_string(),
            version: snapshot.version(),
            file_count: files.len() as u64,
            level0_file_count: level0.count() as u64,
            hour_count: snapshot.files_by_hour().len() as u64,
            span_count: snapshot.row_count(),
            trace_count: sizes.trace_count,
            byte_count: snapshot.byte_count(),
            min_start_nano: files.iter().map(|file| file.min_start_nano).min(),
            max_start_nano: files.iter().map(|file| file.max_start_nano).max(),
        })
    }

    /// What each column takes on disk, from every footer.
    pub async fn column_sizes(&self) -> Result<ColumnSizes> {
        let snapshot = self.log().refresh().await?;
        let files: Vec<Arc<LakeFile>> = snapshot.files().cloned().collect();
        column_sizes(self.log().store(), &files).await
    }
}
