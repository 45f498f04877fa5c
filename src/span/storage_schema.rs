//! How a span lies on disk: the columns of a Parquet file, in order.
//!
//! Read [`storage_schema`]; names are constants in [`column`]. How a column is encoded is the
//! writer's business, how SQL sees it that of `logical_schema.rs`.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// The names of the stored columns. Where SQL shows the same thing it has the same name, but
/// for the two that carry their unit.
#[allow(missing_docs)]
pub mod column {
    pub const TRACE_ID: &str = "trace_id";
    pub const SPAN_ID: &str = "span_id";
    pub const PARENT_SPAN_ID: &str = "parent_span_id";
    pub const TRACE_STATE: &str = "trace_state";
    pub const FLAGS: &str = "flags";
    pub const NAME: &str = "name";
    pub const KIND: &str = "kind";
    pub const START_TIME_UNIX_NANO: &str = "start_time_unix_nano";
    pub const DURATION_NANO: &str = "duration_nano";
    pub const STATUS_CODE: &str = "status_code";
    pub const STATUS_MESSAGE: &str = "status_message";
    pub const SERVICE_NAME: &str = "service_name";
    pub const SERVICE_NAMESPACE: &str = "service_namespace";
    pub const SERVICE_VERSION: &str = "service_version";
    pub const SERVICE_INSTANCE_ID: &str = "service_instance_id";
    pub const DEPLOYMENT_ENVIRONMENT: &str = "deployment_environment";
    pub const RESOURCE_ATTRIBUTES: &str = "resource_attributes";
    pub const SCOPE_NAME: &str = "scope_name";
    pub const SCOPE_VERSION: &str = "scope_version";
    pub const SCOPE_ATTRIBUTES: &str = "scope_attributes";
    pub const ATTRIBUTES: &str = "attributes";
    pub const EVENTS: &str = "events";
    pub const LINKS: &str = "links";
    pub const DROPPED_ATTRIBUTES_COUNT: &str = "dropped_attributes_count";
    pub const DROPPED_EVENTS_COUNT: &str = "dropped_events_count";
    pub const DROPPED_LINKS_COUNT: &str = "dropped_links_count";
    pub const SCHEMA_URL: &str = "schema_url";
    pub const RESOURCE_SCHEMA_URL: &str = "resource_schema_url";
    pub const RESOURCE_DROPPED_ATTRIBUTES_COUNT: &str = "resource_dropped_attributes_count";
    pub const SCOPE_DROPPED_ATTRIBUTES_COUNT: &str = "scope_dropped_attributes_count";
    pub const INGESTED_AT: &str = "ingested_at";
    pub const PARENT_OFFSET: &str = "parent_offset";
    /// Only in files that have columns of attributes, which are called as
    /// [`AttributeColumn`](super::super::AttributeColumn) says: where the order of a row's
    /// attributes is not that of the columns.
    pub const ATTRIBUTES_ORDER: &str = "attributes#order";
}

/// What stands before a stored column's name where plans name it beside the logical ones.
pub(crate) const STORED_PREFIX: &str = "stored.";

/// The name under which plans read a stored column as it is.
pub(crate) fn stored_name(name: &str) -> String {
    format!("{STORED_PREFIX}{name}")
}

/// Up to so many rows of a trace in one file, `parent_offset` leads to every parent that is in the
/// file. Of longer traces some are NULL though the parent is there.
pub const OFFSET_TRACE_ROWS: usize = 1 << 18;

/// The columns that hold what a producer sent, as [`super::SpanBatchBuilder`] makes them.
///
/// Counts are INT64 because the open table format has no unsigned integers. Texts are views in
/// memory, so that sorting a batch moves 16 bytes a value; on disk they are plain UTF-8.
pub(super) fn decoded_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(decoded_fields())));
    Arc::clone(&SCHEMA)
}

/// All columns of a file: the decoded ones, then those the writer adds.
///
/// `ingested_at` is when the row was committed. `parent_offset` is the number of rows from a
/// span to its parent in the same file, NULL where the parent is not in it (or there is none).
pub fn storage_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = decoded_fields();
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        fields.push(Field::new(column::INGESTED_AT, micros, true));
        fields.push(Field::new(column::PARENT_OFFSET, DataType::Int32, true));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

fn decoded_fields() -> Vec<Field> {
    use DataType::{FixedSizeBinary, Int8, Int64, List, Struct, Utf8View};
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    let optional = |name: &str, data_type| Field::new(name, data_type, true);
    let list = |fields: Fields| List(Arc::new(Field::new("element", Struct(fields), false)));
    vec![
        required(column::TRACE_ID, FixedSizeBinary(16)),
        required(column::SPAN_ID, FixedSizeBinary(8)),
        optional(column::PARENT_SPAN_ID, FixedSizeBinary(8)),
        optional(column::TRACE_STATE, Utf8View),
        optional(column::FLAGS, Int64),
        required(column::NAME, Utf8View),
        required(column::KIND, Int8),
        required(column::START_TIME_UNIX_NANO, Int64),
        optional(column::DURATION_NANO, Int64),
        required(column::STATUS_CODE, Int8),
        optional(column::STATUS_MESSAGE, Utf8View),
        optional(column::SERVICE_NAME, Utf8View),
        optional(column::SERVICE_NAMESPACE, Utf8View),
        optional(column::SERVICE_VERSION, Utf8View),
        optional(column::SERVICE_INSTANCE_ID, Utf8View),
        optional(column::DEPLOYMENT_ENVIRONMENT, Utf8View),
        optional(column::RESOURCE_ATTRIBUTES, Utf8View),
        optional(column::SCOPE_NAME, Utf8View),
        optional(column::SCOPE_VERSION, Utf8View),
        optional(column::SCOPE_ATTRIBUTES, Utf8View),
        optional(column::ATTRIBUTES, Utf8View),
        optional(column::EVENTS, list(event_fields())),
        optional(column::LINKS, list(link_fields())),
        optional(column::DROPPED_ATTRIBUTES_COUNT, Int64),
        optional(column::DROPPED_EVENTS_COUNT, Int64),
        optional(column::DROPPED_LINKS_COUNT, Int64),
        optional(column::SCHEMA_URL, Utf8View),
        optional(column::RESOURCE_SCHEMA_URL, Utf8View),
        optional(column::RESOURCE_DROPPED_ATTRIBUTES_COUNT, Int64),
        optional(column::SCOPE_DROPPED_ATTRIBUTES_COUNT, Int64),
    ]
}

/// The stored fields of an event.
pub(super) fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time_unix_nano", DataType::Int64, false),
        Field::new("name", DataType::Utf8View, false),
        Field::new("attributes", DataType::Utf8View, true),
        Field::new("dropped_attributes_count", DataType::Int64, true),
    ])
}

/// The stored fields of a link.
pub(super) fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::FixedSizeBinary(16), false),
        Field::new("span_id", DataType::FixedSizeBinary(8), false),
        Field::new("trace_state", DataType::Utf8View, true),
        Field::new("attributes", DataType::Utf8View, true),
        Field::new("flags", DataType::Int64, true),
        Field::new("dropped_attributes_count", DataType::Int64, true),
    ])
}
