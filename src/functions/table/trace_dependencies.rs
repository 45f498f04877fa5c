//! `trace_dependencies`: which service called which in a trace.
//!
//! Read [`TraceDependenciesFunc`]; what an edge is says [`service_edges`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{Arguments, Parameter};
use super::trace_function::TraceFunction;
use super::trace_reader::TraceReader;
use crate::error::Result;
use crate::span::{JsonLookup, SpanKind, TraceId, render_value};
use crate::trace::{
    EdgeDetails, EdgeKind, EdgeMode, LinkTarget, NONE, ServiceEdge, Trace, TraceBuffer, UNFINISHED,
    service_edges,
};

/// Traces of linked producers that are looked at, at the most.
const LINKED_TRACES: usize = 256;

/// `trace_dependencies(trace_id)`.
#[derive(Debug)]
pub(super) struct TraceDependenciesFunc;

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Float64, Int64, Utf8View};
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            required("caller", Utf8View),
            required("callee", Utf8View),
            required("kind", Utf8View),
            required("call_count", Int64),
            required("error_count", Int64),
            optional("p50_duration_nano", Float64),
            optional("p95_duration_nano", Float64),
            optional("p99_duration_nano", Float64),
            required("total_duration_nano", Int64),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// One caller, callee and kind.
#[derive(Debug, Default)]
struct Dependency {
    call_count: i64,
    error_count: i64,
    total_nano: i64,
    durations: Vec<i64>,
}

impl Dependency {
    fn add(&mut self, edge: &ServiceEdge) {
        self.call_count += 1;
        self.error_count += i64::from(edge.is_error);
        if edge.duration_nano != UNFINISHED {
            self.durations.push(edge.duration_nano);
            self.total_nano = self.total_nano.saturating_add(edge.duration_nano);
        }
    }

    /// As `quantile_cont` has it: between two durations, linearly.
    fn quantile(&self, fraction: f64) -> Option<f64> {
        let last = self.durations.len().checked_sub(1)?;
        let place = fraction * last as f64;
        let low = place.floor() as usize;
        let (below, above) = (self.durations[low], self.durations[(low + 1).min(last)]);
        let (below, above) = (below as f64, above as f64);
        Some(below + (above - below) * (place - low as f64))
    }
}

/// The edges of a trace, of which `linked` are the traces that its spans link to.
fn dependencies(trace: &Trace, linked: &HashMap<TraceId, Arc<Trace>>) -> Result<RecordBatch> {
    // Peers and the services of linked traces are numbered with the trace's own.
    let mut buffer = TraceBuffer::default();
    trace.push_spans(&mut buffer)?;
    let peer = peers(trace, &mut buffer);
    let links = links(trace, linked, &mut buffer);
    let details = EdgeDetails {
        peer: &peer,
        links: &links,
    };
    let mut edges = Vec::new();
    let columns = buffer.columns();
    service_edges(
        &columns,
        trace.forest(),
        &details,
        EdgeMode::Calls,
        &mut edges,
    );
    let mut by_services: BTreeMap<(&str, &str, EdgeKind), Dependency> = BTreeMap::new();
    let name = |number: u32| buffer.service_name(number).unwrap_or_default();
    for edge in &edges {
        let key = (name(edge.caller), name(edge.callee), edge.kind);
        by_services.entry(key).or_default().add(edge);
    }
    for dependency in by_services.values_mut() {
        dependency.durations.sort_unstable();
    }
    let texts = |text: fn(&(&str, &str, EdgeKind)) -> String| -> ArrayRef {
        let texts = by_services.keys().map(text);
        Arc::new(StringViewArray::from_iter_values(texts))
    };
    let numbers = |number: fn(&Dependency) -> i64| -> ArrayRef {
        let numbers = by_services.values().map(number);
        Arc::new(Int64Array::from_iter_values(numbers))
    };
    let quantiles = |fraction: f64| -> ArrayRef {
        let quantiles = by_services.values().map(|d| d.quantile(fraction));
        Arc::new(quantiles.collect::<Float64Array>())
    };
    let columns = vec![
        texts(|(caller, _, _)| (*caller).to_string()),
        texts(|(_, callee, _)| (*callee).to_string()),
        texts(|(_, _, kind)| kind.name().to_string()),
        numbers(|dependency| dependency.call_count),
        numbers(|dependency| dependency.error_count),
        quantiles(0.5),
        quantiles(0.95),
        quantiles(0.99),
        numbers(|dependency| dependency.total_nano),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// For each row the number of the service it says it calls.
fn peers(trace: &Trace, buffer: &mut TraceBuffer) -> Vec<u32> {
    let keys = EdgeMode::Calls.peer_keys().iter();
    let finders: Vec<JsonLookup> = keys.copied().map(JsonLookup::new).collect();
    let attributes = trace.rows().column_by_name("attributes");
    let Some(attributes) = attributes.and_then(|column| column.as_string_view_opt()) else {
        return Vec::new();
    };
    let peer = |row: usize| {
        let object = attributes.is_valid(row).then(|| attributes.value(row))?;
        let mut values = finders.iter().filter_map(|finder| {
            let value = finder.find(object).and_then(render_value)?;
            (!value.is_empty()).then_some(value)
        });
        values.next()
    };
    (0..trace.span_count())
        .map(|row| peer(row).map_or(NONE, |name| buffer.service(&name)))
        .collect()
}

/// The links of CONSUMER spans: to spans of the trace itself, or of the traces given.
fn links(
    trace: &Trace,
    linked: &HashMap<TraceId, Arc<Trace>>,
    buffer: &mut TraceBuffer,
) -> Vec<(u32, LinkTarget)> {
    let mut links = Vec::new();
    for (row, trace_id, span_id) in consumer_links(trace) {
        if trace_id == trace.id() {
            links.push((row, LinkTarget::Span(span_id)));
            continue;
        }
        let Some(other) = linked.get(&trace_id) else {
            continue;
        };
        let columns = other.columns();
        let found = columns.span_id.iter().position(|id| *id == span_id);
        let service = found.map(|row| (row, other.service_name(columns.service(row))));
        if let Some((found, service)) = service.filter(|(_, name)| !name.is_empty()) {
            let service = buffer.service(service);
            let kind = columns.kind(found) as i8;
            links.push((row, LinkTarget::Elsewhere { service, kind }));
        }
    }
    links
}

/// Row, trace and span of every link that a CONSUMER has.
fn consumer_links(trace: &Trace) -> impl Iterator<Item = (u32, TraceId, u64)> + '_ {
    let columns = trace.columns();
    trace.references().into_iter().filter_map(move |reference| {
        let span_id = reference.span_id?;
        let is_consumer = columns.kind(reference.row) == SpanKind::Consumer;
        let row = u32::try_from(reference.row).ok()?;
        let span_id = u64::from_be_bytes(*span_id.as_bytes());
        is_consumer.then_some((row, reference.trace_id, span_id))
    })
}

#[async_trait]
impl TraceFunction for TraceDependenciesFunc {
    fn name(&self) -> &'static str {
        "trace_dependencies"
    }

    fn documentation(&self) -> Documentation {
        Documentation::builder(
            DocSection::default(),
            "Which service called which in a trace, one row a caller, callee and kind: `call`, \
             `messaging` (from a producer to its consumer, also by a link into another trace), or \
             `virtual` (a client's call of what sends no spans: `peer.service`, `server.address`, \
             `db.system.name` or `db.system`). Durations are those of the called side.",
            "trace_dependencies(trace_id)",
        )
        .with_sql_example(
            "select caller, callee, kind, call_count\n\
             from trace_dependencies('5b1e7f00c0ffee00a11ce00000000001');\n\
             +---------+------------+---------+------------+\n\
             | caller  | callee     | kind    | call_count |\n\
             +---------+------------+---------+------------+\n\
             | catalog | postgresql | virtual | 1          |\n\
             | library | catalog    | call    | 1          |\n\
             +---------+------------+---------+------------+",
        )
        .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
        .build()
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::Trace]
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn rows(&self, reader: &dyn TraceReader, arguments: &Arguments) -> Result<RecordBatch> {
        let found = reader.traces(&arguments.trace_ids).await?;
        let Some(trace) = found.into_iter().flatten().next() else {
            return Ok(RecordBatch::new_empty(schema()));
        };
        let mut ids: Vec<TraceId> = Vec::new();
        for (_, id, _) in consumer_links(&trace) {
            if id != trace.id() && !ids.contains(&id) && ids.len() < LINKED_TRACES {
                ids.push(id);
            }
        }
        let linked = reader.traces(&ids).await?.into_iter().flatten();
        let linked = linked.map(|trace| (trace.id(), trace)).collect();
        dependencies(&trace, &linked)
    }
}
