//! Functions of one row.

mod any_attribute;
mod attribute;
mod is_ancestor;
mod json_lookup;
mod renamed_keys;
mod semconv;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use any_attribute::{ANY_ATTRIBUTE, AnyAttributeFunc, whole_match};
pub use attribute::AttributeFunc;
pub use is_ancestor::IsAncestorFunc;
pub use renamed_keys::keys_meaning;
pub use semconv::{SEMCONV, SemconvFunc};

use crate::span::AttributeOutput;

/// Every scalar function.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let attribute = AttributeOutput::ALL.into_iter();
    let attribute = attribute.map(|output| ScalarUDF::from(AttributeFunc::new(output)));
    let others = [
        ScalarUDF::from(AnyAttributeFunc::default()),
        ScalarUDF::from(IsAncestorFunc::default()),
        ScalarUDF::from(SemconvFunc::default()),
    ];
    attribute.chain(others).map(Arc::new).collect()
}
