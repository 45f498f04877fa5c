//! Rows of `spans` picked from a trace, with what a function adds to them.
//!
//! Read [`spans_with`] and [`span_rows`].

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{take, take_arrays};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::Result;
use crate::span::logical_schema;
use crate::trace::Trace;

/// All columns of `spans`, then these.
pub(super) fn spans_with(fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let spans = logical_schema();
    let mut all: Vec<Arc<Field>> = spans.fields().iter().cloned().collect();
    all.extend(fields.into_iter().map(Arc::new));
    Arc::new(Schema::new(all))
}

/// The spans at these nodes, in this order, and the columns that were added.
pub(super) fn span_rows(
    trace: &Trace,
    nodes: &[usize],
    added: Vec<ArrayRef>,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let rows = nodes.iter().map(|node| trace.forest().rows()[*node]);
    let rows = UInt32Array::from_iter_values(rows);
    let mut columns = take_arrays(trace.rows().columns(), &rows, None)?;
    columns.extend(added);
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// A column of `spans` at these rows of a trace.
pub(super) fn picked(trace: &Trace, column: &str, rows: &[u32]) -> Result<ArrayRef> {
    let rows = UInt32Array::from_iter_values(rows.iter().copied());
    Ok(take(&trace.rows()[column], &rows, None)?)
}

/// A column of `spans` at these rows of a trace, NULL where there is no row.
pub(super) fn picked_options(
    trace: &Trace,
    column: &str,
    rows: &[Option<u32>],
) -> Result<ArrayRef> {
    let rows: UInt32Array = rows.iter().copied().collect();
    Ok(take(&trace.rows()[column], &rows, None)?)
}

/// The type of `start_time`.
pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Nanoseconds since the epoch as times.
pub(super) fn nano_time(nanos: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let times: TimestampNanosecondArray = nanos.collect();
    Arc::new(times.with_timezone("UTC"))
}
