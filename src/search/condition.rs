//! Conditions on the attributes of a span, as plain data.
//!
//! Read [`Condition`], then [`AttributeTest`]: [`AttributeTest::admits`] is the definition of what
//! each test means, whatever evaluates it. As text: `condition_text.rs`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::span::number_of_text;

/// How deep conditions may be nested.
pub(super) const DEEPEST: usize = 64;

/// How many tests a condition may have.
pub(super) const MOST_TESTS: usize = 256;

/// The largest integer up to which a double tells all integers apart.
const EXACT: u64 = 1 << 53;

/// A condition on one span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Some attribute passes a test.
    Attribute(AttributeCondition),
    /// All hold; true where there are none.
    And(Vec<Condition>),
    /// At least one holds; false where there are none.
    Or(Vec<Condition>),
    /// The condition does not hold, be it that the attribute has another value or is absent.
    Not(Box<Condition>),
}

/// A test of the attribute with a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttributeCondition {
    /// Where the attribute may stand.
    #[serde(default)]
    pub scope: AttributeScope,
    /// Its whole key: dots are part of it.
    pub key: String,
    /// What its value must be.
    pub test: AttributeTest,
}

/// Where an attribute may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeScope {
    /// In any of the others, as a tag of Jaeger's search.
    #[default]
    Any,
    /// On the span itself.
    Span,
    /// On the resource that produced it.
    Resource,
    /// On the instrumentation scope.
    Scope,
    /// On one of its events.
    Event,
    /// On one of its links.
    Link,
}

impl AttributeScope {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Any,
        Self::Span,
        Self::Resource,
        Self::Scope,
        Self::Event,
        Self::Link,
    ];

    /// The name as text conditions have it.
    pub fn name(self) -> &'static str {
        ["any", "span", "resource", "scope", "event", "link"][self as usize]
    }

    /// The scope of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|scope| scope.name().eq_ignore_ascii_case(name))
    }
}

/// What an attribute's value must be. An attribute that is absent passes none of these, one that is
/// JSON null only the first.
/// Where several attributes are meant (scope `Any`, events, links), one that passes is enough,
/// for [`AttributeTest::NotEqual`] as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeTest {
    /// It is there.
    Exists,
    /// It equals the value.
    Equal(AttributeValue),
    /// It is there and differs from the value.
    NotEqual(AttributeValue),
    /// It is a number below.
    Less(f64),
    /// It is a number not above.
    LessOrEqual(f64),
    /// It is a number above.
    Greater(f64),
    /// It is a number not below.
    GreaterOrEqual(f64),
    /// It equals one of the values.
    In(Vec<AttributeValue>),
    /// Its text starts so.
    Prefix(String),
    /// The regular expression matches its whole text.
    Matches(String),
}

impl Eq for AttributeTest {}

impl std::hash::Hash for AttributeTest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Exists => {}
            Self::Equal(value) | Self::NotEqual(value) => value.hash(state),
            Self::Less(number)
            | Self::LessOrEqual(number)
            | Self::Greater(number)
            | Self::GreaterOrEqual(number) => number.to_bits().hash(state),
            Self::In(values) => values.hash(state),
            Self::Prefix(text) | Self::Matches(text) => text.hash(state),
        }
    }
}

impl AttributeTest {
    /// Whether a value with this text, as SQL shows it, passes: a string without its quotes,
    /// anything else as JSON. `None` for [`AttributeTest::Matches`], which needs a regular
    /// expression's engine.
    ///
    /// Numbers are ordered as doubles, NaN above all of them and equal to itself, as in SQL.
    pub fn admits(&self, text: &str) -> Option<bool> {
        let compare = |number: &f64| number_of_text(text).map(|value| value.total_cmp(number));
        Some(match self {
            Self::Exists => true,
            Self::Equal(value) => value.equals(text) == Some(true),
            Self::NotEqual(value) => value.equals(text) == Some(false),
            Self::Less(number) => compare(number).is_some_and(|order| order.is_lt()),
            Self::LessOrEqual(number) => compare(number).is_some_and(|order| order.is_le()),
            Self::Greater(number) => compare(number).is_some_and(|order| order.is_gt()),
            Self::GreaterOrEqual(number) => compare(number).is_some_and(|order| order.is_ge()),
            Self::In(values) => values.iter().any(|value| value.equals(text) == Some(true)),
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Matches(_) => return None,
        })
    }
}

/// A value to compare an attribute with.
///
/// Text is compared as text: `"200"` equals the integer 200 and the text `200`, as Jaeger's tags
/// do, but not the double 200.0. Numbers are compared as numbers, with texts that read as one,
/// too. Booleans equal `true` and `false`, also as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// True or false.
    Bool(bool),
    /// An integer. From 2^53 on, where doubles no longer tell integers apart, it is compared as
    /// text.
    Int(i64),
    /// A double.
    Double(f64),
    /// Text.
    Text(String),
}

impl Eq for AttributeValue {}

impl std::hash::Hash for AttributeValue {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Bool(value) => value.hash(state),
            Self::Int(value) => value.hash(state),
            Self::Double(value) => value.to_bits().hash(state),
            Self::Text(value) => value.hash(state),
        }
    }
}

impl AttributeValue {
    /// The number it is compared as, `None` where it is compared as text.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(number) if number.unsigned_abs() < EXACT => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// Its text.
    pub fn to_text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => format!("{value:?}"),
            Self::Text(value) => value.clone(),
        }
    }

    /// Whether an attribute with this text equals the value; `None` where they cannot be
    /// compared, a text with a number.
    fn equals(&self, text: &str) -> Option<bool> {
        match (self, self.as_number()) {
            (_, Some(number)) => number_of_text(text).map(|value| value.total_cmp(&number).is_eq()),
            (Self::Text(value), None) => Some(value == text),
            (value, None) => Some(value.to_text() == text),
        }
    }
}

impl From<&str> for AttributeValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<String> for AttributeValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for AttributeValue {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Condition {
    /// A test of the attribute `key` wherever it stands.
    pub fn attribute(key: impl Into<String>, test: AttributeTest) -> Self {
        Self::attribute_in(AttributeScope::Any, key, test)
    }

    /// A test of the attribute `key` in one scope.
    pub fn attribute_in(
        scope: AttributeScope,
        key: impl Into<String>,
        test: AttributeTest,
    ) -> Self {
        let key = key.into();
        Self::Attribute(AttributeCondition { scope, key, test })
    }

    /// Both this one and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut all) => {
                all.push(other);
                Self::And(all)
            }
            first => Self::And(vec![first, other]),
        }
    }

    /// The conditions of which each must hold.
    pub fn terms(&self) -> Vec<&Self> {
        let mut terms = Vec::new();
        let mut open = vec![self];
        while let Some(condition) = open.pop() {
            match condition {
                Self::And(all) => open.extend(all.iter().rev()),
                other => terms.push(other),
            }
        }
        terms
    }

    /// Refuses what is nested too deeply, has too many tests or numbers that are none.
    pub(super) fn validate(&self) -> Result<()> {
        let mut tests = 0;
        let mut open = vec![(self, 1)];
        while let Some((condition, depth)) = open.pop() {
            if depth > DEEPEST {
                return Err(Error::invalid_input(format!(
                    "the condition is nested deeper than {DEEPEST} levels; write it flatter"
                )));
            }
            match condition {
                Self::Attribute(attribute) => {
                    tests += match &attribute.test {
                        AttributeTest::In(values) => values.len().max(1),
                        _ => 1,
                    };
                }
                Self::And(all) | Self::Or(all) => {
                    open.extend(all.iter().map(|inner| (inner, depth + 1)));
                }
                Self::Not(inner) => open.push((inner, depth + 1)),
            }
        }
        if tests > MOST_TESTS {
            return Err(Error::invalid_input(format!(
                "the condition has more than {MOST_TESTS} tests; ask for less at a time"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_what_they_are_given_as() {
        for (test, text, expected) in [
            (AttributeTest::Equal("200".into()), "200", true),
            (AttributeTest::Equal("200".into()), "200.0", false),
            (AttributeTest::Equal(200.into()), "200.0", true),
            (AttributeTest::Equal(200.into()), "abc", false),
            (AttributeTest::NotEqual(200.into()), "abc", false),
            (AttributeTest::NotEqual("200".into()), "abc", true),
            (AttributeTest::Equal(true.into()), "true", true),
            (AttributeTest::GreaterOrEqual(500.0), "500", true),
            (AttributeTest::Less(500.0), "500", false),
            (AttributeTest::Less(500.0), "", false),
            (AttributeTest::In(vec!["a".into(), 5.into()]), "5.0", true),
            (AttributeTest::Prefix("GET ".into()), "GET /", true),
            (AttributeTest::Exists, "", true),
            (
                AttributeTest::Equal(i64::MAX.into()),
                "9223372036854775807",
                true,
            ),
            (
                AttributeTest::Equal(i64::MAX.into()),
                "9223372036854775806",
                false,
            ),
        ] {
            assert_eq!(test.admits(text), Some(expected), "{test:?} of {text}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut deep = Condition::attribute("k", AttributeTest::Exists);
        assert!(deep.validate().is_ok());
        for _ in 0..DEEPEST {
            deep = Condition::Not(Box::new(deep));
        }
        assert!(deep.validate().is_err());
        let values = (0..1000).map(AttributeValue::Int).collect();
        let wide = Condition::attribute("k", AttributeTest::In(values));
        assert!(wide.validate().is_err());
    }
}
