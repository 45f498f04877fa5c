//! Merges the files of an hour into bucketed ones: which, and how.
//!
//! Read [`choose_compaction`], which decides and touches nothing, and [`compact`], which acts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::log::{Commit, Log, Operation};
use super::merge::{Target, delete, merge};
use super::{Bucket, Hour, LakeFile, Snapshot};
use crate::config::StorageConfig;
use crate::error::Result;

/// The most buckets an hour is split into: each has a thread and a file open while merging.
const MAX_BUCKETS: u32 = 64;
/// Compressed bytes that the inputs of one merge may hold in memory together.
const MERGE_BYTES: u64 = 512 << 20;
/// Files that one merge reads at once.
const MERGE_FILES: usize = 64;

/// Rows of a row group of a file between two merges.
const BETWEEN_ROWS: usize = 1 << 16;

/// One hour's files that are to become bucketed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// The hour.
    pub hour: Hour,
    /// All files of the hour.
    pub inputs: Vec<Arc<LakeFile>>,
    /// How many buckets they become, a power of two.
    pub bucket_count: u32,
}

impl Compaction {
    /// The bytes to be read.
    pub fn byte_count(&self) -> u64 {
        self.inputs.iter().map(|file| file.size).sum()
    }
}

/// What became of a compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionOutcome {
    /// The hour.
    pub hour: Hour,
    /// Whether it was committed; if not, another writer changed the hour first, and the lake
    /// is as that one left it.
    pub committed: bool,
    /// The files before.
    pub input_count: usize,
    /// The bytes before.
    pub input_bytes: u64,
    /// The files after.
    pub output_count: usize,
    /// The bytes after.
    pub output_bytes: u64,
    /// The rows after.
    pub row_count: u64,
    /// The exact duplicates dropped.
    pub duplicate_count: u64,
}

/// The hours that are not in their compacted form: that have a file as ingested, or two files
/// that can hold the same trace. Of a compacted lake, none; so compacting twice changes nothing.
pub fn choose_compaction(snapshot: &Snapshot, config: &StorageConfig) -> Vec<Compaction> {
    let hours = snapshot.files_by_hour().iter();
    hours
        .filter(|(_, files)| !is_compacted(files))
        .map(|(hour, files)| Compaction {
            hour: *hour,
            inputs: files.clone(),
            bucket_count: bucket_count(files, config.target_file_bytes),
        })
        .collect()
}

fn is_compacted(files: &[Arc<LakeFile>]) -> bool {
    let mut buckets = BTreeSet::new();
    let mut counts = BTreeSet::new();
    files.iter().all(|file| match file.bucket {
        Bucket::Level0 => false,
        Bucket::Of { index, count } => {
            counts.insert(count);
            counts.len() == 1 && buckets.insert(index)
        }
    })
}

/// The power of two that brings files nearest to the target.
fn bucket_count(files: &[Arc<LakeFile>], target_bytes: u64) -> u32 {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let ideal = bytes as f64 / target_bytes.max(1) as f64;
    let power = ideal.log2().round().clamp(0.0, 31.0);
    (1u32 << power as u32).min(MAX_BUCKETS)
}

/// Merges the files of a choice and puts the result in their place, in one version.
///
/// Safe beside writers, whose files are not touched, and beside other compactions: of two of
/// the same hour, one loses and says so. Killed at any moment, it leaves the lake as it was.
pub async fn compact(
    log: &Log,
    config: &StorageConfig,
    choice: &Compaction,
) -> Result<CompactionOutcome> {
    let target = Target {
        hour: choice.hour,
        bucket_count: choice.bucket_count.clamp(1, MAX_BUCKETS),
    };
    let store = log.store();
    let mut inputs = choice.inputs.clone();
    let mut duplicate_count = 0;
    // Files between two merges, which are never committed.
    let mut between: Vec<LakeFile> = Vec::new();
    let mut row_group_rows = config.row_group_rows;
    let merged = loop {
        let groups = groups(&inputs, row_group_rows);
        if groups.len() <= 1 {
            break merge(store, config, &inputs, target).await;
        }
        match merge_groups(log, config, &groups, choice.hour).await {
            Ok((files, duplicates)) => {
                duplicate_count += duplicates;
                between.extend(files.iter().cloned());
                inputs = files.into_iter().map(Arc::new).collect();
                row_group_rows = BETWEEN_ROWS;
            }
            Err(error) => break Err(error),
        }
    };
    delete(store, &between).await;
    let merged = merged?;
    duplicate_count += merged.duplicate_count;
    let commit = log.try_commit(&merged.files, &choice.inputs, Operation::Compact);
    let committed = match commit.await? {
        Commit::Done(_) => true,
        Commit::Lost { .. } => {
            delete(store, &merged.files).await;
            false
        }
    };
    Ok(CompactionOutcome {
        hour: choice.hour,
        committed,
        input_count: choice.inputs.len(),
        input_bytes: choice.byte_count(),
        output_count: merged.files.len(),
        output_bytes: merged.files.iter().map(|file| file.size).sum(),
        row_count: merged.files.iter().map(|file| file.row_count).sum(),
        duplicate_count,
    })
}

/// Merges each group into one file, one group after the other.
async fn merge_groups(
    log: &Log,
    config: &StorageConfig,
    groups: &[Vec<Arc<LakeFile>>],
    hour: Hour,
) -> Result<(Vec<LakeFile>, u64)> {
    let target = Target {
        hour,
        bucket_count: 1,
    };
    // Quick to write, and in row groups small enough that many are read at once.
    let config = StorageConfig {
        compact_zstd_level: config.ingest_zstd_level,
        row_group_rows: config.row_group_rows.min(BETWEEN_ROWS),
        ..config.clone()
    };
    let mut files: Vec<LakeFile> = Vec::new();
    let mut duplicate_count = 0;
    for group in groups {
        match merge(log.store(), &config, group, target).await {
            Ok(merged) => {
                files.extend(merged.files);
                duplicate_count += merged.duplicate_count;
            }
            Err(error) => {
                delete(log.store(), &files).await;
                return Err(error);
            }
        }
    }
    Ok((files, duplicate_count))
}

/// Splits inputs so that each part can be merged at once; one part where all can.
fn groups(inputs: &[Arc<LakeFile>], row_group_rows: usize) -> Vec<Vec<Arc<LakeFile>>> {
    let mut groups: Vec<Vec<Arc<LakeFile>>> = Vec::new();
    let mut held = 0;
    for file in inputs {
        // A reader holds one row group.
        let rows = file.row_count.max(1);
        let bytes = file.size.saturating_mul((row_group_rows as u64).min(rows)) / rows;
        match groups.last_mut() {
            Some(group)
                if group.len() < 2
                    || (group.len() < MERGE_FILES && held + bytes <= MERGE_BYTES) =>
            {
                held += bytes;
                group.push(Arc::clone(file));
            }
            _ => {
                held = bytes;
                groups.push(vec![Arc::clone(file)]);
            }
        }
    }
    groups
}
