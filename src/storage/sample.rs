//! Spans for the tests of this room.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::attribute_columns::put_batch_together;
use super::file_reader::open_rows;
use super::{LakeFile, Snapshot, Store};
use crate::span::{
    Event, Link, Origin, Resource, Scope, Span, SpanBatchBuilder, SpanId, StatusCode, TraceId,
    Value, column, storage_schema,
};

/// A batch of `span_count` spans of traces of up to twelve, spread over `hours` hours; the same
/// for the same seed. Some parents are absent, some lie after their children.
pub(super) fn spans(seed: u64, span_count: usize, hours: i64) -> RecordBatch {
    let mut random = SmallRng::seed_from_u64(seed);
    let origin = Origin::new(
        &Resource {
            attributes: vec![(
                "service.name".into(),
                Value::String(format!("s{}", seed % 3)),
            )],
            ..Resource::default()
        },
        &Scope::default(),
    );
    let mut builder = SpanBatchBuilder::new();
    while builder.len() < span_count {
        let trace_id = trace_id(random.random());
        let hour = random.random_range(0..hours);
        let ids: Vec<SpanId> = (0..random.random_range(1..12))
            .map(|_| span_id(random.random()))
            .collect();
        for (index, id) in ids.iter().enumerate().take(span_count - builder.len()) {
            let start = hour * 3_600_000_000_000 + random.random_range(0..1_000_000_000);
            let mut span = Span::new(trace_id, *id, start);
            span.name = format!("op {}", random.random_range(0..5));
            span.parent_span_id = (index > 0).then(|| ids[random.random_range(0..ids.len())]);
            span.duration_nano = random
                .random_bool(0.9)
                .then(|| random.random_range(-5..1000));
            span.status_code = StatusCode::from_number(random.random_range(0..3));
            span.attributes = vec![("n".into(), Value::Int(random.random()))];
            if random.random_bool(0.2) {
                span.events.push(Event {
                    name: "e".into(),
                    ..Event::default()
                });
                span.links.push(Link {
                    trace_id,
                    span_id: *id,
                    trace_state: String::new(),
                    attributes: Vec::new(),
                    flags: None,
                    dropped_attributes_count: 0,
                });
            }
            builder.push(&origin, &span);
        }
    }
    builder.finish()
}

pub(super) fn trace_id(number: u128) -> TraceId {
    TraceId::from_bytes(number.max(1).to_be_bytes()).unwrap()
}

fn span_id(number: u64) -> SpanId {
    SpanId::from_bytes(number.max(1).to_be_bytes()).unwrap()
}

/// All rows of a file, in its order.
pub(super) async fn read_file(store: &Store, file: &LakeFile) -> RecordBatch {
    let stream = open_rows(store, file).await.unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    let batches: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| put_batch_together(batch).unwrap())
        .collect();
    concat_batches(&storage_schema(), &batches).unwrap()
}

/// All rows of the lake as text, in a defined order, without the columns that depend on how
/// rows were put into files.
pub(super) async fn read_rows(store: &Store, snapshot: &Snapshot) -> Vec<String> {
    let mut rows = Vec::new();
    for file in snapshot.files() {
        rows.extend(row_texts(&read_file(store, file).await));
    }
    rows.sort_unstable();
    rows
}

/// The rows of a batch as text, in its order.
pub(super) fn row_texts(batch: &RecordBatch) -> Vec<String> {
    let kept: Vec<usize> = (0..batch.num_columns())
        .filter(|index| {
            let name = batch.schema_ref().field(*index).name().clone();
            name != column::PARENT_OFFSET && name != column::INGESTED_AT
        })
        .collect();
    let batch = batch.project(&kept).unwrap();
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| {
            arrow::util::display::ArrayFormatter::try_new(column.as_ref(), &options).unwrap()
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let values: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            values.join("|")
        })
        .collect()
}

/// Fails where the rows of a file are not in order, or its description does not fit them.
pub(super) async fn check_file(store: &Store, file: &Arc<LakeFile>) {
    let batch = read_file(store, file).await;
    assert_eq!(batch.num_rows() as u64, file.row_count);
    let keys = super::sort::KeyColumns::try_new(&batch).unwrap();
    let offsets = batch.column_by_name(column::PARENT_OFFSET).unwrap();
    let offsets = offsets.as_primitive::<arrow::datatypes::Int32Type>();
    let rows = batch.num_rows();
    for row in 0..rows {
        if row > 0 {
            assert!(
                keys.key(row - 1) <= keys.key(row),
                "row {row} of {}",
                file.path
            );
        }
        let id = trace_id(keys.trace(row));
        assert!(file.bucket.may_contain(&id));
        assert_eq!(super::Hour::of_nano(keys.start(row)), file.hour);
        let same_trace = |at: &usize| keys.trace(*at) == keys.trace(row);
        let first = keys.parent(row).and_then(|parent| {
            let found = (0..rows)
                .filter(same_trace)
                .find(|at| keys.span(*at) == parent);
            found.map(|at| at as i32 - row as i32)
        });
        use arrow::array::Array;
        let offset = offsets.is_valid(row).then(|| offsets.value(row));
        assert_eq!(offset, first, "parent offset of row {row} of {}", file.path);
    }
    let starts = batch.column_by_name(column::START_TIME_UNIX_NANO).unwrap();
    let starts = starts.as_primitive::<Int64Type>();
    assert_eq!(arrow::compute::min(starts), Some(file.min_start_nano));
    assert_eq!(arrow::compute::max(starts), Some(file.max_start_nano));
}
