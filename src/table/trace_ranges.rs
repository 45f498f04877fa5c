//! Which rows of which files hold the traces of a range of ids, and how all traces are cut into
//! such ranges. Pure.
//!
//! Read [`TracePages`], what a file's page index says of its trace ids, and [`trace_ranges`].
//!
//! ```text
//!            ids ──────────────────────────────────────────────>
//!   file a   │ page │ page │ page │ page │ page │ page │
//!   file b        │ page │ page │ page │
//!   ranges   ├─────────┤├─────────────┤├────────────────────┤
//! ```
//!
//! No trace lies in two ranges. A page at a border is read for both, and the reader drops the
//! rows whose ids lie outside.

use std::ops::Range;

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use crate::span::{TraceId, column};

/// The pages of a file's trace ids, which rise from page to page.
#[derive(Debug, Clone, Default)]
pub(super) struct TracePages {
    pages: Vec<TracePage>,
}

/// The rows of a page and the ids between which theirs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TracePage {
    min: u128,
    max: u128,
    first_row: u64,
    row_count: u64,
}

/// Traces whose ids, as big-endian numbers, lie between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRange {
    /// The least id.
    pub first: u128,
    /// The greatest id, itself within the range.
    pub last: u128,
    /// About how many rows they have.
    pub row_count: u64,
}

impl TraceRange {
    /// Whether the trace of this number lies in the range.
    pub fn contains(&self, trace: u128) -> bool {
        (self.first..=self.last).contains(&trace)
    }
}

impl TracePages {
    /// What the page index of a file says; one page of any trace where it has none.
    pub(super) fn of(metadata: &ParquetMetaData) -> Self {
        Self::indexed(metadata).unwrap_or_else(|| {
            let row_count = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
            Self::whole(row_count)
        })
    }

    /// One page of any trace.
    pub(super) fn whole(row_count: u64) -> Self {
        Self {
            pages: vec![TracePage {
                min: 0,
                max: u128::MAX,
                first_row: 0,
                row_count,
            }],
        }
    }

    fn indexed(metadata: &ParquetMetaData) -> Option<Self> {
        let mut pages = Vec::new();
        let mut group_start = 0u64;
        for (index, group) in metadata.row_groups().iter().enumerate() {
            group_pages(metadata, index, group, group_start, &mut pages)?;
            group_start += u64::try_from(group.num_rows()).ok()?;
        }
        // Files are sorted; one that is not is read whole.
        let rises = pages.windows(2).all(|pair| pair[0].max <= pair[1].min);
        rises.then_some(Self { pages })
    }

    /// The rows, in stretches, that can hold traces of a range: where ids are given, only pages
    /// that can hold one of them count. `ids` are sorted.
    pub(super) fn rows(&self, range: &TraceRange, ids: Option<&[TraceId]>) -> Vec<Range<u64>> {
        let first = self.pages.partition_point(|page| page.max < range.first);
        let pages = self.pages[first..].iter();
        let pages = pages.take_while(|page| page.min <= range.last);
        let mut stretches: Vec<Range<u64>> = Vec::new();
        for page in pages.filter(|page| page.holds_any(ids)) {
            let rows = page.first_row..page.first_row + page.row_count;
            match stretches.last_mut() {
                Some(last) if last.end == rows.start => last.end = rows.end,
                _ => stretches.push(rows),
            }
        }
        stretches
    }

    /// The least id and the rows of each page that can hold one of `ids`.
    pub(super) fn weights<'a>(
        &'a self,
        ids: Option<&'a [TraceId]>,
    ) -> impl Iterator<Item = (u128, u64)> + 'a {
        let pages = self.pages.iter().filter(move |page| page.holds_any(ids));
        pages.map(|page| (page.min, page.row_count))
    }
}

impl TracePage {
    fn holds_any(&self, ids: Option<&[TraceId]>) -> bool {
        let Some(ids) = ids else {
            return true;
        };
        let number = |id: &TraceId| u128::from_be_bytes(*id.as_bytes());
        let from = ids.partition_point(|id| number(id) < self.min);
        ids.get(from).is_some_and(|id| number(id) <= self.max)
    }
}

fn group_pages(
    metadata: &ParquetMetaData,
    index: usize,
    group: &RowGroupMetaData,
    group_start: u64,
    pages: &mut Vec<TracePage>,
) -> Option<()> {
    let columns = group.schema_descr().columns();
    let leaf = columns
        .iter()
        .position(|c| c.path().string() == column::TRACE_ID)?;
    let ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(bounds) =
        metadata.column_index()?.get(index)?.get(leaf)?
    else {
        return None;
    };
    let locations = metadata.offset_index()?.get(index)?.get(leaf)?;
    let locations = locations.page_locations();
    for (page, location) in locations.iter().enumerate() {
        let first = location.first_row_index;
        let next = match locations.get(page + 1) {
            Some(next) => next.first_row_index,
            None => group.num_rows(),
        };
        pages.push(TracePage {
            // Bounds that were cut short are widened.
            min: widened(bounds.min_value(page)?, 0),
            max: widened(bounds.max_value(page)?, 0xff),
            first_row: group_start + u64::try_from(first).ok()?,
            row_count: u64::try_from(next - first).ok()?,
        });
    }
    Some(())
}

fn widened(bound: &[u8], fill: u8) -> u128 {
    let mut bytes = [fill; 16];
    let length = bound.len().min(16);
    bytes[..length].copy_from_slice(&bound[..length]);
    u128::from_be_bytes(bytes)
}

/// Cuts all traces into ranges of at most about `most` rows, given the least ids and the rows of
/// all pages. The first `parallel` ranges are a sixteenth of that and the next a quarter, so that
/// a query that ends early reads little; the others are alike, and as many for each of those that
/// work in parallel. A trace larger than that is a range of its own.
pub(super) fn trace_ranges(
    mut weights: Vec<(u128, u64)>,
    most: u64,
    parallel: usize,
) -> Vec<TraceRange> {
    weights.sort_unstable();
    let parallel = parallel.max(1);
    let small = parallel as u64 * (most / 16 + most / 4);
    let total: u64 = weights.iter().map(|(_, rows)| rows).sum();
    let rest = total.saturating_sub(small);
    let count = rest.div_ceil(most.max(1)).next_multiple_of(parallel as u64);
    let target = |done: usize| match done / parallel {
        0 => most / 16,
        1 => most / 4,
        _ => rest.div_ceil(count.max(1)),
    };
    let mut ranges: Vec<TraceRange> = Vec::new();
    let mut first = 0;
    let mut row_count = 0;
    for (min, rows) in weights {
        if min > first && row_count > 0 && row_count + rows > target(ranges.len()) {
            ranges.push(TraceRange {
                first,
                last: min - 1,
                row_count,
            });
            first = min;
            row_count = 0;
        }
        row_count += rows;
    }
    if row_count > 0 {
        ranges.push(TraceRange {
            first,
            last: u128::MAX,
            row_count,
        });
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn pages(bounds: &[(u128, u128)]) -> TracePages {
        let pages = bounds.iter().zip(0..).map(|((min, max), page)| TracePage {
            min: *min,
            max: *max,
            first_row: page * 10,
            row_count: 10,
        });
        TracePages {
            pages: pages.collect(),
        }
    }

    #[test]
    fn a_trace_at_a_border_lies_in_one_range_and_all_its_pages_are_read_for_it() {
        let file = pages(&[(1, 5), (5, 5), (5, 9), (12, 20)]);
        let ranges = trace_ranges(file.weights(None).collect(), 20, 0);
        assert_eq!(
            ranges
                .iter()
                .map(|range| (range.first, range.last))
                .collect::<Vec<_>>(),
            [(0, 4), (5, 11), (12, u128::MAX)]
        );
        assert_eq!(file.rows(&ranges[0], None), from_ref(&(0..10)));
        assert_eq!(file.rows(&ranges[1], None), from_ref(&(0..30)));
        assert_eq!(file.rows(&ranges[2], None), from_ref(&(30..40)));
    }

    #[test]
    fn pages_that_hold_none_of_the_ids_are_left_out() {
        let file = pages(&[(1, 5), (6, 8), (9, 12)]);
        let all = TraceRange {
            first: 0,
            last: u128::MAX,
            row_count: 0,
        };
        let id = |number: u128| TraceId::from_bytes(number.to_be_bytes()).unwrap();
        assert_eq!(file.rows(&all, Some(&[id(2), id(9)])), [0..10, 20..30]);
        assert_eq!(file.weights(Some(&[id(7)])).collect::<Vec<_>>(), [(6, 10)]);
        assert!(file.rows(&all, Some(&[id(13)])).is_empty());
    }

    #[test]
    fn first_ranges_are_small() {
        let weights = (0..1000).map(|page| (page, 10)).collect();
        let ranges = trace_ranges(weights, 1600, 2);
        let rows: Vec<u64> = ranges.iter().map(|range| range.row_count).collect();
        assert_eq!(rows, [&[100, 100, 400, 400][..], &[1500; 6]].concat());
        assert_eq!(rows.iter().sum::<u64>(), 10_000);
    }
}
