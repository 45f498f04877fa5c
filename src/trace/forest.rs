//! The tree (or trees) of a trace, over columns: who stands under whom, in which order, how deep.
//!
//! Read [`Forest`], then [`Placement`]. How parents are found is `parents.rs`.

use std::ops::Range;

use super::TraceColumns;
use super::parents::Parents;

/// The number that stands for no node, no row, no service and no name.
pub const NONE: u32 = u32::MAX;

/// Why a span stands where it does in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Placement {
    /// It names no parent.
    #[default]
    Root = 0,
    /// It stands under its parent.
    Child = 1,
    /// It names a parent that is not in the trace: the root of its own subtree.
    Orphan = 2,
    /// Its ancestors lead back to it: of the spans in that circle it is the first by start (then
    /// by id), so it was made the root of its own subtree.
    CycleBroken = 3,
}

/// The trees of one trace.
///
/// ```text
///   rows, in any order            nodes            depth  subtree  placement
///   0  d, parent a                0  a (row 2)       0      0..3   Root
///   1  b, parent a                1  ├─ b (row 1)    1      1..2   Child
///   2  a                          2  └─ d (row 0)    1      2..3   Child
///   3  x, parent ? (not there)    3  x (row 3)       0      3..5   Orphan
///   4  e, parent x                4  └─ e (row 4)    1      4..5   Child
/// ```
///
/// A *row* is an index into the columns, a *node* a place in the tree. Nodes are numbered depth
/// first, each parent before its children; children, and the tops of the trees among themselves,
/// in the order of start, then span id, kind, duration and name. So the nodes below a node are a
/// range of numbers, and `a` is an ancestor of `b` exactly if `b` lies in `a + 1..subtree_end(a)`
/// (nested sets; Joe Celko, *Trees and Hierarchies in SQL*).
///
/// - Spans with the same id, kind, start, duration and name are *copies* (the rule by which
///   compaction drops re-deliveries): the one in the first row is kept, [`copies`](Self::copies)
///   are the others.
/// - Different spans with one id are all kept. The SERVER half of a call that has the id and the
///   parent of its CLIENT half (Zipkin's shared ids) stands under it, and so does a CONSUMER
///   under its PRODUCER. A child of a shared id stands under the first span of that id, in the
///   order above, that has the child's service, else under the answering half of a call, else
///   under the first; a span never stands under itself while another has its parent's id.
/// - A span that names itself, or whose ancestors lead back to it, is in a cycle; see
///   [`Placement::CycleBroken`].
///
/// Building takes time in proportion to n log n (n where rows come by start and id) and does not
/// recurse, so neither a chain of a million spans nor a million children of one span is a
/// problem. [`rebuild`](Self::rebuild) allocates nothing once the largest trace was seen.
///
/// A trace may have up to 4,294,967,294 rows; those beyond are left out.
///
/// ```
/// use tracelake::trace::{Forest, TraceColumns};
///
/// let forest = Forest::new(&TraceColumns {
///     span_id: &[13, 11, 12],
///     parent_span_id: &[11, 0, 11],
///     start_time_unix_nano: &[30, 10, 20],
///     ..TraceColumns::default()
/// });
/// assert_eq!(forest.rows(), [1, 2, 0]);
/// assert_eq!(forest.depths(), [0, 1, 1]);
/// assert!(forest.is_ancestor(0, 2));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Forest {
    rows: Vec<u32>,
    parents: Vec<u32>,
    depths: Vec<u32>,
    subtree_ends: Vec<u32>,
    child_counts: Vec<u32>,
    marks: Vec<Mark>,
    copies: Vec<u32>,
    work: Parents,
    order: Layout,
}

/// The placement of a span and whether it shares its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) placement: Placement,
    pub(super) shares_id: bool,
}

impl Forest {
    /// The trees of these spans, which are all taken to be of one trace.
    pub fn new(columns: &TraceColumns<'_>) -> Self {
        let mut forest = Self::default();
        forest.rebuild(columns);
        forest
    }

    /// Becomes the trees of other spans, in the memory it has.
    pub fn rebuild(&mut self, columns: &TraceColumns<'_>) {
        self.work.resolve(columns, &mut self.copies);
        self.lay_out();
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of a node.
    pub fn row(&self, node: usize) -> usize {
        self.rows[node] as usize
    }

    /// The rows of all nodes, in tree order.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The node of a node's parent; `None` unless its placement is `Child`.
    pub fn parent(&self, node: usize) -> Option<usize> {
        let parent = self.parents[node];
        (parent != NONE).then_some(parent as usize)
    }

    /// For each node its parent's node, [`NONE`] at a top.
    pub fn parents(&self) -> &[u32] {
        &self.parents
    }

    /// Steps from the top: 0 at the top of a tree.
    pub fn depth(&self, node: usize) -> usize {
        self.depths[node] as usize
    }

    /// The depths of all nodes.
    pub fn depths(&self) -> &[u32] {
        &self.depths
    }

    /// The node after the last one below a node; `node + 1` at a leaf.
    pub fn subtree_end(&self, node: usize) -> usize {
        self.subtree_ends[node] as usize
    }

    /// The ends of all subtrees.
    pub fn subtree_ends(&self) -> &[u32] {
        &self.subtree_ends
    }

    /// How many children a node has.
    pub fn child_count(&self, node: usize) -> usize {
        self.child_counts[node] as usize
    }

    /// The child counts of all nodes.
    pub fn child_counts(&self) -> &[u32] {
        &self.child_counts
    }

    /// How many nodes lie below a node, at any depth.
    pub fn descendant_count(&self, node: usize) -> usize {
        self.subtree_end(node) - node - 1
    }

    /// Why a node stands where it does.
    pub fn placement(&self, node: usize) -> Placement {
        self.marks[node].placement
    }

    /// Whether another span of the trace that is no copy of this one has the same id.
    pub fn shares_id(&self, node: usize) -> bool {
        self.marks[node].shares_id
    }

    /// The rows that were left out as copies of kept ones, rising.
    pub fn copies(&self) -> &[u32] {
        &self.copies
    }

    /// Writes for each of `row_count` rows its node, [`NONE`] where it was left out.
    pub fn nodes_of_rows(&self, row_count: usize, nodes: &mut Vec<u32>) {
        nodes.clear();
        nodes.resize(row_count, NONE);
        for (node, row) in self.rows.iter().enumerate() {
            if let Some(place) = nodes.get_mut(*row as usize) {
                *place = node as u32;
            }
        }
    }

    /// Whether `above` is an ancestor of `below`; no node is its own.
    pub fn is_ancestor(&self, above: usize, below: usize) -> bool {
        above < below && below < self.subtree_end(above)
    }

    /// The nodes at the tops of their trees: roots, orphans and broken cycles.
    pub fn tops(&self) -> impl Iterator<Item = usize> + '_ {
        self.siblings_from(0, self.len())
    }

    /// The children of a node, in order.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.siblings_from(node + 1, self.subtree_end(node))
    }

    /// The nodes below a node, at any depth, in tree order.
    pub fn descendants(&self, node: usize) -> Range<usize> {
        node + 1..self.subtree_end(node)
    }

    /// The nodes above a node, the nearest first.
    pub fn ancestors(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.parent(node), |node| self.parent(*node))
    }

    /// The other children of a node's parent, or the other tops for a top, in order.
    pub fn siblings(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let family = match self.parent(node) {
            Some(parent) => self.siblings_from(parent + 1, self.subtree_end(parent)),
            None => self.siblings_from(0, self.len()),
        };
        family.filter(move |sibling| *sibling != node)
    }

    fn siblings_from(&self, first: usize, end: usize) -> Siblings<'_> {
        Siblings {
            subtree_ends: &self.subtree_ends,
            next: first,
            end,
        }
    }
}

/// Nodes one after another, each with what lies below it stepped over.
struct Siblings<'a> {
    subtree_ends: &'a [u32],
    next: usize,
    end: usize,
}

impl Iterator for Siblings<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next >= self.end {
            return None;
        }
        let node = self.next;
        self.next = self.subtree_ends[node] as usize;
        Some(node)
    }
}

/// What laying out needs beside its result; indexed by rank, the place in the order of siblings.
#[derive(Debug, Clone, Default)]
struct Layout {
    places: Vec<Place>,
    /// For chains of siblings, where parents do not all come before their children.
    first_child: Vec<u32>,
    next_sibling: Vec<u32>,
    walk_of: Vec<u32>,
    sequence: Vec<u32>,
}

/// What is known of a span on the way to its node.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The span and all below it.
    size: u32,
    child_count: u32,
    /// Where its next child goes.
    next: u32,
    node: u32,
}

fn refill<T: Copy>(column: &mut Vec<T>, len: usize, value: T) {
    column.clear();
    column.resize(len, value);
}

impl Forest {
    /// Numbers the nodes, once the parent of each span is known.
    fn lay_out(&mut self) {
        let count = self.work.rows.len();
        let parents = &self.work.parents;
        let rises = parents
            .iter()
            .enumerate()
            .all(|(rank, parent)| *parent == NONE || (*parent as usize) < rank);
        let work = &mut self.order;
        if rises {
            work.sequence.clear();
        } else {
            work.break_cycles(&mut self.work.parents, &mut self.work.marks);
            work.parents_first(&self.work.parents);
        }
        let parents = &self.work.parents;
        let alone = Place {
            size: 1,
            child_count: 0,
            next: 0,
            node: NONE,
        };
        refill(&mut work.places, count, alone);
        let rank_at = |at: usize, sequence: &[u32]| match sequence.get(at) {
            Some(rank) => *rank as usize,
            None => at,
        };
        for at in (0..count).rev() {
            let rank = rank_at(at, &work.sequence);
            let size = work.places[rank].size;
            if let Some(parent) = work.places.get_mut(parents[rank] as usize) {
                parent.size += size;
                parent.child_count += 1;
            }
        }
        // Each node is written below; what was there before does not matter.
        self.rows.resize(count, 0);
        self.parents.resize(count, NONE);
        self.depths.resize(count, 0);
        self.subtree_ends.resize(count, 0);
        self.child_counts.resize(count, 0);
        self.marks.resize(count, Mark::default());
        let mut next_top = 0;
        for at in 0..count {
            let rank = rank_at(at, &work.sequence);
            let Place {
                size, child_count, ..
            } = work.places[rank];
            let (node, above, depth) = match work.places.get_mut(parents[rank] as usize) {
                Some(parent) => {
                    let node = parent.next;
                    parent.next += size;
                    (node, parent.node, self.depths[parent.node as usize] + 1)
                }
                None => {
                    let node = next_top;
                    next_top += size;
                    (node, NONE, 0)
                }
            };
            work.places[rank].next = node + 1;
            work.places[rank].node = node;
            let node = node as usize;
            self.rows[node] = self.work.rows[rank];
            self.parents[node] = above;
            self.depths[node] = depth;
            self.subtree_ends[node] = node as u32 + size;
            self.child_counts[node] = child_count;
            self.marks[node] = self.work.marks[rank];
        }
    }
}

impl Layout {
    /// Makes the first span of each cycle a top. Ranks rise with start, so the least rank is the
    /// first by start.
    fn break_cycles(&mut self, parents: &mut [u32], marks: &mut [Mark]) {
        // For each span the walk that first came by.
        refill(&mut self.walk_of, parents.len(), NONE);
        for walk in 0..parents.len() {
            let mut at = walk;
            while self.walk_of[at] == NONE {
                self.walk_of[at] = walk as u32;
                match parents[at] {
                    NONE => break,
                    parent => at = parent as usize,
                }
            }
            // A walk that ends at a span it came by itself, and that has a parent still, has
            // gone in a circle.
            if self.walk_of[at] != walk as u32 || parents[at] == NONE {
                continue;
            }
            let mut first = at;
            let mut step = parents[at] as usize;
            while step != at {
                first = first.min(step);
                step = parents[step] as usize;
            }
            parents[first] = NONE;
            marks[first].placement = Placement::CycleBroken;
        }
    }

    /// A sequence of all ranks, each parent before its children, siblings by rank.
    fn parents_first(&mut self, parents: &[u32]) {
        let count = parents.len();
        refill(&mut self.first_child, count, NONE);
        refill(&mut self.next_sibling, count, NONE);
        let mut first_top = NONE;
        for rank in (0..count).rev() {
            let first = match parents[rank] {
                NONE => &mut first_top,
                parent => &mut self.first_child[parent as usize],
            };
            self.next_sibling[rank] = *first;
            *first = rank as u32;
        }
        self.sequence.clear();
        let mut at = first_top;
        while at != NONE {
            self.sequence.push(at);
            let mut next = self.first_child[at as usize];
            // Up, until there is somebody beside.
            while next == NONE && at != NONE {
                next = self.next_sibling[at as usize];
                at = parents[at as usize];
            }
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_rows, spans, stored_offsets};
    use super::super::{NO_OFFSET, TraceBuffer};
    use super::*;
    use crate::span::SpanKind;
    use proptest::prelude::*;

    /// The tree as `id@depth` in tree order, with a letter for what is no plain root or child.
    fn shape(columns: &TraceColumns<'_>) -> String {
        let forest = Forest::new(columns);
        let nodes = (0..forest.len()).map(|node| {
            let mark = match forest.placement(node) {
                Placement::Root | Placement::Child => "",
                Placement::Orphan => "o",
                Placement::CycleBroken => "c",
            };
            let id = columns.span_id(forest.row(node));
            format!("{id}@{}{mark}", forest.depth(node))
        });
        nodes.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nodes_below_are_a_range_and_families_are_walked() {
        let buffer = spans(&[
            "1 - 0 9 a",
            "2 1 1 1 a",
            "3 2 2 1 a",
            "4 1 3 1 a",
            "5 99 4 1 a",
        ]);
        let forest = Forest::new(&buffer.columns());
        assert_eq!(forest.rows(), [0, 1, 2, 3, 4]);
        assert_eq!(forest.descendants(0), 1..4);
        assert_eq!(forest.descendant_count(0), 3);
        assert_eq!(forest.children(0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(forest.child_counts(), [2, 1, 0, 0, 0]);
        assert_eq!(forest.ancestors(2).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(forest.siblings(3).collect::<Vec<_>>(), [1]);
        assert_eq!(forest.siblings(0).collect::<Vec<_>>(), [4]);
        assert_eq!(forest.tops().collect::<Vec<_>>(), [0, 4]);
        assert!(forest.is_ancestor(0, 2) && !forest.is_ancestor(0, 0));
        assert!(!forest.is_ancestor(2, 0) && !forest.is_ancestor(0, 4));
    }

    #[test]
    fn rows_know_their_nodes_but_for_copies() {
        let buffer = spans(&["2 1 5 1 a", "1 - 0 9 a", "2 1 5 1 a"]);
        let forest = Forest::new(&buffer.columns());
        let mut nodes = Vec::new();
        forest.nodes_of_rows(3, &mut nodes);
        assert_eq!(nodes, [1, 0, NONE]);
        assert_eq!(forest.copies(), [2]);
    }

    #[test]
    fn copies_are_told_by_id_kind_start_duration_and_name_alone() {
        // The first row is kept, with its own parent.
        let rows = ["1 - 0 9 a", "2 1 1 1 a", "2 7 1 1 b ERROR"];
        assert_eq!(shape(&spans(&rows).columns()), "1@0 2@1");
        let rows = ["1 - 0 9 a", "2 7 1 1 b ERROR", "2 1 1 1 a"];
        assert_eq!(shape(&spans(&rows).columns()), "1@0 2@0o");
        for other in [
            "2 1 1 1 a CLIENT",
            "2 1 2 1 a",
            "2 1 1 2 a",
            "2 1 1 1 a name",
        ] {
            let forest = Forest::new(&spans(&["1 - 0 9 a", "2 1 1 1 a", other]).columns());
            assert_eq!((forest.len(), forest.copies().len()), (3, 0), "{other}");
            assert!(forest.shares_id(1) && forest.shares_id(2) && !forest.shares_id(0));
        }
    }

    #[test]
    fn the_answering_half_of_a_call_stands_under_the_asking_one() {
        let rows = [
            "1 - 0 9 web",
            "2 1 1 5 web CLIENT",
            "2 1 2 3 app SERVER",
            "3 2 3 1 app",
            "4 2 3 1 web",
            "5 2 3 1 db",
        ];
        let buffer = spans(&rows);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        let parent = |id: u64| {
            let node = (0..forest.len()).find(|node| columns.span_id(forest.row(*node)) == id);
            forest.row(forest.parent(node.unwrap()).unwrap())
        };
        // The server's half is row 2, the client's row 1.
        assert_eq!((parent(3), parent(4), parent(5)), (2, 1, 2));
        assert_eq!(shape(&columns), "1@0 2@1 2@2 3@3 5@3 4@2");
        // Nothing of the kind without a common parent.
        let rows = ["1 - 0 9 a", "2 1 1 5 a CLIENT", "2 - 2 3 b SERVER"];
        assert_eq!(shape(&spans(&rows).columns()), "1@0 2@1 2@0");
    }

    #[test]
    fn without_ids_offsets_are_all_there_is() {
        let columns = TraceColumns {
            parent_span_id: &[0, 1, 1, 1, 1],
            parent_offset: &[NO_OFFSET, -1, NO_OFFSET, 0, 77],
            start_time_unix_nano: &[0, 1, 2, 3, 4],
            ..TraceColumns::default()
        };
        let forest = Forest::new(&columns);
        assert_eq!(forest.parents(), [NONE, 0, NONE, NONE, NONE]);
        let placements: Vec<_> = (0..5).map(|node| forest.placement(node)).collect();
        use Placement::{Child, CycleBroken, Orphan, Root};
        assert_eq!(placements, [Root, Child, Orphan, CycleBroken, Orphan]);
    }

    #[test]
    fn offsets_that_lie_are_not_believed() {
        let buffer = spans(&["1 - 0 9 a", "2 1 1 1 a", "3 1 2 1 a"]);
        for offsets in [[-1, -1, -1], [5, i32::MAX, i32::MIN + 1], [0, 0, 0]] {
            let columns = TraceColumns {
                parent_offset: &offsets,
                ..buffer.columns()
            };
            assert_eq!(shape(&columns), "1@0 2@1 3@1", "{offsets:?}");
        }
    }

    #[test]
    fn columns_that_are_not_there_make_no_panic() {
        let columns = TraceColumns {
            start_time_unix_nano: &[3, 1, 2],
            span_id: &[7, 8],
            ..TraceColumns::default()
        };
        assert_eq!(Forest::new(&columns).len(), 3);
        assert!(Forest::new(&TraceColumns::default()).is_empty());
    }

    /// Each kept row's parent row, by comparing all pairs.
    fn naive_parents(columns: &TraceColumns<'_>) -> Vec<(usize, Option<usize>)> {
        let identity = |row: usize| {
            (
                columns.start(row),
                columns.span_id(row),
                columns.kind(row) as i8,
                columns.raw_duration(row),
                columns.name(row),
            )
        };
        let mut kept: Vec<usize> = Vec::new();
        for row in 0..columns.len() {
            if !kept.iter().any(|other| identity(*other) == identity(row)) {
                kept.push(row);
            }
        }
        kept.sort_by_key(|row| identity(*row));
        let asking_half = |row: usize| {
            let asking = match columns.kind(row) {
                SpanKind::Server => SpanKind::Client,
                SpanKind::Consumer => SpanKind::Producer,
                _ => return None,
            };
            kept.iter().copied().find(|other| {
                columns.kind(*other) == asking
                    && columns.span_id(*other) == columns.span_id(row)
                    && columns.parent_span_id(*other) == columns.parent_span_id(row)
            })
        };
        let parent_of = |row: usize| {
            if let Some(half) = asking_half(row) {
                return Some(half);
            }
            let id = columns.parent_span_id(row);
            let named: Vec<usize> = kept
                .iter()
                .copied()
                .filter(|other| id != 0 && columns.span_id(*other) == id)
                .collect();
            let others = || named.iter().copied().filter(|other| *other != row);
            let answering = named
                .iter()
                .copied()
                .find(|other| asking_half(*other).is_some());
            others()
                .find(|other| columns.service(*other) == columns.service(row))
                .or_else(|| answering.filter(|other| *other != row))
                .or_else(|| others().next())
        };
        // Each circle breaks at its first span in the order of siblings.
        let breaks = |row: usize| {
            let mut circle = vec![row];
            let mut at = parent_of(row);
            while let Some(above) = at.filter(|above| *above != row && circle.len() <= kept.len()) {
                circle.push(above);
                at = parent_of(above);
            }
            at == Some(row) && circle.iter().min_by_key(|row| identity(**row)) == Some(&row)
        };
        kept.iter()
            .map(|row| (*row, parent_of(*row).filter(|_| !breaks(*row))))
            .collect()
    }

    /// What stands where, by row.
    fn parents_of_rows(forest: &Forest) -> Vec<(usize, Option<usize>)> {
        (0..forest.len())
            .map(|node| {
                let parent = forest.parent(node).map(|parent| forest.row(parent));
                (forest.row(node), parent)
            })
            .collect()
    }

    fn by_row(mut parents: Vec<(usize, Option<usize>)>) -> Vec<(usize, Option<usize>)> {
        parents.sort_unstable();
        parents
    }

    proptest! {
        #[test]
        fn the_forest_is_that_of_the_naive_way(rows in random_rows()) {
            let buffer = rows.buffer();
            let columns = buffer.columns();
            let forest = Forest::new(&columns);
            prop_assert_eq!(by_row(parents_of_rows(&forest)), by_row(naive_parents(&columns)));
            prop_assert_eq!(forest.len() + forest.copies().len(), columns.len());
        }

        #[test]
        fn offsets_change_nothing_and_neither_does_memory_used_before(
            rows in random_rows(),
            before in random_rows(),
        ) {
            let buffer = rows.buffer();
            let columns = buffer.columns();
            let plain = Forest::new(&columns);
            let offsets = stored_offsets(&columns);
            let hinted = TraceColumns { parent_offset: &offsets, ..columns };
            let mut again = Forest::new(&before.buffer().columns());
            again.rebuild(&hinted);
            prop_assert_eq!(parents_of_rows(&again), parents_of_rows(&plain));
            prop_assert_eq!(again.copies(), plain.copies());
            for node in 0..plain.len() {
                prop_assert_eq!(again.placement(node), plain.placement(node));
                prop_assert_eq!(again.shares_id(node), plain.shares_id(node));
            }
        }

        #[test]
        fn numbers_agree_with_parents(rows in random_rows()) {
            let forest = Forest::new(&rows.buffer().columns());
            for node in 0..forest.len() {
                let below = (0..forest.len()).filter(|other| {
                    forest.ancestors(*other).any(|above| above == node)
                });
                let below: Vec<usize> = below.collect();
                let range: Vec<usize> = forest.descendants(node).collect();
                prop_assert_eq!(below, range);
                prop_assert_eq!(forest.depth(node), forest.ancestors(node).count());
                prop_assert_eq!(forest.child_count(node), forest.children(node).count());
                prop_assert_eq!(
                    forest.placement(node) == Placement::Child,
                    forest.parent(node).is_some()
                );
            }
        }

        #[test]
        fn the_order_of_rows_changes_nothing(rows in random_rows(), seed in any::<u64>()) {
            // Copies that differ in their parents depend on the order, so none are made here.
            let buffer = rows.buffer();
            let mut kept: Vec<_> = rows.0.clone();
            let forest = Forest::new(&buffer.columns());
            for copy in forest.copies().iter().rev() {
                kept.remove(*copy as usize);
            }
            let mut shuffled = kept.clone();
            for index in 1..shuffled.len() {
                let other = seed.rotate_left(index as u32) % (index as u64 + 1);
                shuffled.swap(index, other as usize);
            }
            let tree = |buffer: &TraceBuffer| {
                let columns = buffer.columns();
                let forest = Forest::new(&columns);
                (0..forest.len())
                    .map(|node| {
                        let row = forest.row(node);
                        let name = buffer.name(columns.name(row)).map(str::to_string);
                        let key = (columns.span_id(row), columns.start(row), columns.kind(row) as i8);
                        (key, columns.raw_duration(row), name, forest.parent(node))
                    })
                    .collect::<Vec<_>>()
            };
            let one = super::super::testing::RandomRows(kept).buffer();
            let other = super::super::testing::RandomRows(shuffled).buffer();
            // Names are numbered as they come, and decide only between spans alike in all else.
            let mut left = tree(&one);
            let mut right = tree(&other);
            if one.name(0) != other.name(0) {
                left.sort();
                right.sort();
                left.iter_mut().chain(&mut right).for_each(|node| node.3 = None);
            }
            prop_assert_eq!(left, right);
        }
    }
}
