//! Finds the edges of one trace after another.
//!
//! Read [`EdgeFinder`].

use arrow::array::{Array, AsArray, ListArray};

use super::range_rows::TraceRows;
use crate::span::{SpanKind, column};
use crate::trace::{EdgeDetails, EdgeMode, Forest, LinkTarget, NONE, ServiceEdge, service_edges};

/// The edges of traces, with all that is needed to find them.
#[derive(Debug)]
pub(super) struct EdgeFinder {
    mode: EdgeMode,
    start_nanos: (i64, i64),
    forest: Forest,
    peer_of_row: Vec<u32>,
    links: Vec<(u32, LinkTarget)>,
    edges: Vec<ServiceEdge>,
}

/// The edges of a trace.
pub(super) struct FoundEdges<'a> {
    pub(super) forest: &'a Forest,
    pub(super) edges: &'a [ServiceEdge],
    start_nanos: (i64, i64),
}

impl FoundEdges<'_> {
    /// Whether a call whose called side starts then was asked for.
    pub(super) fn is_asked_for(&self, start: i64) -> bool {
        (self.start_nanos.0..=self.start_nanos.1).contains(&start)
    }
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

impl EdgeFinder {
    /// Finds edges of that mode, for somebody who asks for calls in that time.
    pub(super) fn new(mode: EdgeMode, start_nanos: (i64, i64)) -> Self {
        Self {
            mode,
            start_nanos,
            forest: Forest::default(),
            peer_of_row: Vec::new(),
            links: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// The edges of a trace, of whatever time.
    pub(super) fn find(&mut self, trace: &TraceRows<'_>) -> FoundEdges<'_> {
        self.forest.rebuild(&trace.columns);
        if self.mode == EdgeMode::Calls {
            self.find_links(trace);
        }
        if self.mode != EdgeMode::Strict {
            self.find_peers(trace);
        }
        let details = EdgeDetails {
            peer: &self.peer_of_row,
            links: &self.links,
        };
        self.edges.clear();
        let columns = &trace.columns;
        service_edges(columns, &self.forest, &details, self.mode, &mut self.edges);
        FoundEdges {
            forest: &self.forest,
            edges: &self.edges,
            start_nanos: self.start_nanos,
        }
    }

    fn find_links(&mut self, trace: &TraceRows<'_>) {
        self.links.clear();
        let links = trace.range.passed(0);
        let Some(links) = links.and_then(|links| links.as_list_opt::<i32>()) else {
            return;
        };
        for row in 0..trace.columns.len() {
            for (linked, span) in stored_links(links, trace.place(row) as usize) {
                let target = if linked == trace.trace {
                    Some(LinkTarget::Span(span))
                } else {
                    trace.range.linked(linked, span)
                };
                self.links.extend(target.map(|target| (row as u32, target)));
            }
        }
    }

    /// What spans say they call: by our own rules CLIENT leaves only.
    fn find_peers(&mut self, trace: &TraceRows<'_>) {
        self.peer_of_row.clear();
        self.peer_of_row.resize(trace.columns.len(), NONE);
        let leaves_only = self.mode == EdgeMode::Calls;
        for node in 0..self.forest.len() {
            let row = self.forest.row(node);
            let is_leaf = self.forest.child_counts()[node] == 0;
            if leaves_only && !(is_leaf && trace.columns.kind(row) == SpanKind::Client) {
                continue;
            }
            self.peer_of_row[row] = trace.range.peers.number(trace.place(row) as usize);
        }
    }
}
