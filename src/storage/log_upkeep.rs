//! The log's own upkeep: checkpoints, and the end of old versions.
//!
//! Read [`look_after`]. It changes nothing of what the lake holds, and versions can be added
//! meanwhile.

use std::sync::Arc;
use std::time::Duration;

use deltalake_core::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::{DeltaTable, DeltaTableError};

/// Versions between two checkpoints: opening a lake reads at most that many small files.
pub(super) const CHECKPOINT_INTERVAL: u64 = 100;

/// Versions that are kept for whoever wants to go back.
const VERSIONS_KEPT: u64 = 10_000;

/// How long others are kept at least, for readers that are at them. Were all of them kept, they
/// would be millions after a day of a busy server, and whoever reads the log lists them all.
pub(super) const VERSION_AGE: Duration = Duration::from_secs(600);

/// Versions between two looks for old ones, each of which is a listing.
const CLEANING_INTERVAL: u64 = 10 * CHECKPOINT_INTERVAL;

/// A file removed at this age or younger leaves no tombstone with a time, so checkpoints forget
/// it at once: it is enough for vacuum to know that it was removed so soon after it was made.
/// Nearly all files of a busy lake end like this, merged seconds after they were ingested; with
/// a week of tombstones checkpoints would hold millions.
const TIMELESS_AGE_MS: i64 = 10 * 60 * 1000;

/// The time to be written down for the removal of a file, if one is.
pub(super) fn removal_time(modified_ms: i64, now_ms: i64) -> Option<i64> {
    (now_ms.saturating_sub(modified_ms) > TIMELESS_AGE_MS).then_some(now_ms)
}

/// The latest time at which a file can have been removed whose removal has no time.
pub(super) fn latest_timeless_removal(modified_ms: i64, now_ms: i64) -> i64 {
    modified_ms.saturating_add(TIMELESS_AGE_MS).min(now_ms)
}

/// Does what is due at a version that was just committed.
pub(super) async fn look_after(
    log_store: &LogStoreRef,
    version: u64,
    now_ms: i64,
) -> Result<(), DeltaTableError> {
    if (version + 1).is_multiple_of(CHECKPOINT_INTERVAL) {
        let mut table = DeltaTable::new(Arc::clone(log_store));
        table.load_version(version).await?;
        create_checkpoint(&table, None).await?;
    }
    if (version + 1).is_multiple_of(CLEANING_INTERVAL) {
        delete_old_versions(log_store, version, now_ms).await?;
    }
    Ok(())
}

/// Deletes old versions, up to the last checkpoint among them.
async fn delete_old_versions(
    log_store: &LogStoreRef,
    version: u64,
    now_ms: i64,
) -> Result<(), DeltaTableError> {
    let Some(last) = version.checked_sub(VERSIONS_KEPT) else {
        return Ok(());
    };
    let age_ms = i64::try_from(VERSION_AGE.as_millis()).unwrap_or(i64::MAX);
    let before_ms = now_ms.saturating_sub(age_ms);
    cleanup_expired_logs_for(last, log_store.as_ref(), before_ms, None).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use crate::config::StorageConfig;
    use crate::storage::log::log_store;
    use crate::storage::sample::spans;
    use crate::storage::{Log, Operation, Store, write_batch};

    #[tokio::test]
    async fn what_is_merged_soon_leaves_nothing_in_checkpoints_and_old_versions_end() {
        let log = Log::create(Store::open("memory://").unwrap())
            .await
            .unwrap();
        let config = StorageConfig::default();
        let batch = spans(3, 10, 1);
        let mut live = Vec::new();
        for _ in 0..=super::CHECKPOINT_INTERVAL {
            let files = write_batch(log.store(), &config, batch.clone(), 1).await;
            let done = log.commit(&files.unwrap(), &live, Operation::Append).await;
            live = done.unwrap().files().cloned().collect();
        }
        let opened = Log::open(log.store().clone()).await.unwrap();
        assert!(opened.snapshot().files().eq(log.snapshot().files()));
        let known = opened.dropped_since(0).await.unwrap();
        assert!(known.is_empty(), "{known:?}");

        let objects = log.store().objects();
        let version_count = async || {
            let listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
            let paths = listed.iter().map(|object| object.location.as_ref());
            paths.filter(|path| path.ends_with(".json")).count() as u64
        };
        let before = version_count().await;
        let log_store = log_store(log.store());
        let now_ms = chrono::Utc::now().timestamp_millis();
        let (enough, long_after) = (before + super::VERSIONS_KEPT, now_ms + 3_600_000);
        for (version, now_ms) in [(enough, now_ms), (before, long_after)] {
            let done = super::delete_old_versions(&log_store, version, now_ms).await;
            done.unwrap();
            assert_eq!(version_count().await, before, "{version} {now_ms}");
        }
        let done = super::delete_old_versions(&log_store, enough, long_after).await;
        done.unwrap();
        assert!(version_count().await < 5);
        let opened = Log::open(log.store().clone()).await.unwrap();
        assert!(opened.snapshot().files().eq(log.snapshot().files()));
    }
}
