//! What each column takes on disk.
//!
//! Read [`column_sizes`]. It reads footers, no rows.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::file::metadata::ParquetMetaData;

use super::encoding::TRACE_COUNT_KEY;
use super::file_reader::{FileReader, name_file};
use super::{LakeFile, Store};
use crate::error::Result;

/// Footers read at once.
const READS: usize = 16;

/// The bytes of one column over all files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSize {
    /// The column; a field within a list has its path, `events.list.element.name`.
    pub name: String,
    /// Bytes on disk.
    pub compressed_bytes: u64,
    /// Bytes after encoding, before compression.
    pub uncompressed_bytes: u64,
}

/// The bytes of all columns, and what else the footers tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSizes {
    /// Each column, in the order of the schema.
    pub columns: Vec<ColumnSize>,
    /// Bytes that belong to no column: filters, page indexes and footers.
    pub other_bytes: u64,
    /// The traces of each file, added up: a trace counts once in every file that has it.
    pub trace_count: u64,
}

/// Reads the footers of files and adds up what their columns take.
pub async fn column_sizes(store: &Store, files: &[Arc<LakeFile>]) -> Result<ColumnSizes> {
    let footers = files.iter().map(|file| async move {
        let mut reader = FileReader::new(store, file);
        let options = ArrowReaderOptions::new();
        let footer = reader.get_metadata(Some(&options)).await;
        footer.map_err(|error| name_file(error, file))
    });
    let mut footers = futures::stream::iter(footers).buffered(READS);
    let mut sizes = ColumnSizes::default();
    while let Some(footer) = footers.try_next().await? {
        sizes.add(&footer);
    }
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let in_columns: u64 = sizes
        .columns
        .iter()
        .map(|column| column.compressed_bytes)
        .sum();
    sizes.other_bytes = bytes.saturating_sub(in_columns);
    Ok(sizes)
}

impl ColumnSizes {
    fn add(&mut self, footer: &ParquetMetaData) {
        let values = footer.file_metadata().key_value_metadata();
        let trace_count = values
            .into_iter()
            .flatten()
            .find(|pair| pair.key == TRACE_COUNT_KEY)
            .and_then(|pair| pair.value.as_ref()?.parse::<u64>().ok());
        self.trace_count += trace_count.unwrap_or(0);
        for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
            let name = chunk.column_path().string();
            let index = self.columns.iter().position(|column| column.name == name);
            let index = index.unwrap_or_else(|| {
                self.columns.push(ColumnSize {
                    name,
                    compressed_bytes: 0,
                    uncompressed_bytes: 0,
                });
                self.columns.len() - 1
            });
            let column = &mut self.columns[index];
            column.compressed_bytes += u64::try_from(chunk.compressed_size()).unwrap_or(0);
            column.uncompressed_bytes += u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
        }
    }
}
