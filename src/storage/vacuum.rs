//! Deletes data files that no version of the lake still needs.
//!
//! Read [`vacuum`]. The log's own old files are the log's business.

use std::collections::HashSet;
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::Log;
use super::durable::abandoned;
use super::layout::parse_path;
use super::log_upkeep::latest_timeless_removal;
use crate::error::{Error, Result};

/// The age below which nothing is deleted unless asked: a day. Writers that have not committed
/// yet and queries that still read an older version have that long.
pub const VACUUM_AGE_SECONDS: u64 = 24 * 60 * 60;

/// What a vacuum deleted, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VacuumOutcome {
    /// The files deleted, or to be deleted.
    pub paths: Vec<String>,
    /// Their bytes.
    pub byte_count: u64,
    /// Files of the lake's current version.
    pub kept_count: usize,
    /// Files that are not of the current version, but too young.
    pub young_count: usize,
}

/// Deletes the data files that are not in the newest version of the lake and were written, and
/// dropped, longer than `age_seconds` before `now_ms`.
///
/// A file in the current version is never touched, whatever its age, nor is anything that
/// tracelake would not have written. With `dry_run` nothing is deleted.
pub async fn vacuum(
    log: &Log,
    age_seconds: u64,
    now_ms: i64,
    dry_run: bool,
) -> Result<VacuumOutcome> {
    // Listed before the log is read: what is committed in between is in the snapshot.
    let listed = list_data_files(log).await?;
    let snapshot = log.refresh().await?;
    let current: HashSet<&str> = snapshot.files().map(|file| file.path.as_str()).collect();
    let age_ms = i64::try_from(age_seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let horizon_ms = now_ms.saturating_sub(age_ms);
    // A file dropped lately is still read by queries of the version before.
    let dropped = log.dropped_since(horizon_ms).await?;
    let is_young = |object: &ObjectMeta| {
        let modified_ms = object.last_modified.timestamp_millis();
        latest_timeless_removal(modified_ms, now_ms) > horizon_ms
            || dropped.contains(object.location.as_ref())
    };
    let mut outcome = VacuumOutcome::default();
    for object in listed {
        let path = object.location.as_ref();
        if current.contains(path) {
            outcome.kept_count += 1;
        } else if is_young(&object) {
            outcome.young_count += 1;
        } else {
            outcome.byte_count += object.size;
            outcome.paths.push(path.to_owned());
        }
    }
    if !dry_run {
        delete(log, &outcome.paths).await?;
    }
    if let Some(directory) = log.store().local_directory() {
        let files =
            tokio::task::spawn_blocking(move || clear_abandoned(&directory, horizon_ms, dry_run));
        let files = files
            .await
            .map_err(|error| Error::internal("the vacuum broke off").with_source(error))??;
        for (path, size) in files {
            outcome.byte_count += size;
            outcome.paths.push(path);
        }
    }
    Ok(outcome)
}

/// Deletes what writers that were killed in the middle of a file left on a local disk; gives
/// the paths from the lake, and sizes.
fn clear_abandoned(directory: &Path, horizon_ms: i64, dry_run: bool) -> Result<Vec<(String, u64)>> {
    let mut cleared = Vec::new();
    for file in abandoned(directory)? {
        if file.modified_ms > horizon_ms {
            continue;
        }
        if !dry_run {
            match std::fs::remove_file(&file.path) {
                // Another vacuum was faster.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        let path = file.path.strip_prefix(directory).unwrap_or(&file.path);
        cleared.push((path.to_string_lossy().into_owned(), file.size));
    }
    Ok(cleared)
}

async fn list_data_files(log: &Log) -> Result<Vec<ObjectMeta>> {
    let objects = log.store().objects();
    let listed = objects
        .list(None)
        .try_filter(|object| futures::future::ready(parse_path(object.location.as_ref()).is_ok()));
    listed.try_collect().await.map_err(|error| {
        let error = Error::from(error);
        let message = format!(
            "cannot list the files of the lake; url=`{}`",
            log.store().url()
        );
        Error::new(error.kind(), message).with_source(error)
    })
}

async fn delete(log: &Log, paths: &[String]) -> Result<()> {
    let locations: Vec<_> = paths
        .iter()
        .map(|path| Ok(object_store::path::Path::from(path.as_str())))
        .collect();
    let mut deleted = log
        .store()
        .objects()
        .delete_stream(futures::stream::iter(locations).boxed());
    while let Some(result) = deleted.next().await {
        match result {
            // Another vacuum was faster.
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                let error = Error::from(error);
                let message = "cannot delete a file of the lake; vacuum again to go on";
                return Err(Error::new(error.kind(), message).with_source(error));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::config::StorageConfig;
    use crate::storage::sample::{read_rows, spans};
    use crate::storage::{Operation, Store, choose_compaction, compact, write_batch};

    #[tokio::test]
    async fn only_old_files_that_no_version_needs_are_deleted() {
        let log = Log::create(Store::open("memory://").unwrap())
            .await
            .unwrap();
        let config = StorageConfig::default();
        let batch = spans(1, 100, 1);
        let files = write_batch(log.store(), &config, batch.clone(), 1)
            .await
            .unwrap();
        log.commit(&files, &[], Operation::Append).await.unwrap();
        let choice = choose_compaction(&log.snapshot(), &config).remove(0);
        compact(&log, &config, &choice).await.unwrap();
        // Written by a process that was killed before its commit.
        let orphans = write_batch(log.store(), &config, batch, 1).await.unwrap();
        let foreign = object_store::path::Path::from("day=2020-01-01/hour=01/notes.txt");
        log.store()
            .objects()
            .put(&foreign, "x".into())
            .await
            .unwrap();
        let expected = read_rows(log.store(), &log.snapshot()).await;

        let now = chrono::Utc::now().timestamp_millis();
        let young = vacuum(&log, VACUUM_AGE_SECONDS, now, false).await.unwrap();
        assert_eq!(
            (young.paths.len(), young.young_count, young.kept_count),
            (0, 2, 1)
        );
        let later = now + 2 * 86_400_000;
        let dry = vacuum(&log, VACUUM_AGE_SECONDS, later, true).await.unwrap();
        let mut paths = dry.paths.clone();
        paths.sort();
        let mut garbage = vec![files[0].path.clone(), orphans[0].path.clone()];
        garbage.sort();
        assert_eq!(paths, garbage);
        assert_eq!(
            vacuum(&log, VACUUM_AGE_SECONDS, later, false)
                .await
                .unwrap(),
            dry
        );
        let again = vacuum(&log, VACUUM_AGE_SECONDS, later, false)
            .await
            .unwrap();
        assert!(again.paths.is_empty());
        assert!(log.store().objects().head(&foreign).await.is_ok());
        assert_eq!(read_rows(log.store(), &log.snapshot()).await, expected);
    }

    /// A file of an age that was removed now.
    async fn removed_at_age(log: &Log, age_ms: i64) -> String {
        let config = StorageConfig::default();
        let batch = spans(1, 10, 1);
        let mut files = write_batch(log.store(), &config, batch, 1).await.unwrap();
        let directory = log.store().local_directory().unwrap();
        let written = std::fs::File::options()
            .append(true)
            .open(directory.join(&files[0].path));
        let modified_ms = chrono::Utc::now().timestamp_millis() - age_ms;
        let since_epoch = std::time::Duration::from_millis(modified_ms.unsigned_abs());
        let modified = std::time::UNIX_EPOCH + since_epoch;
        written.unwrap().set_modified(modified).unwrap();
        files[0].modified_ms = modified_ms;
        let added = log.commit(&files, &[], Operation::Append).await.unwrap();
        let removed: Vec<_> = added.files().cloned().collect();
        log.commit(&[], &removed, Operation::Expire).await.unwrap();
        files.remove(0).path
    }

    #[tokio::test]
    async fn a_file_dropped_lately_stays_whether_its_removal_has_a_time_or_not() {
        const MINUTE: i64 = 60_000;
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_str().unwrap()).unwrap();
        let log = Log::create(store).await.unwrap();
        let old = removed_at_age(&log, 2 * 24 * 60 * MINUTE).await;
        let new = removed_at_age(&log, 0).await;
        let known = log.dropped_since(0).await.unwrap();
        assert!(
            known.contains(&old),
            "its age does not say when it was removed"
        );
        let now = chrono::Utc::now().timestamp_millis();
        for (age_minutes, later_minutes, expected) in [
            (60, 0, vec![]),
            // It may have been removed ten minutes after it was made.
            (60, 65, vec![&old]),
            (60, 75, vec![&new, &old]),
        ] {
            let age_seconds = age_minutes * 60;
            let later = now + later_minutes * MINUTE;
            let outcome = vacuum(&log, age_seconds, later, true).await.unwrap();
            let mut paths: Vec<_> = outcome.paths.iter().collect();
            paths.sort_by_key(|path| **path == old);
            assert_eq!(paths, expected, "{age_minutes} {later_minutes}");
        }
        let at_once = vacuum(&log, 0, now, false).await.unwrap();
        assert_eq!(at_once.paths.len(), 2);
    }
}
