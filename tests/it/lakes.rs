//! Lakes for the tests beside, and rows as texts.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tracelake::config::{QueryConfig, StorageConfig};
use tracelake::engine::Session;
use tracelake::span::SpanBatchBuilder;
use tracelake::workload::Workload;
use tracelake::{Config, Lake};

/// 2026-11-20 06:00 UTC.
const WORKLOAD_START: i64 = 1_795_154_400_000_000_000;

/// Small files and pages, so that a small lake has many of both.
pub(crate) fn small_files(pruning: bool) -> Config {
    Config {
        storage: StorageConfig {
            target_file_bytes: 48 << 10,
            page_rows: 128,
            attribute_min_rows: 2,
            ..StorageConfig::default()
        },
        query: QueryConfig {
            pruning,
            threads: Some(2),
            trace_range_rows: 200,
            ..QueryConfig::default()
        },
        ..Config::default()
    }
}

/// Fills a lake with 20,000 spans of six hours, their traces spread over two commits.
pub(crate) async fn fill_with_workload(lake: &Lake) {
    let mut workload = Workload::new(11, 20_000, WORKLOAD_START, Duration::from_secs(6 * 3600));
    let origins = workload.origins().to_vec();
    let mut builders = [(); 2].map(|()| SpanBatchBuilder::new());
    let mut count = 0;
    while let Some(spans) = workload.next_trace() {
        for (origin, span) in spans {
            builders[count % 2].push(&origins[origin], &span);
            count += 1;
        }
    }
    for mut builder in builders {
        lake.append(builder.finish()).await.unwrap();
    }
}

/// The rows of a query as texts; NULL is `NULL`.
pub(crate) async fn rows(session: &Session, sql: &str) -> Vec<Vec<String>> {
    let stream = session.query(sql, &[]).await;
    let batches = match stream {
        Ok(stream) => stream.collect().await,
        Err(error) => Err(error),
    };
    match batches {
        Ok(batches) => texts(&batches),
        Err(error) => panic!("{error}\n{sql}"),
    }
}

/// The one value of a query.
pub(crate) async fn value(session: &Session, sql: &str) -> String {
    let mut found = rows(session, sql).await;
    assert_eq!(found.len(), 1, "one row of {sql}");
    assert_eq!(found[0].len(), 1, "one column of {sql}");
    found.remove(0).remove(0)
}

/// The rows of batches as texts; NULL is `NULL`.
pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.value(row).to_string());
            rows.push(cells.collect());
        }
    }
    rows
}
