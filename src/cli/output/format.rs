//! The formats a result can be written in.
//!
//! Read [`OutputFormat`] and [`ResultWriter`]. How each format is written is its own file's matter.

use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use clap::ValueEnum;

use super::columnar::{ArrowFileWriter, ArrowStreamWriter, ParquetWriter};
use super::csv::CsvWriter;
use super::json::{JsonWriter, NdjsonWriter};
use super::table::{TableOptions, TableWriter};
use crate::{Error, ErrorKind, Result};

/// A format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people, at most --max-rows of them
    Table,
    /// Comma-separated values with a header; lists and structs as JSON
    Csv,
    /// One JSON array of objects for each statement
    Json,
    /// One JSON object a line
    Ndjson,
    /// A Parquet file
    Parquet,
    /// Arrow IPC: the stream format on standard output, the file format in a file
    Arrow,
}

/// Whether a writer has use for more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Yes.
    More,
    /// No: the query can stop.
    Enough,
}

/// Writes one result.
pub(crate) trait ResultWriter {
    /// Takes the next rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<Demand>;

    /// Writes what is still held back, and the end of the format.
    fn finish(self: Box<Self>) -> Result<()>;
}

impl OutputFormat {
    /// The format a file's name asks for, by its extension.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "txt" => Some(Self::Table),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" | "pq" => Some(Self::Parquet),
            "arrow" | "arrows" | "ipc" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// Whether a file of this format holds one result and no more.
    pub(crate) fn holds_one_result(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }

    /// Whether the bytes would upset a terminal.
    pub(crate) fn is_binary(self) -> bool {
        self.holds_one_result()
    }

    /// A writer of a result with `schema` to `out`, which is a file if `to_file`.
    pub(crate) fn writer<'a>(
        self,
        schema: &SchemaRef,
        out: &'a mut (dyn Write + Send),
        to_file: bool,
        options: &TableOptions,
    ) -> Result<Box<dyn ResultWriter + 'a>> {
        Ok(match self {
            Self::Table => Box::new(TableWriter::new(schema, out, options.clone())),
            Self::Csv => Box::new(CsvWriter::try_new(schema, out)?),
            Self::Json => Box::new(JsonWriter::new(out)),
            Self::Ndjson => Box::new(NdjsonWriter::new(out)),
            Self::Parquet => Box::new(ParquetWriter::try_new(schema, out)?),
            Self::Arrow if to_file => Box::new(ArrowFileWriter::try_new(schema, out)?),
            Self::Arrow => Box::new(ArrowStreamWriter::try_new(schema, out)?),
        })
    }
}

/// The error of a format that cannot hold a type, or of the place it is written to.
pub(crate) fn encoding_error(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => error.into(),
        other => Error::new(
            ErrorKind::Unsupported,
            format!("this output format cannot hold the result: {other}; cast the column to text"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_its_format() {
        for (path, format) in [
            ("a/b.csv", Some(OutputFormat::Csv)),
            ("b.JSONL", Some(OutputFormat::Ndjson)),
            ("b.parquet", Some(OutputFormat::Parquet)),
            ("b.arrow", Some(OutputFormat::Arrow)),
            ("b.bin", None),
            ("csv", None),
        ] {
            assert_eq!(OutputFormat::of_path(Path::new(path)), format, "{path}");
        }
    }
}
