//! A search as expressions and plans over `spans`.
//!
//! Read [`SearchPlan`]. Conditions become the expressions SQL text would become, columns and
//! `attribute(…)`, so that the index, typed columns and pruning apply; no text is ever pasted.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::compute::regexp_is_match_scalar;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::functions_aggregate::expr_fn::{bool_or, count, max};
use datafusion::logical_expr::expr_fn::binary_expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Operator, ScalarUDF, TableSource, col, lit,
};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::prelude::coalesce;

use crate::error::{Error, Result};
use crate::functions::scalar::{AnyAttributeFunc, AttributeFunc, whole_match};
use crate::search::{
    AttributeCondition, AttributeScope, AttributeTest, AttributeValue, Condition, Cursor, Matching,
    SearchOrder, SpanName, TraceQuery,
};
use crate::span::{AttributeOutput, TraceId};
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

    /// The traces of the newest matching spans in a window, a row a span, the newest first.
    pub(super) fn newest_spans(&self, window: TimeWindow, fetch: usize) -> Result<LogicalPlan> {
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.filter(self.matching(window))?;
        let plan = plan.project(vec![col("trace_id"), col("start_time")])?;
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

    /// What is read of the spans of found traces: [`SUMMARY_COLUMNS`], then whether the span
    /// matches.
    pub(super) fn summary(&self, state: &SessionState) -> Result<SpanColumns> {
        let columns = SUMMARY_COLUMNS.into_iter().map(col);
        let columns = columns.chain([self.matching(self.range).alias(MATCHES)]);
        let plan = LogicalPlanBuilder::scan("spans", Arc::clone(&self.spans), None)?;
        let plan = plan.project(columns.collect::<Vec<_>>())?.build()?;
        // As a query's expressions are: what attributes are compared with decides how they are
        // read.
        let (analyzer, options) = (state.analyzer(), state.config_options());
        let analyzed = analyzer.execute_and_check(plan, options, |_, _| {})?;
        let LogicalPlan::Projection(projection) = analyzed else {
            return Err(Error::internal("expressions over spans are no projection"));
        };
        let (spans, props) = (projection.input.schema(), state.execution_props());
        let context = PhysicalPlanningContext::default();
        let columns = projection.expr.iter().map(|expr| {
            let name = expr.schema_name().to_string();
            let expr = create_physical_expr(expr, spans, props, &context)?;
            Ok(ProjectionExpr::new(expr, name))
        });
        Ok(SpanColumns::try_new(columns.collect::<Result<_>>()?)?)
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

fn all_of(terms: impl IntoIterator<Item = Expr>) -> Expr {
    joined(terms.into_iter().collect(), Expr::and).unwrap_or_else(|| lit(true))
}

fn any_of(terms: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    joined(terms.into_iter().collect(), Expr::or)
}

/// Terms joined in pairs and pairs of pairs: many of them make no deep expression.
fn joined(mut terms: Vec<Expr>, join: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    while terms.len() > 1 {
        let mut pairs = Vec::with_capacity(terms.len().div_ceil(2));
        let mut rest = terms.into_iter();
        while let Some(first) = rest.next() {
            pairs.push(match rest.next() {
                Some(second) => join(first, second),
                None => first,
            });
        }
        terms = pairs;
    }
    terms.pop()
}

/// What is asked of spans besides their time, each as an expression.
fn terms(query: &TraceQuery) -> Result<Vec<Expr>> {
    let mut terms = Vec::new();
    if let Some(service) = &query.service_name {
        terms.push(col("service_name").eq(lit(service.as_str())));
    }
    match &query.span_name {
        Some(SpanName::Exact(name)) => terms.push(col("name").eq(lit(name.as_str()))),
        Some(SpanName::Prefix(prefix)) => {
            terms.push(starts_with(col("name"), lit(prefix.as_str())));
        }
        None => {}
    }
    if let Some(kind) = query.kind {
        terms.push(col("kind").eq(lit(kind.name())));
    }
    if let Some(code) = query.status_code {
        terms.push(col("status_code").eq(lit(code.name())));
    }
    let least = query.min_duration_nano;
    let least = least.map(|nano| col("duration_nano").gt_eq(lit(nano)));
    let most = query.max_duration_nano;
    let most = most.map(|nano| col("duration_nano").lt_eq(lit(nano)));
    // Both ends together are one condition: a span within them.
    terms.extend(least.into_iter().chain(most).reduce(Expr::and));
    let attributes = Attributes::default();
    if let Some(condition) = &query.condition {
        for term in condition.terms() {
            terms.push(attributes.condition(term)?);
        }
    }
    Ok(terms)
}

/// Makes expressions of conditions on attributes.
struct Attributes {
    text: Arc<ScalarUDF>,
    exists: Arc<ScalarUDF>,
    any: Arc<ScalarUDF>,
}

impl Default for Attributes {
    fn default() -> Self {
        let attribute = |output| Arc::new(ScalarUDF::from(AttributeFunc::new(output)));
        Self {
            text: attribute(AttributeOutput::Text),
            exists: attribute(AttributeOutput::Exists),
            any: Arc::new(ScalarUDF::from(AnyAttributeFunc::default())),
        }
    }
}

impl Attributes {
    /// The expression of a condition; recursion goes as deep as a valid condition does.
    fn condition(&self, condition: &Condition) -> Result<Expr> {
        Ok(match condition {
            Condition::Attribute(attribute) => self.attribute(attribute)?,
            Condition::And(all) => {
                let all = all.iter().map(|inner| self.condition(inner));
                all_of(all.collect::<Result<Vec<_>>>()?)
            }
            Condition::Or(any) => {
                let any = any.iter().map(|inner| self.condition(inner));
                let any = any.collect::<Result<Vec<_>>>()?;
                any_of(any).unwrap_or_else(|| lit(false))
            }
            Condition::Not(inner) => Expr::IsNotTrue(Box::new(self.condition(inner)?)),
        })
    }

    fn attribute(&self, attribute: &AttributeCondition) -> Result<Expr> {
        use AttributeScope::{Any, Event, Link, Resource, Scope, Span};
        let AttributeCondition { scope, key, test } = attribute;
        if let AttributeTest::Matches(pattern) = test {
            check_pattern(pattern)?;
        }
        let of_object = |column: &str| self.test(column, key, test);
        let of_list = |column: &str| self.any_test(column, key, test);
        Ok(match scope {
            Span => of_object("attributes"),
            Resource => of_object("resource_attributes"),
            Scope => of_object("scope_attributes"),
            Event => of_list("events"),
            Link => of_list("links"),
            Any => of_object("attributes")
                .or(of_object("resource_attributes"))
                .or(of_object("scope_attributes"))
                .or(of_list("events"))
                .or(of_list("links")),
        })
    }

    /// A test of one key of the elements of a list.
    fn any_test(&self, column: &str, key: &str, test: &AttributeTest) -> Expr {
        let (name, values) = match test {
            AttributeTest::Exists => ("exists", Vec::new()),
            AttributeTest::Equal(value) => ("=", vec![literal(value)]),
            AttributeTest::NotEqual(value) => ("!=", vec![literal(value)]),
            AttributeTest::Less(number) => ("<", vec![lit(*number)]),
            AttributeTest::LessOrEqual(number) => ("<=", vec![lit(*number)]),
            AttributeTest::Greater(number) => (">", vec![lit(*number)]),
            AttributeTest::GreaterOrEqual(number) => (">=", vec![lit(*number)]),
            AttributeTest::In(values) => ("in", values.iter().map(literal).collect()),
            AttributeTest::Prefix(prefix) => ("^=", vec![lit(prefix.as_str())]),
            AttributeTest::Matches(pattern) => ("=~", vec![lit(pattern.as_str())]),
        };
        let mut arguments = vec![col(column), lit(key), lit(name)];
        arguments.extend(values);
        self.any.call(arguments)
    }

    /// A test of one key of a column of JSON objects.
    fn test(&self, column: &str, key: &str, test: &AttributeTest) -> Expr {
        let arguments = vec![col(column), lit(key)];
        if *test == AttributeTest::Exists {
            return self.exists.call(arguments);
        }
        let value = self.text.call(arguments);
        match test {
            AttributeTest::Exists => value.is_not_null(),
            AttributeTest::Equal(other) => value.eq(literal(other)),
            AttributeTest::NotEqual(other) => value.not_eq(literal(other)),
            AttributeTest::Less(number) => value.lt(lit(*number)),
            AttributeTest::LessOrEqual(number) => value.lt_eq(lit(*number)),
            AttributeTest::Greater(number) => value.gt(lit(*number)),
            AttributeTest::GreaterOrEqual(number) => value.gt_eq(lit(*number)),
            AttributeTest::In(values) => one_of(&value, values),
            AttributeTest::Prefix(prefix) => starts_with(value, lit(prefix.as_str())),
            AttributeTest::Matches(pattern) => {
                binary_expr(value, Operator::RegexMatch, lit(whole_match(pattern)))
            }
        }
    }
}

/// Numbers are compared as numbers and the rest as texts, so they are two lists.
fn one_of(value: &Expr, values: &[AttributeValue]) -> Expr {
    let numbers: Vec<Expr> = values
        .iter()
        .filter_map(AttributeValue::as_number)
        .map(lit)
        .collect();
    let texts: Vec<Expr> = values
        .iter()
        .filter(|value| value.as_number().is_none())
        .map(|value| lit(value.to_text()))
        .collect();
    let lists = [numbers, texts].into_iter().filter(|list| !list.is_empty());
    lists
        .map(|list| value.clone().in_list(list, false))
        .reduce(Expr::or)
        .unwrap_or_else(|| lit(false))
}

fn literal(value: &AttributeValue) -> Expr {
    match value.as_number() {
        Some(number) => lit(number),
        None => lit(value.to_text()),
    }
}

/// Refuses a regular expression before a scan would.
fn check_pattern(pattern: &str) -> Result<()> {
    let none = StringArray::from(Vec::<&str>::new());
    // On its own first: `a)|(b` would be valid within the parentheses around it.
    for regex in [pattern, &whole_match(pattern)] {
        regexp_is_match_scalar(&none, regex, None).map_err(|error| {
            let what = "a condition's regular expression is not valid";
            Error::invalid_input(format!("{what}: pattern=`{pattern}`")).with_source(error)
        })?;
    }
    Ok(())
}
