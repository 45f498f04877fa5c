//! The vocabulary: what a span is, as OpenTelemetry defines it, as it lies on disk and as SQL
//! sees it. Pure: no I/O, no await.

mod attribute_column;
mod batch;
mod ids;
mod json;
mod kind;
mod logical_schema;
mod model;
mod origin;
mod span_rows;
mod storage_schema;
mod value;
mod value_text;
mod value_type;

pub use attribute_column::{
    AttributeColumn, AttributeOutput, AttributeType, AttributeValue, attribute_column_name,
    exact_double, exact_int, number_of_text,
};
pub use batch::SpanBatchBuilder;
pub use ids::{SpanId, TraceId};
pub use json::{JsonLookup, MemberReader, list_item, lookup, members, render_value, unquote};
pub use kind::{SpanKind, StatusCode};
pub use logical_schema::{COLUMN_ALIASES, IdKind, logical_schema};
pub(crate) use logical_schema::{logical_event_fields, logical_link_fields};
pub use model::{Attributes, Event, Link, Resource, Scope, Span};
pub use origin::Origin;
pub use span_rows::{ResourceSpans, resource_spans};
pub use storage_schema::{OFFSET_TRACE_ROWS, column, storage_schema};
pub(crate) use storage_schema::{STORED_PREFIX, stored_name};
pub use value::{Value, write_double, write_json_string};
pub use value_type::ValueType;
