//! Writes decoded spans as files.
//!
//! Read [`write_batch`]. Nothing is visible before the log has committed what it returns.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take_arrays;
use tokio::runtime::Handle;

use super::attribute_plan::{AttributeCounts, AttributePlan};
use super::file_writer::{FilePlan, FileWriter, PendingFile, Purpose};
use super::sort::{KeyColumns, ParentOffsets, sorted_rows};
use super::trace_filter::FileFilters;
use super::worker::compute;
use super::{Bucket, LakeFile, Store, TraceFilters};
use crate::config::StorageConfig;
use crate::error::{Error, Result};
use crate::span::{column, storage_schema};

/// Uploads under way at once for one batch; a batch may hold spans of any number of hours.
const UPLOADS: usize = 8;

/// Writes a batch of decoded columns, in any order, as one file for each hour in it.
///
/// Rows are sorted by trace id, start and span id; `parent_offset` is computed within each
/// file. The files are durable when this returns, but not committed. If it fails, files of some
/// hours may exist, which nothing refers to.
pub async fn write_batch(
    store: &Store,
    config: &StorageConfig,
    batch: RecordBatch,
    ingested_at_micros: i64,
) -> Result<Vec<LakeFile>> {
    let mut files = Vec::new();
    for (file, _) in write_files(store, config, batch, ingested_at_micros).await? {
        files.push(file);
    }
    Ok(files)
}

/// Like [`write_batch`]; `filters` know the files without reading them.
pub async fn write_known_batch(
    store: &Store,
    config: &StorageConfig,
    batch: RecordBatch,
    ingested_at_micros: i64,
    filters: &TraceFilters,
) -> Result<Vec<LakeFile>> {
    let mut files = Vec::new();
    for (file, filter) in write_files(store, config, batch, ingested_at_micros).await? {
        filters.put(&file, filter);
        files.push(file);
    }
    Ok(files)
}

async fn write_files(
    store: &Store,
    config: &StorageConfig,
    batch: RecordBatch,
    ingested_at_micros: i64,
) -> Result<Stored> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let (store, config) = (store.clone(), config.clone());
    let encoded = compute(move || write_hours(&store, &config, &batch, ingested_at_micros));
    let (mut files, pending) = encoded.await?;
    for (file, filter) in pending {
        files.push((file.stored().await?, filter));
    }
    Ok(files)
}

type Stored = Vec<(LakeFile, FileFilters)>;
type Pending = VecDeque<(PendingFile, FileFilters)>;

/// Encodes a file for each hour: those that are stored, and those on their way.
fn write_hours(
    store: &Store,
    config: &StorageConfig,
    batch: &RecordBatch,
    ingested_at_micros: i64,
) -> Result<(Stored, Pending)> {
    let keys = KeyColumns::try_new(batch)?;
    let runtime = Handle::current();
    let mut files = Vec::new();
    let mut pending = Pending::new();
    for hour in sorted_rows(&keys, batch.num_rows())? {
        if pending.len() >= UPLOADS
            && let Some((oldest, filter)) = pending.pop_front()
        {
            files.push((runtime.block_on(oldest.stored())?, filter));
        }
        let plan = FilePlan {
            purpose: Purpose::Ingest,
            hour: hour.hour,
            bucket: Bucket::Level0,
            trace_count: hour.trace_count,
            row_count: hour.rows.len() as u64,
            attributes: choose_attributes(config, batch, &hour.rows)?,
        };
        // In steps, so that only a part of the sorted copy is in memory.
        let offsets = parent_offsets(&keys, &hour.rows);
        let step = config.page_rows.max(1) * 8;
        let mut writer = None;
        for (rows, offsets) in hour.rows.chunks(step).zip(offsets.chunks(step)) {
            let rows = file_rows(batch, rows, offsets, ingested_at_micros)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(FileWriter::try_new(store, config, plan.clone(), &rows)?),
            };
            writer.write(&rows)?;
        }
        if let Some(writer) = writer {
            let ids = hour.rows.iter().map(|row| keys.trace(*row as usize));
            let rate = config.bloom_false_positive_rate;
            let filter = FileFilters::of_traces(ids, hour.trace_count, rate)?;
            pending.push_back((writer.finish(hour.trace_count)?, filter));
        }
    }
    Ok((files, pending))
}

/// The attributes that get columns in a file of these rows.
fn choose_attributes(
    config: &StorageConfig,
    batch: &RecordBatch,
    rows: &[u32],
) -> Result<AttributePlan> {
    let row_count = rows.len() as u64;
    if config.attribute_columns == 0 || row_count < config.attribute_min_rows {
        return Ok(AttributePlan::default());
    }
    let objects = batch.column_by_name(column::ATTRIBUTES);
    let objects = objects
        .and_then(|objects| objects.as_string_view_opt())
        .ok_or_else(|| Error::internal("a batch of spans lacks its attributes"))?;
    let mut counts = AttributeCounts::new(config);
    counts.add_objects(rows.iter().map(|row| {
        let row = *row as usize;
        objects.is_valid(row).then(|| objects.value(row))
    }));
    Ok(counts.choose(config, row_count))
}

/// These rows of a batch, with the columns that the writer adds.
fn file_rows(
    batch: &RecordBatch,
    rows: &[u32],
    offsets: &[Option<i32>],
    ingested_at_micros: i64,
) -> Result<RecordBatch> {
    let indices = UInt32Array::from(rows.to_vec());
    let mut columns: Vec<ArrayRef> = take_arrays(batch.columns(), &indices, None)?;
    let ingested = TimestampMicrosecondArray::from_value(ingested_at_micros, rows.len());
    columns.push(Arc::new(ingested.with_timezone("UTC")));
    columns.push(Arc::new(Int32Array::from(offsets.to_vec())));
    RecordBatch::try_new(storage_schema(), columns).map_err(|error| {
        Error::internal("a batch of spans does not have the decoded columns").with_source(error)
    })
}

fn parent_offsets(keys: &KeyColumns, rows: &[u32]) -> Vec<Option<i32>> {
    let mut offsets = Vec::with_capacity(rows.len());
    let mut finder = ParentOffsets::default();
    let row = |at: usize| rows[at] as usize;
    let mut start = 0;
    for trace in rows.chunk_by(|a, b| keys.trace(*a as usize) == keys.trace(*b as usize)) {
        let end = start + trace.len();
        let span = |at: usize| keys.span(row(at));
        let parent = |at: usize| keys.parent(row(at));
        finder.extend(start..end, span, parent, &mut offsets);
        start = end;
    }
    offsets
}
