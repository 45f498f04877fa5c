//! Self time: what of a span's duration none of its children covers.
//!
//! Read [`SelfTimes`].

use super::{Forest, TraceColumns, UNFINISHED};

/// The self times of all nodes of a forest.
///
/// ```text
///   parent   ├──────────────────────────┤
///   child      ├────┤
///   child         ├─────┤                    overlapping children count once
///   child                           ├──────┤ outliving the parent counts to the parent's end
///   self     ╞═╡        ╞═══════════╡
/// ```
///
/// The self time is the duration less the length of the union of the children's intervals, each
/// clipped to the span (as Jaeger UI's trace statistics have it). A span that never ended has no
/// self time ([`UNFINISHED`]); one that ended before it began, 0. Children that never ended or
/// have a negative duration cover nothing.
#[derive(Debug, Clone, Default)]
pub struct SelfTimes {
    nano: Vec<i64>,
    /// Up to when the children seen so far cover each node.
    covered_until: Vec<i64>,
}

impl SelfTimes {
    /// The self times of all nodes.
    pub fn new(columns: &TraceColumns<'_>, forest: &Forest) -> Self {
        let mut times = Self::default();
        times.rebuild(columns, forest);
        times
    }

    /// Becomes the self times of another forest, in the memory it has.
    pub fn rebuild(&mut self, columns: &TraceColumns<'_>, forest: &Forest) {
        self.nano.clear();
        self.covered_until.clear();
        // Siblings come in the order of their starts, so what one of them adds to the union lies
        // after what those before it cover.
        for (node, row) in forest.rows().iter().enumerate() {
            let row = *row as usize;
            let start = columns.start(row);
            let duration = columns.raw_duration(row);
            let end = start.saturating_add(duration.max(0));
            self.nano.push(match duration {
                UNFINISHED => UNFINISHED,
                nano => nano.max(0),
            });
            self.covered_until.push(start);
            let Some(parent) = forest.parent(node) else {
                continue;
            };
            if self.nano[parent] <= 0 {
                continue;
            }
            let parent_end = columns.end(forest.row(parent));
            let from = start.max(self.covered_until[parent]);
            let to = end.min(parent_end);
            if to > from {
                self.nano[parent] -= to - from;
                self.covered_until[parent] = to;
            }
        }
    }

    /// The self time of each node in nanoseconds, [`UNFINISHED`] where it never ended.
    pub fn nano(&self) -> &[i64] {
        &self.nano
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{naive_self_time, random_rows, spans};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overlapping_children_count_once_and_only_within_the_parent() {
        let buffer = spans(&[
            "1 - 0 100 a",
            "2 1 10 20 a",
            "3 1 20 20 a",
            "4 1 90 50 a",
            "5 1 -20 25 a",
        ]);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        // Covered: 0..5, 10..40, 90..100.
        assert_eq!(SelfTimes::new(&columns, &forest).nano()[0], 55);
    }

    #[test]
    fn a_span_that_never_ended_has_no_self_time_and_one_turned_round_none_left() {
        let buffer = spans(&["1 - 0 ? a", "2 1 10 20 a", "3 1 20 -5 a", "4 3 20 5 a"]);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        let times = SelfTimes::new(&columns, &forest);
        assert_eq!(times.nano(), [UNFINISHED, 20, 0, 5]);
    }

    proptest! {
        #[test]
        fn self_times_are_those_counted_moment_by_moment(rows in random_rows()) {
            let buffer = rows.buffer();
            let columns = buffer.columns();
            let forest = Forest::new(&columns);
            let times = SelfTimes::new(&columns, &forest);
            for node in 0..forest.len() {
                prop_assert_eq!(times.nano()[node], naive_self_time(&columns, &forest, node));
            }
        }
    }
}
