//! The `lake_maintenance` table: one row a work that this process did on the lake.
//!
//! Read [`LakeMaintenanceTable`].

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::storage::{MaintenanceLog, MaintenanceRecord};

/// The works done as a table; each scan sees those done until then.
#[derive(Debug)]
pub struct LakeMaintenanceTable {
    log: Arc<MaintenanceLog>,
    schema: SchemaRef,
}

impl LakeMaintenanceTable {
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

#[async_trait]
impl TableProvider for LakeMaintenanceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = MemTable::try_new(self.schema(), vec![vec![self.batch()?]])?;
        table.scan(state, projection, filters, limit).await
    }
}
