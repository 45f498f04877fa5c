//! What the index keeps of each row: its operation, and about when it started.
//!
//! Read [`Operations`] and [`RowSummary`]. An operation is what service, span name, kind and
//! status make together. There are few, so predicates on them are judged once for each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringViewArray};
use roaring::RoaringBitmap;

use super::index_bytes::{Cursor, put_bytes, put_varint};
use super::index_posting::{Detail, add_posting, posting_count, put_posting, skip_posting};
use crate::span::{SpanKind, StatusCode, column};

/// Parts into which an hour is divided for the rows' start times.
const TICKS: i64 = 4096;
/// Nanoseconds of a part.
const TICK_NANOS: i64 = 3_600_000_000_000 / TICKS;
/// Operations that are told apart in a row group; with more none are.
const MAX_OPERATIONS: usize = 1 << 16;

/// Service, span name, kind and status of a span.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpanOperation {
    /// The service, `None` where it is not known.
    pub service_name: Option<String>,
    /// The span's name.
    pub name: String,
    /// Its role in a call.
    pub kind: SpanKind,
    /// How it ended.
    pub status_code: StatusCode,
}

/// The rows of an operation, beside their posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationSpans {
    /// How many there are.
    pub span_count: u64,
    /// The earliest start, in nanoseconds since the epoch.
    pub first_start_nano: i64,
    /// The latest start.
    pub last_start_nano: i64,
}

/// Rows while they are gathered.
#[derive(Debug)]
pub(super) struct GatheredRows {
    hour_nano: i64,
    numbers: HashMap<SpanOperation, u16>,
    spans: Vec<OperationSpans>,
    operation_of: Vec<u16>,
    ticks: Vec<u16>,
    is_too_many: bool,
    text_bytes: usize,
}

impl GatheredRows {
    pub(super) fn new(hour_nano: i64) -> Self {
        Self {
            hour_nano,
            numbers: HashMap::new(),
            spans: Vec::new(),
            operation_of: Vec::new(),
            ticks: Vec::new(),
            is_too_many: false,
            text_bytes: 0,
        }
    }

    pub(super) fn byte_count(&self) -> usize {
        4 * self.ticks.len() + 2 * self.text_bytes + 200 * self.spans.len()
    }

    pub(super) fn row_count(&self) -> usize {
        self.ticks.len()
    }

    /// The number of an operation, the same for the same one.
    pub(super) fn number(&mut self, operation: SpanOperation) -> u16 {
        if let Some(number) = self.numbers.get(&operation) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.spans.len()) else {
            self.is_too_many = true;
            return u16::MAX;
        };
        self.text_bytes +=
            operation.name.len() + operation.service_name.as_ref().map_or(0, String::len);
        self.numbers.insert(operation, number);
        self.spans.push(OperationSpans {
            span_count: 0,
            first_start_nano: i64::MAX,
            last_start_nano: i64::MIN,
        });
        number
    }

    pub(super) fn push(&mut self, number: u16, start_nano: i64) {
        if let Some(spans) = self.spans.get_mut(usize::from(number)) {
            spans.span_count += 1;
            spans.first_start_nano = spans.first_start_nano.min(start_nano);
            spans.last_start_nano = spans.last_start_nano.max(start_nano);
        }
        self.operation_of.push(number);
        self.ticks.push(tick(self.hour_nano, start_nano));
    }

    /// The section of operations, `None` where there are too many.
    pub(super) fn encode_operations(&self) -> Option<Vec<u8>> {
        if self.is_too_many {
            return None;
        }
        let row_count = self.ticks.len() as u32;
        let mut rows_of = vec![Vec::new(); self.spans.len()];
        for (row, number) in (0..).zip(&self.operation_of) {
            rows_of[usize::from(*number)].push(row);
        }
        let mut operations: Vec<(&SpanOperation, u16)> =
            self.numbers.iter().map(|(o, n)| (o, *n)).collect();
        operations.sort_unstable_by_key(|(_, number)| *number);
        let mut out = Vec::new();
        put_varint(&mut out, operations.len() as u64);
        for (operation, number) in operations {
            let spans = &self.spans[usize::from(number)];
            out.push(u8::from(operation.service_name.is_some()));
            put_bytes(
                &mut out,
                operation.service_name.as_deref().unwrap_or("").as_bytes(),
            );
            put_bytes(&mut out, operation.name.as_bytes());
            out.extend([operation.kind as u8, operation.status_code as u8]);
            out.extend(spans.first_start_nano.to_le_bytes());
            out.extend(spans.last_start_nano.to_le_bytes());
            put_posting(
                &mut out,
                &rows_of[usize::from(number)],
                row_count,
                Detail::Rows,
            );
        }
        Some(out)
    }

    /// The section of rows.
    pub(super) fn encode_rows(&self) -> Vec<u8> {
        let numbers = self.operation_of.iter().chain(&self.ticks);
        // Low bytes and high bytes apart: they compress better.
        let low = numbers.clone().map(|number| *number as u8);
        let high = numbers.clone().map(|number| (number >> 8) as u8);
        low.chain(high).collect()
    }
}

/// The part of its hour in which a time lies.
fn tick(hour_nano: i64, start_nano: i64) -> u16 {
    let tick = start_nano.saturating_sub(hour_nano).div_euclid(TICK_NANOS);
    tick.clamp(0, TICKS - 1) as u16
}

/// The operations of a row group, by their numbers.
#[derive(Debug)]
pub struct Operations {
    bytes: Vec<u8>,
    row_count: u32,
    postings: Vec<u32>,
    operations: Vec<(SpanOperation, OperationSpans)>,
    columns: RecordBatch,
}

fn columns(operations: &[(SpanOperation, OperationSpans)]) -> Option<RecordBatch> {
    let all = || operations.iter().map(|(operation, _)| operation);
    let texts = |texts: StringViewArray| Arc::new(texts) as ArrayRef;
    let names = |name: fn(&SpanOperation) -> &str| {
        texts(StringViewArray::from_iter_values(all().map(name)))
    };
    let services = all().map(|operation| operation.service_name.as_deref());
    let is_error = |o: &SpanOperation| Some(o.status_code == StatusCode::Error);
    RecordBatch::try_from_iter_with_nullable([
        (column::SERVICE_NAME, texts(services.collect()), true),
        (column::NAME, names(|o| &o.name), false),
        (column::KIND, names(|o| o.kind.name()), false),
        (column::STATUS_CODE, names(|o| o.status_code.name()), false),
        (
            "has_error",
            Arc::new(all().map(is_error).collect::<BooleanArray>()),
            false,
        ),
    ])
    .ok()
}

impl Operations {
    pub(super) fn decode(bytes: Vec<u8>, row_count: u32) -> Option<Self> {
        let mut cursor = Cursor::new(&bytes, 0);
        let count = cursor.count().filter(|count| *count <= MAX_OPERATIONS)?;
        let mut operations = Vec::with_capacity(count);
        let mut postings = Vec::with_capacity(count);
        for _ in 0..count {
            let has_service = cursor.byte()? == 1;
            let service_name = cursor.text()?.to_string();
            let operation = SpanOperation {
                service_name: has_service.then_some(service_name),
                name: cursor.text()?.to_string(),
                kind: SpanKind::from_number(cursor.byte()?.into()),
                status_code: StatusCode::from_number(cursor.byte()?.into()),
            };
            let mut nano = || Some(i64::from_le_bytes(cursor.take(8)?.try_into().ok()?));
            let (first_start_nano, last_start_nano) = (nano()?, nano()?);
            postings.push(u32::try_from(cursor.position()).ok()?);
            let spans = OperationSpans {
                span_count: posting_count(cursor)?,
                first_start_nano,
                last_start_nano,
            };
            skip_posting(&mut cursor, row_count)?;
            operations.push((operation, spans));
        }
        cursor.is_at_end().then_some(())?;
        Some(Self {
            bytes,
            row_count,
            postings,
            columns: columns(&operations)?,
            operations,
        })
    }

    pub(super) fn byte_count(&self) -> usize {
        3 * self.bytes.len() + 256 * self.operations.len()
    }

    /// The operations as columns, one row each: `service_name`, `name`, `kind`, `status_code` and
    /// `has_error`, as SQL shows them.
    pub fn columns(&self) -> &RecordBatch {
        &self.columns
    }

    /// All operations with what is known of their spans; an operation's number is its place.
    pub fn all(&self) -> &[(SpanOperation, OperationSpans)] {
        &self.operations
    }

    /// The rows of the row group.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Adds the rows of the operation with this number; whether they are exact.
    pub fn add_rows(&self, number: usize, rows: &mut RoaringBitmap) -> bool {
        let start = self.postings.get(number);
        let added = start.and_then(|start| {
            let mut cursor = Cursor::new(&self.bytes, *start as usize);
            add_posting(&mut cursor, self.row_count, rows)
        });
        match added {
            Some((_, exact)) => exact,
            None => {
                rows.insert_range(0..self.row_count);
                false
            }
        }
    }
}

/// Operation and time of every row of a row group.
#[derive(Debug)]
pub struct RowSummary {
    hour_nano: i64,
    operation_of: Vec<u16>,
    ticks: Vec<u16>,
}

impl RowSummary {
    pub(super) fn decode(bytes: &[u8], row_count: u32, hour_nano: i64) -> Option<Self> {
        let count = row_count as usize;
        (bytes.len() == count.checked_mul(4)?).then_some(())?;
        let (low, high) = bytes.split_at(2 * count);
        let numbers = low.iter().zip(high);
        let mut numbers = numbers.map(|(low, high)| u16::from_le_bytes([*low, *high]));
        let operation_of = numbers.by_ref().take(count).collect();
        let ticks: Vec<u16> = numbers.collect();
        let in_hour = ticks.iter().all(|tick| i64::from(*tick) < TICKS);
        in_hour.then_some(Self {
            hour_nano,
            operation_of,
            ticks,
        })
    }

    pub(super) fn byte_count(&self) -> usize {
        4 * self.ticks.len()
    }

    /// The rows of the row group.
    pub fn row_count(&self) -> u32 {
        self.ticks.len() as u32
    }

    /// The number of a row's operation, as in [`Operations`].
    pub fn operation(&self, row: u32) -> usize {
        self.operation_of
            .get(row as usize)
            .map_or(usize::MAX, |number| usize::from(*number))
    }

    /// The tick in which a row starts; a later start never has an earlier tick.
    pub fn tick(&self, row: u32) -> u16 {
        self.ticks.get(row as usize).copied().unwrap_or_default()
    }

    /// The tick of a time, clamped to the hour.
    pub fn tick_of(&self, start_nano: i64) -> u16 {
        tick(self.hour_nano, start_nano)
    }

    /// The first nanosecond of a tick.
    pub fn start_of(&self, tick: u16) -> i64 {
        self.hour_nano.saturating_add(i64::from(tick) * TICK_NANOS)
    }
}
