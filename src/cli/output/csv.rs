//! Results as comma-separated values, as RFC 4180 has them, with a header.
//!
//! NULL is an empty field. Lists and structs, which CSV cannot hold, become JSON texts.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::csv::{Writer, WriterBuilder};
use arrow::datatypes::SchemaRef;

use super::format::{Demand, ResultWriter, encoding_error};
use crate::Result;
use crate::engine::NestedAsJson;

/// Writes one result with its header.
pub(super) struct CsvWriter<'a> {
    writer: Writer<&'a mut (dyn Write + Send)>,
    flat: NestedAsJson,
}

impl<'a> CsvWriter<'a> {
    pub(super) fn try_new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Self> {
        let flat = NestedAsJson::new(schema);
        let mut writer = WriterBuilder::new().with_header(true).build(out);
        // A result without rows has its header all the same.
        writer
            .write(&RecordBatch::new_empty(flat.schema()))
            .map_err(encoding_error)?;
        Ok(Self { writer, flat })
    }
}

impl ResultWriter for CsvWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        let batch = self.flat.apply(batch)?;
        self.writer.write(&batch).map_err(encoding_error)?;
        Ok(Demand::More)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.writer.into_inner().flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

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
