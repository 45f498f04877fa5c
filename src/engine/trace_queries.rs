//! What is to be known of one trace, for programs: the rows that SQL's functions give.
//!
//! Read [`Lake::tree`]. Columns and meanings are those of the function of the same name.

use arrow::array::RecordBatch;

use super::Lake;
use crate::error::Result;
use crate::functions::table::{self, Arguments, TraceReader};
use crate::span::{SpanId, TraceId};

impl Lake {
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
        self.function_rows("trace", vec![trace_id], None).await
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
        self.function_rows("children", vec![trace_id], Some(span_id))
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
        self.function_rows("parent", vec![trace_id], Some(span_id))
            .await
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
        self.function_rows("ancestors", vec![trace_id], Some(span_id))
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
        self.function_rows("trace_dependencies", vec![trace_id], None)
            .await
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
        self.function_rows("trace_stats", vec![trace_id], None)
            .await
    }

    async fn function_rows(
        &self,
        function: &str,
        trace_ids: Vec<TraceId>,
        span_id: Option<SpanId>,
    ) -> Result<RecordBatch> {
        self.refresh().await?;
        let arguments = Arguments {
            trace_ids,
            span_id,
            number: 0,
        };
        let reader: &dyn TraceReader = self.traces().as_ref();
        table::rows(function, reader, &arguments).await
    }
}
