//! `trace_tree`: a trace, drawn: one line a span.
//!
//! Read [`FUNCTION`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{MAX_CLOCK_SKEW, Parameter};
use super::one_trace::OneTraceFunc;
use super::span_columns::picked;
use crate::error::Result;
use crate::span::IdKind;
use crate::trace::{Trace, Waterfall};

/// The width a drawing is laid out for.
const WIDTH: usize = 100;

/// `trace_tree(trace_id [, max_clock_skew])`.
pub(super) const FUNCTION: OneTraceFunc = OneTraceFunc {
    name: "trace_tree",
    documentation,
    parameters: &[Parameter::Trace, Parameter::Duration("max_clock_skew")],
    schema,
    rows: drawing,
};

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Boolean, Int64, Utf8View};
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        Arc::new(Schema::new(vec![
            required("tree", Utf8View),
            required("waterfall", Utf8View),
            Field::new("service_name", Utf8View, true),
            required("duration", Utf8View),
            required("has_error", Boolean),
            required("on_critical_path", Boolean),
            required("depth", Int64),
            IdKind::Span.mark(required("span_id", Utf8View)),
        ]))
    });
    Arc::clone(&SCHEMA)
}

fn drawing(trace: &Trace) -> Result<RecordBatch> {
    let (forest, columns) = (trace.forest(), trace.columns());
    let on_path = trace.on_critical_path();
    let waterfall = Waterfall::new(WIDTH).with_critical_path(on_path.clone());
    let drawn = waterfall.spans(&trace.tree()?);
    let texts = |texts: Vec<&str>| -> ArrayRef { Arc::new(StringViewArray::from(texts)) };
    let rows = forest.rows();
    let has_error = rows.iter().map(|row| columns.has_error(*row as usize));
    let depths = forest.depths().iter().map(|depth| i64::from(*depth));
    let columns: Vec<ArrayRef> = vec![
        texts(drawn.iter().map(|span| span.label.as_str()).collect()),
        texts(drawn.iter().map(|span| span.bar.as_str()).collect()),
        picked(trace, "service_name", rows)?,
        texts(drawn.iter().map(|span| span.duration.as_str()).collect()),
        Arc::new(BooleanArray::from(has_error.collect::<Vec<_>>())),
        Arc::new(BooleanArray::from(on_path)),
        Arc::new(Int64Array::from_iter_values(depths)),
        picked(trace, "span_id", rows)?,
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn documentation() -> Documentation {
    Documentation::builder(
        DocSection::default(),
        "A trace as a drawing, one line a span in tree order: the tree, a bar for when it ran, \
         its service and duration. Marks before a name: `✗` an error, `?` a parent that is not \
         in the trace, `↺` a broken cycle, `•` on the critical path.",
        "trace_tree(trace_id [, max_clock_skew])",
    )
    .with_sql_example(
        "select tree, service_name, duration, waterfall\n\
         from trace_tree('5b1e7f00c0ffee00a11ce00000000001');\n\
         +---------------------------+--------------+----------+-------------------------------------+\n\
         | tree                      | service_name | duration | waterfall                           |\n\
         +---------------------------+--------------+----------+-------------------------------------+\n\
         | • POST /loans             | library      | 58.0 ms  | ███████████████████████████████████ |\n\
         | ├─ • GET                  | library      | 34.0 ms  |  ████████████████████▊              |\n\
         | │  └─ • GET /books/{isbn} | catalog      | 30.0 ms  |   ██████████████████▌               |\n\
         | │     └─ • SELECT books   | catalog      | 21.5 ms  |     ▐████████████▊                  |\n\
         | └─ • send loans           | library      | 6.00 ms  |                            ███▊     |\n\
         +---------------------------+--------------+----------+-------------------------------------+",
    )
    .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
    .with_argument("max_clock_skew", MAX_CLOCK_SKEW)
    .build()
}
