//! Tables that are listed anew by each scan, all their rows at once.
//!
//! Read [`Listing`], what such a table says of itself, and [`ListingTable`].

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

/// Rows that are known without reading spans.
pub trait Listing: Debug + Send + Sync + 'static {
    /// Their columns.
    fn schema(&self) -> SchemaRef;

    /// All of them, as they are now.
    fn rows(&self) -> Result<RecordBatch>;
}

/// A listing as a table; each scan sees what is then listed.
#[derive(Debug)]
pub struct ListingTable<L>(L);

impl<L: Listing> ListingTable<L> {
    /// The table of a listing.
    pub fn new(listing: L) -> Self {
        Self(listing)
    }
}

#[async_trait]
impl<L: Listing> TableProvider for ListingTable<L> {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = MemTable::try_new(self.0.schema(), vec![vec![self.0.rows()?]])?;
        table.scan(state, projection, filters, limit).await
    }
}
