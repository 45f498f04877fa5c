//! A file that several threads read in parts gives the rows that one thread reads.

use std::sync::Arc;

use tracelake::config::QueryConfig;
use tracelake::engine::Session;
use tracelake::span::{Origin, Span, SpanBatchBuilder, SpanId, SpanKind, TraceId};
use tracelake::{Config, Lake};

use super::lakes::{rows, value};

/// 2026-11-20 06:00 UTC.
const START: i64 = 1_795_154_400_000_000_000;
const SPANS: u64 = 150_000;

/// Numbered spans of one hour, ten a trace, from first to before last.
fn spans(first: u64, last: u64) -> SpanBatchBuilder {
    let mut builder = SpanBatchBuilder::new();
    for number in first..last {
        let trace =
            u128::from(number / 10 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let trace = TraceId::from_bytes(trace.to_be_bytes()).unwrap();
        let own = SpanId::from_bytes((number + 1).to_be_bytes()).unwrap();
        let mut span = Span::new(trace, own, START + number as i64 * 20_000_000);
        span.duration_nano = Some((number * 7919 % 100_003) as i64);
        span.kind = if number % 3 == 0 {
            SpanKind::Server
        } else {
            SpanKind::Client
        };
        span.name = format!("step {}", number % 50);
        builder.push(&Origin::default(), &span);
    }
    builder
}

async fn session(lake: &str, threads: usize, pruning: bool) -> Session {
    let query = QueryConfig {
        threads: Some(threads),
        pruning,
        ..QueryConfig::default()
    };
    let config = Config {
        query,
        ..Config::default()
    };
    Lake::open(lake, config)
        .await
        .unwrap()
        .session()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_file_give_each_row_once() {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_string_lossy().into_owned();
    let lake = Lake::create(&location, Config::default()).await.unwrap();
    for half in [0..SPANS / 2, SPANS / 2..SPANS] {
        lake.append(spans(half.start, half.end).finish())
            .await
            .unwrap();
    }
    lake.compact(Arc::new(|_| {})).await.unwrap();
    let one = session(&location, 1, true).await;
    let shared = session(&location, 2, true).await;
    let unpruned = session(&location, 2, false).await;
    assert_eq!(value(&one, "SELECT count(*) FROM lake_files").await, "1");
    for sql in [
        "SELECT count(*) FROM spans",
        "SELECT min(start_time), max(start_time), count(DISTINCT span_id) FROM spans",
        "SELECT kind, count(*), sum(duration_nano) FROM spans GROUP BY 1 ORDER BY 1",
        "SELECT name, count(*), max(duration_nano) FROM spans WHERE kind = 'SERVER' \
         GROUP BY 1 ORDER BY 1",
        "SELECT trace_id, count(*), min(start_time) FROM spans WHERE duration_nano > 50000 \
         GROUP BY 1 ORDER BY 1 LIMIT 500",
        "SELECT span_id, duration_nano FROM spans WHERE name <> 'step 7' \
         ORDER BY duration_nano DESC, span_id LIMIT 50",
        "SELECT span_id FROM spans WHERE start_time >= TIMESTAMP '2026-11-20T06:30:00Z' \
         AND name = 'step 7' ORDER BY span_id LIMIT 100",
    ] {
        let expected = rows(&one, sql).await;
        assert!(!expected.is_empty(), "{sql}");
        assert_eq!(rows(&shared, sql).await, expected, "{sql}");
        assert_eq!(rows(&unpruned, sql).await, expected, "{sql}");
    }
    let plan = rows(
        &shared,
        "EXPLAIN FORMAT INDENT SELECT sum(duration_nano) FROM spans",
    )
    .await;
    let plan = &plan.iter().find(|row| row[0] == "physical_plan").unwrap()[1];
    assert!(plan.contains("2 groups"), "{plan}");
}
