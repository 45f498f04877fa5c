//! A limit for the memory of one statement, within that of all.
//!
//! Read [`limited_runtime`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnv;

/// The same runtime for one statement, which may use `limit` bytes of its memory.
pub(super) fn limited_runtime(runtime: &Arc<RuntimeEnv>, limit: usize) -> Arc<RuntimeEnv> {
    let mut limited = runtime.as_ref().clone();
    limited.memory_pool = Arc::new(StatementPool {
        all: Arc::clone(&runtime.memory_pool),
        used: AtomicUsize::new(0),
        limit,
    });
    Arc::new(limited)
}

/// Takes memory from the pool of all statements, up to a limit of its own.
#[derive(Debug)]
struct StatementPool {
    all: Arc<dyn MemoryPool>,
    used: AtomicUsize,
    limit: usize,
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement(limit: {}, of {})", self.limit, self.all)
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(additional)
                    .filter(|used| *used <= self.limit)
            });
        if grown.is_err() {
            return Err(resources_datafusion_err!(
                "the statement needs more than the {} bytes of memory that one may use",
                self.limit
            ));
        }
        let granted = self.all.try_grow(reservation, additional);
        if granted.is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        }
        granted
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::{Lake, SessionOptions};
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn one_statement_is_stopped_where_its_memory_ends() {
        let lake = Lake::create("memory://", Default::default()).await.unwrap();
        let options = SessionOptions {
            statement_memory_bytes: Some(1 << 20),
            ..SessionOptions::default()
        };
        let session = lake.session_with(options).await.unwrap();
        let sql = "SELECT array_agg(n) FROM (SELECT unnest(generate_series(1, 2000000)) AS n)";
        let outcome = session.query(sql, &[]).await.unwrap().collect().await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ResourcesExhausted);
        let rows = session
            .query("SELECT 1", &[])
            .await
            .unwrap()
            .collect()
            .await;
        assert_eq!(rows.unwrap()[0].num_rows(), 1);
    }

    #[tokio::test]
    async fn a_session_for_queries_makes_reads_and_sets_nothing() {
        let lake = Lake::create("memory://", Default::default()).await.unwrap();
        let options = SessionOptions {
            only_queries: true,
            ..SessionOptions::default()
        };
        let session = lake.session_with(options).await.unwrap();
        for sql in [
            "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "DROP VIEW span_events",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "INSERT INTO spans SELECT * FROM spans",
            "SET datafusion.runtime.memory_limit = '1K'",
            "SELECT * FROM '/etc/passwd'",
        ] {
            assert!(session.query(sql, &[]).await.is_err(), "{sql}");
        }
        for sql in [
            "SELECT count(*) FROM spans",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
        ] {
            assert!(session.query(sql, &[]).await.is_ok(), "{sql}");
        }
    }
}
