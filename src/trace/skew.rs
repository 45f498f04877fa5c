//! Clock skew: by how much the spans of a host would have to be moved to fit their parents.
//!
//! Read [`ClockSkew`]. Nothing calls this unless asked to; what is odd about times is told by
//! `findings.rs`.

use super::{Forest, TraceColumns};

/// By how much the clock of each span's host seems to be wrong.
///
/// ```text
///   as reported   host a   ├─────────────────┤
///                 host b ├───────┤                 starts before its parent
///   corrected     host a   ├─────────────────┤
///                 host b        ├───────┤          the time left is shared out before and after
/// ```
///
/// The rules are those of Jaeger's clock-skew adjuster
/// (`cmd/jaeger/internal/extension/jaegerquery/internal/adjuster/clockskew.go` of
/// <https://github.com/jaegertracing/jaeger>), from the tops down:
///
/// 1. A span of the host of its parent, if that is known, has its parent's correction.
/// 2. Any other is compared with its corrected parent. One that lies within it is not moved. One
///    that lasts longer is moved to its start if it starts before it, else not at all. The rest
///    is moved to the middle of it: the time the call took on the way is taken to be the same
///    there and back.
/// 3. A correction greater than the limit is not applied, to the span or to those that have it
///    from it; a limit of 0 switches corrections off.
///
/// Tops are not moved. Spans that never ended count as moments.
#[derive(Debug, Clone, Default)]
pub struct ClockSkew {
    deltas: Vec<i64>,
    refused: Vec<bool>,
}

impl ClockSkew {
    /// The corrections of all nodes of a forest.
    ///
    /// `hosts` has for each row the number of its host: its resource's `host.id`, else the first
    /// `host.ip`, else `host.name`; 0, or no value, where not known. `max_delta_nano` is the
    /// limit; Jaeger's own default is 0.
    pub fn new(
        columns: &TraceColumns<'_>,
        forest: &Forest,
        hosts: &[u32],
        max_delta_nano: i64,
    ) -> Self {
        let host = |node: usize| hosts.get(forest.row(node)).copied().unwrap_or(0);
        let mut skew = Self::default();
        // What was found for each node, applied or not.
        let mut found: Vec<i64> = Vec::with_capacity(forest.len());
        for node in 0..forest.len() {
            let row = forest.row(node);
            let delta = match forest.parent(node) {
                None => 0,
                Some(parent) if host(node) != 0 && host(node) == host(parent) => found[parent],
                Some(parent) => {
                    let above = forest.row(parent);
                    let moved = skew.deltas[parent];
                    delta_to_fit(
                        (columns.start(row), columns.end(row)),
                        (
                            columns.start(above).saturating_add(moved),
                            columns.end(above).saturating_add(moved),
                        ),
                    )
                }
            };
            found.push(delta);
            let refused = delta.saturating_abs() > max_delta_nano;
            skew.deltas.push(if refused { 0 } else { delta });
            skew.refused.push(refused);
        }
        skew
    }

    /// For each node what is to be added to its start, its end and the times of its events.
    pub fn delta_nano(&self) -> &[i64] {
        &self.deltas
    }

    /// For each node whether a correction was found and, being greater than the limit, refused.
    pub fn is_refused(&self) -> &[bool] {
        &self.refused
    }
}

fn delta_to_fit(child: (i64, i64), parent: (i64, i64)) -> i64 {
    let child_duration = child.1.saturating_sub(child.0);
    let parent_duration = parent.1.saturating_sub(parent.0);
    if child_duration > parent_duration {
        return parent.0.saturating_sub(child.0).max(0);
    }
    if child.0 >= parent.0 && child.1 <= parent.1 {
        return 0;
    }
    let way = parent_duration.saturating_sub(child_duration) / 2;
    parent.0.saturating_add(way).saturating_sub(child.0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::spans;
    use super::*;

    /// The corrections of spans given in tree order, hosts by letters in the service's place.
    fn deltas(rows: &[&str], max: i64) -> Vec<i64> {
        let buffer = spans(rows);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        // Unknown services are unknown hosts.
        let hosts: Vec<u32> = columns.service.iter().map(|s| s.wrapping_add(1)).collect();
        let skew = ClockSkew::new(&columns, &forest, &hosts, max);
        (0..rows.len())
            .map(|row| {
                let node = forest.rows().iter().position(|at| *at as usize == row);
                skew.delta_nano()[node.unwrap()]
            })
            .collect()
    }

    #[test]
    fn spans_that_fit_or_are_of_one_host_are_not_moved() {
        assert_eq!(deltas(&["1 - 0 100 a", "2 1 10 50 a"], 1000), [0, 0]);
        assert_eq!(deltas(&["1 - 10 100 a", "2 1 0 50 a"], 1000), [0, 0]);
        assert_eq!(deltas(&["1 - 10 100 a", "2 1 20 50 b"], 1000), [0, 0]);
        assert_eq!(deltas(&["1 99 10 100 a"], 1000), [0]);
    }

    #[test]
    fn a_shorter_child_is_moved_to_the_middle() {
        assert_eq!(deltas(&["1 - 10 100 a", "2 1 0 50 b"], 1000), [0, 35]);
        assert_eq!(deltas(&["1 - 10 100 a", "2 1 80 50 b"], 1000), [0, -45]);
    }

    #[test]
    fn a_longer_child_is_moved_at_most_to_the_start() {
        assert_eq!(deltas(&["1 - 10 100 a", "2 1 0 150 b"], 1000), [0, 10]);
        assert_eq!(deltas(&["1 - 10 100 a", "2 1 20 150 b"], 1000), [0, 0]);
    }

    #[test]
    fn spans_of_one_host_move_together_and_siblings_apart() {
        let rows = [
            "1 - 10 100 a",
            "2 1 0 50 b",
            "3 2 0 10 c",
            "4 2 5 10 b",
            "5 2 10 10 b",
        ];
        assert_eq!(deltas(&rows, 1000), [0, 35, 55, 35, 35]);
    }

    #[test]
    fn spans_of_unknown_hosts_are_compared_each_by_itself() {
        let rows = ["1 - 10 100 ?", "2 1 0 50 ?", "3 2 40 10 ?"];
        assert_eq!(deltas(&rows, 1000), [0, 35, 0]);
    }

    #[test]
    fn a_correction_beyond_the_limit_is_refused() {
        let rows = ["1 - 10 100 a", "2 1 0 50 b", "3 2 5 10 b"];
        assert_eq!(deltas(&rows, 34), [0, 0, 0]);
        assert_eq!(deltas(&rows, 0), [0, 0, 0]);
        assert_eq!(deltas(&rows, 35), [0, 35, 35]);
        let buffer = spans(&rows);
        let columns = buffer.columns();
        let skew = ClockSkew::new(&columns, &Forest::new(&columns), &[1, 2, 2], 10);
        assert_eq!(skew.is_refused(), [false, true, true]);
    }
}
