//! Traces by their ids, for programs and in SQL: wherever their spans lie, in whatever state, and
//! whatever the cache holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use proptest::prelude::*;
use serde_json::Value as Json;
use tracelake::config::{QueryConfig, StorageConfig};
use tracelake::engine::{LookupOptions, Source, StatsOptions, TraceQuestion};
use tracelake::span::{Origin, Span, SpanBatchBuilder, SpanId, TraceId};
use tracelake::trace::Trace;
use tracelake::workload::Workload;
use tracelake::{Config, ErrorKind, Lake};

use super::lakes::{rows, small_files, texts, value};

/// 2026-11-20 06:00 UTC.
const START: i64 = 1_795_154_400_000_000_000;
const HOUR: i64 = 3_600_000_000_000;
const HOURS: i64 = 4;

/// The spans of some traces over four hours, and what they come from.
struct Material {
    origins: Vec<Origin>,
    traces: Vec<Vec<(usize, Span)>>,
}

impl Material {
    fn new(span_count: u64) -> Self {
        let length = Duration::from_nanos(HOUR as u64 * HOURS as u64);
        let mut workload = Workload::new(23, span_count, START, length);
        let origins = workload.origins().to_vec();
        // What was sent twice, or comes later, is put together and counted once.
        let mut by_id: BTreeMap<TraceId, Vec<(usize, Span)>> = BTreeMap::new();
        while let Some(spans) = workload.next_trace() {
            for (origin, span) in spans {
                let trace = by_id.entry(span.trace_id).or_default();
                let key = |span: &Span| {
                    let times = (span.start_time_unix_nano, span.duration_nano);
                    (span.span_id, span.kind as i8, times, span.name.clone())
                };
                if trace.iter().all(|(_, other)| key(other) != key(&span)) {
                    trace.push((origin, span));
                }
            }
        }
        let traces = by_id.into_values().collect();
        Self { origins, traces }
    }

    fn ids(&self) -> Vec<TraceId> {
        self.traces
            .iter()
            .map(|spans| spans[0].1.trace_id)
            .collect()
    }

    /// Adds the spans of a trace that `picks` picks.
    fn push(&self, trace: usize, builder: &mut SpanBatchBuilder, picks: impl Fn(usize) -> bool) {
        for (index, (origin, span)) in self.traces[trace].iter().enumerate() {
            if picks(index) {
                builder.push(&self.origins[*origin], span);
            }
        }
    }
}

fn uncached() -> Config {
    Config {
        query: QueryConfig {
            trace_cache_bytes: 0,
            ..small_files(true).query
        },
        ..small_files(true)
    }
}

async fn compact(lake: &Lake) {
    lake.compact(Arc::new(|_| {})).await.unwrap();
}

async fn expire(lake: &Lake, hour: i64) {
    let now = chrono::DateTime::from_timestamp_nanos(START + hour * HOUR);
    lake.expire(Duration::ZERO, now).await.unwrap();
}

/// What every column of every span of a trace is.
fn content(trace: &Option<Arc<Trace>>) -> Option<arrow::array::RecordBatch> {
    trace.as_ref().map(|trace| trace.rows().clone())
}

#[derive(Debug, Clone)]
enum Step {
    /// Every third span or so of some traces, by this handle or by another.
    Append(Vec<usize>, usize, bool),
    Compact(bool),
    /// All hours before this one go.
    Expire(i64),
    LookUp(Vec<usize>, Option<i64>),
}

fn steps(trace_count: usize) -> impl Strategy<Value = Vec<Step>> {
    let some = move || prop::collection::vec(0..trace_count, 1..6);
    let step = prop_oneof![
        3 => (some(), 0..4usize, any::<bool>()).prop_map(|(t, part, own)| Step::Append(t, part, own)),
        2 => any::<bool>().prop_map(Step::Compact),
        1 => (0..HOURS).prop_map(Step::Expire),
        6 => (some(), prop::option::of(0..HOURS)).prop_map(|(t, hint)| Step::LookUp(t, hint)),
    ];
    prop::collection::vec(step, 4..24)
}

async fn run_steps(steps: Vec<Step>, material: &Material, name: &str) {
    let url = format!("memory://traces-{name}");
    let lake = Lake::create(&url, small_files(true)).await.unwrap();
    let other = Lake::open(&url, small_files(true)).await.unwrap();
    let ids = material.ids();
    for step in steps {
        match step {
            Step::Append(traces, part, own) => {
                let mut builder = SpanBatchBuilder::new();
                for trace in traces {
                    material.push(trace, &mut builder, |index| index % 4 <= part);
                }
                let by = if own { &lake } else { &other };
                by.append(builder.finish()).await.unwrap();
            }
            Step::Compact(own) => compact(if own { &lake } else { &other }).await,
            Step::Expire(hour) => expire(&lake, hour).await,
            Step::LookUp(traces, hint) => {
                // Reads the log, as a lake does by itself once a second.
                lake.info().await.unwrap();
                let asked: Vec<TraceId> = traces.iter().map(|trace| ids[*trace]).collect();
                let fresh = Lake::open(&url, uncached()).await.unwrap();
                if let Some(hour) = hint {
                    // What is kept for a hint may hold more than was asked, never less.
                    let range = START + hour * HOUR..=START + hour * HOUR;
                    let options = LookupOptions {
                        margin: Duration::ZERO,
                        ..LookupOptions::default().with_time_hint(Some(range))
                    };
                    let found = lake.find_traces(&asked, &options).await.unwrap();
                    let expected = fresh.find_traces(&asked, &options).await.unwrap();
                    for (found, expected) in found.traces.iter().zip(&expected.traces) {
                        let spans = |trace: &Option<Arc<Trace>>| {
                            trace.as_ref().map_or(0, |trace| trace.span_count())
                        };
                        assert!(spans(found) >= spans(expected));
                    }
                    continue;
                }
                let found = lake.query_traces(&asked).await.unwrap();
                let expected = fresh.query_traces(&asked).await.unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(content(found), content(expected));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_the_cache_answers_is_what_an_uncached_lake_answers(
        steps in steps(12), number in any::<u64>()
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let material = Material::new(300);
        let steps: Vec<Step> = steps
            .into_iter()
            .map(|step| match step {
                Step::Append(t, p, o) => {
                    Step::Append(t.iter().map(|t| t % material.traces.len()).collect(), p, o)
                }
                Step::LookUp(t, h) => {
                    Step::LookUp(t.iter().map(|t| t % material.traces.len()).collect(), h)
                }
                other => other,
            })
            .collect();
        runtime.block_on(run_steps(steps, &material, &number.to_string()));
    }
}

/// Hits and misses since the last call.
struct Counts(u64, u64);

impl Counts {
    fn next(&mut self, lake: &Lake) -> (u64, u64) {
        let now = lake.trace_cache_statistics();
        let since = (now.hit_count - self.0, now.miss_count - self.1);
        (self.0, self.1) = (now.hit_count, now.miss_count);
        since
    }
}

#[tokio::test]
async fn only_commits_that_may_hold_a_trace_make_it_read_again() {
    let material = Material::new(2_000);
    let ids = material.ids();
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    let mut counts = Counts(0, 0);
    let append = async |trace: usize, part: usize| {
        let mut builder = SpanBatchBuilder::new();
        material.push(trace, &mut builder, |index| index % 2 == part);
        lake.append(builder.finish()).await.unwrap();
    };
    let spans = async |trace: usize| {
        let trace = lake.query_trace(ids[trace], None).await.unwrap();
        trace.map_or(0, |trace| trace.span_count())
    };
    let big = (0..ids.len())
        .max_by_key(|t| material.traces[*t].len())
        .unwrap();
    let other = (0..ids.len()).find(|trace| *trace != big).unwrap();
    let size = material.traces[big].len();

    // That it is not there is remembered, until it is.
    assert_eq!((spans(big).await, spans(big).await), (0, 0));
    assert_eq!(counts.next(&lake), (1, 1));
    append(big, 0).await;
    assert_eq!(spans(big).await, size.div_ceil(2));
    assert_eq!(counts.next(&lake), (0, 1));
    // Another trace's spans change nothing.
    append(other, 0).await;
    append(other, 1).await;
    assert_eq!(spans(big).await, size.div_ceil(2));
    assert_eq!(counts.next(&lake), (1, 0));
    append(big, 1).await;
    assert_eq!(spans(big).await, size);
    assert_eq!(counts.next(&lake), (0, 1));
    // Nor does compaction.
    compact(&lake).await;
    assert_eq!(spans(big).await, size);
    assert_eq!(counts.next(&lake), (1, 0));
    // Expiry does, where the trace lies.
    expire(&lake, -5).await;
    assert_eq!(spans(big).await, size);
    assert_eq!(counts.next(&lake), (1, 0));
    expire(&lake, HOURS + 5).await;
    assert_eq!(spans(big).await, 0);
    assert_eq!(counts.next(&lake), (0, 1));
    assert_eq!(lake.trace_cache_statistics().entry_count, 1);
}

#[tokio::test]
async fn the_cache_stays_within_its_bytes() {
    let material = Material::new(3_000);
    let config = Config {
        query: QueryConfig {
            trace_cache_bytes: 400_000,
            ..QueryConfig::default()
        },
        ..Config::default()
    };
    let lake = Lake::create("memory:///", config).await.unwrap();
    let mut builder = SpanBatchBuilder::new();
    for trace in 0..material.traces.len() {
        material.push(trace, &mut builder, |_| true);
    }
    lake.append(builder.finish()).await.unwrap();
    let ids = material.ids();
    for (id, spans) in ids.iter().zip(&material.traces) {
        let trace = lake.query_trace(*id, None).await.unwrap().unwrap();
        assert!(trace.span_count() <= spans.len());
        assert!(lake.trace_cache_statistics().byte_count <= 400_000);
    }
    let entries = lake.trace_cache_statistics().entry_count;
    assert!(entries > 3 && entries < ids.len(), "{entries}");
}

#[tokio::test]
async fn a_trace_is_whole_wherever_its_spans_lie() {
    let material = Material::new(4_000);
    let ids = material.ids();
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    // Each trace in three commits, its first part twice.
    for part in [0, 1, 2, 0] {
        let mut builder = SpanBatchBuilder::new();
        for trace in 0..ids.len() {
            material.push(trace, &mut builder, |index| index % 3 == part);
        }
        lake.append(builder.finish()).await.unwrap();
    }
    let session = lake.session().await.unwrap();
    let mut before: BTreeMap<TraceId, Vec<(u32, u32)>> = BTreeMap::new();
    for level in ["ingested", "compacted"] {
        let traces = lake.query_traces(&ids).await.unwrap();
        for (trace, spans) in traces.iter().zip(&material.traces) {
            let trace = trace.as_ref().unwrap();
            assert_eq!(trace.span_count(), spans.len(), "{level}");
            let tree = trace.forest().depths().iter().copied();
            let tree: Vec<_> = tree
                .zip(trace.forest().subtree_ends().iter().copied())
                .collect();
            match before.get(&trace.id()) {
                Some(before) => assert_eq!(*before, tree, "{level}"),
                None => drop(before.insert(trace.id(), tree)),
            }
        }
        let big = traces
            .iter()
            .flatten()
            .max_by_key(|trace| trace.span_count())
            .unwrap();
        let count = value(
            &session,
            &format!("SELECT count(*) FROM trace('{}')", big.id()),
        )
        .await;
        assert_eq!(count, big.span_count().to_string());
        let copies = format!("SELECT copy_count > 0 FROM trace_stats('{}')", big.id());
        assert_eq!(
            value(&session, &copies).await,
            (level == "ingested").to_string()
        );
        compact(&lake).await;
        // Compaction does not change what is cached; here what is stored is asked.
        if level == "ingested" {
            let mut builder = SpanBatchBuilder::new();
            (0..ids.len()).for_each(|trace| material.push(trace, &mut builder, |i| i == 0));
            lake.append(builder.finish()).await.unwrap();
            compact(&lake).await;
        }
    }
}

#[tokio::test]
async fn many_ids_come_back_in_the_order_asked_for() {
    let material = Material::new(4_000);
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    let mut builder = SpanBatchBuilder::new();
    for trace in 0..material.traces.len() {
        material.push(trace, &mut builder, |_| true);
    }
    lake.append(builder.finish()).await.unwrap();
    let mut ids = material.ids();
    ids.reverse();
    ids.insert(3, TraceId::parse("00000000000000ff").unwrap());
    ids.push(ids[0]);
    for found in [
        lake.query_traces(&ids).await.unwrap(),
        lake.execute_parallel(&ids, 3).await.unwrap(),
        lake.execute_parallel(&ids, 1).await.unwrap(),
    ] {
        assert_eq!(found.len(), ids.len());
        for (index, (id, trace)) in ids.iter().zip(&found).enumerate() {
            let found = trace.as_ref().map(|trace| trace.id());
            assert_eq!(found, (index != 3).then_some(*id));
        }
    }
    let streamed: Vec<_> = lake.stream_traces(ids.clone()).try_collect().await.unwrap();
    let order: Vec<TraceId> = streamed.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, ids);
    assert!(streamed[3].1.is_none());
    // Whoever stops taking stops the reading.
    let fresh = Lake::create("memory:///", Config::default()).await.unwrap();
    let endless = std::iter::repeat(ids[0]);
    let few: Vec<_> = futures::StreamExt::take(fresh.stream_traces(endless), 5)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(few.len(), 5);
}

#[tokio::test]
async fn statistics_of_a_time_are_those_of_sql_and_end_in_time() {
    let material = Material::new(2_000);
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    let mut builder = SpanBatchBuilder::new();
    for trace in 0..material.traces.len() {
        material.push(trace, &mut builder, |_| true);
    }
    lake.append(builder.finish()).await.unwrap();
    let session = lake.session().await.unwrap();
    let range = START + HOUR..START + 3 * HOUR;
    let service = value(&session, "SELECT service_name FROM spans LIMIT 1").await;
    for (service, step) in [
        (None, None),
        (Some(service.clone()), None),
        (None, Some(Duration::from_secs(600))),
        (Some(service), Some(Duration::from_millis(1_234_567))),
        (Some("nobody".to_string()), None),
    ] {
        let quoted = |text: &Option<String>| match text {
            Some(text) => format!("'{text}'"),
            None => "NULL".to_string(),
        };
        let interval = step.map(|step| format!("{} milliseconds", step.as_millis()));
        let sql = format!(
            "SELECT * FROM time_range_stats('2026-11-20T07:00:00Z', '2026-11-20T09:00:00Z', {}, {}) \
             ORDER BY start_time",
            quoted(&service),
            quoted(&interval)
        );
        let options = StatsOptions {
            service,
            step,
            ..StatsOptions::default()
        };
        let found = lake.time_range_stats(range.clone(), &options).await;
        let found = texts(&[found.unwrap()]);
        assert_eq!(found, rows(&session, &sql).await, "{sql}");
        assert!(!found.is_empty());
    }
    let late = StatsOptions {
        time_out: Some(Duration::ZERO),
        ..StatsOptions::default()
    };
    let error = lake.time_range_stats(range.clone(), &late).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    let no_step = StatsOptions {
        step: Some(Duration::ZERO),
        ..StatsOptions::default()
    };
    let error = lake.time_range_stats(range, &no_step).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_cannot_be_read_fails_the_lookup_or_is_named() {
    let material = Material::new(2_000);
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().to_string_lossy().into_owned();
    let lake = Lake::create(&url, Config::default()).await.unwrap();
    for part in 0..2 {
        let mut builder = SpanBatchBuilder::new();
        material.push(0, &mut builder, |index| index % 2 == part);
        lake.append(builder.finish()).await.unwrap();
    }
    let id = material.ids()[0];
    let session = lake.session().await.unwrap();
    let path = value(&session, "SELECT min(path) FROM lake_files").await;
    let kept = fs::read(directory.path().join(&path)).unwrap();
    fs::remove_file(directory.path().join(&path)).unwrap();
    let fresh = Lake::open(&url, Config::default()).await.unwrap();
    let error = fresh.query_trace(id, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains(&path), "{error}");
    let partial = LookupOptions::default().allowing_partial();
    let found = fresh.find_traces(&[id], &partial).await.unwrap();
    assert!(!found.is_complete() && found.missing[0].path == path);
    let some = found.traces[0].as_ref().unwrap().span_count();
    assert!(some > 0 && some < material.traces[0].len());
    // So do the questions that are asked of it.
    let answer = fresh.trace_rows(id, TraceQuestion::Tree, &partial).await;
    let answer = answer.unwrap();
    assert_eq!(answer.rows.num_rows(), some);
    assert!(!answer.is_complete() && answer.missing[0].path == path);
    let error = fresh.tree(id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let range = START..START + HOURS * HOUR;
    let options = StatsOptions::default();
    assert!(fresh.time_range_stats(range, &options).await.is_err());
    // Half a trace is not kept.
    fs::write(directory.path().join(&path), kept).unwrap();
    let whole = fresh.find_traces(&[id], &partial).await.unwrap();
    assert!(whole.is_complete());
    assert_eq!(
        whole.traces[0].as_ref().unwrap().span_count(),
        material.traces[0].len()
    );

    let hasty = Lake::open(&url, uncached()).await.unwrap();
    let options = LookupOptions::default().with_time_out(Some(Duration::ZERO));
    let error = hasty.find_traces(&[id], &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("time-out"), "{error}");
    let found = hasty
        .find_traces(&[id], &options.allowing_partial())
        .await
        .unwrap();
    let files = value(&session, "SELECT count(*) FROM lake_files").await;
    assert_eq!(found.missing.len().to_string(), files);
}

#[tokio::test]
async fn a_hint_narrows_the_hours_and_loses_no_trace() {
    let material = Material::new(2_000);
    let lake = Lake::create("memory:///", small_files(true)).await.unwrap();
    let mut builder = SpanBatchBuilder::new();
    material.push(0, &mut builder, |_| true);
    lake.append(builder.finish()).await.unwrap();
    let id = material.ids()[0];
    let start = material.traces[0][0].1.start_time_unix_nano;
    // The last one ends before it begins.
    let turned = std::ops::RangeInclusive::new(5, 4);
    for hint in [start..=start, 0..=1, i64::MIN..=i64::MAX, turned] {
        let trace = lake.query_trace(id, Some(hint)).await.unwrap();
        assert_eq!(trace.unwrap().span_count(), material.traces[0].len());
    }
}

#[tokio::test]
async fn related_traces_are_at_hand_after_a_prefetch() {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/otlp/collector.jsonl");
    let source = Source::path(data);
    lake.ingest(vec![source], Arc::default()).await.unwrap();
    let consumer = TraceId::parse("5b1e7f00c0ffee00a11ce00000000002").unwrap();
    let producer = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001").unwrap();
    let trace = lake.query_trace(consumer, None).await.unwrap().unwrap();
    assert_eq!(lake.prefetch_related(&trace, 0).finished().await, 0);
    assert_eq!(lake.prefetch_related(&trace, 10).finished().await, 1);
    let mut counts = Counts(0, 0);
    counts.next(&lake);
    assert!(lake.query_trace(producer, None).await.unwrap().is_some());
    assert_eq!(counts.next(&lake), (1, 0));

    // In the background, and given up when asked to.
    let options = LookupOptions::default().with_prefetch(5);
    let fresh = lake.clone();
    fresh.find_traces(&[consumer], &options).await.unwrap();
    fresh.cancel_prefetches();
}

#[tokio::test]
async fn parameters_stand_in_the_arguments_of_table_functions() {
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/otlp/collector.jsonl");
    lake.ingest(vec![Source::path(data)], Arc::default())
        .await
        .unwrap();
    let session = lake.session().await.unwrap();
    let count = async |sql: &str, parameters: &[(&str, ScalarValue)]| {
        let parameters: Vec<(String, ScalarValue)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_string(), value.clone()))
            .collect();
        let stream = session.query(sql, &parameters).await?;
        let batches = stream.collect().await?;
        Ok::<usize, tracelake::Error>(batches.iter().map(|batch| batch.num_rows()).sum())
    };
    let id = || ScalarValue::from("5b1e7f00c0ffee00a11ce00000000001");
    let span = || ScalarValue::from("a100000000000004");
    assert_eq!(
        count("SELECT * FROM trace($1)", &[("1", id())])
            .await
            .unwrap(),
        5
    );
    assert_eq!(
        count("SELECT * FROM trace($id)", &[("id", id())])
            .await
            .unwrap(),
        5
    );
    assert_eq!(
        count("SELECT * FROM trace([$id, $id])", &[("id", id())])
            .await
            .unwrap(),
        5
    );
    let list = ScalarValue::List(ScalarValue::new_list_nullable(
        &[id()],
        &arrow::datatypes::DataType::Utf8,
    ));
    assert_eq!(
        count("SELECT * FROM trace($1)", &[("1", list)])
            .await
            .unwrap(),
        5
    );
    let sql = "SELECT * FROM ancestors($2, $1) WHERE distance < $3";
    let three = ScalarValue::from(3i64);
    assert_eq!(
        count(sql, &[("1", span()), ("2", id()), ("3", three)])
            .await
            .unwrap(),
        2
    );
    let sql = "SELECT * FROM (SELECT * FROM trace($id)) WHERE trace_id = $id AND depth > $least";
    let least = ScalarValue::from(0i64);
    assert_eq!(
        count(sql, &[("id", id()), ("least", least)]).await.unwrap(),
        4
    );
    let quoted = ScalarValue::from("x' OR '1'='1");
    let error = count("SELECT * FROM trace($1)", &[("1", quoted)])
        .await
        .unwrap_err();
    assert!(
        error.report().contains("malformed trace id"),
        "{}",
        error.report()
    );
    let error = count("SELECT * FROM trace($1)", &[]).await.unwrap_err();
    assert!(error.report().contains("$1"), "{}", error.report());
}

/// A file of samples, or a loud word that it is absent.
fn fixture(name: &str) -> Option<PathBuf> {
    let fixtures = std::env::var_os("TRACELAKE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"),
        PathBuf::from,
    );
    let path = fixtures.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: no {}; set TRACELAKE_FIXTURES to check against it",
        path.display()
    );
    None
}

fn json(path: PathBuf) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

async fn lake_of(path: PathBuf) -> Lake {
    let config = Config {
        storage: StorageConfig {
            page_rows: 128,
            ..StorageConfig::default()
        },
        ..Config::default()
    };
    let lake = Lake::create("memory:///", config).await.unwrap();
    lake.ingest(vec![Source::path(path)], Arc::default())
        .await
        .unwrap();
    lake
}

#[tokio::test]
async fn trees_of_another_system_come_out_alike() {
    let (Some(data), Some(cases)) = (
        fixture("promscale/trace_tree.otlp.json"),
        fixture("promscale/tree_function_cases.json"),
    ) else {
        return;
    };
    let session = lake_of(data).await.session().await.unwrap();
    let id = |number: &Json| format!("{:016x}", number.as_u64().unwrap());
    for case in json(cases)["cases"].as_array().unwrap() {
        let (name, arguments) = (case["fn"].as_str().unwrap(), &case["args"]);
        let trace = arguments[0].as_str().unwrap();
        let most = arguments[2]
            .as_str()
            .and_then(|text| text.strip_prefix("max_dist="));
        let most: i64 = most.map_or(i64::MAX, |most| most.parse().unwrap());
        let related = |function: &str, sign: i64| {
            format!(
                "SELECT span_id, distance * {sign} FROM {function}('{trace}', '{}') \
                 WHERE distance <= {most}",
                id(&arguments[1])
            )
        };
        let itself = (!arguments[1].is_null()).then(|| vec![id(&arguments[1]), "0".to_string()]);
        let mut expected: Vec<Vec<String>> = Vec::new();
        let mut found = match name.split(' ').next().unwrap() {
            "trace_tree" => {
                for row in case["expected"].as_array().unwrap() {
                    let depth = row[2].as_i64().unwrap() - 1;
                    expected.push(vec![id(&row[0]), depth.to_string()]);
                }
                rows(
                    &session,
                    &format!("SELECT span_id, depth FROM trace('{trace}')"),
                )
                .await
            }
            "siblings" => {
                for row in case["expected"].as_array().unwrap() {
                    let distance = if row[0] == arguments[1] { "0" } else { "2" };
                    expected.push(vec![id(&row[0]), distance.to_string()]);
                }
                let mut found = rows(&session, &related("siblings", 1)).await;
                found.extend(itself);
                found
            }
            other => {
                for row in case["expected"].as_array().unwrap() {
                    let is_below = row[4].as_bool().unwrap_or(other == "downstream");
                    let distance = row[2].as_i64().unwrap() * if is_below { 1 } else { -1 };
                    expected.push(vec![id(&row[0]), distance.to_string()]);
                }
                let mut found = Vec::new();
                if other != "downstream" {
                    found.extend(rows(&session, &related("ancestors", -1)).await);
                }
                if other != "upstream" {
                    found.extend(rows(&session, &related("descendants", 1)).await);
                }
                found.extend(itself);
                found
            }
        };
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name} {arguments}");
    }
}

#[tokio::test]
async fn ancestors_and_critical_paths_of_real_traces_are_those_computed_elsewhere() {
    for name in [
        "onlineboutique-2022-08-22-first200",
        "trainticket-2023-01-29-first200",
    ] {
        let folder = "datasets/nezha/dev-sample";
        let (Some(data), Some(golden)) = (
            fixture(&format!("{folder}/{name}.otlp.jsonl.gz")),
            fixture(&format!("{folder}/{name}.golden.json")),
        ) else {
            return;
        };
        let lake = lake_of(data).await;
        let session = lake.session().await.unwrap();
        for details in json(golden)["trace_details"].as_array().unwrap() {
            let trace = details["trace_id"].as_str().unwrap();
            let deepest = details["deepest_span"].as_str().unwrap();
            let sql = format!("SELECT span_id FROM ancestors('{trace}', '{deepest}')");
            let found = rows(&session, &sql).await.concat();
            let expected = details["ancestors_of_deepest"].as_array().unwrap();
            let expected: Vec<&str> = expected.iter().map(|id| id.as_str().unwrap()).collect();
            assert_eq!(found, expected, "{trace}");

            let sql = format!(
                "SELECT span_id, start_time::bigint, end_time::bigint \
                 FROM critical_path('{trace}') ORDER BY 2, 3"
            );
            let found = rows(&session, &sql).await;
            let expected = details["critical_path_strict_ns"].as_array().unwrap();
            let mut expected: Vec<Vec<String>> = expected
                .iter()
                .map(|section| {
                    let [start, end] = [1, 2].map(|index| section[index].as_i64().unwrap());
                    let id = section[0].as_str().unwrap().to_string();
                    vec![id, start.to_string(), end.to_string()]
                })
                .filter(|section| section[1] != section[2])
                .collect();
            expected.sort_by_key(|section| (section[1].clone(), section[2].clone()));
            assert_eq!(found, expected, "{trace}");

            let id = TraceId::parse(trace).unwrap();
            let span = SpanId::parse(deepest).unwrap();
            let above = lake.ancestors(id, span).await.unwrap();
            assert_eq!(
                above.num_rows(),
                details["max_depth"].as_u64().unwrap() as usize
            );
        }
    }
}
