//! `trace_stats`: a trace in one row.
//!
//! Read [`FUNCTION`]; the figures are those of [`TraceSummary`].

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::Parameter;
use super::one_trace::OneTraceFunc;
use super::span_columns::{nano_time, picked_options, time_type};
use crate::error::Result;
use crate::span::IdKind;
use crate::trace::{ServiceSet, Trace, TraceSummary};

/// `trace_stats(trace_id)`.
pub(super) const FUNCTION: OneTraceFunc = OneTraceFunc {
    name: "trace_stats",
    documentation,
    parameters: &[Parameter::Trace],
    schema,
    rows: stats,
};

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Boolean, Float64, Int64, Utf8View};
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            IdKind::Trace.mark(required("trace_id", Utf8View)),
            optional("root_service", Utf8View),
            optional("root_name", Utf8View),
            required("start_time", time_type()),
            required("end_time", time_type()),
            required("duration_nano", Int64),
            required("duration_ms", Float64),
            required("span_count", Int64),
            required("service_count", Int64),
            required("error_count", Int64),
            required("max_depth", Int64),
            required("has_root", Boolean),
            required("root_count", Int64),
            required("orphan_count", Int64),
            required("cycle_count", Int64),
            required("copy_count", Int64),
            required("is_complete", Boolean),
            IdKind::Span.mark(optional("slowest_span_id", Utf8View)),
            optional("slowest_service", Utf8View),
            optional("slowest_name", Utf8View),
            optional("slowest_duration_nano", Int64),
            optional("first_ingested_at", micros.clone()),
            optional("last_ingested_at", micros),
        ]))
    });
    Arc::clone(&SCHEMA)
}

fn stats(trace: &Trace) -> Result<RecordBatch> {
    let forest = trace.forest();
    let columns = trace.columns();
    let summary = TraceSummary::new(&columns, forest, &mut ServiceSet::default());
    let row_of = |node: Option<u32>| node.map(|node| forest.rows()[node as usize]);
    let (root, slowest) = (row_of(summary.root), row_of(summary.slowest));
    let number = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
    let flag = |flag: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![flag])) };
    let first_row = (trace.span_count() > 0).then_some(0);
    let ingested = trace.rows()["ingested_at"].as_primitive::<TimestampMicrosecondType>();
    let micros = |micros: Option<i64>| -> ArrayRef {
        let times = TimestampMicrosecondArray::from(vec![micros]);
        Arc::new(times.with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        picked_options(trace, "trace_id", &[first_row])?,
        picked_options(trace, "service_name", &[root])?,
        picked_options(trace, "name", &[root])?,
        nano_time([Some(summary.start_time_unix_nano)].into_iter()),
        nano_time([Some(summary.end_time_unix_nano)].into_iter()),
        number(summary.duration_nano()),
        Arc::new(Float64Array::from(vec![
            summary.duration_nano() as f64 / 1e6,
        ])),
        number(summary.span_count.into()),
        number(summary.service_count.into()),
        number(summary.error_count.into()),
        number(summary.max_depth.into()),
        flag(summary.root.is_some()),
        number(summary.root_count.into()),
        number(summary.orphan_count.into()),
        number(summary.cycle_count.into()),
        number(trace.copy_count() as i64),
        flag(summary.is_complete()),
        picked_options(trace, "span_id", &[slowest])?,
        picked_options(trace, "service_name", &[slowest])?,
        picked_options(trace, "name", &[slowest])?,
        picked_options(trace, "duration_nano", &[slowest])?,
        micros(min(ingested)),
        micros(max(ingested)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn documentation() -> Documentation {
    Documentation::builder(
        DocSection::default(),
        "A trace in one row: root, start, end and duration; spans, services, errors and depth; \
         what is odd (roots, orphans, cycles, copies left out) and whether it is complete, \
         that is, has one root and no orphan; its slowest span; when it was taken in.",
        "trace_stats(trace_id)",
    )
    .with_sql_example(
        "select root_service, span_count, service_count, error_count, is_complete\n\
         from trace_stats('5b1e7f00c0ffee00a11ce00000000001');\n\
         +--------------+------------+---------------+-------------+-------------+\n\
         | root_service | span_count | service_count | error_count | is_complete |\n\
         +--------------+------------+---------------+-------------+-------------+\n\
         | library      | 5          | 2             | 0           | true        |\n\
         +--------------+------------+---------------+-------------+-------------+",
    )
    .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
    .build()
}
