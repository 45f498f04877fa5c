//! `service_stats`: what each service did in a trace.
//!
//! Read [`FUNCTION`]; the figures are those of [`ServiceStats`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{DocSection, Documentation};

use super::arguments::Parameter;
use super::one_trace::OneTraceFunc;
use crate::error::Result;
use crate::span::IdKind;
use crate::trace::{NONE, SelfTimes, ServiceStats, Trace, service_stats};

/// `service_stats(trace_id)`.
pub(super) const FUNCTION: OneTraceFunc = OneTraceFunc {
    name: "service_stats",
    documentation,
    parameters: &[Parameter::Trace],
    schema,
    rows: stats,
};

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use DataType::{Int64, Utf8View};
        let mut fields = vec![
            IdKind::Trace.mark(Field::new("trace_id", Utf8View, false)),
            Field::new("service_name", Utf8View, true),
        ];
        let numbers = [
            "span_count",
            "error_count",
            "total_duration_nano",
            "min_duration_nano",
            "max_duration_nano",
            "total_self_time_nano",
            "min_self_time_nano",
            "max_self_time_nano",
        ];
        fields.extend(numbers.map(|name| Field::new(name, Int64, false)));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

fn stats(trace: &Trace) -> Result<RecordBatch> {
    let columns = trace.columns();
    let self_times = SelfTimes::new(&columns, trace.forest());
    let mut stats = service_stats(&columns, trace.forest(), &self_times);
    stats.sort_by(|a, b| {
        let name = |stats: &ServiceStats| (stats.service == NONE, stats.service);
        let by_name = trace
            .service_name(a.service)
            .cmp(trace.service_name(b.service));
        name(a).0.cmp(&name(b).0).then(by_name)
    });
    let id = trace.id().to_string();
    let ids = stats.iter().map(|_| id.as_str());
    let names = stats
        .iter()
        .map(|stats| (stats.service != NONE).then(|| trace.service_name(stats.service)));
    let numbers = |number: fn(&ServiceStats) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(stats.iter().map(number)))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(ids)),
        Arc::new(names.collect::<StringViewArray>()),
        numbers(|stats| stats.span_count.into()),
        numbers(|stats| stats.error_count.into()),
        numbers(|stats| stats.total_nano),
        numbers(|stats| stats.min_nano),
        numbers(|stats| stats.max_nano),
        numbers(|stats| stats.self_total_nano),
        numbers(|stats| stats.self_min_nano),
        numbers(|stats| stats.self_max_nano),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn documentation() -> Documentation {
    Documentation::builder(
        DocSection::default(),
        "What each service did in a trace, one row a service by name: spans, errors, and sum, \
         least and greatest of durations and of self times. Spans that never ended count in \
         `span_count` and `error_count` only; durations below zero count as zero.",
        "service_stats(trace_id)",
    )
    .with_sql_example(
        "select service_name, span_count, total_self_time_nano\n\
         from service_stats('5b1e7f00c0ffee00a11ce00000000001');\n\
         +--------------+------------+----------------------+\n\
         | service_name | span_count | total_self_time_nano |\n\
         +--------------+------------+----------------------+\n\
         | catalog      | 2          | 30000000             |\n\
         | library      | 3          | 28000000             |\n\
         +--------------+------------+----------------------+",
    )
    .with_argument("trace_id", "The trace's id: 32 hex digits, or 16.")
    .build()
}
