//! Functions of one row.

mod any_attribute;
mod attribute;
mod date_bin;
mod is_ancestor;
mod json_lookup;
mod list_field;
mod renamed_keys;
mod semconv;
mod time_bucket;
mod trace_panel;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use any_attribute::{ANY_ATTRIBUTE, AnyAttributeFunc, whole_match};
pub use attribute::AttributeFunc;
pub use date_bin::DateBin;
pub use is_ancestor::IsAncestorFunc;
pub use list_field::ListFieldFunc;
pub use renamed_keys::keys_meaning;
pub use semconv::{SEMCONV, SemconvFunc};
pub use time_bucket::TimeBucketFunc;
pub use trace_panel::{TracePanelFunc, TracePanelPart};

use crate::span::AttributeOutput;

/// Every scalar function that DataFusion has not.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let attribute = AttributeOutput::ALL.into_iter();
    let attribute = attribute.map(|output| ScalarUDF::from(AttributeFunc::new(output)));
    let others = [
        ScalarUDF::from(AnyAttributeFunc::default()),
        ScalarUDF::from(IsAncestorFunc::default()),
        ScalarUDF::from(ListFieldFunc::default()),
        ScalarUDF::from(SemconvFunc::default()),
        ScalarUDF::from(TimeBucketFunc::default()),
    ];
    let panel = TracePanelPart::ALL.into_iter();
    let panel = panel.map(|part| ScalarUDF::from(TracePanelFunc::new(part)));
    attribute.chain(others).chain(panel).map(Arc::new).collect()
}

/// Functions that take the place of DataFusion's: the same to who calls them, only faster.
pub fn replacements() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::from(DateBin::default()))]
}
