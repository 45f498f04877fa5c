//! Stub.
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt};

use crate::ingest::{Format, Rejection};
use crate::{Config, Error, Result, span};

/// A lake.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Lake {
    url: String,
}

#[allow(missing_docs)]
impl Lake {
    pub async fn open(url: &str, _config: Config) -> Result<Self> {
        if url == "memory:///stub" {
            return Ok(Self { url: url.into() });
        }
        Err(Error::not_found(format!("no lake at `{url}`")))
    }
    pub async fn create(url: &str, _config: Config) -> Result<Self> {
        Ok(Self { url: url.into() })
    }
    pub fn url(&self) -> &str {
        &self.url
    }
    pub fn session(&self) -> Result<Session> {
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
        let table = MemTable::try_new(span::logical_schema(), vec![vec![]])?;
        context.register_table("spans", Arc::new(table))?;
        Ok(Session { context })
    }
    pub async fn ingest(
        &self,
        _sources: Vec<Source>,
        _progress: Arc<IngestProgress>,
    ) -> Result<IngestReport> {
        Ok(IngestReport::default())
    }
    pub async fn append(&self, _batch: RecordBatch) -> Result<AppendOutcome> {
        Ok(AppendOutcome::default())
    }
    pub async fn compact(
        &self,
        _progress: Arc<dyn Fn(CompactionStep) + Send + Sync>,
    ) -> Result<CompactionReport> {
        Ok(CompactionReport::default())
    }
    pub async fn expire(&self, _older_than: Duration, _now: SystemTime) -> Result<ExpireReport> {
        Ok(ExpireReport::default())
    }
    pub async fn vacuum(
        &self,
        _older_than: Duration,
        _now: SystemTime,
        _dry_run: bool,
    ) -> Result<VacuumReport> {
        Ok(VacuumReport::default())
    }
    pub async fn info(&self) -> Result<LakeInfo> {
        Ok(LakeInfo::default())
    }
    pub async fn column_sizes(&self) -> Result<Vec<ColumnSize>> {
        Ok(vec![])
    }
}

#[derive(Debug)]
#[allow(missing_docs)]
pub struct Source {
    pub name: String,
    pub kind: SourceKind,
    pub format: Option<Format>,
}

#[derive(Debug)]
#[allow(missing_docs)]
pub enum SourceKind {
    Path(PathBuf),
    Stdin,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct IngestProgress {
    pub bytes_total: AtomicU64,
    pub bytes_read: AtomicU64,
    pub spans: AtomicU64,
    pub rejected: AtomicU64,
    pub files_written: AtomicU64,
    pub committed_spans: AtomicU64,
    /// Set from outside: commit nothing more and return what was committed.
    pub stop: AtomicBool,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct IngestReport {
    pub span_count: u64,
    pub trace_count: u64,
    pub rejected_count: u64,
    pub rejections: Vec<(String, Rejection)>,
    pub rejection_count: u64,
    pub file_count: u64,
    pub commit_count: u64,
    pub bytes_written: u64,
    pub bytes_read: u64,
    pub elapsed: Duration,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct AppendOutcome {
    pub file_count: u64,
    pub bytes_written: u64,
}

#[derive(Debug)]
#[allow(missing_docs)]
pub struct CompactionStep {
    pub done: u64,
    pub total: u64,
    pub message: String,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct CompactionReport {
    pub hour_count: u64,
    pub files_before: u64,
    pub files_after: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub span_count: u64,
    pub duplicate_count: u64,
    pub elapsed: Duration,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct ExpireReport {
    pub hour_count: u64,
    pub file_count: u64,
    pub span_count: u64,
    pub byte_count: u64,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct VacuumReport {
    pub file_count: u64,
    pub byte_count: u64,
    pub paths: Vec<String>,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct LakeInfo {
    pub version: i64,
    pub file_count: u64,
    pub level0_file_count: u64,
    pub hour_count: u64,
    pub span_count: u64,
    pub trace_count: u64,
    pub byte_count: u64,
    pub min_start_nano: Option<i64>,
    pub max_start_nano: Option<i64>,
}

#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct ColumnSize {
    pub name: String,
    pub compressed_bytes: u64,
    pub uncompressed_bytes: u64,
}

#[allow(missing_docs)]
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
}

#[allow(missing_docs)]
impl Session {
    pub async fn query(&self, sql: &str, params: &[(String, ScalarValue)]) -> Result<QueryStream> {
        let mut frame = self.context.sql(sql).await?;
        if !params.is_empty() {
            frame = frame.with_param_values(params.to_vec())?;
        }
        Ok(QueryStream(frame.execute_stream().await?))
    }
    pub async fn explain(&self, sql: &str) -> Result<String> {
        let mut stream = self.query(&format!("EXPLAIN ANALYZE {sql}"), &[]).await?;
        let mut text = String::new();
        while let Some(batch) = stream.next().await {
            text += &arrow::util::pretty::pretty_format_batches(&[batch?])?.to_string();
        }
        Ok(text)
    }
}

#[allow(missing_docs)]
pub struct QueryStream(SendableRecordBatchStream);

#[allow(missing_docs)]
impl QueryStream {
    pub fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx).map_err(Error::from)
    }
}
