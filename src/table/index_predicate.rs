//! What a query's filters say of attributes, services, span names, kinds and states, for looking
//! it up in the indexes of files. Pure.
//!
//! Read [`IndexPredicate`]. A condition that is about one key, or about nothing but the
//! operation, is not understood but evaluated: on the distinct values that a file has, by the very
//! expression of the query. So whatever SQL makes of a value holds here too. What is about other
//! things, or about several at once, restricts nothing.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, ScalarFunction};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Operator, Volatility};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::PhysicalExpr;

use super::coalesced::alternatives;
use super::element_test::ElementTest;
use super::stored_literal::nanos_of;
use crate::span::AttributeOutput;
use crate::storage::AttributeScope;

/// The columns that an operation is made of.
const OPERATION_COLUMNS: [&str; 5] = ["service_name", "name", "kind", "status_code", "has_error"];
/// The column that stands for an attribute's text.
const TEXT: &str = "text";
/// The column that stands for an attribute as a number.
const NUMBER: &str = "number";
/// The column that stands for whether there is an attribute.
const EXISTS: &str = "exists";
/// The column that stands for an attribute as JSON.
const JSON: &str = "json";

/// The column that stands for the name of any event of a span.
pub(super) const EVENT_NAME: &str = "event_name";
/// The column that stands for the attributes of any event of a span.
pub(super) const EVENT_ATTRIBUTES: &str = "event_attributes";
/// The column that stands for the attributes of any link of a span.
pub(super) const LINK_ATTRIBUTES: &str = "link_attributes";

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Service, span name, kind and status.
    Operation,
    /// The value of a key.
    Attribute(AttributeScope, String),
}

/// How a subject is judged.
#[derive(Debug, Clone)]
pub(super) enum Test {
    /// Its text is one of these, in any type.
    Texts(Vec<String>),
    /// The expression is true of it.
    Holds(Arc<dyn PhysicalExpr>),
}

/// A condition that a row must meet to pass the filters.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// Any row may pass.
    Unknown,
    /// The time of the row, of which [`super::predicate::SpanPredicate`] knows: a bound that every
    /// row must meet.
    Time,
    /// All of these.
    All(Vec<Condition>),
    /// Any of these.
    Any(Vec<Condition>),
    /// One subject, by its place in [`IndexPredicate::subjects`].
    Of(usize, Test),
}

/// What all filters together say.
#[derive(Debug, Clone)]
pub(super) struct IndexPredicate {
    /// What the conditions are about.
    pub subjects: Vec<Subject>,
    /// The conditions, all of which must hold.
    pub conditions: Vec<Condition>,
}

impl IndexPredicate {
    /// What `filters` say; it holds for at least the rows that pass them.
    pub(super) fn extract(filters: &[Expr]) -> Self {
        let mut predicate = Self {
            subjects: Vec::new(),
            conditions: Vec::new(),
        };
        predicate.conditions = predicate.all(filters.iter().collect(), &Condition::Time);
        predicate
    }

    /// Whether an index can rule anything out.
    pub(super) fn is_useful(&self) -> bool {
        !self.subjects.is_empty()
    }

    /// The number of conditions that are looked up.
    pub(super) fn term_count(&self) -> usize {
        let mut open: Vec<&Condition> = self.conditions.iter().collect();
        let mut count = 0;
        while let Some(condition) = open.pop() {
            match condition {
                Condition::Unknown | Condition::Time => {}
                Condition::All(of) | Condition::Any(of) => open.extend(of),
                Condition::Of(_, Test::Texts(texts)) => count += texts.len(),
                Condition::Of(_, Test::Holds(_)) => count += 1,
            }
        }
        count
    }

    /// What must hold for all of these to be true; bounds of the start time are `time`.
    fn all(&mut self, conjuncts: Vec<&Expr>, time: &Condition) -> Vec<Condition> {
        let mut operation: Option<Expr> = None;
        let mut conditions = Vec::new();
        for conjunct in conjuncts {
            if is_about_time(conjunct) {
                conditions.push(time.clone());
            } else if subject_of(conjunct) == Some(Subject::Operation) {
                // Together they say more than one by one: they are about the same operation.
                operation = Some(match operation {
                    Some(others) => others.and(conjunct.clone()),
                    None => conjunct.clone(),
                });
            } else {
                conditions.push(self.condition(conjunct, false));
            }
        }
        if let Some(operation) = operation {
            conditions.push(self.condition(&operation, false));
        }
        conditions
    }

    /// What must hold for `expr` to be true, or for it to be false where `negated`.
    fn condition(&mut self, expr: &Expr, negated: bool) -> Condition {
        if let Some(subject) = subject_of(expr) {
            let test = match texts_of(expr) {
                Some(texts) if !negated && subject != Subject::Operation => {
                    Some(Test::Texts(texts))
                }
                _ => holds(expr, &subject, negated).ok().map(Test::Holds),
            };
            return match test {
                Some(test) => Condition::Of(self.subject(subject), test),
                None => Condition::Unknown,
            };
        }
        match expr {
            Expr::Alias(alias) => self.condition(&alias.expr, negated),
            Expr::Not(inner) => self.condition(inner, !negated),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (op, negated) {
                // The pruning of files knows of bounds of the whole, not of those of a part that
                // other rows need not meet.
                (Operator::And, false) => {
                    let parts = vec![left.as_ref(), right.as_ref()];
                    Condition::All(self.all(parts, &Condition::Unknown))
                }
                (Operator::Or, true) => Condition::All(vec![
                    self.condition(left, true),
                    self.condition(right, true),
                ]),
                (Operator::Or, false) | (Operator::And, true) => Condition::Any(vec![
                    self.condition(left, negated),
                    self.condition(right, negated),
                ]),
                _ => self.coalesced(expr, negated),
            },
            // That no element passes is not said of any one value.
            Expr::ScalarFunction(call) if !negated => self.element(call),
            _ => self.coalesced(expr, negated),
        }
    }

    /// What must hold for one of several values, of which the first that is there counts.
    fn coalesced(&mut self, expr: &Expr, negated: bool) -> Condition {
        let Some(alternatives) = alternatives(expr) else {
            return Condition::Unknown;
        };
        let alternatives = alternatives.iter();
        let any = alternatives.map(|expr| self.condition(expr, negated));
        // A row that a later value lets through may have an earlier one that does not.
        Condition::All(vec![Condition::Any(any.collect()), Condition::Unknown])
    }

    /// What must hold for some element of a list to pass a test.
    fn element(&mut self, call: &ScalarFunction) -> Condition {
        let Some(element) = ElementTest::extract(call, [TEXT, NUMBER, EXISTS]) else {
            return Condition::Unknown;
        };
        let subject = Subject::Attribute(element.scope, element.key);
        match holds(&element.test, &subject, false) {
            Ok(test) => Condition::Of(self.subject(subject), Test::Holds(test)),
            Err(_) => Condition::Unknown,
        }
    }

    fn subject(&mut self, subject: Subject) -> usize {
        let known = self.subjects.iter().position(|known| *known == subject);
        known.unwrap_or_else(|| {
            self.subjects.push(subject);
            self.subjects.len() - 1
        })
    }
}

/// Whether an expression bounds the start time by a literal, which is then known to the pruning
/// of files.
fn is_about_time(expr: &Expr) -> bool {
    let is_start =
        |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "start_time");
    let is_time =
        |expr: &Expr| matches!(expr, Expr::Literal(value, _) if nanos_of(value).is_some());
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            use Operator::{Eq, Gt, GtEq, Lt, LtEq};
            let ordered = matches!(op, Eq | Gt | GtEq | Lt | LtEq);
            let either = is_start(left) && is_time(right) || is_time(left) && is_start(right);
            ordered && either
        }
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => is_start(expr) && is_time(low) && is_time(high),
        _ => false,
    }
}

/// The one thing that an expression is about, if there is one.
pub(super) fn subject_of(expr: &Expr) -> Option<Subject> {
    let mut subject = None;
    let mut agrees = |found: Subject| match &subject {
        Some(known) => *known == found,
        None => {
            subject = Some(found);
            true
        }
    };
    let walked = expr.apply(|expr| {
        let (is_fine, next) = match expr {
            Expr::Column(column) if column.name == EVENT_NAME => {
                let name = Subject::Attribute(AttributeScope::EventName, String::new());
                (agrees(name), TreeNodeRecursion::Continue)
            }
            Expr::Column(column) => {
                let known = OPERATION_COLUMNS.contains(&column.name.as_str());
                (
                    known && agrees(Subject::Operation),
                    TreeNodeRecursion::Continue,
                )
            }
            Expr::ScalarFunction(function) => match attribute_of(function) {
                Some((scope, key)) => {
                    let found = Subject::Attribute(scope, key.to_string());
                    (agrees(found), TreeNodeRecursion::Jump)
                }
                None => {
                    let volatility = function.func.signature().volatility;
                    (
                        volatility != Volatility::Volatile,
                        TreeNodeRecursion::Continue,
                    )
                }
            },
            Expr::Alias(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::InList(_) => (true, TreeNodeRecursion::Continue),
            _ => (false, TreeNodeRecursion::Continue),
        };
        if is_fine {
            return Ok(next);
        }
        // An error is the way to say that the answer is no.
        datafusion::common::plan_err!("about something else")
    });
    walked.ok()?;
    subject
}

/// The attribute of which a call returns what one of the columns stands for.
fn attribute_of(function: &ScalarFunction) -> Option<(AttributeScope, &str)> {
    column_of(function.func.name())?;
    let [Expr::Column(column), Expr::Literal(key, _)] = function.args.as_slice() else {
        return None;
    };
    let scope = match column.name.as_str() {
        "attributes" => AttributeScope::Span,
        "resource_attributes" => AttributeScope::Resource,
        "scope_attributes" => AttributeScope::Scope,
        EVENT_ATTRIBUTES => AttributeScope::Event,
        LINK_ATTRIBUTES => AttributeScope::Link,
        _ => return None,
    };
    Some((scope, key.try_as_str()??))
}

/// The column that stands for what a function makes of an attribute.
fn column_of(function: &str) -> Option<&'static str> {
    let columns = [
        (AttributeOutput::Text, TEXT),
        (AttributeOutput::Double, NUMBER),
        (AttributeOutput::Exists, EXISTS),
        (AttributeOutput::Json, JSON),
    ];
    let found = columns
        .iter()
        .find(|(output, _)| output.function_name() == function);
    found.map(|(_, column)| *column)
}

/// The texts of which an attribute must be one, where an expression says just that.
fn texts_of(expr: &Expr) -> Option<Vec<String>> {
    let is_text = |expr: &Expr| {
        matches!(expr, Expr::ScalarFunction(function)
            if column_of(function.func.name()) == Some(TEXT) && attribute_of(function).is_some())
    };
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().map(|text| text.map(str::to_string)),
        _ => None,
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Eq if is_text(left) => Some(literal(right)?.into_iter().collect()),
            Operator::Eq if is_text(right) => Some(literal(left)?.into_iter().collect()),
            Operator::Or => {
                let mut texts = texts_of(left)?;
                texts.extend(texts_of(right)?);
                Some(texts)
            }
            _ => None,
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) if is_text(expr) => {
            let texts = list.iter().map(literal).collect::<Option<Vec<_>>>()?;
            Some(texts.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// The columns on which conditions about an attribute are evaluated: its text, its number,
/// whether it is there, and its JSON.
pub(super) fn value_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new(TEXT, DataType::Utf8View, true),
            Field::new(NUMBER, DataType::Float64, true),
            Field::new(EXISTS, DataType::Boolean, false),
            Field::new(JSON, DataType::Utf8View, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The columns on which conditions about an operation are evaluated.
fn operation_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let schema = crate::span::logical_schema();
        let fields = OPERATION_COLUMNS
            .iter()
            .filter_map(|name| schema.field_with_name(name).ok());
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// The expression over the columns of its subject; of `NOT expr` where `negated`.
fn holds(expr: &Expr, subject: &Subject, negated: bool) -> Result<Arc<dyn PhysicalExpr>> {
    let over_columns = expr.clone().transform_down(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(function) if attribute_of(&function).is_some() => {
                let name = column_of(function.func.name()).unwrap_or(TEXT);
                let column = Expr::Column(Column::from_name(name));
                Transformed::new(column, true, TreeNodeRecursion::Jump)
            }
            Expr::Column(column) if column.name == EVENT_NAME => {
                Transformed::yes(Expr::Column(Column::from_name(TEXT)))
            }
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::from_name(column.name))),
            other => Transformed::no(other),
        })
    });
    let mut expr = over_columns.data()?;
    if negated {
        expr = Expr::Not(Box::new(expr));
    }
    let schema = match subject {
        Subject::Operation => operation_schema(),
        Subject::Attribute(..) => value_schema(),
    };
    let schema = DFSchema::try_from(schema)?;
    create_physical_expr(
        &expr,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn what_is_about_several_things_restricts_nothing() {
        for filter in [
            col("name").eq(col("attributes")),
            col("trace_id").eq(lit("x")),
            col("duration_nano").gt(lit(5)),
            col("name").eq(lit("a")).or(col("span_id").eq(lit("x"))),
        ] {
            let predicate = IndexPredicate::extract(std::slice::from_ref(&filter));
            let condition = &predicate.conditions[0];
            let restricts = match condition {
                Condition::Any(of) => of.iter().all(|c| !matches!(c, Condition::Unknown)),
                other => !matches!(other, Condition::Unknown),
            };
            assert!(!restricts, "{filter}: {condition:?}");
        }
    }

    #[test]
    fn conditions_on_the_operation_are_judged_together() {
        // As types are coerced before filters come here.
        let text = |text: &str| lit(ScalarValue::Utf8View(Some(text.into())));
        let filters = [
            col("service_name").eq(text("cart")),
            col("trace_id").not_eq(text("x")),
            col("name").like(text("GET%")),
        ];
        let predicate = IndexPredicate::extract(&filters);
        assert_eq!(predicate.subjects, [Subject::Operation]);
        assert_eq!(predicate.conditions.len(), 2);
        assert_eq!(predicate.term_count(), 1);
    }
}
