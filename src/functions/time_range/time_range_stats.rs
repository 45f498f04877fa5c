//! `time_range_stats`: what the traces of a range of time come to.
//!
//! Read [`TimeRangeStatsFunc`].

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::functions::expr_fn::{coalesce, date_bin, greatest};
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, sum};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{
    Documentation, Expr, ExprFunctionExt, LogicalPlanBuilder, cast, lit,
};
use datafusion::prelude::col;

use super::TraceRelations;
use super::arguments::{TimeRange, quantile_columns, quantiles, scan, time_type};

const NAME: &str = "time_range_stats";

/// One row, or one a step of time.
#[derive(Debug)]
pub(super) struct TimeRangeStatsFunc {
    relations: TraceRelations,
}

impl TimeRangeStatsFunc {
    pub(super) fn new(relations: TraceRelations) -> Self {
        Self { relations }
    }

    /// The part that a service has in each trace: a trace as seen from there.
    fn parts_of(&self, service: &Expr, range: &TimeRange) -> Result<LogicalPlanBuilder> {
        let nano = |time: Expr| cast(time, DataType::Int64);
        let end = greatest(vec![
            col("start_time"),
            coalesce(vec![col("end_time"), col("start_time")]),
        ]);
        let failed = count(lit(1)).filter(col("has_error")).build()?;
        // A trace whose first span there lies before the range is not of the range: spans
        // before it are read too, as far as traces are read whole.
        let hour = lit(datafusion::common::ScalarValue::new_interval_dt(
            0, 3_600_000,
        ));
        let wider = TimeRange {
            from: range.from.clone() - hour.clone(),
            to: range.to.clone() + hour,
        };
        scan("span_tree", &self.relations.span_tree)?
            .filter(
                wider
                    .holds(col("start_time"))
                    .and(col("service_name").eq(service.clone())),
            )?
            .aggregate(
                [col("trace_id")],
                [
                    min(col("start_time")).alias("start_time"),
                    max(end).alias("end_time"),
                    count(lit(1)).alias("span_count"),
                    failed.alias("error_count"),
                ],
            )?
            .project([
                col("start_time"),
                (nano(col("end_time")) - nano(col("start_time"))).alias("duration_nano"),
                col("span_count"),
                col("error_count"),
            ])
    }
}

pub(super) fn documentation() -> Documentation {
    Documentation::builder(
        DOC_SECTION_OTHER,
        "What the traces that begin in a range of time come to: how many traces, spans and \
         errors, and the average and quantiles of the traces' durations. With a service, only \
         its spans count, and a trace begins and ends with them. With a step, a row for each \
         step in which a trace begins.",
        "time_range_stats(from, to [, service [, step]])",
    )
    .with_sql_example(
        "select trace_count, span_count, error_count\n\
         from time_range_stats('2026-11-20', '2026-11-21');\n\
         +-------------+------------+-------------+\n\
         | trace_count | span_count | error_count |\n\
         +-------------+------------+-------------+\n\
         | 2           | 6          | 1           |\n\
         +-------------+------------+-------------+",
    )
    .with_argument(
        "from",
        "The beginning of the range, a time or a text that reads as one.",
    )
    .with_argument("to", "Its end, which is not part of it.")
    .with_argument("service", "A service's name; NULL for all.")
    .with_argument(
        "step",
        "An interval, such as `INTERVAL '5 minutes'`, counted from `from`.",
    )
    .build()
}

impl TableFunctionImpl for TimeRangeStatsFunc {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (range, others) = TimeRange::read(NAME, arguments.exprs(), 4)?;
        let is_given = |argument: &&Expr| match argument {
            Expr::Literal(value, _) => !value.is_null(),
            _ => true,
        };
        let traces = match others.first().filter(is_given) {
            Some(service) => self.parts_of(service, &range)?,
            None => scan("traces", &self.relations.traces)?,
        };
        let step = others.get(1).filter(is_given).map(|step| {
            let step = cast(step.clone(), DataType::Interval(IntervalUnit::MonthDayNano));
            date_bin(step, col("start_time"), range.from.clone()).alias("step_time")
        });
        let has_steps = step.is_some();
        let plan = traces.filter(range.holds(col("start_time")))?.aggregate(
            step,
            [
                count(lit(1)).alias("trace_count"),
                sum(col("span_count")).alias("spans"),
                sum(col("error_count")).alias("errors"),
                avg(col("duration_nano")).alias("avg_duration_nano"),
                quantiles(col("duration_nano")),
            ],
        )?;
        let start = if has_steps {
            col("step_time")
        } else {
            range.from.clone()
        };
        let mut columns = vec![
            cast(start, time_type()).alias("start_time"),
            col("trace_count"),
            coalesce(vec![col("spans"), lit(0i64)]).alias("span_count"),
            coalesce(vec![col("errors"), lit(0i64)]).alias("error_count"),
            col("avg_duration_nano"),
        ];
        columns.extend(quantile_columns("duration_nano"));
        let plan = plan.project(columns)?.build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}
