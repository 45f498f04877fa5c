//! Results as comma-separated values, as RFC 4180 has them, with a header.
//!
//! NULL is an empty field. Lists and structs, which CSV cannot hold, become JSON texts.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::csv::{Writer, WriterBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::format::{Demand, ResultWriter, encoding_error};
use crate::Result;

/// Writes one result with its header.
pub(super) struct CsvWriter<'a> {
    writer: Writer<&'a mut (dyn Write + Send)>,
    /// The columns as CSV gets them.
    schema: SchemaRef,
}

impl<'a> CsvWriter<'a> {
    pub(super) fn try_new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Self> {
        let fields: Vec<FieldRef> = schema.fields().iter().map(flat_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut writer = WriterBuilder::new().with_header(true).build(out);
        // A result without rows has its header all the same.
        writer
            .write(&RecordBatch::new_empty(Arc::clone(&schema)))
            .map_err(encoding_error)?;
        Ok(Self { writer, schema })
    }
}

impl ResultWriter for CsvWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        let columns = batch
            .schema()
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| flat_column(field, column))
            .collect::<Result<Vec<_>, _>>()
            .map_err(encoding_error)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.writer.write(&batch).map_err(encoding_error)?;
        Ok(Demand::More)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.writer.into_inner().flush()?;
        Ok(())
    }
}

fn flat_field(field: &FieldRef) -> FieldRef {
    if field.data_type().is_nested() {
        Arc::new(Field::new(field.name(), DataType::Utf8, true))
    } else {
        // What a plan promises about NULL is no matter here, and may be wrong for an outer join.
        Arc::new(Field::new(field.name(), field.data_type().clone(), true))
    }
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

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn fields_are_quoted_where_needed_and_lists_are_json() {
        let name: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a,\"b\""), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
        ]));
        let batch = RecordBatch::try_from_iter([("name", name), ("n", number), ("list", list)])
            .expect("the columns are equally long");
        let mut out = Vec::new();
        let mut writer = Box::new(
            CsvWriter::try_new(&batch.schema(), &mut out).expect("CSV holds these columns"),
        );
        writer.write(&batch).expect("the batch can be written");
        writer.finish().expect("the lines can be flushed");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "name,n,list\n\"a,\"\"b\"\"\",1,\"[1,null]\"\n,,\n"
        );
    }

    #[test]
    fn no_rows_leave_the_header() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let mut out = Vec::new();
        Box::new(CsvWriter::try_new(&schema, &mut out).expect("CSV holds integers"))
            .finish()
            .expect("the header can be flushed");
        assert_eq!(out, b"n\n");
    }
}
