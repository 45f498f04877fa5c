//! Two traces side by side: what is in both, what only in one.
//!
//! Read [`diff`].

use super::{Forest, TraceColumns};

/// A place in two traces; at least one of them has a span there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffEntry {
    /// The node in the left trace; `None` where the span is extra, in the right one only.
    pub left: Option<u32>,
    /// The node in the right trace; `None` where the span is missing there.
    pub right: Option<u32>,
    /// Steps from the top.
    pub depth: u32,
}

/// Lays two traces over one another.
///
/// ```text
///   left           right          entries          matched by
///   web GET /      web GET /      web GET /        (web, GET /) 0
///   ├─ db SELECT   ├─ db SELECT   ├─ db SELECT     (db, SELECT) 0
///   ├─ db SELECT   └─ mq SEND     ├─ db SELECT     missing on the right
///   └─ mq SEND                    └─ mq SEND       (mq, SEND) 0
/// ```
///
/// Tops match tops, and children of matched spans match one another, by service, name and how
/// many siblings of that service and name come before; so a span is matched by its whole path.
/// What is below a span that has no match has none either. Entries come in the tree order of the
/// left trace, what is extra after its siblings of the left trace, in the order of the right one.
///
/// Services and names of both must be numbered together, as one
/// [`TraceBuffer`](super::TraceBuffer) does; numbers that stand for different texts match.
pub fn diff(
    left: (&TraceColumns<'_>, &Forest),
    right: (&TraceColumns<'_>, &Forest),
) -> Vec<DiffEntry> {
    let mut entries = Vec::with_capacity(left.1.len().max(right.1.len()));
    // Places to enter yet, the next one at the end.
    let mut pending = Vec::new();
    let mut family = Family::default();
    family.push_matches(
        &Side::tops(left.0, left.1),
        &Side::tops(right.0, right.1),
        0,
        &mut pending,
    );
    while let Some(entry) = pending.pop() {
        entries.push(entry);
        let below = |side: (_, &Forest), node: Option<u32>| match node {
            Some(node) => Side::children(side.0, side.1, node as usize),
            None => Vec::new(),
        };
        family.push_matches(
            &below(left, entry.left),
            &below(right, entry.right),
            entry.depth + 1,
            &mut pending,
        );
    }
    entries
}

/// A node by what it is matched by.
#[derive(Debug, Clone, Copy)]
struct Side {
    service: u32,
    name: u32,
    node: u32,
}

impl Side {
    fn new(columns: &TraceColumns<'_>, forest: &Forest, node: usize) -> Self {
        let row = forest.row(node);
        Self {
            service: columns.service(row),
            name: columns.name(row),
            node: node as u32,
        }
    }

    fn tops(columns: &TraceColumns<'_>, forest: &Forest) -> Vec<Self> {
        forest
            .tops()
            .map(|node| Self::new(columns, forest, node))
            .collect()
    }

    fn children(columns: &TraceColumns<'_>, forest: &Forest, node: usize) -> Vec<Self> {
        forest
            .children(node)
            .map(|node| Self::new(columns, forest, node))
            .collect()
    }
}

/// What is needed to match siblings; used again.
#[derive(Debug, Default)]
struct Family {
    /// (service, name, place) of the right siblings, sorted.
    right: Vec<(u32, u32, u32)>,
    /// The same of the left ones.
    left: Vec<(u32, u32, u32)>,
    /// For each left sibling its match's place.
    match_of: Vec<Option<u32>>,
    is_matched: Vec<bool>,
}

impl Family {
    /// Pushes the places of two sets of siblings, the first at the end.
    fn push_matches(
        &mut self,
        left: &[Side],
        right: &[Side],
        depth: u32,
        pending: &mut Vec<DiffEntry>,
    ) {
        self.match_siblings(left, right);
        let extra = right
            .iter()
            .zip(&self.is_matched)
            .rev()
            .filter(|(_, is_matched)| !**is_matched)
            .map(|(side, _)| (None, Some(side.node)));
        let ours = left.iter().zip(&self.match_of).rev().map(|(side, place)| {
            let other = place.map(|place| right[place as usize].node);
            (Some(side.node), other)
        });
        pending.extend(
            extra
                .chain(ours)
                .map(|(left, right)| DiffEntry { left, right, depth }),
        );
    }

    fn match_siblings(&mut self, left: &[Side], right: &[Side]) {
        let keys = |sides: &[Side], keys: &mut Vec<(u32, u32, u32)>| {
            keys.clear();
            let places = sides.iter().zip(0u32..);
            keys.extend(places.map(|(side, place)| (side.service, side.name, place)));
            keys.sort_unstable();
        };
        keys(left, &mut self.left);
        keys(right, &mut self.right);
        self.match_of.clear();
        self.match_of.resize(left.len(), None);
        self.is_matched.clear();
        self.is_matched.resize(right.len(), false);
        let (mut at_left, mut at_right) = (0, 0);
        // Among equal keys both sides come by place, so the first matches the first.
        while let (Some(ours), Some(theirs)) = (self.left.get(at_left), self.right.get(at_right)) {
            match (ours.0, ours.1).cmp(&(theirs.0, theirs.1)) {
                std::cmp::Ordering::Less => at_left += 1,
                std::cmp::Ordering::Greater => at_right += 1,
                std::cmp::Ordering::Equal => {
                    self.match_of[ours.2 as usize] = Some(theirs.2);
                    self.is_matched[theirs.2 as usize] = true;
                    at_left += 1;
                    at_right += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TraceBuffer;
    use super::super::testing::push_spans;
    use super::*;

    /// The entries as `left=right`, ids for nodes and `-` for none, indented by depth.
    fn entries(left: &[&str], right: &[&str]) -> Vec<String> {
        let mut buffer = TraceBuffer::default();
        push_spans(&mut buffer, left);
        push_spans(&mut buffer, right);
        let both = buffer.columns();
        let (left, right) = (
            both.slice(0..left.len()),
            both.slice(left.len()..both.len()),
        );
        let (ours, theirs) = (Forest::new(&left), Forest::new(&right));
        let id = |columns: &TraceColumns<'_>, forest: &Forest, node: Option<u32>| match node {
            Some(node) => columns.span_id(forest.row(node as usize)).to_string(),
            None => "-".to_string(),
        };
        diff((&left, &ours), (&right, &theirs))
            .iter()
            .map(|entry| {
                let indent = " ".repeat(entry.depth as usize);
                let (a, b) = (
                    id(&left, &ours, entry.left),
                    id(&right, &theirs, entry.right),
                );
                format!("{indent}{a}={b}")
            })
            .collect()
    }

    #[test]
    fn a_trace_matches_itself_whatever_its_ids_and_times() {
        let left = ["1 - 0 9 web", "2 1 1 1 db", "3 1 2 1 db", "4 2 3 1 db"];
        let right = [
            "11 - 7 9 web",
            "12 11 8 1 db",
            "13 11 9 1 db",
            "14 12 9 1 db",
        ];
        assert_eq!(entries(&left, &right), ["1=11", " 2=12", "  4=14", " 3=13"]);
    }

    #[test]
    fn what_has_no_match_is_missing_or_extra_with_all_below() {
        let left = [
            "1 - 0 9 web",
            "2 1 1 1 db",
            "3 1 2 1 db",
            "4 3 3 1 pg",
            "5 1 4 1 mq",
        ];
        let right = [
            "1 - 0 9 web",
            "2 1 1 1 new",
            "3 2 2 1 db",
            "4 1 3 1 mq",
            "5 1 4 1 db",
        ];
        let expected = ["1=1", " 2=5", " 3=-", "  4=-", " 5=4", " -=2", "  -=3"];
        assert_eq!(entries(&left, &right), expected);
    }

    #[test]
    fn nothing_differs_from_nothing() {
        assert!(entries(&[], &[]).is_empty());
        assert_eq!(entries(&["1 - 0 1 a"], &[]), ["1=-"]);
        assert_eq!(entries(&[], &["1 - 0 1 a"]), ["-=1"]);
    }
}
