//! The files of a lake: where they lie, how they are written, merged and dropped, and the log
//! that says which of them count. The only room that knows paths, object stores and the table
//! format.

mod attribute_columns;
mod attribute_keys;
mod attribute_plan;
mod change;
mod column_pages;
mod column_sizes;
mod compaction;
mod decompressed_pages;
mod durable;
mod encoding;
mod file_attributes;
mod file_reader;
mod file_writer;
mod index_builder;
mod index_bytes;
mod index_directory;
mod index_file;
mod index_posting;
mod index_rows;
mod index_terms;
mod lake_file;
mod layout;
mod log;
mod log_actions;
mod log_record;
mod log_schema;
mod log_upkeep;
mod maintenance_log;
mod merge;
mod page_layout;
mod retention;
#[cfg(test)]
mod sample;
mod snapshot;
mod sort;
mod store;
mod trace_filter;
mod vacuum;
mod worker;
mod writer;

pub use attribute_columns::put_together;
pub use change::Change;
pub use column_pages::ColumnPages;
pub use column_sizes::{ColumnSize, ColumnSizes, column_sizes};
pub use compaction::{Compaction, CompactionOutcome, choose_compaction, compact};
pub use file_reader::FileReader;
pub use index_builder::AttributeScope;
pub use index_file::{FileIndex, IndexedKey, Indexes, ListedKey, RowGroupIndex};
pub use index_posting::Posting;
pub use index_rows::{OperationSpans, Operations, RowSummary, SpanOperation};
pub use index_terms::Terms;
pub use lake_file::LakeFile;
pub use layout::{Bucket, Hour};
pub use log::{Commit, Log, Operation};
pub use maintenance_log::{MaintenanceLog, MaintenanceRecord};
pub use page_layout::PageLayout;
pub use retention::{choose_expired, choose_oversized, expire};
pub use snapshot::{HourFiles, Snapshot};
pub use store::{Store, StoreOptions};
pub use trace_filter::TraceFilters;
pub use vacuum::{VACUUM_AGE_SECONDS, VacuumOutcome, vacuum};
pub use worker::compute;
pub use writer::{write_batch, write_known_batch};
