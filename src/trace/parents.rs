//! Finds the parent of each span of a trace, tells copies from different spans with one id.
//!
//! Read [`Parents`].
//!
//! ```text
//!   id of one span        row ─ offset, checked against the id ─> parent
//!                         row ─ id ─ table ─────────────────────> parent
//!   id of several spans   row ─ id, service ─ sorted spans ─────> parent
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
    /// Empty where the rank of each row is its number; [`NONE`] for copies.
    rank_of_row: Vec<u32>,
    sort_keys: Vec<(i64, u64, u32)>,
    /// Ids by rank.
    ids: Vec<u64>,
    table: IdTable,
    /// Ids that several spans have with the ranks that have them, sorted.
    by_id: Vec<(u64, u32)>,
    by_id_and_service: Vec<(u64, u32, u32)>,
    shares_id: Vec<bool>,
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
        self.parents.clear();
        self.marks.clear();
        let is_in_place = self.sort(columns, copies);
        self.rank_rows(columns, is_in_place);
        let ids = columns.span_id;
        if ids.is_empty() {
            self.resolve_by_offset(columns);
        } else if is_in_place && are_few_and_unique(ids) {
            self.resolve_unique(columns, |_, id| {
                let place = ids.iter().position(|found| *found == id);
                place.map(|place| place as u32)
            });
        } else {
            self.ids.clear();
            let rows = self.rows.iter();
            self.ids
                .extend(rows.map(|row| columns.span_id(*row as usize)));
            self.by_id.clear();
            self.table.fill(&self.ids, &mut self.by_id);
            if self.by_id.is_empty() {
                self.resolve_unique(columns, |parents, id| parents.first_of_id(id));
            } else {
                self.resolve_shared(columns);
            }
        }
    }

    /// Puts the rows in order, which they mostly are, and leaves copies out; whether each row is
    /// where it was.
    fn sort(&mut self, columns: &TraceColumns<'_>, copies: &mut Vec<u32>) -> bool {
        copies.clear();
        let count = columns.len().min(NONE as usize - 1);
        self.rows.clear();
        self.rows.extend(0..count as u32);
        let key = |row: usize| (columns.start(row), columns.span_id(row));
        let mut has_ties = false;
        let mut is_in_place = (1..count).all(|row| {
            let (before, after) = (key(row - 1), key(row));
            has_ties |= before == after;
            before <= after
        });
        if !is_in_place {
            self.sort_keys.clear();
            self.sort_keys.extend((0..count).map(|row| {
                let (start, id) = key(row);
                (start, id, row as u32)
            }));
            self.sort_keys.sort_unstable();
            for (place, sorted) in self.rows.iter_mut().zip(&self.sort_keys) {
                *place = sorted.2;
            }
            has_ties = true;
        }
        // Without ids nothing tells copies from other spans that start together.
        if has_ties && !columns.span_id.is_empty() {
            self.sort_ties(columns, copies);
            is_in_place &= self.rows.is_sorted() && copies.is_empty();
        }
        is_in_place
    }

    /// Puts the rows of one start and id in order, and of copies keeps the first row.
    fn sort_ties(&mut self, columns: &TraceColumns<'_>, copies: &mut Vec<u32>) {
        let key = |row: &u32| (columns.start(*row as usize), columns.span_id(*row as usize));
        for tied in self.rows.chunk_by_mut(|a, b| key(a) == key(b)) {
            if tied.len() > 1 {
                tied.sort_unstable_by_key(|row| (identity(columns, *row as usize), *row));
            }
        }
        self.rows.dedup_by(|later, kept| {
            let is_copy = key(later) == key(kept)
                && identity(columns, *later as usize) == identity(columns, *kept as usize);
            if is_copy {
                copies.push(*later);
            }
            is_copy
        });
        copies.sort_unstable();
    }

    fn rank_rows(&mut self, columns: &TraceColumns<'_>, is_in_place: bool) {
        self.rank_of_row.clear();
        if is_in_place {
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

    fn first_of_id(&self, id: u64) -> Option<u32> {
        self.table.find(&self.ids, id)
    }

    /// The rank to which a row's offset leads, if the parent's id is there.
    fn hinted(&self, columns: &TraceColumns<'_>, row: usize, id: u64) -> Option<u32> {
        let at = columns.offset_row(row)?;
        let rank = self.rank(at);
        (rank != NONE && columns.span_id(at) == id).then_some(rank)
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
        find: impl Fn(&Self, u64) -> Option<u32>,
    ) {
        for rank in 0..self.rows.len() {
            let row = self.rows[rank] as usize;
            let id = columns.parent_span_id(row);
            if id == 0 {
                self.push(None, false, false, false);
                continue;
            }
            let found = self.hinted(columns, row, id).or_else(|| find(self, id));
            let names_itself = found == Some(rank as u32);
            let parent = found.filter(|found| *found != rank as u32);
            self.push(parent, true, names_itself, false);
        }
    }

    fn resolve_shared(&mut self, columns: &TraceColumns<'_>) {
        self.index_shared(columns);
        for rank in 0..self.rows.len() {
            let row = self.rows[rank] as usize;
            let id = columns.parent_span_id(row);
            let shares_id = self.shares_id[rank];
            let asking = shares_id
                .then(|| self.halves.asking_half(columns, row))
                .flatten();
            let parent = asking.or_else(|| self.parent_of_id(columns, rank, id));
            self.push(parent, id != 0, id == self.ids[rank], shares_id);
        }
    }

    /// Completes `by_id`, which has all but the first span of each shared id.
    fn index_shared(&mut self, columns: &TraceColumns<'_>) {
        for entry in 0..self.by_id.len() {
            let (id, _) = self.by_id[entry];
            let first = self.first_of_id(id);
            self.by_id.extend(first.map(|rank| (id, rank)));
        }
        self.by_id.sort_unstable();
        self.by_id.dedup();
        self.shares_id.clear();
        self.shares_id.resize(self.rows.len(), false);
        self.by_id_and_service.clear();
        for (id, rank) in &self.by_id {
            self.shares_id[*rank as usize] = true;
            let service = columns.service(self.rows[*rank as usize] as usize);
            self.by_id_and_service.push((*id, service, *rank));
        }
        self.by_id_and_service.sort_unstable();
        self.halves.fill(columns, &self.rows, &self.by_id);
    }

    /// The span that a rank with that parent id stands under; never itself.
    fn parent_of_id(&self, columns: &TraceColumns<'_>, rank: usize, id: u64) -> Option<u32> {
        if id == 0 {
            return None;
        }
        let row = self.rows[rank] as usize;
        let first = self
            .hinted(columns, row, id)
            .or_else(|| self.first_of_id(id))?;
        let others = |found: &u32| *found as usize != rank;
        if !self.shares_id[first as usize] {
            return Some(first).filter(others);
        }
        self.ranks_of_id_and_service(id, columns.service(row))
            .find(others)
            .or_else(|| self.halves.answering_half(id).filter(others))
            .or_else(|| self.ranks_of_id(id).find(others))
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
        self.asking.extend(by_id.iter().filter_map(|(id, rank)| {
            let row = rows[*rank as usize] as usize;
            let kind = columns.raw_kind(row);
            (kind == SpanKind::Client as i8 || kind == SpanKind::Producer as i8)
                .then(|| (*id, columns.parent_span_id(row), kind, *rank))
        }));
        self.asking.sort_unstable();
        self.answering.clear();
        for shared in by_id.chunk_by(|a, b| a.0 == b.0) {
            let answering = shared.iter().find(|(_, rank)| {
                let row = rows[*rank as usize] as usize;
                self.asking_half(columns, row).is_some()
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

/// Whether these ids are few and each stands once; one that only looks like another is taken for
/// it. Few ids are searched quickly enough without a table.
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

/// Places of ids: open addressing, at most half full.
#[derive(Debug, Clone, Default)]
struct IdTable {
    /// Places, [`NONE`] where free.
    slots: Vec<u32>,
    /// Makes collisions unforeseeable for those who choose ids.
    seed: Option<(u64, u64)>,
}

impl IdTable {
    /// Takes in the places of all ids, of several alike the first; the others go to `repeated`.
    fn fill(&mut self, ids: &[u64], repeated: &mut Vec<(u64, u32)>) {
        let slots = (ids.len() * 2).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(slots, NONE);
        self.seed.get_or_insert_with(|| {
            let state = RandomState::new();
            (state.hash_one(0u64), state.hash_one(1u64) | 1)
        });
        let mask = slots - 1;
        for (place, id) in (0u32..).zip(ids) {
            let mut slot = self.hash(*id) & mask;
            loop {
                match self.slots[slot] {
                    NONE => {
                        self.slots[slot] = place;
                        break;
                    }
                    found if ids[found as usize] == *id => {
                        repeated.push((*id, place));
                        break;
                    }
                    _ => slot = (slot + 1) & mask,
                }
            }
        }
    }

    fn find(&self, ids: &[u64], id: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(id) & mask;
        loop {
            match self.slots[slot] {
                NONE => return None,
                found if ids[found as usize] == id => return Some(found),
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
