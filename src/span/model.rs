//! A span as every wire format decodes to it, before it becomes a row.
//!
//! Read [`Span`]; [`Resource`] and [`Scope`] are shared by many spans and come beside it.

use super::{SpanId, SpanKind, StatusCode, TraceId, Value};

/// Attributes in the order the producer sent them. A key that stands twice is legal input and
/// illegal data: the last value wins when the attributes are written.
pub type Attributes = Vec<(String, Value)>;

/// What produced the spans (OTLP `Resource`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource {
    /// Its attributes; `service.name` and its kin become columns too.
    pub attributes: Attributes,
    /// Attributes the producer left out.
    pub dropped_attributes_count: u32,
    /// The semantic conventions the resource follows; empty where not said.
    pub schema_url: String,
}

/// The instrumentation that recorded the spans (OTLP `InstrumentationScope`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    /// The library's name; empty where not said.
    pub name: String,
    /// The library's version; empty where not said.
    pub version: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Attributes the producer left out.
    pub dropped_attributes_count: u32,
    /// The semantic conventions the spans follow; empty where not said.
    pub schema_url: String,
}

/// One span (OTLP `Span`).
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// Its parent, `None` at a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state; empty where not said.
    pub trace_state: String,
    /// W3C trace flags and OTLP's bits above them; `None` where zero.
    pub flags: Option<u32>,
    /// The operation.
    pub name: String,
    /// Its role in a call.
    pub kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub start_time_unix_nano: i64,
    /// End minus start in nanoseconds, negative where clocks were skewed; `None` where the span
    /// never ended (an end of zero after a start that is not).
    pub duration_nano: Option<i64>,
    /// How it ended.
    pub status_code: StatusCode,
    /// What was said of the status; empty where nothing.
    pub status_message: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// What happened during it.
    pub events: Vec<Event>,
    /// The spans it points to.
    pub links: Vec<Link>,
    /// Attributes, events and links the producer left out.
    pub dropped_attributes_count: u32,
    /// Events the producer left out.
    pub dropped_events_count: u32,
    /// Links the producer left out.
    pub dropped_links_count: u32,
}

impl Span {
    /// A span with these ids and that start, and nothing else said.
    pub fn new(trace_id: TraceId, span_id: SpanId, start_time_unix_nano: i64) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            trace_state: String::new(),
            flags: None,
            name: String::new(),
            kind: SpanKind::default(),
            start_time_unix_nano,
            duration_nano: None,
            status_code: StatusCode::default(),
            status_message: String::new(),
            attributes: Attributes::new(),
            events: Vec::new(),
            links: Vec::new(),
            dropped_attributes_count: 0,
            dropped_events_count: 0,
            dropped_links_count: 0,
        }
    }
}

/// Something that happened at one moment of a span (OTLP `Span.Event`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nano: i64,
    /// What happened.
    pub name: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Attributes the producer left out.
    pub dropped_attributes_count: u32,
}

/// A pointer to another span, in this trace or another (OTLP `Span.Link`).
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The other trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// W3C trace state; empty where not said.
    pub trace_state: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// W3C trace flags and OTLP's bits above them; `None` where zero.
    pub flags: Option<u32>,
    /// Attributes the producer left out.
    pub dropped_attributes_count: u32,
}
