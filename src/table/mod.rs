//! The door to SQL: the `spans` table over a lake's files, and how it skips what it need not
//! read. Nothing here knows where files lie or how they are written.

mod provider;
mod predicate;
mod pruning;
mod row_ranges;
mod trace_read;
mod trace_rows;
mod trace_ranges;
mod trace_scan;
mod index_predicate;
mod element_test;
mod coalesced;
mod index_matches;
mod passing_rows;
mod newest;
mod item_filters;
mod adapter;
mod file_columns;
mod footers;
mod attribute_access;
mod attribute_decode;
mod decode;
mod stored_literal;
mod id_literals;
mod stored_comparisons;
mod listing;
mod lake_files;
mod catalog;
mod catalog_predicate;
mod catalog_entries;
mod lake_maintenance;

pub use catalog::{Catalog, CatalogTable};
pub use file_columns::{SpanColumns, scan_column, span_column_schema, stored_index};
pub use id_literals::IdLiterals;
pub use item_filters::ItemFilters;
pub use lake_files::LakeFiles;
pub use lake_maintenance::LakeMaintenance;
pub use listing::{Listing, ListingTable};
pub use newest::NewestFirst;
pub use provider::SpansTable;
pub use stored_comparisons::StoredComparisons;
pub use trace_ranges::TraceRange;
pub use trace_rows::{TraceFile, TraceRows};
pub use trace_scan::{SpanReader, TraceScan, TraceScope};
