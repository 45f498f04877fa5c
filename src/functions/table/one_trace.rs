//! Functions whose rows are made of one trace.
//!
//! Read [`OneTraceFunc`].

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::Documentation;

use super::arguments::{Arguments, Parameter};
use super::trace_function::TraceFunction;
use super::trace_reader::TraceReader;
use crate::error::Result;
use crate::trace::Trace;

/// A function over the one trace that its first argument names: what it is called, what it says
/// of itself, and what it makes of the trace.
#[derive(Debug)]
pub(super) struct OneTraceFunc {
    pub(super) name: &'static str,
    pub(super) documentation: fn() -> Documentation,
    pub(super) parameters: &'static [Parameter],
    pub(super) schema: fn() -> SchemaRef,
    pub(super) rows: fn(&Trace) -> Result<RecordBatch>,
}

#[async_trait]
impl TraceFunction for OneTraceFunc {
    fn name(&self) -> &'static str {
        self.name
    }

    fn documentation(&self) -> Documentation {
        (self.documentation)()
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    fn schema(&self) -> SchemaRef {
        (self.schema)()
    }

    async fn rows(&self, reader: &dyn TraceReader, arguments: &Arguments) -> Result<RecordBatch> {
        match arguments.only_trace(reader).await? {
            Some(trace) => (self.rows)(&trace),
            None => Ok(RecordBatch::new_empty((self.schema)())),
        }
    }
}
