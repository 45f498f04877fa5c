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

/// Rows of a row group of a file that will soon be merged again: fewer take less memory.
const INTERIM_ROWS: usize = 1 << 18;
/// Files that one merge beside writers reads at once. Each takes megabytes: a page and some rows of
/// every column.
const INTERIM_FILES: usize = 24;

/// One hour's files that are to become bucketed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// The hour.
    pub hour: Hour,
    /// Files of the hour; all of them unless the result is interim.
    pub inputs: Vec<Arc<LakeFile>>,
    /// How many buckets they become, a power of two.
    pub bucket_count: u32,
    /// Whether the result will soon be merged again, and so is written quickly.
    pub is_interim: bool,
}

impl Compaction {
    /// Merges of the small files among the inputs, of an hour that is still written to: those as
    /// ingested, and those that came of such merges, each where there are more than `max_files`.
    ///
    /// What has a quarter of the size aimed at is left alone, and each merge makes files many
    /// times as large: however long an hour is written to, a span is written anew only a few
    /// times before the hour gets its final form.
    pub fn of_small_files(&self, max_files: usize, config: &StorageConfig) -> Vec<Self> {
        let is_small = |file: &LakeFile| file.size < config.target_file_bytes / 4;
        let merged_once = |file: &LakeFile| matches!(file.bucket, Bucket::Of { count: 1, .. });
        let inputs = |wanted: &dyn Fn(&LakeFile) -> bool| -> Vec<Arc<LakeFile>> {
            let inputs = self.inputs.iter().filter(|file| wanted(file));
            inputs.cloned().collect()
        };
        let ingested = inputs(&|file| file.bucket == Bucket::Level0);
        let merged = inputs(&|file| merged_once(file) && is_small(file));
        let mut merges = Vec::new();
        for mut files in [ingested, merged] {
            if files.len() <= max_files {
                continue;
            }
            files.sort_by_key(|file| file.min_ingested_micros);
            let most_bytes = config.target_file_bytes / 2;
            let parts = cut(&files, (1, INTERIM_FILES), most_bytes, |file| file.size);
            let several = parts.into_iter().filter(|inputs| inputs.len() > 1);
            merges.extend(several.map(|inputs| Self {
                hour: self.hour,
                inputs,
                bucket_count: 1,
                is_interim: true,
            }));
        }
        merges
    }

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
            inputs: files.to_vec(),
            bucket_count: bucket_count(files, config.target_file_bytes),
            is_interim: false,
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
    let mut output_config = config.clone();
    if choice.is_interim {
        output_config.compact_compression = config.ingest_compression;
        output_config.row_group_rows = config.row_group_rows.min(INTERIM_ROWS);
    }
    let merged = loop {
        let groups = groups(&inputs, row_group_rows);
        if groups.len() <= 1 {
            break merge(store, &output_config, &inputs, target).await;
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
        compact_compression: config.ingest_compression,
        row_group_rows: config.row_group_rows.min(BETWEEN_ROWS),
        index_share: 0.0,
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
    // Of two at the least, or there would be no fewer files than before.
    cut(inputs, (2, MERGE_FILES), MERGE_BYTES, |file| {
        // A reader holds one row group.
        let rows = file.row_count.max(1);
        file.size.saturating_mul((row_group_rows as u64).min(rows)) / rows
    })
}

/// Cuts files into parts in their order: of so many files, at the least (but for the last) and at
/// the most, and beyond the least of at most so many bytes.
fn cut(
    files: &[Arc<LakeFile>],
    (least, most): (usize, usize),
    most_bytes: u64,
    bytes_of: impl Fn(&LakeFile) -> u64,
) -> Vec<Vec<Arc<LakeFile>>> {
    let mut parts: Vec<Vec<Arc<LakeFile>>> = Vec::new();
    let mut held = 0;
    for file in files {
        let bytes = bytes_of(file);
        match parts.last_mut() {
            Some(part)
                if part.len() < least || (part.len() < most && held + bytes <= most_bytes) =>
            {
                held += bytes;
                part.push(Arc::clone(file));
            }
            _ => {
                held = bytes;
                parts.push(vec![Arc::clone(file)]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::sample::{check_file, read_file, read_rows, row_texts, spans};
    use crate::storage::{Store, write_batch};

    async fn new_log() -> Log {
        Log::create(Store::open("memory://").unwrap())
            .await
            .unwrap()
    }

    async fn append(log: &Log, batch: arrow::array::RecordBatch, ingested_at: i64) {
        let config = StorageConfig::default();
        let files = write_batch(log.store(), &config, batch, ingested_at).await;
        let files = files.unwrap();
        log.commit(&files, &[], Operation::Append).await.unwrap();
    }

    /// A configuration under which few rows make many pages, row groups and buckets.
    fn small() -> StorageConfig {
        StorageConfig {
            target_file_bytes: 20_000,
            row_group_rows: 100,
            page_rows: 16,
            ..StorageConfig::default()
        }
    }

    async fn compact_all(log: &Log, config: &StorageConfig) -> Vec<CompactionOutcome> {
        let mut outcomes = Vec::new();
        for choice in choose_compaction(&log.refresh().await.unwrap(), config) {
            outcomes.push(compact(log, config, &choice).await.unwrap());
        }
        outcomes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_compacted_lake_holds_the_same_spans_but_for_exact_duplicates(
            batches in proptest::collection::vec((0u64..6, 1usize..400), 1..6),
            hours in 1i64..3,
        ) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
            runtime.unwrap().block_on(async {
                let log = new_log().await;
                for (at, (seed, span_count)) in batches.iter().enumerate() {
                    append(&log, spans(*seed, *span_count, hours), at as i64).await;
                }
                let mut expected = read_rows(log.store(), &log.snapshot()).await;
                let before = expected.len();
                expected.dedup();
                let outcomes = compact_all(&log, &small()).await;
                let dropped: u64 = outcomes.iter().map(|outcome| outcome.duplicate_count).sum();
                assert_eq!(dropped as usize, before - expected.len());
                let snapshot = log.snapshot();
                assert_eq!(read_rows(log.store(), &snapshot).await, expected);
                for file in snapshot.files() {
                    check_file(log.store(), file).await;
                }
                assert!(choose_compaction(&snapshot, &small()).is_empty());
                let opened = Log::open(log.store().clone()).await.unwrap().snapshot();
                assert!(opened.files().zip(snapshot.files()).all(|(a, b)| a == b));
            });
        }
    }

    #[tokio::test]
    async fn of_duplicates_the_one_ingested_first_is_kept() {
        let log = new_log().await;
        for ingested_at in [30, 10, 20] {
            append(&log, spans(1, 40, 1), ingested_at).await;
        }
        let outcomes = compact_all(&log, &StorageConfig::default()).await;
        assert_eq!(
            (outcomes[0].row_count, outcomes[0].duplicate_count),
            (40, 80)
        );
        let snapshot = log.snapshot();
        let file = snapshot.files().next().unwrap();
        assert_eq!(
            (file.min_ingested_micros, file.max_ingested_micros),
            (10, 10)
        );
        assert_eq!(row_texts(&read_file(log.store(), file).await).len(), 40);
    }

    #[tokio::test]
    async fn late_spans_are_merged_into_the_buckets_of_their_hour() {
        let log = new_log().await;
        append(&log, spans(1, 2000, 1), 1).await;
        compact_all(&log, &small()).await;
        assert!(log.snapshot().file_count() > 1);
        append(&log, spans(2, 100, 1), 2).await;
        let expected = read_rows(log.store(), &log.snapshot()).await;
        compact_all(&log, &small()).await;
        assert_eq!(read_rows(log.store(), &log.snapshot()).await, expected);
        assert!(compact_all(&log, &small()).await.is_empty());
    }

    #[tokio::test]
    async fn small_files_are_merged_in_two_steps_to_the_size_aimed_at() {
        let log = new_log().await;
        let config = StorageConfig {
            target_file_bytes: 400_000,
            ..StorageConfig::default()
        };
        let mut merges = Vec::new();
        for seed in 0..60 {
            append(&log, spans(seed, 40, 1), 1).await;
            for choice in choose_compaction(&log.snapshot(), &config) {
                for merge in choice.of_small_files(3, &config) {
                    compact(&log, &config, &merge).await.unwrap();
                    merges.push(merge.inputs.len());
                }
            }
        }
        let files: Vec<_> = log.snapshot().files().cloned().collect();
        assert!(files.len() < 60 / 4, "{} files", files.len());
        assert!(merges.iter().sum::<usize>() < 60 * 3, "{merges:?}");
        assert_eq!(log.snapshot().row_count(), 60 * 40);
    }

    #[tokio::test]
    async fn more_files_than_are_merged_at_once_are_merged_in_steps() {
        let log = new_log().await;
        for seed in 0..70 {
            append(&log, spans(seed, 5, 1), 1).await;
        }
        let expected = read_rows(log.store(), &log.snapshot()).await;
        compact_all(&log, &StorageConfig::default()).await;
        assert_eq!(log.snapshot().file_count(), 1);
        assert_eq!(read_rows(log.store(), &log.snapshot()).await, expected);
        // Of the files between the steps nothing is left.
        let all = crate::storage::vacuum(&log, 0, i64::MAX, true)
            .await
            .unwrap();
        assert_eq!((all.kept_count, all.paths.len()), (1, 70));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writers_and_compactions_at_once_lose_nothing_and_double_nothing() {
        let log = new_log().await;
        let store = log.store().clone();
        let writers = (0..2u64).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let log = Log::open(store).await.unwrap();
                for round in 0..8 {
                    append(&log, spans(100 * writer + round, 60, 2), 5).await;
                }
            })
        });
        let compactors = (0..2).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let log = Log::open(store).await.unwrap();
                for _ in 0..6 {
                    compact_all(&log, &small()).await;
                }
            })
        });
        let tasks: Vec<_> = writers.chain(compactors).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut expected: Vec<String> = (0..2u64)
            .flat_map(|writer| (0..8).map(move |round| spans(100 * writer + round, 60, 2)))
            .flat_map(|batch| row_texts(&batch))
            .collect();
        expected.sort_unstable();
        let snapshot = log.refresh().await.unwrap();
        assert_eq!(read_rows(log.store(), &snapshot).await, expected);
        compact_all(&log, &small()).await;
        assert_eq!(read_rows(log.store(), &log.snapshot()).await, expected);
    }

    #[tokio::test]
    async fn a_compaction_that_loses_the_race_changes_nothing_and_leaves_no_file() {
        let log = new_log().await;
        append(&log, spans(1, 50, 1), 1).await;
        append(&log, spans(2, 50, 1), 1).await;
        let choice = choose_compaction(&log.snapshot(), &small()).remove(0);
        assert!(compact(&log, &small(), &choice).await.unwrap().committed);
        let lost = compact(&log, &small(), &choice).await.unwrap();
        assert!(!lost.committed);
        let all = crate::storage::vacuum(&log, 0, i64::MAX, true)
            .await
            .unwrap();
        assert_eq!(all.kept_count, log.snapshot().file_count());
        assert_eq!(all.paths.len(), 2);
    }

    #[tokio::test]
    async fn a_damaged_or_missing_file_is_named_and_the_lake_stays_as_it_was() {
        use object_store::ObjectStoreExt;
        for missing in [true, false] {
            let log = new_log().await;
            append(&log, spans(1, 50, 1), 1).await;
            append(&log, spans(2, 50, 1), 1).await;
            let before = log.snapshot();
            let file = before.files().next().unwrap();
            let objects = log.store().objects();
            if missing {
                objects.delete(&file.location()).await.unwrap();
            } else {
                let rubbish = vec![7u8; file.size as usize];
                objects.put(&file.location(), rubbish.into()).await.unwrap();
            }
            let choice = choose_compaction(&before, &small()).remove(0);
            let error = compact(&log, &small(), &choice).await.unwrap_err();
            assert!(error.message().contains(&file.path), "{}", error.report());
            let expected = if missing {
                crate::ErrorKind::NotFound
            } else {
                crate::ErrorKind::Corrupt
            };
            assert_eq!(error.kind(), expected, "{}", error.report());
            let after = log.refresh().await.unwrap();
            assert_eq!(after.version(), before.version());
        }
    }
}
