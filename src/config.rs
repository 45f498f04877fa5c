//! Every option of tracelake, with its default and what it costs.
//!
//! Read [`Config`]. Where an option comes from (a flag, a variable) is the command line's matter.

use std::path::PathBuf;
use std::time::Duration;

/// How a lake is written, read and queried.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// How spans are taken in.
    pub ingest: IngestConfig,
    /// How files are written and merged.
    pub storage: StorageConfig,
    /// What a query may use.
    pub query: QueryConfig,
}

/// How spans are taken in.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Spans a commit holds at the most. More make fewer, larger files and take more memory.
    pub batch_spans: usize,
    /// Bytes of decoded spans a commit holds at the most.
    pub batch_bytes: usize,
    /// Whether one bad span stops everything before anything is committed.
    pub strict: bool,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            batch_spans: 262_144,
            batch_bytes: 256 << 20,
            strict: false,
        }
    }
}

/// How files are written and merged.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The size compaction aims at for one file, in bytes.
    pub target_file_bytes: u64,
    /// Rows of a row group at the most.
    pub row_group_rows: usize,
    /// Rows of a page at the most: what a lookup decodes at the least.
    pub page_rows: usize,
    /// The zstd level of files as ingested.
    pub ingest_zstd_level: i32,
    /// The zstd level of compacted files.
    pub compact_zstd_level: i32,
    /// The share of lookups for an absent trace that its filter lets through.
    pub bloom_false_positive_rate: f64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            target_file_bytes: 128 << 20,
            row_group_rows: 1 << 20,
            page_rows: 2048,
            ingest_zstd_level: 1,
            compact_zstd_level: 6,
            bloom_false_positive_rate: 0.01,
        }
    }
}

/// What a query may use, and how it reads.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// Memory of all running queries together, in bytes.
    pub memory_limit_bytes: usize,
    /// Where sorts, joins and aggregates put what exceeds memory; the system's temporary
    /// directory where not said.
    pub spill_directory: Option<PathBuf>,
    /// Threads a query uses; one a core where not said.
    pub threads: Option<usize>,
    /// Whether files, pages and rows are skipped unread. Turning it off changes no answer.
    pub pruning: bool,
    /// How far beyond the time a query asks for the relations over whole traces read, so that a
    /// trace that begins or ends outside is whole. A trace longer than that may come out cut.
    pub trace_margin: Duration,
    /// Spans of the traces that are worked through at a time, at the most, where traces are not
    /// larger. Fewer take less memory and more reads.
    pub trace_range_rows: usize,
    /// Memory for file footers, page indexes and trace-id filters, in bytes.
    pub metadata_cache_bytes: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 4 << 30,
            spill_directory: None,
            threads: None,
            pruning: true,
            trace_margin: Duration::from_secs(3600),
            trace_range_rows: 1 << 20,
            metadata_cache_bytes: 512 << 20,
        }
    }
}
