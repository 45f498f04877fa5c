//! Reads the few rows of `spans` that indexes leave, without a scan of DataFusion.
//!
//! Read [`SpansTable::few_rows`].

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::logical_expr::Expr;
use futures::{StreamExt, TryStreamExt};

use super::SpansTable;
use super::file_columns::{FileColumns, FileSchema, SpanColumns, StoredColumns};
use super::footers::{footer, while_reading};
use super::pruning::{FilePlan, PlannedFile};
use super::row_ranges::planned_rows;
use crate::error::Result;
use crate::storage::{FileReader, Store};

/// The most rows and files that are read by one thread as fast as by a scan that has to be planned.
const MOST_ROWS: u64 = 16 << 10;
const MOST_FILES: usize = 16;

/// How many files are read at the same time.
const FILE_READS: usize = 4;

impl FilePlan {
    fn is_of_few_rows(&self) -> bool {
        let rows: u64 = self.files.iter().map(PlannedFile::row_count).sum();
        self.files.len() <= MOST_FILES && rows <= MOST_ROWS
    }
}

impl SpansTable {
    /// These columns of the rows that files and indexes cannot rule out, in no order, where they
    /// are few; `None` where they are better read by a scan. Rows that do not pass the filters can
    /// be among them; only the newest `count` that do matter.
    ///
    /// The footers of files are kept in `metadata`.
    pub async fn few_rows(
        &self,
        filters: &[Expr],
        count: usize,
        columns: &SpanColumns,
        metadata: &Arc<FileMetadataCache>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let Some(newest) = self.newest(count) else {
            return Ok(None);
        };
        let plan = newest.plan_rows(filters).await?;
        if !plan.is_of_few_rows() {
            return Ok(None);
        }
        let files = futures::stream::iter(plan.files);
        let reads = files
            .map(|planned| rows_of(self.log.store(), planned, columns, metadata))
            .buffered(FILE_READS);
        let batches: Vec<_> = reads.try_collect().await?;
        Ok(Some(batches.into_iter().flatten().collect()))
    }
}

/// These columns of the rows of a file that its index leaves.
async fn rows_of(
    store: &Store,
    planned: PlannedFile,
    columns: &SpanColumns,
    metadata: &Arc<FileMetadataCache>,
) -> Result<Vec<RecordBatch>> {
    let file = &planned.file;
    let footer = footer(store, file, metadata).await?;
    let read = async {
        let schema = FileSchema::try_new(Arc::clone(&footer))?;
        let columns = FileColumns::try_new(&schema, columns)?;
        let stored = StoredColumns::try_new(&schema, columns.roots())?;
        let (row_groups, rows) = match planned_rows(&footer, &planned, &(0..file.row_count)) {
            Some(rows) => {
                let row_groups = rows.row_group_indexes();
                let rows = rows.into_overall_row_selection(footer.row_groups())?;
                (row_groups, rows)
            }
            None => ((0..footer.num_row_groups()).collect(), None),
        };
        let mut input = FileReader::new(store, file);
        let read = stored.read(&mut input, &row_groups, rows.as_ref());
        let (_, batches) = read.await?;
        let batches = batches.map(|batch| Ok(columns.stored(batch?.columns().to_vec())?));
        let batches = batches.collect::<Result<Vec<_>>>()?;
        Ok((columns, batches))
    };
    let (columns, batches) = read
        .await
        .map_err(|error: crate::Error| while_reading(file, error))?;
    // What goes wrong in an expression is no fault of the file.
    let rows = batches.iter().map(|batch| Ok(columns.rows(batch)?));
    rows.collect()
}
