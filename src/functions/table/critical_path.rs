//! `critical_path`: what a trace waited for, moment by moment.
//!
//! Read [`FUNCTION`]; the definition is [`CriticalPath`]'s.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{MAX_CLOCK_SKEW, Parameter};
use super::one_trace::OneTraceFunc;
use super::span_columns::{nano_time, picked, time_type};
use crate::error::Result;
use crate::span::IdKind;
use crate::trace::{CriticalPath, Trace};

/// `critical_path(trace_id [, max_clock_skew])`.
pub(super) const FUNCTION: OneTraceFunc = OneTraceFunc {
    name: "critical_path",
    documentation,
    parameters: &[Parameter::Trace, Parameter::Duration("max_clock_skew")],
    schema,
    rows: sections,
};

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Float64, Int64, Utf8View};
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        Arc::new(Schema::new(vec![
            IdKind::Trace.mark(required("trace_id", Utf8View)),
            IdKind::Span.mark(required("root_span_id", Utf8View)),
            required("section_order", Int64),
            IdKind::Span.mark(required("span_id", Utf8View)),
            Field::new("service_name", Utf8View, true),
            required("name", Utf8View),
            required("start_time", time_type()),
            required("end_time", time_type()),
            required("duration_nano", Int64),
            required("share", Float64),
        ]))
    });
    Arc::clone(&SCHEMA)
}

fn sections(trace: &Trace) -> Result<RecordBatch> {
    let forest = trace.forest();
    let path = CriticalPath::new(&trace.columns(), forest);
    let sections = path.sections();
    // What each tree's path takes together; sections without length are left out of it.
    let mut totals: HashMap<u32, i64> = HashMap::new();
    for section in sections {
        let total = totals.entry(section.top).or_default();
        *total = total.saturating_add(section.duration_nano());
    }
    let tops = sections.iter().map(|section| section.top);
    let tops: Vec<u32> = tops.map(|top| forest.rows()[top as usize]).collect();
    let nodes = sections.iter().map(|section| section.node);
    let rows: Vec<u32> = nodes.map(|node| forest.rows()[node as usize]).collect();
    let mut orders: Vec<i64> = Vec::with_capacity(sections.len());
    for (index, section) in sections.iter().enumerate() {
        let follows = index > 0 && sections[index - 1].top == section.top;
        let before = if follows { orders[index - 1] + 1 } else { 0 };
        orders.push(before);
    }
    let durations = sections.iter().map(|section| section.duration_nano());
    let shares = sections.iter().map(|section| {
        let total = totals.get(&section.top).copied().unwrap_or(0);
        section.duration_nano() as f64 / (total.max(1)) as f64
    });
    let columns: Vec<ArrayRef> = vec![
        picked(trace, "trace_id", &rows)?,
        picked(trace, "span_id", &tops)?,
        Arc::new(Int64Array::from_iter_values(orders)),
        picked(trace, "span_id", &rows)?,
        picked(trace, "service_name", &rows)?,
        picked(trace, "name", &rows)?,
        nano_time(sections.iter().map(|section| Some(section.start))),
        nano_time(sections.iter().map(|section| Some(section.end))),
        Arc::new(Int64Array::from_iter_values(durations)),
        Arc::new(Float64Array::from_iter_values(shares)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn documentation() -> Documentation {
    Documentation::builder(
        DocSection::default(),
        "What a trace waited for, from its start to its end: the sections of its critical path \
         in the order of time, each with the span waited for, its length and its `share` of \
         the whole path. By the rules of Jaeger UI; children that outlive their parent count \
         to its end. A trace of several roots has a path for each, told apart by \
         `root_span_id`.",
        "critical_path(trace_id [, max_clock_skew])",
    )
    .with_sql_example(
        "select service_name, name, duration_nano, round(share, 2) as share\n\
         from critical_path('5b1e7f00c0ffee00a11ce00000000001');\n\
         +--------------+-------------------+---------------+-------+\n\
         | service_name | name              | duration_nano | share |\n\
         +--------------+-------------------+---------------+-------+\n\
         | library      | POST /loans       | 2000000       | 0.03  |\n\
         | library      | GET               | 2000000       | 0.03  |\n\
         | catalog      | GET /books/{isbn} | 4000000       | 0.07  |\n\
         | catalog      | SELECT books      | 21500000      | 0.37  |\n\
         | catalog      | GET /books/{isbn} | 4500000       | 0.08  |\n\
         | library      | GET               | 2000000       | 0.03  |\n\
         | library      | POST /loans       | 9000000       | 0.16  |\n\
         | library      | send loans        | 6000000       | 0.1   |\n\
         | library      | POST /loans       | 7000000       | 0.12  |\n\
         +--------------+-------------------+---------------+-------+",
    )
    .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
    .with_argument("max_clock_skew", MAX_CLOCK_SKEW)
    .build()
}
