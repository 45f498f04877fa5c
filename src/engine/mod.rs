//! The hub: opens a lake, takes spans in, builds the only SQL session, keeps the lake in shape.

mod aliases;
mod explain;
mod info;
mod ingest;
mod lake;
mod maintenance;
mod session;
mod views;

pub use explain::ExplainReport;
pub use info::LakeInfo;
pub use ingest::{IngestProgress, IngestReport, Source, SourceKind};
pub use lake::{AppendOutcome, Lake};
pub use maintenance::{CompactionReport, CompactionStep, ExpiryReport};
pub use session::{QueryStream, Session, Statement};

pub use crate::storage::{ColumnSize, ColumnSizes, VacuumOutcome};
