//! Physical operators over whole traces, and the relations they answer: `traces`, `span_tree`,
//! `service_edges` and `critical_paths`. What a trace means is `trace`'s; where its spans lie is
//! `table`'s; here they meet.

mod cooperative_joins;
mod numbering;
mod needs;
mod id_set;
mod file_places;
mod range_rows;
mod linked_spans;
mod trace_selection;
mod range_load;
mod column_buffer;
mod relation;
mod trace_work;
mod trace_exec;
mod traces;
mod peers;
mod edge_finder;
mod service_edges;
mod edge_counts;
mod critical_paths;
mod tree_column;
mod span_tree;

pub use cooperative_joins::CooperativeJoins;
pub use critical_paths::CriticalPathsRelation;
pub use edge_counts::EdgeCountsRelation;
pub use needs::Needs;
pub use range_rows::{RangeRows, TraceRows};
pub use relation::{Computed, RelationRows, TraceRelation, TraceRelationTable, relations};
pub use service_edges::ServiceEdgesRelation;
pub use span_tree::SpanTreeRelation;
pub use trace_exec::TraceExec;
pub use traces::TracesRelation;
