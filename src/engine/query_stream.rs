//! The rows of a running statement, and what is said when they break off.
//!
//! Read [`QueryStream`]. DataFusion's scan does not say in which file it stumbled over damaged
//! data, and the Parquet library may panic on it: here both become an error that names the files
//! that were being read.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::error::{Error, ErrorKind, Result};

/// Files of a partition that may be at fault: the one at hand, and the one that is opened ahead.
const FILES_AT_HAND: usize = 2;

/// The rows of a running statement. Dropping it cancels the statement.
pub struct QueryStream {
    schema: SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
    /// `None` once it broke off.
    stream: Option<SendableRecordBatchStream>,
}

impl QueryStream {
    /// Begins to run a plan.
    pub(super) fn start(plan: Arc<dyn ExecutionPlan>, task: Arc<TaskContext>) -> Result<Self> {
        let stream = execute_stream(Arc::clone(&plan), task)?;
        Ok(Self {
            schema: stream.schema(),
            plan,
            stream: Some(stream),
        })
    }

    /// The columns of the result.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// All rows. They must fit into memory.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        self.try_collect().await
    }

    /// The error, with the files in which the fault may lie.
    fn name_files(&self, error: Error) -> Error {
        let files = files_at_hand(self.plan.as_ref());
        let files: Vec<_> = files.iter().map(|path| format!("path=`{path}`")).collect();
        if files.is_empty() {
            return error;
        }
        error.with_context(format!("while reading {}", files.join(" or ")))
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| stream.poll_next_unpin(context)));
        let error = match polled {
            Ok(Poll::Ready(Some(Err(error)))) => {
                // Those of the lake itself name the file.
                let is_own = matches!(error.find_root(), DataFusionError::External(_));
                let error = Error::from(error);
                match error.kind() {
                    ErrorKind::Corrupt if !is_own => self.name_files(error),
                    _ => error,
                }
            }
            Ok(Poll::Ready(Some(Ok(batch)))) => return Poll::Ready(Some(Ok(batch))),
            Ok(Poll::Ready(None)) => return Poll::Ready(None),
            Ok(Poll::Pending) => return Poll::Pending,
            Err(panic) => {
                let error = format!("the query broke off: {}", message(panic.as_ref()));
                self.name_files(Error::internal(error))
            }
        };
        self.stream = None;
        Poll::Ready(Some(Err(error)))
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason was given")
}

/// The files that the scans of a plan opened last, as their metrics have it.
fn files_at_hand(plan: &dyn ExecutionPlan) -> BTreeSet<String> {
    let mut opened: BTreeMap<Option<usize>, Vec<String>> = BTreeMap::new();
    for metric in plan.metrics().iter().flat_map(|metrics| metrics.iter()) {
        let mut labels = metric.labels().iter();
        let Some(label) = labels.find(|label| label.name() == "filename") else {
            continue;
        };
        let files = opened.entry(metric.partition()).or_default();
        if !files.iter().any(|file| file == label.value()) {
            files.push(label.value().to_string());
        }
    }
    let last = |files: Vec<String>| files.into_iter().rev().take(FILES_AT_HAND);
    let here = opened.into_values().flat_map(last);
    let below = plan.children().into_iter();
    here.chain(below.flat_map(|child| files_at_hand(child.as_ref())))
        .collect()
}
