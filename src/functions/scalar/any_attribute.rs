//! `any_attribute`: whether an attribute of a span's events or links passes a test.
//!
//! Read [`AnyAttributeFunc`]. Its arguments but the first are literals, so that what plans a scan
//! can read them.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::regexp_is_match_scalar;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::json_lookup::text_views;
use crate::error::Error;
use crate::search::{AttributeTest, AttributeValue};
use crate::span::{JsonLookup, render_value};

/// The name of the function.
pub const ANY_ATTRIBUTE: &str = "any_attribute";

/// `any_attribute(events, key, test, value, …)`: whether one of the elements has the key with a
/// value that passes the test. Never NULL: a span without events or links has none that passes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AnyAttributeFunc {
    signature: Signature,
}

impl Default for AnyAttributeFunc {
    fn default() -> Self {
        Self {
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

/// A regular expression that matches a text as a whole or not at all.
pub fn whole_match(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

impl ScalarUDFImpl for AnyAttributeFunc {
    fn name(&self) -> &str {
        ANY_ATTRIBUTE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [list, key, test, values @ ..] = &arguments.args[..] else {
            return exec_err!("any_attribute takes events or links, a key, a test and its values");
        };
        let (Some(key), Some(test)) = (literal_text(key), literal_text(test)) else {
            return exec_err!("the key and the test of any_attribute are constant texts");
        };
        let test = attribute_test(test, values)?;
        let list = list.to_array(arguments.number_rows)?;
        Ok(ColumnarValue::Array(rows_with(&list, key, &test)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                DOC_SECTION_OTHER,
                "Whether one of a span's events, or of its links, has an attribute whose value \
                 passes a test.",
                "any_attribute(events, key, test, value)",
            )
            .with_sql_example(
                "select any_attribute([named_struct('attributes', '{\"level\":\"warn\"}')], 'level', '=', 'warn') as warned;\n\
                 +--------+\n| warned |\n+--------+\n| true   |\n+--------+",
            )
            .with_argument("events", "The column `events` or `links`.")
            .with_argument("key", "The attribute's key, whole: dots in it are part of it.")
            .with_argument(
                "test",
                "One of `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `^=` (starts with), `=~` (a regular \
                 expression matches the whole value), `exists`.",
            )
            .with_argument(
                "value",
                "What the test compares with: a text or a number; several for `in`, none for `exists`.",
            )
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

fn literal_text(value: &ColumnarValue) -> Option<&str> {
    match value {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten(),
        ColumnarValue::Array(_) => None,
    }
}

/// The test that these arguments say.
fn attribute_test(test: &str, values: &[ColumnarValue]) -> Result<AttributeTest> {
    let values = values.iter().map(attribute_value);
    let mut values = values.collect::<Result<Vec<_>>>()?;
    let test = test.to_lowercase();
    if test == "in" {
        return Ok(AttributeTest::In(values));
    }
    let value = values.pop();
    let number = || value.as_ref().and_then(AttributeValue::as_number);
    let text = || value.as_ref().map(AttributeValue::to_text);
    let test = match test.as_str() {
        _ if !values.is_empty() => None,
        "exists" => value.is_none().then_some(AttributeTest::Exists),
        "=" => value.clone().map(AttributeTest::Equal),
        "!=" | "<>" => value.clone().map(AttributeTest::NotEqual),
        "<" => number().map(AttributeTest::Less),
        "<=" => number().map(AttributeTest::LessOrEqual),
        ">" => number().map(AttributeTest::Greater),
        ">=" => number().map(AttributeTest::GreaterOrEqual),
        "^=" => text().map(AttributeTest::Prefix),
        "=~" => text().map(AttributeTest::Matches),
        _ => None,
    };
    test.ok_or_else(|| {
        let message = "any_attribute takes one of the tests =, !=, <, <=, >, >=, in, ^=, =~ and \
                       exists, and values that go with it";
        Error::invalid_input(message).into()
    })
}

fn attribute_value(value: &ColumnarValue) -> Result<AttributeValue> {
    let ColumnarValue::Scalar(value) = value else {
        return exec_err!("the values of any_attribute are constants");
    };
    if let Some(Some(text)) = value.try_as_str() {
        return Ok(text.into());
    }
    let value = match value {
        ScalarValue::Boolean(Some(value)) => (*value).into(),
        value if value.data_type().is_integer() => match value.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(number)) => number.into(),
            _ => return exec_err!("a value of any_attribute is NULL"),
        },
        value if value.data_type().is_numeric() => match value.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(Some(number)) => number.into(),
            _ => return exec_err!("a value of any_attribute is NULL"),
        },
        other => return exec_err!("any_attribute compares with texts and numbers, not {other}"),
    };
    Ok(value)
}

/// Which lists have an element that passes.
fn rows_with(list: &ArrayRef, key: &str, test: &AttributeTest) -> Result<ArrayRef> {
    let Some(lists) = list.as_list_opt::<i32>() else {
        // A file without the column: NULL in every row.
        if list.null_count() == list.len() || list.data_type().is_null() {
            return Ok(Arc::new(BooleanArray::from(vec![false; list.len()])));
        }
        return exec_err!("any_attribute takes a list, got {}", list.data_type());
    };
    let elements = lists.values().as_struct_opt();
    let Some(objects) = elements.and_then(|all| all.column_by_name("attributes")) else {
        return exec_err!("any_attribute takes a list of events or links");
    };
    // Offsets of a slice need not begin at zero.
    let offsets = lists.value_offsets();
    let first = offsets.first().map_or(0, |offset| *offset as usize);
    let last = offsets.last().map_or(0, |offset| *offset as usize);
    let passing = passing(&objects.slice(first, last - first), key, test)?;
    let rows = (0..lists.len()).map(|row| {
        let (from, to) = (
            offsets[row] as usize - first,
            offsets[row + 1] as usize - first,
        );
        lists.is_valid(row) && passing[from..to].contains(&true)
    });
    let rows: Vec<bool> = rows.collect();
    Ok(Arc::new(BooleanArray::from(rows)))
}

/// Which sets of attributes pass.
fn passing(objects: &ArrayRef, key: &str, test: &AttributeTest) -> Result<Vec<bool>> {
    let objects = text_views(objects)?;
    let lookup = JsonLookup::new(key);
    let values = (0..objects.len()).map(|index| {
        let object = objects.is_valid(index).then(|| objects.value(index));
        object.and_then(|object| lookup.find(object))
    });
    if *test == AttributeTest::Exists {
        return Ok(values.map(|value| value.is_some()).collect());
    }
    let values = values.map(|value| value.and_then(render_value));
    let AttributeTest::Matches(pattern) = test else {
        let passing =
            values.map(|value| value.is_some_and(|text| test.admits(&text) == Some(true)));
        return Ok(passing.collect());
    };
    let texts: StringArray = values.collect();
    let matches = regexp_is_match_scalar(&texts, &whole_match(pattern), None)?;
    Ok(matches
        .iter()
        .map(|matched| matched == Some(true))
        .collect())
}
