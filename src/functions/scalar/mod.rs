//! Functions of one row.

mod attribute;
mod json_lookup;
mod list_attribute;
mod renamed_keys;
mod semconv;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use attribute::{AttributeFunc, AttributeOutput};
pub use list_attribute::{ListAttributeFunc, whole_match};
pub use renamed_keys::keys_meaning;
pub use semconv::{SEMCONV, SemconvFunc};

/// Every scalar function.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let attribute = AttributeOutput::ALL.into_iter();
    let attribute = attribute.map(|output| ScalarUDF::from(AttributeFunc::new(output)));
    let semconv = ScalarUDF::from(SemconvFunc::default());
    attribute.chain([semconv]).map(Arc::new).collect()
}
