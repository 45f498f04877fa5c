//! Edges between services, counted where they are found.
//!
//! Read [`EdgeCountsRelation`]. It has no name in SQL: `service_dependencies` reads it where
//! nobody asks for quantiles.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr::projection::ProjectionExpr;

use super::ServiceEdgesRelation;
use super::edge_finder::EdgeFinder;
use super::needs::Needs;
use super::range_rows::{RangeRows, TraceRows};
use super::relation::{RelationRows, TraceRelation};
use crate::span::SpanKind;
use crate::trace::{EdgeKind, EdgeMode, NO_OFFSET, NONE, UNFINISHED};

/// Callers, callees and kinds with how many calls, errors and nanoseconds there are; a few rows
/// for each, to be summed up.
#[derive(Debug, Clone)]
pub struct EdgeCountsRelation {
    edges: ServiceEdgesRelation,
}

impl EdgeCountsRelation {
    /// Counts these edges.
    pub fn new(edges: ServiceEdgesRelation) -> Self {
        Self { edges }
    }
}

const COLUMNS: [&str; 6] = [
    "caller",
    "callee",
    "kind",
    "call_count",
    "error_count",
    "duration_nano",
];

fn edge_counts_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = COLUMNS.map(|name| match name {
            "caller" | "callee" | "kind" => Field::new(name, DataType::Utf8View, false),
            _ => Field::new(name, DataType::Int64, false),
        });
        Arc::new(Schema::new(fields.to_vec()))
    });
    Arc::clone(&SCHEMA)
}

impl TraceRelation for EdgeCountsRelation {
    fn name(&self) -> &'static str {
        "service_edges (counted)"
    }

    fn schema(&self) -> SchemaRef {
        edge_counts_schema()
    }

    fn trace_id_column(&self) -> Option<usize> {
        None
    }

    fn needs(&self, _projection: &[usize]) -> Needs {
        Needs::TREE.and(Needs::STATUS)
    }

    fn passed(&self, _projection: &[usize]) -> Vec<ProjectionExpr> {
        self.edges.links()
    }

    fn peers(&self) -> Vec<ProjectionExpr> {
        self.edges.peer_names()
    }

    fn follows_links(&self) -> bool {
        self.edges.follows_links()
    }

    fn quick_needs(&self, projection: &[usize], any_start: bool) -> Option<Needs> {
        if self.edges.mode() != EdgeMode::Strict {
            return None;
        }
        let needs = |column: &usize| match COLUMNS.get(*column) {
            Some(&"kind") => Needs::KIND,
            Some(&"error_count") => Needs::STATUS,
            Some(&"duration_nano") => Needs::DURATION,
            _ => Needs::default(),
        };
        let least = Needs::SPAN_ID.and(Needs::PARENT_OFFSET).and(Needs::SERVICE);
        let least = if any_start {
            least
        } else {
            least.and(Needs::START)
        };
        Some(projection.iter().map(needs).fold(least, Needs::and))
    }

    fn rows(&self, projection: &[usize], start_nanos: (i64, i64)) -> Box<dyn RelationRows> {
        Box::new(CountRows {
            projection: projection.to_vec(),
            start_nanos,
            finder: EdgeFinder::new(self.edges.mode(), start_nanos),
            few: vec![Counts::default(); FEW * FEW * EdgeKind::ALL.len()],
            more: HashMap::new(),
            found: Vec::new(),
        })
    }
}

/// Pairs of services with numbers below are counted in a table.
const FEW: usize = 64;

/// A caller, a callee and a kind.
type Edge = (u32, u32, EdgeKind);

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    calls: i64,
    errors: i64,
    nanos: i64,
}

/// The counts so far.
struct CountRows {
    projection: Vec<usize>,
    start_nanos: (i64, i64),
    finder: EdgeFinder,
    few: Vec<Counts>,
    more: HashMap<Edge, Counts>,
    /// The edges that have counts, in the order in which they were found.
    found: Vec<Edge>,
}

impl CountRows {
    fn counts(&mut self, edge: Edge) -> &mut Counts {
        let (caller, callee, kind) = edge;
        let (caller, callee) = (caller as usize, callee as usize);
        if caller < FEW && callee < FEW {
            &mut self.few[(caller * FEW + callee) * EdgeKind::ALL.len() + kind as usize]
        } else {
            self.more.entry(edge).or_default()
        }
    }

    fn add(&mut self, edge: Edge, has_error: bool, duration: i64) {
        let counts = self.counts(edge);
        let is_new = counts.calls == 0;
        counts.calls += 1;
        counts.errors += i64::from(has_error);
        if duration != UNFINISHED {
            counts.nanos = counts.nanos.wrapping_add(duration);
        }
        if is_new {
            self.found.push(edge);
        }
    }
}

impl RelationRows for CountRows {
    fn push(&mut self, trace: &TraceRows<'_>) {
        let columns = &trace.columns;
        let mut edges = Vec::new();
        let found = self.finder.find(trace);
        for edge in found.edges {
            if found.is_asked_for(columns.start(found.forest.row(edge.node as usize))) {
                edges.push(*edge);
            }
        }
        for edge in edges {
            let key = (edge.caller, edge.callee, edge.kind);
            self.add(key, edge.is_error, edge.duration_nano);
        }
    }

    /// The parent of a row is where its offset leads. Only what is strict is simple.
    fn push_simple(&mut self, trace: &TraceRows<'_>) {
        let columns = &trace.columns;
        let kind_of = |row: usize| columns.kind.get(row).copied().unwrap_or(0);
        for (row, offset) in columns.parent_offset.iter().enumerate() {
            if *offset == NO_OFFSET {
                continue;
            }
            let Some(parent) = row.checked_add_signed(*offset as isize) else {
                continue;
            };
            let (caller, callee) = (columns.service[parent], columns.service[row]);
            if caller == callee || caller == NONE || callee == NONE {
                continue;
            }
            let start = columns.start_time_unix_nano.get(row);
            let (least, greatest) = self.start_nanos;
            if start.is_some_and(|start| *start < least || *start > greatest) {
                continue;
            }
            let is_message = kind_of(row) == SpanKind::Consumer as i8
                || kind_of(parent) == SpanKind::Producer as i8;
            let kind = if is_message {
                EdgeKind::Messaging
            } else {
                EdgeKind::Call
            };
            let duration = columns.duration_nano.get(row).copied();
            let duration = duration.unwrap_or(UNFINISHED);
            self.add((caller, callee, kind), columns.has_error(row), duration);
        }
    }

    fn len(&self) -> usize {
        self.found.len()
    }

    fn size(&self) -> usize {
        self.few.len() * size_of::<Counts>() + self.found.len() * 128
    }

    fn finish(&mut self, range: &RangeRows) -> Result<Vec<ArrayRef>> {
        let found = std::mem::take(&mut self.found);
        let mut counts = Vec::with_capacity(found.len());
        for edge in &found {
            counts.push(std::mem::take(self.counts(*edge)));
        }
        let ints = |number: fn(&Counts) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(counts.iter().map(number)))
        };
        let columns = self.projection.iter().map(|index| {
            let name = COLUMNS.get(*index).copied().unwrap_or_default();
            Ok(match name {
                "caller" => {
                    let callers: Vec<u32> = found.iter().map(|edge| edge.0).collect();
                    range.peers.column(&callers, &range.services)
                }
                "callee" => {
                    let callees: Vec<u32> = found.iter().map(|edge| edge.1).collect();
                    range.peers.column(&callees, &range.services)
                }
                "kind" => {
                    let kinds = found.iter().map(|edge| edge.2.name());
                    Arc::new(StringViewArray::from_iter_values(kinds))
                }
                "call_count" => ints(|counts| counts.calls),
                "error_count" => ints(|counts| counts.errors),
                "duration_nano" => ints(|counts| counts.nanos),
                other => return exec_err!("counts of edges have no column `{other}`"),
            })
        });
        columns.collect()
    }
}
