//! What answers the searches of a lake, of SQL and of programs alike.
//!
//! Read [`LakeSearcher`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SessionState;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::search::Search;
use super::trace_cache::ALL_HOURS;
use crate::error::Result;
use crate::functions::table::TraceSearcher;
use crate::search::{SearchPage, SearchPlace, TraceQuery};
use crate::span::TraceId;
use crate::storage::Log;
use crate::table::{SpanColumns, SpansTable, TraceRows};

/// Files that found traces are read from at the same time.
const FILE_READS: usize = 8;

/// Searches the spans of a lake; made once for all its sessions.
pub(super) struct LakeSearcher {
    pub(super) state: SessionState,
    pub(super) spans: Arc<SpansTable>,
    pub(super) log: Arc<Log>,
    pub(super) rows: Arc<TraceRows>,
    /// Spans of the window in which the newest traces are looked for first.
    pub(super) window_spans: u64,
}

impl fmt::Debug for LakeSearcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSearcher").finish_non_exhaustive()
    }
}

impl LakeSearcher {
    /// How many traces a query finds, whatever its limit and page.
    pub(super) async fn count(&self, query: &TraceQuery) -> Result<u64> {
        query.validate()?;
        let snapshot = self.log.snapshot();
        Search::try_new(self, &snapshot, query)?.total().await
    }

    /// Hands `add` these columns of all spans of some traces, in batches. They are read as a lookup
    /// reads them: to plan a query takes longer than to read the traces of a page.
    pub(super) async fn read_spans(
        &self,
        mut ids: Vec<TraceId>,
        columns: &SpanColumns,
        add: impl FnMut(RecordBatch) -> Result<()> + Send,
    ) -> Result<()> {
        ids.sort_unstable();
        let add = &Mutex::new(add);
        let files = self.rows.candidates(&self.log.snapshot(), &ids, &ALL_HOURS);
        let reads = files.into_iter().map(|file| {
            async move {
                let file = self.rows.narrow(file).await?;
                if file.trace_ids.is_empty() {
                    return Ok(());
                }
                let add = |batch| add.lock().unwrap_or_else(PoisonError::into_inner)(batch);
                self.rows.select(&file, columns, add).await
            }
            .boxed()
        });
        let reads: Vec<BoxFuture<'_, Result<()>>> = reads.collect();
        let mut reads = futures::stream::iter(reads).buffer_unordered(FILE_READS);
        while let Some(done) = reads.next().await {
            done?;
        }
        Ok(())
    }
}

#[async_trait]
impl TraceSearcher for LakeSearcher {
    async fn search(&self, query: &TraceQuery) -> Result<SearchPage> {
        let start = query.start()?;
        let snapshot = self.log.snapshot();
        Search::try_new(self, &snapshot, query)?.page(start).await
    }

    async fn places(&self, query: &TraceQuery) -> Result<SearchPage<SearchPlace>> {
        let start = query.start()?;
        let snapshot = self.log.snapshot();
        Search::try_new(self, &snapshot, query)?.places(start).await
    }
}
