//! What a query's filters say about the rows of a catalogue. Pure.
//!
//! Read [`CatalogPredicate`].

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{BinaryExpr, InList, Like};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

use super::stored_literal::nanos_of;
use crate::storage::Hour;

/// The hours, scopes, keys and values that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CatalogPredicate {
    first_hour: Hour,
    last_hour: Hour,
    scopes: Option<BTreeSet<String>>,
    keys: Option<BTreeSet<String>>,
    /// What every value starts with.
    pub(super) value_prefix: String,
}

impl CatalogPredicate {
    /// What all of `filters` admit; whatever is not understood restricts nothing.
    pub(super) fn extract(filters: &[Expr]) -> Self {
        let mut predicate = Self {
            first_hour: Hour(i32::MIN),
            last_hour: Hour(i32::MAX),
            scopes: None,
            keys: None,
            value_prefix: String::new(),
        };
        for filter in filters.iter().flat_map(split_conjunction) {
            predicate.restrict(filter);
        }
        predicate
    }

    /// The hours whose spans count.
    pub(super) fn hours(&self) -> RangeInclusive<Hour> {
        self.first_hour..=self.last_hour
    }

    /// Whether no hour is asked for.
    pub(super) fn is_never(&self) -> bool {
        self.first_hour > self.last_hour
    }

    pub(super) fn admits_scope(&self, scope: &str) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.contains(scope))
    }

    pub(super) fn admits_key(&self, key: &str) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains(key))
    }

    fn restrict(&mut self, filter: &Expr) {
        if let Some((op, nano)) = hour_bound(filter) {
            let hour = Hour::of_nano(nano);
            let before = Hour::of_nano(nano.saturating_sub(1));
            let (first, last) = match op {
                Operator::Gt | Operator::GtEq => (hour, Hour(i32::MAX)),
                Operator::Lt => (Hour(i32::MIN), before),
                Operator::LtEq => (Hour(i32::MIN), hour),
                _ => (hour, hour),
            };
            self.first_hour = self.first_hour.max(first);
            self.last_hour = self.last_hour.min(last);
        } else if let Some((name, texts)) = texts(filter) {
            let set = match name {
                "scope" => &mut self.scopes,
                "key" => &mut self.keys,
                "value" if texts.len() == 1 => {
                    self.value_prefix = texts.into_iter().next().unwrap_or_default();
                    return;
                }
                _ => return,
            };
            *set = Some(match set.take() {
                Some(known) => known.intersection(&texts).cloned().collect(),
                None => texts,
            });
        } else if let Some(prefix) = value_prefix(filter) {
            self.value_prefix = prefix;
        }
    }
}

/// The operator and the time of a comparison of `hour` with a literal.
pub(super) fn hour_bound(filter: &Expr) -> Option<(Operator, i64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else {
        return None;
    };
    use Operator::{Eq, Gt, GtEq, Lt, LtEq};
    let (column, op, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
        _ => return None,
    };
    let bounds = column.name == "hour" && matches!(op, Eq | Gt | GtEq | Lt | LtEq);
    bounds.then_some((op, nanos_of(value)?))
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Literal(value, _) => Some(ScalarValue::try_as_str(value)??.to_string()),
        _ => None,
    }
}

/// A column and the texts of which it must be one.
fn texts(filter: &Expr) -> Option<(&str, BTreeSet<String>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Eq => match (column(left), column(right)) {
                (Some(name), None) => Some((name, [text(right)?].into())),
                (None, Some(name)) => Some((name, [text(left)?].into())),
                _ => None,
            },
            Operator::Or => {
                let (name, mut all) = texts(left)?;
                let (other, more) = texts(right)?;
                all.extend(more);
                (name == other).then_some((name, all))
            }
            _ => None,
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => Some((column(expr)?, list.iter().map(text).collect::<Option<_>>()?)),
        _ => None,
    }
}

/// What `value` starts with, by `LIKE 'x%'` or `starts_with`.
fn value_prefix(filter: &Expr) -> Option<String> {
    match filter {
        Expr::Like(Like {
            negated: false,
            expr,
            pattern,
            case_insensitive: false,
            ..
        }) if column(expr) == Some("value") => {
            let pattern = text(pattern)?;
            let fixed = pattern.split(['%', '_', '\\']).next()?;
            Some(fixed.to_string())
        }
        Expr::ScalarFunction(call) if call.func.name() == "starts_with" => {
            match call.args.as_slice() {
                [value, prefix] if column(value) == Some("value") => text(prefix),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    fn time(nanos: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(
            Some(nanos),
            Some("UTC".into()),
        ))
    }

    #[test]
    fn times_choose_the_hours_they_touch() {
        let hour = 3_600_000_000_000;
        let half = hour / 2;
        let filters = [
            col("hour").gt_eq(time(hour + half)),
            col("hour").lt(time(3 * hour)).and(col("key").eq(lit("k"))),
        ];
        let predicate = CatalogPredicate::extract(&filters);
        assert_eq!(predicate.hours(), Hour(1)..=Hour(2));
        assert!(predicate.admits_key("k") && !predicate.admits_key("l"));
        assert!(predicate.admits_scope("span") && !predicate.is_never());
    }

    #[test]
    fn a_pattern_prunes_by_its_fixed_start() {
        for (filter, prefix) in [
            (col("value").like(lit("ab_c%")), "ab"),
            (col("value").eq(lit("x")), "x"),
            (col("value").not_like(lit("x%")), ""),
            (col("key").like(lit("x%")), ""),
        ] {
            assert_eq!(CatalogPredicate::extract(&[filter]).value_prefix, prefix);
        }
    }
}
