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

use super::lakes;

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
    let [row_count, span_count] =
        ["rows", "distinct_spans"].map(|key| golden[key].as_u64().unwrap());
    assert_eq!(report.span_count, row_count);
    assert_eq!(report.trace_count, golden["traces"].as_u64().unwrap());
    // Some rows were recorded twice, and what is expected counts them once.
    check(&Spans::once(&lake).await, &golden).await;
    let compacted = lake.compact(Arc::new(|_| {})).await.unwrap();
    assert_eq!(compacted.duplicate_count, row_count - span_count);
    check(&Spans::all(&lake).await, &golden).await;
}

/// The spans that the checks are about.
struct Spans {
    session: Session,
    /// What stands in queries where `spans` does.
    table: &'static str,
}

impl Spans {
    async fn all(lake: &Lake) -> Self {
        let session = lake.session().await.unwrap();
        Self {
            session,
            table: "spans",
        }
    }

    async fn once(lake: &Lake) -> Self {
        let session = lake.session().await.unwrap();
        let view = "CREATE VIEW spans_once AS \
            SELECT DISTINCT trace_id, span_id, parent_span_id, service_name, name, is_root, \
                   start_time, end_time, duration_nano FROM spans";
        lakes::rows(&session, view).await;
        Self {
            session,
            table: "spans_once",
        }
    }
}

async fn rows(spans: &Spans, sql: &str) -> Vec<Vec<String>> {
    let sql = sql
        .replace("FROM spans", &format!("FROM {}", spans.table))
        .replace("JOIN spans", &format!("JOIN {}", spans.table));
    lakes::rows(&spans.session, &sql).await
}

/// The one value of a query.
async fn value(spans: &Spans, sql: &str) -> String {
    rows(spans, sql).await.remove(0).remove(0)
}

async fn check(spans: &Spans, golden: &Json) {
    check_counts(spans, golden).await;
    check_statistics(spans, golden).await;
    check_edges(spans, golden).await;
    check_traces(spans, golden).await;
}

async fn check_counts(spans: &Spans, golden: &Json) {
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
        assert_eq!(value(spans, &sql).await, golden[key].to_string(), "{key}");
    }
    let services = rows(spans, "SELECT DISTINCT service_name FROM spans ORDER BY 1").await;
    let services: Vec<String> = services.into_iter().flatten().collect();
    assert_eq!(serde_json::to_value(services).unwrap(), golden["services"]);
    let minutes = rows(
        spans,
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

async fn check_statistics(spans: &Spans, golden: &Json) {
    let services = rows(
        spans,
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
    let mut found: BTreeMap<String, Vec<String>> = rows(spans, sql)
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

async fn check_edges(spans: &Spans, golden: &Json) {
    let edges = rows(
        spans,
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

async fn check_traces(spans: &Spans, golden: &Json) {
    for key in ["longest_traces", "largest_traces"] {
        for trace in golden[key].as_array().unwrap() {
            // In upper case, which is as good.
            let id = trace["trace_id"].as_str().unwrap().to_uppercase();
            let sql = format!(
                "SELECT count(*), min(start_time)::bigint, max(end_time)::bigint - min(start_time)::bigint \
                 FROM spans WHERE trace_id = '{id}'"
            );
            let found = rows(spans, &sql).await.remove(0);
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
        let roots: Vec<String> = rows(spans, &sql).await.into_iter().flatten().collect();
        assert_eq!(serde_json::to_value(roots).unwrap(), trace["roots"], "{id}");
        let sql = format!("SELECT span_id, parent_span_id FROM spans WHERE trace_id = '{id}'");
        let parents: BTreeMap<String, String> = rows(spans, &sql)
            .await
            .into_iter()
            .map(|mut row| (row.remove(0), row.remove(0)))
            .collect();
        let deepest = trace["deepest_span"].as_str().unwrap();
        let mut ancestors = Vec::new();
        let mut at = &parents[deepest];
        while at != "NULL" {
            ancestors.push(at.clone());
            at = &parents[at];
        }
        assert_eq!(
            serde_json::to_value(ancestors).unwrap(),
            trace["ancestors_of_deepest"],
            "{id}"
        );
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
