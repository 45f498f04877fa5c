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
    /// How the spans of many senders become commits.
    pub commit: CommitConfig,
    /// How files are written and merged.
    pub storage: StorageConfig,
    /// How a process that stays keeps the lake in shape.
    pub maintenance: MaintenanceConfig,
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

/// How the spans of many senders become commits: more in one make fewer files, and each sender
/// waits longer for its answer.
#[derive(Debug, Clone)]
pub struct CommitConfig {
    /// How long a request waits for others to share its commit.
    pub max_delay: Duration,
    /// Spans from which on a commit does not wait, once all senders of the last one are back.
    pub eager_spans: usize,
    /// Spans a commit holds at the most.
    pub max_spans: usize,
    /// Bytes of decoded spans a commit holds at the most.
    pub max_bytes: usize,
    /// Commits being written at once.
    pub concurrent: usize,
    /// Bytes of requests and spans that wait for their commit, all together; beyond it requests
    /// are refused, to be sent again.
    pub pending_bytes: usize,
    /// How long a request waits for room among those bytes before it is refused.
    pub max_wait: Duration,
    /// Bytes of decoded spans that one request may hold.
    pub request_bytes: usize,
    /// The length to which text values of attributes are cut; not at all where not said.
    pub max_attribute_bytes: Option<usize>,
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self {
            max_delay: Duration::from_millis(200),
            eager_spans: 2048,
            max_spans: 65_536,
            max_bytes: 64 << 20,
            concurrent: 2,
            pending_bytes: 256 << 20,
            max_wait: Duration::from_secs(1),
            request_bytes: 128 << 20,
            max_attribute_bytes: None,
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
    /// How pages of files as ingested are compressed, and of those that are soon merged again.
    pub ingest_compression: PageCompression,
    /// How pages of compacted files are compressed.
    pub compact_compression: PageCompression,
    /// The share of lookups for an absent trace that its filter lets through.
    pub bloom_false_positive_rate: f64,
    /// Columns that span attributes get in a file at the most, a key one for each type of its
    /// values; the most frequent keys have them. With 0 all attributes are stored as JSON.
    pub attribute_columns: usize,
    /// The share of a file's spans that have an attribute which gets a column, at the least.
    pub attribute_min_share: f64,
    /// The number of a file's spans that have an attribute which gets a column, at the least.
    pub attribute_min_rows: u64,
    /// The length of a key that gets a column, in bytes, at the most.
    pub attribute_key_bytes: usize,
    /// The share of a compacted file that its index may take; 0 for none.
    pub index_share: f64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            target_file_bytes: 128 << 20,
            row_group_rows: 1 << 20,
            page_rows: 2048,
            ingest_compression: PageCompression::Lz4,
            compact_compression: PageCompression::Zstd(6),
            bloom_false_positive_rate: 0.01,
            attribute_columns: 96,
            attribute_min_share: 0.005,
            attribute_min_rows: 256,
            attribute_key_bytes: 128,
            index_share: 0.15,
        }
    }
}

/// How the pages of a file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCompression {
    /// LZ4: quick, and readers need no memory for it.
    Lz4,
    /// Zstandard at a level from 1 to 22: smaller.
    Zstd(i32),
}

/// How a process that stays keeps the lake in shape.
#[derive(Debug, Clone)]
pub struct MaintenanceConfig {
    /// The wait between two looks for what is due.
    pub interval: Duration,
    /// Whether hours are compacted.
    pub compact: bool,
    /// How long nobody must have written to an hour before it gets its final form.
    pub quiet: Duration,
    /// Files as ingested that an hour still written to may have before they are merged; the same
    /// goes for the small files that come of it.
    pub max_ingested_files: usize,
    /// The age from which hours are dropped; none where not said.
    pub retention_age: Option<Duration>,
    /// The bytes of the lake from which the oldest hours are dropped; none where not said.
    pub retention_bytes: Option<u64>,
    /// Whether files that no longer belong to the lake are deleted.
    pub vacuum: bool,
    /// How long they are kept for queries that still read them.
    pub vacuum_age: Duration,
    /// The wait between two vacuums, each of which lists the whole lake.
    pub vacuum_interval: Duration,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            compact: true,
            quiet: Duration::from_secs(600),
            max_ingested_files: 32,
            retention_age: None,
            retention_bytes: None,
            vacuum: true,
            vacuum_age: Duration::from_secs(24 * 3600),
            vacuum_interval: Duration::from_secs(3600),
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
    /// larger, and never more than one for each 512 bytes of the memory limit. Fewer take less
    /// memory and more reads.
    pub trace_range_rows: usize,
    /// Whether the indexes of compacted files are used. Turning it off changes no answer.
    pub index: bool,
    /// Memory for file footers, page indexes, trace-id filters and indexes, in bytes.
    pub metadata_cache_bytes: usize,
    /// Spans among which a search looks for the newest traces first; where too few are found it
    /// goes on with several times as many.
    pub search_window_spans: u64,
    /// Memory for whole traces that were looked up, in bytes; zero keeps none.
    pub trace_cache_bytes: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 4 << 30,
            spill_directory: None,
            threads: None,
            pruning: true,
            trace_margin: Duration::from_secs(3600),
            trace_range_rows: 1 << 21,
            index: true,
            metadata_cache_bytes: 1 << 30,
            search_window_spans: 500_000,
            trace_cache_bytes: 64 << 20,
        }
    }
}

/// How many threads of a runtime may wait for disks at once. By itself a runtime has hundreds, which
/// take turns, and the allocator keeps for each what it may need again.
pub(crate) fn blocking_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (4 * cores).max(8)
}

/// Reads a number of bytes: `4GiB`, `512 MB`, `1.5g`, `1048576`.
///
/// A unit of one letter is the binary one, as `-Xmx` and `docker -m` have it.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("use a size such as 512MiB, 4GiB or 2GB".to_string()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "use a size such as 512MiB, 4GiB or 2GB".to_string())?;
    let size = number * factor as f64;
    if size < 1.0 || size >= usize::MAX as f64 {
        return Err("the size is out of range".to_string());
    }
    Ok(size as usize)
}

/// Reads a duration: `30d`, `12h`, `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; use a duration such as 30d, 12h or 1h 30m"))
}
