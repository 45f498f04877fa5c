//! `trace`: the spans of one or some traces in tree order, with their places in the tree.
//!
//! Read [`TraceFunc`].

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{Arguments, MAX_CLOCK_SKEW, Parameter};
use super::span_columns::{span_rows, spans_with};
use super::trace_function::TraceFunction;
use super::trace_reader::TraceReader;
use super::tree_columns::{tree_columns, tree_fields};
use crate::error::Result;
use crate::trace::Trace;

/// `trace(trace_id)` or `trace([trace_ids])`.
#[derive(Debug)]
pub(super) struct TraceFunc;

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| spans_with(tree_fields()));
    Arc::clone(&SCHEMA)
}

/// The spans of a trace in tree order: the columns of `spans`, then those of the tree.
fn trace_rows(trace: &Trace) -> Result<RecordBatch> {
    let nodes: Vec<usize> = (0..trace.forest().len()).collect();
    span_rows(trace, &nodes, tree_columns(trace)?, &schema())
}

#[async_trait]
impl TraceFunction for TraceFunc {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn documentation(&self) -> Documentation {
        Documentation::builder(
            DocSection::default(),
            "The spans of a trace, or of several, in tree order: all columns of `spans`, and those \
             of `span_tree`: depth, path, child_count, self_time_nano, is_orphan, \
             on_critical_path, findings and more. Copies of a span that was sent twice are left \
             out.",
            "trace(trace_id [, max_clock_skew])",
        )
        .with_sql_example(
            "select depth, service_name, name, self_time_nano, on_critical_path\n\
             from trace('5b1e7f00c0ffee00a11ce00000000001');\n\
             +-------+--------------+-------------------+----------------+------------------+\n\
             | depth | service_name | name              | self_time_nano | on_critical_path |\n\
             +-------+--------------+-------------------+----------------+------------------+\n\
             | 0     | library      | POST /loans       | 18000000       | true             |\n\
             | 1     | library      | GET               | 4000000        | true             |\n\
             | 2     | catalog      | GET /books/{isbn} | 8500000        | true             |\n\
             | 3     | catalog      | SELECT books      | 21500000       | true             |\n\
             | 1     | library      | send loans        | 6000000        | true             |\n\
             +-------+--------------+-------------------+----------------+------------------+",
        )
        .with_argument(
            "trace_id",
            "The trace's id, 32 hex digits or 16; or a list of ids: `trace(['…', '…'])`.",
        )
        .with_argument("max_clock_skew", MAX_CLOCK_SKEW)
        .build()
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::Traces, Parameter::Duration("max_clock_skew")]
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn rows(&self, reader: &dyn TraceReader, arguments: &Arguments) -> Result<RecordBatch> {
        let traces = reader.traces(&arguments.trace_ids).await?;
        let traces = traces.into_iter().flatten();
        let rows = traces.map(|trace| trace_rows(arguments.corrected(trace)?.as_ref()));
        Ok(concat_batches(
            &schema(),
            &rows.collect::<Result<Vec<_>>>()?,
        )?)
    }
}
