//! Traces of hosts whose clocks differ, as they were sent and corrected on request.

use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tracelake::engine::{IngestProgress, Source};
use tracelake::span::TraceId;
use tracelake::{Config, Lake};

use super::lakes::rows;
use super::sandbox::Sandbox;

const ID: &str = "5b1e7f00c0ffee00a11ce00000000c10";
/// 2026-11-20 12:00 UTC.
const START: i64 = 1_795_176_000_000_000_000;
const MILLI: i64 = 1_000_000;

/// A call of 100 ms from host a to host b, which took 60 ms there in the middle of it, with an
/// event and a span of its own; the clock of host b is wrong by so much.
fn call(wrong_by: i64) -> String {
    let span = |id: u64, parent: u64, name: &str, (from, to): (i64, i64)| {
        json!({
            "traceId": ID, "spanId": format!("{id:016x}"),
            "parentSpanId": if parent == 0 { String::new() } else { format!("{parent:016x}") },
            "name": name, "kind": 1,
            "startTimeUnixNano": (START + from).to_string(),
            "endTimeUnixNano": (START + to).to_string(),
            "events": [{"name": "seen", "timeUnixNano": (START + from + MILLI).to_string()}],
        })
    };
    let resource = |host: &str, spans: Vec<serde_json::Value>| {
        json!({
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": host}},
                {"key": "host.ip", "value": {"arrayValue": {"values": [{"stringValue": host}]}}},
            ]},
            "scopeSpans": [{"spans": spans}],
        })
    };
    let there = |from: i64, to: i64| (from * MILLI + wrong_by, to * MILLI + wrong_by);
    json!({"resourceSpans": [
        resource("a", vec![span(1, 0, "call", (0, 100 * MILLI))]),
        resource("b", vec![
            span(2, 1, "answer", there(20, 80)),
            span(3, 2, "look up", there(30, 40)),
        ]),
    ]})
    .to_string()
}

async fn lake(wrong_by: i64) -> Lake {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let source = Source::bytes("call.json", call(wrong_by));
    lake.ingest(vec![source], IngestProgress::shared())
        .await
        .unwrap();
    lake
}

#[tokio::test]
async fn whatever_a_clock_is_wrong_by_the_corrected_trace_is_the_same() {
    let columns = "span_id, start_time, end_time, duration_nano, events[1]['time'], depth, path, \
                   self_time_nano, on_critical_path, findings";
    let right = lake(0).await;
    let expected = format!("SELECT {columns} FROM trace('{ID}')");
    let expected = rows(&right.session().await.unwrap(), &expected).await;
    assert_eq!(expected.len(), 3);
    for wrong_by in [-1_000 * MILLI, -30 * MILLI, 0, 55 * MILLI, 999 * MILLI] {
        let lake = lake(wrong_by).await;
        let session = lake.session().await.unwrap();
        let sql = format!("SELECT {columns} FROM trace('{ID}', max_clock_skew => '1s')");
        assert_eq!(rows(&session, &sql).await, expected, "{wrong_by}");
        // Nothing is corrected unasked, or further than allowed.
        for limit in ["", ", '0'", ", NULL", ", ''", ", INTERVAL '1 millisecond'"] {
            let sql = format!("SELECT {columns} FROM trace('{ID}'{limit})");
            let as_sent = rows(&session, &sql).await;
            assert_eq!(as_sent == expected, wrong_by == 0, "{wrong_by}{limit}");
        }
    }
}

#[tokio::test]
async fn a_span_that_would_become_another_one_stays_where_it_is() {
    // Two spans of one id, alike but for their starts, under parents of other hosts.
    let id = TraceId::parse(ID).unwrap();
    let span = |id: u64, parent: u64, from: i64, to: i64| {
        json!({
            "traceId": ID, "spanId": format!("{id:016x}"),
            "parentSpanId": if parent == 0 { String::new() } else { format!("{parent:016x}") },
            "name": "n", "kind": 1,
            "startTimeUnixNano": (START + from).to_string(),
            "endTimeUnixNano": (START + to).to_string(),
        })
    };
    let request = json!({"resourceSpans": [{"scopeSpans": [{"spans": [
        span(1, 0, 0, 100), span(2, 1, -500, -490), span(2, 1, 300, 310),
    ]}]}]});
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let source = Source::bytes("twins.json", request.to_string());
    lake.ingest(vec![source], IngestProgress::shared())
        .await
        .unwrap();
    let trace: Arc<_> = lake.query_trace(id, None).await.unwrap().unwrap();
    assert_eq!(trace.span_count(), 3);
    let corrected = trace.corrected(i64::MAX).unwrap();
    assert_eq!((corrected.span_count(), corrected.copy_count()), (3, 0));
    for limit in [i64::MIN, -1, 0] {
        let same = trace.corrected(limit).unwrap();
        assert_eq!(same.rows(), trace.rows());
    }
}

#[test]
fn the_command_line_corrects_clocks_where_it_is_asked_to() {
    let sandbox = Sandbox::new();
    sandbox.write("call.json", call(-1_000 * MILLI));
    sandbox.ok(&["ingest", "call.json"]);
    let sent = sandbox.ok(&["trace", ID]);
    let corrected = sandbox.ok(&["trace", ID, "--max-clock-skew", "2s"]);
    assert!(sent.contains("3 spans, 2 services, 1.08 s"), "{sent}");
    assert!(
        corrected.contains("3 spans, 2 services, 100 ms"),
        "{corrected}"
    );
    let json = sandbox.ok(&["trace", ID, "--max-clock-skew", "2s", "--output", "ndjson"]);
    assert!(json.contains("2026-11-20T12:00:00.020Z"), "{json}");
    let output: std::process::Output = Command::new(env!("CARGO_BIN_EXE_tracelake"))
        .args(["trace", ID, "--max-clock-skew", "soon"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
