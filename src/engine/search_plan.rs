//! A search as plans over `spans`, and as columns of spans that are read without a plan.
//!
//! Read [`SearchPlan`].

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::expr_fn::{bool_or, count, max};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource, col, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::prelude::coalesce;

use super::search_terms::{all_of, any_of, terms};
use crate::error::{Error, Result};
use crate::search::{Cursor, Matching, SearchOrder, TraceQuery};
use crate::span::TraceId;
use crate::table::SpanColumns;

/// The column of what an order compares.
pub(super) const KEY: &str = "key";

/// The columns of a span from which its trace is summed up, in their order.
pub(super) const SUMMARY_COLUMNS: [&str; 10] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "service_name",
    "name",
    "kind",
    "start_time",
    "duration_nano",
    "status_code",
    "ingested_at",
];

/// The columns of a span that tell the place of its trace among the newest.
pub(super) const PLACE_COLUMNS: [&str; 2] = ["trace_id", "start_time"];

/// The column of whether a span matches.
const MATCHES: &str = "matches";

/// Start times from one to before another, in nanoseconds; `None` is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeWindow {
    pub(super) from_nano: Option<i64>,
    pub(super) to_nano: Option<i64>,
}

/// What a plan is to find: traces behind a place in the order, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    pub(super) window: TimeWindow,
    pub(super) after: Option<Cursor>,
    pub(super) skip: usize,
    pub(super) fetch: usize,
}

/// Columns of spans, and what those that match fulfil.
pub(super) struct Matches {
    /// The columns asked for, then whether the span matches.
    pub(super) columns: SpanColumns,
    /// Of a span that matches each of these is true.
    pub(super) filters: Vec<Expr>,
}

/// The expressions of one search, made once.
pub(super) struct SearchPlan {
    spans: Arc<dyn TableSource>,
    order: SearchOrder,
    range: TimeWindow,
    /// Each must hold, for one span or for some span each.
    terms: Vec<Expr>,
    same_span: bool,
}

impl SearchPlan {
    /// The search over a source of spans.
    pub(super) fn try_new(query: &TraceQuery, spans: Arc<dyn TableSource>) -> Result<Self> {
        let terms = terms(query)?;
        Ok(Self {
            spans,
            order: query.order,
            range: TimeWindow {
                from_nano: query.from_nano,
                to_nano: query.to_nano,
            },
            same_span: query.matching == Matching::SameSpan || terms.len() < 2,
            terms,
        })
    }

    /// The time range asked for.
    pub(super) fn range(&self) -> TimeWindow {
        self.range
    }

    /// Whether one span decides that its trace is found.
    pub(super) fn is_of_same_span(&self) -> bool {
        self.same_span
    }

    /// Traces with their keys, first ones first.
    pub(super) fn traces(&self, slice: &Slice) -> Result<LogicalPlan> {
        self.page_of(self.grouped(slice.window)?, slice)
    }

    /// The traces of the newest matching spans in a window, a row a span, the newest first:
    /// [`PLACE_COLUMNS`].
    pub(super) fn newest_spans(&self, window: TimeWindow, fetch: usize) -> Result<LogicalPlan> {
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.filter(self.matching(window))?;
        let plan = plan.project(PLACE_COLUMNS.map(col))?;
        // By time alone: that is how the table knows that older spans need not be read.
        let plan = plan.sort_with_limit(vec![col("start_time").sort(false, false)], Some(fetch))?;
        Ok(plan.build()?)
    }

    /// Traces with a matching span in the window, and its place, whether or not other conditions
    /// are fulfilled by other spans of theirs.
    pub(super) fn candidates(&self, slice: &Slice) -> Result<LogicalPlan> {
        self.page_of(self.keyed(slice.window, &[])?, slice)
    }

    fn page_of(&self, mut plan: LogicalPlanBuilder, slice: &Slice) -> Result<LogicalPlan> {
        if let Some(cursor) = slice.after {
            plan = plan.filter(behind(cursor))?;
        }
        let order = vec![
            col(KEY).sort(false, false),
            col("trace_id").sort(true, false),
        ];
        let plan = plan.sort(order)?.limit(slice.skip, Some(slice.fetch))?;
        Ok(plan.build()?)
    }

    /// How many traces there are.
    pub(super) fn total(&self) -> Result<LogicalPlan> {
        let plan = self.grouped(self.range)?;
        let count = count(col("trace_id")).alias("total");
        Ok(plan.aggregate(Vec::<Expr>::new(), vec![count])?.build()?)
    }

    /// Of these traces, those for which every condition is fulfilled by some span.
    pub(super) fn fulfilling(&self, ids: &[TraceId]) -> Result<LogicalPlan> {
        let filter = is_one_of(ids).and(self.matching(self.range));
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.filter(filter)?;
        let plan = plan.aggregate(vec![col("trace_id")], self.flags())?;
        let plan = plan.filter(self.all_flags())?;
        Ok(plan.project(vec![col("trace_id")])?.build()?)
    }

    /// Of these traces, those which a matching span puts before or at a place among the newest.
    pub(super) fn before(&self, ids: &[TraceId], place: &Cursor) -> Result<LogicalPlan> {
        let key = time(place.key);
        let earlier_id = col("trace_id").lt_eq(lit(place.trace_id.to_string()));
        let tie = col("start_time").eq(key.clone()).and(earlier_id);
        let before = col("start_time").gt(key).or(tie);
        let filter = is_one_of(ids).and(before).and(self.matching(self.range));
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.filter(filter)?;
        let plan = plan.aggregate(vec![col("trace_id")], Vec::<Expr>::new())?;
        Ok(plan.build()?)
    }

    /// What is read without planning a query: some columns of spans, then whether the span matches
    /// and starts in the window.
    pub(super) fn matches(
        &self,
        state: &SessionState,
        columns: &[&str],
        window: TimeWindow,
    ) -> Result<Matches> {
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.filter(self.matching(window))?.build()?;
        // As a query's expressions are: what attributes are compared with decides how they are
        // read, and indexes are asked about constants.
        let options = state.config_options();
        let analyzed = state
            .analyzer()
            .execute_and_check(plan, options, |_, _| {})?;
        let LogicalPlan::Filter(filter) = analyzed else {
            return Err(Error::internal("a condition on spans is no filter"));
        };
        let spans = filter.input.schema();
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(spans))
            .with_config_options(Arc::clone(options))
            .build();
        let matching = ExprSimplifier::new(context).simplify(filter.predicate)?;
        let (props, context) = (state.execution_props(), PhysicalPlanningContext::default());
        let mut filters = split_conjunction_owned(matching.clone());
        // Of which no index would know that it always holds.
        filters.retain(|filter| *filter != lit(true));
        let columns = columns.iter().map(|name| (*name, col(*name)));
        let columns = columns.chain([(MATCHES, matching)]).map(|(name, expr)| {
            let expr = create_physical_expr(&expr, spans, props, &context)?;
            Ok(ProjectionExpr::new(expr, name))
        });
        Ok(Matches {
            columns: SpanColumns::try_new(columns.collect::<Result<_>>()?)?,
            filters,
        })
    }

    /// The traces found and their keys, of the matching spans in a window.
    fn grouped(&self, window: TimeWindow) -> Result<LogicalPlanBuilder> {
        if self.same_span {
            return self.keyed(window, &[]);
        }
        let plan = self
            .keyed(window, &self.flags())?
            .filter(self.all_flags())?;
        Ok(plan.project(vec![col("trace_id"), col(KEY)])?)
    }

    /// Traces with matching spans in a window, what the order compares, and more of those spans.
    /// Keys are greatest values, so a trace only moves forward in the order when spans arrive.
    fn keyed(&self, window: TimeWindow, more: &[Expr]) -> Result<LogicalPlanBuilder> {
        let greatest = match self.order {
            SearchOrder::Newest => max(col("start_time")),
            SearchOrder::Slowest => max(col("duration_nano")),
        };
        let key = match self.order {
            SearchOrder::Newest => col("greatest"),
            // Where no matching span has a duration the trace comes last.
            SearchOrder::Slowest => coalesce(vec![col("greatest"), lit(i64::MIN)]),
        };
        let mut aggregates = vec![greatest.alias("greatest")];
        aggregates.extend_from_slice(more);
        let mut columns = vec![col("trace_id"), key.alias(KEY)];
        columns.extend((0..more.len()).map(|index| col(flag(index))));
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.filter(self.matching(window))?;
        let plan = plan.aggregate(vec![col("trace_id")], aggregates)?;
        Ok(plan.project(columns)?)
    }

    /// For each condition whether some span fulfils it.
    fn flags(&self) -> Vec<Expr> {
        let terms = self.terms.iter().enumerate();
        let flags = terms.map(|(index, term)| bool_or(term.clone()).alias(flag(index)));
        flags.collect()
    }

    fn all_flags(&self) -> Expr {
        all_of((0..self.terms.len()).map(|index| col(flag(index))))
    }

    /// Whether a span in the window matches.
    fn matching(&self, window: TimeWindow) -> Expr {
        let terms = self.terms.iter().cloned();
        let fulfilled = if self.same_span {
            all_of(terms)
        } else {
            any_of(terms).unwrap_or_else(|| lit(true))
        };
        all_of(window.filters().into_iter().chain([fulfilled]))
    }
}

impl TimeWindow {
    fn filters(self) -> Vec<Expr> {
        let from = self
            .from_nano
            .map(|nano| col("start_time").gt_eq(time(nano)));
        let to = self.to_nano.map(|nano| col("start_time").lt(time(nano)));
        from.into_iter().chain(to).collect()
    }
}

/// The name of the flag that some span fulfils a term.
fn flag(index: usize) -> String {
    format!("term_{index}")
}

/// Traces behind a cursor.
fn behind(cursor: Cursor) -> Expr {
    let key = match cursor.order() {
        SearchOrder::Newest => time(cursor.key),
        SearchOrder::Slowest => lit(cursor.key),
    };
    let tie = col(KEY).eq(key.clone());
    let later_id = col("trace_id").gt(lit(cursor.trace_id.to_string()));
    col(KEY).lt(key).or(tie.and(later_id))
}

fn is_one_of(ids: &[TraceId]) -> Expr {
    let ids = ids.iter().map(|id| lit(id.to_string())).collect();
    col("trace_id").in_list(ids, false)
}

fn time(nano: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(
        Some(nano),
        Some("UTC".into()),
    ))
}
