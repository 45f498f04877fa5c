//! The rows of a file that pass filters, told by its index alone.
//!
//! Read [`PassingRows`].

use std::ops::Range;

use roaring::RoaringBitmap;

use super::index_matches::file_matches;
use super::index_predicate::IndexPredicate;
use crate::error::Result;
use crate::storage::FileIndex;

/// The rows that pass, row group by row group.
#[derive(Debug)]
pub(super) struct PassingRows {
    /// Where each row group begins, and its rows that pass.
    groups: Vec<(u64, RoaringBitmap)>,
}

impl PassingRows {
    /// What the index of a file says; `None` where it cannot tell of each row.
    pub(super) async fn of(predicate: &IndexPredicate, file: &FileIndex) -> Result<Option<Self>> {
        let matches = file_matches(predicate, file).await?;
        let mut groups = Vec::with_capacity(matches.len());
        let mut first = 0;
        for (group, (row_count, matches)) in file.row_groups().await?.iter().zip(matches) {
            let mut passing = RoaringBitmap::new();
            if !matches.is_none() {
                let summary = group.rows(file).await?;
                let (true, Some(summary)) = (matches.exact, summary) else {
                    return Ok(None);
                };
                matches.for_each_row(&summary, |row| {
                    passing.insert(row);
                });
            }
            groups.push((first, passing));
            first += row_count;
        }
        Ok((!groups.is_empty()).then_some(Self { groups }))
    }

    /// Whether one of these rows of the file passes.
    pub(super) fn any(&self, rows: &Range<u64>) -> bool {
        let next = self
            .groups
            .partition_point(|(first, _)| *first <= rows.start);
        let groups = self.groups[next.saturating_sub(1)..].iter();
        let mut groups = groups.take_while(|(first, _)| *first < rows.end);
        groups.any(|(first, passing)| {
            let within = |row: u64| u32::try_from(row.saturating_sub(*first)).unwrap_or(u32::MAX);
            passing
                .range(within(rows.start)..within(rows.end))
                .next()
                .is_some()
        })
    }
}
