//! `service_edges`: every call from one service to another.
//!
//! Read [`ServiceEdgesRelation`]; what an edge is is said at
//! [`service_edges`](crate::trace::service_edges).

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::lit as physical_lit;
use datafusion::physical_expr::projection::ProjectionExpr;

use super::column_buffer::{id_column, time_column};
use super::edge_finder::EdgeFinder;
use super::needs::Needs;
use super::range_rows::{RangeRows, TraceRows};
use super::relation::{RelationRows, TraceRelation};
use crate::span::{IdKind, column, logical_schema};
use crate::table::{scan_column, span_column_schema, stored_index};
use crate::trace::{EdgeKind, EdgeMode, NONE, ServiceEdge, UNFINISHED};

/// A row a call: GROUP BY makes graphs of it.
#[derive(Debug, Clone)]
pub struct ServiceEdgesRelation {
    mode: EdgeMode,
    /// What looks up an attribute, for edges to what sends no spans.
    attribute: Arc<ScalarUDF>,
}

impl ServiceEdgesRelation {
    /// Edges by the rules of a mode. `attribute` is the function that looks up an attribute as
    /// text.
    pub fn new(mode: EdgeMode, attribute: Arc<ScalarUDF>) -> Self {
        Self { mode, attribute }
    }

    /// Which edges these are.
    pub(super) fn mode(&self) -> EdgeMode {
        self.mode
    }

    /// The links of each span, where the mode follows them.
    pub(super) fn links(&self) -> Vec<ProjectionExpr> {
        let links = self.follows_links().then_some(column::LINKS);
        let links = links.and_then(|links| stored_index(links).ok().map(scan_column));
        links.into_iter().collect()
    }

    /// What names the peer of a span.
    pub(super) fn peer_names(&self) -> Vec<ProjectionExpr> {
        let schema = span_column_schema();
        let peers = self.mode.peer_keys().iter().filter_map(|key| {
            let attributes = logical_schema().index_of("attributes").ok()?;
            let arguments = vec![scan_column(attributes).expr, physical_lit(*key)];
            let function = Arc::clone(&self.attribute);
            let options = Arc::new(ConfigOptions::default());
            let call = ScalarFunctionExpr::try_new(function, arguments, &schema, options).ok()?;
            Some(ProjectionExpr::new(Arc::new(call), (*key).to_string()))
        });
        peers.collect()
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

    fn passed(&self, _projection: &[usize]) -> Vec<ProjectionExpr> {
        self.links()
    }

    fn peers(&self) -> Vec<ProjectionExpr> {
        self.peer_names()
    }

    fn follows_links(&self) -> bool {
        self.mode() == EdgeMode::Calls
    }

    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows> {
        Box::new(EdgeRows {
            finder: EdgeFinder::new(self.mode(), start_nanos),
            projection: projection.to_vec(),
            edges: Vec::new(),
        })
    }
}

/// The edges so far.
struct EdgeRows {
    projection: Vec<usize>,
    finder: EdgeFinder,
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

impl RelationRows for EdgeRows {
    fn push(&mut self, trace: &TraceRows<'_>) {
        let found = self.finder.find(trace);
        let columns = &trace.columns;
        let forest = found.forest;
        let id = |node: usize| columns.span_id.get(forest.row(node)).copied().unwrap_or(0);
        let mut previous = NONE;
        for edge in found.edges {
            let node = edge.node as usize;
            let is_first = edge.node != previous;
            previous = edge.node;
            let start = columns.start(forest.row(node));
            if !found.is_asked_for(start) {
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
                    range.peers.column(&callers, &range.services)
                }
                "callee" => {
                    let callees: Vec<u32> = edges.iter().map(|row| row.edge.callee).collect();
                    range.peers.column(&callees, &range.services)
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
