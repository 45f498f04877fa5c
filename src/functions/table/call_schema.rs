//! What tells calls of one table function apart.
//!
//! Read [`call_schema`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

/// The key of the schema's metadata under which a call stands.
const CALL: &str = "tracelake.call";

/// The columns of a function with the values of one call beside them.
///
/// DataFusion takes scans of the same name and columns for the same relation, so that of two
/// subqueries over `f('a')` and `f('b')` only one would be run and serve for both.
pub(super) fn call_schema(schema: &SchemaRef, call: &impl std::fmt::Debug) -> SchemaRef {
    let metadata = HashMap::from([(CALL.to_string(), format!("{call:?}"))]);
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}
