//! The rows of a file that a scan has to read: those that can hold certain traces, by the page
//! index of their ids, and those that can pass the filters, by its index.
//!
//! Read [`row_ranges`] and [`with_index`], which are pure. DataFusion prunes pages too, but by a whole query's ids at
//! once: of a hundred ids a file holds a few, and its trace-id filter has told which.

use std::ops::Range;

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use roaring::RoaringBitmap;

use super::index_matches::RowMatches;
use crate::span::{TraceId, column};

/// A share of a row group, as one of so many parts, from which on reading all rows is faster
/// than reading the rows that are left.
const UNSELECTIVE: u64 = 2;
/// Rows between two others that are read with them: skipping them takes longer.
pub(super) const NEAR_ROWS: usize = 16;

/// The pages whose range of ids holds one of `ids`; `None` where the file has no page index to
/// tell. `ids` are sorted.
pub(super) fn row_ranges(metadata: &ParquetMetaData, ids: &[TraceId]) -> Option<ParquetAccessPlan> {
    let groups = metadata.row_groups().iter().enumerate();
    let accesses = groups.map(|(index, group)| group_access(metadata, index, group, ids));
    Some(ParquetAccessPlan::new(
        accesses.collect::<Option<Vec<_>>>()?,
    ))
}

/// What `plan` reads, without the rows that the index of the file rules out. `row_groups` are the
/// rows of each row group and those that can pass.
pub(super) fn with_index(
    mut plan: ParquetAccessPlan,
    row_groups: &[(u64, RowMatches)],
) -> ParquetAccessPlan {
    for (index, (count, matches)) in row_groups.iter().enumerate().take(plan.len()) {
        let Some(rows) = &matches.rows else {
            continue;
        };
        if rows.is_empty() {
            plan.skip(index);
        } else if rows.len() * UNSELECTIVE < *count {
            plan.scan_selection(index, selection(rows, *count));
        }
    }
    plan
}

/// The ranges in which `rows` lie, of `count` rows in all.
fn selection(rows: &RoaringBitmap, count: u64) -> RowSelection {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        let row = row as usize;
        match ranges.last_mut() {
            Some(last) if row - last.end < NEAR_ROWS => last.end = row + 1,
            _ => ranges.push(row..row + 1),
        }
    }
    RowSelection::from_consecutive_ranges(
        ranges.into_iter(),
        usize::try_from(count).unwrap_or(usize::MAX),
    )
}

fn group_access(
    metadata: &ParquetMetaData,
    index: usize,
    group: &RowGroupMetaData,
    ids: &[TraceId],
) -> Option<RowGroupAccess> {
    let columns = group.schema_descr().columns();
    let leaf = columns
        .iter()
        .position(|c| c.path().string() == column::TRACE_ID)?;
    let ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(pages) =
        metadata.column_index()?.get(index)?.get(leaf)?
    else {
        return None;
    };
    let offsets = metadata
        .offset_index()?
        .get(index)?
        .get(leaf)?
        .page_locations();
    let group_rows = usize::try_from(group.num_rows()).ok()?;
    let mut selectors = Vec::with_capacity(offsets.len());
    for (page, location) in offsets.iter().enumerate() {
        let first = usize::try_from(location.first_row_index).ok()?;
        let next = match offsets.get(page + 1) {
            Some(next) => usize::try_from(next.first_row_index).ok()?,
            None => group_rows,
        };
        let rows = next.checked_sub(first)?;
        selectors.push(match (pages.min_value(page), pages.max_value(page)) {
            (Some(min), Some(max)) if !holds_any(ids, min, max) => RowSelector::skip(rows),
            _ => RowSelector::select(rows),
        });
    }
    let selection = RowSelection::from(selectors);
    Some(if selection.selects_any() {
        RowGroupAccess::Selection(selection)
    } else {
        RowGroupAccess::Skip
    })
}

/// Whether one of the sorted ids lies between two bounds, either of which may be cut short.
fn holds_any(ids: &[TraceId], min: &[u8], max: &[u8]) -> bool {
    let from = ids.partition_point(|id| id.as_bytes().as_slice() < min);
    ids.get(from)
        .is_some_and(|id| id.as_bytes().as_slice() <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_ids_between_its_bounds_and_on_them() {
        let id = |last: u8| TraceId::from_bytes([last; 16]).unwrap();
        let ids = [id(3), id(7)];
        for (min, max, expected) in [(1, 2, false), (1, 3, true), (4, 6, false), (7, 9, true)] {
            assert_eq!(
                holds_any(&ids, &[min; 16], &[max; 16]),
                expected,
                "{min} {max}"
            );
        }
        assert!(!holds_any(&ids, &[8; 16], &[9; 16]));
    }
}
