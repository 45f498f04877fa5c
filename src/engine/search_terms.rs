//! What a search asks of spans, as expressions over `spans`.
//!
//! Read [`terms`]. Conditions become the expressions SQL text would become, columns and
//! `attribute(…)`, so that the index, typed columns and pruning apply; no text is ever pasted.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::compute::regexp_is_match_scalar;
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::logical_expr::expr_fn::binary_expr;
use datafusion::logical_expr::{Expr, Operator, ScalarUDF, col, lit};

use crate::error::{Error, Result};
use crate::functions::scalar::{AnyAttributeFunc, AttributeFunc, whole_match};
use crate::search::{
    AttributeCondition, AttributeScope, AttributeTest, AttributeValue, Condition, SpanName,
    TraceQuery,
};
use crate::span::AttributeOutput;

/// What is asked of spans besides their time, each as an expression.
pub(super) fn terms(query: &TraceQuery) -> Result<Vec<Expr>> {
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

pub(super) fn all_of(terms: impl IntoIterator<Item = Expr>) -> Expr {
    joined(terms.into_iter().collect(), Expr::and).unwrap_or_else(|| lit(true))
}

pub(super) fn any_of(terms: impl IntoIterator<Item = Expr>) -> Option<Expr> {
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
