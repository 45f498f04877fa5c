//! Results as JSON, an array or a line for each row.
//!
//! Every row has every column, NULL as `null`. Columns of JSON text (attributes) stay texts, as
//! their type says; times are RFC 3339.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, LineDelimited, Writer};

use super::format::{Demand, ResultWriter, encoding_error};
use crate::Result;

/// One array of objects.
pub(super) struct JsonWriter<'a>(Writer<&'a mut (dyn Write + Send), JsonArray>);

impl<'a> JsonWriter<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        Self(builder.build(out))
    }
}

impl ResultWriter for JsonWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        self.0.write(batch).map_err(encoding_error)?;
        Ok(Demand::More)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.0.finish().map_err(encoding_error)?;
        self.0.get_mut().write_all(b"\n")?;
        Ok(())
    }
}

/// One object a line.
pub(super) struct NdjsonWriter<'a>(Writer<&'a mut (dyn Write + Send), LineDelimited>);

impl<'a> NdjsonWriter<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        Self(builder.build(out))
    }
}

impl ResultWriter for NdjsonWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        self.0.write(batch).map_err(encoding_error)?;
        Ok(Demand::More)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.0.finish().map_err(encoding_error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    fn batch() -> RecordBatch {
        let name: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a\"b"), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 9_007_199_254_740_993]));
        RecordBatch::try_from_iter_with_nullable([("name", name, true), ("n", number, false)])
            .expect("the columns are equally long")
    }

    #[test]
    fn rows_are_objects_with_explicit_nulls_and_whole_integers() {
        let mut array = Vec::new();
        let mut writer = Box::new(JsonWriter::new(&mut array));
        writer.write(&batch()).expect("the batch can be written");
        writer.finish().expect("the array can be closed");
        assert_eq!(
            String::from_utf8_lossy(&array),
            "[{\"name\":\"a\\\"b\",\"n\":1},{\"name\":null,\"n\":9007199254740993}]\n"
        );
        let mut lines = Vec::new();
        let mut writer = Box::new(NdjsonWriter::new(&mut lines));
        writer.write(&batch()).expect("the batch can be written");
        writer.finish().expect("the lines can be ended");
        assert_eq!(String::from_utf8_lossy(&lines).lines().count(), 2);
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        let mut array = Vec::new();
        Box::new(JsonWriter::new(&mut array))
            .finish()
            .expect("the array can be closed");
        assert_eq!(array, b"[]\n");
    }
}
