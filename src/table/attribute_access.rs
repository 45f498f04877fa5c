//! Maps expressions over attributes of spans to the columns in which a file stores them.
//!
//! Read [`AttributeAccess`]. In a file an attribute is either wholly in columns of its own, one
//! for each type of its values, or wholly in the JSON remainder; so each file is asked anew.
//! Comparisons with literals become comparisons of stored values: that is what lets statistics
//! prune and dictionaries and late materialization apply. They mean exactly what the functions
//! `attribute`, `attribute_json` and `attribute_double` say of the JSON.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, in_list, lit,
};
use datafusion::physical_plan::PhysicalExpr;

use super::attribute_decode::AttributeDecoding;
use crate::span::{
    AttributeColumn, AttributeOutput, AttributeType, attribute_column_name, column, exact_double,
    exact_int,
};

type Expr = Arc<dyn PhysicalExpr>;

/// Integers up to this size are doubles exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How a file stores the attributes of spans.
#[derive(Debug)]
pub(super) struct AttributeAccess {
    stored: SchemaRef,
    /// Whether any attribute has a column.
    has_columns: bool,
}

/// A call of a function of attributes, over the columns of its key.
struct Call {
    output: AttributeOutput,
    /// In the order of [`AttributeType`]; at least one.
    columns: Vec<(AttributeType, Expr)>,
}

impl AttributeAccess {
    /// To the files of a schema.
    pub(super) fn new(stored: &SchemaRef) -> Self {
        let has_columns = stored.index_of(column::ATTRIBUTES_ORDER).is_ok();
        Self {
            stored: Arc::clone(stored),
            has_columns,
        }
    }

    /// All attributes as one object, where they do not lie in one column.
    pub(super) fn whole(&self) -> Result<Option<Expr>> {
        if !self.has_columns {
            return Ok(None);
        }
        let mut inputs = vec![
            self.stored(column::ATTRIBUTES)?,
            self.stored(column::ATTRIBUTES_ORDER)?,
        ];
        let mut columns = Vec::new();
        for field in self.stored.fields() {
            if let Some(column) = AttributeColumn::parse(field.name()) {
                inputs.push(self.stored(field.name())?);
                columns.push(column);
            }
        }
        Ok(Some(AttributeDecoding::Whole(columns).of(inputs)))
    }

    /// `expr` over stored columns, if it is one that this file answers from them.
    pub(super) fn rewrite(&self, expr: &Expr) -> Result<Option<Expr>> {
        if !self.has_columns {
            return Ok(None);
        }
        if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
            return self.function(expr, function);
        }
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            return self.comparison(binary);
        }
        if let Some(list) = expr.downcast_ref::<InListExpr>() {
            return self.in_list(list);
        }
        if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            return self.is_null(is_null.arg(), true);
        }
        if let Some(is_null) = expr.downcast_ref::<IsNotNullExpr>() {
            return self.is_null(is_null.arg(), false);
        }
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return self.cast(cast);
        }
        Ok(None)
    }

    fn stored(&self, name: &str) -> Result<Expr> {
        Ok(Arc::new(Column::new_with_schema(name, &self.stored)?))
    }

    fn function(&self, expr: &Expr, function: &ScalarFunctionExpr) -> Result<Option<Expr>> {
        if let Some(call) = self.call(expr) {
            return call.value().map(Some);
        }
        // The key has no column: all its values are in the remainder.
        if key_of(function).is_some() {
            let remainder = self.stored(column::ATTRIBUTES)?;
            let arguments = vec![remainder, Arc::clone(&function.args()[1])];
            return Arc::clone(expr).with_new_children(arguments).map(Some);
        }
        Ok(None)
    }

    /// The call that `expr` is, if its key has columns.
    fn call(&self, expr: &Expr) -> Option<Call> {
        let (output, key) = key_of(expr.downcast_ref::<ScalarFunctionExpr>()?)?;
        let mut columns = Vec::new();
        for value_type in AttributeType::ALL {
            let name = attribute_column_name(key, value_type);
            if let Ok(field) = self.stored.field_with_name(&name) {
                let mut column = self.stored(&name).ok()?;
                // A column that the scan does not know of is read as another kind of text.
                if *field.data_type() != value_type.data_type() {
                    column = Arc::new(CastExpr::new(column, value_type.data_type(), None));
                }
                columns.push((value_type, column));
            }
        }
        (!columns.is_empty()).then_some(Call { output, columns })
    }

    /// `call op literal`, either way round.
    fn comparison(&self, expr: &BinaryExpr) -> Result<Option<Expr>> {
        let (left, op, right) = (expr.left(), *expr.op(), expr.right());
        let (call, op, literal) = match (as_literal(left), as_literal(right)) {
            (None, Some(literal)) => (self.call(left), op, literal),
            (Some(literal), None) => match op.swap() {
                Some(op) => (self.call(right), op, literal),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(call) = call else {
            return Ok(None);
        };
        if let Some(compared) = call.compare(op, literal) {
            return Ok(Some(compared));
        }
        // Of several columns only one can hold the value: where none of them does, the
        // comparison is not true, and what it is costs no look at the value.
        let (AttributeOutput::Text, Operator::Eq, [_, _, ..]) =
            (call.output, op, &call.columns[..])
        else {
            return Ok(None);
        };
        let may_be = call.any_equal(std::slice::from_ref(literal));
        let exact = binary(call.value()?, op, lit(literal.clone()));
        Ok(may_be.map(|may_be| binary(may_be, Operator::And, exact)))
    }

    fn in_list(&self, list: &InListExpr) -> Result<Option<Expr>> {
        let Some(call) = self.call(list.expr()) else {
            return Ok(None);
        };
        let literals = list.list().iter().map(|item| as_literal(item).cloned());
        let Some(literals) = literals.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let [(value_type, column)] = &call.columns[..] else {
            let (AttributeOutput::Text, false) = (call.output, list.negated()) else {
                return Ok(None);
            };
            let may_be = call.any_equal(&literals);
            let exact = in_list(call.value()?, list.list().to_vec(), &false, &self.stored)?;
            return Ok(may_be.map(|may_be| binary(may_be, Operator::And, exact)));
        };
        let mut values = Vec::with_capacity(literals.len());
        for literal in &literals {
            match stored_value(call.output, *value_type, literal) {
                StoredValue::Equal(value) => values.push(lit(value)),
                StoredValue::Never => {}
                StoredValue::Unknown => return Ok(None),
            }
        }
        if values.is_empty() {
            return Ok(Some(where_not_null(column, list.negated())));
        }
        in_list(Arc::clone(column), values, &list.negated(), &self.stored).map(Some)
    }

    fn is_null(&self, arg: &Expr, is_null: bool) -> Result<Option<Expr>> {
        let Some(call) = self.call(arg) else {
            return Ok(None);
        };
        let has = |value_type| call.columns.iter().any(|(t, _)| *t == value_type);
        let from_columns = match call.output {
            AttributeOutput::Json => true,
            // JSON null is no text.
            AttributeOutput::Text => !has(AttributeType::Json),
            AttributeOutput::Double => {
                !has(AttributeType::Json) && !has(AttributeType::Text) && !has(AttributeType::Bool)
            }
            AttributeOutput::Exists => return Ok(Some(lit(!is_null))),
        };
        if from_columns {
            return Ok(Some(call.is_null(is_null)));
        }
        let value = call.value()?;
        Ok(Some(if is_null {
            Arc::new(IsNullExpr::new(value))
        } else {
            Arc::new(IsNotNullExpr::new(value))
        }))
    }

    /// A cast of the text of an attribute to the type in which it is stored is its value.
    fn cast(&self, cast: &CastExpr) -> Result<Option<Expr>> {
        let Some(call) = self.call(cast.expr()) else {
            return Ok(None);
        };
        let [(value_type, column)] = &call.columns[..] else {
            return Ok(None);
        };
        let column = Arc::clone(column);
        Ok(match (call.output, value_type, cast.cast_type()) {
            (AttributeOutput::Text, AttributeType::Int, DataType::Int64)
            | (AttributeOutput::Text, AttributeType::Double, DataType::Float64)
            | (AttributeOutput::Text, AttributeType::Bool, DataType::Boolean) => Some(column),
            (AttributeOutput::Text, AttributeType::Int, DataType::Float64) => {
                Some(Arc::new(CastExpr::new(column, DataType::Float64, None)))
            }
            _ => None,
        })
    }
}

/// The output and the key of a call over the attributes of spans with a key that is known.
fn key_of(function: &ScalarFunctionExpr) -> Option<(AttributeOutput, &str)> {
    let output = AttributeOutput::of_function(function.fun().name())?;
    let [attributes, key] = function.args() else {
        return None;
    };
    let attributes = attributes.downcast_ref::<Column>()?;
    if attributes.name() != column::ATTRIBUTES {
        return None;
    }
    Some((output, as_literal(key)?.try_as_str()??))
}

impl Call {
    /// The call's value.
    fn value(&self) -> Result<Expr> {
        let column = |index: usize| Arc::clone(&self.columns[index].1);
        let types: Vec<AttributeType> = self.columns.iter().map(|(t, _)| *t).collect();
        Ok(match (self.output, &types[..]) {
            (AttributeOutput::Exists, _) => self.is_null(false),
            (AttributeOutput::Text, [AttributeType::Text])
            | (AttributeOutput::Json, [AttributeType::Json])
            | (AttributeOutput::Double, [AttributeType::Double]) => column(0),
            (AttributeOutput::Double, [AttributeType::Int]) => {
                Arc::new(CastExpr::new(column(0), DataType::Float64, None))
            }
            _ => {
                let inputs = self.columns.iter().map(|(_, column)| Arc::clone(column));
                AttributeDecoding::One(self.output, types.clone()).of(inputs.collect())
            }
        })
    }

    /// Whether no column has a value, or whether one has.
    fn is_null(&self, is_null: bool) -> Expr {
        let tests = self.columns.iter().map(|(_, column)| -> Expr {
            if is_null {
                Arc::new(IsNullExpr::new(Arc::clone(column)))
            } else {
                Arc::new(IsNotNullExpr::new(Arc::clone(column)))
            }
        });
        let op = if is_null { Operator::And } else { Operator::Or };
        tests
            .reduce(|all, test| binary(all, op, test))
            .unwrap_or_else(|| lit(is_null))
    }

    /// The comparison with a literal as one of the only column, if there is one that means
    /// the same.
    fn compare(&self, op: Operator, literal: &ScalarValue) -> Option<Expr> {
        use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let [(value_type, column)] = &self.columns[..] else {
            return None;
        };
        match op {
            Eq | NotEq => match stored_value(self.output, *value_type, literal) {
                StoredValue::Equal(value) => Some(binary(Arc::clone(column), op, lit(value))),
                StoredValue::Never => Some(where_not_null(column, op == NotEq)),
                StoredValue::Unknown => None,
            },
            Lt | LtEq | Gt | GtEq => {
                let bound = match (self.output, value_type) {
                    (AttributeOutput::Text, AttributeType::Text)
                        if literal.data_type() == DataType::Utf8View && !literal.is_null() =>
                    {
                        literal.clone()
                    }
                    (AttributeOutput::Double, AttributeType::Double) => match literal {
                        ScalarValue::Float64(Some(_)) => literal.clone(),
                        _ => return None,
                    },
                    (AttributeOutput::Double, AttributeType::Int) => int_bound(op, literal)?,
                    _ => return None,
                };
                Some(binary(Arc::clone(column), op, lit(bound)))
            }
            _ => None,
        }
    }

    /// Whether any column holds one of these; true at least where the attribute, as text, is
    /// one of them. `None` where that cannot be said.
    fn any_equal(&self, literals: &[ScalarValue]) -> Option<Expr> {
        let mut tests = Vec::new();
        for (value_type, column) in &self.columns {
            // What the text of JSON is cannot be said of its column.
            if *value_type == AttributeType::Json {
                tests.push(Arc::new(IsNotNullExpr::new(Arc::clone(column))) as Expr);
                continue;
            }
            for literal in literals {
                match stored_value(self.output, *value_type, literal) {
                    StoredValue::Equal(value) => {
                        tests.push(binary(Arc::clone(column), Operator::Eq, lit(value)));
                    }
                    // False, but NULL where the attribute is, lest its negation be true.
                    StoredValue::Never => tests.push(where_not_null(column, false)),
                    StoredValue::Unknown => return None,
                }
            }
        }
        tests
            .into_iter()
            .reduce(|any, test| binary(any, Operator::Or, test))
    }
}

/// The value of a column that is equal to a literal as a function shows it.
enum StoredValue {
    Equal(ScalarValue),
    /// No value of the column is.
    Never,
    /// Cannot be said.
    Unknown,
}

fn stored_value(
    output: AttributeOutput,
    value_type: AttributeType,
    literal: &ScalarValue,
) -> StoredValue {
    use StoredValue::{Equal, Never, Unknown};
    let found = |value: Option<ScalarValue>| value.map_or(Never, Equal);
    match output {
        AttributeOutput::Text => {
            let (Some(Some(text)), DataType::Utf8View) =
                (literal.try_as_str(), literal.data_type())
            else {
                return Unknown;
            };
            match value_type {
                AttributeType::Text => Equal(literal.clone()),
                AttributeType::Int => found(exact_int(text).map(ScalarValue::from)),
                // The two zeros are equal as numbers, and not as texts.
                AttributeType::Double if exact_double(text) == Some(0.0) => Unknown,
                AttributeType::Double => found(exact_double(text).map(ScalarValue::from)),
                AttributeType::Bool => match text {
                    "true" => Equal(true.into()),
                    "false" => Equal(false.into()),
                    _ => Never,
                },
                AttributeType::Json => Unknown,
            }
        }
        AttributeOutput::Double => {
            let ScalarValue::Float64(Some(number)) = literal else {
                return Unknown;
            };
            match value_type {
                AttributeType::Double => Equal(literal.clone()),
                AttributeType::Int if number.abs() < EXACT => {
                    found((number.fract() == 0.0).then(|| ScalarValue::from(*number as i64)))
                }
                _ => Unknown,
            }
        }
        AttributeOutput::Json | AttributeOutput::Exists => Unknown,
    }
}

/// The integer that bounds those whose doubles a literal bounds.
fn int_bound(op: Operator, literal: &ScalarValue) -> Option<ScalarValue> {
    let ScalarValue::Float64(Some(number)) = literal else {
        return None;
    };
    if number.is_nan() || number.abs() >= EXACT {
        return None;
    }
    let bound = match op {
        Operator::Lt | Operator::GtEq => number.ceil(),
        _ => number.floor(),
    };
    Some(ScalarValue::from(bound as i64))
}

/// A constant, but NULL where the column is.
fn where_not_null(column: &Expr, value: bool) -> Expr {
    // `x = x` is true or NULL, `x <> x` false or NULL.
    let op = if value { Operator::Eq } else { Operator::NotEq };
    binary(Arc::clone(column), op, Arc::clone(column))
}

fn as_literal(expr: &Expr) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Arc::new(BinaryExpr::new(left, op, right))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::ScalarUDF;

    use super::*;
    use crate::functions::scalar::AttributeFunc;
    use crate::span::{logical_schema, storage_schema};

    /// Access to a file with columns for `text`, `int`, `double`, `bool`, and two for `both`.
    fn access() -> AttributeAccess {
        use AttributeType::{Bool, Double, Int, Text};
        let mut fields: Vec<_> = storage_schema().fields().iter().cloned().collect();
        let order = Field::new(column::ATTRIBUTES_ORDER, DataType::Utf8View, true);
        fields.push(Arc::new(order));
        for (key, value_type) in [
            ("text", Text),
            ("int", Int),
            ("double", Double),
            ("bool", Bool),
            ("both", Text),
            ("both", Int),
        ] {
            let key = key.to_owned();
            fields.push(Arc::new(AttributeColumn { key, value_type }.field()));
        }
        AttributeAccess::new(&Arc::new(Schema::new(fields)))
    }

    fn call(output: AttributeOutput, key: &str) -> Expr {
        let attributes = Column::new_with_schema("attributes", &logical_schema()).unwrap();
        let output_field = Field::new("value", output.data_type(), true);
        Arc::new(ScalarFunctionExpr::new(
            output.function_name(),
            Arc::new(ScalarUDF::from(AttributeFunc::new(output))),
            vec![Arc::new(attributes), lit(key)],
            Arc::new(output_field),
            Arc::default(),
        ))
    }

    fn rewritten(expr: Expr) -> String {
        let rewritten = access().rewrite(&expr).unwrap();
        rewritten.map_or_else(|| "as it is".to_owned(), |expr| expr.to_string())
    }

    fn text(text: &str) -> Expr {
        lit(ScalarValue::Utf8View(Some(text.into())))
    }

    #[test]
    fn an_attribute_is_its_column_or_what_the_remainder_holds() {
        use AttributeOutput::{Double, Exists, Text};
        assert_eq!(rewritten(call(Text, "text")), "attributes.text@33");
        assert_eq!(
            rewritten(call(Double, "int")),
            "CAST(attributes.int#int@34 AS Float64)"
        );
        assert_eq!(
            rewritten(call(Text, "int")),
            "decode_attribute(attributes.int#int@34)"
        );
        assert_eq!(
            rewritten(call(Exists, "both")),
            "attributes.both@37 IS NOT NULL OR attributes.both#int@38 IS NOT NULL"
        );
        assert_eq!(
            rewritten(call(Text, "other")),
            "attribute(attributes@20, other)"
        );
    }

    #[test]
    fn comparisons_with_literals_are_made_of_stored_values() {
        use AttributeOutput::{Double, Text};
        use Operator::{Eq, Gt, GtEq, Lt, NotEq};
        for (output, key, op, literal, expected) in [
            (Text, "text", Lt, text("b"), "attributes.text@33 < b"),
            (Text, "int", Eq, text("500"), "attributes.int#int@34 = 500"),
            (
                Text,
                "int",
                Eq,
                text("05"),
                "attributes.int#int@34 != attributes.int#int@34",
            ),
            (Text, "int", Lt, text("5"), "as it is"),
            (Text, "double", Eq, text("0.0"), "as it is"),
            (
                Text,
                "bool",
                NotEq,
                text("true"),
                "attributes.bool#bool@36 != true",
            ),
            (
                Double,
                "int",
                GtEq,
                lit(499.5),
                "attributes.int#int@34 >= 500",
            ),
            (Double, "int", Gt, lit(499.5), "attributes.int#int@34 > 499"),
            (Double, "int", Eq, lit(1e300), "as it is"),
            (
                Double,
                "double",
                Lt,
                lit(0.5),
                "attributes.double#double@35 < 0.5",
            ),
            (
                Text,
                "both",
                Eq,
                text("5"),
                "(attributes.both@37 = 5 OR attributes.both#int@38 = 5) AND \
                 decode_attribute(attributes.both@37, attributes.both#int@38) = 5",
            ),
        ] {
            let expr = binary(call(output, key), op, literal);
            assert_eq!(rewritten(Arc::clone(&expr)), expected, "{expr}");
        }
    }
}
