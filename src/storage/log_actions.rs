//! What one version of the log says, between the words of the lake and those of the table format.
//!
//! Read [`read_entry`] for what comes in; the rest goes out.

use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::kernel::{Action, Add, Remove};
use deltalake_core::logstore::get_actions;
use deltalake_core::protocol::{DeltaOperation, SaveMode};

use super::layout::{BUCKET_COLUMN, DAY_COLUMN, HOUR_COLUMN, parse_path};
use super::log::Operation;
use super::log_record::{partition_values, read_file, stats};
use super::log_upkeep::removal_time;
use super::{LakeFile, Snapshot};
use crate::error::Result;

/// The files that a version adds and removes.
pub(super) struct Entry {
    pub(super) adds: Vec<LakeFile>,
    pub(super) removes: Vec<Arc<LakeFile>>,
}

/// Reads the version after a snapshot; `None` where it says more than which files come and go.
pub(super) fn read_entry(before: &Snapshot, bytes: &Bytes) -> Result<Option<Entry>> {
    let mut entry = Entry {
        adds: Vec::new(),
        removes: Vec::new(),
    };
    // Whoever reads the whole log tells what is wrong with it.
    let Ok(actions) = get_actions(before.version() + 1, bytes) else {
        return Ok(None);
    };
    for action in actions {
        match action {
            Action::Add(add) if add.deletion_vector.is_none() => {
                // A file may be added again, with other statistics.
                entry.removes.extend(known(before, &add.path)?);
                let stats = add.stats.as_deref();
                let file = read_file(&add.path, add.size, add.modification_time, stats)?;
                entry.adds.push(file);
            }
            Action::Remove(remove) => entry.removes.extend(known(before, &remove.path)?),
            Action::CommitInfo(_) | Action::Txn(_) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(entry))
}

fn known(snapshot: &Snapshot, path: &str) -> Result<Option<Arc<LakeFile>>> {
    let (hour, _) = parse_path(path)?;
    Ok(snapshot.file(hour, path).cloned())
}

pub(super) fn add_action(file: &LakeFile, data_change: bool) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: partition_values(file),
        size: signed(file.size),
        modification_time: file.modified_ms,
        data_change,
        stats: Some(stats(file)),
        ..Add::default()
    }
}

pub(super) fn remove_action(file: &LakeFile, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: removal_time(file.modified_ms, now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file)),
        size: Some(signed(file.size)),
        ..Remove::default()
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub(super) fn delta_operation(operation: Operation) -> DeltaOperation {
    match operation {
        Operation::Append => DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![
                DAY_COLUMN.into(),
                HOUR_COLUMN.into(),
                BUCKET_COLUMN.into(),
            ]),
            predicate: None,
        },
        Operation::Compact => DeltaOperation::Optimize {
            predicate: None,
            target_size: 0,
        },
        Operation::Expire => DeltaOperation::Delete { predicate: None },
    }
}
