//! What a trace means: its tree, and the drawing of it. Pure code over spans already read: no
//! I/O, no await, no failure on bad data; what is odd in a trace is marked, not refused.

mod columns;
mod parents;
mod forest;
mod duration;
mod tree;
mod whole_trace;
mod reference;
mod waterfall;

pub use columns::{NO_OFFSET, SpanRow, TraceBuffer, TraceColumns, UNFINISHED};
pub use duration::format_duration;
pub use forest::{Forest, NONE, Placement};
pub use reference::{RELATED_TRACE_ATTRIBUTE, TraceReference};
pub use tree::{TraceNode, TraceSpan, TraceTree};
pub use waterfall::{Waterfall, escape_text};
pub use whole_trace::Trace;
