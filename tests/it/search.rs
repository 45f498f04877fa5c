//! Searches against a naive evaluation over decoded spans, and pages against the whole.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tracelake::config::QueryConfig;
use tracelake::search::{
    AttributeScope, AttributeTest, AttributeValue, Condition, Matching, SearchHit, SearchOrder,
    SpanName, TraceQuery,
};
use tracelake::span::{
    Attributes, Event, Link, Origin, Resource, Scope, Span, SpanBatchBuilder, SpanId, SpanKind,
    StatusCode, TraceId, Value, render_value,
};
use tracelake::{Config, Lake};

/// 2026-11-20 09:00 UTC.
const START: i64 = 1_795_165_200_000_000_000;

const MINUTE: i64 = 60_000_000_000;

/// Queries asked of each lake in each state; each is planned dozens of times.
const QUERIES: usize = 6;

/// A decoded span with what produced it.
#[derive(Debug, Clone)]
struct Row {
    resource: Resource,
    scope: Scope,
    span: Span,
}

fn text(value: &Value) -> Option<String> {
    let mut json = String::new();
    value.write_json(&mut json);
    render_value(&json).map(std::borrow::Cow::into_owned)
}

impl Row {
    fn service(&self) -> Option<String> {
        let found = self.resource.attributes.iter();
        let mut found = found.filter(|(key, _)| key == "service.name");
        found.next().and_then(|(_, value)| text(value))
    }

    /// The values of a key in a scope.
    fn values(&self, scope: AttributeScope, key: &str) -> Vec<Value> {
        use AttributeScope::{Any, Event, Link, Resource, Scope, Span};
        let mut sets: Vec<&Attributes> = Vec::new();
        if matches!(scope, Any | Span) {
            sets.push(&self.span.attributes);
        }
        if matches!(scope, Any | Resource) {
            sets.push(&self.resource.attributes);
        }
        if matches!(scope, Any | Scope) {
            sets.push(&self.scope.attributes);
        }
        if matches!(scope, Any | Event) {
            sets.extend(self.span.events.iter().map(|event| &event.attributes));
        }
        if matches!(scope, Any | Link) {
            sets.extend(self.span.links.iter().map(|link| &link.attributes));
        }
        let entries = sets.into_iter().flatten();
        let values = entries.filter(|(other, _)| other == key);
        values.map(|(_, value)| value.clone()).collect()
    }

    fn fulfils(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Attribute(attribute) => {
                let values = self.values(attribute.scope, &attribute.key);
                if attribute.test == AttributeTest::Exists {
                    return !values.is_empty();
                }
                let values = values.iter().filter_map(text);
                let values: Vec<String> = values.collect();
                values.iter().any(|value| match &attribute.test {
                    // The only pattern these tests use.
                    AttributeTest::Matches(pattern) => {
                        assert_eq!(pattern, "x.*");
                        value.starts_with('x')
                    }
                    test => test.admits(value) == Some(true),
                })
            }
            Condition::And(all) => all.iter().all(|inner| self.fulfils(inner)),
            Condition::Or(any) => any.iter().any(|inner| self.fulfils(inner)),
            Condition::Not(inner) => !self.fulfils(inner),
        }
    }

    fn is_in_range(&self, query: &TraceQuery) -> bool {
        let start = self.span.start_time_unix_nano;
        query.from_nano.is_none_or(|from| start >= from)
            && query.to_nano.is_none_or(|to| start < to)
    }

    /// Which of the conditions besides time the span fulfils.
    fn terms(&self, query: &TraceQuery) -> Vec<bool> {
        let mut terms = Vec::new();
        let span = &self.span;
        if let Some(service) = &query.service_name {
            terms.push(self.service().as_ref() == Some(service));
        }
        match &query.span_name {
            Some(SpanName::Exact(name)) => terms.push(span.name == *name),
            Some(SpanName::Prefix(prefix)) => terms.push(span.name.starts_with(prefix.as_str())),
            None => {}
        }
        terms.extend(query.kind.map(|kind| span.kind == kind));
        terms.extend(query.status_code.map(|code| span.status_code == code));
        let (least, most) = (query.min_duration_nano, query.max_duration_nano);
        if least.is_some() || most.is_some() {
            terms.push(span.duration_nano.is_some_and(|nano| {
                least.is_none_or(|least| nano >= least) && most.is_none_or(|most| nano <= most)
            }));
        }
        if let Some(condition) = &query.condition {
            terms.extend(condition.terms().into_iter().map(|term| self.fulfils(term)));
        }
        terms
    }
}

/// A trace found, as far as these tests look at it: id, key, matching spans, spans of all.
type NaiveHit = (TraceId, i64, Vec<SpanId>, u64);

/// What a query finds, on however many pages.
fn naive(rows: &[Row], query: &TraceQuery) -> Vec<NaiveHit> {
    let mut traces: BTreeMap<TraceId, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        traces.entry(row.span.trace_id).or_default().push(row);
    }
    let mut hits = Vec::new();
    for (trace_id, mut rows) in traces {
        rows.sort_by_key(|row| (row.span.start_time_unix_nano, row.span.span_id));
        let in_range = rows.iter().filter(|row| row.is_in_range(query));
        let in_range: Vec<_> = in_range.map(|row| (*row, row.terms(query))).collect();
        let count = in_range.first().map_or(0, |(_, terms)| terms.len());
        let matches = |terms: &[bool]| match query.matching {
            Matching::SameSpan => terms.iter().all(|term| *term),
            Matching::AnySpan => terms.is_empty() || terms.contains(&true),
        };
        let is_found = match query.matching {
            Matching::SameSpan => in_range.iter().any(|(_, terms)| matches(terms)),
            Matching::AnySpan => {
                !in_range.is_empty()
                    && (0..count).all(|term| in_range.iter().any(|(_, terms)| terms[term]))
            }
        };
        if !is_found {
            continue;
        }
        let matching = in_range.iter().filter(|(_, terms)| matches(terms));
        let matching: Vec<&Span> = matching.map(|(row, _)| &row.span).collect();
        let key = matching.iter().map(|span| match query.order {
            SearchOrder::Newest => span.start_time_unix_nano,
            SearchOrder::Slowest => span.duration_nano.unwrap_or(i64::MIN),
        });
        let key = key.max().unwrap();
        let ids = matching.iter().map(|span| span.span_id).collect();
        hits.push((trace_id, key, ids, rows.len() as u64));
    }
    hits.sort_by_key(|(id, key, _, _)| (std::cmp::Reverse(*key), *id));
    hits
}

fn outline(hit: &SearchHit, order: SearchOrder) -> NaiveHit {
    let ids = hit.matched_span_ids.clone();
    assert_eq!(hit.matched_span_count, ids.len() as u64);
    let key = match order {
        SearchOrder::Newest => hit.last_match_nano,
        SearchOrder::Slowest => hit.longest_match_nano.unwrap_or(i64::MIN),
    };
    (hit.trace.trace_id, key, ids, hit.trace.span_count)
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::String("x".into())),
        Just(Value::String("xy".into())),
        Just(Value::String("5".into())),
        Just(Value::String(String::new())),
        Just(Value::Int(5)),
        Just(Value::Int(700)),
        Just(Value::Double(5.0)),
        Just(Value::Double(f64::NAN)),
        Just(Value::Bool(true)),
        Just(Value::Null),
        Just(Value::Array(vec![Value::Int(5)])),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["k", "http.route", "it's \"odd\""]).prop_map(str::to_string)
}

fn attributes() -> impl Strategy<Value = Attributes> {
    prop::collection::btree_map(key(), values(), 0..3).prop_map(|all| all.into_iter().collect())
}

prop_compose! {
    fn row()(
        service in prop::option::of(prop::sample::select(vec!["a", "b"])),
        resource in attributes(),
        scope in attributes(),
        trace in 1u8..9,
        minutes in 0i64..240,
        name in prop::sample::select(vec!["GET /", "GET /x", "put"]),
        kind in prop::sample::select(SpanKind::ALL.to_vec()),
        status_code in prop::sample::select(StatusCode::ALL.to_vec()),
        duration in prop::option::of(-3i64..10),
        attributes in attributes(),
        events in prop::collection::vec(attributes(), 0..3),
        links in prop::collection::vec(attributes(), 0..2),
    ) -> Row {
        let mut resource = Resource { attributes: resource, ..Resource::default() };
        let service = service.map(|name| Value::String(name.into()));
        resource.attributes.extend(service.map(|name| ("service.name".to_string(), name)));
        let trace_id = TraceId::from_bytes([trace; 16]).unwrap();
        let mut span = Span::new(trace_id, SpanId::from_bytes([1; 8]).unwrap(), START + minutes * MINUTE);
        span.name = name.to_string();
        span.kind = kind;
        span.status_code = status_code;
        span.duration_nano = duration;
        span.attributes = attributes;
        span.events = events
            .into_iter()
            .map(|attributes| Event { attributes, time_unix_nano: START, ..Event::default() })
            .collect();
        span.links = links
            .into_iter()
            .map(|attributes| Link {
                trace_id,
                span_id: SpanId::from_bytes([9; 8]).unwrap(),
                trace_state: String::new(),
                attributes,
                flags: None,
                dropped_attributes_count: 0,
            })
            .collect();
        Row { resource, scope: Scope { attributes: scope, ..Scope::default() }, span }
    }
}

fn tests() -> impl Strategy<Value = AttributeTest> {
    let value = prop_oneof![
        Just(AttributeValue::from("5")),
        Just(AttributeValue::from("x")),
        Just(AttributeValue::Int(5)),
        Just(AttributeValue::Double(5.0)),
        Just(AttributeValue::Bool(true)),
    ];
    prop_oneof![
        Just(AttributeTest::Exists),
        value.clone().prop_map(AttributeTest::Equal),
        value.clone().prop_map(AttributeTest::NotEqual),
        prop::collection::vec(value, 0..3).prop_map(AttributeTest::In),
        Just(AttributeTest::Less(6.0)),
        Just(AttributeTest::LessOrEqual(5.0)),
        Just(AttributeTest::Greater(5.0)),
        Just(AttributeTest::GreaterOrEqual(5.0)),
        Just(AttributeTest::Prefix("x".into())),
        Just(AttributeTest::Prefix(String::new())),
        Just(AttributeTest::Matches("x.*".into())),
    ]
}

fn conditions() -> impl Strategy<Value = Condition> {
    let scope = prop::sample::select(AttributeScope::ALL.to_vec());
    let leaf = (scope, key(), tests())
        .prop_map(|(scope, key, test)| Condition::attribute_in(scope, key, test));
    leaf.prop_recursive(2, 5, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::Or),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

prop_compose! {
    fn query()(
        range in prop::option::of((0i64..240, 0i64..240)),
        service_name in prop::option::weighted(0.3, Just("a".to_string())),
        span_name in prop::option::weighted(0.3, prop_oneof![
            Just(SpanName::Exact("GET /".into())),
            Just(SpanName::Prefix("GET /".into())),
        ]),
        kind in prop::option::weighted(0.2, prop::sample::select(SpanKind::ALL.to_vec())),
        status_code in prop::option::weighted(0.2, prop::sample::select(StatusCode::ALL.to_vec())),
        durations in prop::option::weighted(0.3, (-3i64..10, -3i64..10)),
        condition in prop::option::weighted(0.8, conditions()),
        any_span in any::<bool>(),
        slowest in any::<bool>(),
    ) -> TraceQuery {
        let mut query = TraceQuery {
            service_name, span_name, kind, status_code, condition, ..TraceQuery::new()
        };
        if let Some((a, b)) = range {
            query = query.with_time_range(START + a.min(b) * MINUTE, START + a.max(b) * MINUTE);
        }
        if let Some((a, b)) = durations {
            query = query.with_min_duration_nano(a.min(b)).with_max_duration_nano(a.max(b));
        }
        if any_span {
            query = query.with_matching(Matching::AnySpan);
        }
        if slowest {
            query = query.with_order(SearchOrder::Slowest);
        }
        query
    }
}

/// Spans with ids of their own, from `first_id` on.
fn numbered(mut rows: Vec<Row>, first_id: u64) -> Vec<Row> {
    for (id, row) in (first_id..).zip(&mut rows) {
        row.span.span_id = SpanId::from_bytes(id.to_be_bytes()).unwrap();
    }
    rows
}

async fn append(lake: &Lake, rows: &[Row]) {
    let mut builder = SpanBatchBuilder::new();
    for row in rows {
        builder.push(&Origin::new(&row.resource, &row.scope), &row.span);
    }
    lake.append(builder.finish()).await.unwrap();
}

/// Windows so small that a search of few spans goes through several.
fn config() -> Config {
    Config {
        query: QueryConfig {
            search_window_spans: 4,
            threads: Some(2),
            ..QueryConfig::default()
        },
        ..Config::default()
    }
}

/// All pages of a query, `limit` traces each.
async fn pages(lake: &Lake, query: &TraceQuery, limit: usize) -> Vec<SearchHit> {
    let mut query = query.clone().with_limit(limit);
    let mut hits = Vec::new();
    loop {
        let page = lake.search(&query).await.unwrap();
        assert!(page.hits.len() <= limit);
        hits.extend(page.hits);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return hits,
        }
        assert!(hits.len() < 1000, "paging ends");
    }
}

async fn check(lake: &Lake, rows: &[Row], query: &TraceQuery) {
    let expected = naive(rows, query);
    let page = lake.search(&query.clone().with_total()).await.unwrap();
    let found = page.hits.iter();
    let found: Vec<NaiveHit> = found.map(|hit| outline(hit, query.order)).collect();
    assert_eq!(found, expected, "{query:#?}");
    assert_eq!(page.total, Some(expected.len() as u64));
    assert_eq!(page.next_cursor, None);
    assert_eq!(pages(lake, query, 3).await, page.hits, "{query:#?}");
    let second = query.clone().with_limit(2).with_page(2);
    let second = lake.search(&second).await.unwrap().hits;
    let numbered: Vec<&SearchHit> = page.hits.iter().skip(2).take(2).collect();
    // Cursors are the same, too: they are a trace's place, not a page's.
    assert_eq!(second.iter().collect::<Vec<_>>(), numbered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_find_what_a_naive_evaluation_finds() {
    let mut runner = TestRunner::deterministic();
    let mut draw_rows = |count: usize| {
        let rows = prop::collection::vec(row(), count).new_tree(&mut runner);
        rows.unwrap().current()
    };
    let mut lakes = Vec::new();
    for _ in 0..2 {
        lakes.push((draw_rows(40), draw_rows(20)));
    }
    for (first, second) in lakes {
        let lake = Lake::create("memory:///", config()).await.unwrap();
        let mut rows = numbered(first, 1);
        let more = numbered(second, 1000);
        append(&lake, &rows).await;
        append(&lake, &more).await;
        rows.extend(more);
        for compacted in [false, true] {
            if compacted {
                lake.compact(Arc::new(|_| {})).await.unwrap();
            }
            for _ in 0..QUERIES {
                let query = query().new_tree(&mut runner).unwrap().current();
                check(&lake, &rows, &query).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_each_trace_once_while_spans_arrive() {
    let mut runner = TestRunner::deterministic();
    for order in SearchOrder::ALL {
        let lake = Lake::create("memory:///", config()).await.unwrap();
        let mut draw = |count: usize, first_id: u64| {
            let rows = prop::collection::vec(row(), count).new_tree(&mut runner);
            numbered(rows.unwrap().current(), first_id)
        };
        let mut rows = draw(30, 1);
        append(&lake, &rows).await;
        let mut query = TraceQuery::new().with_order(order).with_limit(2);
        let before = naive(&rows, &query);
        let mut seen = HashSet::new();
        let mut round = 1;
        loop {
            let page = lake.search(&query).await.unwrap();
            for hit in &page.hits {
                assert!(seen.insert(hit.trace.trace_id), "shown twice");
            }
            let Some(cursor) = page.next_cursor else {
                break;
            };
            query.cursor = Some(cursor);
            let more = draw(3, round * 1000);
            append(&lake, &more).await;
            rows.extend(more);
            round += 1;
        }
        query.cursor = None;
        let after: BTreeMap<TraceId, i64> = naive(&rows, &query)
            .into_iter()
            .map(|(id, key, _, _)| (id, key))
            .collect();
        for (id, key, _, _) in before {
            let stayed = after[&id] == key;
            assert!(!stayed || seen.contains(&id), "{id} is left out");
        }
    }
}

fn span(trace: u8, id: u8, minutes: i64) -> Row {
    let trace_id = TraceId::from_bytes([trace; 16]).unwrap();
    let span_id = SpanId::from_bytes([id; 8]).unwrap();
    let mut span = Span::new(trace_id, span_id, START + minutes * MINUTE);
    span.duration_nano = Some(1_000_000);
    let service = ("service.name".to_string(), Value::String("shop".into()));
    Row {
        resource: Resource {
            attributes: vec![service],
            ..Resource::default()
        },
        scope: Scope::default(),
        span,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_found_by_one_span_is_summed_up_whole() {
    let lake = Lake::create("memory:///", config()).await.unwrap();
    let mut root = span(1, 1, 0);
    root.span.name = "root".into();
    let mut child = span(1, 2, 90);
    child.span.parent_span_id = Some(root.span.span_id);
    child.span.status_code = StatusCode::Error;
    child.span.attributes = vec![("user.id".into(), Value::Int(7))];
    let mut orphan = span(1, 3, 91);
    orphan.span.parent_span_id = SpanId::from_bytes([8; 8]);
    orphan.resource.attributes[0].1 = Value::String("mail".into());
    append(&lake, &[root.clone(), child.clone()]).await;
    // Sent again with the last one: an exact copy counts once.
    append(&lake, &[orphan, child]).await;
    let query = TraceQuery::new()
        .with_time_range(START + 60 * MINUTE, START + 91 * MINUTE)
        .query_attribute("user.id", "7");
    let page = lake.search(&query).await.unwrap();
    let [hit] = &page.hits[..] else {
        panic!("one trace is found, not {page:?}");
    };
    let trace = &hit.trace;
    assert_eq!(trace.root_name.as_deref(), Some("root"));
    assert_eq!(trace.root_service.as_deref(), Some("shop"));
    assert_eq!(trace.start_nano, START);
    assert_eq!(trace.duration_nano(), 91 * MINUTE + 1_000_000);
    assert_eq!((trace.span_count, trace.service_count), (3, 2));
    assert_eq!((trace.error_count, trace.orphan_count), (1, 1));
    assert!(trace.has_root);
    assert_eq!(hit.matched_span_count, 1);
    assert_eq!(hit.matched_span_ids, [SpanId::from_bytes([2; 8]).unwrap()]);
    assert_eq!(hit.last_match_nano, START + 90 * MINUTE);
    assert_eq!(hit.longest_match_nano, Some(1_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_reads_all_pages() {
    use futures::TryStreamExt;

    let lake = Lake::create("memory:///", config()).await.unwrap();
    let rows: Vec<Row> = (1..=7)
        .map(|trace| span(trace, 1, 30 * i64::from(trace)))
        .collect();
    append(&lake, &rows).await;
    let query = TraceQuery::new().with_service("shop").with_limit(2);
    let stream = lake.search_stream(query.clone());
    let hits: Vec<SearchHit> = stream.try_collect().await.unwrap();
    let ids: Vec<u8> = hits
        .iter()
        .map(|hit| hit.trace.trace_id.as_bytes()[0])
        .collect();
    assert_eq!(ids, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(lake.search_count(&query).await.unwrap(), 7);
}

#[tokio::test]
async fn bad_searches_are_refused_with_what_to_mend() {
    let lake = Lake::create("memory:///", config()).await.unwrap();
    let pattern = |pattern: &str| {
        TraceQuery::new().with_attribute("k", AttributeTest::Matches(pattern.to_string()))
    };
    for (query, message) in [
        (
            TraceQuery::new().with_cursor("' OR 1=1"),
            "the cursor is damaged",
        ),
        (TraceQuery::new().with_limit(0), "from 1 to 10000"),
        (pattern("("), "pattern=`(`"),
        (pattern("a)|(b"), "not valid"),
    ] {
        let error = lake.search(&query).await.unwrap_err();
        assert_eq!(error.kind(), tracelake::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(message), "{error}");
    }
    let scopes: BTreeSet<&str> = AttributeScope::ALL.into_iter().map(|s| s.name()).collect();
    assert_eq!(scopes.len(), AttributeScope::ALL.len());
}
