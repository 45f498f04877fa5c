//! One trace: its spans as rows of `spans`, the columns its tree is computed from, and the tree.
//!
//! Read [`Trace`]. Where its rows came from is not known here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, StringViewArray, StructArray, UInt32Array,
};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType, TimestampNanosecondType};

use super::{CriticalPath, Forest, SpanRow, TraceBuffer, TraceColumns, TraceSpan, TraceTree};
use crate::error::{Error, Result};
use crate::span::{SpanId, SpanKind, StatusCode, TraceId, logical_schema};

/// The most bytes of text that one buffer of a column takes; offsets into it have 32 bits.
const BUFFER_BYTES: usize = 1 << 30;

/// Rough bytes of a span beside its row: its columns and its node.
const NODE_BYTES: usize = 128;

/// The spans of one trace, read whole. Spans alike in id, kind, start, duration and name are
/// copies, of which the one taken in first is here; see [`Forest`].
#[derive(Debug)]
pub struct Trace {
    id: TraceId,
    rows: RecordBatch,
    columns: TraceBuffer,
    forest: Forest,
    copy_count: usize,
}

impl Trace {
    /// The trace of these rows, which have the columns of `spans` and are all taken to be of
    /// trace `id`, in any order. Of copies ingested at the same time the one given first is kept.
    ///
    /// The rows are copied: nothing of the batches is held.
    pub fn try_new(id: TraceId, batches: &[RecordBatch]) -> Result<Self> {
        let given = match batches {
            [one] => one.clone(),
            several => concat_batches(&logical_schema(), several)?,
        };
        let order = row_order(&given)?;
        let mut rows = take_record_batch(&given, &UInt32Array::from(order))?;
        let mut columns = columns_of(&rows)?;
        let mut forest = Forest::new(&columns.columns());
        let copy_count = forest.copies().len();
        if copy_count > 0 {
            let mut copies = forest.copies().iter().peekable();
            let kept: UInt32Array = (0..row_number(rows.num_rows())?)
                .filter(|row| copies.next_if_eq(&row).is_none())
                .collect();
            rows = take_record_batch(&rows, &kept)?;
            columns = columns_of(&rows)?;
            forest.rebuild(&columns.columns());
        }
        let compact = rows.columns().iter().map(compacted);
        let compact = compact.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            id,
            rows: RecordBatch::try_new(rows.schema(), compact)?,
            columns,
            forest,
            copy_count,
        })
    }

    /// The same trace with other values in the columns of its rows, which are no copies of one
    /// another.
    pub(super) fn with_rows(&self, rows: RecordBatch) -> Result<Self> {
        let trace = Self::try_new(self.id, &[rows])?;
        Ok(Self {
            copy_count: self.copy_count + trace.copy_count,
            ..trace
        })
    }

    /// The trace's id.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// Its spans in the order of start, then span id, with the columns of `spans`.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// What trees and figures are computed from; a row here is a row of [`rows`](Self::rows).
    pub fn columns(&self) -> TraceColumns<'_> {
        self.columns.columns()
    }

    /// The tree of its spans; a row there is a row of [`rows`](Self::rows).
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// How many spans it has.
    pub fn span_count(&self) -> usize {
        self.rows.num_rows()
    }

    /// How many exact copies of spans were left out.
    pub fn copy_count(&self) -> usize {
        self.copy_count
    }

    /// The service that [`columns`](Self::columns) has under a number; empty where not known.
    pub fn service_name(&self, number: u32) -> &str {
        self.columns.service_name(number).unwrap_or_default()
    }

    /// The span name that [`columns`](Self::columns) has under a number.
    pub fn name(&self, number: u32) -> &str {
        self.columns.name(number).unwrap_or_default()
    }

    /// Adds its spans, row by row, to columns that number the services and names of several
    /// traces together.
    pub fn push_spans(&self, columns: &mut TraceBuffer) -> Result<()> {
        push_spans(&self.rows, columns)
    }

    /// Its tree as what is drawn.
    pub fn tree(&self) -> Result<TraceTree> {
        let rows = &self.rows;
        let (ids, parents) = (texts(rows, "span_id")?, texts(rows, "parent_span_id")?);
        let columns = self.columns();
        let spans = (0..self.span_count()).map(|row| {
            let parent = parents.is_valid(row).then(|| parents.value(row));
            Ok(TraceSpan {
                span_id: SpanId::parse(ids.value(row))?,
                parent_span_id: parent.map(SpanId::parse).transpose()?,
                start_time_unix_nano: columns.start(row),
                duration_nano: columns.duration(row),
                service_name: self.service_name(columns.service(row)).to_string(),
                name: self.name(columns.name(row)).to_string(),
                kind: columns.kind(row),
                status_code: if columns.has_error(row) {
                    StatusCode::Error
                } else {
                    StatusCode::Unset
                },
            })
        });
        Ok(TraceTree::new(spans.collect::<Result<Vec<_>>>()?))
    }

    /// For each node of the tree whether the trace waited for it at some moment.
    pub fn on_critical_path(&self) -> Vec<bool> {
        let mut on_path = vec![false; self.forest.len()];
        for section in CriticalPath::new(&self.columns(), &self.forest).sections() {
            on_path[section.node as usize] = true;
        }
        on_path
    }

    /// The nodes of the tree that have a span id, in tree order: none, one, or several where
    /// different spans share it.
    pub fn nodes_of(&self, span_id: SpanId) -> Vec<usize> {
        let wanted = u64::from_be_bytes(*span_id.as_bytes());
        let columns = self.columns();
        let rows = self.forest.rows().iter().enumerate();
        rows.filter(|(_, row)| columns.span_id.get(**row as usize) == Some(&wanted))
            .map(|(node, _)| node)
            .collect()
    }

    /// About how many bytes of memory it takes.
    pub fn byte_count(&self) -> usize {
        self.rows.get_array_memory_size() + self.span_count() * NODE_BYTES
    }
}

fn row_number(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| {
        let message = "a trace has more spans than can be read at once";
        Error::new(crate::error::ErrorKind::ResourcesExhausted, message)
    })
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let column = rows.column_by_name(name);
    column.ok_or_else(|| Error::internal(format!("rows of a trace lack `{name}`")))
}

fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringViewArray> {
    let texts = column(rows, name)?.as_string_view_opt();
    texts.ok_or_else(|| Error::internal(format!("`{name}` of a trace's rows is no text")))
}

/// The rows by start, then span id; those alike by when they were ingested, then as given.
fn row_order(rows: &RecordBatch) -> Result<Vec<u32>> {
    let starts = column(rows, "start_time")?.as_primitive::<TimestampNanosecondType>();
    let ingested = column(rows, "ingested_at")?.as_primitive::<TimestampMicrosecondType>();
    let ids = texts(rows, "span_id")?;
    let mut order: Vec<u32> = (0..row_number(rows.num_rows())?).collect();
    let key = |row: &u32| {
        let row = *row as usize;
        // All ids have 16 digits, so the order of texts is that of numbers.
        (starts.value(row), ids.value(row), ingested.value(row))
    };
    if !order.is_sorted_by_key(key) {
        order.sort_by(|a, b| key(a).cmp(&key(b)));
    }
    Ok(order)
}

fn columns_of(rows: &RecordBatch) -> Result<TraceBuffer> {
    let mut columns = TraceBuffer::default();
    push_spans(rows, &mut columns)?;
    Ok(columns)
}

fn push_spans(rows: &RecordBatch, columns: &mut TraceBuffer) -> Result<()> {
    let starts = column(rows, "start_time")?.as_primitive::<TimestampNanosecondType>();
    let durations = column(rows, "duration_nano")?.as_primitive::<Int64Type>();
    let ids = texts(rows, "span_id")?;
    let parents = texts(rows, "parent_span_id")?;
    let kinds = texts(rows, "kind")?;
    let codes = texts(rows, "status_code")?;
    let services = texts(rows, "service_name")?;
    let names = texts(rows, "name")?;
    for row in 0..rows.num_rows() {
        let parent = parents.is_valid(row).then(|| parents.value(row));
        let service = services.is_valid(row).then(|| services.value(row));
        columns.push(&SpanRow {
            span_id: SpanId::parse(ids.value(row))?,
            parent_span_id: parent.map(SpanId::parse).transpose()?,
            start_time_unix_nano: starts.value(row),
            duration_nano: durations.is_valid(row).then(|| durations.value(row)),
            kind: SpanKind::from_name(kinds.value(row)).unwrap_or(SpanKind::Unspecified),
            status_code: StatusCode::from_name(codes.value(row)).unwrap_or(StatusCode::Unset),
            service_name: service.unwrap_or_default(),
            name: names.value(row),
        });
    }
    Ok(())
}

/// The same values without what else lies in their buffers: a page of a file is much longer than
/// a trace, and a cached trace would keep it.
fn compacted(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(compacted_texts(array.as_string_view())?),
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let values = compacted(list.values())?;
            let nulls = list.nulls().cloned();
            let offsets = list.offsets().clone();
            Arc::new(ListArray::try_new(
                Arc::clone(field),
                offsets,
                values,
                nulls,
            )?)
        }
        DataType::Struct(fields) => {
            let parts = array.as_struct();
            let columns = parts.columns().iter().map(compacted);
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let nulls = parts.nulls().cloned();
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?)
        }
        _ => Arc::clone(array),
    })
}

/// Texts that repeat, as those of a resource do, are one view of one text before and after.
fn compacted_texts(texts: &StringViewArray) -> Result<StringViewArray> {
    /// A view with a text of at most this many bytes holds it itself.
    const INLINE: u32 = 12;
    let mut moved: HashMap<u128, u128> = HashMap::new();
    let mut full: Vec<Buffer> = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut views: Vec<u128> = Vec::with_capacity(texts.len());
    for (row, view) in texts.views().iter().enumerate() {
        if texts.is_null(row) {
            views.push(0);
            continue;
        }
        // A view is, from its lowest bits: length, four bytes of prefix, buffer, offset.
        let length = *view as u32;
        if length <= INLINE {
            views.push(*view);
            continue;
        }
        let new = match moved.get(view) {
            Some(new) => *new,
            None => {
                let text = texts.value(row).as_bytes();
                if !buffer.is_empty() && buffer.len() + text.len() > BUFFER_BYTES {
                    full.push(Buffer::from(std::mem::take(&mut buffer)));
                }
                let place = (buffer.len() as u128) << 96 | (full.len() as u128) << 64;
                buffer.extend_from_slice(text);
                let new = *view & u128::from(u64::MAX) | place;
                moved.insert(*view, new);
                new
            }
        };
        views.push(new);
    }
    if !buffer.is_empty() {
        buffer.shrink_to_fit();
        full.push(Buffer::from(buffer));
    }
    let nulls = texts.nulls().cloned();
    Ok(StringViewArray::try_new(
        ScalarBuffer::from(views),
        full,
        nulls,
    )?)
}
