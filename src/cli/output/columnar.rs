//! Results as Arrow IPC and as Parquet, for programs that go on computing.
//!
//! This writes what a query answered; files of a lake are the storage room's matter.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::format::{Demand, ResultWriter, encoding_error};
use crate::Result;

/// Encoded bytes a Parquet row group may hold in memory before it is written.
const ROW_GROUP_BYTES: usize = 64 << 20;

type Out<'a> = &'a mut (dyn Write + Send);

/// Arrow IPC, stream format: can be read from a pipe.
pub(super) struct ArrowStreamWriter<'a>(StreamWriter<Out<'a>>);

impl<'a> ArrowStreamWriter<'a> {
    pub(super) fn try_new(schema: &SchemaRef, out: Out<'a>) -> Result<Self> {
        let writer = StreamWriter::try_new(out, schema).map_err(encoding_error)?;
        Ok(Self(writer))
    }
}

impl ResultWriter for ArrowStreamWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        self.0.write(batch).map_err(encoding_error)?;
        Ok(Demand::More)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.0.finish().map_err(encoding_error)
    }
}

/// Arrow IPC, file format: what readers of `.arrow` and `.feather` files expect.
pub(super) struct ArrowFileWriter<'a>(FileWriter<Out<'a>>);

impl<'a> ArrowFileWriter<'a> {
    pub(super) fn try_new(schema: &SchemaRef, out: Out<'a>) -> Result<Self> {
        let writer = FileWriter::try_new(out, schema).map_err(encoding_error)?;
        Ok(Self(writer))
    }
}

impl ResultWriter for ArrowFileWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        self.0.write(batch).map_err(encoding_error)?;
        Ok(Demand::More)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.0.finish().map_err(encoding_error)
    }
}

/// Parquet, compressed with zstd.
pub(super) struct ParquetWriter<'a>(ArrowWriter<Out<'a>>);

impl<'a> ParquetWriter<'a> {
    pub(super) fn try_new(schema: &SchemaRef, out: Out<'a>) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = ArrowWriter::try_new(out, std::sync::Arc::clone(schema), Some(properties))
            .map_err(|error| encoding_error(error.into()))?;
        Ok(Self(writer))
    }
}

impl ResultWriter for ParquetWriter<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand> {
        self.0
            .write(batch)
            .map_err(|error| encoding_error(error.into()))?;
        if self.0.in_progress_size() > ROW_GROUP_BYTES {
            self.0
                .flush()
                .map_err(|error| encoding_error(error.into()))?;
        }
        Ok(Demand::More)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.0
            .close()
            .map_err(|error| encoding_error(error.into()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringViewArray};
    use arrow::ipc::reader::{FileReader, StreamReader};

    use super::*;

    fn batch() -> RecordBatch {
        let name: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        RecordBatch::try_from_iter([("name", name)]).expect("one column makes a batch")
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let batch = batch();
        let (mut stream, mut file, mut parquet) = (Vec::new(), Vec::new(), Vec::new());
        let writers: [Box<dyn ResultWriter + '_>; 3] = [
            Box::new(ArrowStreamWriter::try_new(&batch.schema(), &mut stream).expect("a stream")),
            Box::new(ArrowFileWriter::try_new(&batch.schema(), &mut file).expect("a file")),
            Box::new(ParquetWriter::try_new(&batch.schema(), &mut parquet).expect("a file")),
        ];
        for mut writer in writers {
            writer.write(&batch).expect("the batch can be written");
            writer.finish().expect("the end can be written");
        }
        let read: Vec<RecordBatch> = StreamReader::try_new(Cursor::new(stream), None)
            .expect("the stream has a schema")
            .chain(FileReader::try_new(Cursor::new(file), None).expect("the file has a schema"))
            .collect::<Result<_, _>>()
            .expect("the batches can be read");
        assert_eq!(read, [batch.clone(), batch.clone()]);
        let rows: usize = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(
            bytes::Bytes::from(parquet),
            1024,
        )
        .expect("the file has a footer")
        .map(|read| read.expect("the rows can be read").num_rows())
        .sum();
        assert_eq!(rows, batch.num_rows());
    }
}
