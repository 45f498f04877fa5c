//! The relations over whole traces, against the same notions computed in memory from the spans
//! themselves: random traces with missing parents, circles, shared ids and spans delivered twice,
//! spread at random over commits and hours, as ingested and compacted, pruned and not.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tracelake::config::QueryConfig;
use tracelake::engine::{IngestProgress, Session, Source};
use tracelake::span::{
    Origin, Resource, Scope, Span, SpanBatchBuilder, SpanId, SpanKind, StatusCode, TraceId, Value,
};
use tracelake::trace::{
    CriticalPath, EdgeDetails, EdgeMode, Forest, Placement, SelfTimes, ServiceSet, SpanRow,
    TraceBuffer, TraceSummary, UNFINISHED, find, for_each_path, service_edges,
};
use tracelake::{Config, ErrorKind, Lake};

use super::lakes::{rows, small_files, value};

/// 2026-11-20 09:00 UTC.
const START: i64 = 1_795_165_200_000_000_000;
const SECOND: i64 = 1_000_000_000;
const SERVICES: [&str; 4] = [
    "web",
    "cart",
    "stock",
    "a service whose name is rather long",
];

/// A span and its service.
type Sent = (usize, Span);

/// Traces by their ids, each span once.
type Traces = BTreeMap<TraceId, Vec<Sent>>;

fn random_traces(random: &mut SmallRng) -> Traces {
    let mut traces = Traces::new();
    for number in 1..=60u128 {
        let mut id = number.to_be_bytes();
        if number % 2 == 0 {
            random.fill(&mut id);
        }
        let trace_id = TraceId::from_bytes(id).unwrap();
        // Some last for most of an hour, over its end.
        let length = if random.random_bool(0.3) { 3000 } else { 5 } * SECOND;
        let first = START + random.random_range(0..3 * 3600) * SECOND;
        let count = random.random_range(1..40);
        let spans = (0..count).map(|at| {
            let start = first
                + if at == 0 {
                    0
                } else {
                    random.random_range(0..length)
                };
            let pick = |random: &mut SmallRng| {
                let number: u64 = random.random_range(1..=count);
                SpanId::from_bytes(number.to_be_bytes()).unwrap()
            };
            // Ids repeat at times, and parents may be missing, later, below, or the span itself.
            let own = match random.random_bool(0.05) {
                true => pick(random),
                false => SpanId::from_bytes((at + 1).to_be_bytes()).unwrap(),
            };
            let mut span = Span::new(trace_id, own, start);
            span.parent_span_id = match random.random_range(0..10) {
                0 => None,
                1 => SpanId::from_bytes(1000u64.to_be_bytes()),
                _ => Some(pick(random)),
            };
            span.name = format!("operation {}", random.random_range(0..5));
            span.kind = SpanKind::ALL[random.random_range(0..SpanKind::ALL.len())];
            span.status_code = StatusCode::ALL[random.random_range(0..StatusCode::ALL.len())];
            span.duration_nano =
                (!random.random_bool(0.05)).then(|| random.random_range(-SECOND / 10..length / 2));
            (random.random_range(0..SERVICES.len()), span)
        });
        let mut spans: Vec<Sent> = spans.collect();
        // What differs in nothing that tells spans apart would be a copy.
        spans.sort_by_key(|(_, span)| key(span));
        spans.dedup_by_key(|(_, span)| key(span));
        traces.insert(trace_id, spans);
    }
    traces
}

fn key(span: &Span) -> (SpanId, i8, i64, Option<i64>, String) {
    let kind = span.kind as i8;
    (
        span.span_id,
        kind,
        span.start_time_unix_nano,
        span.duration_nano,
        span.name.clone(),
    )
}

/// Commits the spans in random parts, some of them twice.
async fn deliver(lake: &Lake, traces: &Traces, random: &mut SmallRng) {
    let origins = SERVICES.map(|name| {
        let mut resource = Resource::default();
        let attribute = ("service.name".to_string(), Value::String(name.to_string()));
        resource.attributes.push(attribute);
        Origin::new(&resource, &Scope::default())
    });
    let mut sent: Vec<Sent> = traces.values().flatten().cloned().collect();
    let again: Vec<Sent> = sent
        .iter()
        .filter(|_| random.random_bool(0.1))
        .cloned()
        .collect();
    sent.extend(again);
    sent.shuffle(random);
    let parts = random.random_range(1..6);
    for part in sent.chunks(sent.len() / parts + 1) {
        let mut builder = SpanBatchBuilder::new();
        for (service, span) in part {
            builder.push(&origins[*service], span);
        }
        lake.append(builder.finish()).await.unwrap();
    }
}

/// What the relations have to say, as texts: `traces`, `span_tree`, strict edges, sections.
#[derive(Default)]
struct Expected {
    traces: Vec<Vec<String>>,
    span_tree: Vec<Vec<String>>,
    edges: BTreeMap<(String, String), i64>,
    sections: Vec<Vec<String>>,
}

impl Expected {
    /// Of the traces that start, and the spans that start, in a time.
    fn of(traces: &Traces, from: i64, to: i64) -> Self {
        let mut expected = Self::default();
        for (id, spans) in traces {
            let mut buffer = TraceBuffer::default();
            for (service, span) in spans {
                buffer.push(&SpanRow {
                    span_id: span.span_id,
                    parent_span_id: span.parent_span_id,
                    start_time_unix_nano: span.start_time_unix_nano,
                    duration_nano: span.duration_nano,
                    kind: span.kind,
                    status_code: span.status_code,
                    service_name: SERVICES[*service],
                    name: &span.name,
                });
            }
            expected.add(*id, &buffer, spans, from..to);
        }
        expected.traces.sort();
        expected.span_tree.sort();
        expected.sections.sort();
        expected
    }

    fn add(
        &mut self,
        id: TraceId,
        buffer: &TraceBuffer,
        spans: &[Sent],
        time: std::ops::Range<i64>,
    ) {
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        assert!(forest.copies().is_empty());
        let summary = TraceSummary::new(&columns, &forest, &mut ServiceSet::default());
        let span = |node: usize| &spans[forest.row(node)].1;
        let service = |node: usize| SERVICES[spans[forest.row(node)].0];
        if time.contains(&summary.start_time_unix_nano) {
            let root = summary.root.map(|root| root as usize);
            self.traces.push(vec![
                id.to_string(),
                root.map_or("NULL".to_string(), |root| service(root).to_string()),
                root.map_or("NULL".to_string(), |root| span(root).name.clone()),
                summary.start_time_unix_nano.to_string(),
                summary.duration_nano().to_string(),
                summary.span_count.to_string(),
                summary.service_count.to_string(),
                summary.error_count.to_string(),
                root.is_some().to_string(),
                summary.orphan_count.to_string(),
            ]);
        }
        let self_times = SelfTimes::new(&columns, &forest);
        let path = CriticalPath::new(&columns, &forest);
        let mut findings = Vec::new();
        find(&columns, &forest, &mut findings);
        for_each_path(&forest, |node, text| {
            if !time.contains(&span(node).start_time_unix_nano) {
                return;
            }
            let nano = self_times.nano()[node];
            let parent = forest.parent(node);
            let mut top = node;
            while let Some(above) = forest.parent(top) {
                top = above;
            }
            let names: Vec<&str> = findings[node].names().collect();
            self.span_tree.push(vec![
                id.to_string(),
                span(node).span_id.to_string(),
                span(node).name.clone(),
                forest.depth(node).to_string(),
                text.unwrap_or("NULL").to_string(),
                node.to_string(),
                (forest.subtree_end(node) - 1).to_string(),
                forest.children(node).count().to_string(),
                forest.descendant_count(node).to_string(),
                span(top).span_id.to_string(),
                parent.map_or("NULL".to_string(), |node| service(node).to_string()),
                parent.map_or("NULL".to_string(), |node| span(node).name.clone()),
                if nano == UNFINISHED {
                    "NULL".to_string()
                } else {
                    nano.to_string()
                },
                (forest.placement(node) == Placement::Orphan).to_string(),
                path.sections()
                    .iter()
                    .any(|part| part.node as usize == node)
                    .to_string(),
                format!("[{}]", names.join(", ")),
            ]);
        });
        for part in path.sections() {
            if time.contains(&part.start) {
                self.sections.push(vec![
                    id.to_string(),
                    span(part.top as usize).span_id.to_string(),
                    span(part.node as usize).span_id.to_string(),
                    part.start.to_string(),
                    part.duration_nano().to_string(),
                ]);
            }
        }
        let mut edges = Vec::new();
        let none = EdgeDetails::default();
        service_edges(&columns, &forest, &none, EdgeMode::Calls, &mut edges);
        for edge in edges {
            if time.contains(&span(edge.node as usize).start_time_unix_nano) {
                let name = |number| buffer.service_name(number).unwrap().to_string();
                *self
                    .edges
                    .entry((name(edge.caller), name(edge.callee)))
                    .or_default() += 1;
            }
        }
    }

    async fn check(&self, session: &Session, filter: &str, what: &str) {
        let sorted = |mut rows: Vec<Vec<String>>| {
            rows.sort();
            rows
        };
        let sql = format!(
            "SELECT trace_id, root_service, root_name, CAST(start_time AS BIGINT), duration_nano, \
             span_count, service_count, error_count, has_root, orphan_count FROM traces {filter}"
        );
        assert_eq!(
            sorted(rows(session, &sql).await),
            self.traces,
            "traces, {what}"
        );
        let sql = format!(
            "SELECT trace_id, span_id, name, depth, path, tree_order, tree_end, child_count, \
             descendant_count, root_span_id, parent_service_name, parent_name, self_time_nano, \
             is_orphan, on_critical_path, findings FROM span_tree {filter}"
        );
        assert_eq!(
            sorted(rows(session, &sql).await),
            self.span_tree,
            "span_tree, {what}"
        );
        let sql = format!(
            "SELECT trace_id, root_span_id, span_id, CAST(start_time AS BIGINT), duration_nano \
             FROM critical_paths {filter}"
        );
        assert_eq!(
            sorted(rows(session, &sql).await),
            self.sections,
            "sections, {what}"
        );
        let sql = format!(
            "SELECT caller, callee, count(*) FROM service_edges {filter} GROUP BY caller, callee \
             ORDER BY caller, callee"
        );
        let edges = self.edges.iter().map(|((caller, callee), count)| {
            vec![caller.clone(), callee.clone(), count.to_string()]
        });
        let edges: Vec<_> = edges.collect();
        assert_eq!(rows(session, &sql).await, edges, "edges, {what}");
    }
}

async fn check_all(lake: &Lake, traces: &Traces, what: &str) {
    let session = lake.session().await.unwrap();
    let all = Expected::of(traces, i64::MIN, i64::MAX);
    all.check(&session, "", what).await;
    let (from, to) = (START + 3600 * SECOND, START + 7200 * SECOND);
    let filter = "WHERE start_time >= TIMESTAMP '2026-11-20T10:00:00Z' \
                  AND start_time < TIMESTAMP '2026-11-20T11:00:00Z'";
    let hour = Expected::of(traces, from, to);
    hour.check(&session, filter, &format!("{what}, an hour"))
        .await;
    let some: Traces = traces
        .iter()
        .step_by(7)
        .map(|(id, spans)| (*id, spans.clone()))
        .collect();
    let ids: Vec<String> = some.keys().map(|id| format!("'{id}'")).collect();
    let of_some = Expected::of(&some, i64::MIN, i64::MAX);
    let filter = format!("WHERE trace_id IN ({})", ids.join(", "));
    of_some
        .check(&session, &filter, &format!("{what}, some"))
        .await;
    // The same traces by a semi-join, which reaches the scan while it runs.
    let values: Vec<String> = ids.iter().map(|id| format!("({id})")).collect();
    let filter = format!(
        "WHERE trace_id IN (SELECT column1 FROM (VALUES {}))",
        values.join(", ")
    );
    of_some
        .check(&session, &filter, &format!("{what}, joined"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relations_say_what_the_spans_of_each_trace_together_say() {
    for seed in 0..3 {
        let mut random = SmallRng::seed_from_u64(seed);
        let traces = random_traces(&mut random);
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().to_string_lossy().into_owned();
        let lake = Lake::create(&location, small_files(true)).await.unwrap();
        deliver(&lake, &traces, &mut random).await;
        check_all(&lake, &traces, &format!("seed {seed}, ingested")).await;
        lake.compact(Arc::new(|_| {})).await.unwrap();
        // A part comes late, and much of it again.
        deliver(&lake, &traces, &mut random).await;
        check_all(&lake, &traces, &format!("seed {seed}, late")).await;
        lake.compact(Arc::new(|_| {})).await.unwrap();
        let unpruned = Lake::open(&location, small_files(false)).await.unwrap();
        check_all(&unpruned, &traces, &format!("seed {seed}, compacted")).await;
    }
}

/// A trace of many spans: a comb, each span below the one before it, with a leaf beside each.
fn comb(count: u64) -> SpanBatchBuilder {
    let id = TraceId::from_bytes([7; 16]).unwrap();
    let origin = Origin::default();
    let mut builder = SpanBatchBuilder::new();
    for number in 1..=count {
        let own = SpanId::from_bytes(number.to_be_bytes()).unwrap();
        let mut span = Span::new(id, own, START + number as i64);
        let parent = if number % 2 == 0 {
            number - 1
        } else {
            number.saturating_sub(2)
        };
        span.parent_span_id = SpanId::from_bytes(parent.to_be_bytes());
        span.duration_nano = Some(1000);
        span.name = "step".to_string();
        builder.push(&origin, &span);
    }
    builder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_trace_is_one_row_and_all_its_spans() {
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    lake.append(comb(40_000).finish()).await.unwrap();
    let session = lake.session().await.unwrap();
    let sql = "SELECT span_count, orphan_count FROM traces";
    assert_eq!(rows(&session, sql).await, [["40000", "0"]]);
    let sql = "SELECT max(depth), count(*), count(path), sum(child_count) FROM span_tree";
    assert_eq!(
        rows(&session, sql).await,
        [["20000", "40000", "2001", "39999"]]
    );
    let sql = "SELECT count(*) FROM span_tree a JOIN span_tree b ON b.trace_id = a.trace_id \
               AND b.tree_order > a.tree_order AND b.tree_order <= a.tree_end WHERE a.depth = 0";
    assert_eq!(value(&session, sql).await, "39999");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_does_not_fit_into_memory_is_a_clear_error() {
    let config = Config {
        query: QueryConfig {
            memory_limit_bytes: 1 << 20,
            ..QueryConfig::default()
        },
        ..Config::default()
    };
    let lake = Lake::create("memory:///", config).await.unwrap();
    lake.append(comb(40_000).finish()).await.unwrap();
    let session = lake.session().await.unwrap();
    let stream = session
        .query("SELECT count(path) FROM span_tree", &[])
        .await
        .unwrap();
    let error = stream.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourcesExhausted);
    let message = error.message();
    assert!(message.contains("spans of some traces"), "{message}");
    assert!(message.contains("raise the memory limit"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_reads_only_the_first_traces() {
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    super::lakes::fill_with_workload(&lake).await;
    let session = lake.session().await.unwrap();
    let all = session.explain("SELECT * FROM span_tree").await.unwrap();
    let few = session
        .explain("SELECT * FROM span_tree LIMIT 5")
        .await
        .unwrap();
    assert_eq!(few.row_count, 5);
    assert!(
        few.bytes_read * 4 < all.bytes_read,
        "{} of {}",
        few.bytes_read,
        all.bytes_read
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_is_of_the_hour_it_starts_in_though_no_span_of_its_trace_is() {
    // The parent waits for its child over the hour's end, and goes on alone.
    let hour = START + 3600 * SECOND;
    let span = |trace: u64, id: u64, parent: &str, from: i64, to: i64| {
        format!(
            r#"{{"traceId":"{trace:032x}","spanId":"{id:016x}","parentSpanId":"{parent}","name":"n{id}","kind":1,
                "startTimeUnixNano":"{}","endTimeUnixNano":"{}"}}"#,
            hour + from * SECOND,
            hour + to * SECOND
        )
    };
    let spans = [
        span(1, 1, "", -60, 600),
        span(1, 2, "0000000000000001", -30, 300),
        span(2, 3, "", 1800, 1801),
    ];
    let request = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
        spans.join(",")
    );
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let source = Source::bytes("hours.json", request);
    lake.ingest(vec![source], IngestProgress::shared())
        .await
        .unwrap();
    let session = lake.session().await.unwrap();
    let found = rows(
        &session,
        "SELECT name FROM critical_paths WHERE start_time >= '2026-11-20T10:00:00Z' \
         AND start_time < '2026-11-20T11:00:00Z' ORDER BY start_time",
    );
    assert_eq!(found.await, [["n1"], ["n3"]]);
    let found = rows(
        &session,
        "SELECT name FROM span_tree WHERE start_time >= '2026-11-20T10:00:00Z' \
         AND start_time < '2026-11-20T11:00:00Z'",
    );
    assert_eq!(found.await, [["n3"]]);
}
