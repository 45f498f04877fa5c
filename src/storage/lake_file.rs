//! One data file as the log describes it.
//!
//! Read [`LakeFile`]. What is inside the file is the writer's and the scan's business.

use super::{Bucket, Hour};

/// A Parquet file of the lake, and what is known of it without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// The path relative to the lake's root.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// The hour in which every span of it starts.
    pub hour: Hour,
    /// The traces it may hold.
    pub bucket: Bucket,
    /// Its rows.
    pub row_count: u64,
    /// The earliest start, in nanoseconds since the epoch.
    pub min_start_nano: i64,
    /// The latest start.
    pub max_start_nano: i64,
    /// The earliest commit time of its rows, in microseconds since the epoch.
    pub min_ingested_micros: i64,
    /// The latest commit time of its rows.
    pub max_ingested_micros: i64,
    /// The shortest duration, in nanoseconds; `None` where no row has one.
    pub min_duration_nano: Option<i64>,
    /// The longest duration.
    pub max_duration_nano: Option<i64>,
    /// Rows without a duration.
    pub null_duration_count: u64,
    /// When the file was written, in milliseconds since the epoch.
    pub modified_ms: i64,
    /// The names of its columns beyond those that every file has. Only of a file that was just
    /// written: the log adds them to the schema of the table and keeps no list for each file.
    pub attribute_columns: Vec<String>,
}

impl LakeFile {
    /// The path as the object store takes it.
    pub fn location(&self) -> object_store::path::Path {
        object_store::path::Path::from(self.path.as_str())
    }
}
