//! `trace_diff`: two traces side by side.
//!
//! Read [`TraceDiffFunc`]; what matches what says [`diff`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{Arguments, Parameter};
use super::span_columns::picked_options;
use super::trace_function::TraceFunction;
use super::trace_reader::TraceReader;
use crate::error::Result;
use crate::span::IdKind;
use crate::trace::{DiffEntry, Trace, TraceBuffer, diff};

/// `trace_diff(left_trace_id, right_trace_id)`.
#[derive(Debug)]
pub(super) struct TraceDiffFunc;

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Int64, Utf8View};
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            required("status", Utf8View),
            required("depth", Int64),
            optional("service_name", Utf8View),
            required("name", Utf8View),
            IdKind::Span.mark(optional("left_span_id", Utf8View)),
            IdKind::Span.mark(optional("right_span_id", Utf8View)),
            optional("left_offset_nano", Int64),
            optional("right_offset_nano", Int64),
            optional("left_duration_nano", Int64),
            optional("right_duration_nano", Int64),
            optional("duration_change_nano", Int64),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// One trace of the two, at the places of the comparison.
struct Side<'a> {
    trace: &'a Trace,
    /// The row at each place.
    rows: Vec<Option<u32>>,
    start: i64,
}

impl<'a> Side<'a> {
    fn new(trace: &'a Trace, nodes: impl Iterator<Item = Option<u32>>) -> Self {
        let row = |node: u32| trace.forest().rows()[node as usize];
        let starts = trace.columns().start_time_unix_nano.iter();
        Self {
            trace,
            rows: nodes.map(|node| node.map(row)).collect(),
            start: starts.copied().min().unwrap_or(0),
        }
    }

    /// Starts, from that of the trace.
    fn offsets(&self) -> ArrayRef {
        let columns = self.trace.columns();
        let offset = |row: u32| columns.start(row as usize).saturating_sub(self.start);
        let offsets = self.rows.iter().map(|row| row.map(offset));
        Arc::new(offsets.collect::<Int64Array>())
    }

    fn duration(&self, place: usize) -> Option<i64> {
        self.trace.columns().duration(self.rows[place]? as usize)
    }

    fn texts(&self, place: usize) -> Option<(&'a str, &'a str)> {
        let (trace, columns) = (self.trace, self.trace.columns());
        let row = self.rows[place]? as usize;
        let service = trace.service_name(columns.service(row));
        Some((service, trace.name(columns.name(row))))
    }
}

fn comparison(left: &Trace, right: &Trace) -> Result<RecordBatch> {
    // Services and names of both must have the same numbers.
    let mut right_buffer = TraceBuffer::default();
    left.push_spans(&mut right_buffer)?;
    let left_buffer = right_buffer.clone();
    right_buffer.clear();
    right.push_spans(&mut right_buffer)?;
    let entries = diff(
        (&left_buffer.columns(), left.forest()),
        (&right_buffer.columns(), right.forest()),
    );
    let left = Side::new(left, entries.iter().map(|entry| entry.left));
    let right = Side::new(right, entries.iter().map(|entry| entry.right));
    let places = 0..entries.len();
    let status = |entry: &DiffEntry| match (entry.left, entry.right) {
        (Some(_), Some(_)) => "matched",
        (Some(_), None) => "missing",
        (None, _) => "extra",
    };
    let texts = places
        .clone()
        .map(|place| left.texts(place).or(right.texts(place)));
    let (services, names): (Vec<_>, Vec<_>) = texts.map(Option::unwrap_or_default).unzip();
    let services = services
        .into_iter()
        .map(|name| (!name.is_empty()).then_some(name));
    let changes = places.map(|place| {
        let (left, right) = (left.duration(place)?, right.duration(place)?);
        Some(right.saturating_sub(left))
    });
    let depths = entries.iter().map(|entry| i64::from(entry.depth));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(
            entries.iter().map(status),
        )),
        Arc::new(Int64Array::from_iter_values(depths)),
        Arc::new(services.collect::<StringViewArray>()),
        Arc::new(StringViewArray::from(names)),
        picked_options(left.trace, "span_id", &left.rows)?,
        picked_options(right.trace, "span_id", &right.rows)?,
        left.offsets(),
        right.offsets(),
        picked_options(left.trace, "duration_nano", &left.rows)?,
        picked_options(right.trace, "duration_nano", &right.rows)?,
        Arc::new(changes.collect::<Int64Array>()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

#[async_trait]
impl TraceFunction for TraceDiffFunc {
    fn name(&self) -> &'static str {
        "trace_diff"
    }

    fn documentation(&self) -> Documentation {
        Documentation::builder(
            DocSection::default(),
            "Two traces side by side, in tree order: spans of both by their path (services, names \
             and places among siblings alike), which are `matched`, and spans that are `missing` \
             on the right or `extra` there. Offsets are from the start of the trace; a change is \
             the right duration less the left one. No rows where either trace is not there.",
            "trace_diff(left_trace_id, right_trace_id)",
        )
        .with_sql_example(
            "select status, depth, name, duration_change_nano\n\
             from trace_diff('5b1e7f00c0ffee00a11ce00000000001', \
             '5b1e7f00c0ffee00a11ce00000000001')\n\
             limit 2;\n\
             +---------+-------+-------------+----------------------+\n\
             | status  | depth | name        | duration_change_nano |\n\
             +---------+-------+-------------+----------------------+\n\
             | matched | 0     | POST /loans | 0                    |\n\
             | matched | 1     | GET         | 0                    |\n\
             +---------+-------+-------------+----------------------+",
        )
        .with_argument("left_trace_id", "A trace's id: 32 hex digits, or 16.")
        .with_argument("right_trace_id", "The id of the trace to compare with it.")
        .build()
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::Trace, Parameter::Trace]
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn rows(&self, reader: &dyn TraceReader, arguments: &Arguments) -> Result<RecordBatch> {
        match &reader.traces(&arguments.trace_ids).await?[..] {
            [Some(left), Some(right)] => comparison(left, right),
            _ => Ok(RecordBatch::new_empty(schema())),
        }
    }
}
