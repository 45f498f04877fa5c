//! The tree of a trace with its spans, as it is drawn.
//!
//! Read [`TraceTree`]. What the tree is, is `forest.rs`; how it is drawn is `waterfall.rs`.

use super::{Forest, Placement, SpanRow, TraceBuffer};
use crate::span::{SpanId, SpanKind, StatusCode};

/// What the tree needs to know of a span of one trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSpan {
    /// Its own id.
    pub span_id: SpanId,
    /// Its parent, `None` at a root.
    pub parent_span_id: Option<SpanId>,
    /// Nanoseconds since the Unix epoch.
    pub start_time_unix_nano: i64,
    /// End minus start; negative where clocks were skewed, `None` where it never ended.
    pub duration_nano: Option<i64>,
    /// The service; empty where not known.
    pub service_name: String,
    /// The operation.
    pub name: String,
    /// Its role in a call.
    pub kind: SpanKind,
    /// How it ended.
    pub status_code: StatusCode,
}

impl TraceSpan {
    /// The span as a buffer of columns takes it.
    pub fn as_row(&self) -> SpanRow<'_> {
        SpanRow {
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            start_time_unix_nano: self.start_time_unix_nano,
            duration_nano: self.duration_nano,
            kind: self.kind,
            status_code: self.status_code,
            service_name: &self.service_name,
            name: &self.name,
        }
    }
}

/// A span in its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceNode {
    /// The span.
    pub span: TraceSpan,
    /// Why it stands here.
    pub placement: Placement,
    /// The index of the parent's node; `None` unless the placement is `Child`.
    pub parent: Option<usize>,
    /// Steps from the top: 0 at the top of a subtree.
    pub depth: usize,
    /// The index after the last node below this one; `index + 1` at a leaf.
    pub subtree_end: usize,
    /// Whether another span of the trace that is no copy of this one has the same id.
    pub shares_id: bool,
}

/// The tree (or trees) of one trace with its spans: a [`Forest`] that owns what stands in it, for
/// one trace at a time. All rules are those of [`Forest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceTree {
    nodes: Vec<TraceNode>,
    duplicate_count: usize,
}

impl TraceTree {
    /// The tree of these spans, which are all taken to be of one trace.
    pub fn new(spans: Vec<TraceSpan>) -> Self {
        let mut buffer = TraceBuffer::default();
        for span in &spans {
            buffer.push(&span.as_row());
        }
        let forest = Forest::new(&buffer.columns());
        let mut spans: Vec<Option<TraceSpan>> = spans.into_iter().map(Some).collect();
        let nodes = (0..forest.len()).filter_map(|node| {
            Some(TraceNode {
                // Each row is taken once.
                span: spans.get_mut(forest.row(node))?.take()?,
                placement: forest.placement(node),
                parent: forest.parent(node),
                depth: forest.depth(node),
                subtree_end: forest.subtree_end(node),
                shares_id: forest.shares_id(node),
            })
        });
        Self {
            nodes: nodes.collect(),
            duplicate_count: forest.copies().len(),
        }
    }

    /// The spans, depth first.
    pub fn nodes(&self) -> &[TraceNode] {
        &self.nodes
    }

    /// How many exact copies of spans were left out.
    pub fn duplicate_count(&self) -> usize {
        self.duplicate_count
    }

    /// The nodes at the top of their trees: roots, orphans and broken cycles.
    pub fn tops(&self) -> impl Iterator<Item = &TraceNode> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next)?;
            next = node.subtree_end;
            Some(node)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashSet};

    /// A span with a one-byte id, a parent (0: none) and a start.
    fn span(id: u8, parent: u8, start: i64) -> TraceSpan {
        TraceSpan {
            span_id: id_of(u64::from(id)),
            parent_span_id: (parent != 0).then(|| id_of(u64::from(parent))),
            start_time_unix_nano: start,
            duration_nano: Some(10),
            service_name: "shop".to_string(),
            name: format!("s{id}"),
            kind: SpanKind::Internal,
            status_code: StatusCode::Unset,
        }
    }

    fn id_of(number: u64) -> SpanId {
        SpanId::from_bytes(number.to_be_bytes()).unwrap()
    }

    /// The tree as `name@depth` with a letter for what is not a plain root or child.
    fn shape(spans: Vec<TraceSpan>) -> String {
        let tree = TraceTree::new(spans);
        let nodes = tree.nodes().iter().map(|node| {
            let mark = match node.placement {
                Placement::Root | Placement::Child => "",
                Placement::Orphan => "o",
                Placement::CycleBroken => "c",
            };
            format!("{}@{}{mark}", node.span.name, node.depth)
        });
        nodes.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn children_stand_under_their_parents_in_start_order() {
        let spans = vec![
            span(3, 1, 30),
            span(4, 2, 25),
            span(2, 1, 20),
            span(1, 0, 10),
        ];
        assert_eq!(shape(spans), "s1@0 s2@1 s4@2 s3@1");
    }

    #[test]
    fn nothing_makes_an_empty_tree() {
        assert_eq!(TraceTree::new(Vec::new()), TraceTree::default());
    }

    #[test]
    fn an_orphan_is_the_root_of_its_own_subtree() {
        let spans = vec![
            span(1, 0, 10),
            span(5, 9, 12),
            span(6, 5, 13),
            span(2, 1, 20),
        ];
        assert_eq!(shape(spans), "s1@0 s2@1 s5@0o s6@1");
    }

    #[test]
    fn several_roots_all_stay() {
        assert_eq!(shape(vec![span(2, 0, 20), span(1, 0, 10)]), "s1@0 s2@0");
    }

    #[test]
    fn a_span_that_is_its_own_parent_becomes_a_top() {
        assert_eq!(shape(vec![span(1, 1, 10), span(2, 1, 11)]), "s1@0c s2@1");
    }

    #[test]
    fn a_cycle_breaks_at_its_first_span_by_start_and_what_hangs_on_it_stays() {
        let spans = vec![
            span(1, 3, 30),
            span(2, 1, 20),
            span(3, 2, 25),
            span(4, 3, 1),
            span(9, 0, 5),
        ];
        // 2 starts first of the circle 1 > 2 > 3; 4 hangs on 3 but is not in the circle.
        assert_eq!(shape(spans), "s9@0 s2@0c s3@1 s4@2 s1@2");
    }

    #[test]
    fn copies_are_kept_once_and_counted() {
        let tree = TraceTree::new(vec![span(1, 0, 1), span(2, 1, 2), span(2, 1, 2)]);
        assert_eq!(tree.nodes().len(), 2);
        assert_eq!(tree.duplicate_count(), 1);
        assert!(tree.nodes().iter().all(|node| !node.shares_id));
    }

    #[test]
    fn different_spans_with_one_id_are_both_kept() {
        let mut other = span(2, 1, 4);
        other.name = "other".to_string();
        let tree = TraceTree::new(vec![span(1, 0, 1), span(2, 1, 3), other, span(5, 2, 5)]);
        let names: Vec<_> = tree.nodes().iter().map(|node| &node.span.name).collect();
        assert_eq!(names, ["s1", "s2", "s5", "other"]);
        assert!(tree.nodes()[1].shares_id && tree.nodes()[3].shares_id);
    }

    #[test]
    fn a_child_of_a_shared_id_stands_under_the_half_of_its_own_service() {
        let mut client = span(2, 1, 3);
        client.service_name = "caller".to_string();
        let mut server = span(2, 1, 4);
        server.name = "server".to_string();
        let tree = TraceTree::new(vec![span(1, 0, 1), client, server, span(5, 2, 5)]);
        let child = &tree.nodes()[3];
        assert_eq!(child.span.name, "s5");
        assert_eq!(tree.nodes()[child.parent.unwrap()].span.name, "server");
    }

    #[test]
    fn spans_sharing_an_id_that_name_each_other_make_a_cycle() {
        let mut other = span(1, 1, 2);
        other.name = "other".to_string();
        assert_eq!(shape(vec![span(1, 1, 1), other]), "s1@0c other@1");
    }

    #[test]
    fn tops_are_found_without_their_subtrees() {
        let spans = vec![
            span(1, 0, 10),
            span(5, 9, 12),
            span(6, 5, 13),
            span(2, 1, 20),
        ];
        let tree = TraceTree::new(spans);
        let tops: Vec<_> = tree.tops().map(|node| node.span.name.as_str()).collect();
        assert_eq!(tops, ["s1", "s5"]);
    }

    #[test]
    fn chains_stars_and_rings_of_72_000_spans_are_quick() {
        const COUNT: u64 = 72_000;
        let at = |id: u64, parent: u64| TraceSpan {
            span_id: id_of(id),
            parent_span_id: (parent != 0).then(|| id_of(parent)),
            start_time_unix_nano: id as i64,
            ..span(1, 0, 0)
        };
        let started = std::time::Instant::now();
        let chain = TraceTree::new((1..=COUNT).map(|id| at(id, id - 1)).collect());
        assert_eq!(chain.nodes()[COUNT as usize - 1].depth, COUNT as usize - 1);
        let star = TraceTree::new((1..=COUNT).map(|id| at(id, u64::from(id > 1))).collect());
        assert!(star.nodes()[1..].iter().all(|node| node.depth == 1));
        let ring = TraceTree::new(
            (1..=COUNT)
                .map(|id| at(id, if id == 1 { COUNT } else { id - 1 }))
                .collect(),
        );
        assert_eq!(ring.nodes()[0].placement, Placement::CycleBroken);
        assert_eq!(ring.nodes()[0].subtree_end, COUNT as usize);
        // All with one id and all children of that id.
        let one = TraceTree::new(
            (1..=COUNT)
                .map(|start| TraceSpan {
                    start_time_unix_nano: start as i64,
                    ..at(1, 1)
                })
                .collect(),
        );
        assert_eq!(one.nodes().len(), COUNT as usize);
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    /// Each span's parent found by comparing all pairs, cycles by walking from every span.
    fn naive_tops_and_edges(spans: &[TraceSpan]) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
        let mut unique: Vec<&TraceSpan> = Vec::new();
        for span in spans {
            if !unique.contains(&span) {
                unique.push(span);
            }
        }
        let parent_of = |span: &TraceSpan| {
            let id = span.parent_span_id?;
            unique.iter().copied().find(|other| other.span_id == id)
        };
        let mut tops = BTreeSet::new();
        let mut edges = BTreeSet::new();
        for span in &unique {
            // The circle through this span, if there is one.
            let mut circle = vec![*span];
            let mut at = parent_of(span);
            let mut steps = 0;
            while let Some(ancestor) = at {
                if ancestor == *span || steps > unique.len() {
                    break;
                }
                circle.push(ancestor);
                at = parent_of(ancestor);
                steps += 1;
            }
            let in_circle = at == Some(*span);
            let first = circle
                .iter()
                .min_by_key(|other| (other.start_time_unix_nano, other.span_id))
                .copied();
            match parent_of(span) {
                Some(parent) if !(in_circle && first == Some(*span)) => {
                    edges.insert((parent.name.clone(), span.name.clone()));
                }
                _ => {
                    tops.insert(span.name.clone());
                }
            }
        }
        (tops, edges)
    }

    proptest! {
        #[test]
        fn the_tree_is_that_of_the_naive_way_whatever_the_order(
            parents in proptest::collection::vec((0u8..24, 0i64..12), 0..20),
            seed in any::<u64>(),
        ) {
            let mut spans: Vec<TraceSpan> = parents
                .iter()
                .enumerate()
                .map(|(index, (parent, start))| span(index as u8 + 1, *parent, *start))
                .collect();
            // Some copies.
            spans.extend(spans.iter().step_by(5).cloned().collect::<Vec<_>>());
            let tree = TraceTree::new(spans.clone());
            let (tops, edges) = naive_tops_and_edges(&spans);
            let found_tops: BTreeSet<String> =
                tree.tops().map(|node| node.span.name.clone()).collect();
            let found_edges: BTreeSet<(String, String)> = tree
                .nodes()
                .iter()
                .filter_map(|node| {
                    let parent = &tree.nodes()[node.parent?];
                    Some((parent.span.name.clone(), node.span.name.clone()))
                })
                .collect();
            prop_assert_eq!(found_tops, tops);
            prop_assert_eq!(found_edges, edges);
            let names: HashSet<&String> = tree.nodes().iter().map(|node| &node.span.name).collect();
            prop_assert_eq!(names.len(), parents.len());

            let mut shuffled = spans;
            let count = shuffled.len();
            for index in 1..count {
                shuffled.swap(index, (seed.rotate_left(index as u32) % (index as u64 + 1)) as usize);
            }
            prop_assert_eq!(TraceTree::new(shuffled), tree);
        }

        #[test]
        fn siblings_rise_and_subtrees_nest(
            parents in proptest::collection::vec((0u8..24, 0i64..12), 0..20),
        ) {
            let spans = parents
                .iter()
                .enumerate()
                .map(|(index, (parent, start))| span(index as u8 + 1, *parent, *start))
                .collect();
            let tree = TraceTree::new(spans);
            for (index, node) in tree.nodes().iter().enumerate() {
                prop_assert!(node.subtree_end > index);
                if let Some(parent) = node.parent {
                    let above = &tree.nodes()[parent];
                    prop_assert!(parent < index && node.subtree_end <= above.subtree_end);
                    prop_assert_eq!(node.depth, above.depth + 1);
                }
                let sibling = tree.nodes().get(node.subtree_end);
                if let Some(sibling) = sibling.filter(|sibling| sibling.parent == node.parent) {
                    prop_assert!(
                        sibling.span.start_time_unix_nano >= node.span.start_time_unix_nano
                    );
                }
            }
        }
    }
}
