//! The Grafana dashboard of `queries/grafana/`: every statement runs as Grafana sends it, and finds
//! something.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tracelake::engine::{ExplainReport, Session};
use tracelake::{Config, Lake};

use super::lakes::{fill_with_workload, rows, small_files, value};

const FROM: &str = "'2026-11-20T06:00:00Z'";
const TO: &str = "'2026-11-20T12:00:00Z'";

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/grafana/dashboard.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The statements with the panel or variable each belongs to.
fn statements() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let sql = target["rawSql"].as_str().unwrap();
            found.push((panel["title"].to_string(), sql.to_string()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let sql = variable["query"].as_str().unwrap();
            found.push((variable["name"].to_string(), sql.to_string()));
        }
    }
    found
}

/// Replaces `name(argument, …)` by what `with` makes of its arguments.
fn replaced(sql: &str, name: &str, with: impl Fn(&[&str]) -> String) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once(&format!("{name}(")) {
        let (arguments, after) = after.split_once(')').expect("a macro is closed");
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        out.push_str(before);
        out.push_str(&with(&arguments));
        rest = after;
    }
    out + rest
}

/// What Grafana sends: macros of its PostgreSQL data source replaced, with TimescaleDB or without,
/// and the dashboard's variables.
fn as_sent(sql: &str, has_time_bucket: bool, services: &str, trace_id: &str) -> String {
    let group = |column: &str| match has_time_bucket {
        true => format!("time_bucket('300.000s',{column})"),
        false => format!("floor(extract(epoch from {column})/300)*300"),
    };
    let sql = replaced(sql, "$__timeGroupAlias", |arguments| {
        format!("{} AS \"time\"", group(arguments[0]))
    });
    let sql = replaced(&sql, "$__timeFilter", |arguments| {
        format!("{} BETWEEN {FROM} AND {TO}", arguments[0])
    });
    let sql = replaced(&sql, "$__timeFrom", |_| FROM.to_string());
    let sql = replaced(&sql, "$__timeTo", |_| TO.to_string());
    let sql = sql
        .replace("$__interval_ms", "300000")
        .replace("${service:sqlstring}", services)
        .replace("${trace_id}", trace_id);
    assert!(!sql.contains('$'), "everything is replaced: {sql}");
    sql
}

async fn compacted(config: Config) -> Lake {
    let lake = Lake::create("memory:///", config).await.unwrap();
    fill_with_workload(&lake).await;
    lake.compact(Arc::new(|_| {})).await.unwrap();
    lake
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_of_the_dashboard_runs_and_finds_something() {
    let lake = compacted(Config::default()).await;
    let session = lake.session().await.unwrap();
    let trace_id = value(&session, "SELECT max(trace_id) FROM spans").await;
    let services = "SELECT string_agg(DISTINCT '''' || service_name || '''', ',') FROM spans";
    let services = value(&session, services).await;
    assert!(statements().len() > 8);
    for (what, sql) in statements() {
        let mut sent = BTreeSet::new();
        for has_time_bucket in [true, false] {
            sent.insert(as_sent(&sql, has_time_bucket, &services, &trace_id));
        }
        for sql in &sent {
            assert!(!rows(&session, sql).await.is_empty(), "{what}: {sql}");
        }
        // Before a trace was chosen, its panel is empty and no error.
        let without = as_sent(&sql, true, &services, "");
        if !sent.contains(&without) {
            assert!(
                rows(&session, &without).await.is_empty(),
                "{what}: {without}"
            );
        }
    }
}

#[test]
fn panels_of_series_and_graphs_have_the_columns_that_grafana_wants() {
    for panel in dashboard()["panels"].as_array().unwrap() {
        let sql = panel["targets"][0]["rawSql"].as_str().unwrap();
        match panel["type"].as_str().unwrap() {
            "timeseries" => assert!(sql.contains("AS metric") && sql.contains("ORDER BY 1")),
            "nodeGraph" => {
                let names: Vec<&Value> = panel["targets"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|target| &target["refId"])
                    .collect();
                assert_eq!(names, ["nodes", "edges"]);
            }
            "traces" => assert!(sql.contains("grafana_trace")),
            _ => {}
        }
    }
}

async fn explain(session: &Session, sql: &str) -> ExplainReport {
    match session.explain(sql).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\n{sql}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_on_the_views_prune_as_those_on_spans() {
    let lake = compacted(small_files(true)).await;
    let session = lake.session().await.unwrap();
    let id = "SELECT trace_id FROM spans GROUP BY trace_id HAVING count(*) > 10 \
              ORDER BY trace_id LIMIT 1";
    let id = value(&session, id).await;
    let time = "'2026-11-20T08:00:00Z'";
    for (view, columns) in [
        ("otel_traces", ["TraceId", "Timestamp", "ServiceName"]),
        (
            "opentelemetry_traces",
            ["trace_id", "timestamp", "service_name"],
        ),
        ("grafana_trace", ["traceID", "", "serviceName"]),
    ] {
        let [trace_id, start, service] = columns;
        let names = ["trace_id", "start_time", "service_name"];
        for (column, name, condition) in [
            (trace_id, names[0], format!("= '{}'", id.to_uppercase())),
            (start, names[1], format!("< {time}")),
            (service, names[2], "= 'storefront'".to_string()),
        ] {
            if column.is_empty() {
                continue;
            }
            let sql = format!("SELECT count(*) FROM {view} WHERE {column} {condition}");
            let own = format!("SELECT count(*) FROM spans WHERE {name} {condition}");
            assert_eq!(
                rows(&session, &sql).await,
                rows(&session, &own).await,
                "{sql}"
            );
            let (found, expected) = (explain(&session, &sql).await, explain(&session, &own).await);
            assert!(expected.files_read() < expected.files_considered || name == "service_name");
            assert_eq!(found.files_read(), expected.files_read(), "{sql}\n{found}");
            assert_eq!(found.bytes_read, expected.bytes_read, "{sql}\n{found}");
        }
    }
}
