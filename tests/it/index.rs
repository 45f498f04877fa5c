//! The index of compacted files: no row is lost by it, and it rules out what it can.

use std::fmt::Write as _;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use regex_automata::meta::Regex;
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
    events: Vec<Event>,
}

/// A filter, as SQL and as what it means.
enum Filter {
    Text(Place, TextTest),
    Number(Place, &'static str, f64),
    IsNull(Place, bool),
    /// Of a span's attribute as JSON.
    Json(String, JsonTest),
    /// Whether a span has an attribute, or one of its events.
    Exists(String),
    EventHas(String),
    /// Of an attribute of an event.
    EventIs(String, i64),
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
    Matches(String, Regex),
}

enum JsonTest {
    Compare(&'static str, String),
    In(Vec<String>),
    Prefix(String),
    IsNull,
    /// An item of a list, as JSON.
    Item(i64, String),
    /// A member of an object, as text.
    Member(String, String),
}

impl JsonTest {
    fn sql(&self, key: &str) -> String {
        let json = format!("(attributes->{})", quoted(key));
        match self {
            Self::Compare(op, text) => format!("{json} {op} {}", quoted(text)),
            Self::In(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("{json} IN ({})", texts.join(", "))
            }
            Self::Prefix(text) => format!("{json} LIKE {}", quoted(&format!("{text}%"))),
            Self::IsNull => format!("{json} IS NULL"),
            Self::Item(place, text) => format!("({json}->{place}) = {}", quoted(text)),
            Self::Member(member, text) => {
                format!("({json}->>{}) = {}", quoted(member), quoted(text))
            }
        }
    }

    fn holds(&self, value: Option<&Value>) -> Option<bool> {
        let json = value.map(json_of);
        match self {
            Self::Compare("=", text) => json.map(|json| json == *text),
            Self::Compare("<>", text) => json.map(|json| json != *text),
            Self::Compare(_, text) => json.map(|json| json >= *text),
            Self::In(texts) => json.map(|json| texts.contains(&json)),
            Self::Prefix(text) => json.map(|json| json.starts_with(text.as_str())),
            Self::IsNull => Some(json.is_none()),
            Self::Item(place, text) => match value? {
                Value::Array(items) => {
                    let item = items.get(usize::try_from(*place).ok()?)?;
                    Some(json_of(item) == *text)
                }
                _ => None,
            },
            Self::Member(member, text) => match value? {
                Value::Object(entries) => {
                    let found = entries.iter().find(|(key, _)| key == member);
                    found
                        .and_then(|(_, value)| text_of(value))
                        .map(|found| found == *text)
                }
                _ => None,
            },
        }
    }
}

fn json_of(value: &Value) -> String {
    let mut json = String::new();
    value.write_json(&mut json);
    json
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Row {
    fn attribute(&self, key: &str) -> Option<&Value> {
        let mut found = self.attributes.iter().filter(|(name, _)| name == key);
        found.next().map(|(_, value)| value)
    }

    fn event_values(&self, key: &str) -> impl Iterator<Item = &Value> {
        let all = self.events.iter().flat_map(|event| &event.attributes);
        all.filter(move |(name, _)| name == key)
            .map(|(_, value)| value)
    }
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
        other => Some(json_of(other)),
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
                    TextTest::Matches(text, _) => format!("{place} ~ {}", quoted(text)),
                }
            }
            Self::Number(place, op, number) => format!("{} {op} {number:?}", place.sql()),
            Self::IsNull(place, true) => format!("{} IS NULL", place.sql()),
            Self::IsNull(place, false) => format!("{} IS NOT NULL", place.sql()),
            Self::Json(key, test) => test.sql(key),
            Self::Exists(key) => format!("attributes ? {}", quoted(key)),
            Self::EventHas(key) => format!("any_attribute(events, {}, 'exists')", quoted(key)),
            Self::EventIs(key, number) => {
                format!("any_attribute(events, {}, '=', {number})", quoted(key))
            }
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
                    TextTest::Matches(_, regex) => regex.is_match(&value),
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
            Self::Json(key, test) => test.holds(row.attribute(key)),
            Self::Exists(key) => Some(row.attribute(key).is_some()),
            Self::EventHas(key) => Some(row.event_values(key).next().is_some()),
            Self::EventIs(key, number) => {
                let mut values = row.event_values(key);
                Some(values.any(|value| *value == Value::Int(*number)))
            }
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
            8 if random.random_bool(0.5) => Value::Object(vec![
                ("a".into(), Value::String("b".into())),
                ("x".into(), Value::Double(f64::NEG_INFINITY)),
            ]),
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
    match random.random_range(0..14) {
        0 | 1 => Filter::Text(place, TextTest::Compare("=", text)),
        2 => Filter::Text(place, TextTest::Compare("<>", text)),
        3 => Filter::Text(place, TextTest::Compare(">=", text)),
        4 => Filter::Text(place, TextTest::In(vec![text, "500".into(), "no".into()])),
        5 => Filter::Text(place, TextTest::Prefix(start)),
        6 => Filter::Text(place, TextTest::Contains(start)),
        7 => {
            let pattern = format!("^{start}.?[0-9]*$");
            let regex = Regex::new(&pattern).unwrap();
            Filter::Text(place, TextTest::Matches(pattern, regex))
        }
        8 if !is_column => {
            let op = ["=", ">", "<=", "<>"].choose(random).unwrap();
            Filter::Number(place, op, [500.0, 1.5, 300.0][random.random_range(0..3)])
        }
        9 => Filter::IsNull(place, random.random_bool(0.5)),
        11 => random_json_filter(random, key),
        12 => match random.random_range(0..3) {
            0 => Filter::Exists(key),
            1 => Filter::EventHas(["k", "none"][random.random_range(0..2)].into()),
            _ => Filter::EventIs("k".into(), random.random_range(0..11)),
        },
        10 => {
            let nano = START + random.random_range(0..3 * HOUR);
            Filter::Start([">=", "<"][random.random_range(0..2)], nano)
        }
        _ => Filter::Text(place, TextTest::Compare("=", text)),
    }
}

fn random_json_filter(random: &mut SmallRng, key: String) -> Filter {
    let json = json_of(&random_value(random, &key));
    let test = match random.random_range(0..8) {
        0 => JsonTest::Compare("<>", json),
        1 => JsonTest::Compare(">=", json),
        2 => JsonTest::In(vec![json, "null".into(), "500.0".into()]),
        3 => JsonTest::Prefix(json.chars().filter(|c| *c != '\\').take(3).collect()),
        4 => JsonTest::IsNull,
        5 => {
            let items = ["1", r#""a,\"b""#, "2"];
            JsonTest::Item(
                random.random_range(0..3),
                (*items.choose(random).unwrap()).into(),
            )
        }
        6 => JsonTest::Member(
            "a".into(),
            ["b", "-Infinity"][random.random_range(0..2)].into(),
        ),
        _ => JsonTest::Compare("=", json),
    };
    Filter::Json(key, test)
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
                    events: span.events.clone(),
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
    let (batches, all) = spans(&mut random, 4000);
    let mut narrowed = 0;
    // The second index is so small that most keys are kept as hashes or not at all.
    for share in [0.6, 0.05] {
        let (indexed, plain, _directory) = lakes(batches.clone(), share).await;
        for _ in 0..80 {
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
    assert!(narrowed > 40, "{narrowed} of 160 were narrowed");
}

/// The compacted files of a lake in a directory.
fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if name.starts_with('b') && name.ends_with(".parquet") {
                found.push(path);
            }
        }
    }
    found
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    let found = bytes.windows(part.len()).rposition(|window| window == part);
    found.unwrap_or_else(|| panic!("{part:?} in a file"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_newer_or_misplaced_index_is_read_past() {
    let mut random = SmallRng::seed_from_u64(3);
    let (batches, _) = spans(&mut random, 1500);
    let (indexed, plain, directory) = lakes(batches, 0.5).await;
    let sql = "SELECT span_id FROM spans WHERE attributes['user'] = '7' OR name = 'op 3' ORDER BY span_id";
    let expected = rows(&plain, sql).await;
    assert!(!expected.is_empty());
    assert!(indexed.explain(sql).await.unwrap().index_rows_left < 1200);
    let catalog =
        "SELECT scope, key, value, type, span_count FROM attribute_values ORDER BY 1, 2, 3, 4";
    let listed = rows(&plain, catalog).await;
    assert_eq!(rows(&indexed, catalog).await, listed);
    let originals: Vec<_> = files(directory.path())
        .into_iter()
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .collect();
    let damage: [fn(&mut Vec<u8>, usize); 5] = [
        // A newer version.
        |bytes, at| bytes[at] = b'9',
        // Another place, of the same length in digits.
        |bytes, at| bytes[at + 2] = if bytes[at + 2] == b'1' { b'2' } else { b'1' },
        // Another checksum of the directory.
        |bytes, at| {
            let end = at + bytes[at..].iter().position(|byte| *byte == b';').unwrap() + 1;
            let checksum = end + bytes[end..].iter().rposition(|byte| *byte == b':').unwrap();
            bytes[checksum + 1] ^= 1;
        },
        // Some bytes of the sections.
        |bytes, at| {
            let start = bytes[at + 2..]
                .iter()
                .position(|byte| *byte == b':')
                .unwrap();
            let offset: usize = std::str::from_utf8(&bytes[at + 2..at + 2 + start])
                .unwrap()
                .parse()
                .unwrap();
            for byte in &mut bytes[offset..offset + 3000] {
                *byte = byte.wrapping_mul(31).wrapping_add(7);
            }
        },
        // No number at all.
        |bytes, at| bytes[at + 2..at + 6].fill(b'x'),
    ];
    for (number, damage) in damage.iter().enumerate() {
        for (bytes, path) in &originals {
            let mut bytes = bytes.clone();
            let key = position(&bytes, b"tracelake.index");
            let at = key + position(&bytes[key..key + 25], b"1;");
            damage(&mut bytes, at);
            std::fs::write(path, &bytes).unwrap();
        }
        let lake = Lake::open(&directory.path().to_string_lossy(), config(true))
            .await
            .unwrap();
        let session = lake.session().await.unwrap();
        assert_eq!(rows(&session, sql).await, expected, "damage {number}");
        assert_eq!(rows(&session, catalog).await, listed, "damage {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogues_count_the_same_from_indexes_and_from_spans() {
    let mut random = SmallRng::seed_from_u64(5);
    let (batches, all) = spans(&mut random, 3000);
    let (indexed, plain, _directory) = lakes(batches, 0.6).await;
    let users = all
        .iter()
        .filter(|row| row.attributes.iter().any(|(key, _)| key == "user"));
    let sql = "SELECT span_count, distinct_count <= 900 FROM attribute_keys WHERE key = 'user'";
    let expected = [users.count().to_string(), "true".to_string()];
    assert_eq!(rows(&indexed, sql).await, [expected]);
    for sql in [
        "SELECT * FROM services ORDER BY service_name",
        "SELECT * FROM operations ORDER BY service_name, name, kind",
        "SELECT * FROM operations WHERE hour >= '2026-11-20T07:30:00Z' AND hour < '2026-11-20T08:00:00Z' ORDER BY 1, 2, 3",
        "SELECT * FROM attribute_keys ORDER BY scope, key, type",
        "SELECT key, span_count FROM attribute_keys WHERE scope = 'span' ORDER BY key, span_count",
        "SELECT * FROM attribute_values WHERE key = 'path' AND value LIKE '/api/v2/1%' ORDER BY value",
        "SELECT * FROM attribute_values WHERE key IN ('mixed', 'k', 'host') ORDER BY scope, key, value, type",
        "SELECT * FROM attribute_values WHERE hour > '2026-11-20T08:00:00Z' ORDER BY scope, key, value, type",
        "SELECT service_name, sum(span_count) FROM operations GROUP BY 1 ORDER BY 1",
        "SELECT count(*), sum(span_count) FROM attribute_values WHERE hour < '2020-01-01T00:00:00Z'",
    ] {
        assert_eq!(rows(&indexed, sql).await, rows(&plain, sql).await, "{sql}");
    }
    let sql = "SELECT sum(span_count) FROM services";
    assert_eq!(rows(&indexed, sql).await[0][0], all.len().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_spans_are_found_in_the_newest_hour() {
    let mut random = SmallRng::seed_from_u64(9);
    let (batches, _) = spans(&mut random, 3000);
    let (indexed, _plain, _directory) = lakes(batches, 0.6).await;
    for condition in [
        "true",
        "attributes['user'] IS NOT NULL AND service_name = 's1'",
        "name LIKE 'op 1%' AND start_time > '2026-11-20T06:10:00Z'",
    ] {
        let sql = format!(
            "SELECT span_id FROM spans WHERE {condition} ORDER BY start_time DESC, span_id LIMIT 5"
        );
        let report = indexed.explain(&sql).await.unwrap();
        let newest = report
            .pruned_by
            .iter()
            .find(|(step, _)| step.contains("newest"))
            .unwrap();
        assert!(newest.1 >= 2, "{report}");
        assert!(report.index_rows_left < 300, "{report}");
    }
    let absent = indexed
        .explain("SELECT * FROM spans WHERE attributes['never'] = 'x'")
        .await;
    let absent = absent.unwrap();
    assert_eq!((absent.files_read(), absent.row_count), (0, 0), "{absent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_on_events_reach_the_spans_that_hold_them() {
    let mut random = SmallRng::seed_from_u64(21);
    let (batches, _) = spans(&mut random, 3000);
    let (indexed, plain, _directory) = lakes(batches, 0.6).await;
    for (condition, narrows) in [
        ("name = 'e1'", true),
        ("name LIKE '%2' AND attributes['k'] = 7", true),
        ("attributes['k'] IN ('3', '4') AND span_name = 'op 1'", true),
        ("attributes['k'] > 6 OR name = 'e0'", false),
        ("attributes['none'] IS NULL", false),
        ("attributes['none'] = 'x'", true),
        ("(attributes->'k') = '7'", true),
        ("attributes ? 'k' AND name = 'e2'", true),
        ("attributes ? 'none'", true),
        ("NOT attributes ? 'k'", false),
    ] {
        let sql = format!(
            "SELECT span_id, name, attributes FROM span_events WHERE {condition} ORDER BY 1, 2, 3"
        );
        let found = rows(&indexed, &sql).await;
        assert_eq!(found, rows(&plain, &sql).await, "{condition}");
        let report = indexed.explain(&sql).await.unwrap();
        assert!(
            !narrows || report.index_rows_left < 1600,
            "{condition}\n{report}"
        );
    }
}
