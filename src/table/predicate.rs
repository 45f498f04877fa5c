//! What a query's filters say about trace ids and time, for skipping files. Pure.
//!
//! Read [`SpanPredicate`]. It is a superset of what the filters admit: whatever is not
//! understood restricts nothing.

use std::collections::BTreeSet;

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::{Expr, Operator};

use super::stored_literal::nanos_of;
use crate::span::TraceId;

/// The traces and the start times that a row must have to pass the filters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SpanPredicate {
    /// The trace ids admitted; `None` admits all.
    pub trace_ids: Option<BTreeSet<TraceId>>,
    /// The least start time admitted.
    pub min_start_nano: i64,
    /// The greatest start time admitted.
    pub max_start_nano: i64,
}

impl SpanPredicate {
    /// Admits every row.
    fn all() -> Self {
        Self {
            trace_ids: None,
            min_start_nano: i64::MIN,
            max_start_nano: i64::MAX,
        }
    }

    /// What all of `filters` together admit.
    pub(super) fn extract(filters: &[Expr]) -> Self {
        filters
            .iter()
            .map(extract)
            .fold(Self::all(), Self::intersect)
    }

    /// Whether nothing is admitted.
    pub(super) fn is_never(&self) -> bool {
        self.min_start_nano > self.max_start_nano
            || self.trace_ids.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn intersect(self, other: Self) -> Self {
        let trace_ids = match (self.trace_ids, other.trace_ids) {
            (Some(a), Some(b)) => Some(a.intersection(&b).copied().collect()),
            (a, b) => a.or(b),
        };
        Self {
            trace_ids,
            min_start_nano: self.min_start_nano.max(other.min_start_nano),
            max_start_nano: self.max_start_nano.min(other.max_start_nano),
        }
    }

    fn unite(self, other: Self) -> Self {
        if self.is_never() {
            return other;
        }
        if other.is_never() {
            return self;
        }
        let trace_ids = match (self.trace_ids, other.trace_ids) {
            (Some(a), Some(b)) => Some(a.union(&b).copied().collect()),
            _ => None,
        };
        Self {
            trace_ids,
            min_start_nano: self.min_start_nano.min(other.min_start_nano),
            max_start_nano: self.max_start_nano.max(other.max_start_nano),
        }
    }

    fn of_ids(trace_ids: BTreeSet<TraceId>) -> Self {
        Self {
            trace_ids: Some(trace_ids),
            ..Self::all()
        }
    }

    fn of_time(op: Operator, nanos: i64) -> Self {
        let mut predicate = Self::all();
        match op {
            Operator::Eq => {
                predicate.min_start_nano = nanos;
                predicate.max_start_nano = nanos;
            }
            // Saturating at the ends of time loses no row: the bound stays too wide by one.
            Operator::Gt => predicate.min_start_nano = nanos.saturating_add(1),
            Operator::GtEq => predicate.min_start_nano = nanos,
            Operator::Lt => predicate.max_start_nano = nanos.saturating_sub(1),
            Operator::LtEq => predicate.max_start_nano = nanos,
            _ => {}
        }
        predicate
    }
}

fn extract(filter: &Expr) -> SpanPredicate {
    match filter {
        Expr::Alias(alias) => extract(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => extract(left).intersect(extract(right)),
            Operator::Or => extract(left).unite(extract(right)),
            op => match (
                column_name(left),
                literal(right),
                column_name(right),
                literal(left),
            ) {
                (Some(name), Some(value), _, _) => comparison(name, *op, value),
                (_, _, Some(name), Some(value)) => match op.swap() {
                    Some(op) => comparison(name, op, value),
                    None => SpanPredicate::all(),
                },
                _ => SpanPredicate::all(),
            },
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) if column_name(expr) == Some("trace_id") => {
            let ids = list.iter().map(|item| literal(item).and_then(trace_ids_of));
            match ids.collect::<Option<Vec<_>>>() {
                Some(ids) => SpanPredicate::of_ids(ids.into_iter().flatten().collect()),
                None => SpanPredicate::all(),
            }
        }
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => match (column_name(expr), literal(low), literal(high)) {
            (Some(name), Some(low), Some(high)) => comparison(name, Operator::GtEq, low)
                .intersect(comparison(name, Operator::LtEq, high)),
            _ => SpanPredicate::all(),
        },
        _ => SpanPredicate::all(),
    }
}

fn comparison(name: &str, op: Operator, value: &ScalarValue) -> SpanPredicate {
    match (name, op) {
        ("trace_id", Operator::Eq) => match trace_ids_of(value) {
            Some(ids) => SpanPredicate::of_ids(ids),
            None => SpanPredicate::all(),
        },
        ("start_time", op) => match nanos_of(value) {
            Some(nanos) => SpanPredicate::of_time(op, nanos),
            None => SpanPredicate::all(),
        },
        _ => SpanPredicate::all(),
    }
}

/// The ids equal to a literal: one, or none for the empty text and NULL; `None` where the
/// literal is not understood.
fn trace_ids_of(value: &ScalarValue) -> Option<BTreeSet<TraceId>> {
    if value.is_null() {
        return Some(BTreeSet::new());
    }
    match value.try_as_str()?? {
        "" => Some(BTreeSet::new()),
        text => Some(BTreeSet::from([TraceId::parse(text).ok()?])),
    }
}

fn column_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(Column { name, .. }) => Some(name),
        Expr::Alias(alias) => column_name(&alias.expr),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    const A: &str = "0000000000000000000000000000000a";
    const B: &str = "0000000000000000000000000000000b";

    fn ids(texts: &[&str]) -> Option<BTreeSet<TraceId>> {
        Some(
            texts
                .iter()
                .map(|text| TraceId::parse(text).unwrap())
                .collect(),
        )
    }

    fn time(nanos: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(
            Some(nanos),
            Some("UTC".into()),
        ))
    }

    #[test]
    fn ids_are_united_by_or_and_intersected_by_and() {
        let either = col("trace_id").eq(lit(A)).or(lit(B).eq(col("trace_id")));
        assert_eq!(
            SpanPredicate::extract(std::slice::from_ref(&either)).trace_ids,
            ids(&[A, B])
        );
        let both = [
            either,
            col("trace_id").in_list(vec![lit(B), lit("")], false),
        ];
        assert_eq!(SpanPredicate::extract(&both).trace_ids, ids(&[B]));
        let never = [col("trace_id").eq(lit(A)), col("trace_id").eq(lit(B))];
        assert!(SpanPredicate::extract(&never).is_never());
    }

    #[test]
    fn what_is_not_understood_restricts_nothing() {
        for filter in [
            col("trace_id").eq(lit(A)).or(col("name").eq(lit("x"))),
            col("trace_id").not_eq(lit(A)),
            col("trace_id").in_list(vec![lit(A)], true),
            col("trace_id").in_list(vec![lit(A), col("span_id")], false),
        ] {
            assert_eq!(SpanPredicate::extract(&[filter]), SpanPredicate::all());
        }
    }

    #[test]
    fn times_bound_from_both_sides() {
        let filters = [
            col("start_time").gt(time(10)),
            time(20).gt_eq(col("start_time")),
        ];
        let predicate = SpanPredicate::extract(&filters);
        assert_eq!(
            (predicate.min_start_nano, predicate.max_start_nano),
            (11, 20)
        );
        let between = [col("start_time").between(time(3), time(2))];
        assert!(SpanPredicate::extract(&between).is_never());
    }
}
