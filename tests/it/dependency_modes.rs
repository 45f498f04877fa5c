//! `service_dependencies` by the rules of Zipkin and of Jaeger, against their own cases: the same
//! spans in a lake, counted by SQL.
//!
//! The cases lie outside the repository, in the folder that `TRACELAKE_FIXTURES` names; where it is
//! absent these tests say so and check nothing.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};
use tracelake::engine::{IngestProgress, Source};
use tracelake::{Config, Lake};

use super::lakes::rows;
use super::semantics::{cases, json as fixture, list, text};

type Links = BTreeMap<(String, String), u64>;

/// The calls that SQL counts in a lake of these inputs, by way of the quantiles and without.
async fn links(inputs: &[String], mode: &str) -> Links {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    for input in inputs {
        let source = Source::bytes("spans.json", input.clone());
        let report = lake.ingest(vec![source], IngestProgress::shared()).await;
        assert_eq!(report.unwrap().rejection_count, 0, "{input}");
    }
    let session = lake.session().await.unwrap();
    let columns = ["call_count, error_count", "call_count, p50_duration_nano"];
    let mut found = Vec::new();
    for columns in columns {
        let sql = format!(
            "SELECT caller, callee, sum(call_count) FROM (SELECT caller, callee, {columns} \
             FROM service_dependencies('1960-01-01', '2100-01-01', '{mode}')) GROUP BY 1, 2"
        );
        let links = rows(&session, &sql).await.into_iter().map(|row| {
            let calls = row[2].parse().unwrap();
            ((row[0].clone(), row[1].clone()), calls)
        });
        found.push(links.collect::<Links>());
    }
    assert_eq!(found[0], found[1]);
    found.swap_remove(0)
}

#[tokio::test]
async fn zipkin_mode_counts_the_links_of_zipkins_linker() {
    let Some(fixture) = fixture("zipkin/linker/dependency_linker_cases.json") else {
        return;
    };
    for case in cases(&fixture) {
        let traces = list(&case["traces"]).iter();
        let inputs: Vec<String> = traces.map(ToString::to_string).collect();
        let expected = list(&case["expected_links"]).iter().map(|link| {
            let service = |key: &str| text(&link[key]).to_string();
            let calls = link["callCount"].as_u64().unwrap();
            ((service("parent"), service("child")), calls)
        });
        let expected: Links = expected.collect();
        assert_eq!(links(&inputs, "zipkin").await, expected, "{}", case["name"]);
    }
}

#[tokio::test]
async fn jaeger_mode_counts_the_calls_of_jaegers_job() {
    let Some(fixture) = fixture("jaeger/transcribed/spark_dependency_cases.json") else {
        return;
    };
    for case in cases(&fixture) {
        let spans = list(&case["spans"]);
        // Of several references one is the parent here.
        if spans.iter().any(|span| list(&span["parents"]).len() > 1) {
            continue;
        }
        let expected = list(&case["expected"]).iter().map(|link| {
            let services = (text(&link[0]).to_string(), text(&link[1]).to_string());
            (services, link[2].as_u64().unwrap())
        });
        let expected: Links = expected.collect();
        let found = links(&[otlp(spans)], "jaeger").await;
        assert_eq!(found, expected, "{}", case["name"]);
    }
}

/// Spans of Jaeger's cases, whose ids are any texts, as OTLP.
fn otlp(spans: &[Json]) -> String {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut id = |text: &str| {
        let next = numbers.len() + 1;
        format!("{:016x}", numbers.entry(text.to_string()).or_insert(next))
    };
    let resources: Vec<Json> = spans
        .iter()
        .map(|span| {
            let attribute =
                |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
            let peer = span["tags"]["peer.service"].as_str();
            let kind = match text(&span["kind"]).to_lowercase().as_str() {
                "server" => 2,
                "client" => 3,
                "producer" => 4,
                "consumer" => 5,
                _ => 1,
            };
            let parent = list(&span["parents"])
                .first()
                .map(|parent| id(text(parent)));
            json!({
                "resource": {"attributes": [attribute("service.name", text(&span["service"]))]},
                "scopeSpans": [{"spans": [{
                    "traceId": "000000000000000000000000000000a1",
                    "spanId": id(text(&span["spanID"])),
                    "parentSpanId": parent.unwrap_or_default(),
                    "name": "name",
                    "kind": kind,
                    "startTimeUnixNano": "1",
                    "endTimeUnixNano": "2",
                    "attributes": peer.map(|peer| attribute("peer.service", peer)).as_slice(),
                }]}],
            })
        })
        .collect();
    json!({"resourceSpans": resources}).to_string()
}
