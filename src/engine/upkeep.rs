//! Keeps a lake in shape while a process runs: merges, drops and deletes what is due.
//!
//! Read [`Lake::keep_in_shape`]. What is due is chosen by `storage` and by [`choose_upkeep`],
//! from a snapshot and the time; here it is carried out, one hour at a time, and remembered.

use std::future::Future;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Lake;
use crate::config::{MaintenanceConfig, StorageConfig};
use crate::error::Result;
use crate::storage::{
    self, Compaction, Hour, LakeFile, MaintenanceRecord, choose_compaction, choose_oversized,
};

/// The shortest wait between two rounds.
const LEAST_INTERVAL: Duration = Duration::from_millis(5);

impl Lake {
    /// Does what is due, again and again until `stop`. What fails is remembered and logged, and
    /// tried again the next time. Stopped at any moment, what was done stays done.
    pub async fn keep_in_shape(&self, stop: impl Future<Output = ()>) {
        let config = &self.config().maintenance;
        let mut stop = std::pin::pin!(stop);
        let mut vacuumed: Option<Instant> = None;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(config.interval.max(LEAST_INTERVAL)) => {}
            }
            let due = vacuumed.is_none_or(|last| last.elapsed() >= config.vacuum_interval);
            tokio::select! {
                () = &mut stop => return,
                () = self.do_what_is_due(due) => {}
            }
            if due {
                vacuumed = Some(Instant::now());
            }
        }
    }

    async fn do_what_is_due(&self, vacuum: bool) {
        let config = &self.config().maintenance;
        let now = Utc::now();
        if config.retention_age.is_some() || config.retention_bytes.is_some() {
            self.remember("expire", self.expire_due(now)).await;
        }
        if config.compact {
            self.compact_due(now).await;
        }
        if config.vacuum && vacuum {
            self.remember("vacuum", self.vacuum_due(now)).await;
        }
    }

    /// Runs a work; remembers it unless there was nothing to do.
    async fn remember(
        &self,
        task: &'static str,
        work: impl Future<Output = Result<Option<MaintenanceRecord>>>,
    ) {
        let (started_at, started) = (Utc::now(), Instant::now());
        let outcome = work.await;
        let record = match outcome {
            Ok(None) => return,
            Ok(Some(record)) => record,
            Err(error) => {
                tracing::warn!(task, error = error.report(), "upkeep of the lake failed");
                MaintenanceRecord {
                    error: Some(error.report()),
                    ..MaintenanceRecord::default()
                }
            }
        };
        let elapsed = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        tracing::info!(
            task,
            hour = record.hour,
            files = record.files_before,
            "upkeep of the lake"
        );
        self.maintenance_log().add(MaintenanceRecord {
            started_micros: started_at.timestamp_micros(),
            duration_nano: elapsed,
            task,
            ..record
        });
    }

    async fn compact_due(&self, now: DateTime<Utc>) {
        let snapshot = match self.log().refresh().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(error = error.report(), "the log of the lake was not read");
                return;
            }
        };
        let config = self.config();
        let choices = choose_compaction(&snapshot, &config.storage);
        for choice in choose_upkeep(
            choices,
            &config.maintenance,
            &config.storage,
            now.timestamp_millis(),
        ) {
            let work = async {
                let outcome = storage::compact(self.log(), &config.storage, &choice).await?;
                let hour = outcome.hour;
                if outcome.committed {
                    self.forget(&choice.inputs);
                }
                Ok(outcome.committed.then(|| MaintenanceRecord {
                    hour: Some(format!("{} {:02}:00", hour.day(), hour.hour())),
                    files_before: outcome.input_count as u64,
                    files_after: outcome.output_count as u64,
                    bytes_before: outcome.input_bytes,
                    bytes_after: outcome.output_bytes,
                    span_count: outcome.row_count,
                    duplicate_count: outcome.duplicate_count,
                    ..MaintenanceRecord::default()
                }))
            };
            self.remember("compact", work).await;
        }
    }

    async fn expire_due(&self, now: DateTime<Utc>) -> Result<Option<MaintenanceRecord>> {
        let config = &self.config().maintenance;
        let snapshot = self.log().refresh().await?;
        let mut files = Vec::new();
        if let Some(age) = config.retention_age
            && let Some(nanos) = now.timestamp_nanos_opt()
        {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            let cutoff = Hour::of_nano(nanos.saturating_sub(age));
            files = storage::choose_expired(&snapshot, cutoff);
        }
        if let Some(limit) = config.retention_bytes {
            let oversized = choose_oversized(&snapshot, limit);
            // Both are the oldest hours: the longer choice holds the other.
            if oversized.len() > files.len() {
                files = oversized;
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        let (_, dropped) = storage::expire(self.log(), &files).await?;
        Ok(Some(MaintenanceRecord {
            files_before: dropped.len() as u64,
            bytes_before: dropped.iter().map(|file| file.size).sum(),
            span_count: dropped.iter().map(|file| file.row_count).sum(),
            ..MaintenanceRecord::default()
        }))
    }

    async fn vacuum_due(&self, now: DateTime<Utc>) -> Result<Option<MaintenanceRecord>> {
        let age = self.config().maintenance.vacuum_age;
        let outcome = self.vacuum(age, now, false).await?;
        Ok((!outcome.paths.is_empty()).then(|| MaintenanceRecord {
            files_before: outcome.paths.len() as u64,
            bytes_before: outcome.byte_count,
            ..MaintenanceRecord::default()
        }))
    }
}

/// What is to be merged now, the latest hour first. Hours that nobody wrote to for a while get
/// their final form; of an hour that is still written to, only small files are merged, and only
/// when there are many.
fn choose_upkeep(
    choices: Vec<Compaction>,
    config: &MaintenanceConfig,
    storage: &StorageConfig,
    now_ms: i64,
) -> Vec<Compaction> {
    let quiet_ms = i64::try_from(config.quiet.as_millis()).unwrap_or(i64::MAX);
    let is_quiet = |file: &LakeFile| file.modified_ms.saturating_add(quiet_ms) <= now_ms;
    let due = choices.into_iter().rev().flat_map(|choice| {
        if choice.inputs.iter().all(|file| is_quiet(file)) {
            return vec![choice];
        }
        choice.of_small_files(config.max_ingested_files.max(1), storage)
    });
    due.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::config::Config;
    use crate::engine::{CommitQueue, Source};
    use crate::storage::Bucket;

    async fn lake(maintenance: MaintenanceConfig) -> Lake {
        let config = Config {
            maintenance,
            ..Config::default()
        };
        Lake::create("memory://", config).await.unwrap()
    }

    fn request(hour: i64, span: u32) -> Bytes {
        let start = hour * 3_600_000_000_000 + 1;
        Bytes::from(format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{
            "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"{:016x}","name":"n",
            "startTimeUnixNano":"{start}","endTimeUnixNano":"{start}"}}]}}]}}]}}"#,
            span + 1
        ))
    }

    async fn ingest(lake: &Lake, hour: i64, span: u32) {
        let source = Source::bytes("x.json", request(hour, span));
        let progress = crate::engine::IngestProgress::shared();
        lake.ingest(vec![source], progress).await.unwrap();
    }

    async fn files(lake: &Lake) -> Vec<(Hour, Bucket)> {
        let snapshot = lake.log().refresh().await.unwrap();
        snapshot
            .files()
            .map(|file| (file.hour, file.bucket))
            .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn quiet_hours_are_merged_and_busy_ones_kept_small() {
        let lake = lake(MaintenanceConfig {
            quiet: Duration::from_secs(3600),
            max_ingested_files: 3,
            ..MaintenanceConfig::default()
        })
        .await;
        for span in 0..5 {
            ingest(&lake, 10, span).await;
        }
        ingest(&lake, 11, 9).await;
        lake.do_what_is_due(false).await;
        let bucket = Bucket::Of { index: 0, count: 1 };
        assert_eq!(
            files(&lake).await,
            [(Hour(10), bucket), (Hour(11), Bucket::Level0)]
        );
        ingest(&lake, 10, 0).await;
        lake.do_what_is_due(false).await;
        assert_eq!(files(&lake).await.len(), 3);
        lake.compact_due(Utc::now() + Duration::from_secs(7200))
            .await;
        assert_eq!(files(&lake).await, [(Hour(10), bucket), (Hour(11), bucket)]);
        let records = lake.maintenance_log().records();
        let spans: Vec<_> = records
            .iter()
            .map(|one| (one.span_count, one.duplicate_count))
            .collect();
        // The latest hour comes first.
        assert_eq!(spans, [(5, 0), (1, 0), (5, 1)]);
        let session = lake.session().await.unwrap();
        let sql = "SELECT task, hour FROM lake_maintenance WHERE duplicate_count = 1";
        let rows = session
            .query(sql, &[])
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(rows[0].num_rows(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_oldest_hours_go_when_there_is_too_much() {
        let mut lake = lake(MaintenanceConfig::default()).await;
        for hour in 1..5 {
            ingest(&lake, hour, 0).await;
        }
        let size = lake.stats().byte_count / 4;
        let url = format!("memory://upkeep-{}", std::process::id());
        let config = Config {
            maintenance: MaintenanceConfig {
                compact: false,
                retention_bytes: Some(size * 5 / 2),
                ..MaintenanceConfig::default()
            },
            ..Config::default()
        };
        lake = Lake::create(&url, config).await.unwrap();
        for hour in 1..5 {
            ingest(&lake, hour, 0).await;
        }
        lake.do_what_is_due(true).await;
        let hours: Vec<_> = files(&lake).await.iter().map(|(hour, _)| hour.0).collect();
        assert_eq!(hours, [3, 4]);
        assert_eq!(lake.maintenance_log().records()[0].files_before, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn hours_beyond_their_age_go_and_their_files_when_nobody_reads_them_any_more() {
        let lake = lake(MaintenanceConfig {
            retention_age: Some(Duration::from_secs(10 * 3600)),
            vacuum_age: Duration::from_secs(3600),
            ..MaintenanceConfig::default()
        })
        .await;
        for hour in [80, 89, 90, 99] {
            ingest(&lake, hour, 0).await;
        }
        let time = |hour: i64| DateTime::from_timestamp(hour * 3600 + 1800, 0).unwrap();
        let record = lake.expire_due(time(100)).await.unwrap().unwrap();
        // The hour in which the age ends goes as a whole, when all of it is too old.
        assert_eq!((record.files_before, record.span_count), (2, 2));
        let hours: Vec<_> = files(&lake).await.iter().map(|(hour, _)| hour.0).collect();
        assert_eq!(hours, [90, 99]);
        assert!(lake.expire_due(time(100)).await.unwrap().is_none());
        // A query that runs may still read the files.
        let now = Utc::now();
        let soon = lake.vacuum_due(now + Duration::from_secs(60)).await;
        assert!(soon.unwrap().is_none());
        let later = lake.vacuum_due(now + Duration::from_secs(7200)).await;
        assert_eq!(later.unwrap().unwrap().files_before, 2);
        assert_eq!(lake.info().await.unwrap().span_count, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn upkeep_beside_writers_loses_nothing() {
        let lake = lake(MaintenanceConfig {
            quiet: Duration::ZERO,
            interval: Duration::from_millis(5),
            ..MaintenanceConfig::default()
        })
        .await;
        let queue = CommitQueue::new(&lake);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let keeping = {
            let lake = lake.clone();
            tokio::spawn(async move {
                let stop = async {
                    let _ = stopped.await;
                };
                lake.keep_in_shape(stop).await;
            })
        };
        for span in 0..12 {
            queue.receive(request(7, span), None).await.unwrap();
        }
        drop(stop);
        keeping.await.unwrap();
        lake.compact(Arc::new(|_| {})).await.unwrap();
        assert_eq!(lake.info().await.unwrap().span_count, 12);
        assert!(!lake.maintenance_log().records().is_empty());
    }
}
