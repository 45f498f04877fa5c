//! The tree of a trace, built from spans in any order, whatever is wrong with them.
//!
//! Read [`TraceTree`], then [`Placement`]. How it is drawn is `waterfall.rs`.

use std::collections::HashMap;

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
    /// A total order by start, then id, then all the rest: two spans compare equal only if they
    /// are copies, so a tree does not depend on the order in which its spans came.
    fn sort_key(&self) -> impl Ord + '_ {
        (
            self.start_time_unix_nano,
            self.span_id,
            self.parent_span_id,
            self.kind as i8,
            self.duration_nano,
            (&self.service_name, &self.name, self.status_code as i8),
        )
    }
}

/// Why a span stands where it does in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// It names no parent.
    Root,
    /// It stands under its parent.
    Child,
    /// It names a parent that is not in the trace: the root of its own subtree.
    Orphan,
    /// Its ancestors lead back to it: of the spans in that circle it is the first by start (then
    /// by id), so it was made the root of its own subtree.
    CycleBroken,
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

/// The tree (or trees) of one trace.
///
/// ```text
///   given: d(a) b(a) a x(?) e(x)      nodes: a   depth 0  Root
///   in any order; ? is a parent              b   depth 1  Child
///   that is not there                        d   depth 1  Child
///                                            x   depth 0  Orphan
///                                            e   depth 1  Child
/// ```
///
/// - Nodes come depth first, each parent before its children; children, and the tops of the
///   trees among themselves, in the order of start, then id.
/// - Spans alike in every field are copies: one is kept, [`duplicate_count`](Self::duplicate_count)
///   counts the others.
/// - Different spans with one id are all kept. A child of that id is put under the first of them
///   that has the child's service (Zipkin's two halves of a call share an id), else under the
///   first.
/// - A span that names itself, or whose ancestors lead back to it, is in a cycle; see
///   [`Placement::CycleBroken`].
///
/// Building takes time in proportion to n log n and does not recurse, so neither a chain of a
/// million spans nor a million children of one span is a problem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceTree {
    nodes: Vec<TraceNode>,
    duplicate_count: usize,
}

impl TraceTree {
    /// The tree of these spans, which are all taken to be of one trace.
    pub fn new(mut spans: Vec<TraceSpan>) -> Self {
        let given = spans.len();
        spans.sort_unstable_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        spans.dedup();
        let duplicate_count = given - spans.len();
        let (mut parents, shares_id) = resolve_parents(&spans);
        let mut placements: Vec<Placement> = spans
            .iter()
            .zip(&parents)
            .map(|(span, parent)| match (span.parent_span_id, parent) {
                (None, _) => Placement::Root,
                (Some(_), Some(_)) => Placement::Child,
                // A parent that is the span itself, and nobody else, is the smallest cycle.
                (Some(id), None) if id == span.span_id => Placement::CycleBroken,
                (Some(_), None) => Placement::Orphan,
            })
            .collect();
        break_cycles(&mut parents, &mut placements);
        let order = depth_first(&parents);
        Self {
            nodes: into_nodes(spans, &order, &parents, &placements, &shares_id),
            duplicate_count,
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

/// The index of each span's parent, and whether its id is another's too. Needs sorted spans.
fn resolve_parents(spans: &[TraceSpan]) -> (Vec<Option<usize>>, Vec<bool>) {
    /// The first two spans with an id: the second serves the first where that names itself.
    struct FirstTwo(usize, Option<usize>);

    impl FirstTwo {
        fn other_than(&self, index: usize) -> Option<usize> {
            if self.0 == index {
                self.1
            } else {
                Some(self.0)
            }
        }
    }

    let mut by_id: HashMap<SpanId, FirstTwo> = HashMap::with_capacity(spans.len());
    let mut ids_are_unique = true;
    for (index, span) in spans.iter().enumerate() {
        by_id
            .entry(span.span_id)
            .and_modify(|found| {
                found.1.get_or_insert(index);
                ids_are_unique = false;
            })
            .or_insert(FirstTwo(index, None));
    }
    // Services decide only where an id is shared, which is rare.
    let mut by_id_and_service: HashMap<(SpanId, &str), FirstTwo> = HashMap::new();
    if !ids_are_unique {
        for (index, span) in spans.iter().enumerate() {
            if by_id[&span.span_id].1.is_some() {
                by_id_and_service
                    .entry((span.span_id, &span.service_name))
                    .and_modify(|found| {
                        found.1.get_or_insert(index);
                    })
                    .or_insert(FirstTwo(index, None));
            }
        }
    }
    let parents = spans
        .iter()
        .enumerate()
        .map(|(index, span)| {
            let id = span.parent_span_id?;
            by_id_and_service
                .get(&(id, span.service_name.as_str()))
                .and_then(|found| found.other_than(index))
                .or_else(|| by_id.get(&id)?.other_than(index))
        })
        .collect();
    let shares_id = spans
        .iter()
        .map(|span| by_id[&span.span_id].1.is_some())
        .collect();
    (parents, shares_id)
}

/// Makes the first span of each cycle a top. Needs spans sorted, so that the first by index is
/// the first by start.
fn break_cycles(parents: &mut [Option<usize>], placements: &mut [Placement]) {
    /// No walk came by yet.
    const UNSEEN: usize = usize::MAX;
    // For each span the walk that first came by.
    let mut walk_of = vec![UNSEEN; parents.len()];
    for walk in 0..parents.len() {
        let mut at = walk;
        while walk_of[at] == UNSEEN {
            walk_of[at] = walk;
            match parents[at] {
                Some(parent) => at = parent,
                None => break,
            }
        }
        // A walk that ends at a span it came by itself, and that has a parent still, has gone
        // in a circle.
        if walk_of[at] != walk {
            continue;
        }
        let Some(mut step) = parents[at] else {
            continue;
        };
        let mut first = at;
        while step != at {
            first = first.min(step);
            // Every span of a circle has a parent; the fallback only ends the loop.
            step = parents[step].unwrap_or(at);
        }
        parents[first] = None;
        placements[first] = Placement::CycleBroken;
    }
}

/// The indexes of all spans, each parent before its children, siblings by index.
fn depth_first(parents: &[Option<usize>]) -> Vec<usize> {
    let count = parents.len();
    // Children of span i lie at children[first_child[i]..first_child[i + 1]].
    let mut first_child = vec![0usize; count + 1];
    for parent in parents.iter().flatten() {
        first_child[parent + 1] += 1;
    }
    for index in 0..count {
        first_child[index + 1] += first_child[index];
    }
    let mut children = vec![0usize; first_child[count]];
    let mut next = first_child.clone();
    for (index, parent) in parents.iter().enumerate() {
        if let Some(parent) = *parent {
            children[next[parent]] = index;
            next[parent] += 1;
        }
    }
    let mut order = Vec::with_capacity(count);
    let mut pending: Vec<usize> = (0..count)
        .rev()
        .filter(|index| parents[*index].is_none())
        .collect();
    while let Some(index) = pending.pop() {
        order.push(index);
        let below = &children[first_child[index]..first_child[index + 1]];
        pending.extend(below.iter().rev());
    }
    order
}

fn into_nodes(
    spans: Vec<TraceSpan>,
    order: &[usize],
    parents: &[Option<usize>],
    placements: &[Placement],
    shares_id: &[bool],
) -> Vec<TraceNode> {
    let mut spans: Vec<Option<TraceSpan>> = spans.into_iter().map(Some).collect();
    // Where each span went.
    let mut place_of = vec![0usize; spans.len()];
    let mut nodes: Vec<TraceNode> = Vec::with_capacity(spans.len());
    for &index in order {
        let Some(span) = spans[index].take() else {
            continue;
        };
        let parent = parents[index].map(|parent| place_of[parent]);
        let depth = parent.map_or(0, |parent| nodes[parent].depth + 1);
        place_of[index] = nodes.len();
        nodes.push(TraceNode {
            span,
            placement: placements[index],
            parent,
            depth,
            subtree_end: nodes.len() + 1,
            shares_id: shares_id[index],
        });
    }
    for index in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[index].parent {
            nodes[parent].subtree_end = nodes[parent].subtree_end.max(nodes[index].subtree_end);
        }
    }
    nodes
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
