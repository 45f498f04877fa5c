//! Rows as the bytes of an HTTP answer, batch by batch.
//!
//! Read [`RowFormat`], then [`RowWriter`].

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder as JsonBuilder;
use arrow::json::writer::{JsonArray, LineDelimited, Writer};

use crate::engine::NestedAsJson;
use crate::error::Result;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowFormat {
    /// One array of objects.
    Json,
    /// An object a line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
    /// Arrow's stream format.
    Arrow,
}

impl RowFormat {
    /// The format an `accept` header prefers; JSON for none or anything, `None` where it names
    /// only what there is not.
    pub(super) fn of_accept(accept: Option<&str>) -> Option<Self> {
        let Some(accept) = accept else {
            return Some(Self::Json);
        };
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';');
            let format = match parts.next().unwrap_or_default().trim() {
                "*/*" | "application/*" | "application/json" => Self::Json,
                "application/x-ndjson" | "application/jsonl" => Self::Ndjson,
                "text/csv" | "text/*" => Self::Csv,
                "application/vnd.apache.arrow.stream" => Self::Arrow,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.trim().strip_prefix("q="));
            let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// The type of the answer.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes the rows of one result.
pub(super) enum RowWriter {
    Json(Writer<Vec<u8>, JsonArray>),
    Ndjson(Writer<Vec<u8>, LineDelimited>),
    Csv { flat: NestedAsJson, begun: bool },
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl RowWriter {
    pub(super) fn try_new(format: RowFormat, schema: &SchemaRef) -> Result<Self> {
        let json = || JsonBuilder::new().with_explicit_nulls(true);
        Ok(match format {
            RowFormat::Json => Self::Json(json().build(Vec::new())),
            RowFormat::Ndjson => Self::Ndjson(json().build(Vec::new())),
            RowFormat::Csv => Self::Csv {
                flat: NestedAsJson::new(schema),
                begun: false,
            },
            RowFormat::Arrow => Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
        })
    }

    /// The bytes of these rows, and of what comes before the first.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match self {
            Self::Json(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Ndjson(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Csv { flat, begun } => {
                let header = !std::mem::replace(begun, true);
                let mut writer = CsvBuilder::new().with_header(header).build(Vec::new());
                writer.write(&flat.apply(batch)?)?;
                Ok(writer.into_inner())
            }
            Self::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }

    /// The bytes of the end.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Json(writer) => {
                writer.finish()?;
                let mut bytes = std::mem::take(writer.get_mut());
                bytes.push(b'\n');
                Ok(bytes)
            }
            Self::Ndjson(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            // A result without rows has its header all the same.
            Self::Csv { flat, begun: false } => {
                let empty = RecordBatch::new_empty(flat.schema());
                let mut writer = CsvBuilder::new().with_header(true).build(Vec::new());
                writer.write(&empty)?;
                Ok(writer.into_inner())
            }
            Self::Csv { .. } => Ok(Vec::new()),
            Self::Arrow(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn the_preferred_known_format_is_chosen() {
        for (accept, format) in [
            (None, Some(RowFormat::Json)),
            (Some("*/*"), Some(RowFormat::Json)),
            (Some("text/csv"), Some(RowFormat::Csv)),
            (
                Some("text/html, application/x-ndjson;q=0.5, */*;q=0.1"),
                Some(RowFormat::Ndjson),
            ),
            (
                Some("application/vnd.apache.arrow.stream"),
                Some(RowFormat::Arrow),
            ),
            (Some("image/png"), None),
            (Some("application/json;q=0"), None),
        ] {
            assert_eq!(RowFormat::of_accept(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn rows_come_in_pieces_that_make_one_whole() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        for (format, expected, empty) in [
            (RowFormat::Json, "[{\"n\":1},{\"n\":1}]\n", "[]\n"),
            (RowFormat::Ndjson, "{\"n\":1}\n{\"n\":1}\n", ""),
            (RowFormat::Csv, "n\n1\n1\n", "n\n"),
        ] {
            let mut writer = RowWriter::try_new(format, &batch.schema()).unwrap();
            let mut bytes = writer.write(&batch).unwrap();
            bytes.extend(writer.write(&batch).unwrap());
            bytes.extend(writer.finish().unwrap());
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
            let mut writer = RowWriter::try_new(format, &batch.schema()).unwrap();
            assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), empty);
        }
    }
}
