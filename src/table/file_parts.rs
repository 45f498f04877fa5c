//! The planned files of a scan as DataFusion takes them: cut into parts, with what is known of
//! each, and dealt out to partitions.
//!
//! Read [`part_counts`] and [`file_groups`], which are pure.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use parquet::file::metadata::ParquetMetaData;

use super::footers::located;
use super::pruning::PlannedFile;
use super::row_ranges::planned_rows;
use crate::storage::LakeFile;

/// Rows of a part at least: to open a file once more takes as long as to read some thousand rows.
const LEAST_PART_ROWS: u64 = 64 << 10;

/// Parts begin at multiples of so many rows, where pages do as well.
const PART_STEP: u64 = 8 << 10;

/// So few rows of so few files are read before a second partition has begun.
const FEW_ROWS: u64 = 8 << 10;
const FEW_FILES: usize = 2;

/// A part of a file, and how many rows it has to read.
pub(super) struct FilePart {
    row_count: u64,
    file: PartitionedFile,
}

/// How many parts each file of a scan is cut into.
///
/// A partition that is done takes the next file of all that nobody reads yet. The last files are
/// cut, so that nobody is left with much to do when the others are done; a single file is cut for
/// all of them.
pub(super) fn part_counts(files: &[PlannedFile], partitions: usize) -> Vec<u64> {
    let rows = files
        .iter()
        .map(|planned| match planned.trace_ids.is_empty() {
            true => planned.row_count(),
            // A few pages of it.
            false => 0,
        });
    counts(&rows.collect::<Vec<_>>(), partitions as u64)
}

fn counts(rows: &[u64], partitions: u64) -> Vec<u64> {
    if partitions < 2 {
        return vec![1; rows.len()];
    }
    let mut rest: u64 = rows.iter().sum();
    let counts = rows.iter().map(|rows| {
        let most = (rest / (2 * partitions)).max(LEAST_PART_ROWS);
        rest -= rows;
        (rows / most).max(1)
    });
    counts.collect()
}

/// So many parts of a file; `schema` is the one of the scan.
pub(super) fn parts_of(
    planned: &PlannedFile,
    metadata: &ParquetMetaData,
    count: u64,
    schema: &SchemaRef,
) -> Vec<FilePart> {
    let file = &planned.file;
    let bound = |part: u64| match part == count {
        true => file.row_count,
        false => file.row_count * part / count / PART_STEP * PART_STEP,
    };
    let parts = (0..count).map(|part| {
        let within = bound(part)..bound(part + 1);
        let mut part = PartitionedFile::new_from_meta(located(file))
            .with_statistics(Arc::new(part_statistics(file, &within, schema)));
        if let Some(rows) = planned_rows(metadata, planned, &within) {
            part = part.with_extension(rows);
        }
        FilePart {
            row_count: planned.row_count() / count,
            file: part,
        }
    });
    parts.collect()
}

/// Parts dealt out to at most `target` groups, one after the other: what a partition that is done
/// takes next is the first that nobody reads, of all groups in a row.
pub(super) fn file_groups(parts: Vec<FilePart>, target: usize) -> Vec<FileGroup> {
    let row_count: u64 = parts.iter().map(|part| part.row_count).sum();
    let most = match row_count <= FEW_ROWS {
        true => parts.len().div_ceil(FEW_FILES),
        false => parts.len(),
    };
    let (part_count, count) = (parts.len(), target.clamp(1, most.max(1)));
    let begin = |group: usize| part_count * group / count;
    let mut files = parts.into_iter().map(|part| part.file);
    let groups = (0..count).map(|group| {
        let size = begin(group + 1) - begin(group);
        FileGroup::new(files.by_ref().take(size).collect())
    });
    groups.collect()
}

fn part_statistics(file: &LakeFile, rows: &Range<u64>, schema: &SchemaRef) -> Statistics {
    let row_count = rows.end - rows.start;
    let start_nanos = Some((file.min_start_nano, file.max_start_nano));
    let bytes = file.size / (file.row_count / row_count.max(1)).max(1);
    let statistics = statistics(row_count, bytes, start_nanos, schema);
    match row_count == file.row_count {
        true => statistics,
        // When its first and its last span start, nobody knows.
        false => Statistics {
            num_rows: statistics.num_rows,
            ..statistics.to_inexact()
        },
    }
}

/// What is known of all files together.
pub(super) fn table_statistics(files: &[PlannedFile], schema: &SchemaRef) -> Statistics {
    let files = files.iter().map(|planned| &planned.file);
    let rows: u64 = files.clone().map(|file| file.row_count).sum();
    let bytes: u64 = files.clone().map(|file| file.size).sum();
    let first = files.clone().map(|file| file.min_start_nano).min();
    let last = files.map(|file| file.max_start_nano).max();
    statistics(rows, bytes, first.zip(last), schema)
}

/// Statistics that are exact for rows and start times, and silent about everything else.
fn statistics(
    rows: u64,
    bytes: u64,
    start_nanos: Option<(i64, i64)>,
    schema: &SchemaRef,
) -> Statistics {
    let columns = schema.fields().iter().map(|field| {
        let mut column = ColumnStatistics::new_unknown();
        if let ("start_time", Some((first, last))) = (field.name().as_str(), start_nanos) {
            let time = |nanos| ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into()));
            column.min_value = Precision::Exact(time(first));
            column.max_value = Precision::Exact(time(last));
            column.null_count = Precision::Exact(0);
        } else if !field.is_nullable() {
            column.null_count = Precision::Exact(0);
        }
        column
    });
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Statistics {
        num_rows: Precision::Exact(size(rows)),
        total_byte_size: Precision::Inexact(size(bytes)),
        column_statistics: columns.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_files_are_cut_and_small_ones_never() {
        const MANY: u64 = 400_000;
        assert_eq!(counts(&[MANY; 6], 2), [1, 1, 1, 1, 2, 4]);
        assert_eq!(counts(&[MANY], 2), [4]);
        assert_eq!(counts(&[MANY], 16), [6]);
        assert_eq!(counts(&[MANY; 6], 1), [1; 6]);
        assert_eq!(counts(&[2000; 100], 2), [1; 100]);
        assert_eq!(counts(&[0, 0], 2), [1, 1]);
    }

    #[test]
    fn groups_in_a_row_are_the_parts_in_their_order() {
        let sizes = |row_count: u64, part_count: u64, target: usize| -> Vec<usize> {
            let parts = (0..part_count).map(|part| FilePart {
                row_count,
                file: PartitionedFile::new(part.to_string(), 1),
            });
            let groups = file_groups(parts.collect(), target);
            let files = groups.iter().flat_map(FileGroup::iter);
            let names: Vec<_> = files.map(|file| file.path().to_string()).collect();
            let expected: Vec<_> = (0..part_count).map(|part| part.to_string()).collect();
            assert_eq!(names, expected);
            groups.iter().map(FileGroup::len).collect()
        };
        const MANY: u64 = 100_000;
        assert_eq!(sizes(MANY, 5, 2), [2, 3]);
        assert_eq!(sizes(MANY, 5, 4), [1, 1, 1, 2]);
        assert_eq!(sizes(MANY, 1, 2), [1]);
        assert_eq!(sizes(10, 2, 2), [2]);
        assert_eq!(sizes(10, 3, 4), [1, 2]);
        assert_eq!(sizes(0, 0, 2), [0]);
    }
}
