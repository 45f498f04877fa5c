//! The log of the lake: which files count, one version after another. The only file that names
//! the table format, [Delta Lake](https://github.com/delta-io/delta/blob/master/PROTOCOL.md).
//!
//! Read [`Log`]. Commits are made here one version at a time, against the version before:
//! the library's own conflict check lets two compactions of the same files both pass, and
//! fails an append that meets a retention, so it is never left to decide.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError, RwLock};
use std::time::Duration;

use arrow::datatypes::{DataType as ArrowType, Fields, TimeUnit};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{
    Action, Add, ArrayType, DataType, MetadataExt, PrimitiveType, Remove, StructField, StructType,
};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTableError, TableProperty};
use futures::StreamExt;
use tokio::sync::Mutex;

use super::layout::{BUCKET_COLUMN, DAY_COLUMN, HOUR_COLUMN};
use super::log_record::{STATS_COLUMNS, partition_values, read_files, stats};
use super::{Change, LakeFile, Snapshot, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::span::{AttributeColumn, AttributeType, column, storage_schema};

/// Versions between two checkpoints: opening a lake reads at most that many small files.
const CHECKPOINT_INTERVAL: u64 = 25;

/// Columns that the schema of the table names at the most. Other readers do not see those of
/// attributes that came later; this one finds them in the files.
const MAX_COLUMNS: usize = 2000;

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
    /// The library's view; locked while the log is read or written, so that the commits of one
    /// process queue up rather than race.
    state: Mutex<DeltaTableState>,
    seen: RwLock<Snapshot>,
    /// How `seen` came to be what it is, step by step, the latest last.
    changes: SyncMutex<VecDeque<Arc<Change>>>,
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
            match self.attempt(&state, adds, removes, operation).await {
                Ok((after, version)) => {
                    let snapshot = before.with_changes(version, adds, removes);
                    *state = after;
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

    /// The paths of files that were removed after a time. Removals are remembered for a week.
    pub(super) async fn dropped_since(&self, unix_ms: i64) -> Result<HashSet<String>> {
        let state = self.inner.state.lock().await;
        let mut removed = state.all_tombstones(self.inner.log_store.as_ref());
        let mut paths = HashSet::new();
        while let Some(view) = removed.next().await {
            let view = view.map_err(|error| {
                failure("cannot read the log of the lake", &self.inner.store, error)
            })?;
            if view.deletion_timestamp().is_none_or(|time| time > unix_ms) {
                paths.insert(view.path().into_owned());
            }
        }
        Ok(paths)
    }

    /// Tries to write the version after that of `state`, once.
    async fn attempt(
        &self,
        state: &DeltaTableState,
        adds: &[LakeFile],
        removes: &[Arc<LakeFile>],
        operation: Operation,
    ) -> std::result::Result<(DeltaTableState, u64), DeltaTableError> {
        let data_change = operation != Operation::Compact;
        let now_ms = chrono::Utc::now().timestamp_millis();
        let removed = removes
            .iter()
            .map(|file| Action::Remove(remove_action(file, data_change, now_ms)));
        let added = adds
            .iter()
            .map(|file| Action::Add(add_action(file, data_change)));
        let grown = grown_schema(state, adds)?;
        let version = state.version() + 1;
        // Old versions are looked for only when a checkpoint is made: it takes a listing.
        let checkpoint = (version + 1).is_multiple_of(CHECKPOINT_INTERVAL);
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(checkpoint));
        let done = CommitBuilder::from(properties)
            .with_actions(grown.into_iter().chain(removed).chain(added).collect())
            .build(
                Some(state),
                Arc::clone(&self.inner.log_store),
                delta_operation(operation),
            )
            .await?;
        Ok((done.snapshot, done.version))
    }

    async fn refresh_locked(&self, state: &mut DeltaTableState) -> Result<Snapshot> {
        let store = &self.inner.store;
        state
            .update(self.inner.log_store.as_ref(), None)
            .await
            .map_err(|error| failure("cannot read the log of the lake", store, error))?;
        let seen = self.snapshot();
        if seen.version() == state.version() {
            return Ok(seen);
        }
        let snapshot = read_snapshot(state, store)?;
        self.publish(&snapshot);
        Ok(snapshot)
    }

    fn publish(&self, snapshot: &Snapshot) {
        let change = Change::between(&self.snapshot(), snapshot);
        let changes = self.inner.changes.lock();
        let mut changes = changes.unwrap_or_else(PoisonError::into_inner);
        if changes.len() == REMEMBERED_CHANGES {
            changes.pop_front();
        }
        changes.push_back(Arc::new(change));
        // Together with the change, so that whoever sees the snapshot finds what led to it.
        let seen = self.inner.seen.write();
        *seen.unwrap_or_else(PoisonError::into_inner) = snapshot.clone();
    }
}

/// The change of the table's schema that files to be added need, if any: columns of attributes
/// that no file had before. It is found anew for each attempt, so that of two writers that add
/// columns at once, the one that comes second adds to those of the first.
fn grown_schema(
    state: &DeltaTableState,
    adds: &[LakeFile],
) -> std::result::Result<Option<Action>, DeltaTableError> {
    let schema = state.schema();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for file in adds {
        names.extend(file.attribute_columns.iter().map(String::as_str));
    }
    names.retain(|name| schema.field(name).is_none());
    // What is beyond is in the files, and found there.
    let room = MAX_COLUMNS.saturating_sub(schema.fields().count());
    let added = names.into_iter().take(room).map(|name| {
        let value_type = AttributeColumn::parse(name).map(|column| column.value_type);
        let data_type = value_type.unwrap_or(AttributeType::Text).data_type();
        let data_type = table_type(&data_type).unwrap_or(DataType::STRING);
        StructField::new(name, data_type, true)
    });
    let added: Vec<StructField> = added.collect();
    if added.is_empty() {
        return Ok(None);
    }
    let fields = schema.fields().cloned().chain(added);
    let schema = StructType::try_new(fields).map_err(DeltaTableError::from)?;
    let metadata = state.metadata().clone().with_schema(&schema)?;
    Ok(Some(Action::Metadata(metadata)))
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

fn log_store(store: &Store) -> LogStoreRef {
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
    let known = storage_schema();
    let schema = state.schema();
    let names = schema.fields().map(|field| field.name().to_string());
    let added = names.filter(|name| {
        known.index_of(name).is_err()
            && (AttributeColumn::parse(name).is_some() || name == column::ATTRIBUTES_ORDER)
    });
    Ok(Snapshot::new(state.version(), files).with_attribute_columns(added.collect()))
}

/// The columns of the table: those of the files, then the partition columns.
///
/// All may be NULL, as the table format has it for columns that another program may add to.
fn table_columns() -> Result<Vec<StructField>> {
    let mut columns = struct_fields(storage_schema().fields())?;
    for (name, data_type) in [
        (DAY_COLUMN, PrimitiveType::Date),
        (HOUR_COLUMN, PrimitiveType::Integer),
        (BUCKET_COLUMN, PrimitiveType::String),
    ] {
        columns.push(StructField::new(name, DataType::Primitive(data_type), true));
    }
    Ok(columns)
}

fn struct_fields(fields: &Fields) -> Result<Vec<StructField>> {
    fields
        .iter()
        .map(|field| {
            Ok(StructField::new(
                field.name(),
                table_type(field.data_type())?,
                true,
            ))
        })
        .collect()
}

fn table_type(data_type: &ArrowType) -> Result<DataType> {
    let primitive = match data_type {
        ArrowType::FixedSizeBinary(_) | ArrowType::Binary | ArrowType::BinaryView => {
            PrimitiveType::Binary
        }
        ArrowType::Utf8 | ArrowType::Utf8View => PrimitiveType::String,
        ArrowType::Int8 => PrimitiveType::Byte,
        ArrowType::Int32 => PrimitiveType::Integer,
        ArrowType::Int64 => PrimitiveType::Long,
        ArrowType::Float64 => PrimitiveType::Double,
        ArrowType::Boolean => PrimitiveType::Boolean,
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(_)) => PrimitiveType::Timestamp,
        ArrowType::List(element) => {
            let element = table_type(element.data_type())?;
            return Ok(DataType::Array(Box::new(ArrayType::new(element, true))));
        }
        ArrowType::Struct(fields) => {
            let fields = StructType::try_new(struct_fields(fields)?).map_err(|error| {
                Error::internal("a column has no table type").with_source(error)
            })?;
            return Ok(DataType::Struct(Box::new(fields)));
        }
        other => {
            return Err(Error::internal(format!(
                "a column has no table type; type=`{other}`"
            )));
        }
    };
    Ok(DataType::Primitive(primitive))
}

fn add_action(file: &LakeFile, data_change: bool) -> Add {
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

fn remove_action(file: &LakeFile, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file)),
        size: Some(signed(file.size)),
        ..Remove::default()
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn delta_operation(operation: Operation) -> DeltaOperation {
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
        append(&log, 3, 10, 1).await;
        assert_eq!(other.refresh().await.unwrap().version(), 3);
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
                for _ in 0..10 {
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
        assert_eq!((snapshot.version(), snapshot.file_count()), (40, 40));
        assert_eq!(snapshot.row_count(), 800);
        let last = object_store::path::Path::from("_delta_log/_last_checkpoint");
        let head = object_store::ObjectStoreExt::head(&store.objects(), &last).await;
        assert!(head.is_ok());
        let opened = Log::open(store).await.unwrap().snapshot();
        assert_eq!(opened.row_count(), 800);
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
