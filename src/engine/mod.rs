//! The hub: opens a lake, takes spans in, builds the only SQL session, keeps the lake in shape.

mod lake;
mod parameters;
mod session;
mod statement_memory;
mod nested_json;
mod aliases;
mod views;
mod dashboard_views;
mod description;
mod explain;
mod ingest;
mod received;
mod commit_queue;
mod maintenance;
mod upkeep;
mod info;
mod lake_stats;
mod search;
mod search_plan;
mod search_window;
mod search_spans;
mod lake_searcher;
mod trace_cache;
mod trace_lookup;
mod traces;
mod trace_queries;
mod time_range_stats;

pub use commit_queue::{CommitQueue, CommitStats, Room};
pub use description::Description;
pub use explain::ExplainReport;
pub use info::LakeInfo;
pub use ingest::{IngestProgress, IngestReport, Source, SourceKind};
pub use lake::{AppendOutcome, Lake};
pub use lake_stats::LakeStats;
pub use maintenance::{CompactionReport, CompactionStep, ExpiryReport};
pub use nested_json::NestedAsJson;
pub use received::Receipt;
pub use session::{QueryStream, Session, SessionOptions, Statement};
pub use time_range_stats::StatsOptions;
pub use trace_cache::TraceCacheStatistics;
pub use trace_lookup::{FoundTraces, LookupOptions, MissingFile};
pub use trace_queries::{FoundRows, TraceQuestion};
pub use traces::Prefetch;

pub use crate::storage::{ColumnSize, ColumnSizes, VacuumOutcome};
