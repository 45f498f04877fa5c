//! `is_ancestor`: whether one span stands above another, by their paths.
//!
//! Read [`IsAncestorFunc`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::trace::is_ancestor_path;

/// Whether the span of the first path is an ancestor of the span of the second, both of one
/// trace; NULL where either path is.
#[derive(Debug)]
pub struct IsAncestorFunc {
    signature: Signature,
    documentation: Documentation,
}

impl IsAncestorFunc {
    /// The function.
    pub fn new() -> Self {
        let texts = vec![DataType::Utf8View, DataType::Utf8View];
        let documentation = Documentation::builder(
            DOC_SECTION_OTHER,
            "Whether one span of a trace is an ancestor of another, by the `path` that \
             `span_tree` and `trace()` give each. No span is its own ancestor. Paths of different \
             traces do not compare: join on `trace_id` as well. NULL where a path is NULL.",
            "is_ancestor(path_a, path_b)",
        )
        .with_sql_example(
            "select is_ancestor('0/1', '0/1/3') as below, is_ancestor('0/1', '0/2') as beside;\n\
             +-------+--------+\n| below | beside |\n+-------+--------+\n| true  | false  |\n\
             +-------+--------+",
        )
        .with_argument("path_a", "The path of the span that may stand above.")
        .with_argument("path_b", "The path of the span that may stand below.")
        .build();
        Self {
            signature: Signature::one_of(vec![TypeSignature::Exact(texts)], Volatility::Immutable),
            documentation,
        }
    }
}

impl Default for IsAncestorFunc {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for IsAncestorFunc {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for IsAncestorFunc {}

impl std::hash::Hash for IsAncestorFunc {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for IsAncestorFunc {
    fn name(&self) -> &'static str {
        "is_ancestor"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let [above, below] = &arguments.args[..] else {
            return exec_err!("is_ancestor takes two arguments");
        };
        let (above, below) = (above.to_array(rows)?, below.to_array(rows)?);
        let (above, below) = (texts(&above)?, texts(&below)?);
        let pairs = above.iter().zip(below.iter());
        let found: BooleanArray = pairs
            .map(|(above, below)| Some(is_ancestor_path(above?, below?)))
            .collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn texts(array: &ArrayRef) -> Result<&StringViewArray> {
    match array.as_string_view_opt() {
        Some(texts) => Ok(texts),
        None => exec_err!("is_ancestor takes texts, got {}", array.data_type()),
    }
}
