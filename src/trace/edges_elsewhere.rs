//! Service edges by the rules of Jaeger and of Zipkin, for those who compare with them.
//!
//! Read [`jaeger_edges`] and [`ZipkinEdges`]; our own rules are in `edges.rs`.

use super::edges::{EdgeKind, ServiceEdge, is_kind};
use super::{Forest, NONE, Placement, TraceColumns};
use crate::span::SpanKind;

/// Appends the edges that Jaeger's dependency job finds
/// (<https://github.com/jaegertracing/spark-dependencies>): one for each span whose parent is in
/// the trace, within a service too, and one more for a span with a parent and without children
/// that names a peer.
///
/// Of the references of a span only its parent counts.
pub(super) fn jaeger_edges(
    columns: &TraceColumns<'_>,
    forest: &Forest,
    peer: &[u32],
    edges: &mut Vec<ServiceEdge>,
) {
    for node in 0..forest.len() {
        let Some(parent) = forest.parent(node) else {
            continue;
        };
        let row = forest.row(node);
        let service = columns.service(row);
        let from = forest.row(parent);
        let sends =
            is_kind(columns, row, SpanKind::Consumer) || is_kind(columns, from, SpanKind::Producer);
        let kind = if sends {
            EdgeKind::Messaging
        } else {
            EdgeKind::Call
        };
        let services = (columns.service(from), service);
        let nodes = (parent as u32, node);
        edges.extend(ServiceEdge::of_known(
            columns, forest, services, kind, nodes,
        ));
        if forest.child_count(node) == 0 {
            let peer = peer.get(row).copied().unwrap_or(NONE);
            let nodes = (node as u32, node);
            let services = (service, peer);
            edges.extend(ServiceEdge::of_known(
                columns,
                forest,
                services,
                EdgeKind::Virtual,
                nodes,
            ));
        }
    }
}

/// The links that Zipkin's `DependencyLinker` finds
/// (<https://github.com/openzipkin/zipkin>, `zipkin2.internal.DependencyLinker`).
///
/// ```text
///   web  SERVER                    the root's client is not known: no link
///   └─ web  CLIENT                 has children: they tell
///      └─ app  SERVER              web -> app: nearest span above with a kind
///         ├─ app                   no kind, no peer: no link
///         └─ app  PRODUCER kafka   app -> kafka: messages go by their broker
/// ```
///
/// As there, spans whose parent is missing, and roots after the first, count as children of the
/// first root.
pub(super) struct ZipkinEdges<'a> {
    columns: &'a TraceColumns<'a>,
    forest: &'a Forest,
    peer: &'a [u32],
    root: Option<usize>,
    /// For each node the nearest one above it that has a kind.
    remote: Vec<u32>,
}

impl<'a> ZipkinEdges<'a> {
    pub(super) fn new(columns: &'a TraceColumns<'a>, forest: &'a Forest, peer: &'a [u32]) -> Self {
        let root = forest
            .tops()
            .find(|node| forest.placement(*node) == Placement::Root);
        let mut edges = Self {
            columns,
            forest,
            peer,
            root,
            remote: Vec::with_capacity(forest.len()),
        };
        for node in 0..forest.len() {
            let remote = match forest.parent(node) {
                Some(parent) if edges.has_kind(parent) => Some(parent as u32),
                Some(parent) => Some(edges.remote[parent]),
                None => root
                    .filter(|root| *root != node && edges.has_kind(*root))
                    .map(|root| root as u32),
            };
            edges.remote.push(remote.unwrap_or(NONE));
        }
        edges
    }

    pub(super) fn extend(&self, edges: &mut Vec<ServiceEdge>) {
        for node in 0..self.forest.len() {
            self.push(node, edges);
        }
    }

    fn kind(&self, node: usize) -> SpanKind {
        self.columns.kind(self.forest.row(node))
    }

    fn has_kind(&self, node: usize) -> bool {
        !matches!(self.kind(node), SpanKind::Unspecified | SpanKind::Internal)
    }

    fn is_leaf(&self, node: usize) -> bool {
        let has_others = self.root == Some(node) && self.forest.tops().nth(1).is_some();
        self.forest.child_count(node) == 0 && !has_others
    }

    fn push(&self, node: usize, edges: &mut Vec<ServiceEdge>) {
        let row = self.forest.row(node);
        let service = self.columns.service(row);
        let peer = self.peer.get(row).copied().unwrap_or(NONE);
        let knows_both = service != NONE && peer != NONE;
        let kind = match self.kind(node) {
            SpanKind::Client if !self.is_leaf(node) => return,
            SpanKind::Unspecified | SpanKind::Internal if knows_both => SpanKind::Client,
            SpanKind::Unspecified | SpanKind::Internal => return,
            kind => kind,
        };
        let mut push = |services, kind, from, has_error: bool| {
            let nodes = (from, node);
            let found = ServiceEdge::of_known(self.columns, self.forest, services, kind, nodes);
            edges.extend(found.map(|edge| ServiceEdge {
                is_error: has_error,
                ..edge
            }));
        };
        let has_error = self.columns.has_error(row);
        let (mut caller, callee, mut from) = match kind {
            SpanKind::Server | SpanKind::Consumer => (peer, service, NONE),
            _ => (service, peer, node as u32),
        };
        match kind {
            SpanKind::Producer | SpanKind::Consumer => {
                push((caller, callee), EdgeKind::Messaging, from, has_error);
                return;
            }
            SpanKind::Server if self.root == Some(node) && caller == NONE => return,
            _ => {}
        }
        let mut has_error = has_error;
        let mut is_virtual = true;
        let remote = self.remote[node];
        if remote != NONE {
            let above = self.forest.row(remote as usize);
            let named = self.columns.service(above);
            if named != NONE {
                if kind == SpanKind::Client && service != NONE && named != service {
                    push((named, service), EdgeKind::Call, remote, false);
                }
                if kind == SpanKind::Server || caller == NONE {
                    caller = named;
                    from = remote;
                    is_virtual = kind == SpanKind::Client;
                }
                let is_parent = self.forest.parent(node) == Some(remote as usize);
                if is_parent && self.kind(remote as usize) == SpanKind::Client {
                    has_error |= self.columns.has_error(above);
                }
            }
        }
        let kind = if is_virtual {
            EdgeKind::Virtual
        } else {
            EdgeKind::Call
        };
        push((caller, callee), kind, from, has_error);
    }
}

#[cfg(test)]
mod tests {
    use super::super::EdgeMode;
    use super::super::testing::edge_texts;

    fn edges(mode: EdgeMode, rows: &[&str], peers: &[(usize, &str)]) -> Vec<String> {
        edge_texts(mode, rows, peers, &[])
    }

    #[test]
    fn jaeger_counts_calls_within_a_service_and_peers_of_leaves() {
        let rows = [
            "1 - 0 9 a",
            "2 1 1 1 a CLIENT",
            "3 2 1 1 b SERVER",
            "4 9 1 1 b",
        ];
        let found = edges(EdgeMode::Jaeger, &rows, &[(2, "db"), (3, "db")]);
        assert_eq!(found, ["a>a call", "a>b call", "b>db virtual"]);
        // Neither a root that names a peer nor halves without kinds.
        assert!(edges(EdgeMode::Jaeger, &["1 - 0 9 a"], &[(0, "db")]).is_empty());
        assert!(edges(EdgeMode::Jaeger, &["1 - 0 9 a", "1 - 0 9 b"], &[]).is_empty());
    }

    #[test]
    fn zipkin_links_servers_to_the_nearest_span_with_a_kind() {
        let rows = [
            "1 - 0 9 web SERVER",
            "2 1 1 5 web CLIENT ERROR",
            "3 2 2 3 app SERVER",
            "4 3 2 3 app",
            "5 4 2 3 app CLIENT",
            "6 4 3 3 app PRODUCER",
        ];
        let found = edges(EdgeMode::Zipkin, &rows, &[(1, "x"), (4, "pg"), (5, "mq")]);
        assert_eq!(
            found,
            ["web>app call!", "app>pg virtual", "app>mq messaging"]
        );
    }

    #[test]
    fn zipkin_links_what_a_span_alone_knows() {
        let one = |row: &str, peer: &str| edges(EdgeMode::Zipkin, &[row], &[(0, peer)]);
        assert_eq!(one("1 - 0 9 app SERVER", "web"), ["web>app virtual"]);
        assert_eq!(one("1 - 0 9 app CLIENT", "app"), ["app>app virtual"]);
        assert_eq!(one("1 - 0 9 app", "db"), ["app>db virtual"]);
        assert!(edges(EdgeMode::Zipkin, &["1 - 0 9 app SERVER"], &[]).is_empty());
    }

    #[test]
    fn zipkin_takes_other_tops_for_children_of_the_first_root() {
        let rows = [
            "1 - 0 9 web CLIENT",
            "2 77 1 1 app SERVER",
            "3 2 1 1 db SERVER",
        ];
        let found = edges(EdgeMode::Zipkin, &rows, &[(0, "x")]);
        assert_eq!(found, ["web>app call", "app>db call"]);
    }

    #[test]
    fn zipkin_fills_in_the_call_of_a_client_that_bears_the_name_of_the_called() {
        let rows = ["1 - 0 9 web SERVER", "2 1 1 1 app CLIENT"];
        let found = edges(EdgeMode::Zipkin, &rows, &[(1, "db")]);
        assert_eq!(found, ["web>app call", "app>db virtual"]);
    }
}
