//! The critical path: which span the trace waited for at each moment.
//!
//! Read [`CriticalPath`].

use std::cmp::Reverse;

use super::{Forest, TraceColumns};
use crate::span::SpanKind;

/// A stretch of the critical path: from `start` to `end` the trace waited for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathSection {
    /// The node at the top of the tree whose path this is.
    pub top: u32,
    /// The node.
    pub node: u32,
    /// Nanoseconds since the Unix epoch.
    pub start: i64,
    /// Nanoseconds since the Unix epoch, after `start`.
    pub end: i64,
}

impl PathSection {
    /// How long the section lasts, in nanoseconds.
    pub fn duration_nano(&self) -> i64 {
        self.end.saturating_sub(self.start)
    }
}

/// The critical path of each tree of a trace.
///
/// ```text
///   A   ├═══╡··················╞══╡──────┤
///   B       ├════════╡                        C runs beside B and ends before it: not waited for
///   C        ├────┤                           D outlives A: only what lies in A counts
///   D                        ├══════════─┄┄┄┄
///       A   B        A       D
/// ```
///
/// The definition is that of Jaeger UI
/// (`packages/jaeger-ui/src/components/TracePage/CriticalPath` of
/// <https://github.com/jaegertracing/jaeger-ui>):
///
/// 1. Each span is clipped to its parent, which was clipped before. What lies outside altogether
///    (starts at the parent's end or later, or starts before it and ends by its start) is left
///    out with all that is below it. So is a CONSUMER below a PRODUCER: nobody waits for it.
/// 2. The walk begins at the end of the top. From a span it goes to the child that ends last, of
///    several the first by start; the time between that end and where the walk was is the span's.
/// 3. A span without such a child has the time back to its start. From there the walk is at the
///    parent again, and only children that end *before* that moment are looked at: one that ends
///    just when the other starts was not waited for.
///
/// Spans that never ended or have a negative duration count as moments at their start. Sections
/// without length are left out. Each root, orphan and broken cycle has a path of its own, in tree
/// order; the sections of one path are in time order and cover its top from start to end.
#[derive(Debug, Clone, Default)]
pub struct CriticalPath {
    sections: Vec<PathSection>,
    /// When each node starts and ends, clipped; `None` where it is left out.
    clipped: Vec<Option<(i64, i64)>>,
    /// Children of the nodes of `frames` that were not looked at yet, the one to look at first
    /// at the end.
    pending: Vec<u32>,
    frames: Vec<Frame>,
}

/// A node on the way from the top to where the walk is.
#[derive(Debug, Clone, Copy)]
struct Frame {
    node: u32,
    /// Where its children begin in `pending`.
    first_pending: usize,
    /// Where the walk is in time.
    at: i64,
    /// Whether the walk was in one of its children.
    returned: bool,
}

impl CriticalPath {
    /// The critical path of each tree.
    pub fn new(columns: &TraceColumns<'_>, forest: &Forest) -> Self {
        let mut path = Self::default();
        path.rebuild(columns, forest);
        path
    }

    /// Becomes the critical path of another forest, in the memory it has.
    pub fn rebuild(&mut self, columns: &TraceColumns<'_>, forest: &Forest) {
        self.sections.clear();
        self.clip(columns, forest);
        let mut top = 0;
        while top < forest.len() {
            let first = self.sections.len();
            self.walk(forest, top);
            self.sections[first..].reverse();
            top = forest.subtree_end(top);
        }
    }

    /// The sections, tree by tree, each in time order.
    pub fn sections(&self) -> &[PathSection] {
        &self.sections
    }

    /// Writes for each node how long the trace waited for it, in nanoseconds: 0 off the path.
    pub fn nano_of_nodes(&self, node_count: usize, nano: &mut Vec<i64>) {
        nano.clear();
        nano.resize(node_count, 0);
        for section in &self.sections {
            if let Some(sum) = nano.get_mut(section.node as usize) {
                *sum = sum.saturating_add(section.duration_nano());
            }
        }
    }

    fn clip(&mut self, columns: &TraceColumns<'_>, forest: &Forest) {
        self.clipped.clear();
        for (node, row) in forest.rows().iter().enumerate() {
            let row = *row as usize;
            let (start, end) = (columns.start(row), columns.end(row));
            let clipped = match forest.parent(node) {
                None => Some((start, end)),
                Some(parent) => {
                    let waits = columns.raw_kind(row) != SpanKind::Consumer as i8
                        || columns.raw_kind(forest.row(parent)) != SpanKind::Producer as i8;
                    self.clipped[parent]
                        .filter(|_| waits)
                        .filter(|(from, to)| start < *to && (start >= *from || end > *from))
                        .map(|(from, to)| (start.max(from), end.min(to)))
                }
            };
            self.clipped.push(clipped);
        }
    }

    /// Appends the path of one tree, the last section first.
    fn walk(&mut self, forest: &Forest, top: usize) {
        self.enter(forest, top);
        while let Some(frame) = self.frames.last().copied() {
            // Every node that was entered is in the tree with its interval.
            let start = self.clipped[frame.node as usize].map_or(frame.at, |(start, _)| start);
            let mut next = None;
            while self.pending.len() > frame.first_pending && next.is_none() {
                next = self.pending.pop().and_then(|child| {
                    let (_, end) = self.clipped[child as usize]?;
                    (!frame.returned || end < frame.at).then_some((child, end))
                });
            }
            let until = next.map_or(start, |(_, end)| end);
            if until < frame.at {
                self.sections.push(PathSection {
                    top: top as u32,
                    node: frame.node,
                    start: until,
                    end: frame.at,
                });
            }
            match next {
                Some((child, _)) => self.enter(forest, child as usize),
                None => {
                    self.frames.pop();
                    if let Some(parent) = self.frames.last_mut() {
                        parent.at = start;
                        parent.returned = true;
                    }
                }
            }
        }
    }

    fn enter(&mut self, forest: &Forest, node: usize) {
        let Some((_, end)) = self.clipped[node] else {
            return;
        };
        let first_pending = self.pending.len();
        let clipped = &self.clipped;
        let children = forest.children(node).map(|child| child as u32);
        self.pending
            .extend(children.filter(|child| clipped[*child as usize].is_some()));
        self.pending[first_pending..].sort_unstable_by_key(|child| {
            let end = clipped[*child as usize].map(|(_, end)| end);
            (end, Reverse(*child))
        });
        self.frames.push(Frame {
            node: node as u32,
            first_pending,
            at: end,
            returned: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{naive_critical_path, random_rows, spans};
    use super::*;
    use proptest::prelude::*;

    /// The path as `id start-end`, in time order.
    fn path(rows: &[&str]) -> Vec<String> {
        let buffer = spans(rows);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        let path = CriticalPath::new(&columns, &forest);
        let sections = path.sections().iter();
        sections
            .map(|section| {
                let id = columns.span_id(forest.row(section.node as usize));
                format!("{id} {}-{}", section.start, section.end)
            })
            .collect()
    }

    #[test]
    fn the_child_that_ends_last_is_waited_for() {
        let rows = ["1 - 0 100 a", "2 1 10 40 a", "3 1 20 20 b", "4 1 60 90 b"];
        let expected = ["1 0-10", "2 10-50", "1 50-60", "4 60-100"];
        assert_eq!(path(&rows), expected);
    }

    #[test]
    fn of_children_that_end_together_the_first_by_start_is_waited_for() {
        let rows = ["1 - 0 10 a", "2 1 4 4 a", "3 1 2 6 a"];
        assert_eq!(path(&rows), ["1 0-2", "3 2-8", "1 8-10"]);
    }

    #[test]
    fn a_child_that_ends_just_when_the_next_starts_is_not_waited_for() {
        let rows = ["1 - 0 10 a", "2 1 1 4 a", "3 1 5 4 a"];
        assert_eq!(path(&rows), ["1 0-5", "3 5-9", "1 9-10"]);
    }

    #[test]
    fn what_lies_outside_its_parent_is_left_out_with_all_below() {
        let rows = [
            "1 - 10 10 a",
            "2 1 0 10 a",
            "3 1 20 5 a",
            "4 3 12 5 a",
            "5 1 5 6 a",
        ];
        assert_eq!(path(&rows), ["5 10-11", "1 11-20"]);
    }

    #[test]
    fn nobody_waits_for_a_consumer_below_its_producer() {
        let rows = ["1 - 0 10 a PRODUCER", "2 1 2 20 b CONSUMER", "3 2 4 2 b"];
        assert_eq!(path(&rows), ["1 0-10"]);
        let rows = ["1 - 0 10 a CLIENT", "2 1 2 20 b CONSUMER"];
        assert_eq!(path(&rows), ["1 0-2", "2 2-10"]);
    }

    #[test]
    fn each_top_has_its_own_path() {
        let rows = ["1 - 0 10 a", "2 9 5 10 b", "3 2 6 1 b"];
        assert_eq!(path(&rows), ["1 0-10", "2 5-6", "3 6-7", "2 7-15"]);
    }

    #[test]
    fn spans_without_length_have_no_sections() {
        let rows = ["1 - 0 10 a", "2 1 5 0 a", "3 1 5 ? a", "4 1 7 -3 a"];
        assert_eq!(path(&rows), ["1 0-5", "1 5-7", "1 7-10"]);
        assert!(path(&["1 - 0 0 a", "2 1 0 0 a"]).is_empty());
        assert!(path(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn the_path_is_that_of_the_recursive_definition(rows in random_rows()) {
            let buffer = rows.buffer();
            let columns = buffer.columns();
            let forest = Forest::new(&columns);
            let path = CriticalPath::new(&columns, &forest);
            prop_assert_eq!(path.sections(), naive_critical_path(&columns, &forest));
        }

        #[test]
        fn the_sections_of_a_top_cover_it_without_gap_or_overlap(rows in random_rows()) {
            let buffer = rows.buffer();
            let columns = buffer.columns();
            let forest = Forest::new(&columns);
            let path = CriticalPath::new(&columns, &forest);
            for top in forest.tops() {
                let row = forest.row(top);
                let mut at = columns.start(row);
                for section in path.sections().iter().filter(|section| section.top == top as u32) {
                    prop_assert!(section.start == at && section.end > at);
                    at = section.end;
                }
                prop_assert_eq!(at, columns.end(row));
            }
        }
    }
}
