//! `attribute`, `attribute_json`, `attribute_double`, `attribute_exists`: an attribute of a JSON
//! column by its key.
//!
//! Read [`AttributeFunc`]: the functions differ only in what they make of the value. The syntax
//! `attributes['k']`, `->>`, `->` and `?` is `attribute_syntax.rs`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanBuilder, Float64Builder, StringViewBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_STRING;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ExpressionPlacement, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, TypeSignature, Volatility,
};

use super::json_lookup::{Keys, for_each_value, text_views};
use crate::span::{AttributeOutput, number_of_text, render_value};

/// The values of a key in `objects` with this output.
fn collect(output: AttributeOutput, objects: &ArrayRef, keys: &Keys) -> Result<ArrayRef> {
    match output {
        AttributeOutput::Text => {
            let mut values = StringViewBuilder::with_capacity(objects.len());
            for_each_value(objects, keys, |raw| {
                values.append_option(raw.and_then(render_value));
            })?;
            Ok(Arc::new(values.finish()))
        }
        AttributeOutput::Json => {
            let mut values = StringViewBuilder::with_capacity(objects.len());
            for_each_value(objects, keys, |raw| values.append_option(raw))?;
            Ok(Arc::new(values.finish()))
        }
        AttributeOutput::Double => {
            let mut values = Float64Builder::with_capacity(objects.len());
            for_each_value(objects, keys, |raw| {
                let text = raw.and_then(render_value);
                values.append_option(text.and_then(|text| number_of_text(&text)));
            })?;
            Ok(Arc::new(values.finish()))
        }
        AttributeOutput::Exists => {
            let mut values = BooleanBuilder::with_capacity(objects.len());
            for_each_value(objects, keys, |raw| values.append_value(raw.is_some()))?;
            Ok(Arc::new(values.finish()))
        }
    }
}

fn documentation(output: AttributeOutput) -> Documentation {
    let (description, syntax, example) = match output {
        AttributeOutput::Text => (
            "The value of an attribute as text, NULL where the span does not have it. \
             `attributes['key']` and `attributes->>'key'` mean the same. With a number instead \
             of a key, the item of a list at that place, from 0.",
            "attribute(attributes, key)",
            "select attribute('{\"http.route\":\"/cart\"}', 'http.route') as route;\n\
             +-------+\n| route |\n+-------+\n| /cart |\n+-------+",
        ),
        AttributeOutput::Json => (
            "The value of an attribute as JSON, with its type; NULL where the span does not \
             have it. `attributes->'key'` means the same, and `->0` the first item of a list.",
            "attribute_json(attributes, key)",
            "select attribute_json('{\"codes\":[1,2]}', 'codes') as codes;\n\
             +-------+\n| codes |\n+-------+\n| [1,2] |\n+-------+",
        ),
        AttributeOutput::Double => (
            "The value of an attribute as a number: a number, or a text that reads as one; \
             NULL otherwise. Comparing `attributes['key']` with a number calls it.",
            "attribute_double(attributes, key)",
            "select attribute_double('{\"size\":\"12\"}', 'size') as size;\n\
             +------+\n| size |\n+------+\n| 12.0 |\n+------+",
        ),
        AttributeOutput::Exists => (
            "Whether the span has an attribute, also where its value is JSON null; never NULL. \
             `attributes ? 'key'` means the same.",
            "attribute_exists(attributes, key)",
            "select attribute_exists('{\"size\":null}', 'size') as sized;\n\
             +-------+\n| sized |\n+-------+\n| true  |\n+-------+",
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
            "The attribute's key, whole: dots in it are part of it. Or the place of an item in \
             a list, from 0; from the end, from -1 down.",
        )
        .build()
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
        let signatures = [DataType::Utf8, DataType::Int64]
            .into_iter()
            .flat_map(|key| {
                let texts = texts.iter().cloned();
                texts.map(move |text| TypeSignature::Exact(vec![text, key.clone()]))
            })
            .collect();
        Self {
            output,
            signature: Signature::one_of(signatures, Volatility::Immutable),
            documentation: documentation(output),
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
            ColumnarValue::Scalar(ScalarValue::Int64(index)) => Keys::Item(*index),
            ColumnarValue::Scalar(key) => Keys::One(key.try_as_str().flatten().map(str::to_string)),
            ColumnarValue::Array(keys) if *keys.data_type() == DataType::Int64 => {
                Keys::EachItem(keys.as_primitive::<Int64Type>().clone())
            }
            ColumnarValue::Array(keys) => Keys::Each(text_views(keys)?),
        };
        match (objects, &keys) {
            (ColumnarValue::Scalar(object), Keys::One(_) | Keys::Item(_)) => {
                let values = collect(self.output, &object.to_array()?, &keys)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                    &values, 0,
                )?))
            }
            (objects, keys) => {
                let objects = objects.to_array(arguments.number_rows)?;
                Ok(ColumnarValue::Array(collect(self.output, &objects, keys)?))
            }
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
