//! How the log writes a file down, and how it is read back.
//!
//! Read [`stats`] and its inverses: [`read_file`] for one entry, [`read_files`] for a listing. The
//! commit around them is the log's.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::DateTime;
use serde_json::{Map, Value};

use super::LakeFile;
use super::layout::{BUCKET_COLUMN, DAY_COLUMN, HOUR_COLUMN, parse_path};
use crate::error::{Error, Result};
use crate::span::column;

/// The columns of which the log keeps the least and the greatest value.
pub(super) const STATS_COLUMNS: [&str; 3] = [
    column::START_TIME_UNIX_NANO,
    column::DURATION_NANO,
    column::INGESTED_AT,
];

/// The values of the partition columns of a file.
pub(super) fn partition_values(file: &LakeFile) -> HashMap<String, Option<String>> {
    HashMap::from([
        (DAY_COLUMN.to_owned(), Some(file.hour.day())),
        (HOUR_COLUMN.to_owned(), Some(file.hour.hour().to_string())),
        (BUCKET_COLUMN.to_owned(), Some(file.bucket.to_string())),
    ])
}

/// The statistics of a file as JSON.
pub(super) fn stats(file: &LakeFile) -> String {
    let mut min = Map::new();
    let mut max = Map::new();
    min.insert(STATS_COLUMNS[0].into(), file.min_start_nano.into());
    max.insert(STATS_COLUMNS[0].into(), file.max_start_nano.into());
    if let (Some(least), Some(most)) = (file.min_duration_nano, file.max_duration_nano) {
        min.insert(STATS_COLUMNS[1].into(), least.into());
        max.insert(STATS_COLUMNS[1].into(), most.into());
    }
    min.insert(
        STATS_COLUMNS[2].into(),
        micros_text(file.min_ingested_micros),
    );
    max.insert(
        STATS_COLUMNS[2].into(),
        micros_text(file.max_ingested_micros),
    );
    let null_count = Map::from_iter([
        (STATS_COLUMNS[0].to_owned(), Value::from(0)),
        (
            STATS_COLUMNS[1].to_owned(),
            Value::from(file.null_duration_count),
        ),
        (STATS_COLUMNS[2].to_owned(), Value::from(0)),
    ]);
    let stats = Map::from_iter([
        ("numRecords".to_owned(), Value::from(file.row_count)),
        ("minValues".to_owned(), Value::Object(min)),
        ("maxValues".to_owned(), Value::Object(max)),
        ("nullCount".to_owned(), Value::Object(null_count)),
    ]);
    Value::Object(stats).to_string()
}

fn micros_text(micros: i64) -> Value {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => Value::from(time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()),
        None => Value::Null,
    }
}

/// The files that a flat listing of the log names, one a row.
///
/// What the log does not say, because another program rewrote it, is taken as the widest: the
/// whole hour. A row count has no such stand-in and is needed.
pub(super) fn read_files(batch: &RecordBatch) -> Result<Vec<LakeFile>> {
    let paths = batch
        .column_by_name("path")
        .ok_or_else(|| Error::corrupt("the log of the lake lists files without a path"))?;
    let paths = cast(paths, &DataType::Utf8)?;
    let paths = paths.as_string::<i32>();
    let sizes = Numbers::new(batch, "size_bytes")?;
    let modified = Numbers::of_time(batch, "modification_time", TimeUnit::Millisecond)?;
    let row_counts = Numbers::new(batch, "num_records")?;
    let starts = Numbers::range(batch, STATS_COLUMNS[0], None)?;
    let durations = Numbers::range(batch, STATS_COLUMNS[1], None)?;
    let ingested = Numbers::range(batch, STATS_COLUMNS[2], Some(TimeUnit::Microsecond))?;
    let null_durations = Numbers::new(batch, &format!("null_count.{}", STATS_COLUMNS[1]))?;
    let mut files = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let range = |(min, max): &(Numbers, Numbers)| (min.get(row), max.get(row));
        files.push(Record {
            path: paths.value(row),
            size: sizes.get(row),
            modified_ms: modified.get(row),
            row_count: row_counts.get(row),
            starts: range(&starts),
            durations: range(&durations),
            ingested: range(&ingested),
            null_durations: null_durations.get(row),
        });
    }
    files.into_iter().map(Record::into_file).collect()
}

/// The file that one entry of the log adds, by its statistics as JSON.
pub(super) fn read_file(
    path: &str,
    size: i64,
    modified_ms: i64,
    stats: Option<&str>,
) -> Result<LakeFile> {
    let stats: Value = match stats {
        Some(stats) => serde_json::from_str(stats).map_err(|error| {
            Error::corrupt(format!(
                "the log of the lake says of a file what is no JSON; path=`{path}`"
            ))
            .with_source(error)
        })?,
        None => Value::Null,
    };
    let range = |name: &str, read: fn(&Value) -> Option<i64>| {
        let side = |side: &str| stats.get(side)?.get(name).and_then(read);
        (side("minValues"), side("maxValues"))
    };
    Record {
        path,
        size: Some(size),
        modified_ms: Some(modified_ms),
        row_count: stats.get("numRecords").and_then(Value::as_i64),
        starts: range(STATS_COLUMNS[0], Value::as_i64),
        durations: range(STATS_COLUMNS[1], Value::as_i64),
        ingested: range(STATS_COLUMNS[2], |time| {
            let time = DateTime::parse_from_rfc3339(time.as_str()?).ok()?;
            Some(time.timestamp_micros())
        }),
        null_durations: stats
            .get("nullCount")
            .and_then(|counts| counts.get(STATS_COLUMNS[1])?.as_i64()),
    }
    .into_file()
}

/// What the log says of a file, as far as it does.
struct Record<'a> {
    path: &'a str,
    size: Option<i64>,
    modified_ms: Option<i64>,
    row_count: Option<i64>,
    starts: (Option<i64>, Option<i64>),
    durations: (Option<i64>, Option<i64>),
    ingested: (Option<i64>, Option<i64>),
    null_durations: Option<i64>,
}

impl Record<'_> {
    fn into_file(self) -> Result<LakeFile> {
        let path = self.path;
        let (hour, bucket) = parse_path(path)?;
        let row_count = self.row_count.ok_or_else(|| {
            Error::corrupt(format!(
                "the log of the lake does not say how many rows a file has; path=`{path}`"
            ))
        })?;
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(LakeFile {
            path: path.to_owned(),
            size: count(self.size.unwrap_or(0)),
            hour,
            bucket,
            row_count: count(row_count),
            min_start_nano: self.starts.0.unwrap_or(hour.start_nano()),
            max_start_nano: self.starts.1.unwrap_or(hour.end_nano()),
            min_ingested_micros: self.ingested.0.unwrap_or(i64::MIN),
            max_ingested_micros: self.ingested.1.unwrap_or(i64::MAX),
            min_duration_nano: self.durations.0,
            max_duration_nano: self.durations.1,
            null_duration_count: count(self.null_durations.unwrap_or(0)),
            modified_ms: self.modified_ms.unwrap_or(0),
            attribute_columns: Vec::new(),
        })
    }
}

/// A column of whole numbers, or nothing where the log has no such column.
struct Numbers(Option<ArrayRef>);

impl Numbers {
    fn new(batch: &RecordBatch, name: &str) -> Result<Self> {
        let column = batch.column_by_name(name);
        let column = column.map(|column| cast(column, &DataType::Int64));
        Ok(Self(column.transpose()?))
    }

    fn of_time(batch: &RecordBatch, name: &str, unit: TimeUnit) -> Result<Self> {
        let Some(column) = batch.column_by_name(name) else {
            return Ok(Self(None));
        };
        let column = match column.data_type() {
            DataType::Timestamp(_, zone) => cast(column, &DataType::Timestamp(unit, zone.clone()))?,
            _ => column.clone(),
        };
        Ok(Self(Some(cast(&column, &DataType::Int64)?)))
    }

    fn range(batch: &RecordBatch, name: &str, unit: Option<TimeUnit>) -> Result<(Self, Self)> {
        let read = |side: &str| {
            let name = format!("{side}.{name}");
            match unit {
                Some(unit) => Self::of_time(batch, &name, unit),
                None => Self::new(batch, &name),
            }
        };
        Ok((read("min")?, read("max")?))
    }

    fn get(&self, row: usize) -> Option<i64> {
        let column = self.0.as_ref()?.as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    }
}
