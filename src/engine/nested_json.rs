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
    is_text: Vec<bool>,
}

impl NestedAsJson {
    /// For results with these columns.
    pub fn new(schema: &SchemaRef) -> Self {
        Self::with(schema, DataType::is_nested)
    }

    /// The same, but lists of plain values stay lists.
    pub fn structs(schema: &SchemaRef) -> Self {
        Self::with(schema, |data_type| match data_type {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => item.data_type().is_nested(),
            other => other.is_nested(),
        })
    }

    fn with(schema: &SchemaRef, is_text: impl Fn(&DataType) -> bool) -> Self {
        let fields = schema.fields().iter();
        let is_text: Vec<bool> = fields.map(|field| is_text(field.data_type())).collect();
        let fields = schema.fields().iter().zip(&is_text);
        let fields: Vec<FieldRef> = fields
            .map(|(field, text)| flat_field(field, *text))
            .collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            is_text,
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
            .zip(&self.is_text)
            .map(|((field, column), is_text)| match is_text {
                true => json_column(field, column),
                false => Ok(Arc::clone(column)),
            })
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

fn flat_field(field: &FieldRef, is_text: bool) -> FieldRef {
    let data_type = match is_text {
        true => DataType::Utf8,
        false => field.data_type().clone(),
    };
    let flat = Field::new(field.name(), data_type, true);
    Arc::new(flat.with_metadata(field.metadata().clone()))
}

fn json_column(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
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
