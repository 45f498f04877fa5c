//! What a trace comes to: one summary a trace, one line a service.
//!
//! Read [`TraceSummary`] and [`ServiceStats`].

use super::{Forest, NONE, Placement, SelfTimes, TraceColumns, UNFINISHED};

/// A trace in one row.
///
/// ```text
///   root      ├────────────────┤
///   child        ├───────┤
///   async            ├──────────────────┤
///   trace     ├─────────────────────────┤   from the earliest start to the latest end
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceSummary {
    /// How many spans there are, copies left out.
    pub span_count: u32,
    /// How many copies were left out.
    pub copy_count: u32,
    /// How many services have spans; those of unknown service are not counted.
    pub service_count: u32,
    /// How many spans have the status ERROR.
    pub error_count: u32,
    /// How many spans name no parent.
    pub root_count: u32,
    /// How many spans name a parent that is not there.
    pub orphan_count: u32,
    /// How many circles of parents were broken.
    pub cycle_count: u32,
    /// Steps from a top to the deepest span.
    pub max_depth: u32,
    /// The node of the first root by start; `None` where every span names a parent.
    pub root: Option<u32>,
    /// The node with the longest duration, of several the first in tree order; `None` where no
    /// span ended.
    pub slowest: Option<u32>,
    /// The earliest start.
    pub start_time_unix_nano: i64,
    /// The latest end; a span that never ended, or ended before it began, ends at its start.
    pub end_time_unix_nano: i64,
}

impl TraceSummary {
    /// The summary of a trace. `services` is a workspace that may be used again.
    pub fn new(columns: &TraceColumns<'_>, forest: &Forest, services: &mut ServiceSet) -> Self {
        let mut summary = Self {
            span_count: forest.len() as u32,
            copy_count: forest.copies().len() as u32,
            start_time_unix_nano: i64::MAX,
            end_time_unix_nano: i64::MIN,
            ..Self::default()
        };
        if forest.is_empty() {
            return Self::default();
        }
        services.clear();
        let mut longest = UNFINISHED;
        for (node, row) in forest.rows().iter().enumerate() {
            let row = *row as usize;
            services.insert(columns.service(row));
            summary.error_count += u32::from(columns.has_error(row));
            match forest.placement(node) {
                Placement::Root => {
                    summary.root_count += 1;
                    summary.root.get_or_insert(node as u32);
                }
                Placement::Orphan => summary.orphan_count += 1,
                Placement::CycleBroken => summary.cycle_count += 1,
                Placement::Child => {}
            }
            summary.max_depth = summary.max_depth.max(forest.depths()[node]);
            let duration = columns.raw_duration(row);
            if duration > longest {
                longest = duration;
                summary.slowest = Some(node as u32);
            }
            summary.start_time_unix_nano = summary.start_time_unix_nano.min(columns.start(row));
            summary.end_time_unix_nano = summary.end_time_unix_nano.max(columns.end(row));
        }
        summary.service_count = services.len() as u32;
        summary
    }

    /// From the earliest start to the latest end, in nanoseconds.
    pub fn duration_nano(&self) -> i64 {
        self.end_time_unix_nano
            .saturating_sub(self.start_time_unix_nano)
    }

    /// Whether all spans hang together under one root: no parent is missing.
    pub fn is_complete(&self) -> bool {
        self.root_count == 1 && self.orphan_count == 0 && self.cycle_count == 0
    }
}

/// A set of numbers of services, emptied quickly.
#[derive(Debug, Clone, Default)]
pub struct ServiceSet {
    /// For each small number the round in which it was last put in.
    rounds: Vec<u32>,
    round: u32,
    len: usize,
    large: std::collections::HashSet<u32>,
}

impl ServiceSet {
    /// Numbers below are looked up in a list: callers count from 0.
    const SMALL: u32 = 1 << 16;

    fn clear(&mut self) {
        self.len = 0;
        self.large.clear();
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.rounds.clear();
            self.round = 1;
        }
    }

    fn insert(&mut self, service: u32) {
        if service == NONE {
            return;
        }
        if service >= Self::SMALL {
            self.len += usize::from(self.large.insert(service));
            return;
        }
        let index = service as usize;
        if index >= self.rounds.len() {
            self.rounds.resize(index + 1, 0);
        }
        if self.rounds[index] != self.round {
            self.rounds[index] = self.round;
            self.len += 1;
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// What one service did in a trace.
///
/// Durations below zero count as zero; spans that never ended count in `span_count` and
/// `error_count` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceStats {
    /// The number of the service, [`NONE`] for spans of unknown service.
    pub service: u32,
    /// How many spans it has, copies left out.
    pub span_count: u32,
    /// How many of them have the status ERROR.
    pub error_count: u32,
    /// How many of them ended.
    pub finished_count: u32,
    /// The sum of durations, in nanoseconds.
    pub total_nano: i64,
    /// The shortest duration; 0 where none ended.
    pub min_nano: i64,
    /// The longest duration; 0 where none ended.
    pub max_nano: i64,
    /// The sum of self times, in nanoseconds.
    pub self_total_nano: i64,
    /// The shortest self time; 0 where none ended.
    pub self_min_nano: i64,
    /// The longest self time; 0 where none ended.
    pub self_max_nano: i64,
}

impl ServiceStats {
    fn new(service: u32) -> Self {
        Self {
            service,
            span_count: 0,
            error_count: 0,
            finished_count: 0,
            total_nano: 0,
            min_nano: 0,
            max_nano: 0,
            self_total_nano: 0,
            self_min_nano: 0,
            self_max_nano: 0,
        }
    }

    fn add(&mut self, duration: Option<i64>, self_nano: i64, has_error: bool) {
        self.span_count += 1;
        self.error_count += u32::from(has_error);
        let Some(nano) = duration.map(|nano| nano.max(0)) else {
            return;
        };
        let is_first = self.finished_count == 0;
        self.finished_count += 1;
        self.total_nano = self.total_nano.saturating_add(nano);
        self.self_total_nano = self.self_total_nano.saturating_add(self_nano);
        self.max_nano = self.max_nano.max(nano);
        self.self_max_nano = self.self_max_nano.max(self_nano);
        if is_first || nano < self.min_nano {
            self.min_nano = nano;
        }
        if is_first || self_nano < self.self_min_nano {
            self.self_min_nano = self_nano;
        }
    }
}

/// One line a service of a trace, by number; spans of unknown service come last.
pub fn service_stats(
    columns: &TraceColumns<'_>,
    forest: &Forest,
    self_times: &SelfTimes,
) -> Vec<ServiceStats> {
    let mut nodes: Vec<(u32, u32)> = forest
        .rows()
        .iter()
        .zip(0u32..)
        .map(|(row, node)| (columns.service(*row as usize), node))
        .collect();
    nodes.sort_unstable();
    let services = nodes.chunk_by(|a, b| a.0 == b.0).map(|nodes| {
        let mut stats = ServiceStats::new(nodes[0].0);
        for (_, node) in nodes {
            let row = forest.row(*node as usize);
            let self_nano = self_times.nano().get(*node as usize).copied().unwrap_or(0);
            stats.add(columns.duration(row), self_nano, columns.has_error(row));
        }
        stats
    });
    services.collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::spans;
    use super::super::{ClockSkew, CriticalPath, find};
    use super::*;
    use proptest::prelude::*;

    fn summary(rows: &[&str]) -> TraceSummary {
        let buffer = spans(rows);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        TraceSummary::new(&columns, &forest, &mut ServiceSet::default())
    }

    #[test]
    fn a_trace_lasts_from_its_earliest_start_to_its_latest_end() {
        let rows = [
            "1 - 10 100 a",
            "2 1 5 10 b ERROR",
            "3 1 20 300 b",
            "3 1 20 300 b",
            "4 1 400 -50 ?",
            "5 1 30 ? c",
            "6 99 30 1 c",
            "7 7 40 1 c",
        ];
        let summary = summary(&rows);
        let expected = TraceSummary {
            span_count: 7,
            copy_count: 1,
            service_count: 3,
            error_count: 1,
            root_count: 1,
            orphan_count: 1,
            cycle_count: 1,
            max_depth: 1,
            root: Some(0),
            slowest: Some(2),
            start_time_unix_nano: 5,
            end_time_unix_nano: 400,
        };
        assert_eq!(summary, expected);
        assert_eq!(summary.duration_nano(), 395);
        assert!(!summary.is_complete());
    }

    #[test]
    fn a_trace_is_complete_where_all_hangs_under_one_root() {
        assert!(summary(&["1 - 0 9 a", "2 1 0 9 a"]).is_complete());
        assert!(!summary(&["1 - 0 9 a", "2 - 0 9 a"]).is_complete());
        assert!(!summary(&["2 1 0 9 a"]).is_complete());
        assert_eq!(summary(&["2 1 0 ? a"]).root, None);
        assert_eq!(summary(&["2 1 0 ? a"]).slowest, None);
        assert_eq!(summary(&[]), TraceSummary::default());
    }

    #[test]
    fn a_set_of_services_forgets_the_last_round() {
        let mut set = ServiceSet::default();
        for _ in 0..3 {
            set.clear();
            for service in [1, 0, 1, NONE, 70_000, 70_000, 65_535] {
                set.insert(service);
            }
            assert_eq!(set.len(), 4);
        }
    }

    #[test]
    fn services_have_their_totals_and_self_times() {
        let buffer = spans(&[
            "1 - 0 100 a",
            "2 1 10 30 b ERROR",
            "3 2 10 10 a",
            "4 1 50 ? b",
            "5 1 60 -9 ?",
        ]);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        let times = SelfTimes::new(&columns, &forest);
        let stats = service_stats(&columns, &forest, &times);
        let lines: Vec<_> = stats
            .iter()
            .map(|s| {
                let counts = (s.span_count, s.error_count, s.finished_count);
                let total = (s.total_nano, s.min_nano, s.max_nano);
                let own = (s.self_total_nano, s.self_min_nano, s.self_max_nano);
                (s.service, counts, total, own)
            })
            .collect();
        let expected = [
            (0, (2, 0, 2), (110, 10, 100), (80, 10, 70)),
            (1, (2, 1, 1), (30, 30, 30), (20, 20, 20)),
            (NONE, (1, 0, 1), (0, 0, 0), (0, 0, 0)),
        ];
        assert_eq!(lines, expected);
    }

    proptest! {
        #[test]
        fn no_times_are_too_large_for_any_notion(
            times in proptest::collection::vec((any::<i64>(), any::<i64>(), 0u8..9), 0..9),
            limit in any::<i64>(),
        ) {
            let extreme = |time: i64| if time % 3 == 0 { i64::MIN.saturating_add(time % 7) } else { time };
            let starts: Vec<i64> = times.iter().map(|row| extreme(row.0)).collect();
            let durations: Vec<i64> = times.iter().map(|row| extreme(row.1)).collect();
            let ids: Vec<u64> = (1..=times.len() as u64).collect();
            let parents: Vec<u64> = times.iter().map(|row| u64::from(row.2)).collect();
            let columns = TraceColumns {
                span_id: &ids,
                parent_span_id: &parents,
                start_time_unix_nano: &starts,
                duration_nano: &durations,
                ..TraceColumns::default()
            };
            let forest = Forest::new(&columns);
            let self_times = SelfTimes::new(&columns, &forest);
            service_stats(&columns, &forest, &self_times);
            TraceSummary::new(&columns, &forest, &mut ServiceSet::default()).duration_nano();
            find(&columns, &forest, &mut Vec::new());
            ClockSkew::new(&columns, &forest, &[], limit);
            let path = CriticalPath::new(&columns, &forest);
            for section in path.sections() {
                prop_assert!(section.duration_nano() > 0);
            }
        }
    }
}
