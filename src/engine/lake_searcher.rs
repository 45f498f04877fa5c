//! Answers the searches of SQL.
//!
//! Read [`LakeSearcher`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use super::Lake;
use super::search::Search;
use crate::error::{Error, Result};
use crate::functions::table::TraceSearcher;
use crate::search::{SearchPage, TraceQuery};
use crate::storage::Log;
use crate::table::SpansTable;

/// Searches the spans of a lake with the settings of the session that asks.
pub(super) struct LakeSearcher {
    /// The state of the session, unless it is gone: the session holds this, not the other way.
    state: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
    spans: Arc<SpansTable>,
    log: Arc<Log>,
    window_spans: u64,
}

impl LakeSearcher {
    pub(super) fn new(context: &SessionContext, spans: Arc<SpansTable>, lake: &Lake) -> Self {
        let state = context.state_weak_ref();
        Self {
            state: Box::new(move || state.upgrade().map(|state| state.read().clone())),
            spans,
            log: Arc::clone(lake.log()),
            window_spans: lake.config().query.search_window_spans,
        }
    }
}

impl fmt::Debug for LakeSearcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSearcher").finish_non_exhaustive()
    }
}

#[async_trait]
impl TraceSearcher for LakeSearcher {
    async fn search(&self, query: &TraceQuery) -> Result<SearchPage> {
        let start = query.start()?;
        let Some(state) = (self.state)() else {
            return Err(Error::internal("a search outlived its session"));
        };
        let snapshot = self.log.snapshot();
        let spans = Arc::clone(&self.spans) as _;
        let search = Search::try_new(&state, &snapshot, spans, query, self.window_spans)?;
        search.page(start).await
    }
}
