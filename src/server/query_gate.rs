//! Lets a bounded number of queries run, for a bounded time.
//!
//! Read [`QueryGate`]. Queries compute on threads of their own: however busy those are,
//! connections are answered, spans taken in and queries cancelled. Queries that come while enough run wait for their turn; dropping the rows
//! of one cancels it and lets the next begin.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;

use super::metrics::Metrics;
use super::options::QueryOptions;
use super::status::{TOO_LONG, kind_name};
use crate::config::blocking_threads;
use crate::engine::QueryStream;
use crate::error::{Error, ErrorKind, Result};

/// Batches computed and not yet taken by the protocol.
const BATCHES_WAITING: usize = 2;

/// Where every query of every protocol passes.
pub(super) struct QueryGate {
    options: QueryOptions,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    metrics: Arc<Metrics>,
    threads: QueryThreads,
}

/// The threads that compute queries.
struct QueryThreads(Option<Runtime>);

impl QueryThreads {
    fn try_new(count: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name("tracelake-query")
            .max_blocking_threads(blocking_threads())
            .enable_all()
            .build()
            .map_err(|error| Error::internal("cannot start threads").with_source(error))?;
        Ok(Self(Some(runtime)))
    }

    /// Runs on these threads; ends when the set is dropped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
        let mut set = JoinSet::new();
        if let Some(runtime) = &self.0 {
            set.spawn_on(work, runtime.handle());
        }
        set
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // Waiting for what computes is not for whoever drops this.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl QueryGate {
    /// A gate whose queries compute on as many threads, one for each core where not said.
    pub(super) fn try_new(
        options: QueryOptions,
        threads: Option<usize>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let turns = match options.max_concurrent {
            0 => 2 * cores,
            count => count.min(Semaphore::MAX_PERMITS),
        };
        Ok(Self {
            options,
            turns: Arc::new(Semaphore::new(turns)),
            waiting: AtomicUsize::new(0),
            metrics,
            threads: QueryThreads::try_new(threads.unwrap_or(cores))?,
        })
    }

    /// Runs a query when its turn comes. `timeout` shortens the time that options allow.
    pub(super) async fn run(
        &self,
        protocol: &'static str,
        timeout: Option<Duration>,
        query: impl Future<Output = Result<QueryStream>> + Send + 'static,
    ) -> Result<LimitedRows> {
        let turn = self.turn(protocol).await?;
        let limit = self.options.timeout.0;
        let limit = timeout.map_or(limit, |timeout| timeout.min(limit));
        let deadline = tokio::time::Instant::now() + limit;
        let mut ending = self.ending(protocol, turn, deadline);
        let (sender, rows) = mpsc::channel(BATCHES_WAITING);
        let (begun, begins) = oneshot::channel();
        let computing = self.threads.spawn(compute(query, begun, sender));
        let outcome = tokio::time::timeout_at(deadline, begins).await;
        let outcome = outcome.unwrap_or_else(|_| Ok(Err(too_long(limit))));
        match outcome.unwrap_or_else(|_| Err(stopped())) {
            Ok(schema) => Ok(LimitedRows {
                schema,
                rows,
                _computing: computing,
                limit,
                max_rows: self.options.max_rows,
                alarm: Box::pin(tokio::time::sleep_until(deadline)),
                ending,
            }),
            Err(error) => {
                ending.outcome = kind_name(error.kind());
                Err(error)
            }
        }
    }

    /// The same for work that answers at once and not row by row; `row_count` tells how many rows
    /// its answer has.
    pub(super) async fn answer<T: Send + 'static>(
        &self,
        protocol: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
        row_count: fn(&T) -> u64,
    ) -> Result<T> {
        let turn = self.turn(protocol).await?;
        let limit = self.options.timeout.0;
        let deadline = tokio::time::Instant::now() + limit;
        let mut ending = self.ending(protocol, turn, deadline);
        let (sender, answer) = oneshot::channel();
        let computing = self.threads.spawn(async move {
            // Nobody waits any more, or is told here.
            let _ = sender.send(work.await);
        });
        let outcome = tokio::time::timeout_at(deadline, answer).await;
        drop(computing);
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(too_long(limit)),
        };
        let outcome = outcome.and_then(|answer| {
            ending.row_count = row_count(&answer);
            let max_rows = self.options.max_rows;
            match max_rows > 0 && ending.row_count > max_rows {
                true => Err(too_many(max_rows)),
                false => Ok(answer),
            }
        });
        ending.outcome = match &outcome {
            Ok(_) => "done",
            Err(error) => kind_name(error.kind()),
        };
        outcome
    }

    /// What counts a query that begins.
    fn ending(
        &self,
        protocol: &'static str,
        turn: OwnedSemaphorePermit,
        deadline: tokio::time::Instant,
    ) -> Ending {
        self.metrics.queries_running().inc();
        Ending {
            protocol,
            started: Instant::now(),
            row_count: 0,
            outcome: "cancelled",
            metrics: Arc::clone(&self.metrics),
            turn: release_at(turn, deadline),
        }
    }

    async fn turn(&self, protocol: &str) -> Result<OwnedSemaphorePermit> {
        let turns = Arc::clone(&self.turns);
        if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
            return Ok(turn);
        }
        let refuse = |message: &str| {
            self.metrics.query(protocol, "refused", Duration::ZERO, 0);
            Err(Error::new(ErrorKind::Unavailable, message))
        };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.options.max_queued {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return refuse("too many queries wait for their turn; try again later");
        }
        let waiting = Queued(self);
        self.metrics.queries_waiting().inc();
        let turn = tokio::time::timeout(self.options.max_wait.0, turns.acquire_owned()).await;
        drop(waiting);
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            _ => refuse(
                "other queries took too long, and this one's turn did not come; try again later",
            ),
        }
    }
}

/// A query that waits, also if its client goes away meanwhile.
struct Queued<'a>(&'a QueryGate);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.queries_waiting().dec();
    }
}

fn too_long(limit: Duration) -> Error {
    Error::new(
        ErrorKind::ResourcesExhausted,
        format!(
            "{TOO_LONG}, as it ran longer than {} s; ask for less, or raise the limit",
            limit.as_secs_f64()
        ),
    )
}

fn too_many(max_rows: u64) -> Error {
    Error::new(
        ErrorKind::ResourcesExhausted,
        format!("the result has more than {max_rows} rows; add a LIMIT"),
    )
}

fn stopped() -> Error {
    Error::internal("a query stopped without a result")
}

/// Runs a query and hands on its columns, then its rows.
async fn compute(
    query: impl Future<Output = Result<QueryStream>>,
    begun: oneshot::Sender<Result<SchemaRef>>,
    batches: mpsc::Sender<Option<Result<RecordBatch>>>,
) {
    let mut rows = match query.await {
        Ok(rows) => rows,
        Err(error) => {
            // Nobody waits any more, or is told here.
            let _ = begun.send(Err(error));
            return;
        }
    };
    if begun.send(Ok(rows.schema())).is_err() {
        return;
    }
    while let Some(batch) = rows.next().await {
        if batches.send(Some(batch)).await.is_err() {
            return;
        }
    }
    // The end is told, so that one without it is known for a query that stopped.
    let _ = batches.send(None).await;
}

/// The rows of a query, until its time or its number of rows is over.
pub(super) struct LimitedRows {
    schema: SchemaRef,
    rows: mpsc::Receiver<Option<Result<RecordBatch>>>,
    /// Ends the query when the rows are dropped.
    _computing: JoinSet<()>,
    limit: Duration,
    max_rows: u64,
    alarm: Pin<Box<Sleep>>,
    ending: Ending,
}

impl LimitedRows {
    /// The columns of the result.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<RecordBatch>>> {
        self.ending.outcome = kind_name(error.kind());
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for LimitedRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.rows.poll_recv(context) {
            Poll::Ready(Some(Some(Ok(batch)))) => {
                self.ending.row_count += batch.num_rows() as u64;
                let max_rows = self.max_rows;
                if max_rows > 0 && self.ending.row_count > max_rows {
                    return self.fail(too_many(max_rows));
                }
                // Rows may come so fast that nothing else is ever waited for.
                if self.alarm.deadline() <= tokio::time::Instant::now() {
                    let limit = self.limit;
                    return self.fail(too_long(limit));
                }
                Poll::Ready(Some(Ok(batch)))
            }
            Poll::Ready(Some(Some(Err(error)))) => self.fail(error),
            Poll::Ready(None) if self.ending.outcome != "cancelled" => Poll::Ready(None),
            Poll::Ready(None) => self.fail(stopped()),
            Poll::Ready(Some(None)) => {
                self.ending.outcome = "done";
                Poll::Ready(None)
            }
            Poll::Pending => {
                if self.alarm.as_mut().poll(context).is_ready() {
                    let limit = self.limit;
                    return self.fail(too_long(limit));
                }
                Poll::Pending
            }
        }
    }
}

/// Counts a query when it ends, however it does.
struct Ending {
    protocol: &'static str,
    started: Instant,
    row_count: u64,
    outcome: &'static str,
    metrics: Arc<Metrics>,
    turn: AbortHandle,
}

/// Gives a turn back at the deadline also where nobody asks for the rows any more.
fn release_at(turn: OwnedSemaphorePermit, deadline: tokio::time::Instant) -> AbortHandle {
    let holding = tokio::spawn(async move {
        tokio::time::sleep_until(deadline).await;
        drop(turn);
    });
    holding.abort_handle()
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.turn.abort();
        let elapsed = self.started.elapsed();
        self.metrics
            .query(self.protocol, self.outcome, elapsed, self.row_count);
        self.metrics.queries_running().dec();
        tracing::info!(
            protocol = self.protocol,
            outcome = self.outcome,
            rows = self.row_count,
            millis = elapsed.as_secs_f64() * 1e3,
            "query"
        );
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::super::option_values::Time;
    use super::*;
    use crate::engine::{Lake, Session};

    async fn session() -> Session {
        let lake = Lake::create("memory://", Default::default()).await.unwrap();
        lake.session().await.unwrap()
    }

    fn gate(options: QueryOptions) -> QueryGate {
        QueryGate::try_new(options, None, Arc::new(Metrics::try_new().unwrap())).unwrap()
    }

    fn asked(
        session: &Session,
        sql: &'static str,
    ) -> impl Future<Output = Result<QueryStream>> + 'static {
        let session = session.clone();
        async move { session.query(sql, &[]).await }
    }

    const LONG: &str = "SELECT sum(a.n * b.n) FROM (SELECT unnest(generate_series(1, 100000)) AS n) a \
                        CROSS JOIN (SELECT unnest(generate_series(1, 100000)) AS n) b";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_is_cancelled_when_its_time_is_over() {
        let session = session().await;
        let gate = gate(QueryOptions::default());
        let timeout = Some(Duration::from_millis(100));
        let started = Instant::now();
        let rows = gate.run("test", timeout, asked(&session, LONG)).await;
        // A busy machine may need all of the time for planning.
        let error = match rows {
            Ok(rows) => rows.try_collect::<Vec<_>>().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::ResourcesExhausted);
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(gate.metrics.queries_running().get(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sixty_four_queries_wait_for_their_turn_and_all_are_answered() {
        let session = session().await;
        let gate = gate(QueryOptions {
            max_concurrent: 2,
            ..QueryOptions::default()
        });
        let all = (0..64).map(|_| async {
            let sql = "SELECT sum(n) FROM (SELECT unnest(generate_series(1, 1000)) AS n)";
            let rows = gate.run("test", None, asked(&session, sql)).await?;
            rows.try_collect::<Vec<_>>().await
        });
        for rows in futures::future::join_all(all).await {
            assert_eq!(rows.unwrap()[0].num_rows(), 1);
        }
    }

    #[tokio::test]
    async fn beyond_the_queue_queries_are_refused_and_too_many_rows_are_an_error() {
        let session = session().await;
        let gate = gate(QueryOptions {
            max_concurrent: 1,
            max_queued: 1,
            max_wait: Time(Duration::from_millis(20)),
            max_rows: 10,
            ..QueryOptions::default()
        });
        let first = gate.run("test", None, asked(&session, "SELECT 1")).await;
        let (second, third) = tokio::join!(
            gate.run("test", None, asked(&session, "SELECT 1")),
            gate.run("test", None, asked(&session, "SELECT 1"))
        );
        for refused in [second, third] {
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unavailable);
        }
        drop(first);
        let many = "SELECT unnest(generate_series(1, 11))";
        let rows = gate.run("test", None, asked(&session, many)).await.unwrap();
        assert!(rows.try_collect::<Vec<_>>().await.is_err());
    }
}
