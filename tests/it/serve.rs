//! A server in this process, with the clients people use: what goes in, what comes out.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tracelake::ingest::{encode_otlp_json, encode_otlp_proto};
use tracelake::server::{Addresses, ServeOptions, Server};
use tracelake::span::{Attributes, Resource, Scope, Span, SpanId, TraceId, Value};
use tracelake::{Config, Lake};

use crate::http_client::{Answer, send};

/// A server on ports of the system's choice.
pub(crate) struct Running {
    pub(crate) lake: Lake,
    pub(crate) addresses: Addresses,
    end: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<tracelake::Result<()>>,
}

impl Running {
    pub(crate) async fn start(settings: &[&str]) -> Self {
        Self::start_with("", settings).await
    }

    pub(crate) async fn start_with(text: &str, settings: &[&str]) -> Self {
        Self::start_on("memory://", text, settings).await
    }

    /// The same on a lake that stays.
    pub(crate) async fn start_at(location: &str, settings: &[&str]) -> Self {
        Self::start_on(location, "", settings).await
    }

    async fn start_on(location: &str, text: &str, settings: &[&str]) -> Self {
        let own = [
            "http.listen=127.0.0.1:0",
            "otlp.grpc=127.0.0.1:0",
            "otlp.http=127.0.0.1:0",
            "postgres.listen=127.0.0.1:0",
            "flight.listen=127.0.0.1:0",
        ];
        let all: Vec<String> = own
            .iter()
            .chain(settings)
            .map(ToString::to_string)
            .collect();
        let options = ServeOptions::parse(text, std::iter::empty(), &all).expect("good options");
        let mut config = Config::default();
        options.apply(&mut config);
        let lake = Lake::create(location, config).await.expect("a lake");
        let server = Server::start(&lake, &options).await.expect("free ports");
        let addresses = server.addresses();
        let (end, ends) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run_until(async {
            let _ = ends.await;
        }));
        Self {
            lake,
            addresses,
            end: Some(end),
            ended,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.end.take());
        self.ended.await.expect("no panic").expect("a good end");
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.addresses.http.expect("queries are on")
    }

    pub(crate) fn otlp_http(&self) -> SocketAddr {
        self.addresses.otlp_http.expect("OTLP over HTTP is on")
    }

    pub(crate) async fn grpc(&self) -> TraceServiceClient<Channel> {
        let address = self.addresses.otlp_grpc.expect("OTLP over gRPC is on");
        TraceServiceClient::connect(format!("http://{address}"))
            .await
            .expect("it answers")
    }

    pub(crate) async fn sql(&self, sql: &str) -> Answer {
        send(self.http(), "POST", "/api/v1/sql", &[], sql.as_bytes()).await
    }

    pub(crate) async fn count(&self) -> i64 {
        let answer = self.sql("SELECT count(*) AS n FROM spans").await;
        answer.json()[0]["n"].as_i64().expect("a number")
    }
}

pub(crate) fn span(number: u64) -> Span {
    let trace_id =
        TraceId::from_bytes((u128::from(number / 10) + 1).to_be_bytes()).expect("not zero");
    let span_id = SpanId::from_bytes((number + 1).to_be_bytes()).expect("not zero");
    let mut span = Span::new(trace_id, span_id, 1_700_000_000_000_000_000 + number as i64);
    span.name = format!("span {number}");
    span.duration_nano = Some(1000);
    span.attributes = vec![
        ("number".into(), Value::Int(number as i64)),
        ("half".into(), Value::Double(number as f64 / 2.0)),
        ("bytes".into(), Value::Bytes(vec![1, 2, 255])),
        (
            "nested".into(),
            Value::Object(vec![("$bytes".into(), Value::Array(vec![Value::Null]))]),
        ),
    ];
    span
}

fn resource(service: &str) -> Resource {
    let attributes: Attributes = vec![("service.name".into(), Value::String(service.into()))];
    Resource {
        attributes,
        dropped_attributes_count: 1,
        schema_url: "https://example.com/1".into(),
    }
}

pub(crate) fn proto(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_otlp_proto(
        &resource("shop"),
        &[(Scope::default(), numbers.map(span).collect())],
        &mut bytes,
    );
    bytes
}

pub(crate) fn request(numbers: std::ops::Range<u64>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&proto(numbers)[..]).expect("what was encoded")
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_over_grpc_is_visible_when_it_is_acknowledged() {
    let server = Running::start(&[]).await;
    let mut client = server.grpc().await;
    let answer = client
        .export(request(0..100))
        .await
        .expect("it is taken")
        .into_inner();
    assert_eq!(answer.partial_success, None);
    assert_eq!(server.count().await, 100);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = server.grpc().await.send_compressed(encoding);
        client.export(request(100..150)).await.expect("it is taken");
    }
    assert_eq!(server.count().await, 200);
    client
        .export(ExportTraceServiceRequest::default())
        .await
        .expect("nothing is fine");

    let mut partial = request(200..203);
    partial.resource_spans[0].scope_spans[0].spans[1].trace_id = vec![1, 2];
    let answer = client
        .export(partial)
        .await
        .expect("the rest is taken")
        .into_inner();
    let partial = answer.partial_success.expect("one was rejected");
    assert_eq!(partial.rejected_spans, 1);
    assert!(
        partial.error_message.contains("span 2"),
        "{}",
        partial.error_message
    );
    assert_eq!(server.count().await, 202);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_the_limits_are_refused_with_what_to_do() {
    let server = Running::start(&[
        "otlp.max_request=64KiB",
        "otlp.max_requests=1",
        "otlp.max_delay=400ms",
    ])
    .await;
    let mut client = server.grpc().await;
    let status = client
        .export(request(0..2000))
        .await
        .expect_err("it is too large");
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    let long = send(
        server.otlp_http(),
        "POST",
        "/v1/traces",
        &[],
        &proto(0..2000),
    )
    .await;
    assert_eq!(long.status, 413);

    let mut other = server.grpc().await;
    let first = tokio::spawn(async move { other.export(request(0..1)).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let status = client
        .export(request(1..2))
        .await
        .expect_err("one at a time");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let details = status.details();
    assert!(String::from_utf8_lossy(details).contains("google.rpc.RetryInfo"));
    let busy = send(server.otlp_http(), "POST", "/v1/traces", &[], &proto(1..2)).await;
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("1")));
    first.await.expect("no panic").expect("the first is taken");
    assert_eq!(server.count().await, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_for_a_connection_waits_until_another_ends() {
    let server = Running::start(&["otlp.max_connections=1"]).await;
    let idle = tokio::net::TcpStream::connect(server.otlp_http()).await;
    let idle = idle.expect("the first has a place");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = server.otlp_http();
    let waiting =
        tokio::spawn(async move { send(address, "POST", "/v1/traces", &[], &proto(0..3)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "two are served at once");
    drop(idle);
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let answer = answer.expect("it is served in the end").expect("no panic");
    assert_eq!(answer.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_over_http_comes_as_protobuf_and_json_compressed_or_not() {
    let server = Running::start(&[]).await;
    let path = "/v1/traces";
    let kind = ("content-type", "application/x-protobuf");
    let answer = send(server.otlp_http(), "POST", path, &[kind], &proto(0..5)).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/x-protobuf"))
    );
    assert_eq!(
        ExportTraceServiceResponse::decode(&answer.body[..])
            .unwrap()
            .partial_success,
        None
    );

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&proto(5..10)).unwrap();
    let gzip = gzip.finish().unwrap();
    let answer = send(
        server.otlp_http(),
        "POST",
        path,
        &[kind, ("content-encoding", "gzip")],
        &gzip,
    )
    .await;
    assert_eq!(answer.status, 200);
    let zstd = zstd::encode_all(&proto(10..15)[..], 1).unwrap();
    let answer = send(
        server.otlp_http(),
        "POST",
        path,
        &[kind, ("content-encoding", "zstd")],
        &zstd,
    )
    .await;
    assert_eq!(answer.status, 200);

    let mut json = String::new();
    encode_otlp_json(
        &resource("shop"),
        &[(Scope::default(), (15..20).map(span).collect())],
        &mut json,
    );
    let kind = ("content-type", "application/json; charset=utf-8");
    let answer = send(server.otlp_http(), "POST", path, &[kind], json.as_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    let bad = json.replacen("\"spanId\":\"", "\"spanId\":\"zz", 1);
    let answer = send(server.otlp_http(), "POST", path, &[kind], bad.as_bytes()).await;
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "1");
    assert_eq!(server.count().await, 24);

    for (headers, body, status) in [
        (&[kind][..], &b"nonsense"[..], 400),
        (&[kind], b"[1]", 400),
        (&[("content-type", "text/plain")], b"x", 415),
        (&[kind, ("content-encoding", "br")], b"x", 415),
        (
            &[("content-type", "application/x-protobuf")],
            b"\x0a\xff",
            400,
        ),
    ] {
        let answer = send(server.otlp_http(), "POST", path, headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {}", answer.text());
    }
    assert_eq!(server.count().await, 24);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zipkin_spans_are_taken_too() {
    let server = Running::start(&[]).await;
    let body = br#"[{"traceId":"1","id":"2","name":"get","timestamp":1000000,"duration":5,
        "kind":"SERVER","localEndpoint":{"serviceName":"cart"},"tags":{"k":"v"}}]"#;
    let kind = [("content-type", "application/json")];
    let answer = send(server.otlp_http(), "POST", "/api/v2/spans", &kind, body).await;
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
    let answer = server
        .sql("SELECT service_name, attributes['k'] AS k FROM spans")
        .await;
    assert_eq!(answer.text(), "[{\"service_name\":\"cart\",\"k\":\"v\"}]\n");
    let bad = send(
        server.otlp_http(),
        "POST",
        "/api/v2/spans",
        &kind,
        b"[{\"id\":\"zz\"}]",
    )
    .await;
    assert_eq!(bad.status, 400, "{}", bad.text());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_nested_deeper_than_protobuf_readers_take_come_as_json() {
    let server = Running::start(&[]).await;
    for (trace, levels, status) in [(1, 30, 200), (2, 31, 406), (3, 60, 406)] {
        let mut value = r#"{"intValue":"7"}"#.to_owned();
        for _ in 0..levels {
            value = format!(r#"{{"arrayValue":{{"values":[{value}]}}}}"#);
        }
        let body = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace:032x}","spanId":"{trace:016x}",
            "name":"n","startTimeUnixNano":"5","endTimeUnixNano":"6","attributes":[{{"key":"k","value":{value}}}]}}]}}]}}]}}"#
        );
        let kind = [("content-type", "application/json")];
        let taken = send(
            server.otlp_http(),
            "POST",
            "/v1/traces",
            &kind,
            body.as_bytes(),
        )
        .await;
        assert_eq!(taken.text(), "{}");
        let path = format!("/api/v1/traces/{trace:032x}");
        let accept = [("accept", "application/x-protobuf")];
        let answer = send(server.http(), "GET", &path, &accept, b"").await;
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 200 {
            ExportTraceServiceRequest::decode(&answer.body[..]).expect("not too deep");
        }
        let answer = send(server.http(), "GET", &path, &[], b"").await;
        assert!(answer.text().contains(&value));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_comes_back_as_it_came_in() {
    let server = Running::start(&[]).await;
    let mut client = server.grpc().await;
    let sent = request(0..10);
    client.export(sent.clone()).await.expect("it is taken");
    // Once more, as a sender does that missed the answer.
    client.export(sent.clone()).await.expect("it is taken");
    let path = format!("/api/v1/traces/{:032x}", 1);
    let accept = [("accept", "application/x-protobuf")];
    let answer = send(server.http(), "GET", &path, &accept, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        ExportTraceServiceRequest::decode(&answer.body[..]).unwrap(),
        sent
    );

    let answer = send(server.http(), "GET", &path, &[], b"").await;
    let other = Running::start(&[]).await;
    let kind = [("content-type", "application/json")];
    let again = send(other.otlp_http(), "POST", "/v1/traces", &kind, &answer.body).await;
    assert_eq!(again.text(), "{}");
    let answer = send(other.http(), "GET", &path, &accept, b"").await;
    assert_eq!(
        ExportTraceServiceRequest::decode(&answer.body[..]).unwrap(),
        sent
    );
    for (path, status) in [
        ("/api/v1/traces/xyz", 400),
        ("/api/v1/traces/abababababababab", 404),
        ("/api/v2", 404),
    ] {
        let answer = send(server.http(), "GET", path, &[], b"").await;
        assert_eq!(answer.status, status, "{path} {}", answer.text());
        assert_eq!(answer.json()["status"], status);
    }
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_over_http_has_formats_parameters_and_problems() {
    let server = Running::start(&[]).await;
    let query = async |accept: &str, body: &str| {
        let headers = [("accept", accept), ("content-type", "application/json")];
        send(
            server.http(),
            "POST",
            "/api/v1/sql",
            &headers,
            body.as_bytes(),
        )
        .await
    };
    let body = r#"{"sql":"SELECT $1 AS a, $2 AS b, $3 AS c","parameters":["x",7,null]}"#;
    let answer = query("application/json", body).await;
    assert_eq!(answer.text(), "[{\"a\":\"x\",\"b\":7,\"c\":null}]\n");
    let body = r#"{"sql":"SELECT $x AS a","parameters":{"x":true}}"#;
    assert_eq!(
        query("application/x-ndjson", body).await.text(),
        "{\"a\":true}\n"
    );
    let list = r#"{"sql":"SELECT [1, 2] AS l, 'a,b' AS t"}"#;
    assert_eq!(
        query("text/csv", list).await.text(),
        "l,t\n\"[1,2]\",\"a,b\"\n"
    );
    let answer = query("application/vnd.apache.arrow.stream", list).await;
    let rows = arrow::ipc::reader::StreamReader::try_new(&answer.body[..], None).unwrap();
    assert_eq!(
        rows.map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
        1
    );
    let many = server
        .sql("SELECT unnest(generate_series(1, 100000)) AS n")
        .await;
    assert!(many.is_whole);
    assert_eq!(many.json().as_array().unwrap().len(), 100_000);

    for (sql, status, kind) in [
        ("SELECT nothing FROM spans", 400, "invalid-input"),
        (
            "SELECT * FROM spans WHERE trace_id = 'xyz'",
            400,
            "invalid-input",
        ),
        ("", 400, "invalid-input"),
        ("SELECT 1; SELECT 2", 400, "invalid-input"),
        ("DROP VIEW span_events", 400, "invalid-input"),
        (
            "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION '/etc/passwd'",
            400,
            "invalid-input",
        ),
        (
            "SET datafusion.runtime.memory_limit = '1K'",
            400,
            "invalid-input",
        ),
    ] {
        let answer = server.sql(sql).await;
        assert_eq!(answer.status, status, "{sql}: {}", answer.text());
        assert_eq!(answer.json()["kind"], kind, "{sql}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    assert_eq!(query("image/png", list).await.status, 406);
    assert_eq!(query("*/*", "{}").await.status, 400);
    assert_eq!(
        send(server.http(), "GET", "/api/v1/sql", &[], b"")
            .await
            .status,
        405
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_over_http_goes_from_page_to_page() {
    let server = Running::start(&["query.max_rows=8"]).await;
    let mut client = server.grpc().await;
    client.export(request(0..100)).await.expect("it is taken");
    let search = async |body: serde_json::Value| {
        let body = body.to_string();
        let path = "/api/v1/search";
        send(server.http(), "POST", path, &[], body.as_bytes()).await
    };
    let mut query = serde_json::json!({
        "service_name": "shop", "attributes": "number >= 30", "limit": 3, "with_total": true,
    });
    let mut found = Vec::new();
    loop {
        let answer = search(query.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        assert_eq!(page["total_count"], 7);
        for trace in page["traces"].as_array().expect("a list") {
            assert_eq!(
                (&trace["span_count"], &trace["matched_span_count"]),
                (&10.into(), &10.into())
            );
            found.push(trace["trace_id"].as_str().expect("an id").to_string());
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query["cursor"] = cursor.into();
    }
    let expected: Vec<String> = (4..=10).rev().map(|id| format!("{id:032x}")).collect();
    assert_eq!(found, expected);
    for (body, status) in [
        (serde_json::json!({ "servce": "x" }), 400),
        (serde_json::json!({ "limit": 0 }), 400),
        (serde_json::json!({ "cursor": "x" }), 400),
        (serde_json::json!([]), 400),
        (serde_json::json!({}), 422),
    ] {
        let answer = search(body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["status"], status);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_rows_of_a_query_are_limited_and_many_wait_for_their_turn() {
    let server = Running::start(&[
        "query.timeout=300ms",
        "query.max_rows=10",
        "query.max_concurrent=2",
    ])
    .await;
    let long = "SELECT sum(a.n * b.n) FROM (SELECT unnest(generate_series(1, 100000)) AS n) a \
                CROSS JOIN (SELECT unnest(generate_series(1, 100000)) AS n) b";
    let answer = server.sql(long).await;
    assert_eq!(
        (answer.status, answer.json()["kind"].as_str()),
        (422, Some("resources-exhausted"))
    );
    assert_eq!(
        server
            .sql("SELECT unnest(generate_series(1, 11))")
            .await
            .status,
        422
    );
    let all = (0..64).map(|_| server.sql("SELECT count(*) FROM spans"));
    let statuses: Vec<u16> = futures::future::join_all(all)
        .await
        .iter()
        .map(|one| one.status)
        .collect();
    assert_eq!(statuses, [200; 64]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_the_description_are_there() {
    let server = Running::start(&[]).await;
    server
        .grpc()
        .await
        .export(request(0..7))
        .await
        .expect("it is taken");
    server.sql("SELECT 1").await;
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        assert_eq!(
            send(server.http(), "GET", path, &[], b"").await.status,
            200,
            "{path}"
        );
    }
    let metrics = send(server.http(), "GET", "/metrics", &[], b"")
        .await
        .text();
    for line in [
        "tracelake_ingest_spans_total 7",
        "tracelake_commits_total 1",
        "tracelake_lake_spans 7",
        "tracelake_ingest_requests_total{outcome=\"accepted\",protocol=\"otlp-grpc\"} 1",
        "tracelake_queries_total{outcome=\"done\",protocol=\"http\"} 1",
        "tracelake_ingest_pending_bytes 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    server.stop().await;
}

const TOKENS: &str = r#"
[[auth.tokens]]
name = "collector"
token = "the-writer"
roles = ["write"]

[[auth.tokens]]
name = "grafana"
token = "the-reader"
roles = ["read"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn tokens_let_writers_write_and_readers_read() {
    let server = Running::start_with(TOKENS, &[]).await;
    let (writer, reader) = ("Bearer the-writer", "Bearer the-reader");
    for (token, write, read) in [
        (None, 401, 401),
        (Some("Bearer nobody-knows"), 401, 401),
        (Some(writer), 200, 403),
        (Some(reader), 403, 200),
    ] {
        let headers: Vec<(&str, &str)> = token
            .map(|token| ("authorization", token))
            .into_iter()
            .collect();
        let wrote = send(
            server.otlp_http(),
            "POST",
            "/v1/traces",
            &headers,
            &proto(0..1),
        )
        .await;
        let asked = send(server.http(), "POST", "/api/v1/sql", &headers, b"SELECT 1").await;
        let metrics = send(server.http(), "GET", "/metrics", &headers, b"").await;
        assert_eq!(
            (wrote.status, asked.status, metrics.status),
            (write, read, read),
            "{token:?}"
        );
        let mut client = server.grpc().await;
        let mut request = tonic::Request::new(request(1..2));
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", token.parse().unwrap());
        }
        let outcome = client.export(request).await;
        let code = outcome
            .err()
            .map_or(tonic::Code::Ok, |status| status.code());
        let expected = match write {
            200 => tonic::Code::Ok,
            403 => tonic::Code::PermissionDenied,
            _ => tonic::Code::Unauthenticated,
        };
        assert_eq!(code, expected);
    }
    assert_eq!(
        send(server.http(), "GET", "/healthz", &[], b"")
            .await
            .status,
        200
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_the_end_is_committed_and_acknowledged() {
    let server = Running::start(&["otlp.max_delay=500ms"]).await;
    let mut client = server.grpc().await;
    let lake = server.lake.clone();
    let sent = tokio::spawn(async move { client.export(request(0..3)).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    server.stop().await;
    sent.await.expect("no panic").expect("it was acknowledged");
    assert_eq!(lake.info().await.unwrap().span_count, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_can_be_encrypted() {
    let directory = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
    let (certificate, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let settings = [
        format!("tls.certificate={}", certificate.display()),
        format!("tls.key={}", key.display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Running::start(&settings).await;

    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(signed.cert.pem()))
        .domain_name("localhost");
    let address = server.addresses.otlp_grpc.unwrap();
    let channel = Channel::from_shared(format!("https://{address}")).unwrap();
    let channel = channel
        .tls_config(tls.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    TraceServiceClient::new(channel)
        .export(request(0..3))
        .await
        .expect("it is taken");

    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let config = tokio_rustls::rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (address, method, path, body, status) in [
        (
            server.http(),
            "POST",
            "/api/v1/sql",
            b"SELECT 1".to_vec(),
            200,
        ),
        (server.otlp_http(), "POST", "/v1/traces", proto(3..4), 200),
    ] {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let stream = connector
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap();
        let answer = crate::http_client::send_over(stream, method, path, &[], &body).await;
        assert_eq!(answer.status, status);
    }

    // PostgreSQL's clients ask whether they may encrypt before they do.
    let mut stream = tokio::net::TcpStream::connect(server.addresses.postgres.unwrap())
        .await
        .unwrap();
    stream
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let stream = connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    let (client, connection) = tokio_postgres::Config::new()
        .user("someone")
        .dbname("tracelake")
        .connect_raw(stream, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let rows = client
        .query("SELECT count(*) FROM spans", &[])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 4);

    let address = server.addresses.flight.unwrap();
    let channel = Channel::from_shared(format!("https://{address}")).unwrap();
    let channel = channel.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = arrow_flight::sql::client::FlightSqlServiceClient::new(channel);
    let info = client
        .execute("SELECT name FROM spans".into(), None)
        .await
        .unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let rows = client.do_get(ticket).await.unwrap();
    let rows: Vec<arrow::array::RecordBatch> = rows.try_collect().await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_own_spans_are_in_its_lake_where_that_is_wanted() {
    let server = Running::start(&["telemetry.own_traces=true", "telemetry.service_name=me"]).await;
    let mut client = server.grpc().await;
    client.export(request(0..5)).await.expect("it is taken");
    assert_eq!(server.sql("SELECT nothing").await.status, 400);
    let sql = "SELECT name, status_code, attributes['tracelake.outcome'] AS outcome, \
               attributes['tracelake.span_count'] AS spans FROM spans \
               WHERE service_name = 'me' AND (name = 'ingest' OR has_error) ORDER BY name";
    let expected = "[{\"name\":\"ingest\",\"status_code\":\"UNSET\",\"outcome\":\"accepted\",\"spans\":\"5\"},\
                    {\"name\":\"query\",\"status_code\":\"ERROR\",\"outcome\":\"invalid-input\",\"spans\":null}]\n";
    let mut found = String::new();
    for _ in 0..100 {
        found = server.sql(sql).await.text();
        if found == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(found, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_requests_is_shared_by_all_listeners() {
    let server = Running::start(&["otlp.pending=64KiB", "otlp.max_delay=500ms"]).await;
    assert!(
        proto(0..300).len() * 3 > 64 << 10,
        "each takes all the room"
    );
    let (grpc, otlp_http) = (server.grpc().await, server.otlp_http());
    let over_grpc = (0..4).map(|number| {
        let mut client = grpc.clone();
        async move {
            let first = number * 300;
            let Err(status) = client.export(request(first..first + 300)).await else {
                return true;
            };
            assert_eq!(status.code(), tonic::Code::Unavailable);
            assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo"));
            false
        }
    });
    let over_http = (4..8).map(|number| async move {
        let body = proto(number * 300..(number + 1) * 300);
        let answer = send(otlp_http, "POST", "/v1/traces", &[], &body).await;
        if answer.status == 200 {
            return true;
        }
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        false
    });
    let (mut taken, others) = tokio::join!(
        futures::future::join_all(over_grpc),
        futures::future::join_all(over_http)
    );
    taken.extend(others);
    // One commit takes half a second, and nobody waits longer than one.
    let taken_count = taken.iter().filter(|taken| **taken).count() as i64;
    assert!((1..8).contains(&taken_count), "{taken:?}");
    assert_eq!(server.count().await, 300 * taken_count);
    let metrics = send(server.http(), "GET", "/metrics", &[], b"")
        .await
        .text();
    assert!(
        metrics.contains("tracelake_ingest_pending_bytes 0\n"),
        "{metrics}"
    );
    let refused = format!(
        "tracelake_ingest_refused_requests_total {}\n",
        8 - taken_count
    );
    assert!(metrics.contains(&refused), "{metrics}");
    server.stop().await;
}
