//! The order of rows in a file, and the parents that it puts near their children.
//!
//! Read [`sorted_rows`] and [`ParentOffsets`]. Both are pure.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::Hour;
use crate::error::{Error, Result};
use crate::span::column;

/// The columns of a batch by which its rows are ordered.
#[derive(Debug, Clone)]
pub(super) struct KeyColumns {
    trace_id: FixedSizeBinaryArray,
    span_id: FixedSizeBinaryArray,
    parent_span_id: FixedSizeBinaryArray,
    start: Int64Array,
}

/// Where a row stands in a file: its trace, its start, its span id.
pub(super) type RowKey = (u128, i64, u64);

impl KeyColumns {
    pub(super) fn try_new(batch: &RecordBatch) -> Result<Self> {
        Ok(Self {
            trace_id: ids(batch, column::TRACE_ID, 16)?,
            span_id: ids(batch, column::SPAN_ID, 8)?,
            parent_span_id: ids(batch, column::PARENT_SPAN_ID, 8)?,
            start: numbers(batch, column::START_TIME_UNIX_NANO)?,
        })
    }

    /// The number, big-endian, that the trace id of a row is.
    pub(super) fn trace(&self, row: usize) -> u128 {
        // The width was checked; the default is never taken.
        u128::from_be_bytes(self.trace_id.value(row).try_into().unwrap_or_default())
    }

    pub(super) fn span(&self, row: usize) -> u64 {
        u64::from_be_bytes(self.span_id.value(row).try_into().unwrap_or_default())
    }

    pub(super) fn parent(&self, row: usize) -> Option<u64> {
        let valid = self.parent_span_id.is_valid(row);
        valid.then(|| {
            u64::from_be_bytes(
                self.parent_span_id
                    .value(row)
                    .try_into()
                    .unwrap_or_default(),
            )
        })
    }

    pub(super) fn start(&self, row: usize) -> i64 {
        self.start.value(row)
    }

    pub(super) fn key(&self, row: usize) -> RowKey {
        (self.trace(row), self.start(row), self.span(row))
    }
}

/// A column of ids; an error where the batch does not have it or it has another width.
fn ids(batch: &RecordBatch, name: &str, width: i32) -> Result<FixedSizeBinaryArray> {
    let column = batch.column_by_name(name);
    let ids = column.and_then(|column| column.as_fixed_size_binary_opt());
    let ids = ids.filter(|ids| ids.value_length() == width);
    ids.cloned().ok_or_else(|| wrong_column(name))
}

/// A column of 64-bit numbers.
pub(super) fn numbers(batch: &RecordBatch, name: &str) -> Result<Int64Array> {
    let column = batch.column_by_name(name);
    let numbers = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
    numbers.cloned().ok_or_else(|| wrong_column(name))
}

fn wrong_column(name: &str) -> Error {
    Error::internal(format!(
        "a batch of spans lacks a column or has it in another type; column=`{name}`"
    ))
}

/// The rows of one hour in the order of a file: by trace id, start, span id, then as they came.
pub(super) struct HourRows {
    pub(super) hour: Hour,
    pub(super) rows: Vec<u32>,
    pub(super) trace_count: u64,
}

/// The rows of a batch, hour by hour, each in the order of a file.
pub(super) fn sorted_rows(keys: &KeyColumns, row_count: usize) -> Result<Vec<HourRows>> {
    if u32::try_from(row_count).is_err() {
        return Err(Error::invalid_input(
            "a batch holds more spans than can be written at once; write it in parts",
        ));
    }
    let mut order: Vec<(i32, RowKey, u32)> = (0..row_count)
        .map(|row| {
            let key = keys.key(row);
            (Hour::of_nano(key.1).0, key, row as u32)
        })
        .collect();
    order.sort_unstable();
    let hours = order.chunk_by(|a, b| a.0 == b.0).map(|rows| HourRows {
        hour: Hour(rows[0].0),
        rows: rows.iter().map(|(_, _, row)| *row).collect(),
        trace_count: 1 + rows
            .windows(2)
            .filter(|pair| pair[0].1.0 != pair[1].1.0)
            .count() as u64,
    });
    Ok(hours.collect())
}

/// Finds how many rows lie between each span of a trace and its parent.
///
/// The parent is the first row of the trace, in the order of the file, whose span id is the
/// parent id; so a span that names itself has the offset 0 if it is the first of that id. The
/// offset is the parent's row minus the span's: mostly negative, since parents start first.
#[derive(Debug, Default)]
pub(super) struct ParentOffsets {
    first_rows: HashMap<u64, usize>,
}

/// Up to how many spans a trace is searched one by one rather than by a map.
const SMALL_TRACE: usize = 24;

impl ParentOffsets {
    /// Appends the offset of each row of one trace; `rows` are consecutive in the file.
    pub(super) fn extend(
        &mut self,
        rows: Range<usize>,
        span: impl Fn(usize) -> u64,
        parent: impl Fn(usize) -> Option<u64>,
        offsets: &mut Vec<Option<i32>>,
    ) {
        let offset = |row: usize, at: usize| i32::try_from(at as i64 - row as i64).ok();
        if rows.len() <= SMALL_TRACE {
            offsets.extend(rows.clone().map(|row| {
                let parent = parent(row)?;
                let at = rows.clone().find(|at| span(*at) == parent)?;
                offset(row, at)
            }));
            return;
        }
        self.first_rows.clear();
        for row in rows.clone() {
            self.first_rows.entry(span(row)).or_insert(row);
        }
        offsets.extend(rows.map(|row| {
            let at = self.first_rows.get(&parent(row)?)?;
            offset(row, *at)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(spans: &[(u64, Option<u64>)]) -> Vec<Option<i32>> {
        let mut offsets = Vec::new();
        let rows = 0..spans.len();
        ParentOffsets::default().extend(rows, |row| spans[row].0, |row| spans[row].1, &mut offsets);
        offsets
    }

    #[test]
    fn the_parent_is_the_first_row_of_its_id() {
        let spans = [
            (1, None),
            (2, Some(1)),
            (2, Some(1)),
            (3, Some(2)),
            (4, Some(5)),
            (5, Some(9)),
            (6, Some(6)),
        ];
        let expected = vec![None, Some(-1), Some(-2), Some(-2), Some(1), None, Some(0)];
        assert_eq!(offsets(&spans), expected);
    }

    #[test]
    fn large_traces_get_the_same_offsets_as_small_ones() {
        let spans: Vec<_> = (0..200u64).map(|id| (id % 150, Some(id / 2))).collect();
        let naive: Vec<_> = (0..200i32)
            .map(|row| {
                let parent = spans[row as usize].1.unwrap();
                let at = spans.iter().position(|(id, _)| *id == parent);
                at.map(|at| at as i32 - row)
            })
            .collect();
        assert_eq!(offsets(&spans), naive);
    }
}
