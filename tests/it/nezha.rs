//! Real traces of two systems under load, against what was computed from them elsewhere.
//!
//! They lie outside the repository, in the folder that `TRACELAKE_FIXTURES` names; where it is
//! absent these tests say so and check nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use tracelake::engine::{Session, Source};
use tracelake::{Config, Lake};

use super::lakes::{rows, value};

/// The folder of samples, or a loud word that it is absent.
fn samples() -> Option<PathBuf> {
    let fixtures = std::env::var_os("TRACELAKE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"),
        PathBuf::from,
    );
    let folder = fixtures.join("datasets/nezha/dev-sample");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no samples in {}; set TRACELAKE_FIXTURES to check against them",
        folder.display()
    );
    None
}

async fn check_sample(name: &str) {
    let Some(folder) = samples() else {
        return;
    };
    let golden = fs::read_to_string(folder.join(format!("{name}.golden.json"))).unwrap();
    let golden: Json = serde_json::from_str(&golden).unwrap();
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let source = Source::path(folder.join(format!("{name}.otlp.jsonl.gz")));
    let report = lake.ingest(vec![source], Arc::default()).await.unwrap();
    assert_eq!(report.rejection_count, 0, "{:?}", report.rejections);
    assert_eq!(
        report.span_count,
        golden["distinct_spans"].as_u64().unwrap()
    );
    assert_eq!(report.trace_count, golden["traces"].as_u64().unwrap());
    check(&lake.session().await.unwrap(), &golden).await;
    lake.compact(Arc::new(|_| {})).await.unwrap();
    check(&lake.session().await.unwrap(), &golden).await;
}

async fn check(session: &Session, golden: &Json) {
    check_counts(session, golden).await;
    check_statistics(session, golden).await;
    check_edges(session, golden).await;
    check_traces(session, golden).await;
}

async fn check_counts(session: &Session, golden: &Json) {
    let join =
        "FROM spans c JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id";
    for (key, sql) in [
        ("distinct_spans", "SELECT count(*) FROM spans".to_string()),
        (
            "traces",
            "SELECT count(DISTINCT trace_id) FROM spans".to_string(),
        ),
        (
            "distinct_trace_span_ids",
            "SELECT count(DISTINCT trace_id || span_id) FROM spans".to_string(),
        ),
        (
            "roots",
            "SELECT count(*) FROM spans WHERE is_root".to_string(),
        ),
        (
            "orphans",
            "SELECT count(*) FROM spans c LEFT JOIN spans p ON c.trace_id = p.trace_id \
             AND c.parent_span_id = p.span_id WHERE NOT c.is_root AND p.span_id IS NULL"
                .to_string(),
        ),
        (
            "self_parents",
            "SELECT count(*) FROM spans WHERE span_id = parent_span_id".to_string(),
        ),
        (
            "negative_durations",
            "SELECT count(*) FROM spans WHERE duration_nano < 0".to_string(),
        ),
        (
            "zero_durations",
            "SELECT count(*) FROM spans WHERE duration_nano = 0".to_string(),
        ),
        (
            "min_start",
            "SELECT min(start_time)::bigint FROM spans".to_string(),
        ),
        (
            "max_end",
            "SELECT max(end_time)::bigint FROM spans".to_string(),
        ),
        (
            "child_starts_before_parent",
            format!("SELECT count(*) {join} WHERE c.start_time < p.start_time"),
        ),
        (
            "child_ends_after_parent",
            format!("SELECT count(*) {join} WHERE c.end_time > p.end_time"),
        ),
    ] {
        assert_eq!(value(session, &sql).await, golden[key].to_string(), "{key}");
    }
    let services = rows(
        session,
        "SELECT DISTINCT service_name FROM spans ORDER BY 1",
    )
    .await;
    let services: Vec<String> = services.into_iter().flatten().collect();
    assert_eq!(serde_json::to_value(services).unwrap(), golden["services"]);
    let minutes = rows(
        session,
        "SELECT date_trunc('minute', start_time)::bigint AS minute, count(*) FROM spans \
         GROUP BY minute ORDER BY minute",
    )
    .await;
    let expected = golden["spans_per_minute"].as_array().unwrap().iter();
    let expected: Vec<Vec<String>> = expected
        .map(|pair| vec![pair[0].to_string(), pair[1].to_string()])
        .collect();
    assert_eq!(minutes, expected);
}

async fn check_statistics(session: &Session, golden: &Json) {
    let services = rows(
        session,
        "SELECT service_name, count(*), sum(duration_nano), max(duration_nano) FROM spans \
         GROUP BY service_name ORDER BY service_name",
    )
    .await;
    let expected = golden["service_stats"].as_array().unwrap();
    assert_eq!(services.len(), expected.len());
    for row in expected {
        let found = services
            .iter()
            .find(|found| found[0] == row["service"].as_str().unwrap());
        let found = found.unwrap_or_else(|| panic!("a service {}", row["service"]));
        let keys = ["spans", "total_ns", "max_ns"];
        assert_eq!(found[1..], keys.map(|key| row[key].to_string()), "{row}");
    }
    // The discrete quantiles of the golden file are values that occur; ours lie between the two
    // values beside them. Both are checked: the first by rank, the second by its bounds.
    let sql = "\
        WITH ranked AS (
          SELECT service_name, name, duration_nano,
                 row_number() OVER (PARTITION BY service_name, name ORDER BY duration_nano) AS place,
                 count(*) OVER (PARTITION BY service_name, name) AS n
          FROM spans)
        SELECT service_name || '|' || name, count(*),
               max(duration_nano) FILTER (WHERE place = greatest(ceil(0.5 * n), 1)),
               max(duration_nano) FILTER (WHERE place = greatest(ceil(0.95 * n), 1)),
               max(duration_nano) FILTER (WHERE place = greatest(ceil(0.99 * n), 1)),
               round(avg(duration_nano), 1),
               quantile_cont(duration_nano, 0.5) = percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_nano::double),
               quantile_cont(duration_nano, [0.5, 0.95])[2] = quantile_cont(duration_nano, 0.95)
        FROM ranked GROUP BY service_name, name";
    let mut found: BTreeMap<String, Vec<String>> = rows(session, sql)
        .await
        .into_iter()
        .map(|mut row| (row.remove(0), row))
        .collect();
    for row in golden["operation_stats"].as_array().unwrap() {
        let key = format!(
            "{}|{}",
            row["service"].as_str().unwrap(),
            row["operation"].as_str().unwrap()
        );
        let found = found
            .remove(&key)
            .unwrap_or_else(|| panic!("an operation {key}"));
        let keys = ["spans", "p50_disc_ns", "p95_disc_ns", "p99_disc_ns"];
        assert_eq!(found[..4], keys.map(|key| row[key].to_string()), "{row}");
        let average: f64 = found[4].parse().unwrap();
        assert!(
            (average - row["avg_ns"].as_f64().unwrap()).abs() < 0.2,
            "{row}: {average}"
        );
        assert_eq!(found[5..], ["true", "true"], "{row}");
    }
}

async fn check_edges(session: &Session, golden: &Json) {
    let edges = rows(
        session,
        "SELECT p.service_name, c.service_name, count(*) FROM spans c \
         JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id \
         GROUP BY p.service_name, c.service_name ORDER BY 1, 2",
    )
    .await;
    let mut expected: Vec<Vec<String>> = golden["dependency_edges_by_parent_span"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| {
            let text = |key: &str| edge[key].as_str().unwrap().to_string();
            vec![text("parent"), text("child"), edge["calls"].to_string()]
        })
        .collect();
    expected.sort();
    assert_eq!(edges, expected);
}

async fn check_traces(session: &Session, golden: &Json) {
    for key in ["longest_traces", "largest_traces"] {
        for trace in golden[key].as_array().unwrap() {
            // In upper case, which is as good.
            let id = trace["trace_id"].as_str().unwrap().to_uppercase();
            let sql = format!(
                "SELECT count(*), min(start_time)::bigint, max(end_time)::bigint - min(start_time)::bigint \
                 FROM spans WHERE trace_id = '{id}'"
            );
            let found = rows(session, &sql).await.remove(0);
            for (place, key) in ["spans", "start", "duration_ns"].into_iter().enumerate() {
                if let Some(expected) = trace.get(key) {
                    assert_eq!(found[place], expected.to_string(), "{key} of {id}");
                }
            }
        }
    }
    for trace in golden["trace_details"].as_array().unwrap() {
        let id = trace["trace_id"].as_str().unwrap();
        let sql = format!(
            "SELECT span_id FROM spans WHERE trace_id = '{id}' AND is_root ORDER BY start_time, span_id"
        );
        let roots: Vec<String> = rows(session, &sql).await.into_iter().flatten().collect();
        assert_eq!(serde_json::to_value(roots).unwrap(), trace["roots"], "{id}");
        let mut at = trace["deepest_span"].as_str().unwrap().to_string();
        for ancestor in trace["ancestors_of_deepest"]
            .as_array()
            .unwrap()
            .iter()
            .take(3)
        {
            let sql = format!(
                "SELECT parent_span_id FROM spans WHERE trace_id = '{id}' AND span_id = '{at}'"
            );
            at = value(session, &sql).await;
            assert_eq!(at, ancestor.as_str().unwrap(), "an ancestor in {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_online_boutique_has_its_counts_percentiles_and_edges() {
    check_sample("onlineboutique-2022-08-22-first200").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn train_ticket_has_its_counts_percentiles_and_edges() {
    check_sample("trainticket-2023-01-29-first200").await;
}
