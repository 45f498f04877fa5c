//! Service edges: which service called which, as the spans of one trace tell it.
//!
//! Read [`service_edges`], which states the rules, and [`ServiceEdge`].

use std::collections::HashSet;

use super::edges_elsewhere::{ZipkinEdges, jaeger_edges};
use super::{Forest, NONE, TraceColumns};
use crate::span::SpanKind;

/// What makes an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EdgeMode {
    /// Calls between services, messages along links, and calls of what sends no spans.
    #[default]
    Calls,
    /// One edge a span whose parent is of another service, and nothing else.
    Strict,
    /// What Jaeger's dependency job finds: an edge a span with a parent, within a service too, and
    /// one more for a leaf that names a peer.
    Jaeger,
    /// What Zipkin's dependency linker finds: links between spans with kinds, messages by way of
    /// their broker.
    Zipkin,
}

impl EdgeMode {
    /// All modes with the names by which they are asked for.
    pub const ALL: [(&'static str, Self); 4] = [
        ("calls", Self::Calls),
        ("strict", Self::Strict),
        ("jaeger", Self::Jaeger),
        ("zipkin", Self::Zipkin),
    ];

    /// The attributes by which a span says whom it calls, the first that is there and not empty
    /// going before; none where nobody asks for them.
    pub fn peer_keys(self) -> &'static [&'static str] {
        match self {
            Self::Calls => &[
                "peer.service",
                "server.address",
                "db.system.name",
                "db.system",
            ],
            Self::Strict => &[],
            Self::Jaeger | Self::Zipkin => &["peer.service"],
        }
    }

    /// The mode of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = |(known, _): &&(&str, Self)| known.eq_ignore_ascii_case(name);
        Self::ALL.iter().find(named).map(|(_, mode)| *mode)
    }
}

/// What an edge stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EdgeKind {
    /// The caller waits for the callee.
    Call = 0,
    /// The caller sent a message that the callee received.
    Messaging = 1,
    /// A call of something that sent no span of its own: a database, another company's service.
    Virtual = 2,
}

impl EdgeKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Call, Self::Messaging, Self::Virtual];

    /// The name as SQL shows it.
    pub fn name(self) -> &'static str {
        ["call", "messaging", "virtual"][self as usize]
    }
}

/// One call from a service to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceEdge {
    /// The number of the calling service.
    pub caller: u32,
    /// The number of the called service; of the peer where the kind is `Virtual`.
    pub callee: u32,
    /// What the edge stands for.
    pub kind: EdgeKind,
    /// The node of the called side's span; of the CLIENT span where the kind is `Virtual`.
    pub node: u32,
    /// The node of the calling side's span; [`NONE`] where that is not in the trace. Where the
    /// kind is `Virtual` it is the same as `node`.
    pub caller_node: u32,
    /// The duration of that span, [`UNFINISHED`](super::UNFINISHED) where it never ended.
    pub duration_nano: i64,
    /// Whether the call failed.
    pub is_error: bool,
}

/// Where a span link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTarget {
    /// To the span of this id in the same trace.
    Span(u64),
    /// To a span of another trace, of which the caller knows this.
    Elsewhere {
        /// The number of its service.
        service: u32,
        /// The number of its [`SpanKind`].
        kind: i8,
    },
}

/// What edges need beside the columns of the trace; all may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct EdgeDetails<'a> {
    /// For each row the number, among those of services, of what it says it calls ([`NONE`] where
    /// it does not say): its first non-empty attribute of [`EdgeMode::peer_keys`].
    pub peer: &'a [u32],
    /// Links of spans, by row.
    pub links: &'a [(u32, LinkTarget)],
}

/// Appends the edges of one trace to `edges`, in tree order of their called sides.
///
/// ```text
///   web  SERVER                       web -> app       Call       the SERVER's service is not
///   ├─ web  CLIENT                                                its parent's
///   │  └─ app  SERVER
///   │     ├─ app  CLIENT  peer: pg    app -> pg        Virtual    a CLIENT leaf names a peer
///   │     └─ app  PRODUCER
///   └─ mail  CONSUMER ┄link┄> app's   web -> mail      Messaging  its parent's service
///      PRODUCER                       app -> mail      Messaging  the linked span's service
/// ```
///
/// 1. A span whose parent in the tree is of another service is one edge from that service to its
///    own: `Messaging` where the span is a CONSUMER or its parent a PRODUCER, else `Call`. This
///    alone is [`EdgeMode::Strict`]. The CLIENT half of a call is of the caller's service and
///    the SERVER half of the callee's, so a call with both is one edge; so is one whose halves
///    share an id, since the [`Forest`] puts the answering half under the asking one.
/// 2. A CONSUMER that links to a PRODUCER of another service is one `Messaging` edge for each
///    such span, besides the edge of rule 1; a link to its parent, or a second one to the same
///    span, counts no more.
/// 3. A CLIENT without children that names a peer, other than its own service, is one `Virtual`
///    edge. Where the callee has sent a span it is a child of the CLIENT, so rules 1 and 3 never
///    count one call twice.
///
/// A span of which the service is not known, and what is below it, makes no edge by itself. An
/// edge has failed where the span of the called side has the status ERROR, and except in strict
/// mode also where the CLIENT or PRODUCER above a SERVER or CONSUMER has.
///
/// [`EdgeMode::Jaeger`] and [`EdgeMode::Zipkin`] follow the rules of those systems instead.
pub fn service_edges(
    columns: &TraceColumns<'_>,
    forest: &Forest,
    details: &EdgeDetails<'_>,
    mode: EdgeMode,
    edges: &mut Vec<ServiceEdge>,
) {
    match mode {
        EdgeMode::Calls | EdgeMode::Strict => {}
        EdgeMode::Jaeger => return jaeger_edges(columns, forest, details.peer, edges),
        EdgeMode::Zipkin => return ZipkinEdges::new(columns, forest, details.peer).extend(edges),
    }
    let mut links = (mode == EdgeMode::Calls && !details.links.is_empty())
        .then(|| Links::new(columns, forest, details.links));
    for node in 0..forest.len() {
        edges.extend(parent_edge(columns, forest, mode, node));
        if mode == EdgeMode::Strict {
            continue;
        }
        if let Some(links) = &mut links {
            links.extend(columns, forest, node, edges);
        }
        edges.extend(virtual_edge(columns, forest, details.peer, node));
    }
}

pub(super) fn is_kind(columns: &TraceColumns<'_>, row: usize, kind: SpanKind) -> bool {
    columns.raw_kind(row) == kind as i8
}

impl ServiceEdge {
    /// The edge of which a node is the called side, if the services are known and differ.
    fn new(
        columns: &TraceColumns<'_>,
        forest: &Forest,
        services: (u32, u32),
        kind: EdgeKind,
        nodes: (u32, usize),
    ) -> Option<Self> {
        let edge = Self::of_known(columns, forest, services, kind, nodes)?;
        (edge.caller != edge.callee).then_some(edge)
    }

    /// The edge of which a node is the called side, if the services are known.
    pub(super) fn of_known(
        columns: &TraceColumns<'_>,
        forest: &Forest,
        (caller, callee): (u32, u32),
        kind: EdgeKind,
        (caller_node, node): (u32, usize),
    ) -> Option<Self> {
        let row = forest.row(node);
        (caller != NONE && callee != NONE).then(|| Self {
            caller,
            callee,
            kind,
            node: node as u32,
            caller_node,
            duration_nano: columns.raw_duration(row),
            is_error: columns.has_error(row),
        })
    }
}

/// Rule 1.
fn parent_edge(
    columns: &TraceColumns<'_>,
    forest: &Forest,
    mode: EdgeMode,
    node: usize,
) -> Option<ServiceEdge> {
    let above = forest.parent(node)?;
    let (row, parent) = (forest.row(node), forest.row(above));
    let (caller, callee) = (columns.service(parent), columns.service(row));
    if caller == callee {
        return None;
    }
    let consumes = is_kind(columns, row, SpanKind::Consumer);
    let kind = if consumes || is_kind(columns, parent, SpanKind::Producer) {
        EdgeKind::Messaging
    } else {
        EdgeKind::Call
    };
    let nodes = (above as u32, node);
    let mut edge = ServiceEdge::new(columns, forest, (caller, callee), kind, nodes)?;
    let answers = consumes && is_kind(columns, parent, SpanKind::Producer)
        || is_kind(columns, row, SpanKind::Server) && is_kind(columns, parent, SpanKind::Client);
    if mode == EdgeMode::Calls && answers {
        edge.is_error |= columns.has_error(parent);
    }
    Some(edge)
}

/// Rule 3.
fn virtual_edge(
    columns: &TraceColumns<'_>,
    forest: &Forest,
    peer: &[u32],
    node: usize,
) -> Option<ServiceEdge> {
    let row = forest.row(node);
    let peer = *peer.get(row)?;
    let asks_in_vain =
        peer != NONE && forest.child_count(node) == 0 && is_kind(columns, row, SpanKind::Client);
    if !asks_in_vain {
        return None;
    }
    let services = (columns.service(row), peer);
    let nodes = (node as u32, node);
    ServiceEdge::new(columns, forest, services, EdgeKind::Virtual, nodes)
}

/// Links by node, and where they lead.
struct Links {
    /// (node, target), sorted by node.
    by_node: Vec<(u32, LinkTarget)>,
    /// (span id, node) of PRODUCER spans, sorted.
    producers: Vec<(u64, u32)>,
    /// The nodes that links of one span have led to already.
    seen: HashSet<u32>,
    next: usize,
}

impl Links {
    fn new(columns: &TraceColumns<'_>, forest: &Forest, links: &[(u32, LinkTarget)]) -> Self {
        let mut node_of_row = Vec::new();
        forest.nodes_of_rows(columns.len(), &mut node_of_row);
        let mut by_node: Vec<(u32, LinkTarget)> = links
            .iter()
            .filter_map(|(row, target)| Some((*node_of_row.get(*row as usize)?, *target)))
            // Links of copies go with the copies.
            .filter(|(node, _)| *node != NONE)
            .collect();
        by_node.sort_by_key(|(node, _)| *node);
        let mut producers: Vec<(u64, u32)> = (0u32..)
            .zip(forest.rows())
            .filter(|(_, row)| is_kind(columns, **row as usize, SpanKind::Producer))
            .map(|(node, row)| (columns.span_id(*row as usize), node))
            .collect();
        producers.sort_unstable();
        Self {
            by_node,
            producers,
            seen: HashSet::new(),
            next: 0,
        }
    }

    /// Rule 2. Nodes come rising.
    fn extend(
        &mut self,
        columns: &TraceColumns<'_>,
        forest: &Forest,
        node: usize,
        edges: &mut Vec<ServiceEdge>,
    ) {
        let row = forest.row(node);
        let consumes = is_kind(columns, row, SpanKind::Consumer);
        let callee = columns.service(row);
        self.seen.clear();
        self.seen
            .extend(forest.parent(node).map(|parent| parent as u32));
        while let Some((_, target)) = self
            .by_node
            .get(self.next)
            .filter(|(at, _)| *at as usize == node)
        {
            self.next += 1;
            let sender = match *target {
                _ if !consumes => None,
                LinkTarget::Elsewhere { service, kind } => {
                    (kind == SpanKind::Producer as i8).then_some((service, NONE))
                }
                LinkTarget::Span(id) => self
                    .producer(id)
                    .filter(|producer| self.seen.insert(*producer))
                    .map(|producer| (columns.service(forest.row(producer as usize)), producer)),
            };
            edges.extend(sender.and_then(|(service, sender)| {
                let (services, nodes) = ((service, callee), (sender, node));
                ServiceEdge::new(columns, forest, services, EdgeKind::Messaging, nodes)
            }));
        }
    }

    /// The first PRODUCER with that id.
    fn producer(&self, id: u64) -> Option<u32> {
        let first = self.producers.partition_point(|entry| entry.0 < id);
        let found = self.producers.get(first).filter(|entry| entry.0 == id);
        found.map(|entry| entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{edge_texts, spans};
    use super::*;

    /// The edges as `caller>callee kind`, with `!` where they failed.
    fn edges(rows: &[&str], peers: &[(usize, &str)], links: &[(u32, u64)]) -> Vec<String> {
        edge_texts(EdgeMode::Calls, rows, peers, links)
    }

    #[test]
    fn a_call_with_both_halves_is_one_edge() {
        let rows = [
            "1 - 0 9 web SERVER",
            "2 1 1 5 web CLIENT",
            "3 2 2 3 app SERVER",
        ];
        assert_eq!(edges(&rows, &[], &[]), ["web>app call"]);
    }

    #[test]
    fn halves_that_share_an_id_are_one_edge_and_children_are_the_servers() {
        let rows = [
            "1 - 0 9 web",
            "2 1 1 5 web CLIENT",
            "2 1 2 3 app SERVER",
            "3 2 3 1 db",
        ];
        assert_eq!(edges(&rows, &[], &[]), ["web>app call", "app>db call"]);
        let rows = ["1 - 1 5 web PRODUCER", "1 - 9 3 app CONSUMER"];
        assert_eq!(edges(&rows, &[], &[]), ["web>app messaging"]);
        let rows = ["1 - 1 5 web", "1 - 9 3 app"];
        assert!(edges(&rows, &[], &[]).is_empty());
    }

    #[test]
    fn a_client_leaf_that_names_a_peer_is_a_virtual_edge() {
        let rows = [
            "1 - 0 9 web CLIENT",
            "2 1 1 2 app SERVER",
            "3 2 1 1 app CLIENT ERROR",
        ];
        let found = edges(&rows, &[(0, "app"), (2, "pg")], &[]);
        assert_eq!(found, ["web>app call", "app>pg virtual!"]);
        // A leaf that calls nobody, itself, or of which the service is not known.
        let rows = ["1 - 0 9 web", "2 - 0 9 web CLIENT", "3 - 0 9 ? CLIENT"];
        assert!(edges(&rows, &[(0, "pg"), (1, "web"), (2, "pg")], &[]).is_empty());
    }

    #[test]
    fn a_consumer_is_one_messaging_edge_for_each_producer_it_links_to() {
        let rows = [
            "1 - 0 1 shop PRODUCER",
            "2 - 0 1 bank PRODUCER",
            "3 1 5 1 mail CONSUMER",
            "4 - 0 1 shop CLIENT",
        ];
        let links = [(2, 1), (2, 2), (2, 2), (2, 4), (2, 77), (0, 2)];
        let expected = ["shop>mail messaging", "bank>mail messaging"];
        assert_eq!(edges(&rows, &[], &links), expected);
    }

    #[test]
    fn a_link_to_another_trace_counts_by_what_is_known_of_its_span() {
        let mut buffer = spans(&["3 - 5 1 mail CONSUMER"]);
        let shop = buffer.service("shop");
        let target = |kind: SpanKind| LinkTarget::Elsewhere {
            service: shop,
            kind: kind as i8,
        };
        let links = [
            (0, target(SpanKind::Producer)),
            (0, target(SpanKind::Server)),
        ];
        let details = EdgeDetails {
            peer: &[],
            links: &links,
        };
        let columns = buffer.columns();
        let mut found = Vec::new();
        let forest = Forest::new(&columns);
        service_edges(&columns, &forest, &details, EdgeMode::Calls, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].caller, found[0].kind),
            (shop, EdgeKind::Messaging)
        );
    }

    #[test]
    fn a_call_failed_where_either_half_did_but_strictly_only_the_callee_counts() {
        let rows = ["1 - 0 9 web CLIENT ERROR", "2 1 2 3 app SERVER"];
        assert_eq!(edges(&rows, &[], &[]), ["web>app call!"]);
        assert_eq!(
            edge_texts(EdgeMode::Strict, &rows, &[], &[]),
            ["web>app call"]
        );
    }

    #[test]
    fn strictly_only_changes_of_service_count() {
        let rows = [
            "1 - 0 9 web PRODUCER",
            "2 1 2 3 app CONSUMER",
            "3 2 2 3 app CLIENT",
            "4 2 2 3 ?",
            "5 4 2 3 db",
            "6 - 2 3 db PRODUCER",
        ];
        let found = edge_texts(EdgeMode::Strict, &rows, &[(2, "pg")], &[(1, 6)]);
        assert_eq!(found, ["web>app messaging"]);
    }
}
