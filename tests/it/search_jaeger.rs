//! The searches every Jaeger backend must answer, and what Jaeger's clients may ask for.
//!
//! They lie outside the repository, in the folder that `TRACELAKE_FIXTURES` names; where it is
//! absent these tests say so and check nothing. Small cases of the same kind are in `search.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value as Json;
use tracelake::engine::Source;
use tracelake::search::{
    AttributeTest, AttributeValue, JaegerQuery, JaegerRequest, TraceQuery, parse_duration,
};
use tracelake::{Config, Lake};

fn fixtures(folder: &str) -> Option<PathBuf> {
    let fixtures = std::env::var_os("TRACELAKE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"),
        PathBuf::from,
    );
    let folder = fixtures.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no cases in {}; set TRACELAKE_FIXTURES to check against them",
        folder.display()
    );
    None
}

fn json(path: PathBuf) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The spans of a trace in OTLP JSON, and the trace's id.
fn trace_of(otlp: &Json) -> (String, usize) {
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for resource in otlp["resourceSpans"].as_array().unwrap() {
        for scope in resource["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                ids.insert(span["traceId"].as_str().unwrap().to_string());
                count += 1;
            }
        }
    }
    assert_eq!(ids.len(), 1, "a fixture is one trace");
    (ids.pop_first().unwrap(), count)
}

/// A query as the fixtures have it; `test` makes a test of a tag's value.
fn query_of(case: &Json, test: fn(&Json) -> AttributeTest) -> TraceQuery {
    let asked = &case["Query"];
    let time = |key: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(asked[key].as_str().unwrap()).unwrap();
        time.timestamp_nanos_opt().unwrap()
    };
    // Jaeger's range includes its last moment.
    let mut query = TraceQuery::new()
        .with_service(asked["ServiceName"].as_str().unwrap())
        .with_time_range(time("StartTimeMin"), time("StartTimeMax") + 1)
        .with_limit(asked["NumTraces"].as_u64().unwrap() as usize);
    let text = asked["OperationName"].as_str().unwrap();
    if !text.is_empty() {
        query = query.with_span_name(text);
    }
    if let Some(nano) = asked["DurationMin"].as_i64().filter(|nano| *nano > 0) {
        query = query.with_min_duration_nano(nano);
    }
    if let Some(nano) = asked["DurationMax"].as_i64().filter(|nano| *nano > 0) {
        query = query.with_max_duration_nano(nano);
    }
    for (key, value) in asked["Tags"].as_object().into_iter().flatten() {
        query = query.with_attribute(key, test(value));
    }
    query
}

fn typed(value: &Json) -> AttributeTest {
    AttributeTest::Equal(match value {
        Json::Bool(value) => AttributeValue::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| number.as_f64().unwrap().into(), AttributeValue::Int),
        other => other.as_str().unwrap().into(),
    })
}

/// As the parameters of a URL have them.
fn as_text(value: &Json) -> AttributeTest {
    let text = value.as_str().map(str::to_string);
    AttributeTest::Equal(text.unwrap_or_else(|| value.to_string()).into())
}

/// As Jaeger on Elasticsearch takes them.
fn as_pattern(value: &Json) -> AttributeTest {
    AttributeTest::Matches(value.as_str().unwrap().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jaeger_s_storage_queries_find_exactly_their_traces() {
    let Some(folder) = fixtures("jaeger/storage-integration") else {
        return;
    };
    let lake = Lake::create("memory:///", Config::default()).await.unwrap();
    let mut traces = BTreeMap::new();
    for entry in fs::read_dir(folder.join("traces")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        traces.insert(name, trace_of(&json(path.clone())));
        // Each trace is a commit, some of them of two hours.
        let report = lake.ingest(vec![Source::path(path)], Default::default());
        assert_eq!(report.await.unwrap().rejection_count, 0);
    }
    let mut checked = 0;
    for compacted in [false, true] {
        if compacted {
            lake.compact(std::sync::Arc::new(|_| {})).await.unwrap();
        }
        for (file, tests) in [
            ("queries.json", &[typed, as_text][..]),
            ("queries_es.json", &[as_pattern]),
        ] {
            for case in json(folder.join(file)).as_array().unwrap() {
                for test in tests {
                    let query = query_of(case, *test);
                    let page = lake.search(&query).await.unwrap();
                    let found: BTreeMap<String, usize> = page
                        .hits
                        .iter()
                        .map(|hit| {
                            (
                                hit.trace.trace_id.to_string(),
                                hit.trace.span_count as usize,
                            )
                        })
                        .collect();
                    let expected = case["ExpectedFixtures"].as_array().unwrap().iter();
                    let expected: BTreeMap<String, usize> = expected
                        .map(|name| traces[name.as_str().unwrap()].clone())
                        .collect();
                    assert_eq!(found, expected, "{}", case["Caption"]);
                    let count = lake.search_count(&query).await.unwrap();
                    assert_eq!(count, expected.len() as u64);
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 2 * (2 * 25 + 2));
}

/// The decoded parameters of a URL.
fn parameters(url: &str) -> Vec<(String, String)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    pairs.collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, after) {
            let hex = [*high, *low];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn parse(url: &str) -> tracelake::Result<JaegerRequest> {
    let parameters = parameters(url);
    let parameters = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    JaegerRequest::parse(parameters, 1_700_000_000_000_000_000)
}

#[test]
fn requests_of_jaeger_s_clients_are_read_as_jaeger_reads_them() {
    let Some(folder) = fixtures("jaeger/transcribed") else {
        return;
    };
    let cases = json(folder.join("http_api_v1_search_cases.json"));
    for case in cases["errors"].as_array().unwrap() {
        let url = case["get"].as_str().unwrap();
        let error = parse(url).unwrap_err().report();
        let expected = case["error_contains"].as_str().unwrap();
        assert!(error.contains(expected), "{url}: {error}");
    }
    for case in cases["accepted"].as_array().unwrap() {
        let url = case["get"].as_str().unwrap();
        let request = parse(url).unwrap();
        let means = &case["means"];
        if means["raw"] == true {
            assert!(request.raw, "{url}");
        }
        match request.query {
            JaegerQuery::Traces(ids) => {
                let expected = means["trace_ids"].as_array().unwrap().iter();
                let expected: Vec<String> = expected
                    .map(|id| format!("{:0>32}", id.as_str().unwrap()))
                    .collect();
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                assert_eq!(ids, expected, "{url}");
            }
            JaegerQuery::Search(query) => check_search(url, &query, means),
        }
    }
}

fn check_search(url: &str, query: &TraceQuery, means: &Json) {
    assert_eq!(query.service_name.as_deref(), Some("service"), "{url}");
    if let Some(limit) = means["limit"].as_u64() {
        assert_eq!(query.limit as u64, limit, "{url}");
    }
    for (key, nano) in [
        ("minDuration_ns", query.min_duration_nano),
        ("maxDuration_ns", query.max_duration_nano),
    ] {
        assert_eq!(nano, means[key].as_i64(), "{url}");
    }
    let tags = means["tags"].as_object().into_iter().flatten();
    let expected = tags.fold(TraceQuery::new(), |query, (key, value)| {
        query.query_attribute(key, value.as_str().unwrap())
    });
    assert_eq!(query.condition, expected.condition, "{url}");
}

#[test]
fn durations_are_read_as_jaeger_reads_them() {
    let Some(folder) = fixtures("jaeger/transcribed") else {
        return;
    };
    let cases = json(folder.join("duration_param_cases.json"));
    for kind in ["valid_simple", "negative", "valid_compound"] {
        for case in cases[kind].as_array().unwrap() {
            let nanos = parse_duration(case[0].as_str().unwrap());
            assert_eq!(nanos.unwrap(), case[1].as_i64().unwrap(), "{case}");
        }
    }
    for kind in ["invalid", "invalid_in_go"] {
        for case in cases[kind].as_array().unwrap() {
            assert!(parse_duration(case.as_str().unwrap()).is_err(), "{case}");
        }
    }
}
