//! Keeps a lake in shape: compaction, expiry, vacuum.
//!
//! Read [`Lake::compact`]. What is to be done is chosen by `storage`, from a snapshot; here it
//! is carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::StreamExt;

use super::Lake;
use crate::error::{Error, Result};
use crate::storage::{self, Hour, VacuumOutcome};

/// Hours that are compacted at the same time.
const CONCURRENT_HOURS: usize = 2;

/// How far a compaction has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionStep {
    /// Hours done.
    pub done: u64,
    /// Hours to do.
    pub total: u64,
    /// The hour just done.
    pub hour: String,
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Hours compacted.
    pub hour_count: u64,
    /// Hours left as they are, since another writer changed them meanwhile.
    pub lost_hour_count: u64,
    /// Files before.
    pub files_before: u64,
    /// Files after.
    pub files_after: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// Spans in the hours compacted.
    pub span_count: u64,
    /// Exact duplicates dropped.
    pub duplicate_count: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// What an expiry dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpiryReport {
    /// Hours dropped.
    pub hour_count: u64,
    /// Files dropped from the log; vacuum deletes them later.
    pub file_count: u64,
    /// Spans dropped.
    pub span_count: u64,
    /// Bytes dropped.
    pub byte_count: u64,
}

impl Lake {
    /// Merges the files of every hour that is not yet in its compacted form. Safe beside
    /// writers and other compactions; stopped at any moment, the hours done stay done.
    pub async fn compact(
        &self,
        progress: Arc<dyn Fn(CompactionStep) + Send + Sync>,
    ) -> Result<CompactionReport> {
        let started = Instant::now();
        let snapshot = self.log().refresh().await?;
        let storage = &self.config().storage;
        let choices = storage::choose_compaction(&snapshot, storage);
        let total = choices.len() as u64;
        let mut report = CompactionReport::default();
        let mut outcomes = futures::stream::iter(choices)
            .map(|choice| async move { storage::compact(self.log(), storage, &choice).await })
            .buffer_unordered(CONCURRENT_HOURS);
        let mut done = 0;
        while let Some(outcome) = outcomes.next().await {
            let outcome = outcome?;
            done += 1;
            if outcome.committed {
                report.hour_count += 1;
                report.files_before += outcome.input_count as u64;
                report.files_after += outcome.output_count as u64;
                report.bytes_before += outcome.input_bytes;
                report.bytes_after += outcome.output_bytes;
                report.span_count += outcome.row_count;
                report.duplicate_count += outcome.duplicate_count;
            } else {
                report.lost_hour_count += 1;
            }
            let hour = format!("{} {:02}:00", outcome.hour.day(), outcome.hour.hour());
            progress(CompactionStep { done, total, hour });
        }
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// Drops the hours that ended more than `older_than` before `now`.
    pub async fn expire(&self, older_than: Duration, now: DateTime<Utc>) -> Result<ExpiryReport> {
        let age = i64::try_from(older_than.as_nanos()).unwrap_or(i64::MAX);
        let now = now.timestamp_nanos_opt().ok_or_else(|| {
            Error::invalid_input("the time given does not fit into nanoseconds since 1970")
        })?;
        let cutoff = Hour::of_nano(now.saturating_sub(age));
        let snapshot = self.log().refresh().await?;
        let files = storage::choose_expired(&snapshot, cutoff);
        if files.is_empty() {
            return Ok(ExpiryReport::default());
        }
        let (_, dropped) = storage::expire(self.log(), &files).await?;
        let hours: BTreeSet<Hour> = dropped.iter().map(|file| file.hour).collect();
        Ok(ExpiryReport {
            hour_count: hours.len() as u64,
            file_count: dropped.len() as u64,
            span_count: dropped.iter().map(|file| file.row_count).sum(),
            byte_count: dropped.iter().map(|file| file.size).sum(),
        })
    }

    /// Deletes the files that no version of the lake since `older_than` before `now` needs:
    /// those compaction and expiry left, and those of writes that never committed.
    pub async fn vacuum(
        &self,
        older_than: Duration,
        now: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<VacuumOutcome> {
        storage::vacuum(
            self.log(),
            older_than.as_secs(),
            now.timestamp_millis(),
            dry_run,
        )
        .await
    }
}
