//! Takes trace files into a lake.
//!
//! ```text
//! sources ─ decode (one thread) ─ batches ─ sort, encode, write (a few at a time) ─ commit
//! ```
//!
//! Read [`Lake::ingest`]. Batches are bounded and so is what waits between the steps, so files
//! of any size pass in bounded memory. Each batch is one commit; in strict mode all are one.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::Lake;
use super::lake::now_micros;
use crate::config::IngestConfig;
use crate::error::{Error, Result};
use crate::ingest::{self, Format, Rejection, SpanSink};
use crate::span::{Origin, Span, SpanBatchBuilder, TraceId};
use crate::storage::{LakeFile, Operation, write_batch};

/// Rejections kept in full; the rest are counted.
const REPORTED_REJECTIONS: usize = 20;

/// Batches that are written at the same time.
const CONCURRENT_WRITES: usize = 2;

/// Distinct traces counted exactly; beyond it the count is a lower bound.
const COUNTED_TRACES: usize = 8 << 20;

/// Something to read spans from.
#[derive(Debug, Clone)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// Where its bytes come from.
    pub kind: SourceKind,
    /// Its format; recognized where not said.
    pub format: Option<Format>,
}

/// Where a source's bytes come from.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// A local file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Bytes at hand.
    Bytes(Bytes),
}

impl Source {
    /// A local file, its format recognized.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            name: path.display().to_string(),
            kind: SourceKind::Path(path),
            format: None,
        }
    }

    /// Bytes at hand; the ending of `name` helps to recognize their format.
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            kind: SourceKind::Bytes(bytes.into()),
            format: None,
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        Ok(match &self.kind {
            SourceKind::Path(path) => {
                let file = std::fs::File::open(path).map_err(|error| {
                    Error::from(error).with_context(format!("cannot open {}", self.name))
                })?;
                Box::new(file)
            }
            SourceKind::Stdin => Box::new(std::io::stdin()),
            SourceKind::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes.clone())),
        })
    }
}

/// How far an ingest has come; read by whoever draws the progress.
#[derive(Debug, Default)]
pub struct IngestProgress {
    /// Bytes of all sources, where known.
    pub bytes_total: AtomicU64,
    /// Bytes read from them, compressed where they are.
    pub bytes_read: AtomicU64,
    /// Spans decoded.
    pub span_count: AtomicU64,
    /// Spans, lines and messages skipped.
    pub rejection_count: AtomicU64,
    /// Spans committed.
    pub committed_span_count: AtomicU64,
    /// Files committed.
    pub file_count: AtomicU64,
    /// Set from outside to end early: what was decoded by then is committed.
    pub stop: AtomicBool,
}

impl IngestProgress {
    /// Progress at its start, to be shared with the ingest.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }
}

/// What an ingest did.
#[derive(Debug, Default)]
pub struct IngestReport {
    /// Spans committed.
    pub span_count: u64,
    /// Distinct traces among them.
    pub trace_count: u64,
    /// Whether there were too many traces to tell them all apart: then the count is a minimum.
    pub trace_count_is_minimum: bool,
    /// Spans, lines and messages skipped.
    pub rejection_count: u64,
    /// Spans lost with them, as far as known.
    pub rejected_span_count: u64,
    /// The first of them, each with the name of its source.
    pub rejections: Vec<(String, Rejection)>,
    /// Sources read.
    pub source_count: usize,
    /// Files written.
    pub file_count: u64,
    /// Commits made.
    pub commit_count: u64,
    /// Bytes of the files written.
    pub bytes_written: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Lake {
    /// Decodes all sources and commits their spans, one commit a batch.
    ///
    /// What cannot be decoded is skipped and reported; a source that cannot be opened or read
    /// is an error. In strict mode the first thing skipped is an error, and nothing is
    /// committed. Dropping the future stops at the last commit.
    pub async fn ingest(
        &self,
        sources: Vec<Source>,
        progress: Arc<IngestProgress>,
    ) -> Result<IngestReport> {
        let started = Instant::now();
        let (batches, receiver) = mpsc::channel(1);
        let config = self.config().ingest.clone();
        let source_count = sources.len();
        let decoding = tokio::task::spawn_blocking({
            let progress = Arc::clone(&progress);
            move || decode_all(&sources, &config, &progress, batches)
        });
        let written = if self.config().ingest.strict {
            self.write_at_once(receiver, decoding, &progress).await
        } else {
            self.write_as_they_come(receiver, decoding, &progress).await
        };
        let (commits, decoded) = written?;
        Ok(IngestReport {
            span_count: progress.committed_span_count.load(Ordering::Relaxed),
            trace_count: decoded.traces.len() as u64,
            trace_count_is_minimum: decoded.traces.len() >= COUNTED_TRACES,
            rejection_count: progress.rejection_count.load(Ordering::Relaxed),
            rejected_span_count: decoded.rejected_span_count,
            rejections: decoded.rejections,
            source_count,
            file_count: progress.file_count.load(Ordering::Relaxed),
            commit_count: commits.count,
            bytes_written: commits.bytes,
            bytes_read: progress.bytes_read.load(Ordering::Relaxed),
            elapsed: started.elapsed(),
        })
    }

    /// Each batch is committed as soon as it is written.
    async fn write_as_they_come(
        &self,
        batches: mpsc::Receiver<RecordBatch>,
        decoding: tokio::task::JoinHandle<Result<Decoded>>,
        progress: &IngestProgress,
    ) -> Result<(Commits, Decoded)> {
        let mut commits = Commits::default();
        let mut writes = Box::pin(self.writes(batches));
        while let Some(files) = writes.next().await {
            let files = files?;
            self.log().commit(&files, &[], Operation::Append).await?;
            commits.add(&files, progress);
        }
        Ok((commits, joined(decoding.await)?))
    }

    /// Everything is written first, and committed at once if all of it could be decoded.
    async fn write_at_once(
        &self,
        batches: mpsc::Receiver<RecordBatch>,
        decoding: tokio::task::JoinHandle<Result<Decoded>>,
        progress: &IngestProgress,
    ) -> Result<(Commits, Decoded)> {
        let mut all = Vec::new();
        let mut writes = Box::pin(self.writes(batches));
        let mut failure = None;
        while let Some(files) = writes.next().await {
            match files {
                Ok(files) => all.extend(files),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(writes);
        let decoded = match failure {
            Some(error) => Err(error),
            None => joined(decoding.await),
        };
        let mut commits = Commits::default();
        match decoded {
            Ok(decoded) => {
                if !all.is_empty() {
                    self.log().commit(&all, &[], Operation::Append).await?;
                    commits.add(&all, progress);
                }
                Ok((commits, decoded))
            }
            Err(error) => {
                self.discard(&all).await;
                Err(error)
            }
        }
    }

    fn writes(
        &self,
        batches: mpsc::Receiver<RecordBatch>,
    ) -> impl futures::Stream<Item = Result<Vec<LakeFile>>> + Send {
        let incoming = futures::stream::unfold(batches, |mut batches| async {
            batches.recv().await.map(|batch| (batch, batches))
        });
        let lake = self.clone();
        incoming
            .map(move |batch| {
                let lake = lake.clone();
                async move {
                    let storage = &lake.config().storage;
                    write_batch(lake.log().store(), storage, batch, now_micros()).await
                }
            })
            .buffered(CONCURRENT_WRITES)
    }

    /// Removes files that were written for a commit that never came. What cannot be removed is
    /// left for vacuum.
    async fn discard(&self, files: &[LakeFile]) {
        use object_store::ObjectStoreExt;
        let objects = self.log().store().objects();
        for file in files {
            if let Err(error) = objects.delete(&file.location()).await {
                tracing::warn!(path = file.path, %error, "an uncommitted file was left behind");
            }
        }
    }
}

fn joined(result: std::result::Result<Result<Decoded>, tokio::task::JoinError>) -> Result<Decoded> {
    result.map_err(|error| Error::internal("the decoder stopped").with_source(error))?
}

#[derive(Debug, Default)]
struct Commits {
    count: u64,
    bytes: u64,
}

impl Commits {
    fn add(&mut self, files: &[LakeFile], progress: &IngestProgress) {
        let rows: u64 = files.iter().map(|file| file.row_count).sum();
        self.count += 1;
        self.bytes += files.iter().map(|file| file.size).sum::<u64>();
        progress
            .committed_span_count
            .fetch_add(rows, Ordering::Relaxed);
        progress
            .file_count
            .fetch_add(files.len() as u64, Ordering::Relaxed);
    }
}

/// What the decoder found besides spans.
#[derive(Debug, Default)]
struct Decoded {
    traces: HashSet<TraceId>,
    rejections: Vec<(String, Rejection)>,
    rejected_span_count: u64,
}

fn decode_all(
    sources: &[Source],
    config: &IngestConfig,
    progress: &Arc<IngestProgress>,
    batches: mpsc::Sender<RecordBatch>,
) -> Result<Decoded> {
    let mut collector = Collector {
        config,
        progress,
        batches,
        builder: SpanBatchBuilder::new(),
        decoded: Decoded::default(),
        source: String::new(),
        last_trace: None,
    };
    for source in sources {
        collector.source.clone_from(&source.name);
        let counted = CountedRead {
            inner: source.open()?,
            progress: Arc::clone(progress),
        };
        let decoded = ingest::decode(counted, &source.name, source.format, &mut collector);
        if progress.stop.load(Ordering::Relaxed) {
            break;
        }
        decoded.map_err(|error| error.with_context(&source.name))?;
    }
    collector.flush()?;
    Ok(collector.decoded)
}

/// Gathers decoded spans into batches and sends them on.
struct Collector<'a> {
    config: &'a IngestConfig,
    progress: &'a IngestProgress,
    batches: mpsc::Sender<RecordBatch>,
    builder: SpanBatchBuilder,
    decoded: Decoded,
    source: String,
    last_trace: Option<TraceId>,
}

impl Collector<'_> {
    fn flush(&mut self) -> Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        // Whoever receives has stopped for a reason of its own, which is what is reported.
        self.batches
            .blocking_send(self.builder.finish())
            .map_err(|_| Error::internal("the writer of decoded spans stopped"))
    }
}

impl SpanSink for Collector<'_> {
    fn span(&mut self, origin: &Origin, span: &Span) -> Result<()> {
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(Error::internal("stopped by the caller"));
        }
        self.builder.push(origin, span);
        self.progress.span_count.fetch_add(1, Ordering::Relaxed);
        if self.last_trace != Some(span.trace_id) {
            self.last_trace = Some(span.trace_id);
            if self.decoded.traces.len() < COUNTED_TRACES {
                self.decoded.traces.insert(span.trace_id);
            }
        }
        if self.builder.len() >= self.config.batch_spans
            || self.builder.memory_bytes() >= self.config.batch_bytes
        {
            self.flush()?;
        }
        Ok(())
    }

    fn reject(&mut self, rejection: Rejection) -> Result<()> {
        if self.config.strict {
            return Err(Error::invalid_input(format!(
                "{}, {}: {}; nothing was committed, as strict mode was asked for",
                self.source, rejection.location, rejection.reason
            )));
        }
        self.decoded.rejected_span_count += rejection.span_count;
        self.progress
            .rejection_count
            .fetch_add(1, Ordering::Relaxed);
        if self.decoded.rejections.len() < REPORTED_REJECTIONS {
            self.decoded
                .rejections
                .push((self.source.clone(), rejection));
        }
        Ok(())
    }
}

/// Counts the bytes read.
struct CountedRead {
    inner: Box<dyn Read + Send>,
    progress: Arc<IngestProgress>,
}

impl Read for CountedRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress
            .bytes_read
            .fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
