//! The index of compacted files: no row is lost by it, and it rules out what it can.

use std::fmt::Write as _;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tracelake::config::{QueryConfig, StorageConfig};
use tracelake::engine::Session;
use tracelake::span::{
    Event, Origin, Resource, Scope, Span, SpanBatchBuilder, SpanId, SpanKind, StatusCode, TraceId,
    Value,
};
use tracelake::{Config, Lake};

use super::lakes::rows;

/// 2026-11-20 06:00 UTC.
const START: i64 = 1_795_154_400_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

/// What the naive evaluation sees of a span.
struct Row {
    id: String,
    start: i64,
    service: Option<String>,
    name: String,
    kind: SpanKind,
    status: StatusCode,
    attributes: Vec<(String, Value)>,
    resource: Vec<(String, Value)>,
}

/// A filter, as SQL and as what it means.
enum Filter {
    Text(Place, TextTest),
    Number(Place, &'static str, f64),
    IsNull(Place, bool),
    Start(&'static str, i64),
    Not(Box<Filter>),
    Both(Box<Filter>, Box<Filter>),
    Either(Box<Filter>, Box<Filter>),
}

/// What a filter is about.
#[derive(Clone)]
enum Place {
    Span(String),
    Resource(String),
    Column(&'static str),
}

enum TextTest {
    Compare(&'static str, String),
    In(Vec<String>),
    Prefix(String),
    Contains(String),
    Matches(String),
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Place {
    fn sql(&self) -> String {
        match self {
            Self::Span(key) => format!("attributes[{}]", quoted(key)),
            Self::Resource(key) => format!("resource_attributes[{}]", quoted(key)),
            Self::Column(name) => (*name).to_string(),
        }
    }

    fn text(&self, row: &Row) -> Option<String> {
        let of = |attributes: &[(String, Value)], key: &str| {
            let found = attributes.iter().find(|(name, _)| name == key);
            found.and_then(|(_, value)| text_of(value))
        };
        match self {
            Self::Span(key) => of(&row.attributes, key),
            Self::Resource(key) => of(&row.resource, key),
            Self::Column("service_name") => row.service.clone(),
            Self::Column("kind") => Some(row.kind.name().to_string()),
            Self::Column("status_code") => Some(row.status.name().to_string()),
            Self::Column(_) => Some(row.name.clone()),
        }
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Double(number) if number.is_nan() => Some("NaN".into()),
        Value::Double(number) if number.is_infinite() => Some("Infinity".into()),
        Value::Bytes(bytes) => {
            use base64::Engine as _;
            Some(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        other => {
            let mut json = String::new();
            other.write_json(&mut json);
            Some(json)
        }
    }
}

impl Filter {
    fn sql(&self) -> String {
        match self {
            Self::Text(place, test) => {
                let place = place.sql();
                match test {
                    TextTest::Compare(op, text) => format!("{place} {op} {}", quoted(text)),
                    TextTest::In(texts) => {
                        let texts: Vec<String> = texts.iter().map(|t| quoted(t)).collect();
                        format!("{place} IN ({})", texts.join(", "))
                    }
                    TextTest::Prefix(text) => {
                        format!("{place} LIKE {}", quoted(&format!("{text}%")))
                    }
                    TextTest::Contains(text) => {
                        format!("{place} LIKE {}", quoted(&format!("%{text}%")))
                    }
                    TextTest::Matches(text) => format!("{place} ~ {}", quoted(text)),
                }
            }
            Self::Number(place, op, number) => format!("{} {op} {number:?}", place.sql()),
            Self::IsNull(place, true) => format!("{} IS NULL", place.sql()),
            Self::IsNull(place, false) => format!("{} IS NOT NULL", place.sql()),
            Self::Start(op, nano) => format!("start_time {op} to_timestamp_nanos({nano})"),
            Self::Not(filter) => format!("NOT ({})", filter.sql()),
            Self::Both(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Self::Either(a, b) => format!("({} OR {})", a.sql(), b.sql()),
        }
    }

    fn holds(&self, row: &Row) -> Option<bool> {
        match self {
            Self::Text(place, test) => {
                let value = place.text(row)?;
                Some(match test {
                    TextTest::Compare("=", text) => value == *text,
                    TextTest::Compare("<>", text) => value != *text,
                    TextTest::Compare(_, text) => value >= *text,
                    TextTest::In(texts) => texts.contains(&value),
                    TextTest::Prefix(text) => value.starts_with(text.as_str()),
                    TextTest::Contains(text) => value.contains(text.as_str()),
                    TextTest::Matches(pattern) => regex_automata::meta::Regex::new(pattern)
                        .unwrap()
                        .is_match(&value),
                })
            }
            Self::Number(place, op, number) => {
                let value: f64 = place.text(row)?.parse().ok()?;
                let order = value.total_cmp(number);
                Some(match *op {
                    "=" => order.is_eq(),
                    ">" => order.is_gt(),
                    "<=" => order.is_le(),
                    _ => order.is_ne(),
                })
            }
            Self::IsNull(place, wanted) => Some(place.text(row).is_none() == *wanted),
            Self::Start(">=", nano) => Some(row.start >= *nano),
            Self::Start(_, nano) => Some(row.start < *nano),
            Self::Not(filter) => filter.holds(row).map(|holds| !holds),
            Self::Both(a, b) => match (a.holds(row), b.holds(row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Either(a, b) => match (a.holds(row), b.holds(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}

const KEYS: [&str; 9] = [
    "mixed",
    "user",
    "path",
    "rare",
    "dense",
    "it's \"odd\"",
    "line\nbreak\0",
    "",
    "never",
];

fn random_value(random: &mut SmallRng, key: &str) -> Value {
    match key {
        "user" => Value::Int(random.random_range(0..900)),
        "path" => Value::String(format!(
            "/api/v{}/{}",
            random.random_range(1..4),
            random.random_range(0..700)
        )),
        "dense" => Value::String(["GET", "POST"][random.random_range(0..2)].into()),
        "" => Value::String("x".repeat(random.random_range(1020..1030))),
        _ => match random.random_range(0..12) {
            0 => Value::Int(500),
            1 => Value::String("500".into()),
            2 => Value::Double(500.0),
            3 => Value::Double(f64::NAN),
            4 => Value::Bool(true),
            5 => Value::Null,
            6 => Value::String(String::new()),
            7 => Value::Array(vec![Value::Int(1), Value::String("a,\"b".into())]),
            8 => Value::Object(vec![("$bytes".into(), Value::Int(1))]),
            9 => Value::Bytes(vec![1, 2, 255]),
            10 => Value::String("line\nbreak \0 é '%_\\".into()),
            _ => Value::Int(random.random_range(-3..600)),
        },
    }
}

fn random_filter(random: &mut SmallRng, depth: u32) -> Filter {
    if depth > 0 && random.random_bool(0.6) {
        let mut inner = || Box::new(random_filter(random, depth - 1));
        return match (inner(), inner()) {
            (a, b) if random.random_bool(0.5) => Filter::Both(a, b),
            (a, b) if random.random_bool(0.7) => Filter::Either(a, b),
            (a, _) => Filter::Not(a),
        };
    }
    let key = (*KEYS.choose(random).unwrap()).to_string();
    let place = match random.random_range(0..10) {
        0 => Place::Resource("host".into()),
        1 => Place::Column("service_name"),
        2 => Place::Column("kind"),
        3 => Place::Column("name"),
        4 => Place::Column("status_code"),
        _ => Place::Span(key.clone()),
    };
    let text = match &place {
        Place::Span(_) => text_of(&random_value(random, &key)).unwrap_or_default(),
        Place::Resource(_) => format!("h{}", random.random_range(0..7)),
        Place::Column("service_name") => format!("s{}", random.random_range(0..6)),
        Place::Column("kind") => "SERVER".into(),
        Place::Column("status_code") => "ERROR".into(),
        Place::Column(_) => format!("op {}", random.random_range(0..40)),
    };
    let is_column = matches!(place, Place::Column(_));
    let plain: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '/')
        .collect();
    let start: String = plain.chars().take(random.random_range(1..8)).collect();
    match random.random_range(0..12) {
        0 | 1 => Filter::Text(place, TextTest::Compare("=", text)),
        2 => Filter::Text(place, TextTest::Compare("<>", text)),
        3 => Filter::Text(place, TextTest::Compare(">=", text)),
        4 => Filter::Text(place, TextTest::In(vec![text, "500".into(), "no".into()])),
        5 => Filter::Text(place, TextTest::Prefix(start)),
        6 => Filter::Text(place, TextTest::Contains(start)),
        7 => Filter::Text(place, TextTest::Matches(format!("^{start}.?[0-9]*$"))),
        8 if !is_column => {
            let op = ["=", ">", "<=", "<>"].choose(random).unwrap();
            Filter::Number(place, op, [500.0, 1.5, 300.0][random.random_range(0..3)])
        }
        9 => Filter::IsNull(place, random.random_bool(0.5)),
        10 => {
            let nano = START + random.random_range(0..3 * HOUR);
            Filter::Start([">=", "<"][random.random_range(0..2)], nano)
        }
        _ => Filter::Text(place, TextTest::Compare("=", text)),
    }
}

/// Spans of three hours, in the order of their ids.
fn spans(random: &mut SmallRng, count: usize) -> (Vec<arrow::array::RecordBatch>, Vec<Row>) {
    let mut batches = Vec::new();
    let mut rows = Vec::new();
    for _ in 0..3 {
        let mut builder = SpanBatchBuilder::new();
        while builder.len() < count / 3 {
            let mut attributes = Vec::new();
            if random.random_bool(0.8) {
                attributes.push((
                    "host".to_string(),
                    Value::String(format!("h{}", random.random_range(0..6))),
                ));
            }
            let service = random
                .random_bool(0.9)
                .then(|| format!("s{}", random.random_range(0..5)));
            if let Some(service) = &service {
                attributes.push(("service.name".into(), Value::String(service.clone())));
            }
            let resource = Resource {
                attributes: attributes.clone(),
                ..Resource::default()
            };
            let origin = Origin::new(&resource, &Scope::default());
            let trace_id =
                TraceId::from_bytes(random.random::<u128>().max(1).to_be_bytes()).unwrap();
            for _ in 0..random.random_range(1..20) {
                let id = SpanId::from_bytes(random.random::<u64>().max(1).to_be_bytes()).unwrap();
                let mut span = Span::new(trace_id, id, START + random.random_range(0..3 * HOUR));
                span.name = format!("op {}", random.random_range(0..40));
                span.kind = SpanKind::ALL[random.random_range(0..6)];
                span.status_code = StatusCode::ALL[random.random_range(0..3)];
                for key in &KEYS[..KEYS.len() - 1] {
                    let share = match *key {
                        "rare" => 0.01,
                        "" => 0.02,
                        "dense" => 1.0,
                        _ => 0.4,
                    };
                    if random.random_bool(share) {
                        span.attributes
                            .push(((*key).to_string(), random_value(random, key)));
                    }
                }
                if random.random_bool(0.1) {
                    span.events.push(Event {
                        name: format!("e{}", random.random_range(0..3)),
                        attributes: vec![("k".into(), Value::Int(random.random_range(0..9)))],
                        ..Event::default()
                    });
                }
                builder.push(&origin, &span);
                rows.push(Row {
                    id: id.to_string(),
                    start: span.start_time_unix_nano,
                    service: service.clone(),
                    name: span.name.clone(),
                    kind: span.kind,
                    status: span.status_code,
                    attributes: span.attributes.clone(),
                    resource: attributes.clone(),
                });
            }
        }
        batches.push(builder.finish());
    }
    (batches, rows)
}

fn config(index: bool) -> Config {
    Config {
        storage: StorageConfig {
            row_group_rows: 700,
            page_rows: 64,
            ..StorageConfig::default()
        },
        query: QueryConfig {
            index,
            threads: Some(2),
            ..QueryConfig::default()
        },
        ..Config::default()
    }
}

/// The same compacted lake, with its index and without.
async fn lakes(
    batches: Vec<arrow::array::RecordBatch>,
    share: f64,
) -> (Session, Session, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_string_lossy().into_owned();
    let mut with_share = config(true);
    with_share.storage.index_share = share;
    let lake = Lake::create(&location, with_share).await.unwrap();
    for batch in batches {
        lake.append(batch).await.unwrap();
    }
    lake.compact(Arc::new(|_| {})).await.unwrap();
    let plain = Lake::open(&location, config(false)).await.unwrap();
    (
        lake.session().await.unwrap(),
        plain.session().await.unwrap(),
        directory,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_filter_gives_the_same_rows_with_the_index_without_it_and_row_by_row() {
    let mut random = SmallRng::seed_from_u64(17);
    let (batches, all) = spans(&mut random, 6000);
    let mut narrowed = 0;
    // The second index is so small that most keys are kept as hashes or not at all.
    for share in [0.6, 0.05] {
        let (indexed, plain, _directory) = lakes(batches.clone(), share).await;
        for _ in 0..150 {
            let filter = random_filter(&mut random, 3);
            let condition = filter.sql();
            let sql = format!("SELECT span_id FROM spans WHERE {condition}");
            let mut found = rows(&indexed, &sql).await;
            found.sort_unstable();
            let mut expected: Vec<Vec<String>> = all
                .iter()
                .filter(|row| filter.holds(row) == Some(true))
                .map(|row| vec![row.id.clone()])
                .collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{condition}");
            let mut without = rows(&plain, &sql).await;
            without.sort_unstable();
            assert_eq!(found, without, "{condition}");

            let mut newest: Vec<(i64, &str)> = all
                .iter()
                .filter(|row| filter.holds(row) == Some(true))
                .map(|row| (-row.start, row.id.as_str()))
                .collect();
            newest.sort_unstable();
            let (skip, limit) = (
                random.random_range(0..3usize),
                random.random_range(1..30usize),
            );
            let mut sql = format!(
                "SELECT span_id, attributes['path'] FROM spans WHERE {condition} ORDER BY start_time DESC, span_id LIMIT {limit}"
            );
            let _ = write!(sql, " OFFSET {skip}");
            let found: Vec<String> = rows(&indexed, &sql)
                .await
                .into_iter()
                .map(|mut row| row.remove(0))
                .collect();
            let expected: Vec<&str> = newest
                .iter()
                .skip(skip)
                .take(limit)
                .map(|(_, id)| *id)
                .collect();
            assert_eq!(found, expected, "{sql}");
            let report = indexed.explain(&sql).await.unwrap();
            narrowed += usize::from(report.index_terms > 0 && report.index_rows_left < all.len());
        }
    }
    assert!(narrowed > 100, "{narrowed} of 300 were narrowed");
}
