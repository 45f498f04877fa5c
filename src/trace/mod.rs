//! What a trace means: its tree, self times, critical path, edges between services, findings, and
//! the drawing of it. Pure code over spans already read: no I/O, no await, no failure on bad data;
//! what is odd in a trace is told, not refused. Every notion is defined once, over
//! [`TraceColumns`] and the [`Forest`] made of them, for a trace of five spans as for one of a
//! million, and in memory that a stream of traces uses again.

mod columns;
mod parents;
mod forest;
mod path;
mod findings;
mod self_time;
mod critical_path;
mod edges;
mod edges_elsewhere;
mod stats;
mod skew;
mod diff;
mod duration;
mod tree;
mod whole_trace;
mod corrected;
mod reference;
mod waterfall;
mod waterfall_layout;
mod waterfall_text;

#[cfg(test)]
mod testing;

pub use columns::{NO_OFFSET, SpanRow, TraceBuffer, TraceColumns, UNFINISHED};
pub use critical_path::{CriticalPath, PathSection};
pub use diff::{DiffEntry, diff};
pub use duration::format_duration;
pub use edges::{EdgeDetails, EdgeKind, EdgeMode, LinkTarget, ServiceEdge, service_edges};
pub use findings::{Findings, find};
pub use forest::{Forest, NONE, Placement};
pub use path::{MAX_PATH_DEPTH, for_each_path, is_ancestor_path};
pub use reference::{RELATED_TRACE_ATTRIBUTE, TraceReference};
pub use self_time::SelfTimes;
pub use skew::ClockSkew;
pub use stats::{ServiceSet, ServiceStats, TraceSummary, service_stats};
pub use tree::{TraceNode, TraceSpan, TraceTree};
pub use waterfall::{DrawnSpan, Waterfall};
pub use waterfall_text::escape_text;
pub use whole_trace::Trace;
