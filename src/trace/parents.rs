//! Finds the parent of each span of a trace, tells copies from different spans with one id.
//!
//! Read [`Parents`].
//!
//! ```text
//!   ids unique    row ─ offset, checked against the id ─> parent's row
//!                 row ─ id ─ table ─────────────────────> parent's row
//!   ids shared    row ─ id, service ─ sorted spans ─────> parent's rank
//! ```

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::TraceColumns;
use super::forest::{Mark, NONE, Placement};
use crate::span::SpanKind;

/// The spans of a trace by rank (their place in the order of siblings), and their parents' ranks.
#[derive(Debug, Clone, Default)]
pub(super) struct Parents {
    /// The rows, copies left out, by start, then id, kind, duration, name and row.
    pub(super) rows: Vec<u32>,
    /// The ranks of parents, [`NONE`] where there is none.
    pub(super) parents: Vec<u32>,
    pub(super) marks: Vec<Mark>,
    /// Empty where the rank of each row is its number.
    rank_of_row: Vec<u32>,
    in_order: bool,
    table: IdTable,
    /// Ids with the ranks that have them, where one has several.
    by_id: Vec<(u64, u32)>,
    by_id_and_service: Vec<(u64, u32, u32)>,
    halves: Halves,
}

/// The halves of calls whose two spans share an id.
#[derive(Debug, Clone, Default)]
struct Halves {
    /// Asking halves as (id, parent's id, kind, rank), sorted.
    asking: Vec<(u64, u64, i8, u32)>,
    /// Answering halves as (id, rank), sorted: the first is where children of that id go that
    /// are of neither half's service.
    answering: Vec<(u64, u32)>,
}

impl Parents {
    /// Finds the parents of all spans; the rows that are copies go to `copies`.
    pub(super) fn resolve(&mut self, columns: &TraceColumns<'_>, copies: &mut Vec<u32>) {
        copies.clear();
        self.parents.clear();
        self.marks.clear();
        self.sort(columns);
        if columns.span_id.is_empty() {
            self.rank_rows(columns);
            self.resolve_by_offset(columns);
        } else if are_few_and_unique(columns.span_id) {
            self.rank_rows(columns);
            let ids = columns.span_id;
            self.resolve_unique(columns, |_, id| ids.iter().position(|found| *found == id));
        } else if self.table.fill(columns.span_id, self.rows.len()) {
            self.rank_rows(columns);
            let ids = columns.span_id;
            self.resolve_unique(columns, |table, id| table.find(ids, id));
        } else {
            self.drop_copies(columns, copies);
            self.resolve_shared(columns);
        }
    }

    /// Puts the rows in order; mostly they are already.
    fn sort(&mut self, columns: &TraceColumns<'_>) {
        let count = columns.len().min(NONE as usize - 1);
        self.rows.clear();
        self.rows.extend(0..count as u32);
        let starts = columns.start_time_unix_nano;
        self.in_order = (1..count).all(|row| {
            starts[row - 1] < starts[row]
                || (starts[row - 1] == starts[row]
                    && (columns.span_id.is_empty()
                        || columns.span_id(row - 1) < columns.span_id(row)))
        });
        if !self.in_order {
            self.rows.sort_unstable_by_key(|row| {
                let row = *row as usize;
                (identity(columns, row), row)
            });
        }
    }

    fn rank_rows(&mut self, columns: &TraceColumns<'_>) {
        self.rank_of_row.clear();
        if self.in_order {
            return;
        }
        self.rank_of_row.resize(columns.len(), NONE);
        for (rank, row) in self.rows.iter().enumerate() {
            self.rank_of_row[*row as usize] = rank as u32;
        }
    }

    fn rank(&self, row: usize) -> u32 {
        self.rank_of_row.get(row).copied().unwrap_or(row as u32)
    }

    fn push(
        &mut self,
        parent: Option<u32>,
        names_parent: bool,
        names_itself: bool,
        shares_id: bool,
    ) {
        let placement = match parent {
            Some(_) => Placement::Child,
            None if names_itself => Placement::CycleBroken,
            None if names_parent => Placement::Orphan,
            None => Placement::Root,
        };
        self.parents.push(parent.unwrap_or(NONE));
        self.marks.push(Mark {
            placement,
            shares_id,
        });
    }

    fn resolve_by_offset(&mut self, columns: &TraceColumns<'_>) {
        for rank in 0..self.rows.len() {
            let row = self.rows[rank] as usize;
            let names_parent = columns.parent_span_id(row) != 0;
            let at = columns.offset_row(row).filter(|_| names_parent);
            let names_itself = at == Some(row);
            let parent = at.filter(|at| *at != row).map(|at| self.rank(at));
            self.push(parent, names_parent, names_itself, false);
        }
    }

    fn resolve_unique(
        &mut self,
        columns: &TraceColumns<'_>,
        find: impl Fn(&IdTable, u64) -> Option<usize>,
    ) {
        for rank in 0..self.rows.len() {
            let row = self.rows[rank] as usize;
            let id = columns.parent_span_id(row);
            if id == 0 {
                self.push(None, false, false, false);
                continue;
            }
            let at = columns
                .offset_row(row)
                .filter(|at| columns.span_id(*at) == id)
                .or_else(|| find(&self.table, id));
            let names_itself = at == Some(row);
            let parent = at.filter(|at| *at != row).map(|at| self.rank(at));
            self.push(parent, true, names_itself, false);
        }
    }

    /// Keeps of each set of copies the first row, and sorts the kept by id.
    fn drop_copies(&mut self, columns: &TraceColumns<'_>, copies: &mut Vec<u32>) {
        // Copies are neighbours in this order, the first row of them first, whether or not rows
        // of one start and id were neighbours before.
        self.rows.sort_unstable_by_key(|row| {
            let row = *row as usize;
            (identity(columns, row), row)
        });
        self.rows.dedup_by(|later, kept| {
            let is_copy = identity(columns, *later as usize) == identity(columns, *kept as usize);
            if is_copy {
                copies.push(*later);
            }
            is_copy
        });
        copies.sort_unstable();
    }

    fn resolve_shared(&mut self, columns: &TraceColumns<'_>) {
        let ranked = || self.rows.iter().zip(0u32..);
        self.by_id.clear();
        self.by_id
            .extend(ranked().map(|(row, rank)| (columns.span_id(*row as usize), rank)));
        self.by_id.sort_unstable();
        self.by_id_and_service.clear();
        self.by_id_and_service.extend(ranked().map(|(row, rank)| {
            let row = *row as usize;
            (columns.span_id(row), columns.service(row), rank)
        }));
        self.by_id_and_service.sort_unstable();
        self.halves.fill(columns, &self.rows, &self.by_id);
        for rank in 0..self.rows.len() {
            let row = self.rows[rank] as usize;
            let id = columns.parent_span_id(row);
            let own = columns.span_id(row);
            let parent = self.halves.asking_half(columns, row).or_else(|| {
                if id == 0 {
                    return None;
                }
                let others = |found: &u32| *found as usize != rank;
                self.ranks_of_id_and_service(id, columns.service(row))
                    .find(others)
                    .or_else(|| self.halves.answering_half(id).filter(others))
                    .or_else(|| self.ranks_of_id(id).find(others))
            });
            let shares_id = self.ranks_of_id(own).nth(1).is_some();
            self.push(parent, id != 0, id == own, shares_id);
        }
    }

    fn ranks_of_id(&self, id: u64) -> impl Iterator<Item = u32> + '_ {
        let first = self.by_id.partition_point(|entry| entry.0 < id);
        self.by_id[first..]
            .iter()
            .take_while(move |entry| entry.0 == id)
            .map(|entry| entry.1)
    }

    fn ranks_of_id_and_service(&self, id: u64, service: u32) -> impl Iterator<Item = u32> + '_ {
        let key = (id, service);
        let sorted = &self.by_id_and_service;
        let first = sorted.partition_point(|entry| (entry.0, entry.1) < key);
        sorted[first..]
            .iter()
            .take_while(move |entry| (entry.0, entry.1) == key)
            .map(|entry| entry.2)
    }
}

impl Halves {
    /// Finds the halves among the spans that share an id; `by_id` is sorted.
    fn fill(&mut self, columns: &TraceColumns<'_>, rows: &[u32], by_id: &[(u64, u32)]) {
        self.asking.clear();
        self.answering.clear();
        for shared in by_id
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|ids| ids.len() > 1)
        {
            self.asking.extend(shared.iter().filter_map(|(id, rank)| {
                let row = rows[*rank as usize] as usize;
                let kind = columns.raw_kind(row);
                (kind == SpanKind::Client as i8 || kind == SpanKind::Producer as i8)
                    .then(|| (*id, columns.parent_span_id(row), kind, *rank))
            }));
        }
        self.asking.sort_unstable();
        for shared in by_id
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|ids| ids.len() > 1)
        {
            let answering = shared.iter().find(|(_, rank)| {
                self.asking_half(columns, rows[*rank as usize] as usize)
                    .is_some()
            });
            self.answering.extend(answering);
        }
    }

    /// The first span that asks what a row answers, if the row is the half of a call and the
    /// other half has its id and its parent.
    fn asking_half(&self, columns: &TraceColumns<'_>, row: usize) -> Option<u32> {
        const SERVER: i8 = SpanKind::Server as i8;
        const CONSUMER: i8 = SpanKind::Consumer as i8;
        let asking = match columns.raw_kind(row) {
            SERVER => SpanKind::Client as i8,
            CONSUMER => SpanKind::Producer as i8,
            _ => return None,
        };
        let key = (columns.span_id(row), columns.parent_span_id(row), asking);
        let first = self
            .asking
            .partition_point(|half| (half.0, half.1, half.2) < key);
        let half = self.asking.get(first)?;
        ((half.0, half.1, half.2) == key).then_some(half.3)
    }

    fn answering_half(&self, id: u64) -> Option<u32> {
        let found = self
            .answering
            .binary_search_by_key(&id, |half| half.0)
            .ok()?;
        Some(self.answering[found].1)
    }
}

/// What makes two rows copies, in the order of siblings.
fn identity(columns: &TraceColumns<'_>, row: usize) -> (i64, u64, i8, i64, u32) {
    (
        columns.start(row),
        columns.span_id(row),
        columns.raw_kind(row),
        columns.raw_duration(row),
        columns.name(row),
    )
}

/// Whether these ids are few and each stands once; an id that only looks like another is taken
/// for it. Few ids are searched quickly enough, without a table.
fn are_few_and_unique(ids: &[u64]) -> bool {
    const FEW: usize = 64;
    // With more ids than this many bits are meant for, two would often share one.
    const BITS: usize = 4096;
    let mut marks = [0u64; BITS / 64];
    ids.len() <= FEW
        && ids.iter().all(|id| {
            let mark = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % BITS;
            let bit = 1 << (mark % 64);
            let is_new = marks[mark / 64] & bit == 0;
            marks[mark / 64] |= bit;
            is_new
        })
}

/// Rows by span id: open addressing, at most half full.
#[derive(Debug, Clone, Default)]
struct IdTable {
    /// Rows, [`NONE`] where free.
    slots: Vec<u32>,
    /// Makes collisions unforeseeable for those who choose ids.
    seed: Option<(u64, u64)>,
}

impl IdTable {
    /// Takes in the first `count` ids; whether they are all different. Stops at the first that
    /// is not.
    fn fill(&mut self, ids: &[u64], count: usize) -> bool {
        let slots = (count * 2).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(slots, NONE);
        self.seed.get_or_insert_with(|| {
            let state = RandomState::new();
            (state.hash_one(0u64), state.hash_one(1u64) | 1)
        });
        let mask = slots - 1;
        for (row, id) in ids.iter().take(count).enumerate() {
            let mut slot = self.hash(*id) & mask;
            loop {
                match self.slots[slot] {
                    NONE => break,
                    found if ids[found as usize] == *id => return false,
                    _ => slot = (slot + 1) & mask,
                }
            }
            self.slots[slot] = row as u32;
        }
        true
    }

    fn find(&self, ids: &[u64], id: u64) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(id) & mask;
        loop {
            match self.slots[slot] {
                NONE => return None,
                found if ids[found as usize] == id => return Some(found as usize),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// The halves of a 128-bit product folded, as wyhash does.
    fn hash(&self, id: u64) -> usize {
        let (seed, factor) = self.seed.unwrap_or((0, 1));
        let product = u128::from(id ^ seed) * u128::from(factor);
        (product as u64 ^ (product >> 64) as u64) as usize
    }
}
