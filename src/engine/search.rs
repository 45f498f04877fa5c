//! Searching for traces.
//!
//! Read [`Lake::search`]. A search first finds traces and their place in the order from their
//! matching spans, then reads the whole traces of the page. The newest are looked for in windows of
//! hours, newest first, that grow until the page is full.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::{Stream, TryStreamExt};

use super::Lake;
use super::lake_searcher::LakeSearcher;
use super::search_plan::{PLACE_COLUMNS, SUMMARY_COLUMNS, SearchPlan, Slice, TimeWindow};
use super::search_spans::{FoundSpans, matching};
use super::search_window::windows;
use crate::error::Result;
use crate::functions::table::TraceSearcher;
use crate::search::{
    Cursor, PageStart, SearchHit, SearchOrder, SearchPage, SearchPlace, TraceQuery,
};
use crate::span::TraceId;
use crate::storage::Snapshot;

impl Lake {
    /// One page of the traces a query finds.
    ///
    /// Going from page to page by cursor shows no trace twice and leaves none out, while spans
    /// keep arriving: a trace's place in the order is that of its latest or longest matching
    /// span, so arriving spans move it to earlier pages only. What came or moved there after
    /// those pages were read is not shown later. Pages by number are each read anew and promise
    /// this only while nothing arrives. (Hours that expire between pages take traces away.)
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// use tracelake::search::TraceQuery;
    ///
    /// let lake = tracelake::Lake::create("memory:///", Default::default()).await?;
    /// let query = TraceQuery::new().with_service("checkout").query_attribute("user.tier", "gold");
    /// let page = lake.search(&query).await?;
    /// assert!(page.hits.is_empty() && page.next_cursor.is_none());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn search(&self, query: &TraceQuery) -> Result<SearchPage> {
        self.refresh().await?;
        self.searcher().search(query).await
    }

    /// All traces a query finds, in its order, read a page of its limit at a time as they are
    /// asked for.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// use futures::TryStreamExt;
    /// use tracelake::search::TraceQuery;
    ///
    /// let lake = tracelake::Lake::create("memory:///", Default::default()).await?;
    /// let hits: Vec<_> = lake.search_stream(TraceQuery::new()).try_collect().await?;
    /// assert!(hits.is_empty());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub fn search_stream(
        &self,
        query: TraceQuery,
    ) -> impl Stream<Item = Result<SearchHit>> + Send + use<> {
        let lake = self.clone();
        let pages = futures::stream::try_unfold(Some(query), move |query| {
            let lake = lake.clone();
            async move {
                let Some(query) = query else {
                    return Ok::<_, crate::Error>(None);
                };
                let page = lake.search(&query).await?;
                let next = page.next_cursor.map(|cursor| TraceQuery {
                    cursor: Some(cursor),
                    page: None,
                    ..query
                });
                let hits = page.hits.into_iter().map(Ok);
                Ok(Some((futures::stream::iter(hits), next)))
            }
        });
        pages.try_flatten()
    }

    /// How many traces a query finds, whatever its limit and page.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// use tracelake::search::TraceQuery;
    ///
    /// let lake = tracelake::Lake::create("memory:///", Default::default()).await?;
    /// assert_eq!(lake.search_count(&TraceQuery::new()).await?, 0);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn search_count(&self, query: &TraceQuery) -> Result<u64> {
        self.refresh().await?;
        self.searcher().count(query).await
    }
}

/// Matching spans that are looked at for each trace wanted; a trace may have several.
const SPANS_PER_TRACE: usize = 4;

/// Traces that are looked at beyond those wanted, where a matching span does not yet decide.
const CANDIDATES: usize = 100;

/// How often candidates are looked at before the whole range is read instead.
const MOST_ROUNDS: usize = 3;

/// The newest traces as far as they are known.
struct Newest {
    cursor: Option<Cursor>,
    found: Vec<Found>,
    /// Traces that an earlier window had, found or not: a later one would put them too far back.
    seen: HashSet<TraceId>,
    rounds: usize,
}

/// A trace and what the order compares.
#[derive(Debug, Clone, Copy)]
struct Found {
    trace_id: TraceId,
    key: i64,
}

/// One search under way.
pub(super) struct Search<'a> {
    searcher: &'a LakeSearcher,
    snapshot: &'a Snapshot,
    query: &'a TraceQuery,
    plan: SearchPlan,
}

impl<'a> Search<'a> {
    /// The search of `query` in the files of `snapshot`.
    pub(super) fn try_new(
        searcher: &'a LakeSearcher,
        snapshot: &'a Snapshot,
        query: &'a TraceQuery,
    ) -> Result<Self> {
        let spans = provider_as_source(Arc::clone(&searcher.spans) as _);
        Ok(Self {
            searcher,
            snapshot,
            query,
            plan: SearchPlan::try_new(query, spans)?,
        })
    }

    /// The page that begins at `start`.
    pub(super) async fn page(&self, start: Option<PageStart>) -> Result<SearchPage> {
        let places = self.places(start).await?;
        Ok(SearchPage {
            hits: self.hits(places.hits).await?,
            next_cursor: places.next_cursor,
            total: places.total,
        })
    }

    /// The same page, without what only reading its traces tells.
    pub(super) async fn places(&self, start: Option<PageStart>) -> Result<SearchPage<SearchPlace>> {
        // One more than asked for tells whether there is another page.
        let fetch = self.query.limit + 1;
        let mut found = match start {
            None => self.behind(None, fetch).await?,
            Some(PageStart::After(cursor)) => self.behind(Some(cursor), fetch).await?,
            Some(PageStart::Offset(skip)) => self.in_range(None, skip, fetch).await?,
        };
        let has_more = found.len() > self.query.limit;
        found.truncate(self.query.limit);
        let hits = found.iter().map(|trace| SearchPlace {
            trace_id: trace.trace_id,
            key: trace.key,
            cursor: self.place_of(trace).to_string(),
        });
        let hits: Vec<SearchPlace> = hits.collect();
        let last = hits.last().filter(|_| has_more);
        Ok(SearchPage {
            next_cursor: last.map(|last| last.cursor.clone()),
            hits,
            total: match self.query.with_total {
                true => Some(self.total().await?),
                false => None,
            },
        })
    }

    /// How many traces are found.
    pub(super) async fn total(&self) -> Result<u64> {
        let mut rows = self.run(&self.plan.total()?).await?;
        let mut total = 0;
        while let Some(batch) = rows.try_next().await? {
            let counts = batch.column(0).as_primitive::<Int64Type>();
            total += counts.values().iter().sum::<i64>();
        }
        Ok(u64::try_from(total).unwrap_or_default())
    }

    /// The first `fetch` traces behind a cursor.
    async fn behind(&self, cursor: Option<Cursor>, fetch: usize) -> Result<Vec<Found>> {
        if self.query.order == SearchOrder::Newest
            && let Some(found) = self.newest(cursor, fetch).await?
        {
            return Ok(found);
        }
        self.in_range(cursor, 0, fetch).await
    }

    /// The same, from the whole time range at once.
    async fn in_range(
        &self,
        after: Option<Cursor>,
        skip: usize,
        fetch: usize,
    ) -> Result<Vec<Found>> {
        let window = self.plan.range();
        let slice = Slice {
            window,
            after,
            skip,
            fetch,
        };
        self.found(&self.plan.traces(&slice)?).await
    }

    /// The newest traces behind a cursor, from one window after another; `None` where reading the
    /// whole range is likely to cost less.
    async fn newest(&self, cursor: Option<Cursor>, fetch: usize) -> Result<Option<Vec<Found>>> {
        let mut range = self.plan.range();
        if let Some(cursor) = cursor {
            let end = cursor.key.saturating_add(1);
            range.to_nano = Some(range.to_nano.map_or(end, |to| to.min(end)));
        }
        let windows = windows(self.snapshot, range, self.searcher.window_spans);
        if windows.len() < 2 && !self.plan.is_of_same_span() {
            return Ok(None);
        }
        let mut newest = Newest {
            cursor,
            found: Vec::new(),
            seen: HashSet::new(),
            rounds: 0,
        };
        for window in windows {
            if newest.found.len() < fetch && !self.newest_in(window, fetch, &mut newest).await? {
                return Ok(None);
            }
        }
        Ok(Some(newest.found))
    }

    /// Goes on with one window; false where it is better to give up.
    async fn newest_in(
        &self,
        window: TimeWindow,
        fetch: usize,
        newest: &mut Newest,
    ) -> Result<bool> {
        if self.plan.is_of_same_span() {
            self.newest_by_span(window, fetch, newest).await?;
            return Ok(true);
        }
        let mut after = newest.cursor;
        while newest.found.len() < fetch {
            let slice = Slice {
                window,
                after,
                skip: 0,
                fetch: fetch - newest.found.len() + CANDIDATES,
            };
            let some = self.found(&self.plan.candidates(&slice)?).await?;
            let is_last = some.len() < slice.fetch;
            after = some.last().map(|last| self.place_of(last));
            let mut some = self.not_seen(some, newest).await?;
            let whole = self.ids(&some, |ids| self.plan.fulfilling(ids)).await?;
            some.retain(|trace| whole.contains(&trace.trace_id));
            newest.found.extend(some);
            newest.found.truncate(fetch);
            newest.rounds += 1;
            if is_last {
                break;
            }
            if newest.rounds >= MOST_ROUNDS && newest.found.len() < fetch {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on with one window where a single span decides.
    async fn newest_by_span(
        &self,
        mut window: TimeWindow,
        fetch: usize,
        newest: &mut Newest,
    ) -> Result<()> {
        let wanted = fetch - newest.found.len();
        let mut span_count = wanted.saturating_mul(SPANS_PER_TRACE);
        while newest.found.len() < fetch {
            let mut some = self.newest_spans(window, span_count).await?;
            let is_last = some.len() < span_count;
            if !is_last && let Some(oldest) = some.last().map(|span| span.key) {
                // Others may have started in the same moment.
                some.truncate(some.partition_point(|span| span.key > oldest));
                window.to_nano = Some(oldest.saturating_add(1));
                span_count = span_count.saturating_mul(2);
            }
            some.sort_by_key(|span| (Reverse(span.key), span.trace_id));
            let some = self.not_seen(some, newest).await?;
            newest.found.extend(some);
            newest.found.truncate(fetch);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// The traces of the newest matching spans in a window, the newest first.
    async fn newest_spans(&self, window: TimeWindow, fetch: usize) -> Result<Vec<Found>> {
        let LakeSearcher { state, spans, .. } = self.searcher;
        let matches = self.plan.matches(state, &PLACE_COLUMNS, window)?;
        let metadata = state.runtime_env().cache_manager.get_file_metadata_cache();
        let rows = spans.few_rows(&matches.filters, fetch, &matches.columns, &metadata);
        // To plan a query takes longer than to read a few rows.
        let Some(rows) = rows.await? else {
            return self.found(&self.plan.newest_spans(window, fetch)?).await;
        };
        let mut newest = Vec::new();
        for batch in rows {
            self.add_found(&matching(&batch)?, &mut newest)?;
        }
        newest.sort_by_key(|span| Reverse(span.key));
        newest.truncate(fetch);
        Ok(newest)
    }

    /// Those of some traces that were not seen and stand behind the cursor, each once.
    async fn not_seen(&self, mut some: Vec<Found>, newest: &mut Newest) -> Result<Vec<Found>> {
        some.retain(|trace| newest.seen.insert(trace.trace_id));
        if let Some(cursor) = &newest.cursor {
            let before = self.ids(&some, |ids| self.plan.before(ids, cursor)).await?;
            some.retain(|trace| !before.contains(&trace.trace_id));
        }
        Ok(some)
    }

    /// Those of some traces that a plan made for their ids lets through.
    async fn ids(
        &self,
        traces: &[Found],
        plan: impl FnOnce(&[TraceId]) -> Result<LogicalPlan>,
    ) -> Result<HashSet<TraceId>> {
        let ids: Vec<TraceId> = traces.iter().map(|trace| trace.trace_id).collect();
        let mut through = HashSet::new();
        if ids.is_empty() {
            return Ok(through);
        }
        let mut rows = self.run(&plan(&ids)?).await?;
        while let Some(batch) = rows.try_next().await? {
            for id in batch.column(0).as_string_view().iter().flatten() {
                through.insert(TraceId::parse(id)?);
            }
        }
        Ok(through)
    }

    async fn found(&self, plan: &LogicalPlan) -> Result<Vec<Found>> {
        let mut rows = self.run(plan).await?;
        let mut found = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            self.add_found(&batch, &mut found)?;
        }
        Ok(found)
    }

    /// Adds traces with their keys.
    fn add_found(&self, batch: &RecordBatch, found: &mut Vec<Found>) -> Result<()> {
        let ids = batch.column(0).as_string_view();
        for (row, id) in ids.iter().enumerate() {
            found.push(Found {
                trace_id: TraceId::parse(id.unwrap_or_default())?,
                key: self.key(batch, row),
            });
        }
        Ok(())
    }

    fn key(&self, batch: &RecordBatch, row: usize) -> i64 {
        let keys = batch.column(1);
        match self.query.order {
            SearchOrder::Newest => keys.as_primitive::<TimestampNanosecondType>().value(row),
            SearchOrder::Slowest => keys.as_primitive::<Int64Type>().value(row),
        }
    }

    /// The traces of a page whole. One that expired since it was found is left out.
    async fn hits(&self, found: Vec<SearchPlace>) -> Result<Vec<SearchHit>> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<TraceId> = found.iter().map(|trace| trace.trace_id).collect();
        let state = &self.searcher.state;
        let range = self.plan.range();
        let matches = self.plan.matches(state, &SUMMARY_COLUMNS, range)?;
        let mut spans = FoundSpans::new(&state.runtime_env().memory_pool);
        let read = self
            .searcher
            .read_spans(ids, &matches.columns, |batch| spans.add(&batch));
        read.await?;
        let FoundSpans {
            mut whole,
            mut matching,
        } = spans;
        let hits = found.into_iter().filter_map(|trace| {
            let overview = whole.overview(trace.trace_id)?;
            let matched = matching.matched(trace.trace_id, self.query.max_span_ids);
            Some(SearchHit {
                trace: overview,
                matched_span_count: matched.count,
                matched_span_ids: matched.ids,
                last_match_nano: matched.last_start_nano,
                longest_match_nano: matched.longest_nano,
                cursor: trace.cursor,
            })
        });
        Ok(hits.collect())
    }

    fn place_of(&self, found: &Found) -> Cursor {
        Cursor::new(self.query, found.key, found.trace_id)
    }

    async fn run(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let state = &self.searcher.state;
        let plan = state.create_physical_plan(plan).await?;
        Ok(execute_stream(plan, state.task_ctx())?)
    }
}
