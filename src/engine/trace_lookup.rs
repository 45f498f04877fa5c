//! Finds traces by their ids: which files to read, with how many tasks and for how long.
//!
//! Read [`TraceLookup`]. The road is that of a query by id, without the planner:
//!
//! ```text
//! ids ─ cache ─ files by hour and bucket ─ by trace-id filter ─ read each once ─ whole traces
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::trace_cache::{ALL_HOURS, TraceCache};
use crate::config::QueryConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::functions::table::TraceReader;
use crate::span::TraceId;
use crate::storage::{Hour, LakeFile, Log, Snapshot, TraceFilters};
use crate::table::{TraceFile, TraceRows};
use crate::trace::Trace;

/// How many trace-id filters are read at the same time.
const FILTER_READS: usize = 16;

/// Traces that one task puts together.
const BUILT_TOGETHER: usize = 64;

/// How a lookup of traces is done.
#[derive(Debug, Clone)]
pub struct LookupOptions {
    /// When the traces' spans start, in nanoseconds since the epoch, first and last included.
    ///
    /// Only the hours of this range, widened by the margin, are read. If they hold no span of a
    /// trace, all other hours are read as well; if they do, spans of it in other hours are left
    /// out.
    pub time_hint: Option<RangeInclusive<i64>>,
    /// How far beyond the hint a trace may reach.
    pub margin: Duration,
    /// How long the lookup may take; `None` waits as long as the store does.
    pub time_out: Option<Duration>,
    /// Whether files that fail or come too late are left out and named, instead of failing the
    /// whole lookup.
    pub allow_partial: bool,
    /// Files that are read at the same time; one for each core where not said.
    pub workers: Option<usize>,
    /// How many traces related to those found are read into the cache afterwards, in the
    /// background; see [`Lake::prefetch_related`](super::Lake::prefetch_related).
    pub prefetch_count: usize,
}

impl Default for LookupOptions {
    /// No hint, a margin of an hour, 30 seconds, whole answers only, no prefetch.
    fn default() -> Self {
        Self {
            time_hint: None,
            margin: Duration::from_secs(3600),
            time_out: Some(Duration::from_secs(30)),
            allow_partial: false,
            workers: None,
            prefetch_count: 0,
        }
    }
}

impl LookupOptions {
    /// The same with a time range in which the traces are looked for first.
    #[must_use]
    pub fn with_time_hint(mut self, hint: Option<RangeInclusive<i64>>) -> Self {
        self.time_hint = hint;
        self
    }

    /// The same with another time-out.
    #[must_use]
    pub fn with_time_out(mut self, time_out: Option<Duration>) -> Self {
        self.time_out = time_out;
        self
    }

    /// The same, but files that fail or are late are left out and named.
    #[must_use]
    pub fn allowing_partial(mut self) -> Self {
        self.allow_partial = true;
        self
    }

    /// The same with so many files read at the same time.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// The same with so many related traces read ahead.
    #[must_use]
    pub fn with_prefetch(mut self, trace_count: usize) -> Self {
        self.prefetch_count = trace_count;
        self
    }

    fn hours(&self) -> RangeInclusive<Hour> {
        let Some(hint) = &self.time_hint else {
            return ALL_HOURS;
        };
        let margin = i64::try_from(self.margin.as_nanos()).unwrap_or(i64::MAX);
        let first = Hour::of_nano(hint.start().saturating_sub(margin));
        first..=Hour::of_nano(hint.end().saturating_add(margin))
    }
}

/// A file that a lookup had to leave out.
#[derive(Debug)]
pub struct MissingFile {
    /// Its path in the lake.
    pub path: String,
    /// Why it is missing.
    pub error: Error,
}

impl fmt::Display for MissingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.error.report())
    }
}

/// What a lookup found.
#[derive(Debug, Default)]
pub struct FoundTraces {
    /// For each id asked for, in that order, its trace; `None` where none was found.
    pub traces: Vec<Option<Arc<Trace>>>,
    /// The files that might have held more. None unless the options allow it.
    pub missing: Vec<MissingFile>,
}

impl FoundTraces {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Reads traces by id from one lake, through a cache.
#[derive(Debug)]
pub(super) struct TraceLookup {
    log: Arc<Log>,
    filters: Arc<TraceFilters>,
    rows: Arc<TraceRows>,
    cache: TraceCache,
    workers: usize,
}

/// Traces read so far, and what could not be.
#[derive(Default)]
struct Reading {
    runs: HashMap<TraceId, Vec<RecordBatch>>,
    missing: Vec<MissingFile>,
}

impl TraceLookup {
    pub(super) fn new(
        log: Arc<Log>,
        filters: Arc<TraceFilters>,
        rows: Arc<TraceRows>,
        config: &QueryConfig,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cache: TraceCache::new(config.trace_cache_bytes, log.snapshot()),
            log,
            filters,
            rows,
            workers: config.threads.unwrap_or(cores).max(1),
        }
    }

    /// Frees what is remembered of files that are no longer in the lake.
    pub(super) fn forget_files(&self, files: &[Arc<LakeFile>]) {
        self.rows.forget(files);
    }

    pub(super) fn cache(&self) -> &TraceCache {
        &self.cache
    }

    /// The traces of these ids, read as the options say.
    pub(super) async fn find(
        &self,
        ids: &[TraceId],
        options: &LookupOptions,
    ) -> Result<FoundTraces> {
        let deadline = options.time_out.map(|time| Instant::now() + time);
        let found = self.find_once(ids, deadline, options).await;
        let is_gone = |error: &Error| error.kind() == ErrorKind::NotFound;
        let vanished = match &found {
            Ok(found) => found.missing.iter().any(|file| is_gone(&file.error)),
            Err(error) => is_gone(error),
        };
        if !vanished {
            return found;
        }
        // Another process compacted and vacuumed since the log was read. If it did not, the file
        // is lost, and that is the answer.
        let version = self.log.snapshot().version();
        if in_time(deadline, self.log.refresh()).await?.version() == version {
            return found;
        }
        self.find_once(ids, deadline, options).await
    }

    async fn find_once(
        &self,
        ids: &[TraceId],
        deadline: Option<Instant>,
        options: &LookupOptions,
    ) -> Result<FoundTraces> {
        let mut known: HashMap<TraceId, Option<Arc<Trace>>> = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        let advanced = self.cache.advance(&self.log, &self.filters);
        let snapshot = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, advanced)
                .await
                .map_err(|_| too_late())?,
            None => advanced.await,
        };
        let hours = options.hours();
        self.find_in(
            &snapshot,
            ids,
            &hours,
            deadline,
            options,
            &mut known,
            &mut missing,
        )
        .await?;
        if hours != ALL_HOURS {
            let absent = |id: &&TraceId| known.get(id).is_none_or(Option::is_none);
            let absent: Vec<TraceId> = ids.iter().filter(absent).copied().collect();
            if !absent.is_empty() {
                let (known, missing) = (&mut known, &mut missing);
                self.find_in(
                    &snapshot, &absent, &ALL_HOURS, deadline, options, known, missing,
                )
                .await?;
            }
        }
        missing.sort_by(|a, b| a.path.cmp(&b.path));
        missing.dedup_by(|a, b| a.path == b.path);
        let traces = ids.iter().map(|id| known.get(id).cloned().flatten());
        Ok(FoundTraces {
            traces: traces.collect(),
            missing,
        })
    }

    /// Finds traces in some hours, and keeps in the cache what was read whole.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one step, in one place"
    )]
    async fn find_in(
        &self,
        snapshot: &Snapshot,
        ids: &[TraceId],
        hours: &RangeInclusive<Hour>,
        deadline: Option<Instant>,
        options: &LookupOptions,
        known: &mut HashMap<TraceId, Option<Arc<Trace>>>,
        missing: &mut Vec<MissingFile>,
    ) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for id in ids {
            if wanted.contains(id) {
                continue;
            }
            match self.cache.get(id, hours, snapshot) {
                Some(trace) => {
                    known.insert(*id, trace);
                }
                None => {
                    wanted.insert(*id);
                }
            }
        }
        let wanted: Vec<TraceId> = wanted.into_iter().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let reading = self
            .read(snapshot, &wanted, hours, deadline, options)
            .await?;
        let is_complete = reading.missing.is_empty();
        missing.extend(reading.missing);
        let mut traces = build(reading.runs).await?;
        for id in wanted {
            let trace = traces.remove(&id);
            if is_complete {
                self.cache.put(id, trace.clone(), hours, snapshot);
            }
            known.insert(id, trace);
        }
        Ok(())
    }

    /// Reads every file that may hold one of `ids`, which are sorted, once.
    async fn read(
        &self,
        snapshot: &Snapshot,
        ids: &[TraceId],
        hours: &RangeInclusive<Hour>,
        deadline: Option<Instant>,
        options: &LookupOptions,
    ) -> Result<Reading> {
        let mut reading = Reading::default();
        let candidates = self.rows.candidates(snapshot, ids, hours);
        let narrowing = candidates.into_iter().map(|file| {
            let path = file.file.path.clone();
            async move { (path, in_time(deadline, self.rows.narrow(file)).await) }.boxed()
        });
        let narrowing: Vec<BoxFuture<'_, _>> = narrowing.collect();
        let mut narrowed = futures::stream::iter(narrowing).buffered(FILTER_READS);
        let mut files = Vec::new();
        while let Some((path, file)) = narrowed.next().await {
            let file = reading.keep(path, file, options)?;
            files.extend(file.filter(|file| !file.trace_ids.is_empty()));
        }
        let workers = options.workers.unwrap_or(self.workers);
        if files.len() == 1 || workers == 1 {
            for file in files {
                let runs = in_time(deadline, self.rows.read(&file)).await;
                let runs = reading.keep(file.file.path.clone(), runs, options)?;
                reading.add(runs.into_iter().flatten());
            }
            return Ok(reading);
        }
        self.read_at_once(files, workers, deadline, options, &mut reading)
            .await?;
        Ok(reading)
    }

    /// Reads files in tasks of their own. Dropping the call stops them.
    async fn read_at_once(
        &self,
        files: Vec<TraceFile>,
        workers: usize,
        deadline: Option<Instant>,
        options: &LookupOptions,
        reading: &mut Reading,
    ) -> Result<()> {
        let mut files = files.into_iter().enumerate();
        let mut tasks = JoinSet::new();
        // In the order of the files, so that of copies the same one is kept each time.
        let mut done = Vec::new();
        loop {
            while tasks.len() < workers
                && let Some((index, file)) = files.next()
            {
                let rows = Arc::clone(&self.rows);
                tasks.spawn(async move {
                    let runs = in_time(deadline, rows.read(&file)).await;
                    (index, file.file.path.clone(), runs)
                });
            }
            let Some(read) = tasks.join_next().await else {
                break;
            };
            let (index, path, runs) = read.map_err(|error| {
                Error::internal("reading a file was stopped").with_source(error)
            })?;
            done.push((index, reading.keep(path, runs, options)?));
        }
        done.sort_unstable_by_key(|(index, _)| *index);
        let runs = done.into_iter().filter_map(|(_, runs)| runs);
        reading.add(runs.flatten());
        Ok(())
    }
}

#[async_trait]
impl TraceReader for TraceLookup {
    async fn traces(&self, ids: &[TraceId]) -> Result<Vec<Option<Arc<Trace>>>> {
        // The statement that asks can be cancelled, and has the time it takes.
        let options = LookupOptions::default().with_time_out(None);
        Ok(self.find(ids, &options).await?.traces)
    }
}

impl Reading {
    /// What was read; `None`, and a note of it, where a file may be left out.
    fn keep<T>(
        &mut self,
        path: String,
        result: Result<T>,
        options: &LookupOptions,
    ) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if options.allow_partial => {
                self.missing.push(MissingFile { path, error });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, runs: impl Iterator<Item = (TraceId, RecordBatch)>) {
        for (id, run) in runs {
            self.runs.entry(id).or_default().push(run);
        }
    }
}

/// Makes traces of their rows, many on all cores.
async fn build(runs: HashMap<TraceId, Vec<RecordBatch>>) -> Result<HashMap<TraceId, Arc<Trace>>> {
    let mut runs = runs.into_iter();
    let mut traces = HashMap::with_capacity(runs.len());
    let mut next = || -> Vec<_> { runs.by_ref().take(BUILT_TOGETHER).collect() };
    let build = |some: Vec<(TraceId, Vec<RecordBatch>)>| -> Result<Vec<_>> {
        let some = some.into_iter();
        some.map(|(id, runs)| Ok((id, Arc::new(Trace::try_new(id, &runs)?))))
            .collect()
    };
    let here = next();
    let mut elsewhere = JoinSet::new();
    loop {
        let some = next();
        if some.is_empty() {
            break;
        }
        elsewhere.spawn(async move { build(some) });
    }
    traces.extend(build(here)?);
    while let Some(built) = elsewhere.join_next().await {
        let built = built.map_err(|error| {
            Error::internal("putting traces together was stopped").with_source(error)
        })?;
        traces.extend(built?);
    }
    Ok(traces)
}

/// What a future gives, if it does so before the deadline.
async fn in_time<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(deadline) = deadline else {
        return future.await;
    };
    // Asked here and not left to the timer, which is a little late.
    if Instant::now() >= deadline {
        return Err(too_late());
    }
    match tokio::time::timeout_at(deadline, future).await {
        Ok(result) => result,
        Err(_) => Err(too_late()),
    }
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the lookup of traces took longer than its time-out; allow it more time, or allow partial \
         answers",
    )
}
