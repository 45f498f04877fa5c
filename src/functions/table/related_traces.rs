//! `related_traces`: the traces that a trace leads to.
//!
//! Read [`RelatedTracesFunc`].

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::{Arguments, Parameter};
use super::span_columns::{nano_time, time_type};
use super::trace_function::TraceFunction;
use super::trace_reader::TraceReader;
use crate::error::Result;
use crate::span::{IdKind, TraceId};
use crate::trace::{ServiceSet, Trace, TraceSummary};

/// Traces that are followed at the most; those beyond are left out.
const MOST_TRACES: usize = 1000;

/// Traces that are read together.
const TRACES_AT_ONCE: usize = 32;

/// How far links are followed where nothing is said.
const DEFAULT_DEPTH: u64 = 3;

/// `related_traces(trace_id [, max_depth])`.
#[derive(Debug)]
pub(super) struct RelatedTracesFunc;

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Boolean, Int64, Utf8View};
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            IdKind::Trace.mark(required("trace_id", Utf8View)),
            required("depth", Int64),
            required("via", Utf8View),
            IdKind::Trace.mark(required("linking_trace_id", Utf8View)),
            IdKind::Span.mark(required("linking_span_id", Utf8View)),
            IdKind::Span.mark(optional("linked_span_id", Utf8View)),
            required("is_found", Boolean),
            optional("root_service", Utf8View),
            optional("root_name", Utf8View),
            optional("start_time", time_type()),
            optional("duration_nano", Int64),
            optional("span_count", Int64),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// A trace that was reached, and from where first.
struct Reached {
    trace_id: TraceId,
    depth: i64,
    via: &'static str,
    linking_trace_id: String,
    linking_span_id: String,
    linked_span_id: Option<String>,
    trace: Option<Arc<Trace>>,
}

/// The traces that one names, but for those seen before.
fn named_by(trace: &Trace, depth: i64, seen: &mut HashSet<TraceId>, reached: &mut Vec<Reached>) {
    let columns = trace.columns();
    for reference in trace.references() {
        if reached.len() >= MOST_TRACES || !seen.insert(reference.trace_id) {
            continue;
        }
        let id = columns.span_id.get(reference.row).copied().unwrap_or(0);
        reached.push(Reached {
            trace_id: reference.trace_id,
            depth,
            via: if reference.span_id.is_some() {
                "link"
            } else {
                "attribute"
            },
            linking_trace_id: trace.id().to_string(),
            linking_span_id: format!("{id:016x}"),
            linked_span_id: reference.span_id.map(|id| id.to_string()),
            trace: None,
        });
    }
}

/// The traces reached from one, breadth first.
async fn reach(
    reader: &dyn TraceReader,
    first: Arc<Trace>,
    max_depth: u64,
) -> Result<Vec<Reached>> {
    let mut seen = HashSet::from([first.id()]);
    let mut reached: Vec<Reached> = Vec::new();
    let mut depth = 0;
    let mut from = vec![first];
    while !from.is_empty() && u64::try_from(depth).is_ok_and(|depth| depth < max_depth) {
        depth += 1;
        let begin = reached.len();
        for trace in &from {
            named_by(trace, depth, &mut seen, &mut reached);
        }
        from.clear();
        for part in reached[begin..].chunks_mut(TRACES_AT_ONCE) {
            let ids: Vec<TraceId> = part.iter().map(|reached| reached.trace_id).collect();
            for (reached, trace) in part.iter_mut().zip(reader.traces(&ids).await?) {
                from.extend(trace.clone());
                reached.trace = trace;
            }
        }
    }
    Ok(reached)
}

fn rows_of(reached: &[Reached]) -> Result<RecordBatch> {
    let texts = |text: &dyn Fn(&Reached) -> Option<String>| -> ArrayRef {
        Arc::new(reached.iter().map(text).collect::<StringViewArray>())
    };
    let summaries: Vec<Option<TraceSummary>> = reached
        .iter()
        .map(|reached| {
            let trace = reached.trace.as_ref()?;
            let services = &mut ServiceSet::default();
            Some(TraceSummary::new(
                &trace.columns(),
                trace.forest(),
                services,
            ))
        })
        .collect();
    let roots: Vec<Option<(&Trace, usize)>> = reached
        .iter()
        .zip(&summaries)
        .map(|(reached, summary)| {
            let (trace, root) = (reached.trace.as_ref()?, summary.as_ref()?.root?);
            Some((trace.as_ref(), trace.forest().row(root as usize)))
        })
        .collect();
    let root_services = roots.iter().map(|root| {
        let (trace, row) = (*root)?;
        let name = trace.service_name(trace.columns().service(row));
        (!name.is_empty()).then_some(name)
    });
    let root_names = roots.iter().map(|root| {
        let (trace, row) = (*root)?;
        Some(trace.name(trace.columns().name(row)))
    });
    let is_found: Vec<bool> = reached
        .iter()
        .map(|reached| reached.trace.is_some())
        .collect();
    let starts = summaries
        .iter()
        .map(|s| Some(s.as_ref()?.start_time_unix_nano));
    let durations = summaries.iter().map(|s| Some(s.as_ref()?.duration_nano()));
    let counts = summaries
        .iter()
        .map(|s| Some(i64::from(s.as_ref()?.span_count)));
    let depths = reached.iter().map(|reached| reached.depth);
    let columns: Vec<ArrayRef> = vec![
        texts(&|reached| Some(reached.trace_id.to_string())),
        Arc::new(Int64Array::from_iter_values(depths)),
        texts(&|reached| Some(reached.via.to_string())),
        texts(&|reached| Some(reached.linking_trace_id.clone())),
        texts(&|reached| Some(reached.linking_span_id.clone())),
        texts(&|reached| reached.linked_span_id.clone()),
        Arc::new(BooleanArray::from(is_found)),
        Arc::new(root_services.collect::<StringViewArray>()),
        Arc::new(root_names.collect::<StringViewArray>()),
        nano_time(starts),
        Arc::new(durations.collect::<Int64Array>()),
        Arc::new(counts.collect::<Int64Array>()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

#[async_trait]
impl TraceFunction for RelatedTracesFunc {
    fn name(&self) -> &'static str {
        "related_traces"
    }

    fn documentation(&self) -> Documentation {
        Documentation::builder(
            DocSection::default(),
            "The traces that a trace leads to, by span links and by the attribute \
             `related.trace_id` (an id, or a list of ids): each once, the nearest first, with the \
             span that names it first. Links are followed in their own direction only, from trace \
             to trace up to `max_depth` steps and 1,000 traces; a trace that is named but not in \
             the lake has `is_found` false.",
            "related_traces(trace_id [, max_depth])",
        )
        .with_sql_example(
            "select trace_id, depth, via, root_service\n\
             from related_traces('5b1e7f00c0ffee00a11ce00000000002');\n\
             +----------------------------------+-------+------+--------------+\n\
             | trace_id                         | depth | via  | root_service |\n\
             +----------------------------------+-------+------+--------------+\n\
             | 5b1e7f00c0ffee00a11ce00000000001 | 1     | link | library      |\n\
             +----------------------------------+-------+------+--------------+",
        )
        .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
        .with_argument("max_depth", "How many steps to go; 3 where not given.")
        .build()
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[
            Parameter::Trace,
            Parameter::Number("max_depth", DEFAULT_DEPTH),
        ]
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn rows(&self, reader: &dyn TraceReader, arguments: &Arguments) -> Result<RecordBatch> {
        let traces = reader.traces(&arguments.trace_ids).await?;
        match traces.into_iter().flatten().next() {
            Some(trace) => rows_of(&reach(reader, trace, arguments.number).await?),
            None => Ok(RecordBatch::new_empty(schema())),
        }
    }
}
