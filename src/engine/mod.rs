//! The hub: opens a lake, takes spans in, builds the only SQL session, keeps the lake in shape.

mod lake;
mod session;
mod aliases;
mod views;
mod explain;
mod ingest;
mod maintenance;
mod info;
mod search;
mod search_plan;
mod search_window;
mod search_spans;
mod lake_searcher;
mod trace_cache;
mod trace_lookup;
mod traces;
mod trace_queries;

pub use explain::ExplainReport;
pub use info::LakeInfo;
pub use ingest::{IngestProgress, IngestReport, Source, SourceKind};
pub use lake::{AppendOutcome, Lake};
pub use maintenance::{CompactionReport, CompactionStep, ExpiryReport};
pub use session::{QueryStream, Session, Statement};
pub use trace_cache::TraceCacheStatistics;
pub use trace_lookup::{FoundTraces, LookupOptions, MissingFile};
pub use traces::Prefetch;

pub use crate::storage::{ColumnSize, ColumnSizes, VacuumOutcome};
