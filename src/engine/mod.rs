//! The hub: opens a lake, takes spans in, builds the only SQL session, keeps the lake in shape.

mod lake;
mod session;
mod aliases;
mod views;
mod ingest;
mod explain;
mod info;
mod maintenance;

pub use explain::ExplainReport;
pub use info::{ColumnInfo, LakeInfo};
pub use ingest::{IngestProgress, IngestReport, Source, SourceKind};
pub use lake::{AppendOutcome, Lake};
pub use maintenance::{CompactionReport, CompactionStep, ExpiryReport};
pub use session::{QueryStream, Session, Statement};
