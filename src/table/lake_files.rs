//! The `lake_files` table: one row a file of the lake, with what the log knows of it.
//!
//! Read [`LakeFiles`].

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;

use super::listing::Listing;
use crate::storage::{Bucket, LakeFile, Log, Snapshot};

/// The files of a lake as a table; each scan sees the lake's last known snapshot.
#[derive(Debug)]
pub struct LakeFiles {
    log: Arc<Log>,
    schema: SchemaRef,
}

impl LakeFiles {
    /// The table of the files that `log` lists.
    pub fn new(log: Arc<Log>) -> Self {
        let time = |unit| DataType::Timestamp(unit, Some("UTC".into()));
        let required = |name: &str, data_type| Field::new(name, data_type, false);
        let optional = |name: &str, data_type| Field::new(name, data_type, true);
        let fields = vec![
            required("path", DataType::Utf8View),
            required("day", DataType::Utf8View),
            required("hour", DataType::Int32),
            required("level", DataType::Utf8View),
            optional("bucket", DataType::Int64),
            optional("bucket_count", DataType::Int64),
            required("byte_count", DataType::Int64),
            required("span_count", DataType::Int64),
            required("min_start_time", time(TimeUnit::Nanosecond)),
            required("max_start_time", time(TimeUnit::Nanosecond)),
            optional("min_duration_nano", DataType::Int64),
            optional("max_duration_nano", DataType::Int64),
            required("min_ingested_at", time(TimeUnit::Microsecond)),
            required("max_ingested_at", time(TimeUnit::Microsecond)),
            required("modified_at", time(TimeUnit::Millisecond)),
        ];
        Self {
            log,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    fn batch(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let files: Vec<&LakeFile> = snapshot.files().map(AsRef::as_ref).collect();
        let texts = |text: fn(&LakeFile) -> String| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(
                files.iter().map(|file| text(file)),
            ))
        };
        let numbers = |number: fn(&LakeFile) -> Option<i64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter(files.iter().map(|file| number(file))))
        };
        let nanos = |nano: fn(&LakeFile) -> i64| -> ArrayRef {
            let times = files.iter().map(|file| nano(file));
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
        };
        let micros = |micro: fn(&LakeFile) -> i64| -> ArrayRef {
            let times = files.iter().map(|file| micro(file));
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        };
        let hours = files.iter().map(|file| file.hour.hour().cast_signed());
        let modified = files.iter().map(|file| file.modified_ms);
        let columns: Vec<ArrayRef> = vec![
            texts(|file| file.path.clone()),
            texts(|file| file.hour.day()),
            Arc::new(Int32Array::from_iter_values(hours)),
            texts(|file| match file.bucket {
                Bucket::Level0 => "ingested".to_string(),
                Bucket::Of { .. } => "compacted".to_string(),
            }),
            numbers(|file| bucket(file).map(|(index, _)| i64::from(index))),
            numbers(|file| bucket(file).map(|(_, count)| i64::from(count))),
            numbers(|file| i64::try_from(file.size).ok()),
            numbers(|file| i64::try_from(file.row_count).ok()),
            nanos(|file| file.min_start_nano),
            nanos(|file| file.max_start_nano),
            numbers(|file| file.min_duration_nano),
            numbers(|file| file.max_duration_nano),
            micros(|file| file.min_ingested_micros),
            micros(|file| file.max_ingested_micros),
            Arc::new(TimestampMillisecondArray::from_iter_values(modified).with_timezone("UTC")),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn bucket(file: &LakeFile) -> Option<(u32, u32)> {
    match file.bucket {
        Bucket::Level0 => None,
        Bucket::Of { index, count } => Some((index, count)),
    }
}

impl Listing for LakeFiles {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn rows(&self) -> Result<RecordBatch> {
        self.batch(&self.log.snapshot())
    }
}
