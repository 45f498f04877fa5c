//! Tells whether the span ids of a trace are all different.
//!
//! Read [`IdSet`].

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Places of the table; small traces are looked up there.
const PLACES: usize = 1024;

/// How many ids the table takes; more go into a set.
const FEW: usize = 512;

/// A set of ids that is emptied at no cost.
#[derive(Debug)]
pub(super) struct IdSet {
    /// The round in which each place was last taken, and the id there.
    table: Vec<(u32, u64)>,
    round: u32,
    /// Makes collisions unforeseeable for those who choose ids.
    seed: u64,
}

impl Default for IdSet {
    fn default() -> Self {
        Self {
            table: vec![(0, 0); PLACES],
            round: 0,
            seed: RandomState::new().hash_one(0u64) | 1,
        }
    }
}

impl IdSet {
    /// Whether no id stands twice.
    pub(super) fn are_distinct(&mut self, ids: &[u64]) -> bool {
        if ids.len() > FEW {
            let mut seen = HashSet::with_capacity(ids.len());
            return ids.iter().all(|id| seen.insert(*id));
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.table.fill((0, 0));
            self.round = 1;
        }
        ids.iter().all(|id| self.insert(*id))
    }

    fn insert(&mut self, id: u64) -> bool {
        let product = u128::from(id ^ self.seed) * u128::from(self.seed);
        let mut at = ((product >> 64) as u64 ^ product as u64) as usize % PLACES;
        loop {
            let place = &mut self.table[at];
            if place.0 != self.round {
                *place = (self.round, id);
                return true;
            }
            if place.1 == id {
                return false;
            }
            at = (at + 1) % PLACES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_ids_are_found_in_small_and_large_traces() {
        let mut set = IdSet::default();
        for count in [0u64, 1, 2, 511, 512, 513, 5000] {
            let mut ids: Vec<u64> = (0..count).map(|id| id << 32).collect();
            assert!(set.are_distinct(&ids), "{count}");
            if count > 1 {
                ids.push(ids[count as usize / 2]);
                assert!(!set.are_distinct(&ids), "{count}");
            }
        }
    }
}
