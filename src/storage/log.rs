//! The log of the lake: which files count, one version after another. The only file that names
//! the table format, [Delta Lake](https://github.com/delta-io/delta/blob/master/PROTOCOL.md).
//!
//! Read [`Log`]. Commits are made here one version at a time, against the version before:
//! the library's own conflict check lets two compactions of the same files both pass, and
//! fails an append that meets a retention, so it is never left to decide.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use deltalake_core::kernel::Action;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTableError, TableProperty};
use futures::StreamExt;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::layout::{BUCKET_COLUMN, DAY_COLUMN, HOUR_COLUMN};
use super::log_actions::{add_action, delta_operation, read_entry, remove_action};
use super::log_record::{STATS_COLUMNS, read_files};
use super::log_schema::{attribute_columns, grown_schema, table_columns};
use super::log_upkeep::{CHECKPOINT_INTERVAL, VERSION_AGE, look_after};
use super::{Change, LakeFile, Snapshot, Store};
use crate::error::{Error, ErrorKind, Result};

/// How long the log may not have been looked at for the next version to be the first that is
/// missing: later it may be one that was deleted for its age.
const FOLLOWED: Duration = Duration::from_secs(VERSION_AGE.as_secs() / 2);

/// How often a commit is tried again because others were faster.
const MAX_RACES: u32 = 200;

/// How many of the last changes are remembered, for caches that look at them now and then.
const REMEMBERED_CHANGES: usize = 256;

/// Why a version is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// New spans.
    Append,
    /// The same spans in other files.
    Compact,
    /// Spans dropped for their age.
    Expire,
}

/// What became of a commit that was not prevented by a failure.
#[derive(Debug, Clone)]
pub enum Commit {
    /// It is in the lake.
    Done(Snapshot),
    /// A file it removes was already removed by another writer, so nothing was changed.
    Lost {
        /// The path of that file.
        path: String,
    },
}

/// The log of one lake. Cheap to clone; clones share what was last seen.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    log_store: LogStoreRef,
    /// The library's view, of the version last seen or an older one: it reads every file's entry
    /// anew for each version, so it follows only where it is needed. Locked while the log is read
    /// or written, so that the commits of one process queue up rather than race.
    state: Mutex<DeltaTableState>,
    seen: RwLock<Snapshot>,
    /// When `seen` was known to be the newest version.
    checked: SyncMutex<Moment>,
    /// How `seen` came to be what it is, step by step, the latest last.
    changes: SyncMutex<VecDeque<Arc<Change>>>,
}

/// A point in time by both clocks: one stands still while the machine sleeps, the other can be set.
#[derive(Debug, Clone, Copy)]
struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The longer of what the clocks say has passed.
    fn age(self) -> Duration {
        let wall = self.wall.elapsed().unwrap_or_default();
        self.steady.elapsed().max(wall)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the lake that lies in `store`; `NotFound` where there is none.
    pub async fn open(store: Store) -> Result<Self> {
        let log_store = log_store(&store);
        if !exists(&store, &log_store).await? {
            return Err(Error::not_found(format!(
                "no lake at this place; create it by ingesting into it; url=`{}`",
                store.url()
            )));
        }
        Self::load(store, log_store).await
    }

    /// Opens the lake that lies in `store`, after making one where there is none.
    pub async fn create(store: Store) -> Result<Self> {
        let log_store = log_store(&store);
        if !exists(&store, &log_store).await? {
            let created = CreateBuilder::new()
                .with_log_store(Arc::clone(&log_store))
                .with_table_name("spans")
                .with_comment("spans of distributed traces, written by tracelake")
                .with_columns(table_columns()?)
                .with_partition_columns([DAY_COLUMN, HOUR_COLUMN, BUCKET_COLUMN])
                .with_configuration_property(
                    TableProperty::CheckpointInterval,
                    Some(CHECKPOINT_INTERVAL.to_string()),
                )
                .with_configuration_property(
                    TableProperty::DataSkippingStatsColumns,
                    Some(STATS_COLUMNS.join(",")),
                )
                .await;
            // Another process may have made it in between; then it is opened like any other.
            if let Err(error) = created
                && !exists(&store, &log_store).await?
            {
                return Err(failure("cannot create the lake", &store, error));
            }
        }
        Self::load(store, log_store).await
    }

    async fn load(store: Store, log_store: LogStoreRef) -> Result<Self> {
        let state = DeltaTableState::try_new(log_store.as_ref(), None)
            .await
            .map_err(|error| failure("cannot read the log of the lake", &store, error))?;
        if state.metadata().partition_columns() != [DAY_COLUMN, HOUR_COLUMN, BUCKET_COLUMN] {
            return Err(Error::invalid_input(format!(
                "a table lies here that tracelake did not make; choose another place; url=`{}`",
                store.url()
            )));
        }
        let seen = read_snapshot(&state, &store)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                log_store,
                state: Mutex::new(state),
                seen: RwLock::new(seen),
                checked: SyncMutex::new(Moment::now()),
                changes: SyncMutex::default(),
            }),
        })
    }

    /// Where the lake lies.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The version last seen, without asking the store.
    pub fn snapshot(&self) -> Snapshot {
        let seen = self.inner.seen.read();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The version last seen, if it was known to be the newest a short while ago; else the newest
    /// one, read from the store once for all that ask at the same time.
    pub async fn refresh_after(&self, while_ago: Duration) -> Result<Snapshot> {
        if self.age() < while_ago {
            return Ok(self.snapshot());
        }
        let mut state = self.inner.state.lock().await;
        if self.age() < while_ago {
            return Ok(self.snapshot());
        }
        self.refresh_locked(&mut state).await
    }

    /// How long ago the version last seen was known to be the newest.
    fn age(&self) -> Duration {
        let checked = self.inner.checked.lock();
        checked.unwrap_or_else(PoisonError::into_inner).age()
    }

    /// What came after a snapshot of this log up to the version last seen, in order.
    pub fn changes_since(&self, snapshot: &Snapshot) -> Vec<Arc<Change>> {
        let changes = self.inner.changes.lock();
        let changes = changes.unwrap_or_else(PoisonError::into_inner);
        let version = snapshot.version();
        match changes.iter().position(|change| change.from == version) {
            Some(first) => changes.iter().skip(first).cloned().collect(),
            // Nothing came after, or it was too long ago to be remembered step by step.
            None => vec![Arc::new(Change::between(snapshot, &self.snapshot()))],
        }
    }

    /// The newest version, read from the store.
    pub async fn refresh(&self) -> Result<Snapshot> {
        let mut state = self.inner.state.lock().await;
        self.refresh_locked(&mut state).await
    }

    /// Adds and removes files in one version: all of it is seen by others, or none.
    ///
    /// Adding alone never conflicts. If one of `removes` is no longer in the lake, nothing is
    /// changed, and the error is `Unavailable`: choose again from a new snapshot. After
    /// another error it is not known whether the commit happened unless the message says so;
    /// do not delete the files of `adds`.
    pub async fn commit(
        &self,
        adds: &[LakeFile],
        removes: &[Arc<LakeFile>],
        operation: Operation,
    ) -> Result<Snapshot> {
        match self.try_commit(adds, removes, operation).await? {
            Commit::Done(snapshot) => Ok(snapshot),
            Commit::Lost { path } => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "nothing was committed, as another writer removed a file; try again; path=`{path}`"
                ),
            )),
        }
    }

    /// Like [`Log::commit`], with a lost race as a value.
    pub async fn try_commit(
        &self,
        adds: &[LakeFile],
        removes: &[Arc<LakeFile>],
        operation: Operation,
    ) -> Result<Commit> {
        let commit = self.commit_in_turn(adds, removes, operation).await?;
        if let Commit::Done(snapshot) = &commit {
            // Others commit meanwhile. The commit is made, whatever becomes of this.
            let now_ms = chrono::Utc::now().timestamp_millis();
            let done = look_after(&self.inner.log_store, snapshot.version(), now_ms).await;
            if let Err(error) = done {
                let what = "a checkpoint or the end of old versions failed";
                let error = failure(what, &self.inner.store, error);
                tracing::warn!(error = error.report(), "the log of the lake grows");
            }
        }
        Ok(commit)
    }

    async fn commit_in_turn(
        &self,
        adds: &[LakeFile],
        removes: &[Arc<LakeFile>],
        operation: Operation,
    ) -> Result<Commit> {
        let mut state = self.inner.state.lock().await;
        // Whether an attempt ended without an answer, and may have been written.
        let mut doubtful = false;
        for race in 0..MAX_RACES {
            let before = if race == 0 {
                self.snapshot()
            } else {
                self.refresh_locked(&mut state).await?
            };
            if doubtful && is_committed(&before, adds, removes) {
                return Ok(Commit::Done(before));
            }
            if let Some(gone) = removes.iter().find(|file| !before.contains(file)) {
                return Ok(Commit::Lost {
                    path: gone.path.clone(),
                });
            }
            let attempted = self.attempt(&mut state, &before, adds, removes, operation);
            match attempted.await {
                Ok(()) => {
                    let snapshot = before.with_changes(before.version() + 1, adds, removes);
                    self.publish(&snapshot);
                    return Ok(Commit::Done(snapshot));
                }
                // Another writer made the next version first; or an earlier attempt of ours,
                // whose answer was lost on the way.
                Err(
                    DeltaTableError::VersionAlreadyExists(_)
                    | DeltaTableError::Transaction {
                        source:
                            TransactionError::MaxCommitAttempts(_)
                            | TransactionError::VersionAlreadyExists(_),
                    },
                ) => doubtful = true,
                Err(error) => {
                    let error = failure("cannot commit to the lake", &self.inner.store, error);
                    let Ok(after) = self.refresh_locked(&mut state).await else {
                        return Err(in_doubt(error));
                    };
                    if is_committed(&after, adds, removes) {
                        return Ok(Commit::Done(after));
                    }
                    return Err(error);
                }
            }
            let pause = u64::from(race.min(10)) * 2 + rand::random_range(0..5);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "nothing was committed, as other writers were faster {MAX_RACES} times; try \
                 again later; url=`{}`",
                self.inner.store.url()
            ),
        ))
    }

    /// The paths of files that were removed after a time, as far as their removal has one. They
    /// are remembered for a week.
    pub(super) async fn dropped_since(&self, unix_ms: i64) -> Result<HashSet<String>> {
        let mut state = self.inner.state.lock().await;
        self.reload(&mut state).await?;
        let mut removed = state.all_tombstones(self.inner.log_store.as_ref());
        let mut paths = HashSet::new();
        while let Some(view) = removed.next().await {
            let view = view.map_err(|error| self.unread(error))?;
            if view.deletion_timestamp().is_none_or(|time| time > unix_ms) {
                paths.insert(view.path().into_owned());
            }
        }
        Ok(paths)
    }

    /// Tries to write the version after that of `before`, once.
    async fn attempt(
        &self,
        state: &mut DeltaTableState,
        before: &Snapshot,
        adds: &[LakeFile],
        removes: &[Arc<LakeFile>],
        operation: Operation,
    ) -> std::result::Result<(), DeltaTableError> {
        let log_store = &self.inner.log_store;
        let version = before.version() + 1;
        let known = before.attribute_columns();
        let mut columns = adds.iter().flat_map(|file| &file.attribute_columns);
        let grows = columns.any(|name| !known.contains(name));
        let grown = if grows {
            let version = Some(before.version());
            state.update(log_store.as_ref(), version).await?;
            grown_schema(state, adds)?
        } else {
            None
        };
        let data_change = operation != Operation::Compact;
        let now_ms = chrono::Utc::now().timestamp_millis();
        let removed = removes
            .iter()
            .map(|file| Action::Remove(remove_action(file, data_change, now_ms)));
        let added = adds
            .iter()
            .map(|file| Action::Add(add_action(file, data_change)));
        let commit = CommitBuilder::from(CommitProperties::default().with_max_retries(0))
            .with_actions(grown.into_iter().chain(removed).chain(added).collect())
            .build(
                Some(&*state),
                Arc::clone(log_store),
                delta_operation(operation),
            );
        let entry = commit.into_prepared_commit_future().await?;
        let entry = entry.commit_or_bytes().clone();
        let written = log_store.write_commit_entry(version, entry, Uuid::nil());
        written.await?;
        Ok(())
    }

    /// Reads the versions that came after the one last seen, one by one.
    async fn refresh_locked(&self, state: &mut DeltaTableState) -> Result<Snapshot> {
        if self.age() > FOLLOWED {
            return self.reload(state).await;
        }
        loop {
            let seen = self.snapshot();
            let version = seen.version() + 1;
            let entry = self.inner.log_store.read_commit_entry(version).await;
            let Some(entry) = entry.map_err(|error| self.unread(error))? else {
                self.mark_checked();
                return Ok(seen);
            };
            match read_entry(&seen, &entry)? {
                Some(entry) => {
                    self.publish(&seen.with_changes(version, &entry.adds, &entry.removes));
                }
                None => return self.reload(state).await,
            }
        }
    }

    /// Reads the newest version whole, as the library does.
    async fn reload(&self, state: &mut DeltaTableState) -> Result<Snapshot> {
        let updated = state.update(self.inner.log_store.as_ref(), None).await;
        updated.map_err(|error| self.unread(error))?;
        let seen = self.snapshot();
        if seen.version() == state.version() {
            self.mark_checked();
            return Ok(seen);
        }
        let snapshot = read_snapshot(state, &self.inner.store)?;
        self.publish(&snapshot);
        Ok(snapshot)
    }

    fn unread(&self, error: DeltaTableError) -> Error {
        failure("cannot read the log of the lake", &self.inner.store, error)
    }

    fn mark_checked(&self) {
        let checked = self.inner.checked.lock();
        *checked.unwrap_or_else(PoisonError::into_inner) = Moment::now();
    }

    fn publish(&self, snapshot: &Snapshot) {
        let change = Change::between(&self.snapshot(), snapshot);
        let changes = self.inner.changes.lock();
        let mut changes = changes.unwrap_or_else(PoisonError::into_inner);
        if changes.len() == REMEMBERED_CHANGES {
            changes.pop_front();
        }
        changes.push_back(Arc::new(change));
        self.mark_checked();
        // Together with the change, so that whoever sees the snapshot finds what led to it.
        let seen = self.inner.seen.write();
        *seen.unwrap_or_else(PoisonError::into_inner) = snapshot.clone();
    }
}

/// Whether a commit has been made: its files are in the lake, or, if it only removes, theirs
/// are not.
fn is_committed(snapshot: &Snapshot, adds: &[LakeFile], removes: &[Arc<LakeFile>]) -> bool {
    match adds.first() {
        // Names are unique, and a version is added whole.
        Some(file) => snapshot.contains(file),
        None => !removes.iter().any(|file| snapshot.contains(file)),
    }
}

pub(super) fn log_store(store: &Store) -> LogStoreRef {
    default_logstore(
        store.objects(),
        store.root(),
        store.url(),
        &StorageConfig::default(),
    )
}

async fn exists(store: &Store, log_store: &LogStoreRef) -> Result<bool> {
    log_store
        .is_delta_table_location()
        .await
        .map_err(|error| failure("cannot look for a lake", store, error))
}

fn read_snapshot(state: &DeltaTableState, store: &Store) -> Result<Snapshot> {
    let batches = state
        .add_actions_batches(true)
        .map_err(|error| failure("cannot read the log of the lake", store, error))?;
    let mut files = Vec::new();
    for batch in &batches {
        files.extend(read_files(batch)?.into_iter().map(Arc::new));
    }
    let columns = attribute_columns(state);
    Ok(Snapshot::new(state.version(), files).with_attribute_columns(columns))
}

fn in_doubt(error: Error) -> Error {
    let message = "it is not known whether the commit was made; look at the lake again";
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

/// An error of the library, of the kind of its innermost cause.
fn failure(what: &str, store: &Store, error: DeltaTableError) -> Error {
    let mut kind = ErrorKind::Corrupt;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<object_store::Error>() {
            kind = match inner {
                // The log names what is missing.
                object_store::Error::NotFound { .. } => ErrorKind::Corrupt,
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => ErrorKind::InvalidInput,
                _ => ErrorKind::Unavailable,
            };
        } else if inner.is::<std::io::Error>() {
            kind = ErrorKind::Unavailable;
        }
        cause = inner.source();
    }
    // The library's kernel keeps the store's error to itself, and its own type is not exported.
    if let DeltaTableError::KernelError(inner) = &error {
        let text = inner.to_string();
        if text.contains("Error interacting with object store") || text.contains("Reqwest Error") {
            kind = ErrorKind::Unavailable;
        }
    }
    Error::new(kind, format!("{what}; url=`{}`", store.url())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageConfig;
    use crate::storage::sample::{check_file, read_rows, row_texts, spans};
    use crate::storage::write_batch;

    async fn local_log(directory: &tempfile::TempDir) -> Log {
        let path = directory.path().join("a lake/ü");
        let store = Store::open(path.to_str().unwrap()).unwrap();
        Log::create(store).await.unwrap()
    }

    async fn append(log: &Log, seed: u64, span_count: usize, hours: i64) -> Vec<String> {
        let batch = spans(seed, span_count, hours);
        let config = StorageConfig::default();
        let files = write_batch(log.store(), &config, batch.clone(), 7).await;
        log.commit(&files.unwrap(), &[], Operation::Append)
            .await
            .unwrap();
        row_texts(&batch)
    }

    #[tokio::test]
    async fn what_is_committed_is_read_back_by_whoever_opens_the_lake() {
        let directory = tempfile::tempdir().unwrap();
        let log = local_log(&directory).await;
        let mut expected = append(&log, 1, 300, 3).await;
        expected.extend(append(&log, 2, 300, 3).await);
        expected.sort_unstable();
        let seen = log.snapshot();
        let other = Log::open(Store::open(log.store().url().as_str()).unwrap())
            .await
            .unwrap();
        let read = other.snapshot();
        assert_eq!((read.version(), read.file_count()), (2, 6));
        let pairs = read.files().zip(seen.files());
        assert!(pairs.into_iter().all(|(a, b)| a == b), "{read:?} {seen:?}");
        for file in read.files() {
            check_file(other.store(), file).await;
        }
        assert_eq!(read_rows(other.store(), &read).await, expected);
    }

    #[tokio::test]
    async fn what_others_commit_is_followed_step_by_step_as_if_read_whole() {
        let log = Log::create(Store::open("memory://").unwrap())
            .await
            .unwrap();
        let other = Log::open(log.store().clone()).await.unwrap();
        let first = other.snapshot();
        // It has columns that the table had not: more than files that come and go.
        append(&log, 1, 5000, 2).await;
        other.refresh().await.unwrap();
        append(&log, 2, 300, 3).await;
        let files: Vec<_> = log.snapshot().files().take(1).cloned().collect();
        let done = log.try_commit(&[], &files, Operation::Expire).await;
        assert!(matches!(done.unwrap(), Commit::Done(_)));
        other.refresh().await.unwrap();
        let changes = other.changes_since(&first);
        let seen = log.snapshot();
        assert_eq!(changes.last().unwrap().dropped, files);
        for read in [
            other.snapshot(),
            Log::open(log.store().clone()).await.unwrap().snapshot(),
        ] {
            assert_eq!((read.version(), read.row_count()), (3, seen.row_count()));
            assert_eq!(read.byte_count(), seen.byte_count());
            assert!(read.files().eq(seen.files()), "{read:?} {seen:?}");
            assert_eq!(read.attribute_columns(), seen.attribute_columns());
            assert!(!read.attribute_columns().is_empty());
        }
        append(&other, 3, 10, 1).await;
        assert_eq!(log.refresh().await.unwrap().version(), 4);
    }

    #[tokio::test]
    async fn a_lake_that_is_not_there_is_not_found_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        let store = Store::open(path.to_str().unwrap()).unwrap();
        let error = Log::open(store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn of_two_that_remove_a_file_one_loses_and_changes_nothing() {
        let log = Log::create(Store::open("memory://").unwrap())
            .await
            .unwrap();
        append(&log, 1, 50, 1).await;
        let other = Log::open(log.store().clone()).await.unwrap();
        let files: Vec<_> = log.snapshot().files().cloned().collect();
        for (log, expected) in [(&log, true), (&other, false)] {
            let mut file = LakeFile::clone(&files[0]);
            file.path = crate::storage::layout::new_path(file.hour, file.bucket);
            let done = log.try_commit(&[file], &files, Operation::Compact).await;
            assert_eq!(matches!(done.unwrap(), Commit::Done(_)), expected);
        }
        assert_eq!(log.refresh().await.unwrap().version(), 2);
        assert_eq!(log.snapshot().file_count(), 1);
        let error = other
            .commit(&[], &files, Operation::Expire)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(&files[0].path));
    }

    #[tokio::test]
    async fn many_writers_at_once_lose_nothing_and_checkpoints_are_made() {
        let store = Store::open("memory://").unwrap();
        let first = Log::create(store.clone()).await.unwrap();
        let batch = spans(9, 20, 1);
        let config = StorageConfig::default();
        let writers = (0..4).map(|_| {
            let (store, batch, config) = (store.clone(), batch.clone(), config.clone());
            tokio::spawn(async move {
                let log = Log::create(store).await.unwrap();
                for _ in 0..30 {
                    let files = write_batch(log.store(), &config, batch.clone(), 1).await;
                    let done = log.commit(&files.unwrap(), &[], Operation::Append).await;
                    done.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let snapshot = first.refresh().await.unwrap();
        assert_eq!((snapshot.version(), snapshot.file_count()), (120, 120));
        assert_eq!(snapshot.row_count(), 2400);
        let last = object_store::path::Path::from("_delta_log/_last_checkpoint");
        let head = object_store::ObjectStoreExt::head(&store.objects(), &last).await;
        assert!(head.is_ok());
        let opened = Log::open(store).await.unwrap().snapshot();
        assert_eq!(opened.row_count(), 2400);
        assert_eq!(opened.files().count(), snapshot.files().count());
        assert!(opened.files().zip(snapshot.files()).all(|(a, b)| a == b));
    }

    #[tokio::test]
    async fn a_table_of_another_program_is_refused() {
        let store = Store::open("memory://").unwrap();
        CreateBuilder::new()
            .with_log_store(log_store(&store))
            .with_columns(table_columns().unwrap())
            .await
            .unwrap();
        let error = Log::create(store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
