//! Attributes, however they are stored: every way to ask for one gives what a plain evaluation
//! over the spans gives, from JSON, from typed columns as ingested, and from compacted ones.

use std::cmp::Ordering;
use std::sync::Arc;

use proptest::prelude::*;
use tracelake::config::StorageConfig;
use tracelake::engine::Session;
use tracelake::span::{Origin, Span, SpanBatchBuilder, SpanId, TraceId, Value};
use tracelake::{Config, Lake};

use super::lakes::rows;

/// 2026-11-20 06:00 UTC.
const START: i64 = 1_795_154_400_000_000_000;

/// The keys that random spans have, and one that none has.
const KEYS: [&str; 12] = [
    "a",
    "b",
    "c",
    "A",
    "a.b",
    "",
    "it's \"x\"\n",
    "a#int",
    "trace_id",
    ",",
    "{\"a\":",
    "none",
];

const TEXTS: [&str; 12] = [
    "",
    "x",
    "y",
    "1",
    "-3",
    "1.0",
    "true",
    "null",
    "NaN",
    "[1]",
    "9007199254740993",
    "é\n\"",
];

const NUMBERS: [(&str, f64); 7] = [
    ("0", 0.0),
    ("1", 1.0),
    ("-3", -3.0),
    ("1.5", 1.5),
    ("2.0", 2.0),
    ("9007199254740993", 9_007_199_254_740_992.0),
    ("1e300", 1e300),
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        2 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::Int),
        4 => (-4i64..4).prop_map(Value::Int),
        1 => prop_oneof![
            Just(9_007_199_254_740_992), Just(9_007_199_254_740_993), Just(i64::MAX), Just(i64::MIN),
        ].prop_map(Value::Int),
        1 => any::<f64>().prop_map(Value::Double),
        2 => prop_oneof![
            Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(0.0), Just(1.0), Just(1.5), Just(1e300),
        ].prop_map(Value::Double),
        5 => prop::sample::select(TEXTS.to_vec()).prop_map(|text| Value::String(text.to_owned())),
        1 => Just(Value::Bytes(vec![0, 255])),
    ];
    leaf.prop_recursive(40, 44, 2, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::vec((prop::sample::select(vec!["a", "$bytes"]), inner), 0..3)
                .prop_map(|entries| {
                    let own = entries
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value));
                    Value::Object(own.collect())
                }),
        ]
    })
}

/// The attributes of one span. Duplicate keys are among them.
fn attributes() -> impl Strategy<Value = Vec<(String, Value)>> {
    let key = prop_oneof![
        6 => prop::sample::select(KEYS[..3].to_vec()),
        2 => prop::sample::select(KEYS[..KEYS.len() - 1].to_vec()),
    ];
    proptest::collection::vec((key.prop_map(str::to_owned), value()), 0..6)
}

/// Spans of one type a key, so that comparisons of one column are tried as well.
fn plain_attributes() -> impl Strategy<Value = Vec<(String, Value)>> {
    let numbers = prop_oneof![-4i64..4, Just(i64::MAX), Just(9_007_199_254_740_993)];
    let doubles = prop_oneof![
        Just(-0.0),
        Just(0.0),
        Just(1.0),
        Just(1.5),
        Just(1e300),
        Just(-2.5)
    ];
    (
        proptest::option::of(numbers.prop_map(Value::Int)),
        proptest::option::of(doubles.prop_map(Value::Double)),
        proptest::option::of(
            prop::sample::select(TEXTS.to_vec()).prop_map(|text| Value::String(text.to_owned())),
        ),
        proptest::option::of(any::<bool>().prop_map(Value::Bool)),
    )
        .prop_map(|(int, double, text, boolean)| {
            let all = [("a", int), ("b", double), ("c", text), ("A", boolean)];
            let present = all
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)));
            present.collect()
        })
}

/// What SQL should say, found from the decoded attributes.
struct Expected {
    text: Option<String>,
    json: Option<String>,
}

impl Expected {
    fn of(attributes: &[(String, Value)], key: &str) -> Self {
        let value = attributes
            .iter()
            .rev()
            .find(|(own, _)| own == key)
            .map(|(_, value)| value);
        let json = value.map(|value| {
            let mut json = String::new();
            value.write_json(&mut json);
            json
        });
        let text = match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Double(number)) if number.is_nan() => Some("NaN".to_owned()),
            Some(Value::Double(number)) if number.is_infinite() => Some(
                if *number > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                }
                .to_owned(),
            ),
            Some(Value::Bytes(_)) => Some("AP8=".to_owned()),
            Some(_) => json.clone(),
        };
        Self { text, json }
    }

    fn double(&self) -> Option<f64> {
        let number: f64 = self.text.as_ref()?.parse().ok()?;
        // The two zeros are equal.
        Some(number + 0.0)
    }

    fn compared(&self, op: &str, (text, number): (&str, f64)) -> Option<bool> {
        // Numbers that a double does not tell from others are compared as text.
        if number.abs() >= 9_007_199_254_740_992.0 && !text.contains(['.', 'e']) && op == "=" {
            return Some(self.text.as_ref()? == text);
        }
        let order = self.double()?.total_cmp(&number);
        Some(match op {
            "=" => order == Ordering::Equal,
            "<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            ">" => order == Ordering::Greater,
            _ => order != Ordering::Less,
        })
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

type Truth = Box<dyn Fn(&Expected) -> Option<bool>>;

/// Predicates over a key, with what each should be.
fn predicates(key: &str) -> Vec<(String, Truth)> {
    let attribute = format!("attributes[{}]", quoted(key));
    let mut all: Vec<(String, Truth)> = vec![
        (
            format!("{attribute} IS NULL"),
            Box::new(|e| Some(e.text.is_none())),
        ),
        (
            format!("{attribute} IS NOT NULL"),
            Box::new(|e| Some(e.text.is_some())),
        ),
        (
            format!("attributes->{} IS NULL", quoted(key)),
            Box::new(|e| Some(e.json.is_none())),
        ),
        (
            format!("attributes ? {}", quoted(key)),
            Box::new(|e| Some(e.json.is_some())),
        ),
        (
            format!("{attribute} LIKE '1%'"),
            Box::new(|e| Some(e.text.as_ref()?.starts_with('1'))),
        ),
        (
            format!("{attribute} IN ('x', '1', 'true', '-0.0')"),
            Box::new(|e| Some(["x", "1", "true", "-0.0"].contains(&e.text.as_ref()?.as_str()))),
        ),
        (
            format!("{attribute} NOT IN ('x', '1', 'true')"),
            Box::new(|e| Some(!["x", "1", "true"].contains(&e.text.as_ref()?.as_str()))),
        ),
        (
            format!("{attribute} IN (1, 1.5, -3)"),
            Box::new(|e| e.double().map(|number| [1.0, 1.5, -3.0].contains(&number))),
        ),
        (
            format!("{attribute} BETWEEN -3 AND 1.5"),
            Box::new(|e| {
                let number = e.double()?;
                Some(number.total_cmp(&-3.0).is_ge() && number.total_cmp(&1.5).is_le())
            }),
        ),
        (
            format!("{attribute} = true"),
            Box::new(|e| Some(e.text.as_ref()? == "true")),
        ),
        (
            format!("{attribute} IS DISTINCT FROM 'x'"),
            Box::new(|e| Some(e.text.as_deref() != Some("x"))),
        ),
    ];
    for text in TEXTS {
        let equal: Truth = Box::new(move |e| Some(e.text.as_ref()? == text));
        all.push((format!("{attribute} = {}", quoted(text)), equal));
    }
    for text in ["x", "1", "-0.0"] {
        let unequal: Truth = Box::new(move |e| Some(e.text.as_ref()? != text));
        all.push((format!("{} <> {attribute}", quoted(text)), unequal));
        let less: Truth = Box::new(move |e| Some(e.text.as_ref()?.as_str() < text));
        all.push((format!("{attribute} < {}", quoted(text)), less));
    }
    for number in NUMBERS {
        for op in ["=", "<", "<=", ">", ">="] {
            let truth: Truth = Box::new(move |e| e.compared(op, number));
            all.push((format!("{attribute} {op} {}", number.0), truth));
        }
    }
    all
}

fn text_of(truth: Option<bool>) -> String {
    truth.map_or("NULL".to_owned(), |truth| truth.to_string())
}

async fn check(session: &Session, spans: &[Vec<(String, Value)>], key: &str, filters: bool) {
    let expected: Vec<Expected> = spans.iter().map(|own| Expected::of(own, key)).collect();
    let predicates = predicates(key);
    let columns = predicates.iter().enumerate();
    let columns: Vec<String> = columns
        .map(|(number, (sql, _))| format!("{sql} AS c{number}"))
        .collect();
    let key_text = quoted(key);
    let sql = format!(
        "SELECT attributes[{key_text}], attributes->{key_text}, try_cast(attributes[{key_text}] AS bigint) AS i, \
         try_cast(attributes[{key_text}] AS double) AS d, {} FROM spans ORDER BY span_id",
        columns.join(", ")
    );
    let found = rows(session, &sql).await;
    assert_eq!(found.len(), spans.len());
    for (row, (cells, expected)) in found.iter().zip(&expected).enumerate() {
        let own = |text: &Option<String>| text.clone().unwrap_or("NULL".to_owned());
        let place = || format!("{key} of {:?}", spans[row]);
        assert_eq!(cells[0], own(&expected.text), "{}", place());
        assert_eq!(cells[1], own(&expected.json), "{}", place());
        let int = expected
            .text
            .as_ref()
            .and_then(|text| text.parse::<i64>().ok());
        if let Some(int) = int {
            assert_eq!(cells[2], int.to_string(), "{}", place());
        }
        for (cell, (sql, truth)) in cells[4..].iter().zip(&predicates) {
            assert_eq!(*cell, text_of(truth(expected)), "{sql}: {}", place());
        }
    }
    if !filters {
        return;
    }
    for (sql, truth) in &predicates {
        for (not, wanted) in [("", Some(true)), ("NOT ", Some(false))] {
            let query = format!("SELECT span_id FROM spans WHERE {not}({sql}) ORDER BY span_id");
            let found: Vec<String> = rows(session, &query).await.concat();
            let wanted = (0..spans.len()).filter(|row| truth(&expected[*row]) == wanted);
            let wanted: Vec<String> = wanted.map(|row| format!("{:016x}", row + 1)).collect();
            assert_eq!(found, wanted, "{query}");
        }
    }
}

fn config(columns: usize) -> Config {
    Config {
        storage: StorageConfig {
            attribute_columns: columns,
            attribute_min_rows: 3,
            attribute_min_share: 0.0,
            page_rows: 16,
            ..StorageConfig::default()
        },
        ..Config::default()
    }
}

/// A lake of these spans, in two commits.
async fn lake_of(spans: &[Vec<(String, Value)>], columns: usize) -> Lake {
    let lake = Lake::create("memory:///", config(columns)).await.unwrap();
    let half = spans.len() / 2;
    for range in [0..half, half..spans.len()] {
        let mut builder = SpanBatchBuilder::new();
        for row in range {
            let id = SpanId::from_bytes((row as u64 + 1).to_be_bytes()).unwrap();
            let trace = TraceId::from_bytes((row as u128 % 7 + 1).to_be_bytes()).unwrap();
            let mut span = Span::new(trace, id, START + row as i64);
            span.attributes = spans[row].clone();
            builder.push(&Origin::default(), &span);
        }
        if !builder.is_empty() {
            lake.append(builder.finish()).await.unwrap();
        }
    }
    lake
}

async fn check_all(spans: &[Vec<(String, Value)>], keys: &[&str]) {
    let mut whole: Vec<String> = Vec::new();
    for (columns, compacted) in [(0, false), (100, false), (100, true), (5, true)] {
        let lake = lake_of(spans, columns).await;
        if compacted {
            lake.compact(Arc::new(|_| {})).await.unwrap();
        }
        let session = lake.session().await.unwrap();
        let found = rows(&session, "SELECT attributes FROM spans ORDER BY span_id")
            .await
            .concat();
        if whole.is_empty() {
            whole = found;
        } else {
            assert_eq!(found, whole);
        }
        for key in keys {
            check(&session, spans, key, columns == 100 && compacted).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn every_way_to_ask_gives_what_a_plain_evaluation_gives(
        spans in proptest::collection::vec(attributes(), 8..60),
        keys in prop::sample::subsequence(KEYS.to_vec(), 2),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check_all(&spans, &keys));
    }

    #[test]
    fn comparisons_of_one_stored_type_are_those_of_its_text(
        spans in proptest::collection::vec(plain_attributes(), 8..60),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check_all(&spans, &["a", "b", "c", "A"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_add_columns_at_once_all_find_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_string_lossy().into_owned();
    Lake::create(&location, config(100)).await.unwrap();
    let writers = (0..4i64).map(|writer| {
        let location = location.clone();
        tokio::spawn(async move {
            // Each has its own view of the log, as if it were another process.
            let lake = Lake::open(&location, config(100)).await.unwrap();
            for round in 0..5i64 {
                let mut builder = SpanBatchBuilder::new();
                for row in 0..10i64 {
                    let id = (writer * 1000 + round * 100 + row + 1) as u64;
                    let trace = TraceId::from_bytes([1; 16]).unwrap();
                    let mut span =
                        Span::new(trace, SpanId::from_bytes(id.to_be_bytes()).unwrap(), START);
                    let key = format!("key.{writer}.{round}");
                    span.attributes = vec![(key, Value::Int(row)), ("all".into(), Value::Int(row))];
                    builder.push(&Origin::default(), &span);
                }
                lake.append(builder.finish()).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for compacted in [false, true] {
        let lake = Lake::open(&location, config(100)).await.unwrap();
        if compacted {
            lake.compact(Arc::new(|_| {})).await.unwrap();
        }
        let session = lake.session().await.unwrap();
        let found = rows(
            &session,
            "SELECT sum(attributes['all']::bigint), count(*) FROM spans",
        )
        .await;
        assert_eq!(found, [["900", "200"]]);
        for writer in 0..4 {
            for round in 0..5 {
                let sql = format!(
                    "SELECT count(*) FROM spans WHERE attributes['key.{writer}.{round}'] >= 5"
                );
                assert_eq!(rows(&session, &sql).await, [["5"]], "{sql}");
            }
        }
    }
    // The schema of the table names them all, for other readers.
    let log = std::fs::read_dir(directory.path().join("_delta_log")).unwrap();
    let mut entries: Vec<_> = log.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let texts = entries
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "json"));
    let texts: Vec<String> = texts
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let last = texts
        .iter()
        .rev()
        .find(|text| text.contains("metaData"))
        .unwrap();
    for writer in 0..4 {
        for round in 0..5 {
            assert!(last.contains(&format!("attributes.key.{writer}.{round}#int")));
        }
    }
}
