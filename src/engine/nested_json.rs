//! Lists and structs as JSON texts, for formats and clients that have nothing of the kind.
//!
//! Read [`NestedAsJson`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

use crate::error::Result;

/// Turns the nested columns of a result into JSON texts; the others stay as they are.
#[derive(Debug, Clone)]
pub struct NestedAsJson {
    schema: SchemaRef,
}

impl NestedAsJson {
    /// For results with these columns.
    pub fn new(schema: &SchemaRef) -> Self {
        let fields: Vec<FieldRef> = schema.fields().iter().map(flat_field).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// The columns that come out. All may be NULL: what a plan promises of that is no matter
    /// here, and may be wrong for an outer join.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The same rows with those columns.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch
            .schema_ref()
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| flat_column(field, column))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

fn flat_field(field: &FieldRef) -> FieldRef {
    let data_type = if field.data_type().is_nested() {
        DataType::Utf8
    } else {
        field.data_type().clone()
    };
    Arc::new(Field::new(field.name(), data_type, true))
}

fn flat_column(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !field.data_type().is_nested() {
        return Ok(Arc::clone(column));
    }
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column.as_ref(), &options)?;
    let mut texts = StringBuilder::with_capacity(column.len(), 64 * column.len());
    let mut text = Vec::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
}
