//! Writes one file: encodes on the calling thread, uploads beside it.
//!
//! Read [`FileWriter`]. What goes in, and in which order, is its callers' business.

use std::io;
use std::mem;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::KeyValue;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::attribute_columns::AttributeColumns;
use super::attribute_plan::AttributePlan;
use super::encoding::{SAMPLE_ROWS, TRACE_COUNT_KEY, VERSION, VERSION_KEY, writer_properties};
use super::index_builder::IndexBuilder;
use super::index_directory::{INDEX_KEY, IndexPlace, places_text};
use super::layout::new_path;
use super::sort::numbers;
use super::{Bucket, Hour, LakeFile, Store};
use crate::config::StorageConfig;
use crate::error::{Error, Result};
use crate::span::{column, storage_schema};

/// Bytes of a part of an upload; stores ask for at least 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// Parts encoded but not yet taken by the store.
const PARTS_WAITING: usize = 2;

/// Rows whose attributes are columns of their own at a time: a hundred columns of many rows do not
/// fit the caches of a core.
const ENCODED_ROWS: usize = 4096;

/// What an index may take however small its file is.
const LEAST_INDEX_BYTES: usize = 32 << 10;

/// What a file is for, which decides how long is spent on encoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Ingest,
    Compaction,
}

/// A file being written. Its methods block; call them where blocking is allowed.
///
/// Dropping it unfinished leaves nothing, or an incomplete upload that the store expires.
pub(super) struct FileWriter {
    file: LakeFile,
    attributes: AttributeColumns,
    encoder: ArrowWriter<PartSink>,
    index: Option<IndexWriter>,
    upload: JoinHandle<Result<()>>,
}

/// What is known of a file before it is written.
#[derive(Debug, Clone)]
pub(super) struct FilePlan {
    pub(super) purpose: Purpose,
    pub(super) hour: Hour,
    pub(super) bucket: Bucket,
    /// Its traces at the most.
    pub(super) trace_count: u64,
    /// Its rows at the most.
    pub(super) row_count: u64,
    /// The attributes that get columns, in any order.
    pub(super) attributes: AttributePlan,
}

/// The index of the row group being encoded, and where those before lie.
struct IndexWriter {
    builder: IndexBuilder,
    share: f64,
    row_group_rows: usize,
    rows: usize,
    /// Where the row group being encoded begins.
    start: usize,
    places: Vec<IndexPlace>,
}

impl FileWriter {
    /// Begins a file, of which `sample` are the first rows; they are not written by this. Must
    /// be called within a tokio runtime.
    pub(super) fn try_new(
        store: &Store,
        config: &StorageConfig,
        plan: FilePlan,
        sample: &RecordBatch,
    ) -> Result<Self> {
        let FilePlan {
            purpose,
            hour,
            bucket,
            mut attributes,
            ..
        } = plan;
        let compression = match purpose {
            Purpose::Ingest => config.ingest_compression,
            Purpose::Compaction => config.compact_compression,
        };
        let sample = sample.slice(0, sample.num_rows().min(SAMPLE_ROWS));
        if let Some(objects) = sample.column_by_name(column::ATTRIBUTES) {
            attributes.arrange(objects.as_string_view());
        }
        let mut attribute_columns = AttributeColumns::new(&attributes);
        let sample = attribute_columns.take_apart(&sample)?;
        let counts = (plan.trace_count, plan.row_count);
        let properties = writer_properties(config, compression, counts, &sample)?;
        let (parts, received) = mpsc::channel(PARTS_WAITING);
        let sink = PartSink {
            buffer: Vec::new(),
            parts,
            byte_count: 0,
        };
        // Types are derived from Parquet's own, as any reader does.
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let schema = sample.schema();
        let added = schema.fields().iter().skip(storage_schema().fields().len());
        let added = added.map(|field| field.name().clone()).collect();
        let encoder = ArrowWriter::try_new_with_options(sink, schema, options)
            .map_err(|error| Error::internal("cannot encode spans").with_source(error))?;
        let file = LakeFile {
            path: new_path(hour, bucket),
            size: 0,
            hour,
            bucket,
            row_count: 0,
            min_start_nano: i64::MAX,
            max_start_nano: i64::MIN,
            min_ingested_micros: i64::MAX,
            max_ingested_micros: i64::MIN,
            min_duration_nano: None,
            max_duration_nano: None,
            null_duration_count: 0,
            modified_ms: 0,
            attribute_columns: added,
        };
        let index =
            (purpose == Purpose::Compaction && config.index_share > 0.0).then(|| IndexWriter {
                builder: IndexBuilder::new(hour.start_nano()),
                share: config.index_share,
                row_group_rows: config.row_group_rows.max(1),
                rows: 0,
                start: 0,
                places: Vec::new(),
            });
        let upload = Handle::current().spawn(upload(store.clone(), file.location(), received));
        Ok(Self {
            file,
            attributes: attribute_columns,
            encoder,
            index,
            upload,
        })
    }

    /// Adds rows, in the order of the file, of all columns.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.observe(batch)?;
        let mut from = 0;
        while let Some(index) = &mut self.index
            && from < batch.num_rows()
        {
            // An index belongs to a row group.
            let rows = (index.row_group_rows - index.rows).min(batch.num_rows() - from);
            let part = batch.slice(from, rows);
            from += rows;
            index.rows += rows;
            let is_full = index.rows == index.row_group_rows;
            index.builder.add(&part)?;
            self.encode(&part)?;
            if is_full {
                self.end_row_group()?;
            }
        }
        if self.index.is_none() {
            self.encode(batch)?;
        }
        Ok(())
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<()> {
        for start in (0..batch.num_rows()).step_by(ENCODED_ROWS) {
            let rows = ENCODED_ROWS.min(batch.num_rows() - start);
            let stored = self.attributes.take_apart(&batch.slice(start, rows))?;
            if let Err(error) = self.encoder.write(&stored) {
                return Err(self.failure(error));
            }
        }
        Ok(())
    }

    /// The bytes held for the row group being encoded.
    pub(super) fn memory_bytes(&self) -> usize {
        let index = self
            .index
            .as_ref()
            .map_or(0, |index| index.builder.memory_bytes());
        self.encoder.memory_size() + index
    }

    /// Ends the row group being encoded, to free what it holds.
    pub(super) fn end_row_group(&mut self) -> Result<()> {
        if let Err(error) = self.encoder.flush() {
            return Err(self.failure(error));
        }
        match &mut self.index {
            Some(index) if index.rows > 0 => {
                let written = index.write(&mut self.encoder);
                written.map_err(|error| self.failure(error.into()))
            }
            _ => Ok(()),
        }
    }

    /// Ends the file, which holds `trace_count` traces. It is durable once the result is awaited.
    pub(super) fn finish(mut self, trace_count: u64) -> Result<PendingFile> {
        self.end_row_group()?;
        let places = self.index.as_ref().map(|index| places_text(&index.places));
        for (key, value) in [
            (TRACE_COUNT_KEY, Some(trace_count.to_string())),
            (VERSION_KEY, Some(VERSION.to_owned())),
            (INDEX_KEY, places),
        ] {
            let Some(value) = value else {
                continue;
            };
            self.encoder
                .append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        if let Err(error) = self.encoder.finish() {
            return Err(self.failure(error));
        }
        let sink = self.encoder.inner_mut();
        let last = mem::take(&mut sink.buffer);
        self.file.size = sink.byte_count;
        // A closed channel means that the upload failed; it is asked why below.
        let _ = sink.parts.blocking_send(Part::Last(last.into()));
        self.file.modified_ms = chrono::Utc::now().timestamp_millis();
        Ok(PendingFile {
            file: self.file,
            upload: self.upload,
        })
    }

    /// Keeps the statistics that the log wants.
    fn observe(&mut self, batch: &RecordBatch) -> Result<()> {
        let file = &mut self.file;
        file.row_count += batch.num_rows() as u64;
        let starts = numbers(batch, column::START_TIME_UNIX_NANO)?;
        file.min_start_nano = file.min_start_nano.min(min(&starts).unwrap_or(i64::MAX));
        file.max_start_nano = file.max_start_nano.max(max(&starts).unwrap_or(i64::MIN));
        let durations = numbers(batch, column::DURATION_NANO)?;
        file.null_duration_count += durations.null_count() as u64;
        let least = [file.min_duration_nano, min(&durations)];
        file.min_duration_nano = least.into_iter().flatten().min();
        file.max_duration_nano = file.max_duration_nano.max(max(&durations));
        let ingested = batch.column_by_name(column::INGESTED_AT);
        if let Some(ingested) =
            ingested.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        {
            let (least, most) = (min(ingested), max(ingested));
            file.min_ingested_micros = file.min_ingested_micros.min(least.unwrap_or(i64::MAX));
            file.max_ingested_micros = file.max_ingested_micros.max(most.unwrap_or(i64::MIN));
        }
        Ok(())
    }

    /// Why encoding failed: because of the upload it feeds, or by itself.
    fn failure(&mut self, error: parquet::errors::ParquetError) -> Error {
        if self.encoder.inner().parts.is_closed()
            && let Ok(Err(cause)) = Handle::current().block_on(&mut self.upload)
        {
            return cause;
        }
        Error::internal(format!("cannot encode a file; path=`{}`", self.file.path))
            .with_source(error)
    }
}

impl IndexWriter {
    /// Puts the index of the row group just ended behind it.
    fn write(&mut self, encoder: &mut ArrowWriter<PartSink>) -> io::Result<()> {
        let offset = encoder.bytes_written();
        // Of row group and index together.
        let share = self.share.min(0.9);
        let max_bytes = (offset - self.start) as f64 * share / (1.0 - share);
        let max_bytes = (max_bytes as usize).max(LEAST_INDEX_BYTES);
        let (index, directory_length) = self.builder.finish(max_bytes);
        encoder.write_all(&index)?;
        let place = IndexPlace::of(offset as u64, &index, directory_length);
        self.places.push(place);
        self.start = encoder.bytes_written();
        self.rows = 0;
        Ok(())
    }
}

/// A file that is encoded, and whose last bytes may still be on their way.
pub(super) struct PendingFile {
    file: LakeFile,
    upload: JoinHandle<Result<()>>,
}

impl PendingFile {
    /// Waits until the file is durable.
    pub(super) async fn stored(self) -> Result<LakeFile> {
        self.upload
            .await
            .map_err(|error| Error::internal("an upload was stopped").with_source(error))??;
        Ok(self.file)
    }
}

enum Part {
    Next(Bytes),
    /// The end of a file that is complete. Without it, the file must not come to be.
    Last(Bytes),
}

/// Cuts what the encoder writes into parts.
struct PartSink {
    buffer: Vec<u8>,
    parts: mpsc::Sender<Part>,
    byte_count: u64,
}

impl io::Write for PartSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.byte_count += bytes.len() as u64;
        while self.buffer.len() + bytes.len() > PART_BYTES {
            let (head, rest) = bytes.split_at(PART_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(head);
            let part = mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES));
            self.parts
                .blocking_send(Part::Next(part.into()))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn upload(store: Store, path: Path, mut parts: mpsc::Receiver<Part>) -> Result<()> {
    let named = |error: object_store::Error| {
        let error = Error::from(error);
        let message = format!("cannot write a file of the lake; path=`{path}`");
        Error::new(error.kind(), message).with_source(error)
    };
    let objects = store.objects();
    let first = match parts.recv().await {
        // The encoder gave up; nothing was begun.
        None => return Ok(()),
        Some(Part::Last(bytes)) => {
            objects.put(&path, bytes.into()).await.map_err(named)?;
            return Ok(());
        }
        Some(Part::Next(bytes)) => bytes,
    };
    let mut upload = objects.put_multipart(&path).await.map_err(named)?;
    match send_parts(upload.as_mut(), first, &mut parts).await {
        Ok(true) => upload.complete().await.map(|_| ()).map_err(named),
        unfinished => {
            // The first failure is the one to report.
            let _ = upload.abort().await;
            unfinished.map(|_| ()).map_err(named)
        }
    }
}

/// Sends parts until the last; false where the encoder gave up.
async fn send_parts(
    upload: &mut dyn MultipartUpload,
    first: Bytes,
    parts: &mut mpsc::Receiver<Part>,
) -> object_store::Result<bool> {
    let mut next = first;
    loop {
        upload.put_part(next.into()).await?;
        match parts.recv().await {
            None => return Ok(false),
            Some(Part::Next(bytes)) => next = bytes,
            Some(Part::Last(bytes)) => {
                upload.put_part(bytes.into()).await?;
                return Ok(true);
            }
        }
    }
}
