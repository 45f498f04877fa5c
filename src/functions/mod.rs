//! The functions tracelake adds to SQL, one file a function, and the syntax that calls them.
//!
//! To add one: write its file, add it to the list of its kind, add a test of its rows.

pub mod aggregate;
pub mod scalar;
pub mod table;
pub mod time_range;

mod attribute_comparison;
mod attribute_syntax;
mod semconv_keys;

pub use attribute_comparison::AttributeComparison;
pub use attribute_syntax::AttributeSyntax;
pub use semconv_keys::SemconvKeys;
