//! The `spans` table as SQL sees it: the promise that stays stable while storage changes.
//!
//! Read [`logical_schema`]. How a stored column becomes a logical one is `table/adapter.rs`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// Other names under which columns may stand in SQL: alias, then column.
pub const COLUMN_ALIASES: [(&str, &str); 6] = [
    ("span_name", "name"),
    ("span_kind", "kind"),
    ("span_attributes", "attributes"),
    ("timestamp", "start_time"),
    ("start_timestamp", "start_time"),
    ("duration", "duration_nano"),
];

/// The key of the field metadata that marks a column of ids; its value is an [`IdKind`]'s name.
/// Plans carry it through aliases and joins, so literals can be checked wherever they meet an id.
pub(crate) const ID_KIND: &str = "tracelake.id";

/// What an id column identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// 32 hex digits.
    Trace,
    /// 16 hex digits.
    Span,
}

impl IdKind {
    /// The kind a field is marked with, if any.
    pub fn of(field: &Field) -> Option<Self> {
        match field.metadata().get(ID_KIND).map(String::as_str) {
            Some("trace") => Some(Self::Trace),
            Some("span") => Some(Self::Span),
            _ => None,
        }
    }

    /// The field, marked as one of ids of this kind.
    pub(crate) fn mark(self, field: Field) -> Field {
        let name = match self {
            Self::Trace => "trace",
            Self::Span => "span",
        };
        field.with_metadata(HashMap::from([(ID_KIND.to_string(), name.to_string())]))
    }
}

/// The columns of `spans`, in the order of `SELECT *`.
pub fn logical_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(fields())));
    Arc::clone(&SCHEMA)
}

fn fields() -> Vec<Field> {
    use DataType::{Boolean, Float64, Int64, UInt32, Utf8View};
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    let optional = |name: &str, data_type| Field::new(name, data_type, true);
    let time = |unit| DataType::Timestamp(unit, Some("UTC".into()));
    let list = |fields| DataType::List(Arc::new(Field::new("element", fields, false)));
    vec![
        IdKind::Trace.mark(required("trace_id", Utf8View)),
        IdKind::Span.mark(required("span_id", Utf8View)),
        IdKind::Span.mark(optional("parent_span_id", Utf8View)),
        optional("trace_state", Utf8View),
        optional("flags", UInt32),
        required("name", Utf8View),
        required("kind", Utf8View),
        required("start_time", time(TimeUnit::Nanosecond)),
        optional("end_time", time(TimeUnit::Nanosecond)),
        optional("duration_nano", Int64),
        optional("duration_ms", Float64),
        required("status_code", Utf8View),
        optional("status_message", Utf8View),
        optional("service_name", Utf8View),
        optional("service_namespace", Utf8View),
        optional("service_version", Utf8View),
        optional("service_instance_id", Utf8View),
        optional("deployment_environment", Utf8View),
        optional("resource_attributes", Utf8View),
        optional("scope_name", Utf8View),
        optional("scope_version", Utf8View),
        optional("scope_attributes", Utf8View),
        optional("attributes", Utf8View),
        optional("events", list(DataType::Struct(logical_event_fields()))),
        optional("links", list(DataType::Struct(logical_link_fields()))),
        optional("dropped_attributes_count", UInt32),
        optional("dropped_events_count", UInt32),
        optional("dropped_links_count", UInt32),
        optional("schema_url", Utf8View),
        optional("resource_schema_url", Utf8View),
        optional("resource_dropped_attributes_count", UInt32),
        optional("scope_dropped_attributes_count", UInt32),
        required("is_root", Boolean),
        required("has_error", Boolean),
        optional("ingested_at", time(TimeUnit::Microsecond)),
    ]
}

/// The fields of an event as SQL sees them.
pub(crate) fn logical_event_fields() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    Fields::from(vec![
        Field::new("time", time, false),
        Field::new("name", DataType::Utf8View, false),
        Field::new("attributes", DataType::Utf8View, true),
        Field::new("dropped_attributes_count", DataType::UInt32, true),
    ])
}

/// The fields of a link as SQL sees them.
pub(crate) fn logical_link_fields() -> Fields {
    Fields::from(vec![
        IdKind::Trace.mark(Field::new("trace_id", DataType::Utf8View, false)),
        IdKind::Span.mark(Field::new("span_id", DataType::Utf8View, false)),
        Field::new("trace_state", DataType::Utf8View, true),
        Field::new("attributes", DataType::Utf8View, true),
        Field::new("flags", DataType::UInt32, true),
        Field::new("dropped_attributes_count", DataType::UInt32, true),
    ])
}
