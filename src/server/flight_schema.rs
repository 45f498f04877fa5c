//! Columns as every Arrow client reads them.
//!
//! Read [`PlainTexts`]. String views are younger than many drivers; plain texts hold the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::error::Result;

/// Turns views of texts and bytes into plain ones, in lists and structs too.
pub(super) struct PlainTexts {
    schema: SchemaRef,
}

impl PlainTexts {
    pub(super) fn new(schema: &Schema) -> Self {
        let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns: Vec<ArrayRef> = columns
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    return Ok(Arc::clone(column));
                }
                Ok(cast(column, field.data_type())?)
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

fn plain_field(field: &FieldRef) -> FieldRef {
    // What a plan promises about NULL is no matter here, and may be wrong for an outer join.
    let plain = field
        .as_ref()
        .clone()
        .with_data_type(plain_type(field.data_type()))
        .with_nullable(true);
    Arc::new(plain)
}

fn inner_field(field: &FieldRef) -> FieldRef {
    let data_type = plain_type(field.data_type());
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// As deep as a type, which a statement spells out.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(inner_field(item)),
        DataType::LargeList(item) => DataType::LargeList(inner_field(item)),
        DataType::FixedSizeList(item, length) => {
            DataType::FixedSizeList(inner_field(item), *length)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner_field).collect()),
        DataType::Dictionary(_, values) => plain_type(values),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::engine::Lake;

    #[tokio::test]
    async fn nested_views_become_plain_texts() {
        let lake = Lake::create("memory://", Default::default()).await.unwrap();
        let session = lake.session().await.unwrap();
        let sql = "SELECT arrow_cast('a', 'Utf8View') AS t, \
                   [named_struct('k', arrow_cast('b', 'Utf8View'))] AS l, events FROM \
                   (SELECT 1) LEFT JOIN spans ON true";
        let rows = session
            .query(sql, &[])
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        let plain = PlainTexts::new(&rows[0].schema());
        let batch = plain.apply(&rows[0]).unwrap();
        assert_eq!(batch.column(0).as_string::<i32>().value(0), "a");
        assert!(!format!("{:?}", batch.schema()).contains("View"));
    }
}
