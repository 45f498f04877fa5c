//! What the traces of a range of time come to, for programs.
//!
//! Read [`Lake::time_range_stats`].

use std::ops::Range;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::common::ScalarValue;

use super::Lake;
use crate::error::{Error, ErrorKind, Result};

/// Which traces count, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsOptions {
    /// Only spans of this service count, and a trace begins and ends with them; all services where
    /// not said.
    pub service: Option<String>,
    /// A row for each step of so long in which a trace begins, counted from the range's beginning;
    /// one row for all where not said.
    pub step: Option<Duration>,
    /// How long the call may take; `None` waits until it is done.
    pub time_out: Option<Duration>,
}

impl Default for StatsOptions {
    /// All services, one row, 30 seconds.
    fn default() -> Self {
        Self {
            service: None,
            step: None,
            time_out: Some(Duration::from_secs(30)),
        }
    }
}

const SQL: &str = "SELECT * FROM time_range_stats($from, $to, $service, $step)";

impl Lake {
    /// How many traces begin in a range of time, in nanoseconds since the epoch, with how many
    /// spans and errors and how long they take: the rows of SQL's `time_range_stats`, steps in the
    /// order of time.
    ///
    /// Figures of part of the files would be wrong ones, so a file that fails fails the call, and
    /// so does the time-out (`Unavailable`). A step of no length is `InvalidInput`.
    ///
    /// ```
    /// # async fn run() -> tracelake::Result<()> {
    /// # use std::time::Duration;
    /// # use tracelake::{Config, IngestProgress, Lake, Source};
    /// use arrow::array::AsArray;
    /// use arrow::datatypes::Int64Type;
    /// use tracelake::engine::StatsOptions;
    /// # let lake = Lake::create("memory:///", Config::default()).await?;
    /// # let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/otlp/collector.jsonl"));
    /// # lake.ingest(vec![Source::bytes("collector.jsonl", text)], IngestProgress::shared()).await?;
    ///
    /// let day = 1_795_132_800_000_000_000..1_795_219_200_000_000_000; // 2026-11-20
    /// let all = lake.time_range_stats(day.clone(), &StatsOptions::default()).await?;
    /// assert_eq!(all["trace_count"].as_primitive::<Int64Type>().value(0), 2);
    ///
    /// let hourly = StatsOptions {
    ///     service: Some("library".to_string()),
    ///     step: Some(Duration::from_secs(3600)),
    ///     ..StatsOptions::default()
    /// };
    /// let hours = lake.time_range_stats(day, &hourly).await?;
    /// println!("traces of the library began in {} hours", hours.num_rows());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    pub async fn time_range_stats(
        &self,
        range: Range<i64>,
        options: &StatsOptions,
    ) -> Result<RecordBatch> {
        let time = |nano: i64| ScalarValue::TimestampNanosecond(Some(nano), Some("UTC".into()));
        let text = |text: Option<String>| ScalarValue::Utf8(text);
        let step = match options.step {
            Some(Duration::ZERO) => {
                return Err(Error::invalid_input(
                    "the step of statistics has no length; leave it out, or let it be longer",
                ));
            }
            step => step.map(|step| format!("{} nanoseconds", step.as_nanos())),
        };
        let parameters = [
            ("from".to_string(), time(range.start)),
            ("to".to_string(), time(range.end)),
            ("service".to_string(), text(options.service.clone())),
            ("step".to_string(), text(step.clone())),
        ];
        let sql = match step {
            Some(_) => format!("{SQL} ORDER BY start_time"),
            None => SQL.to_string(),
        };
        let rows = async {
            let session = self.session().await?;
            let stream = session.query(&sql, &parameters).await?;
            let schema = stream.schema();
            Ok(concat_batches(&schema, &stream.collect().await?)?)
        };
        match options.time_out {
            None => rows.await,
            Some(time_out) => match tokio::time::timeout(time_out, rows).await {
                Ok(rows) => rows,
                Err(_) => Err(Error::new(
                    ErrorKind::Unavailable,
                    "the statistics took longer than their time-out; allow more time, or ask for \
                     a shorter range",
                )),
            },
        }
    }
}
