//! How the stored columns of a file become columns of spans, where a file is read without
//! DataFusion's scan.
//!
//! Read [`FileColumns`]. What is wanted is said once, as [`SpanColumns`]; files differ in the
//! columns they have, so each has its own road to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::PhysicalExpr;
use datafusion_datasource_parquet::apply_file_schema_type_coercions;
use datafusion_physical_expr_adapter::PhysicalExprAdapterFactory;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection};
use parquet::arrow::{
    FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema,
};
use parquet::file::metadata::ParquetMetaData;

use super::adapter::SpanAdapterFactory;
use crate::error::Error;
use crate::span::{column, logical_schema, storage_schema, stored_name};
use crate::storage::{ColumnPages, FileReader, PageLayout};

/// Rows of a batch: a reader makes room for one in every column.
const BATCH_ROWS: usize = 8192;

/// The columns that can be read of spans: those of `spans`, in their order, then the stored ones
/// under names that SQL cannot say.
pub fn span_column_schema() -> SchemaRef {
    static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(|| {
        let stored = storage_schema();
        let stored = stored.fields().iter().map(|field| {
            let name = stored_name(field.name());
            Arc::new(Field::new(name, field.data_type().clone(), true))
        });
        let logical = logical_schema();
        let fields = logical.fields().iter().cloned().chain(stored);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// The index of a stored column in [`span_column_schema`].
pub fn stored_index(name: &str) -> Result<usize> {
    Ok(span_column_schema().index_of(&stored_name(name))?)
}

/// The column at an index of [`span_column_schema`].
pub fn scan_column(index: usize) -> ProjectionExpr {
    let schema = span_column_schema();
    let name = schema.field(index).name();
    ProjectionExpr::new(Arc::new(Column::new(name, index)), name.clone())
}

/// Expressions over [`span_column_schema`], each with a name.
#[derive(Debug, Clone)]
pub struct SpanColumns {
    schema: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

impl SpanColumns {
    /// These expressions over [`span_column_schema`], of which the columns of `spans` come first.
    pub fn try_new(columns: Vec<ProjectionExpr>) -> Result<Self> {
        let spans = span_column_schema();
        let fields = columns.iter().map(|column| {
            let data_type = column.expr.data_type(&spans)?;
            Ok(Field::new(&column.alias, data_type, true))
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            exprs: columns.into_iter().map(|column| column.expr).collect(),
        })
    }

    /// The columns of `spans`.
    pub(super) fn all() -> Self {
        let schema = logical_schema();
        let fields = schema.fields().iter().enumerate();
        let columns = fields.map(|(index, field)| Column::new(field.name(), index));
        Self {
            exprs: columns.map(|column| Arc::new(column) as _).collect(),
            schema,
        }
    }
}

/// The columns that a file has, with the types they are read as.
pub(super) struct FileSchema {
    metadata: Arc<ParquetMetaData>,
    schema: SchemaRef,
}

impl FileSchema {
    pub(super) fn try_new(metadata: Arc<ParquetMetaData>) -> Result<Self> {
        let file = metadata.file_metadata();
        let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
        let views = with_views(&span_column_schema(), &schema);
        let schema = apply_file_schema_type_coercions(&views, &schema).unwrap_or(schema);
        Ok(Self {
            metadata,
            schema: Arc::new(schema),
        })
    }

    pub(super) fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.metadata
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// The columns of a table and those that only its file has, whose texts are read as views.
fn with_views(table: &Schema, file: &Schema) -> Schema {
    let only_stored = file.fields().iter().filter(|field| {
        field.data_type() == &DataType::Utf8 && table.field_with_name(field.name()).is_err()
    });
    let views = only_stored.map(|field| Field::new(field.name(), DataType::Utf8View, true).into());
    let fields = table.fields().iter().cloned().chain(views);
    Schema::new(fields.collect::<Vec<_>>())
}

/// Stored columns of a file that are read together.
#[derive(Debug)]
pub(super) struct StoredColumns {
    layout: Arc<PageLayout>,
    levels: FieldLevels,
}

impl StoredColumns {
    /// The columns `roots` of a file.
    pub(super) fn try_new(file: &FileSchema, roots: &[usize]) -> Result<Self> {
        let schema = file.metadata.file_metadata().schema_descr();
        let mask = ProjectionMask::roots(schema, roots.iter().copied());
        let leaves = (0..schema.num_columns()).filter(|leaf| mask.leaf_included(*leaf));
        let layout = PageLayout::try_new(&file.metadata, leaves.collect())?;
        let fields = file.schema.fields();
        Ok(Self {
            layout: Arc::new(layout),
            levels: parquet_to_arrow_field_levels(schema, mask, Some(fields))?,
        })
    }

    /// Fetches rows of row groups, all of them where no selection is given; how many bytes it
    /// took, and the batches.
    pub(super) async fn read(
        &self,
        input: &mut FileReader,
        row_groups: &[usize],
        selection: Option<&RowSelection>,
    ) -> crate::Result<(
        u64,
        impl Iterator<Item = crate::Result<RecordBatch>> + use<>,
    )> {
        let fetched = ColumnPages::fetch(input, &self.layout, row_groups, selection);
        let (pages, selection) = fetched.await?;
        let selected = selection.as_ref().map(RowSelection::row_count);
        // However few rows there are, there would be room for all of a batch.
        let batch_rows = selected.unwrap_or_else(|| pages.row_count());
        let reader = ParquetRecordBatchReader::try_new_with_row_groups(
            &self.levels,
            &pages,
            batch_rows.clamp(1, BATCH_ROWS),
            selection,
        )?;
        Ok((pages.byte_count(), Decoded(Some(reader))))
    }
}

/// The batches of a reader, up to the first that cannot be decoded.
struct Decoded(Option<ParquetRecordBatchReader>);

impl Iterator for Decoded {
    type Item = crate::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.0.take()?;
        // The library does not check all that a damaged page says before it relies on it.
        let next = catch_unwind(AssertUnwindSafe(|| (reader.next(), reader)));
        match next {
            Ok((Some(Ok(batch)), reader)) => {
                self.0 = Some(reader);
                Some(Ok(batch))
            }
            Ok((Some(Err(error)), _)) => {
                Some(Err(Error::corrupt(error.to_string()).with_source(error)))
            }
            Ok((None, _)) => None,
            Err(_) => Some(Err(Error::corrupt("a page cannot be decoded"))),
        }
    }
}

/// How the stored columns of one file become certain columns of spans.
#[derive(Debug)]
pub(super) struct FileColumns {
    /// Which of the file's columns are read.
    roots: Vec<usize>,
    stored: SchemaRef,
    /// Each column over `stored`.
    columns: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    trace_id: usize,
}

impl FileColumns {
    /// For columns of spans; trace ids are read in any case.
    pub(super) fn try_new(file: &FileSchema, wanted: &SpanColumns) -> Result<Self> {
        let stored = Arc::clone(&file.schema);
        let adapter = SpanAdapterFactory.create(span_column_schema(), Arc::clone(&stored))?;
        let mut columns = Vec::with_capacity(wanted.exprs.len());
        let mut roots = vec![stored.index_of(column::TRACE_ID)?];
        for expr in &wanted.exprs {
            let expr = adapter.rewrite(Arc::clone(expr))?;
            roots.extend(collect_columns(&expr).iter().map(|column| column.index()));
            columns.push(expr);
        }
        roots.sort_unstable();
        roots.dedup();
        let stored = Arc::new(stored.project(&roots)?);
        let columns = columns
            .into_iter()
            .map(|column| reassign_expr_columns(column, &stored))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            roots,
            trace_id: stored.index_of(column::TRACE_ID)?,
            stored,
            columns,
            schema: Arc::clone(&wanted.schema),
        })
    }

    /// The stored columns that are read, by their places in the file, in order.
    pub(super) fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// The place of the trace id among the stored columns that are read.
    pub(super) fn trace_id(&self) -> usize {
        self.trace_id
    }

    /// About how many bytes of memory it takes.
    pub(super) fn byte_count(&self) -> usize {
        /// A column's expressions and its place in schemas.
        const COLUMN_BYTES: usize = 1024;
        (self.columns.len() + self.roots.len()) * COLUMN_BYTES
    }

    /// Stored columns as a batch.
    pub(super) fn stored(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::clone(&self.stored), columns)?)
    }

    /// The columns wanted of a batch of stored ones.
    pub(super) fn rows(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| {
            let value = column.evaluate(stored)?;
            value.into_array(stored.num_rows())
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
