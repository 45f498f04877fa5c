//! What `any_attribute(events, …)` and `any_attribute(links, …)` say of one value, for looking it
//! up in the indexes of files. Pure.
//!
//! Read [`ElementTest`].

use datafusion::common::{Column, ScalarValue};
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_fn::binary_expr;
use datafusion::logical_expr::{Expr, Operator, lit};

use crate::storage::AttributeScope;

/// The function that tests attributes of a list's elements.
const ANY_ATTRIBUTE: &str = "any_attribute";

/// Integers from here on are compared as texts, since doubles do not tell them apart.
const EXACT: i64 = 1 << 53;

/// A test that some value of a key must pass for a call to be true.
#[derive(Debug)]
pub(super) struct ElementTest {
    /// Of events or links.
    pub scope: AttributeScope,
    /// The key.
    pub key: String,
    /// What is true of a value that passes, over its text and number.
    pub test: Expr,
}

impl ElementTest {
    /// What a call says, where it is one of `any_attribute` and can be said of values. The columns
    /// stand for a value's text, its number, and whether it is there.
    pub(super) fn extract(call: &ScalarFunction, columns: [&str; 3]) -> Option<Self> {
        if call.func.name() != ANY_ATTRIBUTE {
            return None;
        }
        let [Expr::Column(list), key, test, values @ ..] = call.args.as_slice() else {
            return None;
        };
        let scope = match list.name.as_str() {
            "events" => AttributeScope::Event,
            "links" => AttributeScope::Link,
            _ => return None,
        };
        let values = values.iter().map(literal).collect::<Option<Vec<_>>>()?;
        let [text, number, exists] = columns.map(|name| Expr::Column(Column::from_name(name)));
        let columns = Columns {
            text,
            number,
            exists,
        };
        Some(Self {
            scope,
            key: text_of(literal(key)?)?,
            test: columns.test(&text_of(literal(test)?)?, &values)?,
        })
    }
}

struct Columns {
    text: Expr,
    number: Expr,
    exists: Expr,
}

impl Columns {
    fn test(&self, test: &str, values: &[&ScalarValue]) -> Option<Expr> {
        if test == "in" {
            let equal = values.iter().map(|value| self.compare(Operator::Eq, value));
            let equal = equal.collect::<Option<Vec<_>>>()?;
            return equal.into_iter().reduce(Expr::or);
        }
        let [value] = values else {
            let asks_only = test == "exists" && values.is_empty();
            return asks_only.then(|| self.exists.clone());
        };
        match test {
            "=" => self.compare(Operator::Eq, value),
            "!=" => self.compare(Operator::NotEq, value),
            "<" => self.numeric(Operator::Lt, value),
            "<=" => self.numeric(Operator::LtEq, value),
            ">" => self.numeric(Operator::Gt, value),
            ">=" => self.numeric(Operator::GtEq, value),
            "^=" => Some(starts_with(self.text.clone(), view(text_of(value)?))),
            "=~" => {
                let whole = view(format!("^(?:{})$", text_of(value)?));
                Some(binary_expr(self.text.clone(), Operator::RegexMatch, whole))
            }
            _ => None,
        }
    }

    fn compare(&self, op: Operator, value: &ScalarValue) -> Option<Expr> {
        match text_of(value) {
            Some(text) => Some(binary_expr(self.text.clone(), op, view(text))),
            None => self.numeric(op, value),
        }
    }

    fn numeric(&self, op: Operator, value: &ScalarValue) -> Option<Expr> {
        let number = match value {
            ScalarValue::Float64(Some(number)) => *number,
            ScalarValue::Int64(Some(number)) if number.unsigned_abs() < EXACT.unsigned_abs() => {
                *number as f64
            }
            _ => return None,
        };
        Some(binary_expr(self.number.clone(), op, lit(number)))
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn text_of(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_string)
}

/// A text of the type that values have.
fn view(text: String) -> Expr {
    lit(ScalarValue::Utf8View(Some(text)))
}
