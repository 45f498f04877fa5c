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
