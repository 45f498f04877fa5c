//! The `lake_maintenance` table: one row a work that this process did on the lake.
//!
//! Read [`LakeMaintenance`].

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;

use super::listing::Listing;
use crate::storage::{MaintenanceLog, MaintenanceRecord};

/// The works done as a table; each scan sees those done until then.
#[derive(Debug)]
pub struct LakeMaintenance {
    log: Arc<MaintenanceLog>,
    schema: SchemaRef,
}

impl LakeMaintenance {
    /// The table of the works that `log` remembers.
    pub fn new(log: Arc<MaintenanceLog>) -> Self {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = vec![
            Field::new("started_at", time, false),
            Field::new("duration_nano", DataType::Int64, false),
            Field::new("task", DataType::Utf8View, false),
            Field::new("hour", DataType::Utf8View, true),
            Field::new("files_before", DataType::Int64, false),
            Field::new("files_after", DataType::Int64, false),
            Field::new("bytes_before", DataType::Int64, false),
            Field::new("bytes_after", DataType::Int64, false),
            Field::new("span_count", DataType::Int64, false),
            Field::new("duplicate_count", DataType::Int64, false),
            Field::new("error", DataType::Utf8View, true),
        ];
        Self {
            log,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    fn batch(&self) -> Result<RecordBatch> {
        let records = self.log.records();
        let numbers = |number: fn(&MaintenanceRecord) -> u64| -> ArrayRef {
            let numbers = records.iter().map(number);
            Arc::new(Int64Array::from_iter_values(
                numbers.map(|number| i64::try_from(number).unwrap_or(i64::MAX)),
            ))
        };
        let texts = |text: fn(&MaintenanceRecord) -> Option<&str>| -> ArrayRef {
            Arc::new(records.iter().map(text).collect::<StringViewArray>())
        };
        let started = records.iter().map(|record| record.started_micros);
        let started = TimestampMicrosecondArray::from_iter_values(started).with_timezone("UTC");
        let durations = records.iter().map(|record| record.duration_nano);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(started),
            Arc::new(Int64Array::from_iter_values(durations)),
            texts(|record| Some(record.task)),
            texts(|record| record.hour.as_deref()),
            numbers(|record| record.files_before),
            numbers(|record| record.files_after),
            numbers(|record| record.bytes_before),
            numbers(|record| record.bytes_after),
            numbers(|record| record.span_count),
            numbers(|record| record.duplicate_count),
            texts(|record| record.error.as_deref()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Listing for LakeMaintenance {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn rows(&self) -> Result<RecordBatch> {
        self.batch()
    }
}
