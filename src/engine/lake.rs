//! An open lake.
//!
//! Read [`Lake`].

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use tokio::task::JoinSet;

use super::lake_searcher::LakeSearcher;
use super::session::SessionOptions;
use super::trace_lookup::TraceLookup;
use super::{Session, session};
use crate::config::Config;
use crate::error::Result;
use crate::storage::{
    Indexes, LakeFile, Log, MaintenanceLog, Operation, Store, TraceFilters, write_known_batch,
};
use crate::table::TraceRows;

/// How long a known snapshot is used before the log is asked for a newer one.
const SNAPSHOT_AGE: Duration = Duration::from_secs(1);

/// How many of a query's largest consumers of memory an error names.
const NAMED_CONSUMERS: usize = 3;

/// A lake of spans: its log, its caches and the memory its queries share. Cheap to clone.
///
/// ```
/// # async fn run() -> tracelake::Result<()> {
/// let lake = tracelake::Lake::create("memory:///", Default::default()).await?;
/// let session = lake.session().await?;
/// let rows = session.query("SELECT count(*) FROM spans", &[]).await?.collect().await?;
/// assert_eq!(rows[0].num_rows(), 1);
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Arc<Log>,
    filters: Arc<TraceFilters>,
    rows: Arc<TraceRows>,
    traces: Arc<TraceLookup>,
    /// What reads related traces ahead; ends with the lake.
    prefetches: Mutex<JoinSet<()>>,
    indexes: Arc<Indexes>,
    searcher: OnceLock<Arc<LakeSearcher>>,
    runtime: Arc<RuntimeEnv>,
    store_url: ObjectStoreUrl,
    maintenance_log: Arc<MaintenanceLog>,
    config: Config,
}

/// What [`Lake::append`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// The version of the lake that holds the spans.
    pub version: u64,
    /// Files written.
    pub file_count: usize,
    /// Their bytes.
    pub byte_count: u64,
}

impl Lake {
    /// Opens the lake at a local path or URL; `NotFound` where there is none.
    pub async fn open(location: &str, config: Config) -> Result<Self> {
        let log = Log::open(Store::open(location)?).await?;
        Self::over(log, config)
    }

    /// Opens the lake at a local path or URL, and makes an empty one where there is none.
    pub async fn create(location: &str, config: Config) -> Result<Self> {
        let log = Log::create(Store::open(location)?).await?;
        Self::over(log, config)
    }

    fn over(log: Log, config: Config) -> Result<Self> {
        let store_url = ObjectStoreUrl::parse("tracelake://lake")?;
        // Footers and page indexes take more room than trace-id filters.
        let filter_bytes = config.query.metadata_cache_bytes / 8;
        let index_bytes = config.query.metadata_cache_bytes / 2;
        let pool = FairSpillPool::new(config.query.memory_limit_bytes);
        let consumers =
            std::num::NonZeroUsize::new(NAMED_CONSUMERS).unwrap_or(std::num::NonZeroUsize::MIN);
        let mode = match &config.query.spill_directory {
            Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, consumers)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
            .with_metadata_cache_limit(
                config.query.metadata_cache_bytes - 2 * filter_bytes - index_bytes,
            )
            .build_arc()?;
        runtime.register_object_store(store_url.as_ref(), log.store().objects());
        let log = Arc::new(log);
        let filters = Arc::new(TraceFilters::new(filter_bytes));
        let rows = Arc::new(TraceRows::new(
            Arc::clone(&log),
            Arc::clone(&filters),
            runtime.cache_manager.get_file_metadata_cache(),
            filter_bytes,
            config.query.pruning,
        ));
        let traces = TraceLookup::new(
            Arc::clone(&log),
            Arc::clone(&filters),
            Arc::clone(&rows),
            &config.query,
        );
        Ok(Self {
            inner: Arc::new(Inner {
                log,
                filters,
                indexes: Arc::new(Indexes::new(index_bytes)),
                searcher: OnceLock::new(),
                rows,
                traces: Arc::new(traces),
                prefetches: Mutex::default(),
                runtime,
                store_url,
                maintenance_log: Arc::default(),
                config,
            }),
        })
    }

    /// Where the lake lies.
    pub fn url(&self) -> &str {
        self.inner.log.store().url().as_str()
    }

    /// The options the lake was opened with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// A door for SQL. Sessions share caches and the memory limit, not settings or views.
    pub async fn session(&self) -> Result<Session> {
        self.session_with(SessionOptions::default()).await
    }

    /// A door for SQL that is narrower than the whole.
    pub async fn session_with(&self, options: SessionOptions) -> Result<Session> {
        Session::try_new(self, options).await
    }

    /// Sorts, writes and commits one batch of decoded spans, as
    /// [`SpanBatchBuilder`](crate::span::SpanBatchBuilder) makes them: all of it or nothing.
    pub async fn append(&self, batch: RecordBatch) -> Result<AppendOutcome> {
        let store = self.log().store();
        let config = &self.inner.config.storage;
        let files = write_known_batch(store, config, batch, now_micros(), self.filters()).await?;
        let snapshot = self.log().commit(&files, &[], Operation::Append).await?;
        Ok(AppendOutcome {
            version: snapshot.version(),
            file_count: files.len(),
            byte_count: files.iter().map(|file| file.size).sum(),
        })
    }

    /// Asks the log for a newer snapshot, at most once in a while.
    pub(super) async fn refresh(&self) -> Result<()> {
        self.log().refresh_after(SNAPSHOT_AGE).await?;
        Ok(())
    }

    /// Frees what is remembered of files that are no longer in the lake. A query that still reads
    /// one reads its footer again.
    pub(super) fn forget(&self, files: &[Arc<LakeFile>]) {
        let metadata = self.runtime().cache_manager.get_file_metadata_cache();
        for file in files {
            metadata.remove(&file.location());
            self.filters().remove(file);
            self.inner.indexes.remove(file);
        }
        self.traces().forget_files(files);
    }

    pub(super) fn traces(&self) -> &Arc<TraceLookup> {
        &self.inner.traces
    }

    pub(super) fn prefetches(&self) -> &Mutex<JoinSet<()>> {
        &self.inner.prefetches
    }

    pub(super) fn log(&self) -> &Arc<Log> {
        &self.inner.log
    }

    pub(super) fn maintenance_log(&self) -> &Arc<MaintenanceLog> {
        &self.inner.maintenance_log
    }

    pub(super) fn filters(&self) -> &Arc<TraceFilters> {
        &self.inner.filters
    }

    /// What reads the rows of traces without a query.
    pub(super) fn rows(&self) -> &Arc<TraceRows> {
        &self.inner.rows
    }

    /// What answers searches.
    pub(super) fn searcher(&self) -> &Arc<LakeSearcher> {
        let searcher = &self.inner.searcher;
        searcher.get_or_init(|| Arc::new(session::searcher(self)))
    }

    /// The indexes of the lake's files, `None` where they are not to be used.
    pub(super) fn indexes(&self) -> Option<&Arc<Indexes>> {
        let used = self.config().query.pruning && self.config().query.index;
        used.then_some(&self.inner.indexes)
    }

    pub(super) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.inner.runtime
    }

    pub(super) fn store_url(&self) -> &ObjectStoreUrl {
        &self.inner.store_url
    }
}

/// The time of a commit.
pub(super) fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
