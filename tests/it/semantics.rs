//! What a trace means, against what others say of the same traces: trees, critical paths and edges
//! of Jaeger, CRISP, Zipkin and Promscale, and of real traces of two systems under load.
//!
//! They lie outside the repository, in the folder that `TRACELAKE_FIXTURES` names; where it is
//! absent these tests say so and check nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::PathBuf;

use serde_json::Value as Json;
use tracelake::Result;
use tracelake::ingest::{Format, Rejection, SpanSink, decode};
use tracelake::span::{Origin, Span, SpanId, SpanKind, StatusCode, TraceId, Value};
use tracelake::trace::{
    CriticalPath, EdgeDetails, EdgeMode, Findings, Forest, NONE, Placement, SelfTimes, ServiceSet,
    SpanRow, TraceBuffer, TraceSummary, find, service_edges, service_stats,
};

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

pub(crate) fn json(name: &str) -> Option<Json> {
    let text = fs::read_to_string(fixture(name)?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

pub(crate) fn cases(json: &Json) -> &[Json] {
    json["cases"].as_array().unwrap()
}

pub(crate) fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

pub(crate) fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

/// A trace whose ids are any texts.
#[derive(Default)]
struct NamedTrace {
    buffer: TraceBuffer,
    /// The text of each row's id.
    ids: Vec<String>,
    numbers: HashMap<String, u64>,
    peer: Vec<u32>,
}

impl NamedTrace {
    fn id(&mut self, text: &str) -> Option<SpanId> {
        let next = self.numbers.len() as u64 + 1;
        let number = *self.numbers.entry(text.to_string()).or_insert(next);
        SpanId::from_bytes(number.to_be_bytes())
    }

    /// A trace of Jaeger's JSON; times in whatever unit it has.
    fn of_jaeger(trace: &Json) -> Self {
        let mut named = Self::default();
        for span in list(&trace["spans"]) {
            let reference = list(&span["references"]).first();
            let parent = reference.map(|reference| text(&reference["spanID"]));
            let process = &trace["processes"][text(&span["processID"])];
            let kind = list(&span["tags"])
                .iter()
                .find(|tag| tag["key"] == "span.kind")
                .and_then(|tag| SpanKind::from_name(text(&tag["value"])));
            named.push(
                (text(&span["spanID"]), parent),
                (text(&process["serviceName"]), text(&span["operationName"])),
                (
                    span["startTime"].as_i64().unwrap_or(0),
                    span["duration"].as_i64(),
                ),
                kind.unwrap_or_default(),
            );
        }
        named
    }

    fn push(
        &mut self,
        (id, parent): (&str, Option<&str>),
        (service_name, name): (&str, &str),
        (start_time_unix_nano, duration_nano): (i64, Option<i64>),
        kind: SpanKind,
    ) {
        let span_id = self.id(id).unwrap();
        let parent_span_id = parent.and_then(|parent| self.id(parent));
        self.ids.push(id.to_string());
        self.peer.push(NONE);
        self.buffer.push(&SpanRow {
            span_id,
            parent_span_id,
            start_time_unix_nano,
            duration_nano,
            kind,
            status_code: StatusCode::Unset,
            service_name,
            name,
        });
    }

    fn forest(&self) -> Forest {
        Forest::new(&self.buffer.columns())
    }

    fn name(&self, forest: &Forest, node: usize) -> &str {
        &self.ids[forest.row(node)]
    }

    /// The sections as (id, start, end), latest first.
    fn critical_path(&self) -> Vec<(String, i64, i64)> {
        let forest = self.forest();
        let path = CriticalPath::new(&self.buffer.columns(), &forest);
        let sections = path.sections().iter().rev();
        sections
            .map(|section| {
                let name = self.name(&forest, section.node as usize).to_string();
                (name, section.start, section.end)
            })
            .collect()
    }

    /// Links as caller, callee and number of calls.
    fn links(&self, mode: EdgeMode) -> BTreeMap<(String, String), u64> {
        let columns = self.buffer.columns();
        let mut edges = Vec::new();
        let details = EdgeDetails {
            peer: &self.peer,
            links: &[],
        };
        service_edges(&columns, &self.forest(), &details, mode, &mut edges);
        let name = |number| self.buffer.service_name(number).unwrap().to_string();
        let mut links = BTreeMap::new();
        for edge in edges {
            *links
                .entry((name(edge.caller), name(edge.callee)))
                .or_default() += 1;
        }
        links
    }
}

#[test]
fn critical_paths_are_those_of_jaeger_ui() {
    let Some(json) = json("jaeger-ui/critical-path-cases.json") else {
        return;
    };
    for case in cases(&json) {
        let expected: Vec<(String, i64, i64)> = list(&case["expected_critical_path"])
            .iter()
            .map(|section| {
                let time = |key: &str| section[key].as_i64().unwrap();
                let id = text(&section["spanID"]).to_string();
                (id, time("sectionStart"), time("sectionEnd"))
            })
            .collect();
        let found = NamedTrace::of_jaeger(&case["trace"]).critical_path();
        assert_eq!(found, expected, "{}", case["name"]);
    }
}

#[test]
fn critical_paths_are_those_of_crisp_where_it_agrees_with_jaeger() {
    let Some(json) = json("crisp/critical_path_cases.json") else {
        return;
    };
    for case in cases(&json) {
        if case["same_as_jaeger_definition"] != true {
            continue;
        }
        let file = fixture(&format!("crisp/{}", text(&case["file"]))).unwrap();
        let traces: Json = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let trace = NamedTrace::of_jaeger(&traces["data"][0]);
        let forest = trace.forest();
        let columns = trace.buffer.columns();
        let mut found: BTreeMap<String, i64> = BTreeMap::new();
        for section in CriticalPath::new(&columns, &forest).sections() {
            let row = forest.row(section.node as usize);
            let service = trace.buffer.service_name(columns.service(row)).unwrap();
            let name = trace.buffer.name(columns.name(row)).unwrap();
            *found.entry(format!("[{service}] {name}")).or_default() += section.duration_nano();
        }
        let expected = case["expected_exclusive_us"].as_object().unwrap();
        let expected: BTreeMap<String, i64> = expected
            .iter()
            .map(|(key, time)| (key.clone(), time.as_i64().unwrap()))
            .filter(|(_, time)| *time != 0)
            .collect();
        assert_eq!(found, expected, "{}", case["file"]);
    }
}

#[test]
fn trees_are_those_of_jaeger_ui() {
    let Some(json) = json("jaeger-ui/tree-cases.json") else {
        return;
    };
    for case in cases(&json) {
        let name = text(&case["name"]);
        let trace = NamedTrace::of_jaeger(case);
        let forest = trace.forest();
        assert_eq!(forest.len(), list(&case["spans"]).len(), "{name}");
        let expected = &case["expected"];
        let tops = |wanted: Placement| {
            let tops = forest
                .tops()
                .filter(|node| forest.placement(*node) == wanted);
            tops.collect::<Vec<_>>()
        };
        if let Some(count) = expected["orphanSpanCount"].as_u64() {
            assert_eq!(tops(Placement::Orphan).len() as u64, count, "{name}");
        }
        let ids = |nodes: Vec<usize>| {
            let ids = nodes.into_iter().map(|node| trace.name(&forest, node));
            ids.collect::<Vec<_>>()
        };
        let texts = |json: &Json| list(json).iter().map(text).map(str::to_string).collect();
        if expected["roots"].is_array() {
            let expected: Vec<String> = texts(&expected["roots"]);
            assert_eq!(ids(forest.tops().collect()), expected, "{name}");
        }
        if expected["children_of_root"].is_array() {
            let top = forest.tops().next().unwrap();
            let expected: Vec<String> = texts(&expected["children_of_root"]);
            assert_eq!(ids(forest.children(top).collect()), expected, "{name}");
        }
        if expected["depth"].is_object() {
            let expected_order: Vec<String> = texts(&expected["order"]);
            assert_eq!(ids((0..forest.len()).collect()), expected_order, "{name}");
            for node in 0..forest.len() {
                let id = trace.name(&forest, node);
                assert_eq!(forest.depth(node) as u64, expected["depth"][id], "{name}");
                let has_children = forest.child_count(node) > 0;
                assert_eq!(has_children, expected["has_children"][id], "{name}");
            }
        }
        if expected["terminates"] == true {
            assert_eq!(tops(Placement::CycleBroken).len(), 1, "{name}");
        }
    }
}

/// Takes the spans of each trace from an input, exact copies and all.
#[derive(Default)]
struct Traces(BTreeMap<TraceId, Vec<(String, Span)>>);

impl SpanSink for Traces {
    fn span(&mut self, origin: &Origin, span: &Span) -> Result<()> {
        let spans = self.0.entry(span.trace_id).or_default();
        let service = origin.service_name().unwrap_or_default();
        spans.push((service.to_string(), span.clone()));
        Ok(())
    }

    fn reject(&mut self, rejection: Rejection) -> Result<()> {
        panic!("{rejection}");
    }
}

impl Traces {
    fn read(name: &str) -> Option<Self> {
        let mut traces = Self::default();
        let path = fixture(name)?;
        decode(File::open(path).unwrap(), name, None, &mut traces).unwrap();
        Some(traces)
    }
}

fn named(spans: &[(String, Span)]) -> NamedTrace {
    let mut named = NamedTrace::default();
    for (service, span) in spans {
        let parent = span.parent_span_id.map(|id| id.to_string());
        named.push(
            (&span.span_id.to_string(), parent.as_deref()),
            (service, &span.name),
            (span.start_time_unix_nano, span.duration_nano),
            span.kind,
        );
        let peer = span.attributes.iter().find_map(|(key, value)| match value {
            Value::String(name) if key == "peer.service" => Some(name.clone()),
            _ => None,
        });
        if let (Some(peer), Some(last)) = (peer, named.peer.last_mut()) {
            *last = named.buffer.service(&peer);
        }
    }
    named
}

#[test]
fn real_traces_come_out_as_computed_elsewhere() {
    for name in [
        "onlineboutique-2022-08-22-first200",
        "trainticket-2023-01-29-first200",
    ] {
        let folder = "datasets/nezha/dev-sample";
        let (Some(golden), Some(traces)) = (
            json(&format!("{folder}/{name}.golden.json")),
            Traces::read(&format!("{folder}/{name}.otlp.jsonl.gz")),
        ) else {
            return;
        };
        check_counts(&golden, &traces);
        check_links(&golden, &traces);
        check_services(&golden, &traces);
        let mut checked = 0;
        for details in list(&golden["trace_details"]) {
            let id = TraceId::parse(text(&details["trace_id"])).unwrap();
            check_trace(details, &named(&traces.0[&id]));
            checked += 1;
        }
        assert!(checked > 10);
    }
}

fn check_counts(golden: &Json, traces: &Traces) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut findings = Vec::new();
    for spans in traces.0.values() {
        let trace = named(spans);
        let columns = trace.buffer.columns();
        let forest = Forest::new(&columns);
        find(&columns, &forest, &mut findings);
        let summary = TraceSummary::new(&columns, &forest, &mut ServiceSet::default());
        let found = |wanted| findings.iter().filter(|f| f.contains(wanted)).count() as u64;
        for (key, count) in [
            ("rows", spans.len() as u64),
            ("distinct_spans", u64::from(summary.span_count)),
            ("traces", 1),
            ("roots", u64::from(summary.root_count)),
            ("orphans", u64::from(summary.orphan_count)),
            ("self_parents", found(Findings::CYCLE)),
            ("negative_durations", found(Findings::NEGATIVE_DURATION)),
            (
                "child_starts_before_parent",
                found(Findings::CHILD_BEFORE_PARENT),
            ),
            (
                "child_ends_after_parent",
                found(Findings::CHILD_OUTLIVES_PARENT),
            ),
        ] {
            *counts.entry(key).or_default() += count;
        }
    }
    for (key, count) in counts {
        assert_eq!(golden[key], count, "{key}");
    }
}

/// Links by parents, those within a service too, as far as they lead to another one.
fn check_links(golden: &Json, traces: &Traces) {
    let expected: BTreeMap<(String, String), u64> =
        list(&golden["dependency_edges_by_parent_span"])
            .iter()
            .map(|edge| {
                let service = |key: &str| text(&edge[key]).to_string();
                let calls = edge["calls"].as_u64().unwrap();
                ((service("parent"), service("child")), calls)
            })
            .collect();
    let mut strict: BTreeMap<(String, String), u64> = BTreeMap::new();
    for spans in traces.0.values() {
        for (key, calls) in named(spans).links(EdgeMode::Strict) {
            *strict.entry(key).or_default() += calls;
        }
    }
    let between = expected.into_iter().filter(|((a, b), _)| a != b);
    assert_eq!(strict, between.collect());
}

fn check_services(golden: &Json, traces: &Traces) {
    let mut found: BTreeMap<String, (u64, i64, i64)> = BTreeMap::new();
    for spans in traces.0.values() {
        let trace = named(spans);
        let columns = trace.buffer.columns();
        let forest = trace.forest();
        for stats in service_stats(&columns, &forest, &SelfTimes::new(&columns, &forest)) {
            let name = trace.buffer.service_name(stats.service).unwrap();
            let sum = found.entry(name.to_string()).or_default();
            sum.0 += u64::from(stats.span_count);
            sum.1 += stats.total_nano;
            sum.2 = sum.2.max(stats.max_nano);
        }
    }
    for stats in list(&golden["service_stats"]) {
        let found = found[text(&stats["service"])];
        assert_eq!(stats["spans"], found.0, "{stats}");
        assert_eq!(stats["total_ns"], found.1, "{stats}");
        assert_eq!(stats["max_ns"], found.2, "{stats}");
    }
}

fn check_trace(details: &Json, trace: &NamedTrace) {
    let forest = trace.forest();
    let columns = trace.buffer.columns();
    let summary = TraceSummary::new(&columns, &forest, &mut ServiceSet::default());
    assert_eq!(details["spans"], forest.len());
    assert_eq!(details["max_depth"], summary.max_depth);
    assert_eq!(
        list(&details["services"]).len(),
        summary.service_count as usize
    );
    let ids = |nodes: &mut dyn Iterator<Item = usize>| {
        let ids = nodes.map(|node| Json::from(trace.name(&forest, node)));
        ids.collect::<Vec<_>>()
    };
    assert_eq!(details["roots"], Json::from(ids(&mut forest.tops())));
    let deepest = text(&details["deepest_span"]);
    let deepest = (0..forest.len()).find(|node| trace.name(&forest, *node) == deepest);
    let ancestors = ids(&mut forest.ancestors(deepest.unwrap()));
    assert_eq!(details["ancestors_of_deepest"], Json::from(ancestors));
    let expected: Vec<(String, i64, i64)> =
        serde_json::from_value(details["critical_path_strict_ns"].clone()).unwrap();
    assert_eq!(trace.critical_path(), expected);
}

/// The traces of Zipkin spans, as they are taken in.
fn zipkin(spans: &Json) -> Traces {
    let mut traces = Traces::default();
    let text = spans.to_string();
    decode(
        text.as_bytes(),
        "spans.json",
        Some(Format::Zipkin),
        &mut traces,
    )
    .unwrap();
    traces
}

fn sum_links(traces: &Traces, mode: EdgeMode) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for spans in traces.0.values() {
        for (key, calls) in named(spans).links(mode) {
            *sums.entry(key).or_default() += calls;
        }
    }
    sums
}

fn zipkin_links(links: &Json) -> BTreeMap<(String, String), u64> {
    let links = list(links).iter().map(|link| {
        let service = |key: &str| text(&link[key]).to_string();
        let calls = link["callCount"].as_u64().unwrap();
        ((service("parent"), service("child")), calls)
    });
    links.collect()
}

#[test]
fn links_are_those_of_zipkins_linker() {
    let Some(json) = json("zipkin/linker/dependency_linker_cases.json") else {
        return;
    };
    for case in cases(&json) {
        let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
        for trace in list(&case["traces"]) {
            for (key, calls) in sum_links(&zipkin(trace), EdgeMode::Zipkin) {
                *found.entry(key).or_default() += calls;
            }
        }
        assert_eq!(
            found,
            zipkin_links(&case["expected_links"]),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn links_and_trees_of_zipkins_traces_are_zipkins() {
    let Some(json) = json("zipkin/linker/testdata_goldens.json") else {
        return;
    };
    for (file, golden) in json["files"].as_object().unwrap() {
        // There the halves of shared spans are told apart by address and port as well as by
        // service, and children of neither half's service are the client's; here they are the
        // server's, which called on.
        if file == "yelp.json" {
            continue;
        }
        let name = format!("zipkin/testdata/{file}");
        let traces = Traces::read(&name).unwrap();
        let found = sum_links(&traces, EdgeMode::Zipkin);
        assert_eq!(found, zipkin_links(&golden["dependency_links"]), "{file}");
        let given = fs::read_to_string(fixture(&name).unwrap()).unwrap();
        for spans in traces.0.values() {
            check_zipkin_tree(file, &named(spans), &given, golden);
        }
    }
}

/// Each span stands under the span it does in Zipkin, but that what has no parent there hangs
/// under the first root (or under a span that is none), and here stands for itself.
fn check_zipkin_tree(file: &str, trace: &NamedTrace, given: &str, golden: &Json) {
    let forest = trace.forest();
    // A server's half of a shared span has got an id of its own, and the client's as its parent.
    let name = |node: usize| {
        let id = trace.name(&forest, node);
        match forest.parent(node) {
            Some(parent) if !given.contains(id) => format!("{}*", trace.name(&forest, parent)),
            _ => id.to_string(),
        }
    };
    let golden = list(&golden["tree_depth_first"]);
    let has_client = |id: &str| {
        let mut halves = golden.iter().filter(|span| span["id"] == id);
        halves.any(|span| span["shared"] != true)
    };
    // A server of which the client never reported keeps its id.
    let unmarked = |name: &str| match name.strip_suffix('*') {
        Some(id) if !has_client(id) => id.to_string(),
        _ => name.to_string(),
    };
    let spans = golden.iter().filter(|span| span["id"].is_string());
    let mut expected: BTreeMap<String, Option<String>> = spans
        .map(|span| {
            let mark = if span["shared"] == true { "*" } else { "" };
            let own = format!("{}{mark}", text(&span["id"]));
            (unmarked(&own), span["parent"].as_str().map(unmarked))
        })
        .collect();
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for node in 0..forest.len() {
        let parent = forest.parent(node).map(name);
        if parent.is_none() {
            expected.insert(name(node), None);
        }
        found.insert(name(node), parent);
    }
    assert_eq!(found, expected, "{file}");
}

#[test]
fn links_are_those_of_jaegers_job() {
    let Some(json) = json("jaeger/transcribed/spark_dependency_cases.json") else {
        return;
    };
    for case in cases(&json) {
        // Of several references one is the parent here.
        if list(&case["spans"])
            .iter()
            .any(|span| list(&span["parents"]).len() > 1)
        {
            continue;
        }
        let mut trace = NamedTrace::default();
        for span in list(&case["spans"]) {
            let parent = list(&span["parents"]).first().map(text);
            let kind = SpanKind::from_name(text(&span["kind"])).unwrap_or_default();
            trace.push(
                (text(&span["spanID"]), parent),
                (text(&span["service"]), "name"),
                (0, Some(1)),
                kind,
            );
            if let Some(peer) = span["tags"]["peer.service"].as_str() {
                let peer = trace.buffer.service(peer);
                *trace.peer.last_mut().unwrap() = peer;
            }
        }
        let expected = list(&case["expected"]).iter().map(|link| {
            let services = (text(&link[0]).to_string(), text(&link[1]).to_string());
            (services, link[2].as_u64().unwrap())
        });
        let expected: BTreeMap<_, _> = expected.collect();
        assert_eq!(trace.links(EdgeMode::Jaeger), expected, "{}", case["name"]);
    }
}

#[test]
fn families_are_those_of_promscale() {
    let (Some(json), Some(traces)) = (
        json("promscale/tree_function_cases.json"),
        Traces::read("promscale/trace_tree.otlp.json"),
    ) else {
        return;
    };
    for case in cases(&json) {
        let args = list(&case["args"]);
        let id = TraceId::parse(text(&args[0])).unwrap();
        let trace = named(&traces.0[&id]);
        let found = family(&trace, text(&case["fn"]), &args[1..]);
        let expected: BTreeSet<String> = list(&case["expected"])
            .iter()
            .map(Json::to_string)
            .collect();
        let found: BTreeSet<String> = found.iter().map(Json::to_string).collect();
        assert_eq!(found, expected, "{case}");
    }
}

/// The answer of one of Promscale's functions, in its columns.
fn family(trace: &NamedTrace, function: &str, args: &[Json]) -> Vec<Json> {
    let forest = trace.forest();
    let number = |node: usize| u64::from_str_radix(trace.name(&forest, node), 16).unwrap();
    let parent = |node: usize| forest.parent(node).map(number);
    // From one node down to another.
    let path = |above: usize, below: usize| {
        let mut path: Vec<u64> = std::iter::once(below)
            .chain(forest.ancestors(below))
            .take_while(|node| *node >= above)
            .map(number)
            .collect();
        path.reverse();
        path
    };
    let nodes = 0..forest.len();
    let node_of = |arg: &Json| {
        nodes
            .clone()
            .find(|node| arg.as_u64() == Some(number(*node)))
    };
    let of = args.first().and_then(node_of);
    let limit = args.get(1).map_or(usize::MAX, |limit| {
        text(limit).trim_start_matches("max_dist=").parse().unwrap()
    });
    let function = function.split(' ').next().unwrap_or_default();
    let rows = nodes.clone().filter_map(|node| {
        let row = match (function, of) {
            ("trace_tree", _) => {
                let top = forest.ancestors(node).last().unwrap_or(node);
                let level = forest.depth(node) + 1;
                serde_json::json!([number(node), parent(node), level, path(top, node)])
            }
            ("siblings", Some(of)) => {
                if forest.parent(node) != forest.parent(of) {
                    return None;
                }
                serde_json::json!([number(node), parent(node)])
            }
            (_, Some(of)) => {
                let is_above = forest.is_ancestor(node, of);
                let is_below = forest.is_ancestor(of, node);
                let distance = forest.depth(of).abs_diff(forest.depth(node));
                let path = path(of.min(node), of.max(node));
                let wanted = match function {
                    "upstream" => is_above || node == of,
                    "downstream" => is_below || node == of,
                    _ => is_above || is_below || node == of,
                };
                if !wanted || distance > limit {
                    return None;
                }
                if function == "span_tree" {
                    let sides = (is_above, is_below);
                    serde_json::json!([
                        number(node),
                        parent(node),
                        distance,
                        sides.0,
                        sides.1,
                        path
                    ])
                } else {
                    serde_json::json!([number(node), parent(node), distance, path])
                }
            }
            _ => return None,
        };
        Some(row)
    });
    rows.collect()
}
