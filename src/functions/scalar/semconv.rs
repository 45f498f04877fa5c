//! `semconv`: an attribute by any of the names the semantic conventions gave it.
//!
//! Read [`SemconvFunc`]; the names are `renamed_keys.rs`. A plan does not call it: the rule
//! [`SemconvKeys`](crate::functions::SemconvKeys) puts lookups of the keys in its place, so that
//! typed columns and the index answer.

use std::sync::Arc;

use arrow::array::{Array, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_STRING;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::json_lookup::text_views;
use super::keys_meaning;
use crate::span::{lookup, render_value};

/// The name of the function.
pub const SEMCONV: &str = "semconv";

/// A lookup of an attribute under its current key, else under its older ones.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SemconvFunc {
    signature: Signature,
}

impl Default for SemconvFunc {
    fn default() -> Self {
        let texts = [DataType::Utf8View, DataType::Utf8, DataType::LargeUtf8];
        let signatures = texts
            .into_iter()
            .map(|text| TypeSignature::Exact(vec![text, DataType::Utf8]))
            .collect();
        Self {
            signature: Signature::one_of(signatures, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for SemconvFunc {
    fn name(&self) -> &str {
        SEMCONV
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    /// Only where the key is not a literal; see the rule above.
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [objects, keys] = &arguments.args[..] else {
            return exec_err!("semconv takes two arguments");
        };
        let objects = text_views(&objects.to_array(arguments.number_rows)?)?;
        let keys = text_views(&keys.to_array(arguments.number_rows)?)?;
        let mut values = StringViewBuilder::with_capacity(objects.len());
        for (object, key) in objects.iter().zip(&keys) {
            let mut names = key.map(keys_meaning).unwrap_or_default().into_iter();
            let value = object.and_then(|object| {
                names.find_map(|name| lookup(object, name).and_then(render_value))
            });
            values.append_option(value);
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: std::sync::LazyLock<Documentation> = std::sync::LazyLock::new(|| {
            Documentation::builder(
                DOC_SECTION_STRING,
                "The value of an attribute as text, whichever of its names the producer used: \
                 the one OpenTelemetry's semantic conventions have now, or one they had before. \
                 Either name may be asked for. Where a span has several, the current one counts, \
                 then the latest. Compared with a number it is a number.",
                "semconv(attributes, key)",
            )
            .with_sql_example(
                "select semconv('{\"http.status_code\":503}', 'http.response.status_code') as code;\n\
                 +------+\n| code |\n+------+\n| 503  |\n+------+",
            )
            .with_argument(
                "attributes",
                "A column of JSON objects: `attributes`, `resource_attributes`, \
                 `scope_attributes`, or those of an event or link.",
            )
            .with_argument("key", "A current or older key of the attribute.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}
