//! Merges sorted files into files by bucket.
//!
//! Read [`merge`]. Inputs are decoded by one task each, merged by one thread, and encoded by
//! one thread a bucket; between them stand short queues, so memory does not grow with the
//! number of rows:
//!
//! ```text
//! file ─ decode ─┐                    ┌─ encode ─ b00of2
//! file ─ decode ─┼─ merge, by trace ──┤
//! file ─ decode ─┘                    └─ encode ─ b01of2
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int8Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::attribute_columns::put_batch_together;
use super::attribute_plan::AttributePlan;
use super::file_attributes::choose_attributes;
use super::file_reader::{name_file, open_rows};
use super::file_writer::{FilePlan, FileWriter, PendingFile, Purpose};
use super::layout::bucket_index;
use super::sort::{KeyColumns, ParentOffsets, RowKey, numbers};
use super::worker::{long, stopped};
use super::{Bucket, Hour, LakeFile, Store};
use crate::config::StorageConfig;
use crate::error::{Error, Result};
use crate::span::{OFFSET_TRACE_ROWS, column, storage_schema};

/// Rows decoded at a time from each input.
const INPUT_ROWS: usize = 1024;
/// Rows gathered, for all buckets together, before they are handed to the encoders.
const GATHERED_ROWS: usize = 16_384;
/// What the row groups being encoded may hold together, in bytes.
const ENCODER_BYTES: usize = 512 << 20;

/// What a merge made.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) files: Vec<LakeFile>,
    pub(super) duplicate_count: u64,
}

/// Where a merge puts its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) hour: Hour,
    /// A power of two.
    pub(super) bucket_count: u32,
}

/// Merges the files of one hour into one file for each bucket that has rows.
///
/// Of rows with the same trace, span id, kind, start, duration and name, the one ingested first
/// is kept. The files are durable when this returns, and nothing refers to them.
pub(super) async fn merge(
    store: &Store,
    config: &StorageConfig,
    inputs: &[Arc<LakeFile>],
    target: Target,
) -> Result<Merged> {
    let attributes = choose_attributes(store, config, inputs).await?;
    let readers: Vec<Input> = inputs.iter().map(|file| Input::open(store, file)).collect();
    let row_count: u64 = inputs.iter().map(|file| file.row_count).sum();
    let outputs = (0..target.bucket_count)
        .map(|index| {
            let bucket = Bucket::Of {
                index,
                count: target.bucket_count,
            };
            let plan = FilePlan {
                purpose: Purpose::Compaction,
                hour: target.hour,
                bucket,
                trace_count: u64::MAX,
                // Buckets hold about the same; a dictionary is chosen by it, nothing more.
                row_count: row_count.div_ceil(u64::from(target.bucket_count)),
                attributes: AttributePlan::clone(&attributes),
            };
            Output::open(store, config, plan, target.bucket_count)
        })
        .collect::<Result<_>>()?;
    let merging = long(move || Ok(Merger::new(readers, outputs, target).run()))?;
    let (encoders, result) = merging.await.map_err(stopped)??;
    let mut files = Vec::new();
    let mut encoding = Ok(());
    for encoder in encoders {
        match stored(encoder).await {
            Ok(file) => files.extend(file),
            Err(error) => encoding = encoding.and(Err(error)),
        }
    }
    // Why an encoder failed says more than that nobody took its rows.
    match encoding.and(result) {
        Ok(duplicate_count) => Ok(Merged {
            files,
            duplicate_count,
        }),
        Err(error) => {
            delete(store, &files).await;
            Err(error)
        }
    }
}

/// Deletes files that were never committed. What cannot be deleted is left to vacuum.
pub(super) async fn delete(store: &Store, files: &[LakeFile]) {
    let paths: Vec<_> = files.iter().map(|file| Ok(file.location())).collect();
    let deleted = store
        .objects()
        .delete_stream(Box::pin(futures::stream::iter(paths)));
    let _: Result<Vec<_>, _> = deleted.try_collect().await;
}

async fn stored(encoder: Encoder) -> Result<Option<LakeFile>> {
    match encoder.await.map_err(stopped)?? {
        Some(pending) => pending.stored().await.map(Some),
        None => Ok(None),
    }
}

/// One sorted file: its batches come through a queue from the task that decodes them.
struct Input {
    batches: mpsc::Receiver<Result<RecordBatch>>,
}

impl Input {
    fn open(store: &Store, file: &Arc<LakeFile>) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let (store, file) = (store.clone(), Arc::clone(file));
        // The task ends when the file does, or when nobody receives.
        Handle::current().spawn(async move {
            if let Err(error) = decode(&store, &file, &sender).await {
                let _ = sender.send(Err(name_file(error, &file))).await;
            }
        });
        Self { batches }
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.blocking_recv().transpose()
    }
}

async fn decode(
    store: &Store,
    file: &LakeFile,
    sender: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<(), parquet::errors::ParquetError> {
    let builder = open_rows(store, file).await?;
    let mut stream = builder.with_batch_size(INPUT_ROWS).build()?;
    while let Some(batch) = stream.try_next().await? {
        if sender.send(put_batch_together(&batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// One bucket: rows gathered for it, and the queue to the thread that encodes them.
struct Output {
    rows: Vec<(usize, usize)>,
    parent_offsets: Vec<Option<i32>>,
    trace_count: u64,
    batches: mpsc::Sender<Encode>,
    encoder: Encoder,
}

/// What an encoder made; nothing where the merge failed.
type Encoder = oneshot::Receiver<Result<Option<PendingFile>>>;

enum Encode {
    Rows(RecordBatch),
    /// The end of a merge that was complete, with the number of traces.
    End(u64),
}

impl Output {
    fn open(store: &Store, config: &StorageConfig, plan: FilePlan, count: u32) -> Result<Self> {
        let (batches, mut received) = mpsc::channel(1);
        let (store, config) = (store.clone(), config.clone());
        let max_bytes = ENCODER_BYTES / count.max(1) as usize;
        let encoder = long(move || {
            let mut writer: Option<FileWriter> = None;
            while let Some(message) = received.blocking_recv() {
                let batch = match message {
                    Encode::Rows(batch) => batch,
                    Encode::End(traces) => return writer.map(|w| w.finish(traces)).transpose(),
                };
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => {
                        none.insert(FileWriter::try_new(&store, &config, plan.clone(), &batch)?)
                    }
                };
                writer.write(&batch)?;
                if writer.memory_bytes() > max_bytes {
                    writer.end_row_group()?;
                }
            }
            // The merge failed; what was encoded is dropped.
            Ok(None)
        })?;
        Ok(Self {
            rows: Vec::new(),
            parent_offsets: Vec::new(),
            trace_count: 0,
            batches,
            encoder,
        })
    }

    fn send(&self, message: Encode) -> Result<()> {
        self.batches
            .blocking_send(message)
            .map_err(|_| Error::internal("an encoder stopped before the merge"))
    }
}

/// A decoded batch and the columns that order and identify its rows.
struct Decoded {
    batch: RecordBatch,
    keys: KeyColumns,
    duration: Int64Array,
    kind: Int8Array,
    name: StringViewArray,
    ingested: TimestampMicrosecondArray,
}

impl Decoded {
    fn try_new(batch: RecordBatch) -> Result<Self> {
        let wrong = || Error::internal("a file does not have the columns of spans");
        let column = |name: &str| batch.column_by_name(name).ok_or_else(wrong);
        let ingested = column(column::INGESTED_AT)?;
        Ok(Self {
            keys: KeyColumns::try_new(&batch)?,
            duration: numbers(&batch, column::DURATION_NANO)?,
            kind: column(column::KIND)?
                .as_primitive_opt::<Int8Type>()
                .ok_or_else(wrong)?
                .clone(),
            name: column(column::NAME)?
                .as_string_view_opt()
                .ok_or_else(wrong)?
                .clone(),
            ingested: ingested
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(wrong)?
                .clone(),
            batch,
        })
    }

    /// What tells apart two rows of the same key.
    fn identity(&self, row: usize) -> (i8, Option<i64>, &str) {
        let duration = self
            .duration
            .is_valid(row)
            .then(|| self.duration.value(row));
        (self.kind.value(row), duration, self.name.value(row))
    }
}

/// The next row of an input, in the order in which rows leave the merge.
type Head = Reverse<(RowKey, i64, usize)>;

struct Merger {
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    target: Target,
    /// Every batch from which a gathered row comes, and last of all those not yet used up.
    batches: Vec<Decoded>,
    /// For each input, which of `batches` is its current one, and the next row there.
    cursors: Vec<(usize, usize)>,
    heads: BinaryHeap<Head>,
    trace: Trace,
    parents: ParentOffsets,
    gathered: usize,
    duplicate_count: u64,
}

/// The rows of the trace being gathered.
#[derive(Default)]
struct Trace {
    id: u128,
    rows: Vec<(usize, usize)>,
    /// Whether a part of it was handed on already.
    continued: bool,
}

impl Merger {
    fn new(inputs: Vec<Input>, outputs: Vec<Output>, target: Target) -> Self {
        Self {
            cursors: vec![(0, 0); inputs.len()],
            inputs,
            outputs,
            target,
            batches: Vec::new(),
            heads: BinaryHeap::new(),
            trace: Trace::default(),
            parents: ParentOffsets::default(),
            gathered: 0,
            duplicate_count: 0,
        }
    }

    /// Merges all rows; the number of duplicates, and the encoders to wait for either way.
    fn run(mut self) -> (Vec<Encoder>, Result<u64>) {
        let result = self.merge_all();
        let encoders = self.outputs.into_iter().map(|output| output.encoder);
        (encoders.collect(), result.map(|()| self.duplicate_count))
    }

    fn merge_all(&mut self) -> Result<()> {
        for input in 0..self.inputs.len() {
            self.advance(input)?;
        }
        while let Some(Reverse((key, _, input))) = self.heads.peek().copied() {
            // A trace is gathered whole so that its parents are found; of a long one parts are,
            // and an offset between two parts is left out.
            if key.0 != self.trace.id || self.trace.rows.len() >= OFFSET_TRACE_ROWS {
                self.end_trace(key.0);
                if self.gathered >= GATHERED_ROWS {
                    self.flush()?;
                }
            }
            let (batch, row) = self.cursors[input];
            if self.is_duplicate(batch, row) {
                self.duplicate_count += 1;
            } else {
                self.trace.rows.push((batch, row));
            }
            self.cursors[input].1 += 1;
            self.step(input)?;
        }
        self.end_trace(0);
        self.flush()?;
        self.outputs
            .iter()
            .try_for_each(|output| output.send(Encode::End(output.trace_count)))
    }

    /// Replaces the head of `input`, which is the least of all, by its next row.
    fn step(&mut self, input: usize) -> Result<()> {
        match self.head(input) {
            Some(next) => {
                if let Some(mut head) = self.heads.peek_mut() {
                    *head = next;
                }
                Ok(())
            }
            None => {
                self.heads.pop();
                self.advance(input)
            }
        }
    }

    /// Takes the next batch of an input that has no row left.
    fn advance(&mut self, input: usize) -> Result<()> {
        while let Some(batch) = self.inputs[input].next()? {
            if batch.num_rows() == 0 {
                continue;
            }
            self.batches.push(Decoded::try_new(batch)?);
            self.cursors[input] = (self.batches.len() - 1, 0);
            self.heads.extend(self.head(input));
            return Ok(());
        }
        self.cursors[input] = (usize::MAX, 0);
        Ok(())
    }

    fn head(&self, input: usize) -> Option<Head> {
        let (batch, row) = self.cursors[input];
        let decoded = self.batches.get(batch)?;
        (row < decoded.batch.num_rows())
            .then(|| Reverse((decoded.keys.key(row), decoded.ingested.value(row), input)))
    }

    /// Whether the trace already has this row, from a file or a batch ingested before.
    fn is_duplicate(&self, batch: usize, row: usize) -> bool {
        let decoded = &self.batches[batch];
        let key = decoded.keys.key(row);
        let identity = decoded.identity(row);
        // Rows of one key follow one another.
        let same_key = self
            .trace
            .rows
            .iter()
            .rev()
            .map(|(batch, row)| (&self.batches[*batch], *row));
        same_key
            .take_while(|(kept, row)| kept.keys.key(*row) == key)
            .any(|(kept, row)| kept.identity(row) == identity)
    }

    /// Hands the gathered trace to its bucket and begins with the trace `next`.
    fn end_trace(&mut self, next: u128) {
        let rows = std::mem::take(&mut self.trace.rows);
        let id = std::mem::replace(&mut self.trace.id, next);
        if !rows.is_empty() {
            let bucket = bucket_index(&id.to_be_bytes(), self.target.bucket_count);
            let batches = &self.batches;
            let at = |index: usize| (&batches[rows[index].0].keys, rows[index].1);
            let output = &mut self.outputs[bucket as usize];
            self.parents.extend(
                0..rows.len(),
                |index| at(index).0.span(at(index).1),
                |index| at(index).0.parent(at(index).1),
                &mut output.parent_offsets,
            );
            output.rows.extend_from_slice(&rows);
            output.trace_count += u64::from(!self.trace.continued);
            self.gathered += rows.len();
        }
        self.trace.continued = id == next;
        self.trace.rows = rows;
        self.trace.rows.clear();
    }

    /// Sends the gathered rows to the encoders and lets go of the batches that are used up.
    fn flush(&mut self) -> Result<()> {
        let batches: Vec<&RecordBatch> = self.batches.iter().map(|b| &b.batch).collect();
        let offset_column = storage_schema().index_of(column::PARENT_OFFSET)?;
        for output in &mut self.outputs {
            if output.rows.is_empty() {
                continue;
            }
            let merged = interleave_record_batch(&batches, &output.rows)?;
            let mut columns = merged.columns().to_vec();
            let offsets = std::mem::take(&mut output.parent_offsets);
            columns[offset_column] = Arc::new(Int32Array::from(offsets));
            output.rows.clear();
            output.send(Encode::Rows(RecordBatch::try_new(
                storage_schema(),
                columns,
            )?))?;
        }
        self.gathered = 0;
        self.keep_current();
        Ok(())
    }

    /// Drops all batches but those at which a cursor stands.
    fn keep_current(&mut self) {
        let mut old: Vec<Option<Decoded>> = self.batches.drain(..).map(Some).collect();
        for (batch, _) in &mut self.cursors {
            if let Some(decoded) = old.get_mut(*batch).and_then(Option::take) {
                self.batches.push(decoded);
                *batch = self.batches.len() - 1;
            }
        }
    }
}
