//! What is to be known of one trace, for programs: the rows that SQL's functions give.
//!
//! Read [`Lake::trace_rows`]; the other calls are it with its default options. Columns and
//! meanings are those of the function of the same name.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio::time::Instant;

use super::Lake;
use super::trace_lookup::{LookupOptions, MissingFile, TraceLookup};
use crate::error::Result;
use crate::functions::table::{self, Arguments, TraceReader};
use crate::span::{SpanId, TraceId};
use crate::trace::Trace;

/// What is asked of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceQuestion {
    /// Its spans in tree order, with their places: `trace`.
    Tree,
    /// The spans right below one: `children`.
    Children(SpanId),
    /// The span right above one: `parent`.
    Parent(SpanId),
    /// All spans above one, the nearest first: `ancestors`.
    Ancestors(SpanId),
    /// Which service called which: `trace_dependencies`.
    Dependencies,
    /// The trace in one row: `trace_stats`.
    Stats,
    /// The traces reached from it, over so many steps at the most: `related_traces`.
    Related(u64),
}

/// The rows that answer a question.
#[derive(Debug)]
pub struct FoundRows {
    /// None where the trace, or the span, is not in the lake.
    pub rows: RecordBatch,
    /// The files that might have held more spans. None unless the options allow it.
    pub missing: Vec<MissingFile>,
}

impl FoundRows {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Lake {
    /// The answer to a question about a trace, with a time-out, a hint, or from part of the files,
    /// as the options say.
    ///
    /// The time-out is that of the whole call, however many traces it has to look at.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use std::time::Duration;
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::{SpanId, TraceId}};
    /// use tracelake::engine::{LookupOptions, TraceQuestion};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    ///
    /// let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// let question = TraceQuestion::Ancestors(SpanId::parse("a100000000000003")?);
    /// let options = LookupOptions::default()
    ///     .with_time_out(Some(Duration::from_secs(2)))
    ///     .allowing_partial();
    /// let found = lake.trace_rows(id, question, &options).await?;
    /// assert!(found.is_complete());
    /// assert_eq!(found.rows.num_rows(), 2);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn trace_rows(
        &self,
        trace_id: TraceId,
        question: TraceQuestion,
        options: &LookupOptions,
    ) -> Result<FoundRows> {
        let reader = LimitedReader {
            lookup: self.traces(),
            deadline: options.time_out.map(|time| Instant::now() + time),
            options: options.clone(),
            missing: Mutex::default(),
        };
        self.refresh().await?;
        let (function, arguments) = question.call(trace_id);
        let rows = table::rows(function, &reader, &arguments).await?;
        let missing = reader.missing.into_inner();
        Ok(FoundRows {
            rows,
            missing: missing.unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// The spans of a trace in tree order with their places in the tree, as SQL's `trace(id)`; no
    /// rows for a trace that is not in the lake.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// let tree = lake.tree(id).await?;
    /// assert!(tree.num_rows() > 0 && tree.column_by_name("self_time_nano").is_some());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn tree(&self, trace_id: TraceId) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Tree).await
    }

    /// The spans right below a span, in the order of their starts.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::{SpanId, TraceId}};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// # let span = SpanId::parse("a100000000000003")?;
    /// println!("{} spans", lake.children(id, span).await?.num_rows());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn children(&self, trace_id: TraceId, span_id: SpanId) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Children(span_id))
            .await
    }

    /// The span right above a span: one row, or none for a root or an orphan.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::{SpanId, TraceId}};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// # let span = SpanId::parse("a100000000000003")?;
    /// println!("{} spans", lake.parent(id, span).await?.num_rows());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn parent(&self, trace_id: TraceId, span_id: SpanId) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Parent(span_id)).await
    }

    /// The spans above a span, the nearest first, each with its `distance`.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::{SpanId, TraceId}};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// # let span = SpanId::parse("a100000000000003")?;
    /// println!("{} spans", lake.ancestors(id, span).await?.num_rows());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn ancestors(&self, trace_id: TraceId, span_id: SpanId) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Ancestors(span_id))
            .await
    }

    /// Which service called which in a trace, as SQL's `trace_dependencies(id)`.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::{SpanId, TraceId}};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// # let span = SpanId::parse("a100000000000003")?;
    /// println!("{} edges", lake.dependencies(id).await?.num_rows());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn dependencies(&self, trace_id: TraceId) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Dependencies).await
    }

    /// A trace in one row: its root, times and counts, as SQL's `trace_stats(id)`.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::{SpanId, TraceId}};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// # let span = SpanId::parse("a100000000000003")?;
    /// assert_eq!(lake.trace_stats(id).await?.num_rows(), 1);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn trace_stats(&self, trace_id: TraceId) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Stats).await
    }

    /// The traces reached from a trace by links and by the attribute `related.trace_id`, over
    /// `max_depth` steps at the most, as SQL's `related_traces(id, max_depth)`.
    ///
    /// [`prefetch_related`](Self::prefetch_related) reads the nearest of them ahead.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use tracelake::{Config, IngestProgress, Lake, Source, span::TraceId};
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    /// # let id = TraceId::parse("5b1e7f00c0ffee00a11ce00000000001")?;
    /// let related = lake.related(id, 2).await?;
    /// println!("{} traces hang together with it", related.num_rows());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn related(&self, trace_id: TraceId, max_depth: u64) -> Result<RecordBatch> {
        self.answer(trace_id, TraceQuestion::Related(max_depth))
            .await
    }

    async fn answer(&self, trace_id: TraceId, question: TraceQuestion) -> Result<RecordBatch> {
        let options = LookupOptions::default();
        Ok(self.trace_rows(trace_id, question, &options).await?.rows)
    }
}

impl TraceQuestion {
    /// SQL's function for it, and the values it takes.
    fn call(self, trace_id: TraceId) -> (&'static str, Arguments) {
        let (function, span_id, number) = match self {
            Self::Tree => ("trace", None, 0),
            Self::Children(span) => ("children", Some(span), 0),
            Self::Parent(span) => ("parent", Some(span), 0),
            Self::Ancestors(span) => ("ancestors", Some(span), 0),
            Self::Dependencies => ("trace_dependencies", None, 0),
            Self::Stats => ("trace_stats", None, 0),
            Self::Related(max_depth) => ("related_traces", None, max_depth),
        };
        let arguments = Arguments {
            trace_ids: vec![trace_id],
            span_id,
            number,
            ..Arguments::default()
        };
        (function, arguments)
    }
}

/// Reads traces as some options say, within what is left of their time-out.
#[derive(Debug)]
struct LimitedReader<'a> {
    lookup: &'a TraceLookup,
    options: LookupOptions,
    deadline: Option<Instant>,
    missing: Mutex<Vec<MissingFile>>,
}

#[async_trait]
impl TraceReader for LimitedReader<'_> {
    async fn traces(&self, ids: &[TraceId]) -> Result<Vec<Option<Arc<Trace>>>> {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let options = self.options.clone().with_time_out(left);
        let found = self.lookup.find(ids, &options).await?;
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.extend(found.missing);
        Ok(found.traces)
    }
}
