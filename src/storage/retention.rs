//! Drops whole hours that are too old.
//!
//! Read [`choose_expired`], which decides, and [`expire`], which acts. The bytes go when the
//! lake is vacuumed.

use std::sync::Arc;

use super::log::{Commit, Log, Operation};
use super::{Hour, LakeFile, Snapshot};
use crate::error::Result;

/// How often an expiry that met a compaction is tried again with that one's files.
const ATTEMPTS: usize = 10;

/// All files of the hours before `cutoff`.
pub fn choose_expired(snapshot: &Snapshot, cutoff: Hour) -> Vec<Arc<LakeFile>> {
    let hours = snapshot.files_by_hour().range(..cutoff);
    hours.flat_map(|(_, files)| files.iter().cloned()).collect()
}

/// All files of the oldest hours, as many as must go for the others to take `max_bytes` at the
/// most. The latest hour stays, however large.
pub fn choose_oversized(snapshot: &Snapshot, max_bytes: u64) -> Vec<Arc<LakeFile>> {
    let mut left = snapshot.byte_count();
    let mut chosen = Vec::new();
    let hours = snapshot.files_by_hour();
    for files in hours.values().take(hours.len().saturating_sub(1)) {
        if left <= max_bytes {
            break;
        }
        left -= files.iter().map(|file| file.size).sum::<u64>();
        chosen.extend(files.iter().cloned());
    }
    chosen
}

/// Drops these files in one version, and with them whatever became of their rows: where a
/// compaction was faster, its files of the same hours. The new snapshot, and what was dropped.
pub async fn expire(log: &Log, files: &[Arc<LakeFile>]) -> Result<(Snapshot, Vec<Arc<LakeFile>>)> {
    let Some(cutoff) = files.iter().map(|file| Hour(file.hour.0 + 1)).max() else {
        return Ok((log.snapshot(), Vec::new()));
    };
    let hours: std::collections::BTreeSet<Hour> = files.iter().map(|file| file.hour).collect();
    let mut dropped = files.to_vec();
    for _ in 0..ATTEMPTS {
        if dropped.is_empty() {
            break;
        }
        match log.try_commit(&[], &dropped, Operation::Expire).await? {
            Commit::Done(snapshot) => return Ok((snapshot, dropped)),
            Commit::Lost { .. } => {
                let snapshot = log.refresh().await?;
                dropped = choose_expired(&snapshot, cutoff);
                dropped.retain(|file| hours.contains(&file.hour));
            }
        }
    }
    let snapshot = log.commit(&[], &dropped, Operation::Expire).await?;
    Ok((snapshot, dropped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageConfig;
    use crate::storage::sample::spans;
    use crate::storage::{Store, choose_compaction, compact, write_batch};

    #[tokio::test]
    async fn whole_hours_go_even_where_a_compaction_was_faster() {
        let log = Log::create(Store::open("memory://").unwrap())
            .await
            .unwrap();
        let config = StorageConfig::default();
        let files = write_batch(log.store(), &config, spans(1, 300, 3), 1).await;
        let files = files.unwrap();
        log.commit(&files, &[], Operation::Append).await.unwrap();
        let expired = choose_expired(&log.snapshot(), Hour(2));
        assert_eq!(expired.len(), 2);
        for choice in choose_compaction(&log.snapshot(), &config) {
            compact(&log, &config, &choice).await.unwrap();
        }
        let (snapshot, dropped) = expire(&log, &expired).await.unwrap();
        assert_eq!(dropped.len(), 2);
        let hours: Vec<_> = snapshot.files_by_hour().keys().copied().collect();
        assert_eq!(hours, [Hour(2)]);
        let (_, dropped) = expire(&log, &choose_expired(&snapshot, Hour(2)))
            .await
            .unwrap();
        assert!(dropped.is_empty());
    }
}
