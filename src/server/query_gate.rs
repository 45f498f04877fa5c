//! Lets a bounded number of queries run, for a bounded time.
//!
//! Read [`QueryGate`]. Queries that come while enough run wait for their turn; dropping the rows
//! of one cancels it and lets the next begin.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::metrics::Metrics;
use super::options::QueryOptions;
use super::status::{TOO_LONG, kind_name};
use crate::engine::QueryStream;
use crate::error::{Error, ErrorKind, Result};

/// Where every query of every protocol passes.
pub(super) struct QueryGate {
    options: QueryOptions,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl QueryGate {
    pub(super) fn new(options: QueryOptions, metrics: Arc<Metrics>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let turns = match options.max_concurrent {
            0 => 2 * cores,
            count => count.min(Semaphore::MAX_PERMITS),
        };
        Self {
            options,
            turns: Arc::new(Semaphore::new(turns)),
            waiting: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Runs a query when its turn comes. `timeout` shortens the time that options allow.
    pub(super) async fn run(
        &self,
        protocol: &'static str,
        timeout: Option<Duration>,
        query: impl Future<Output = Result<QueryStream>>,
    ) -> Result<LimitedRows> {
        let turn = self.turn(protocol).await?;
        let limit = self.options.timeout.0;
        let limit = timeout.map_or(limit, |timeout| timeout.min(limit));
        let deadline = tokio::time::Instant::now() + limit;
        let mut ending = Ending {
            protocol,
            started: Instant::now(),
            row_count: 0,
            outcome: "cancelled",
            metrics: Arc::clone(&self.metrics),
            turn: release_at(turn, deadline),
        };
        self.metrics.queries_running().inc();
        let outcome = tokio::time::timeout_at(deadline, query).await;
        match outcome.unwrap_or_else(|_| Err(too_long(limit))) {
            Ok(rows) => Ok(LimitedRows {
                rows,
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

/// The rows of a query, until its time or its number of rows is over.
pub(super) struct LimitedRows {
    rows: QueryStream,
    limit: Duration,
    max_rows: u64,
    alarm: Pin<Box<Sleep>>,
    ending: Ending,
}

impl LimitedRows {
    /// The columns of the result.
    pub(super) fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<RecordBatch>>> {
        self.ending.outcome = kind_name(error.kind());
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for LimitedRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.rows).poll_next(context) {
            Poll::Ready(Some(Ok(batch))) => {
                self.ending.row_count += batch.num_rows() as u64;
                let max_rows = self.max_rows;
                if max_rows > 0 && self.ending.row_count > max_rows {
                    return self.fail(Error::new(
                        ErrorKind::ResourcesExhausted,
                        format!("the result has more than {max_rows} rows; add a LIMIT"),
                    ));
                }
                // Rows may come so fast that nothing else is ever waited for.
                if self.alarm.deadline() <= tokio::time::Instant::now() {
                    let limit = self.limit;
                    return self.fail(too_long(limit));
                }
                Poll::Ready(Some(Ok(batch)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(error),
            Poll::Ready(None) => {
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

    use super::super::options::Time;
    use super::*;
    use crate::engine::{Lake, Session};

    async fn session() -> Session {
        let lake = Lake::create("memory://", Default::default()).await.unwrap();
        lake.session().await.unwrap()
    }

    fn gate(options: QueryOptions) -> QueryGate {
        QueryGate::new(options, Arc::new(Metrics::try_new().unwrap()))
    }

    const LONG: &str = "SELECT sum(a.n * b.n) FROM (SELECT unnest(generate_series(1, 100000)) AS n) a \
                        CROSS JOIN (SELECT unnest(generate_series(1, 100000)) AS n) b";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_is_cancelled_when_its_time_is_over() {
        let session = session().await;
        let gate = gate(QueryOptions::default());
        let timeout = Some(Duration::from_millis(100));
        let started = Instant::now();
        let rows = gate.run("test", timeout, session.query(LONG, &[])).await;
        let error = rows.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
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
            let rows = gate.run("test", None, session.query(sql, &[])).await?;
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
        let first = gate.run("test", None, session.query("SELECT 1", &[])).await;
        let (second, third) = tokio::join!(
            gate.run("test", None, session.query("SELECT 1", &[])),
            gate.run("test", None, session.query("SELECT 1", &[]))
        );
        for refused in [second, third] {
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unavailable);
        }
        drop(first);
        let many = "SELECT unnest(generate_series(1, 11))";
        let rows = gate
            .run("test", None, session.query(many, &[]))
            .await
            .unwrap();
        assert!(rows.try_collect::<Vec<_>>().await.is_err());
    }
}
