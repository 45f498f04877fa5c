//! Functions over traces by their ids, as tables that SQL plans with.
//!
//! Read [`TraceFunction`]: it says what the rows are. Reading traces, constants and parameters as
//! arguments, and how it stands in a plan are the same for all of them, and are here.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Documentation, Expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{FutureExt, TryStreamExt};

use super::arguments::{Arguments, Call, Parameter};
use super::trace_reader::{CountedReader, TraceReader};

/// Traces that are read together first where a call names many, and at the most: the more are read
/// together, the fewer times is each file read.
const FIRST_TRACES: usize = 32;
const MOST_TRACES: usize = 512;

/// Spans of the traces that are read together, going by those that were read before.
const SPANS_AT_ONCE: usize = 32 << 10;

/// A table function over traces by their ids.
///
/// A trace that is not in the lake gives no rows, and so does a NULL or empty id, which dashboards
/// send for a variable that is not set; a malformed id is an error.
#[async_trait]
pub trait TraceFunction: std::fmt::Debug + Send + Sync {
    /// What SQL calls it.
    fn name(&self) -> &'static str;

    /// Its manual.
    fn documentation(&self) -> Documentation;

    /// What it takes, in order.
    fn parameters(&self) -> &'static [Parameter];

    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// Its rows. Where it takes a list of traces it may be called for parts of it.
    async fn rows(
        &self,
        reader: &dyn TraceReader,
        arguments: &Arguments,
    ) -> crate::Result<RecordBatch>;
}

/// A [`TraceFunction`] as DataFusion calls it.
#[derive(Debug)]
pub(super) struct TraceTableFunc {
    function: Arc<dyn TraceFunction>,
    reader: Arc<dyn TraceReader>,
}

impl TraceTableFunc {
    pub(super) fn new(function: Arc<dyn TraceFunction>, reader: Arc<dyn TraceReader>) -> Self {
        Self { function, reader }
    }
}

impl TableFunctionImpl for TraceTableFunc {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let function = &self.function;
        let call = Call::read(function.name(), function.parameters(), arguments.exprs())?;
        Ok(Arc::new(TraceTable {
            function: Arc::clone(function),
            reader: Arc::clone(&self.reader),
            schema: function.schema(),
            call,
        }))
    }
}

/// One call as a table.
#[derive(Debug)]
struct TraceTable {
    function: Arc<dyn TraceFunction>,
    reader: Arc<dyn TraceReader>,
    schema: SchemaRef,
    call: Call,
}

#[async_trait]
impl TableProvider for TraceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = TraceRows {
            function: Arc::clone(&self.function),
            reader: Arc::clone(&self.reader),
            schema: self.schema(),
            arguments: self.call.arguments()?.clone(),
        };
        streamed(Arc::new(rows), projection, limit)
    }
}

/// A plan that asks for the rows of a call when it is run.
pub(super) fn streamed(
    rows: Arc<dyn PartitionStream>,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::clone(rows.schema());
    let plan = StreamingTableExec::try_new(schema, vec![rows], projection, None, false, limit)?;
    Ok(Arc::new(plan))
}

/// The rows of one call; the traces are read when they are asked for.
#[derive(Debug)]
struct TraceRows {
    function: Arc<dyn TraceFunction>,
    reader: Arc<dyn TraceReader>,
    schema: SchemaRef,
    arguments: Arguments,
}

impl PartitionStream for TraceRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let takes_list = self.function.parameters().contains(&Parameter::Traces);
        let at_once = if takes_list { FIRST_TRACES } else { usize::MAX };
        let (function, reader) = (Arc::clone(&self.function), Arc::clone(&self.reader));
        let begin = (self.arguments.clone(), at_once);
        let batches = futures::stream::try_unfold(begin, move |(mut left, at_once)| {
            let (function, reader) = (Arc::clone(&function), Arc::clone(&reader));
            async move {
                if left.trace_ids.is_empty() {
                    return Ok::<_, DataFusionError>(None);
                }
                let part = left.split_first(at_once);
                let reader = CountedReader::new(reader.as_ref());
                let rows = function.rows(&reader, &part).await?;
                let at_once = traces_at_once(part.trace_ids.len(), reader.span_count());
                Ok(Some((rows, (left, at_once))))
            }
            .boxed()
        });
        let most = context.session_config().batch_size().max(1);
        let batches = batches
            .map_ok(move |batch| futures::stream::iter(pieces(batch, most).map(Ok)))
            .try_flatten();
        let schema = Arc::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

/// How many traces to read together after so many of so many spans.
fn traces_at_once(trace_count: usize, span_count: usize) -> usize {
    let fit = SPANS_AT_ONCE.saturating_mul(trace_count) / span_count.max(1);
    fit.clamp(1, MOST_TRACES.min(2 * trace_count))
}

/// A batch in pieces of at most so many rows.
fn pieces(batch: RecordBatch, most: usize) -> impl Iterator<Item = RecordBatch> + Send {
    let starts = (0..batch.num_rows()).step_by(most);
    starts.map(move |start| batch.slice(start, most.min(batch.num_rows() - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_traces_are_read_together_while_they_are_small() {
        let mut at_once = FIRST_TRACES;
        let mut sizes = Vec::new();
        for spans_of_one in [20, 20, 0, 20, 20, 1_000, 1_000_000, 1_000_000, 10] {
            at_once = traces_at_once(at_once, at_once * spans_of_one);
            sizes.push(at_once);
        }
        assert_eq!(sizes, [64, 128, 256, 512, 512, 32, 1, 1, 2]);
    }
}
