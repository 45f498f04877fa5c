//! The rows of a file that pass filters, told by its index alone.
//!
//! Read [`PassingRows`].

use std::ops::Range;

use super::index_matches::file_matches;
use super::index_predicate::IndexPredicate;
use crate::error::Result;
use crate::storage::FileIndex;

/// A bit for each row of a file, set where it passes.
#[derive(Debug, Default)]
pub(super) struct PassingRows {
    words: Vec<u64>,
}

impl PassingRows {
    /// What the index of a file says; `None` where it cannot tell of each row.
    pub(super) async fn of(predicate: &IndexPredicate, file: &FileIndex) -> Result<Option<Self>> {
        let matches = file_matches(predicate, file).await?;
        let groups = file.row_groups().await?;
        let mut passing = Self::default();
        let mut first = 0;
        for (group, (row_count, matches)) in groups.iter().zip(matches) {
            let rows = first..first + row_count;
            let word_count = usize::try_from(rows.end.div_ceil(64)).unwrap_or(usize::MAX);
            passing.words.resize(word_count, 0);
            if !matches.is_none() {
                let summary = group.rows(file).await?;
                let (true, Some(summary)) = (matches.exact, summary) else {
                    return Ok(None);
                };
                matches.for_each_row(&summary, |row| passing.set(first + u64::from(row)));
            }
            first = rows.end;
        }
        Ok((!groups.is_empty()).then_some(passing))
    }

    fn set(&mut self, row: u64) {
        if let Some(word) = self.words.get_mut((row / 64) as usize) {
            *word |= 1 << (row % 64);
        }
    }

    /// Whether one of these rows of the file passes.
    pub(super) fn any(&self, rows: &Range<u64>) -> bool {
        if rows.is_empty() {
            return false;
        }
        let last = rows.end - 1;
        let words = (rows.start / 64) as usize..=(last / 64) as usize;
        words.clone().any(|index| {
            let mut word = self.words.get(index).copied().unwrap_or(0);
            if index == *words.start() {
                word &= u64::MAX << (rows.start % 64);
            }
            if index == *words.end() {
                word &= u64::MAX >> (63 - last % 64);
            }
            word != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_passes_if_one_of_its_rows_does() {
        let mut passing = PassingRows { words: vec![0; 4] };
        let set = [0, 63, 64, 130, 255];
        set.iter().for_each(|row| passing.set(*row));
        for start in 0..300 {
            for end in start..300 {
                let expected = set.iter().any(|row| (start..end).contains(row));
                assert_eq!(passing.any(&(start..end)), expected, "{start}..{end}");
            }
        }
    }
}
