//! Remembers where in their files the rows of a range lie.
//!
//! Read [`FilePlaces`].

use std::ops::Range;

use super::range_rows::TraceRun;

/// From rows of a range back to rows of files.
#[derive(Debug, Default)]
pub(super) struct FilePlaces {
    file: usize,
    /// The rows of the file that are still to come, in stretches.
    rows: Vec<Range<u64>>,
    /// The stretch at hand, and how many of its rows have come.
    next: (usize, u64),
    /// The first row of the range that is of the file at hand.
    pub(super) first_row: u32,
    /// Where stretches begin: row of the range, file, row of the file. Rising.
    places: Vec<(u32, usize, u64)>,
}

impl FilePlaces {
    /// Goes on to a file of which these rows come, the first of them as `row` of the range.
    pub(super) fn begin(&mut self, file: usize, rows: Vec<Range<u64>>, row: u32) {
        self.file = file;
        self.rows = rows;
        self.next = (0, 0);
        self.first_row = row;
    }

    /// The rows `wanted` of the batch at hand become rows of the range from `row` on.
    pub(super) fn locate(&mut self, wanted: &Range<usize>, row: u32) {
        let mut before = 0u64;
        let (wanted_start, wanted_end) = (wanted.start as u64, wanted.end as u64);
        let (first, skipped) = self.next;
        for (index, stretch) in self.rows.iter().enumerate().skip(first) {
            let skipped = if index == first { skipped } else { 0 };
            let start = stretch.start + skipped;
            let count = stretch.end - start;
            // Rows `before..before + count` of the batch are `start..` of the file.
            let from = wanted_start.max(before);
            let to = wanted_end.min(before + count);
            if from < to {
                let at = row + (from - wanted_start) as u32;
                self.places.push((at, self.file, start + from - before));
            }
            before += count;
            if before >= wanted_end {
                break;
            }
        }
    }

    /// Goes on by so many rows of the file.
    pub(super) fn step(&mut self, rows: usize) {
        let mut left = rows as u64;
        let (mut index, mut come) = self.next;
        while let Some(stretch) = self.rows.get(index) {
            let count = stretch.end - stretch.start - come;
            if left < count {
                come += left;
                break;
            }
            left -= count;
            index += 1;
            come = 0;
        }
        self.next = (index, come);
    }

    /// The files, mostly one, and the rows there of a run.
    pub(super) fn file_rows(&self, run: &TraceRun) -> Vec<(usize, Range<u64>)> {
        let mut found = Vec::new();
        let mut at = run.start;
        let mut index = self.places.partition_point(|place| place.0 <= at);
        while at < run.end && index > 0 {
            let (first, file, row) = self.places[index - 1];
            let end = match self.places.get(index) {
                Some(next) => next.0.min(run.end),
                None => run.end,
            };
            let start = row + u64::from(at - first);
            found.push((file, start..start + u64::from(end - at)));
            at = end;
            index += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_again_over_batches_and_stretches() {
        let mut places = FilePlaces::default();
        places.begin(3, vec![10..14, 20..30], 0);
        // A batch of six rows, of which the middle four are wanted: 11, 12, 13, 20.
        places.locate(&(1..5), 0);
        places.step(6);
        // Another, wanted whole: 22..26.
        places.locate(&(0..4), 4);
        places.step(4);
        let run = |start, end| TraceRun {
            trace: 1,
            start,
            end,
        };
        assert_eq!(places.file_rows(&run(0, 3)), [(3, 11..14)]);
        assert_eq!(
            places.file_rows(&run(2, 5)),
            [(3, 13..14), (3, 20..21), (3, 22..23)]
        );
        assert_eq!(places.file_rows(&run(5, 8)), [(3, 23..26)]);
    }
}
