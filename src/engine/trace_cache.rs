//! Traces that were read, kept for the next who asks.
//!
//! Read [`TraceCache`]. What it holds is always what the snapshot it is at would answer: before it
//! is asked it is brought up to the newest snapshot by [`TraceCache::advance`].

use std::collections::hash_map::RandomState;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use lru::LruCache;

use crate::span::TraceId;
use crate::storage::{Change, Hour, LakeFile, Log, Snapshot, TraceFilters};
use crate::trace::Trace;

/// What an entry costs beside its trace: its key, its place in the map and in the list.
const ENTRY_BYTES: usize = 256;

/// How many trace-id filters are read at the same time.
const FILTER_READS: usize = 16;

/// Every hour there is.
pub(super) const ALL_HOURS: RangeInclusive<Hour> = Hour(i32::MIN)..=Hour(i32::MAX);

/// A cache of traces, bounded in bytes, the least recently used first to go. That a trace is not
/// in the lake is remembered too.
///
/// An entry goes when, and only when, a commit may have changed it: when a file that came or was
/// expired lies in an hour the entry is about, and neither its bucket nor its trace-id filter
/// rules the trace out. Compaction changes no trace.
pub(super) struct TraceCache {
    max_bytes: usize,
    state: Mutex<State>,
    /// Held while the cache is brought up to a newer snapshot.
    advancing: tokio::sync::Mutex<()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct State {
    snapshot: Snapshot,
    /// Whether entries are being compared with newer commits: nothing may be added meanwhile.
    advances: bool,
    entries: LruCache<TraceId, Entry, RandomState>,
    bytes: usize,
}

struct Entry {
    /// `None` where the hours hold no span of the trace.
    trace: Option<Arc<Trace>>,
    /// The hours that were read.
    hours: RangeInclusive<Hour>,
}

impl Entry {
    fn byte_count(&self) -> usize {
        ENTRY_BYTES + self.trace.as_ref().map_or(0, |trace| trace.byte_count())
    }
}

/// How a [trace cache](super::Lake::trace_cache_statistics) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceCacheStatistics {
    /// Traces that were found in it, or known to be absent.
    pub hit_count: u64,
    /// Traces that had to be read.
    pub miss_count: u64,
    /// Traces it holds, those known to be absent counted.
    pub entry_count: usize,
    /// About the bytes it holds.
    pub byte_count: usize,
}

impl TraceCache {
    /// An empty cache of at most `max_bytes`; with zero it keeps nothing.
    pub(super) fn new(max_bytes: usize, snapshot: Snapshot) -> Self {
        Self {
            max_bytes,
            state: Mutex::new(State {
                snapshot,
                advances: false,
                entries: LruCache::unbounded_with_hasher(RandomState::new()),
                bytes: 0,
            }),
            advancing: tokio::sync::Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) fn statistics(&self) -> TraceCacheStatistics {
        let state = self.lock();
        TraceCacheStatistics {
            hit_count: self.hits.load(Ordering::Relaxed),
            miss_count: self.misses.load(Ordering::Relaxed),
            entry_count: state.entries.len(),
            byte_count: state.bytes,
        }
    }

    /// Drops what the commits since the last call may have changed, and gives the snapshot that
    /// the cache is at now.
    pub(super) async fn advance(&self, log: &Log, filters: &TraceFilters) -> Snapshot {
        let newest = log.snapshot();
        if self.lock().snapshot.version() == newest.version() {
            return newest;
        }
        let _advancing = self.advancing.lock().await;
        let at = {
            let mut state = self.lock();
            // Stays so if this call is dropped half-way: the next one begins again.
            state.advances = true;
            state.snapshot.clone()
        };
        // Changes that came after this snapshot are looked at too early, and once more later.
        let newest = log.snapshot();
        for change in log.changes_since(&at) {
            self.apply(&change, log, filters).await;
        }
        let mut state = self.lock();
        state.snapshot = newest.clone();
        state.advances = false;
        newest
    }

    async fn apply(&self, change: &Change, log: &Log, filters: &TraceFilters) {
        let asking = change.files().map(|file| {
            async move {
                let asked = self.ids_in(file);
                if asked.is_empty() {
                    return asked;
                }
                let matching = filters.matching(log.store(), file, &asked).await;
                // A filter that cannot be read rules nothing out.
                matching.unwrap_or(asked)
            }
            .boxed()
        });
        let asking: Vec<BoxFuture<'_, Vec<TraceId>>> = asking.collect();
        let affected = futures::stream::iter(asking).buffer_unordered(FILTER_READS);
        let affected: Vec<Vec<TraceId>> = affected.collect().await;
        let mut state = self.lock();
        for id in affected.iter().flatten() {
            state.forget(id);
        }
    }

    /// The traces held that the file may have by its hour and bucket.
    fn ids_in(&self, file: &LakeFile) -> Vec<TraceId> {
        let state = self.lock();
        let entries = state.entries.iter();
        entries
            .filter(|(id, entry)| entry.hours.contains(&file.hour) && file.bucket.may_contain(id))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What is known of a trace in these hours: `Some(None)` if it is not there. What was read
    /// for more hours is the answer, too.
    pub(super) fn get(
        &self,
        id: &TraceId,
        hours: &RangeInclusive<Hour>,
        snapshot: &Snapshot,
    ) -> Option<Option<Arc<Trace>>> {
        let mut state = self.lock();
        let at_snapshot = state.snapshot.version() == snapshot.version();
        let covers = |entry: &&Entry| {
            entry.hours.start() <= hours.start() && entry.hours.end() >= hours.end()
        };
        let entry = state.entries.get(id).filter(|_| at_snapshot);
        let found = entry.filter(covers).map(|entry| entry.trace.clone());
        drop(state);
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps what was read from a snapshot, unless the cache has gone on to another since.
    pub(super) fn put(
        &self,
        id: TraceId,
        trace: Option<Arc<Trace>>,
        hours: &RangeInclusive<Hour>,
        snapshot: &Snapshot,
    ) {
        let hours = hours.clone();
        let entry = Entry { trace, hours };
        let bytes = entry.byte_count();
        let mut state = self.lock();
        let is_current = state.snapshot.version() == snapshot.version() && !state.advances;
        if bytes > self.max_bytes || !is_current {
            return;
        }
        state.forget(&id);
        state.entries.put(id, entry);
        state.bytes += bytes;
        while state.bytes > self.max_bytes {
            let Some((_, dropped)) = state.entries.pop_lru() else {
                break;
            };
            state.bytes -= dropped.byte_count();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, id: &TraceId) {
        if let Some(entry) = self.entries.pop(id) {
            self.bytes -= entry.byte_count();
        }
    }
}

impl std::fmt::Debug for TraceCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceCache")
            .field("max_bytes", &self.max_bytes)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}
