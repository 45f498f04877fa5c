//! `service_edges`: every call from one service to another.
//!
//! Read [`ServiceEdgesRelation`]; what an edge is is said at
//! [`service_edges`](crate::trace::service_edges).

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringViewArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_err};

use super::column_buffer::{id_column, time_column};
use super::needs::Needs;
use super::peers::Peers;
use super::range_rows::{RangeRows, TraceRows};
use super::relation::{RelationRows, TraceRelation};
use crate::span::{IdKind, column, logical_schema};
use crate::table::stored_index;
use crate::trace::{
    EdgeDetails, EdgeKind, EdgeMode, Forest, LinkTarget, NONE, ServiceEdge, UNFINISHED,
    service_edges,
};

/// A row a call: GROUP BY makes graphs of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceEdgesRelation {
    mode: EdgeMode,
}

impl ServiceEdgesRelation {
    /// The edges of a mode.
    pub fn new(mode: EdgeMode) -> Self {
        Self { mode }
    }
}

const COLUMNS: [&str; 10] = [
    "trace_id",
    "caller",
    "callee",
    "kind",
    "caller_span_id",
    "callee_span_id",
    "start_time",
    "duration_nano",
    "has_error",
    "is_virtual",
];

fn service_edges_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = COLUMNS.map(|name| match name {
            "trace_id" => IdKind::Trace.mark(Field::new(name, DataType::Utf8View, false)),
            "caller_span_id" | "callee_span_id" => {
                IdKind::Span.mark(Field::new(name, DataType::Utf8View, true))
            }
            "start_time" => {
                let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
                Field::new(name, time, false)
            }
            "duration_nano" => Field::new(name, DataType::Int64, true),
            "has_error" | "is_virtual" => Field::new(name, DataType::Boolean, false),
            _ => Field::new(name, DataType::Utf8View, false),
        });
        Arc::new(Schema::new(fields.to_vec()))
    });
    Arc::clone(&SCHEMA)
}

impl TraceRelation for ServiceEdgesRelation {
    fn name(&self) -> &'static str {
        "service_edges"
    }

    fn schema(&self) -> SchemaRef {
        service_edges_schema()
    }

    fn needs(&self, _projection: &[usize]) -> Needs {
        Needs::TREE.and(Needs::STATUS)
    }

    fn passed(&self, _projection: &[usize]) -> Vec<usize> {
        if self.mode == EdgeMode::Strict {
            return Vec::new();
        }
        let attributes = logical_schema().index_of("attributes").ok();
        let links = stored_index(column::LINKS).ok();
        attributes.into_iter().chain(links).collect()
    }

    fn follows_links(&self) -> bool {
        self.mode == EdgeMode::Calls
    }

    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows> {
        Box::new(EdgeRows {
            mode: self.mode,
            projection: projection.to_vec(),
            start_nanos,
            forest: Forest::default(),
            peers: Peers::default(),
            peer_of_row: Vec::new(),
            links: Vec::new(),
            found: Vec::new(),
            edges: Vec::new(),
        })
    }
}

/// The edges so far.
struct EdgeRows {
    mode: EdgeMode,
    projection: Vec<usize>,
    start_nanos: (i64, i64),
    forest: Forest,
    peers: Peers,
    peer_of_row: Vec<u32>,
    links: Vec<(u32, LinkTarget)>,
    found: Vec<ServiceEdge>,
    edges: Vec<EdgeRow>,
}

#[derive(Debug, Clone, Copy)]
struct EdgeRow {
    trace: u128,
    caller_span_id: u64,
    callee_span_id: u64,
    start: i64,
    edge: ServiceEdge,
}

/// The links stored with a row of the range: trace and span they lead to.
pub(super) fn stored_links(
    links: &ListArray,
    place: usize,
) -> impl Iterator<Item = (u128, u64)> + '_ {
    let fields = links.values().as_struct_opt();
    let ids = fields.and_then(|fields| {
        let traces = fields.column_by_name(column::TRACE_ID)?;
        let spans = fields.column_by_name(column::SPAN_ID)?;
        Some((
            traces.as_fixed_size_binary_opt()?,
            spans.as_fixed_size_binary_opt()?,
        ))
    });
    let offsets = links.value_offsets();
    let entries = match ids {
        Some(_) if links.is_valid(place) => offsets[place] as usize..offsets[place + 1] as usize,
        _ => 0..0,
    };
    entries.filter_map(move |entry| {
        let (traces, spans) = ids?;
        let trace = traces.value(entry).try_into().ok()?;
        let span = spans.value(entry).try_into().ok()?;
        Some((u128::from_be_bytes(trace), u64::from_be_bytes(span)))
    })
}

impl EdgeRows {
    fn find_details(&mut self, trace: &TraceRows<'_>) {
        let count = trace.columns.len();
        self.peer_of_row.clear();
        self.peer_of_row.resize(count, NONE);
        self.links.clear();
        let texts = trace.range.passed(0);
        if let Some(texts) = texts.and_then(|texts| texts.as_string_view_opt()) {
            self.find_peers(trace, texts);
        }
        let links = trace.range.passed(1);
        if let Some(links) = links.and_then(|links| links.as_list_opt::<i32>()) {
            for row in 0..count {
                for (linked, span) in stored_links(links, trace.place(row) as usize) {
                    let target = if linked == trace.trace {
                        Some(LinkTarget::Span(span))
                    } else {
                        trace.range.linked(linked, span)
                    };
                    let target = target.map(|target| (row as u32, target));
                    self.links.extend(target);
                }
            }
        }
    }

    fn find_peers(&mut self, trace: &TraceRows<'_>, texts: &StringViewArray) {
        use crate::span::SpanKind;
        for node in 0..self.forest.len() {
            let row = self.forest.row(node);
            let is_leaf = self.forest.child_counts()[node] == 0;
            let place = trace.place(row) as usize;
            if is_leaf && trace.columns.kind(row) == SpanKind::Client && texts.is_valid(place) {
                let services = &trace.range.services;
                self.peer_of_row[row] = self.peers.of(texts.value(place), services);
            }
        }
    }
}

impl RelationRows for EdgeRows {
    fn push(&mut self, trace: &TraceRows<'_>) {
        let columns = &trace.columns;
        self.forest.rebuild(columns);
        let mut details = EdgeDetails::default();
        if self.mode == EdgeMode::Calls {
            self.find_details(trace);
            details = EdgeDetails {
                peer: &self.peer_of_row,
                links: &self.links,
            };
        }
        self.found.clear();
        let (forest, mode) = (&self.forest, self.mode);
        service_edges(columns, forest, &details, mode, &mut self.found);
        let (least, greatest) = self.start_nanos;
        let id = |node: usize| columns.span_id.get(forest.row(node)).copied().unwrap_or(0);
        let mut previous = NONE;
        for edge in &self.found {
            let node = edge.node as usize;
            let is_first = edge.node != previous;
            previous = edge.node;
            let start = columns.start(forest.row(node));
            if start < least || start > greatest {
                continue;
            }
            let (caller_span_id, callee_span_id) = match edge.kind {
                EdgeKind::Virtual => (id(node), 0),
                _ => {
                    // The edge from a parent of another service comes before those of links.
                    let parent = forest.parent(node).filter(|parent| {
                        is_first && columns.service(forest.row(*parent)) == edge.caller
                    });
                    (parent.map_or(0, id), id(node))
                }
            };
            self.edges.push(EdgeRow {
                trace: trace.trace,
                caller_span_id,
                callee_span_id,
                start,
                edge: *edge,
            });
        }
    }

    fn len(&self) -> usize {
        self.edges.len()
    }

    fn size(&self) -> usize {
        // The rows, and the columns they become.
        self.edges.len() * 3 * size_of::<EdgeRow>()
    }

    fn finish(&mut self, range: &RangeRows) -> Result<Vec<ArrayRef>> {
        let edges = std::mem::take(&mut self.edges);
        let known = |id: u64| (id != 0).then(|| id.to_be_bytes());
        let columns = self.projection.iter().map(|index| {
            let name = COLUMNS.get(*index).copied().unwrap_or_default();
            Ok(match name {
                "trace_id" => id_column(edges.iter().map(|row| Some(row.trace.to_be_bytes()))),
                "caller_span_id" => id_column(edges.iter().map(|row| known(row.caller_span_id))),
                "callee_span_id" => id_column(edges.iter().map(|row| known(row.callee_span_id))),
                "caller" => {
                    let callers: Vec<u32> = edges.iter().map(|row| row.edge.caller).collect();
                    self.peers.column(&callers, &range.services)
                }
                "callee" => {
                    let callees: Vec<u32> = edges.iter().map(|row| row.edge.callee).collect();
                    self.peers.column(&callees, &range.services)
                }
                "kind" => {
                    let kinds = edges.iter().map(|row| row.edge.kind.name());
                    Arc::new(StringViewArray::from_iter_values(kinds))
                }
                "start_time" => time_column(edges.iter().map(|row| row.start).collect()),
                "duration_nano" => {
                    let nanos = edges.iter().map(|row| row.edge.duration_nano);
                    let nanos = nanos.map(|nano| (nano != UNFINISHED).then_some(nano));
                    Arc::new(nanos.collect::<Int64Array>())
                }
                "has_error" => flags(edges.iter().map(|row| row.edge.is_error)),
                "is_virtual" => flags(edges.iter().map(|row| row.edge.kind == EdgeKind::Virtual)),
                other => return exec_err!("service_edges has no column `{other}`"),
            })
        });
        columns.collect()
    }
}

fn flags(flags: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(flags.collect::<Vec<_>>()))
}
