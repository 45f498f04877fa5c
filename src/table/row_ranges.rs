//! The rows of a file that a scan has to read: those that can hold certain traces, by the page
//! index of their ids, and those that can pass the filters, by its index.
//!
//! Read [`planned_rows`], which is pure. DataFusion prunes pages too, but by a whole query's ids at
//! once: of a hundred ids a file holds a few, and its trace-id filter has told which.

use std::ops::Range;

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use roaring::RoaringBitmap;

use super::index_matches::RowMatches;
use super::pruning::PlannedFile;
use crate::span::{TraceId, column};

/// A share of a row group, as one of so many parts, from which on reading all rows is faster
/// than reading the rows that are left.
const UNSELECTIVE: u64 = 2;
/// Rows between two others that are read with them: skipping them takes longer.
pub(super) const NEAR_ROWS: usize = 16;

/// The rows of a planned file, within some of its rows, that have to be read; `None` where all of
/// the file have to.
pub(super) fn planned_rows(
    metadata: &ParquetMetaData,
    planned: &PlannedFile,
    within: &Range<u64>,
) -> Option<ParquetAccessPlan> {
    let PlannedFile {
        trace_ids,
        row_groups,
        ..
    } = planned;
    let all = || ParquetAccessPlan::new_all(metadata.num_row_groups());
    let mut plan = (!trace_ids.is_empty())
        .then(|| row_ranges(metadata, trace_ids))
        .flatten();
    if !row_groups.is_empty() {
        plan = Some(with_index(plan.unwrap_or_else(all), row_groups));
    }
    if within.end - within.start < planned.file.row_count {
        let groups = metadata.row_groups().iter();
        let row_counts = groups.map(|group| group.num_rows().unsigned_abs());
        plan = Some(cut(plan.unwrap_or_else(all), row_counts, within));
    }
    plan
}

/// What `plan` reads within some rows of the file, whose row groups have so many each.
fn cut(
    mut plan: ParquetAccessPlan,
    row_counts: impl Iterator<Item = u64>,
    within: &Range<u64>,
) -> ParquetAccessPlan {
    let mut first = 0;
    for (index, rows) in row_counts.enumerate() {
        let place = |row: u64| (row.clamp(first, first + rows) - first) as usize;
        let kept = place(within.start)..place(within.end);
        if kept.is_empty() {
            plan.skip(index);
        } else if kept.len() < rows as usize {
            let kept = RowSelection::from_consecutive_ranges(std::iter::once(kept), rows as usize);
            plan.scan_selection(index, kept);
        }
        first += rows;
    }
    plan
}

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
fn with_index(mut plan: ParquetAccessPlan, row_groups: &[(u64, RowMatches)]) -> ParquetAccessPlan {
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

    #[test]
    fn parts_have_the_rows_of_the_plan_each_once() {
        let row_counts = [10, 4, 7];
        let mut plan = ParquetAccessPlan::new_all(3);
        plan.skip(1);
        let every_other = (0..7).filter(|row| row % 2 == 0).map(|row| row..row + 1);
        plan.scan_selection(2, RowSelection::from_consecutive_ranges(every_other, 7));
        let numbers = |plan: &ParquetAccessPlan| -> Vec<(usize, usize)> {
            let rows_of = |(group, access): (usize, &RowGroupAccess)| -> Vec<(usize, usize)> {
                let mut at = 0;
                let selectors = match access {
                    RowGroupAccess::Skip => Vec::new(),
                    RowGroupAccess::Scan => vec![RowSelector::select(row_counts[group] as usize)],
                    RowGroupAccess::Selection(rows) => rows.iter().copied().collect(),
                };
                let rows = selectors.iter().flat_map(|selector| {
                    at += selector.row_count;
                    let selected = if selector.skip { 0 } else { selector.row_count };
                    at - selected..at
                });
                rows.map(|row| (group, row)).collect()
            };
            plan.inner().iter().enumerate().flat_map(rows_of).collect()
        };
        let all = numbers(&plan);
        assert_eq!(all.len(), 14);
        for step in 1..=21 {
            let parts = (0..21u64)
                .step_by(step)
                .map(|first| first..first + step as u64);
            let parts = parts.map(|within| cut(plan.clone(), row_counts.into_iter(), &within));
            let parts: Vec<_> = parts.flat_map(|part| numbers(&part)).collect();
            assert_eq!(parts, all, "{step}");
        }
    }
}
