//! `attribute`, `attribute_json`, `attribute_double`: an attribute of a JSON column by its key.
//!
//! Read [`AttributeOutput`]: the three differ only in what they make of the value. The syntax
//! `attributes['k']`, `->>` and `->` is `attribute_syntax.rs`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_STRING;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ExpressionPlacement, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, TypeSignature, Volatility,
};

use super::json_lookup::{Keys, for_each_value, text_views};
use crate::span::render_value;

/// What a lookup makes of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeOutput {
    /// Text: a string without quotes, anything else as JSON; JSON null is NULL.
    Text,
    /// The JSON itself, typed: `500` is not `"500"`.
    Json,
    /// A number: numbers, and texts that read as one; anything else is NULL.
    Double,
}

impl AttributeOutput {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Json, Self::Double];

    /// The name of the function with this output.
    pub fn function_name(self) -> &'static str {
        match self {
            Self::Text => "attribute",
            Self::Json => "attribute_json",
            Self::Double => "attribute_double",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Json => DataType::Utf8View,
            Self::Double => DataType::Float64,
        }
    }

    fn collect(self, objects: &ArrayRef, keys: &Keys) -> Result<ArrayRef> {
        match self {
            Self::Text => {
                let mut values = StringViewBuilder::with_capacity(objects.len());
                for_each_value(objects, keys, |raw| {
                    values.append_option(raw.and_then(render_value));
                })?;
                Ok(Arc::new(values.finish()))
            }
            Self::Json => {
                let mut values = StringViewBuilder::with_capacity(objects.len());
                for_each_value(objects, keys, |raw| values.append_option(raw))?;
                Ok(Arc::new(values.finish()))
            }
            Self::Double => {
                let mut values = Float64Builder::with_capacity(objects.len());
                for_each_value(objects, keys, |raw| {
                    let text = raw.and_then(render_value);
                    values.append_option(text.and_then(|text| text.parse().ok()));
                })?;
                Ok(Arc::new(values.finish()))
            }
        }
    }

    fn documentation(self) -> Documentation {
        let (description, syntax, example) = match self {
            Self::Text => (
                "The value of an attribute as text, NULL where the span does not have it. \
                 `attributes['key']` and `attributes->>'key'` mean the same.",
                "attribute(attributes, key)",
                "select attribute('{\"http.route\":\"/cart\"}', 'http.route') as route;\n\
                 +-------+\n| route |\n+-------+\n| /cart |\n+-------+",
            ),
            Self::Json => (
                "The value of an attribute as JSON, with its type; NULL where the span does not \
                 have it. `attributes->'key'` means the same.",
                "attribute_json(attributes, key)",
                "select attribute_json('{\"codes\":[1,2]}', 'codes') as codes;\n\
                 +-------+\n| codes |\n+-------+\n| [1,2] |\n+-------+",
            ),
            Self::Double => (
                "The value of an attribute as a number: a number, or a text that reads as one; \
                 NULL otherwise. Comparing `attributes['key']` with a number calls it.",
                "attribute_double(attributes, key)",
                "select attribute_double('{\"size\":\"12\"}', 'size') as size;\n\
                 +------+\n| size |\n+------+\n| 12.0 |\n+------+",
            ),
        };
        Documentation::builder(DOC_SECTION_STRING, description, syntax)
            .with_sql_example(example)
            .with_argument(
                "attributes",
                "A column of JSON objects: `attributes`, `resource_attributes`, \
                 `scope_attributes`, or those of an event or link.",
            )
            .with_argument(
                "key",
                "The attribute's key, whole: dots in it are part of it.",
            )
            .build()
    }
}

/// A lookup of an attribute as a DataFusion function.
#[derive(Debug)]
pub struct AttributeFunc {
    output: AttributeOutput,
    signature: Signature,
    documentation: Documentation,
}

impl AttributeFunc {
    /// The function with this output.
    pub fn new(output: AttributeOutput) -> Self {
        let texts = [DataType::Utf8View, DataType::Utf8, DataType::LargeUtf8];
        let signatures = texts
            .into_iter()
            .map(|text| TypeSignature::Exact(vec![text, DataType::Utf8]))
            .collect();
        Self {
            output,
            signature: Signature::one_of(signatures, Volatility::Immutable),
            documentation: output.documentation(),
        }
    }
}

impl PartialEq for AttributeFunc {
    fn eq(&self, other: &Self) -> bool {
        self.output == other.output
    }
}

impl Eq for AttributeFunc {}

impl std::hash::Hash for AttributeFunc {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.output.hash(state);
    }
}

impl ScalarUDFImpl for AttributeFunc {
    fn name(&self) -> &str {
        self.output.function_name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.output.data_type())
    }

    /// Near the scan, so that only the value of the key travels on, not the whole object, and
    /// a file that holds the key as a column can answer from it.
    fn placement(&self, arguments: &[ExpressionPlacement]) -> ExpressionPlacement {
        match arguments {
            [ExpressionPlacement::Column, ExpressionPlacement::Literal] => {
                ExpressionPlacement::MoveTowardsLeafNodes
            }
            _ => ExpressionPlacement::KeepInPlace,
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [objects, key] = &arguments.args[..] else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let keys = match key {
            ColumnarValue::Scalar(key) => Keys::One(key.try_as_str().flatten().map(str::to_string)),
            ColumnarValue::Array(keys) => Keys::Each(text_views(keys)?),
        };
        match (objects, &keys) {
            (ColumnarValue::Scalar(object), Keys::One(_)) => {
                let values = self.output.collect(&object.to_array()?, &keys)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                    &values, 0,
                )?))
            }
            (objects, keys) => {
                let objects = objects.to_array(arguments.number_rows)?;
                Ok(ColumnarValue::Array(self.output.collect(&objects, keys)?))
            }
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
