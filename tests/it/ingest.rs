//! Decoders against inputs of other projects, real, broken and hostile.
//!
//! Those inputs lie outside the repository, in the folder that `TRACELAKE_FIXTURES` names; where
//! it is absent these tests say so and check nothing. The decoders' own unit tests need it not.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use arrow::array::AsArray;
use serde_json::Value as Json;
use tracelake::Result;
use tracelake::ingest::{Format, Rejection, SpanSink, decode};
use tracelake::span::{Origin, Span, SpanBatchBuilder, SpanKind, StatusCode, Value, column};

/// Collects everything.
#[derive(Default)]
struct Found {
    spans: Vec<(Origin, Span)>,
    rejections: Vec<Rejection>,
    format: Option<Format>,
}

impl SpanSink for Found {
    fn span(&mut self, origin: &Origin, span: &Span) -> Result<()> {
        self.spans.push((origin.clone(), span.clone()));
        Ok(())
    }

    fn reject(&mut self, rejection: Rejection) -> Result<()> {
        assert!(!rejection.reason.is_empty());
        self.rejections.push(rejection);
        Ok(())
    }
}

impl Found {
    fn span(&self, name: &str) -> &Span {
        let found = self.spans.iter().find(|(_, span)| span.name == name);
        &found.unwrap_or_else(|| panic!("a span named {name}")).1
    }

    /// The decoded column of texts.
    fn texts(&self, name: &str) -> Vec<Option<String>> {
        let mut builder = SpanBatchBuilder::new();
        for (origin, span) in &self.spans {
            builder.push(origin, span);
        }
        let batch = builder.finish();
        let texts = batch.column_by_name(name).unwrap().as_string_view().clone();
        texts.iter().map(|text| text.map(str::to_string)).collect()
    }
}

fn decoded(name: &str, bytes: &[u8]) -> Found {
    let mut found = Found::default();
    found.format = decode(bytes, name, None, &mut found).unwrap();
    found
}

fn decoded_json(json: &Json) -> Found {
    decoded("input.json", json.to_string().as_bytes())
}

/// The folder of fixtures, or a loud word that it is absent.
fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("TRACELAKE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"),
        PathBuf::from,
    );
    if !folder.join("malformed/manifest.json").is_file() {
        eprintln!(
            "SKIPPED: no fixtures in {}; set TRACELAKE_FIXTURES to check against them",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

fn read_json(path: PathBuf) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_malformed_file_is_handled_as_its_manifest_says() {
    let Some(folder) = fixtures() else { return };
    let folder = folder.join("malformed");
    let manifest = read_json(folder.join("manifest.json"));
    let mut wrong = Vec::new();
    for case in manifest["cases"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let expect = case["expect"].as_str().unwrap();
        let found = decoded(file, &fs::read(folder.join(file)).unwrap());
        let (spans, rejections) = (found.spans.len() as u64, found.rejections.len());
        println!(
            "{file}: {spans} spans, {rejections} rejections {:?}",
            found.rejections.first().map(ToString::to_string)
        );
        let as_expected = match expect {
            "accept" => {
                rejections == 0 && case["spans"].as_u64().is_none_or(|count| count == spans)
            }
            "reject" => rejections > 0,
            _ => true,
        };
        let good = case["good_spans"].as_u64().or_else(|| {
            case["note"]
                .as_str()
                .unwrap()
                .starts_with("bad span beside a good one")
                .then_some(1)
        });
        let keeps_good = good.is_none_or(|good| spans >= good);
        if !as_expected || !keeps_good {
            wrong.push(format!(
                "{file}: {expect}, but {spans} spans, {:?}",
                found.rejections.first()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_line_is_named_and_the_others_are_kept() {
    let Some(folder) = fixtures() else { return };
    let file = folder.join("malformed/otlp-json/jsonl_bad_line_in_middle.jsonl");
    // The name gives no hint here, so that it must show in the text.
    let found = decoded("-", &fs::read(file).unwrap());
    assert_eq!(found.spans.len(), 3);
    assert_eq!(found.rejections.len(), 1);
    assert_eq!(found.rejections[0].location.to_string(), "line 2");
}

#[test]
fn otlp_json_is_read_as_the_collector_reads_it() {
    let Some(folder) = fixtures() else { return };
    let folder = folder.join("otel/otlp-json");
    let cases = read_json(folder.join("otlp_json_cases.json"));
    for case in cases["accept"].as_array().unwrap() {
        let Some(raw) = case["raw"].as_str() else {
            continue;
        };
        let found = decoded("-", raw.as_bytes());
        let name = case["name"].as_str().unwrap();
        // Spans without ids are the one thing refused here and kept there.
        let count = found.spans.len() + found.rejections.len();
        if let Some(expected) = case["spans"].as_u64() {
            assert_eq!(count as u64, expected, "{name}: {:?}", found.rejections);
        }
        if let Some(duration) = case["expect"]["duration_ns"].as_i64() {
            let span = &found.spans[0].1;
            assert_eq!(span.duration_nano, Some(duration));
            assert_eq!(span.attributes, [("i".to_string(), Value::Int(42))]);
        }
        if name == "enum by name" {
            assert_eq!(found.spans[0].1.kind, SpanKind::Server);
            assert_eq!(found.spans[0].1.status_code, StatusCode::Error);
        }
    }
    for case in cases["reject"].as_array().unwrap() {
        let found = decoded("-", case["raw"].as_str().unwrap().as_bytes());
        assert!(
            found.spans.is_empty() && !found.rejections.is_empty(),
            "{case}"
        );
    }
    let found = decoded(
        "a.json",
        &fs::read(folder.join("proto-example-trace.json")).unwrap(),
    );
    let span = &found.spans[0].1;
    assert_eq!(
        span.trace_id.to_string(),
        "5b8efff798038103d269b633813fc60c"
    );
    assert_eq!(span.span_id.to_string(), "eee19b7ec3c1b174");
    assert_eq!(span.parent_span_id.unwrap().to_string(), "eee19b7ec3c1b173");
    let found = decoded(
        "a.json",
        &fs::read(folder.join("pdata-full-span.json")).unwrap(),
    );
    let span = found.span("testSpan");
    assert_eq!(
        span.duration_nano,
        Some(1_684_623_646_539_558_000 - 1_684_617_382_541_971_000)
    );
    assert_eq!(span.parent_span_id, Some(span.span_id));
    let types: Vec<&str> = span
        .attributes
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(
        types,
        [
            "string", "bool", "int", "double", "bytes", "array", "kvList"
        ]
    );
    assert_eq!(span.attributes[4].1, Value::Bytes(b"foo".to_vec()));
}

#[test]
fn jaeger_maps_as_the_collector_translates_it() {
    let Some(folder) = fixtures() else { return };
    let cases = read_json(folder.join("otel/translator/translation_cases.json"));
    let span_with = |tags: Json| {
        let span = serde_json::json!([{"traceID": "aa", "spanID": "b1", "tags": tags}]);
        let mut found = decoded_json(&span);
        assert_eq!((found.format, found.spans.len()), (Some(Format::Jaeger), 1));
        found.spans.remove(0).1
    };
    for case in cases["jaeger_tags_to_otlp"].as_array().unwrap() {
        let span = span_with(serde_json::json!([case["tag"]]));
        let expected = match (&case["attr"], case["tag"]["type"].as_str().unwrap()) {
            (_, "binary") => Value::Bytes(vec![0, 0, 0, 0, 0, 0x64, 0x7d, 0x98]),
            (Json::Bool(bit), _) => Value::Bool(*bit),
            (Json::String(text), _) => Value::String(text.clone()),
            (number, "int64") => Value::Int(number.as_i64().unwrap()),
            (number, _) => Value::Double(number.as_f64().unwrap()),
        };
        assert_eq!(span.attributes[0].1, expected);
    }
    for (tag, kind) in cases["jaeger_span_kind"].as_object().unwrap() {
        let span =
            span_with(serde_json::json!([{"key": "span.kind", "type": "string", "value": tag}]));
        assert!(
            span.kind
                .name()
                .eq_ignore_ascii_case(kind.as_str().unwrap()),
            "{tag}"
        );
    }
    let tags_of = |tags: &Json| -> Json {
        let tag = |(key, value): (&String, &Json)| serde_json::json!({"key": key, "value": value});
        tags.as_object().unwrap().iter().map(tag).collect()
    };
    for case in cases["jaeger_status_from_tags"].as_array().unwrap() {
        let span = span_with(tags_of(&case["tags"]));
        assert!(
            span.status_code
                .name()
                .eq_ignore_ascii_case(case["status"].as_str().unwrap()),
            "{case}"
        );
        if let Some(message) = case["message"].as_str() {
            assert_eq!(span.status_message, message);
        }
    }
    for case in cases["http_status_to_span_status"].as_array().unwrap() {
        let span = span_with(serde_json::json!([{"key": "http.status_code", "value": case[0]}]));
        assert!(
            span.status_code
                .name()
                .eq_ignore_ascii_case(case[1].as_str().unwrap()),
            "{case}"
        );
    }
}

#[test]
fn zipkin_maps_as_the_collector_translates_it() {
    let Some(folder) = fixtures() else { return };
    let cases = read_json(folder.join("otel/translator/translation_cases.json"));
    let cases = cases["zipkin_to_otlp"].as_array().unwrap();
    let minimal = &cases[0]["zipkin"];
    let found = decoded_json(&Json::Array(vec![minimal.clone()]));
    let (_, span) = &found.spans[0];
    assert_eq!(found.format, Some(Format::Zipkin));
    assert_eq!(span.start_time_unix_nano, 1_596_911_098_294_000_000);
    assert_eq!(
        (span.duration_nano, span.kind),
        (Some(1_000_000), SpanKind::Client)
    );
    assert_eq!(found.texts(column::SERVICE_NAME), [None]);
    let with = |key: &str, value: Json| {
        let mut span = minimal.clone();
        span[key] = value;
        decoded_json(&Json::Array(vec![span]))
    };
    let found = with(
        "localEndpoint",
        cases[1]["zipkin_extra"]["localEndpoint"].clone(),
    );
    assert_eq!(
        found.texts(column::SERVICE_NAME),
        [Some("SoleAttr".to_string())]
    );
    let found = with("tags", cases[2]["zipkin_extra"]["tags"].clone());
    assert_eq!(found.spans[0].1.status_code, StatusCode::Error);
    let found = with("timestamp", Json::Null);
    let (_, span) = &found.spans[0];
    assert_eq!(span.start_time_unix_nano, 0);
    let marker = "otel.zipkin.absentField.startTime".to_string();
    assert!(span.attributes.contains(&(marker, Value::Bool(true))));

    let sample = |name: &str| {
        decoded(
            name,
            &fs::read(folder.join("otel/translator").join(name)).unwrap(),
        )
    };
    let found = sample("zipkinreceiver-sample3.json");
    let span = found.span("get");
    assert_eq!(
        (span.status_code, span.status_message.as_str()),
        (StatusCode::Error, "Something failed")
    );
    assert_eq!(span.events.len(), 2);
    let found = sample("zipkinreceiver-sample4.json");
    assert_eq!(found.span("get").status_message, "Non-basic error message");
}

#[test]
fn zipkin_spans_are_taken_as_jaegers_collector_takes_them() {
    let Some(folder) = fixtures() else { return };
    let folder = folder.join("jaeger/zipkin-ingest");
    let cases = read_json(folder.join("cases.json"));
    for case in cases["span_cases"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let expected = &case["expected"];
        let found = decoded(file, &fs::read(folder.join(file)).unwrap());
        if let Some(count) = expected["stored_spans"].as_u64() {
            assert_eq!(
                (found.spans.len() as u64, found.rejections.len()),
                (count, 0),
                "{file}"
            );
        }
        let Some(trace_id) = expected["trace_id"].as_str() else {
            continue;
        };
        let (_, span) = &found.spans[0];
        assert_eq!(span.trace_id.to_string(), trace_id);
        assert_eq!(
            span.span_id.to_string(),
            expected["span_id"].as_str().unwrap()
        );
        assert_eq!(
            span.parent_span_id.map(|id| id.to_string()).as_deref(),
            expected["parent_span_id"].as_str()
        );
        assert_eq!(
            span.start_time_unix_nano,
            expected["start_us"].as_i64().unwrap() * 1000
        );
        assert_eq!(
            span.duration_nano,
            Some(expected["duration_us"].as_i64().unwrap() * 1000)
        );
        let kind = expected["kind"].as_str().unwrap_or("unspecified");
        assert!(span.kind.name().eq_ignore_ascii_case(kind));
        assert_eq!(
            found.texts(column::SERVICE_NAME)[0].as_deref(),
            expected["service"].as_str()
        );
        for (key, value) in expected["tags"].as_object().into_iter().flatten() {
            let value = Value::String(value.as_str().unwrap().to_string());
            assert!(
                span.attributes.contains(&(key.clone(), value)),
                "{file} {key}"
            );
        }
    }
    for case in cases["http_cases"].as_array().unwrap() {
        // Headers are the server's; the body alone is looked at here.
        let why = case["why"].as_str().unwrap_or_default();
        if case["headers"].is_null() {
            let body = case["body"].as_str().unwrap();
            let found = decoded("-", body.as_bytes());
            assert_eq!(
                found.rejections.is_empty(),
                case["status"] == 202,
                "{body} {why}"
            );
        }
    }
    for case in cases["id_cases"].as_array().unwrap() {
        let ids = ["id", "traceId", "parentId"].map(|key| case[key].as_str());
        if ids.iter().all(Option::is_none) {
            continue;
        }
        let [id, trace_id, parent_id] = ids;
        let span = serde_json::json!([{
            "id": id.unwrap_or("1"), "traceId": trace_id.unwrap_or("1"), "parentId": parent_id,
        }]);
        assert_eq!(
            decoded_json(&span).rejections.is_empty(),
            case["status"] == "ok",
            "{case}"
        );
    }
    for case in cases["v1_binary_annotation_values"].as_array().unwrap() {
        let span =
            serde_json::json!([{"id": "1", "traceId": "1", "binaryAnnotations": [case["json"]]}]);
        let found = decoded_json(&span);
        assert_eq!(found.spans.is_empty(), case["error"] == true, "{case}");
        let Some((_, span)) = found.spans.first() else {
            continue;
        };
        let value = span
            .attributes
            .iter()
            .find(|(key, _)| key == "foo")
            .map(|(_, value)| value);
        let expected = match (&case["value"], &case["value_bytes"]) {
            (Json::Null, bytes) => Value::Bytes(bytes.as_str().unwrap().into()),
            (Json::Bool(bit), _) => Value::Bool(*bit),
            (Json::String(text), _) => Value::String(text.clone()),
            (number, _) => number
                .as_i64()
                .map_or_else(|| Value::Double(number.as_f64().unwrap()), Value::Int),
        };
        assert_eq!(value, Some(&expected));
    }
}

#[test]
fn a_trace_exported_from_jaeger_equals_its_otlp() {
    let Some(folder) = fixtures() else { return };
    let folder = folder.join("jaeger/otlp-to-jaeger-ui");
    let read = |name: &str| decoded(name, &fs::read(folder.join(name)).unwrap());
    let (otlp, jaeger) = (read("otlp2jaeger-in.json"), read("otlp2jaeger-out.json"));
    assert_eq!(
        (otlp.format, jaeger.format),
        (Some(Format::OtlpJson), Some(Format::Jaeger))
    );
    assert_eq!(otlp.spans.len(), jaeger.spans.len());
    for ((_, left), (_, right)) in otlp.spans.iter().zip(&jaeger.spans) {
        assert_eq!(left, right);
    }
    for name in [
        column::SERVICE_NAME,
        column::SCOPE_NAME,
        column::RESOURCE_ATTRIBUTES,
    ] {
        assert_eq!(otlp.texts(name), jaeger.texts(name));
    }
}

#[test]
fn jaeger_files_give_the_good_spans_and_name_the_bad() {
    let Some(folder) = fixtures() else { return };
    let anonymizer = folder.join("jaeger/anonymizer-uiconv");
    for (file, spans, rejections) in [
        ("trace_empty.json", 0, 0),
        ("trace_invalid_json.json", 0, 1),
        ("trace_scan_error.json", 1, 1),
        ("trace_success.json", 2, 0),
        ("trace_wrong_format.json", 1, 0),
    ] {
        let found = decoded(file, &fs::read(anonymizer.join(file)).unwrap());
        assert_eq!(
            (found.spans.len(), found.rejections.len()),
            (spans, rejections),
            "{file}"
        );
    }
    for number in 1..=5 {
        let file = folder.join(format!("crisp/test_cases/{number}.json"));
        let found = decoded("crisp.json", &fs::read(file).unwrap());
        assert!(found.rejections.is_empty() && !found.spans.is_empty());
        assert_eq!(
            found
                .spans
                .iter()
                .filter(|(_, span)| span.parent_span_id.is_none())
                .count(),
            1
        );
    }
}

#[test]
fn real_traces_are_read_whole() {
    let Some(folder) = fixtures() else { return };
    let nezha = folder.join("datasets/nezha/dev-sample");
    for sample in [
        "onlineboutique-2022-08-22-first200",
        "trainticket-2023-01-29-first200",
    ] {
        let golden = read_json(nezha.join(format!("{sample}.golden.json")));
        let name = format!("{sample}.otlp.jsonl.gz");
        let found = decoded(&name, &fs::read(nezha.join(&name)).unwrap());
        assert!(found.rejections.is_empty());
        assert_eq!(found.spans.len() as u64, golden["rows"].as_u64().unwrap());
        let traces: BTreeSet<_> = found.spans.iter().map(|(_, span)| span.trace_id).collect();
        assert_eq!(traces.len() as u64, golden["traces"].as_u64().unwrap());
        // One root was delivered twice.
        let roots = found
            .spans
            .iter()
            .filter(|(_, span)| span.parent_span_id.is_none());
        let roots: BTreeSet<_> = roots
            .map(|(_, span)| (span.trace_id, span.span_id))
            .collect();
        assert_eq!(roots.len() as u64, golden["roots"].as_u64().unwrap());
    }
    for file in fs::read_dir(folder.join("zipkin/testdata")).unwrap() {
        let path = file.unwrap().path();
        let found = decoded("zipkin.json", &fs::read(&path).unwrap());
        assert!(
            found.rejections.is_empty() && !found.spans.is_empty(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn zipkin_v1_spans_split_as_zipkin_itself_splits_them() {
    let Some(folder) = fixtures() else { return };
    let folder = folder.join("datasets/train-ticket-zipkin");
    let mut compared = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(rest) = name.strip_prefix("v1__") else {
            continue;
        };
        let Ok(newer) = fs::read(folder.join(format!("v2__{rest}"))) else {
            continue;
        };
        let facts = |found: &Found| {
            assert!(
                found.rejections.is_empty(),
                "{name}: {:?}",
                found.rejections
            );
            let services = found.texts(column::SERVICE_NAME);
            let row = |((_, span), service): (&(Origin, Span), Option<String>)| {
                let times = (span.start_time_unix_nano, span.duration_nano);
                let ids = (span.trace_id, span.span_id, span.parent_span_id);
                let attributes: BTreeSet<_> = span
                    .attributes
                    .iter()
                    .map(|entry| format!("{entry:?}"))
                    .collect();
                format!(
                    "{ids:?} {:?} {service:?} {times:?} {attributes:?}",
                    span.kind
                )
            };
            found
                .spans
                .iter()
                .zip(services)
                .map(row)
                .collect::<BTreeSet<_>>()
        };
        let older = fs::read(folder.join(&name)).unwrap();
        let (older, newer) = (
            facts(&decoded(&name, &older)),
            facts(&decoded(&name, &newer)),
        );
        let difference: Vec<_> = older.symmetric_difference(&newer).collect();
        assert!(difference.is_empty(), "{name}: {difference:#?}");
        compared += newer.len();
    }
    assert!(compared > 0);
}

#[test]
fn children_of_a_shared_span_hang_under_the_server() {
    let Some(folder) = fixtures() else { return };
    let file = folder.join("malformed/zipkin-json/shared_span_same_id.json");
    let found = decoded("shared.json", &fs::read(file).unwrap());
    let parent_of = |index: usize| found.spans[index].1.parent_span_id;
    let id_of = |index: usize| Some(found.spans[index].1.span_id);
    assert_eq!(parent_of(1), id_of(0));
    assert_eq!(parent_of(2), id_of(1));
    assert_eq!(parent_of(3), id_of(2));
}
