//! Gathers the spans of many senders into few commits, and answers each when its commit is
//! durable.
//!
//! ```text
//! request ─ room in memory ─ decode ─┐
//! request ─ room in memory ─ decode ─┼─ group ─ sort, write, sync ─ commit ─ answers
//! request ─ room in memory ─ decode ─┘   (the next group gathers meanwhile)
//! ```
//!
//! Read [`CommitQueue`]. A group is committed when it is full, when its first request has waited
//! long enough, or when it is large enough and everybody who shared the last commit is in again:
//! then nobody else is about to come, and waiting would only slow down senders that wait for
//! each answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Lake;
use super::received::{Decoded, Receipt, decode_request};
use crate::config::CommitConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::Format;
use crate::storage::compute;

/// Bytes a unit of room stands for.
const ROOM_UNIT: usize = 1024;

/// What a request takes at the least while it waits, whatever its length.
const REQUEST_BYTES: usize = 16 << 10;

/// Takes requests in, and commits their spans together. Cheap to clone; must be made within a
/// tokio runtime.
#[derive(Debug, Clone)]
pub struct CommitQueue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: CommitConfig,
    /// What is left of the memory for requests and spans under way.
    room: Arc<Semaphore>,
    /// Requests that may be decoded at once: one a core.
    decoders: Semaphore,
    /// `None` once the queue was closed.
    requests: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
    gathering: Mutex<Option<JoinHandle<()>>>,
    stats: Arc<CommitStats>,
}

/// What a queue has done since it was made.
#[derive(Debug, Default)]
pub struct CommitStats {
    /// Spans committed.
    pub span_count: AtomicU64,
    /// Spans left out, since they are broken.
    pub rejected_span_count: AtomicU64,
    /// Values of attributes that were cut.
    pub cut_value_count: AtomicU64,
    /// Commits made.
    pub commit_count: AtomicU64,
    /// Commits that failed.
    pub failed_commit_count: AtomicU64,
    /// Requests refused for lack of room.
    pub refused_count: AtomicU64,
    /// Files written.
    pub file_count: AtomicU64,
    /// Their bytes.
    pub byte_count: AtomicU64,
    /// The time all commits took, in microseconds.
    pub commit_micros: AtomicU64,
    /// Bytes of requests and spans that wait for their commit.
    pub pending_bytes: AtomicU64,
}

/// Decoded spans whose sender waits.
struct Waiting {
    batch: RecordBatch,
    byte_count: usize,
    answer: oneshot::Sender<Result<()>>,
    /// Given back when the spans are in the lake.
    room: Room,
}

/// A part of the memory for requests and spans under way; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    stats: Arc<CommitStats>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.stats
            .pending_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl CommitQueue {
    /// A queue in front of a lake, with the options the lake was opened with.
    pub fn new(lake: &Lake) -> Self {
        let config = lake.config().commit.clone();
        let (sender, requests) = mpsc::unbounded_channel();
        let stats = Arc::<CommitStats>::default();
        let gatherer = Gatherer {
            lake: lake.clone(),
            config: config.clone(),
            slots: Arc::new(Semaphore::new(config.concurrent.max(1))),
            stats: Arc::clone(&stats),
            requests,
            last_request_count: 1,
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let units = (config.pending_bytes / ROOM_UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner: Arc::new(Inner {
                config,
                room: Arc::new(Semaphore::new(units)),
                decoders: Semaphore::new(cores),
                requests: Mutex::new(Some(sender)),
                gathering: Mutex::new(Some(tokio::spawn(gatherer.run()))),
                stats,
            }),
        }
    }

    /// Decodes a request and returns when its spans are in the lake, durably and for every
    /// query from then on.
    ///
    /// `Unavailable` means: send it again later. Whether it was taken is not known only where
    /// the store failed in the middle of a commit; exact re-deliveries vanish at compaction.
    /// `InvalidInput` means that nothing of it was taken and never will be.
    pub async fn receive(&self, body: Bytes, format: Option<Format>) -> Result<Receipt> {
        let room = self.room_for_request(body.len()).await?;
        self.receive_in(room, body, format).await
    }

    /// Memory for a request of so many bytes, as sent, and for its spans, once there is enough;
    /// `Unavailable` where that takes too long. To be had before the request is read.
    pub async fn room_for_request(&self, bytes: usize) -> Result<Room> {
        let mut room = Room {
            bytes: 0,
            stats: Arc::clone(&self.inner.stats),
            permit: None,
        };
        self.enlarge_for_request(&mut room, bytes).await?;
        Ok(room)
    }

    /// The same where there is some already, for a request that turns out to be longer.
    pub async fn enlarge_for_request(&self, room: &mut Room, bytes: usize) -> Result<()> {
        // Decoded, a span takes about twice its protobuf; JSON is longer than what it says.
        let bytes = bytes.saturating_mul(3).max(REQUEST_BYTES);
        self.enlarge(room, bytes).await
    }

    /// The same as [`CommitQueue::receive`] for a request that has its room already.
    pub async fn receive_in(
        &self,
        mut room: Room,
        body: Bytes,
        format: Option<Format>,
    ) -> Result<Receipt> {
        // Kept until there is room for what came out: no more requests than are decoded at once
        // take memory that nobody counts.
        let turn = self.inner.decoders.acquire().await;
        let decoded = self.decode(body, format).await?;
        // A compressed request may hold much more than its length tells.
        self.enlarge(&mut room, decoded.byte_count).await?;
        drop(turn);
        self.commit(decoded, room).await
    }

    async fn decode(&self, body: Bytes, format: Option<Format>) -> Result<Decoded> {
        let config = self.inner.config.clone();
        compute(move || decode_request(body, format, &config)).await
    }

    async fn commit(&self, decoded: Decoded, room: Room) -> Result<Receipt> {
        let Decoded {
            batch,
            byte_count,
            receipt,
        } = decoded;
        if let Some(batch) = batch {
            let (answer, committed) = oneshot::channel();
            let waiting = Waiting {
                batch,
                byte_count,
                answer,
                room,
            };
            let sent = {
                let requests = self.inner.requests.lock();
                let requests = requests.unwrap_or_else(PoisonError::into_inner);
                requests.as_ref().map(|queue| queue.send(waiting))
            };
            if !matches!(sent, Some(Ok(()))) {
                return Err(closed());
            }
            committed.await.unwrap_or_else(|_| Err(closed()))?;
        }
        let stats = &self.inner.stats;
        let add = |counter: &AtomicU64, count| counter.fetch_add(count, Ordering::Relaxed);
        add(&stats.span_count, receipt.span_count);
        add(&stats.rejected_span_count, receipt.rejected_span_count);
        add(&stats.cut_value_count, receipt.cut_value_count);
        Ok(receipt)
    }

    /// Commits what was taken in so far and takes nothing more.
    pub async fn close(&self) {
        let requests = self.inner.requests.lock();
        drop(requests.unwrap_or_else(PoisonError::into_inner).take());
        let gathering = {
            let gathering = self.inner.gathering.lock();
            gathering.unwrap_or_else(PoisonError::into_inner).take()
        };
        if let Some(gathering) = gathering {
            // It ends by itself; if it panicked, its senders were told.
            let _ = gathering.await;
        }
    }

    /// What the queue has done so far.
    pub fn stats(&self) -> &CommitStats {
        &self.inner.stats
    }

    /// Makes a room one of so many bytes, or of all there are, once there is enough.
    async fn enlarge(&self, room: &mut Room, bytes: usize) -> Result<()> {
        let inner = &self.inner;
        // A request that takes all there is can be taken alone.
        let bytes = bytes.min(inner.config.pending_bytes.max(ROOM_UNIT)) as u64;
        let missing = bytes.saturating_sub(room.bytes) / ROOM_UNIT as u64;
        if missing == 0 {
            return Ok(());
        }
        let units = u32::try_from(missing).unwrap_or(u32::MAX);
        let acquired = Arc::clone(&inner.room).acquire_many_owned(units);
        let permit = match tokio::time::timeout(inner.config.max_wait, acquired).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                inner.stats.refused_count.fetch_add(1, Ordering::Relaxed);
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "too many spans wait to be committed; send this request again later",
                ));
            }
        };
        match &mut room.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        let added = missing * ROOM_UNIT as u64;
        room.bytes += added;
        inner
            .stats
            .pending_bytes
            .fetch_add(added, Ordering::Relaxed);
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server is shutting down; send this request again",
    )
}

/// Makes groups of what comes, and commits them.
struct Gatherer {
    lake: Lake,
    config: CommitConfig,
    slots: Arc<Semaphore>,
    stats: Arc<CommitStats>,
    requests: mpsc::UnboundedReceiver<Waiting>,
    /// How many requests shared the last commit.
    last_request_count: usize,
}

/// Requests that will share a commit.
#[derive(Default)]
struct Group {
    requests: Vec<Waiting>,
    span_count: usize,
    byte_count: usize,
}

impl Group {
    fn push(&mut self, request: Waiting) {
        self.span_count += request.batch.num_rows();
        self.byte_count += request.byte_count;
        self.requests.push(request);
    }
}

impl Gatherer {
    async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let mut group = Group::default();
            group.push(first);
            let slot = self.gather(&mut group).await;
            self.last_request_count = group.requests.len();
            let (lake, stats) = (self.lake.clone(), Arc::clone(&self.stats));
            tokio::spawn(async move {
                commit(&lake, group, &stats).await;
                drop(slot);
            });
        }
        // What is under way ends before the queue does.
        let all = u32::try_from(self.config.concurrent.max(1)).unwrap_or(u32::MAX);
        let _ = self.slots.acquire_many(all).await;
    }

    /// Adds requests until the group is to be committed and there is a place to do it.
    async fn gather(&mut self, group: &mut Group) -> Option<OwnedSemaphorePermit> {
        let config = &self.config;
        let deadline = Instant::now() + config.max_delay.min(Duration::from_millis(500));
        let mut acquiring = Box::pin(Arc::clone(&self.slots).acquire_owned());
        let mut slot = None;
        let mut is_last = false;
        loop {
            let is_full =
                group.span_count >= config.max_spans || group.byte_count >= config.max_bytes;
            let all_are_back = group.span_count >= config.eager_spans
                && group.requests.len() >= self.last_request_count;
            let is_due = is_full || all_are_back || is_last || Instant::now() >= deadline;
            if is_due && slot.is_some() {
                return slot;
            }
            tokio::select! {
                biased;
                acquired = &mut acquiring, if slot.is_none() => match acquired {
                    Ok(permit) => slot = Some(permit),
                    // Never closed; without a place the commit goes on alone.
                    Err(_) => return None,
                },
                request = self.requests.recv(), if !is_full && !is_last => match request {
                    Some(request) => group.push(request),
                    None => is_last = true,
                },
                () = tokio::time::sleep_until(deadline), if !is_due => {}
            }
        }
    }
}

/// Writes and commits a group, and tells its senders.
async fn commit(lake: &Lake, group: Group, stats: &CommitStats) {
    let started = Instant::now();
    let mut batches = Vec::with_capacity(group.requests.len());
    let mut answers = Vec::with_capacity(group.requests.len());
    let mut rooms = Vec::with_capacity(group.requests.len());
    for request in group.requests {
        batches.push(request.batch);
        answers.push(request.answer);
        rooms.push(request.room);
    }
    let outcome = match concat(batches) {
        Ok(batch) => lake.append(batch).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(written) => {
            let add = |counter: &AtomicU64, count| counter.fetch_add(count, Ordering::Relaxed);
            add(&stats.commit_count, 1);
            add(&stats.file_count, written.file_count as u64);
            add(&stats.byte_count, written.byte_count);
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            add(&stats.commit_micros, micros);
            tracing::debug!(
                spans = group.span_count,
                version = written.version,
                micros,
                "committed"
            );
            for answer in answers {
                // A sender that went away is not told.
                let _ = answer.send(Ok(()));
            }
        }
        Err(error) => {
            stats.failed_commit_count.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                spans = group.span_count,
                error = error.report(),
                "a commit failed"
            );
            // Whatever it was, it was not the senders' fault: the same request may do later.
            for answer in answers {
                let message = format!("the spans could not be committed: {}", error.report());
                let _ = answer.send(Err(Error::new(ErrorKind::Unavailable, message)));
            }
        }
    }
    drop(rooms);
}

fn concat(mut batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    if batches.len() == 1
        && let Some(only) = batches.pop()
    {
        return Ok(only);
    }
    let schema = batches
        .first()
        .map(RecordBatch::schema)
        .ok_or_else(|| Error::internal("a group without a request"))?;
    Ok(concat_batches(&schema, &batches)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn request(span: u32) -> Bytes {
        Bytes::from(format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{
            "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"{:016x}","name":"n",
            "startTimeUnixNano":"1","endTimeUnixNano":"2"}}]}}]}}]}}"#,
            span + 1
        ))
    }

    async fn lake(commit: CommitConfig) -> Lake {
        let config = Config {
            commit,
            ..Config::default()
        };
        Lake::create("memory://", config).await.unwrap()
    }

    #[tokio::test]
    async fn requests_share_a_commit_and_are_visible_when_answered() {
        let lake = lake(CommitConfig::default()).await;
        let queue = CommitQueue::new(&lake);
        let session = lake.session().await.unwrap();
        let all = (0..20).map(|span| queue.receive(request(span), None));
        for receipt in futures::future::join_all(all).await {
            assert_eq!(receipt.unwrap().span_count, 1);
        }
        let sql = "SELECT span_id FROM spans";
        let rows = session
            .query(sql, &[])
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
        assert_eq!(queue.stats().commit_count.load(Ordering::Relaxed), 1);
        assert_eq!(queue.stats().pending_bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_closed_queue_commits_what_it_has_and_refuses_the_rest() {
        let lake = lake(CommitConfig {
            max_delay: Duration::from_millis(500),
            ..CommitConfig::default()
        })
        .await;
        let queue = CommitQueue::new(&lake);
        let sender = queue.clone();
        let sent = tokio::spawn(async move { sender.receive(request(0), None).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        queue.close().await;
        assert_eq!(sent.await.unwrap().unwrap().span_count, 1);
        let refused = queue.receive(request(1), None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert_eq!(lake.info().await.unwrap().span_count, 1);
    }

    #[tokio::test]
    async fn without_room_requests_are_refused_after_a_while() {
        let lake = lake(CommitConfig {
            pending_bytes: REQUEST_BYTES,
            max_delay: Duration::from_millis(300),
            max_wait: Duration::from_millis(20),
            ..CommitConfig::default()
        })
        .await;
        let queue = CommitQueue::new(&lake);
        let (first, second) = tokio::join!(
            queue.receive(request(0), None),
            queue.receive(request(1), None)
        );
        first.unwrap();
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(queue.stats().refused_count.load(Ordering::Relaxed), 1);
        queue.receive(request(2), None).await.unwrap();
    }
}
