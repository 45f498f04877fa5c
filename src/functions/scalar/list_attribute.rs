//! Whether an attribute of a span's events or links passes a test.
//!
//! Read [`ListAttributeFunc`]. It is called by searches, which know events and links as scopes of
//! attributes; in SQL text `span_events` and `span_links` say the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::regexp_is_match_scalar;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::json_lookup::text_views;
use crate::search::AttributeTest;
use crate::span::{JsonLookup, render_value};

/// `any_attribute(events)`: whether one of the elements has the key with a value that passes the
/// test. Key and test belong to the function, so that what plans a scan can read them. Never
/// NULL: a span without events or links has none that passes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ListAttributeFunc {
    key: String,
    test: AttributeTest,
    signature: Signature,
}

impl ListAttributeFunc {
    /// The function for one key and test.
    pub fn new(key: impl Into<String>, test: AttributeTest) -> Self {
        Self {
            key: key.into(),
            test,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    /// Its call on a column of events or links.
    pub fn call(self, list: Expr) -> Expr {
        ScalarUDF::from(self).call(vec![list])
    }

    /// The key looked up.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The test its value must pass.
    pub fn test(&self) -> &AttributeTest {
        &self.test
    }

    /// Whether each of the elements passes.
    fn passing(&self, objects: &ArrayRef) -> Result<Vec<bool>> {
        let objects = text_views(objects)?;
        let lookup = JsonLookup::new(&self.key);
        let values = (0..objects.len()).map(|index| {
            let raw = objects.is_valid(index).then(|| objects.value(index));
            raw.and_then(|object| lookup.find(object))
                .and_then(render_value)
        });
        let AttributeTest::Matches(pattern) = &self.test else {
            return Ok(values
                .map(|value| value.is_some_and(|text| self.test.admits(&text) == Some(true)))
                .collect());
        };
        let texts: StringArray = values.collect();
        let matches = regexp_is_match_scalar(&texts, &whole_match(pattern), None)?;
        Ok(matches
            .iter()
            .map(|matched| matched == Some(true))
            .collect())
    }
}

/// A regular expression that matches a text as a whole or not at all.
pub fn whole_match(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

impl ScalarUDFImpl for ListAttributeFunc {
    fn name(&self) -> &str {
        "any_attribute"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [list] = &arguments.args[..] else {
            return exec_err!("any_attribute takes one argument");
        };
        let list = list.to_array(arguments.number_rows)?;
        let Some(lists) = list.as_list_opt::<i32>() else {
            // A file without the column: NULL in every row.
            if list.null_count() == list.len() || list.data_type().is_null() {
                let none = BooleanArray::from(vec![false; list.len()]);
                return Ok(ColumnarValue::Array(Arc::new(none)));
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
        let passing = self.passing(&objects.slice(first, last - first))?;
        let rows = (0..lists.len()).map(|row| {
            let (from, to) = (
                offsets[row] as usize - first,
                offsets[row + 1] as usize - first,
            );
            lists.is_valid(row) && passing[from..to].contains(&true)
        });
        let rows: Vec<bool> = rows.collect();
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(rows))))
    }
}
