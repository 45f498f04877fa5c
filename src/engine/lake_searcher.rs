//! What answers the searches of a lake, of SQL and of programs alike.
//!
//! Read [`LakeSearcher`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SessionState;

use super::search::Search;
use crate::error::Result;
use crate::functions::table::TraceSearcher;
use crate::search::{SearchPage, SearchPlace, TraceQuery};
use crate::storage::Log;
use crate::table::SpansTable;

/// Searches the spans of a lake; made once for all its sessions.
pub(super) struct LakeSearcher {
    pub(super) state: SessionState,
    pub(super) spans: Arc<SpansTable>,
    pub(super) log: Arc<Log>,
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
