//! Reads the bytes of one file for the Parquet reader.
//!
//! Read [`FileReader`]. What they mean is that reader's business.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{LakeFile, Store};
use crate::error::{Error, ErrorKind};
use crate::span::{AttributeColumn, AttributeType, column, storage_schema};

/// A file of the lake, as something the Parquet reader can read from.
#[derive(Debug, Clone)]
pub struct FileReader {
    objects: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
    footer_hint: usize,
}

impl FileReader {
    /// Reads `file`, which lies in `store`.
    pub fn new(store: &Store, file: &LakeFile) -> Self {
        // About what the footer and the filters take, so that they come with one read.
        let rows = usize::try_from(file.row_count).unwrap_or(usize::MAX);
        Self {
            objects: store.objects(),
            location: file.location(),
            size: file.size,
            footer_hint: (1 << 16) + (rows / 16).min(1 << 20),
        }
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { Ok(self.objects.get_range(&self.location, range).await?) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { Ok(self.objects.get_ranges(&self.location, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let mut reader =
                ParquetMetaDataReader::new().with_prefetch_hint(Some(self.footer_hint));
            if let Some(options) = options {
                reader = reader
                    .with_metadata_options(Some(options.metadata_options().clone()))
                    .with_column_index_policy(options.column_index_policy())
                    .with_offset_index_policy(options.offset_index_policy());
            }
            let size = self.size;
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

/// The rows of a file, in batches of all its columns, with the types of the lake.
pub(super) async fn open_rows(
    store: &Store,
    file: &LakeFile,
) -> Result<ParquetRecordBatchStreamBuilder<FileReader>> {
    let mut reader = FileReader::new(store, file);
    let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await?;
    let known = storage_schema();
    let order = AttributeType::Text.data_type();
    let fields = metadata.schema().fields().iter().map(|field| {
        let name = field.name();
        let own = || match AttributeColumn::parse(name) {
            Some(column) => Arc::new(column.field()),
            None if name == column::ATTRIBUTES_ORDER => {
                Arc::new(Field::new(name, order.clone(), true))
            }
            None => Arc::clone(field),
        };
        match known.fields().find(name) {
            Some((_, field)) => Arc::clone(field),
            None => own(),
        }
    });
    let schema = Arc::new(Schema::new(fields.collect::<Fields>()));
    let options = ArrowReaderOptions::new().with_schema(schema);
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?;
    Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(
        reader, metadata,
    ))
}

/// The error of a file that could not be read, which names it.
pub(super) fn name_file(error: ParquetError, file: &LakeFile) -> Error {
    let error = Error::from(error);
    let what = match error.kind() {
        ErrorKind::NotFound => "a file of the lake is missing",
        ErrorKind::Unavailable => "a file of the lake cannot be read now",
        _ => "a file of the lake is damaged",
    };
    Error::new(error.kind(), format!("{what}; path=`{}`", file.path)).with_source(error)
}
