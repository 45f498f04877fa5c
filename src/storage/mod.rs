//! The files of a lake: where they lie, how they are written, merged and dropped, and the log
//! that says which of them count. The only room that knows paths, object stores and the table
//! format.

mod column_sizes;
mod compaction;
mod durable;
mod encoding;
mod file_reader;
mod file_writer;
mod lake_file;
mod layout;
mod log;
mod log_record;
mod maintenance_log;
mod merge;
mod retention;
#[cfg(test)]
mod sample;
mod snapshot;
mod sort;
mod store;
mod trace_filter;
mod vacuum;
mod writer;

pub use column_sizes::{ColumnSize, ColumnSizes, column_sizes};
pub use compaction::{Compaction, CompactionOutcome, choose_compaction, compact};
pub use lake_file::LakeFile;
pub use layout::{Bucket, Hour};
pub use log::{Commit, Log, Operation};
pub use maintenance_log::{MaintenanceLog, MaintenanceRecord};
pub use retention::{choose_expired, choose_oversized, expire};
pub use snapshot::Snapshot;
pub use store::{Store, StoreOptions};
pub use trace_filter::TraceFilters;
pub use vacuum::{VACUUM_AGE_SECONDS, VacuumOutcome, vacuum};
pub use writer::write_batch;
