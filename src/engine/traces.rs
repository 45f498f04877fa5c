//! Traces for programs, by their ids.
//!
//! Read [`Lake::query_trace`]. Every call asks the trace cache first; SQL's functions over traces
//! read through the same cache.

use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use futures::{Stream, StreamExt};
use tokio::task::JoinHandle;

use super::Lake;
use super::trace_cache::TraceCacheStatistics;
use super::trace_lookup::{FoundTraces, LookupOptions};
use crate::error::Result;
use crate::span::TraceId;
use crate::trace::Trace;

/// Traces of a stream that are read together.
const STREAM_WINDOW: usize = 32;

/// Windows of a stream that are read ahead of the one being taken.
const STREAM_AHEAD: usize = 2;

/// Prefetches that run at the same time; one more is not begun.
const PREFETCHES: usize = 4;

impl Lake {
    /// The whole trace of an id, or `None` where the lake does not have it.
    ///
    /// A hint (nanoseconds since the epoch, first and last included) narrows the hours that are
    /// read first; see [`LookupOptions::time_hint`].
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// let trace = lake.query_trace(id, None).await?.expect("it was taken in");
    /// assert_eq!(trace.rows().num_rows(), trace.forest().len());
    /// assert!(lake.query_trace(TraceId::parse("00000000000000ff")?, None).await?.is_none());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn query_trace(
        &self,
        id: TraceId,
        time_hint: Option<RangeInclusive<i64>>,
    ) -> Result<Option<Arc<Trace>>> {
        let options = LookupOptions::default().with_time_hint(time_hint);
        let found = self.find_traces(&[id], &options).await?;
        Ok(found.traces.into_iter().next().flatten())
    }

    /// The whole traces of these ids, in their order; `None` where the lake does not have one.
    ///
    /// Ids are grouped by hour and bucket, and each file is read once for all of them.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// let ids = ["00000000000000ff", "5b1e7f00c0ffee00a11ce00000000001"];
    /// let traces = lake.query_traces(&ids.map(|id| TraceId::parse(id).unwrap())).await?;
    /// assert!(traces[0].is_none() && traces[1].is_some());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn query_traces(&self, ids: &[TraceId]) -> Result<Vec<Option<Arc<Trace>>>> {
        let found = self.find_traces(ids, &LookupOptions::default()).await?;
        Ok(found.traces)
    }

    /// Like [`query_traces`](Self::query_traces), with at most `workers` files being read at the
    /// same time.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// let ids = [TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?];
    /// assert!(lake.execute_parallel(&ids, 4).await?[0].is_some());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn execute_parallel(
        &self,
        ids: &[TraceId],
        workers: usize,
    ) -> Result<Vec<Option<Arc<Trace>>>> {
        let options = LookupOptions::default().with_workers(workers);
        Ok(self.find_traces(ids, &options).await?.traces)
    }

    /// The traces of these ids with a time-out, a hint, or partial answers, as the options say.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use std::time::Duration;
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # use tracelake::engine::LookupOptions;
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// let options = LookupOptions::default()
    ///     .with_time_out(Some(Duration::from_secs(5)))
    ///     .allowing_partial();
    /// let found = lake.find_traces(&[id], &options).await?;
    /// for file in &found.missing {
    ///     println!("spans may be missing: {file}");
    /// }
    /// assert!(found.is_complete() && found.traces[0].is_some());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn find_traces(
        &self,
        ids: &[TraceId],
        options: &LookupOptions,
    ) -> Result<FoundTraces> {
        self.refresh().await?;
        let found = self.traces().find(ids, options).await?;
        if options.prefetch_count > 0 {
            for trace in found.traces.iter().flatten() {
                self.prefetch_in_background(trace, options.prefetch_count);
            }
        }
        Ok(found)
    }

    /// The traces of these ids one after another, in the order asked for; `None` for one that the
    /// lake does not have.
    ///
    /// Reads ahead of whoever takes them by a bounded number of traces, and no further until they
    /// are taken: memory does not grow with the number of ids. Dropping the stream stops it.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use futures::TryStreamExt;
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// let ids = vec![TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?; 3];
    /// let mut traces = lake.stream_traces(ids);
    /// while let Some((id, trace)) = traces.try_next().await? {
    ///     println!("{id}: {} spans", trace.map_or(0, |trace| trace.span_count()));
    /// }
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub fn stream_traces<I>(
        &self,
        ids: I,
    ) -> impl Stream<Item = Result<(TraceId, Option<Arc<Trace>>)>> + Send + Unpin + 'static
    where
        I: IntoIterator<Item = TraceId>,
        I::IntoIter: Send + 'static,
    {
        let lake = self.clone();
        let windows = futures::stream::iter(ids).chunks(STREAM_WINDOW);
        let read = windows.map(move |ids| {
            let lake = lake.clone();
            async move {
                let traces = lake.query_traces(&ids).await;
                match traces {
                    Ok(traces) => ids.into_iter().zip(traces).map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                }
            }
        });
        let traces = read.buffered(STREAM_AHEAD);
        traces.flat_map(futures::stream::iter).boxed()
    }

    /// How the trace cache did since the lake was opened.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, Lake, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// for _ in 0..2 {
    ///     lake.query_trace(TraceId::parse("00000000000000ff")?, None).await?;
    /// }
    /// let cache = lake.trace_cache_statistics();
    /// assert_eq!((cache.hit_count, cache.miss_count), (1, 1));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub fn trace_cache_statistics(&self) -> TraceCacheStatistics {
        self.traces().cache().statistics()
    }

    /// Reads the traces that a trace names by links and by the attribute `related.trace_id`, at
    /// most `trace_count` of them, into the trace cache.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// let trace = lake.query_trace(id, None).await?.expect("it was taken in");
    /// let prefetch = lake.prefetch_related(&trace, 10);
    /// let read = prefetch.finished().await;
    /// println!("{read} related traces are at hand");
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub fn prefetch_related(&self, trace: &Trace, trace_count: usize) -> Prefetch {
        let ids = related_ids(trace, trace_count);
        let lake = self.clone();
        let task = tokio::spawn(async move {
            let traces = lake.query_traces(&ids).await.unwrap_or_default();
            traces.iter().flatten().count()
        });
        Prefetch { task }
    }

    /// Stops all prefetches that [`LookupOptions::prefetch_count`] began.
    pub fn cancel_prefetches(&self) {
        let running = self.prefetches().lock();
        running.unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Begins a prefetch unless enough are running. Its task must not hold the lake, which it
    /// ends with.
    fn prefetch_in_background(&self, trace: &Trace, trace_count: usize) {
        let ids = related_ids(trace, trace_count);
        let running = self.prefetches().lock();
        let mut running = running.unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        if ids.is_empty() || running.len() >= PREFETCHES {
            return;
        }
        let lookup = Arc::clone(self.traces());
        running.spawn(async move {
            // Nobody waits for it: who asks for one of these traces will see the error.
            let _ = lookup.find(&ids, &LookupOptions::default()).await;
        });
    }
}

fn related_ids(trace: &Trace, trace_count: usize) -> Vec<TraceId> {
    let mut ids = Vec::new();
    for reference in trace.references() {
        if ids.len() >= trace_count {
            break;
        }
        if reference.trace_id != trace.id() && !ids.contains(&reference.trace_id) {
            ids.push(reference.trace_id);
        }
    }
    ids
}

/// Related traces being read; dropping it stops that.
#[derive(Debug)]
pub struct Prefetch {
    task: JoinHandle<usize>,
}

impl Prefetch {
    /// Waits until it is done, and says how many related traces the lake has.
    pub async fn finished(mut self) -> usize {
        // A panic there is reported where it happened; here nothing was read.
        (&mut self.task).await.unwrap_or_default()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
