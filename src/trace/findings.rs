//! Findings: what is odd about a span in its trace.
//!
//! Read [`Findings`]; [`find`] computes them for all spans of a trace.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use super::{Forest, Placement, TraceColumns};

/// A set of findings on a span, or on all spans of a trace.
///
/// ```text
///   parent   ├───────────────┤
///   child  ├───┤                   child_before_parent
///   child                 ├─────┤  child_outlives_parent
/// ```
///
/// Findings only tell: nothing is repaired or left out because of them. Clock skew shows as
/// `child_before_parent`, `child_outlives_parent` and `negative_duration`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Findings(u8);

impl Findings {
    /// It names a parent that is not in the trace.
    pub const ORPHAN: Self = Self(1);
    /// Its ancestors lead back to it, and the circle was broken at it.
    pub const CYCLE: Self = Self(1 << 1);
    /// Another span of the trace that is no copy of it has its id.
    pub const DUPLICATE_ID: Self = Self(1 << 2);
    /// It names no parent, and another span of the trace does not either.
    pub const MULTIPLE_ROOTS: Self = Self(1 << 3);
    /// It starts before its parent.
    pub const CHILD_BEFORE_PARENT: Self = Self(1 << 4);
    /// It ends after its parent. Where either never ended nothing is found.
    pub const CHILD_OUTLIVES_PARENT: Self = Self(1 << 5);
    /// It ends before it starts.
    pub const NEGATIVE_DURATION: Self = Self(1 << 6);

    /// The name of each finding, in the order of the bits.
    pub const NAMES: [&'static str; 7] = [
        "orphan",
        "cycle",
        "duplicate_id",
        "multiple_roots",
        "child_before_parent",
        "child_outlives_parent",
        "negative_duration",
    ];

    /// Whether nothing was found.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` were found.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The findings as a number: bit `i` is [`NAMES`](Self::NAMES)`[i]`.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The names of what was found.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let bits = self.0;
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| bits & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

impl BitOr for Findings {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Findings {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Writes the findings on each node to `findings`, and returns those of the trace: all that were
/// found on any span.
pub fn find(columns: &TraceColumns<'_>, forest: &Forest, findings: &mut Vec<Findings>) -> Findings {
    let roots = forest
        .tops()
        .filter(|node| forest.placement(*node) == Placement::Root);
    let several_roots = roots.take(2).count() > 1;
    findings.clear();
    let mut all = Findings::default();
    for node in 0..forest.len() {
        let mut found = match forest.placement(node) {
            Placement::Root if several_roots => Findings::MULTIPLE_ROOTS,
            Placement::Root | Placement::Child => Findings::default(),
            Placement::Orphan => Findings::ORPHAN,
            Placement::CycleBroken => Findings::CYCLE,
        };
        if forest.shares_id(node) {
            found |= Findings::DUPLICATE_ID;
        }
        let row = forest.row(node);
        let duration = columns.duration(row);
        if duration.is_some_and(|nano| nano < 0) {
            found |= Findings::NEGATIVE_DURATION;
        }
        if let Some(parent) = forest.parent(node) {
            let parent = forest.row(parent);
            if columns.start(row) < columns.start(parent) {
                found |= Findings::CHILD_BEFORE_PARENT;
            }
            let both_ended = duration.is_some() && columns.duration(parent).is_some();
            if both_ended && columns.end(row) > columns.end(parent) {
                found |= Findings::CHILD_OUTLIVES_PARENT;
            }
        }
        findings.push(found);
        all |= found;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::testing::spans;
    use super::*;

    /// The findings as `id: names`, in tree order, of spans where there are any.
    fn found(rows: &[&str]) -> Vec<String> {
        let buffer = spans(rows);
        let columns = buffer.columns();
        let forest = Forest::new(&columns);
        let mut findings = Vec::new();
        let all = find(&columns, &forest, &mut findings);
        let union = findings.iter().fold(Findings::default(), |a, b| a | *b);
        assert_eq!(all, union);
        let with_id = findings.iter().enumerate().map(|(node, findings)| {
            let names: Vec<_> = findings.names().collect();
            let id = columns.span_id(forest.row(node));
            (format!("{id}: {}", names.join(" ")), findings)
        });
        with_id
            .filter(|(_, findings)| !findings.is_empty())
            .map(|(text, _)| text)
            .collect()
    }

    #[test]
    fn a_whole_trace_has_no_findings() {
        assert!(found(&["1 - 0 10 a", "2 1 0 10 a", "3 2 2 3 b"]).is_empty());
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn each_oddity_is_found_where_it_is() {
        let rows = [
            "1 - 10 10 a",
            "2 1 5 5 a",
            "3 1 12 10 a",
            "4 1 13 -2 a",
            "5 99 14 1 a",
            "6 6 15 1 a",
            "7 - 16 1 a",
            "8 7 16 1 a",
            "8 7 16 1 a other",
        ];
        let expected = [
            "1: multiple_roots",
            "2: child_before_parent",
            "3: child_outlives_parent",
            "4: negative_duration",
            "5: orphan",
            "6: cycle",
            "7: multiple_roots",
            "8: duplicate_id",
            "8: duplicate_id",
        ];
        assert_eq!(found(&rows), expected);
    }

    #[test]
    fn spans_that_never_ended_outlive_nobody_and_are_outlived_by_nobody() {
        assert!(found(&["1 - 0 ? a", "2 1 5 50 a", "3 2 6 ? a"]).is_empty());
    }

    #[test]
    fn names_follow_the_bits() {
        for (bit, name) in Findings::NAMES.into_iter().enumerate() {
            assert_eq!(Findings(1 << bit).names().collect::<Vec<_>>(), [name]);
        }
        assert!(Findings(3).contains(Findings::CYCLE));
        assert!(!Findings::CYCLE.contains(Findings(3)));
        assert_eq!(format!("{:?}", Findings(3)), r#"{"orphan", "cycle"}"#);
    }
}
