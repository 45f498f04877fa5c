//! `time_bucket`: the beginning of the bucket of time something falls into.
//!
//! Read [`TimeBucketFunc`]. It is `date_bin` with widths as dashboards write them; name and
//! arguments are TimescaleDB's, which Grafana's `$__timeGroup` calls.

use std::sync::LazyLock;

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_DATETIME;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, TIMEZONE_WILDCARD,
    TypeSignature, Volatility,
};

use super::DateBin;
use crate::error::Error;
use crate::search::parse_duration;

/// 2000-01-03, a Monday: where buckets of days and weeks are counted from
/// (<https://docs.tigerdata.com/api/latest/hyperfunctions/time_bucket/>).
const MONDAY: i64 = 946_857_600_000_000_000;

/// 2000-01-01: where buckets of months and years are counted from.
const FIRST_OF_MONTH: i64 = 946_684_800_000_000_000;

/// `time_bucket(width, time)`: the bucket's beginning, of the type of `time`; NULL for NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TimeBucketFunc {
    signature: Signature,
    date_bin: DateBin,
}

impl Default for TimeBucketFunc {
    fn default() -> Self {
        let widths = [
            DataType::Utf8,
            DataType::Utf8View,
            DataType::Interval(IntervalUnit::MonthDayNano),
        ];
        let zones = [Some(TIMEZONE_WILDCARD.into()), None];
        let units = [
            TimeUnit::Nanosecond,
            TimeUnit::Microsecond,
            TimeUnit::Millisecond,
        ];
        let mut signatures = Vec::new();
        for width in widths {
            for zone in &zones {
                for unit in units {
                    let time = DataType::Timestamp(unit, zone.clone());
                    signatures.push(TypeSignature::Exact(vec![width.clone(), time]));
                }
            }
        }
        Self {
            signature: Signature::one_of(signatures, Volatility::Immutable),
            date_bin: DateBin::default(),
        }
    }
}

impl ScalarUDFImpl for TimeBucketFunc {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.date_bin.return_type(arguments)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ColumnarValue::Scalar(width)) = arguments.args.first() else {
            return exec_err!("the width of time_bucket is a constant");
        };
        let Some(width) = interval(width)? else {
            let nothing = ScalarValue::try_from(arguments.return_type())?;
            return Ok(ColumnarValue::Scalar(nothing));
        };
        let origin = match width.months {
            0 => MONDAY,
            _ => FIRST_OF_MONTH,
        };
        let origin = ScalarValue::TimestampNanosecond(Some(origin), Some("UTC".into()));
        arguments.args[0] = ScalarValue::IntervalMonthDayNano(Some(width)).into();
        arguments.args.push(origin.into());
        self.date_bin.invoke_with_args(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Documentation::builder(
                DOC_SECTION_DATETIME,
                "The beginning of the bucket of time that a time falls into. Weeks begin on \
                 Mondays, months on their first.",
                "time_bucket(width, time)",
            )
            .with_sql_example(
                "select time_bucket('5m', timestamp '2026-11-20T10:07:30') as bucket;\n\
                 +---------------------+\n\
                 | bucket              |\n\
                 +---------------------+\n\
                 | 2026-11-20T10:05:00 |\n\
                 +---------------------+",
            )
            .with_argument(
                "width",
                "A constant interval, or a text such as `'5m'`, `'90s'`, `'300.000s'` or `'1 day'`.",
            )
            .with_argument("time", "A timestamp.")
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

/// The width of buckets; `None` for NULL.
fn interval(width: &ScalarValue) -> Result<Option<IntervalMonthDayNano>> {
    let mut interval = width.clone();
    if let Some(text) = width.try_as_str() {
        let Some(text) = text else {
            return Ok(None);
        };
        if let Ok(nanos) = parse_duration(text) {
            return positive(IntervalMonthDayNano::new(0, 0, nanos), text);
        }
        interval = width
            .cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))
            .map_err(|_| {
                Error::invalid_input(format!(
                    "no width of a bucket; write '5m', '90s' or '1 day': width=`{text}`"
                ))
            })?;
    }
    match interval {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => positive(interval, &width.to_string()),
        ScalarValue::IntervalMonthDayNano(None) => Ok(None),
        other => exec_err!("the width of time_bucket is an interval, not {other}"),
    }
}

fn positive(interval: IntervalMonthDayNano, text: &str) -> Result<Option<IntervalMonthDayNano>> {
    let is_positive = interval > IntervalMonthDayNano::ZERO
        && interval.months >= 0
        && interval.days >= 0
        && interval.nanoseconds >= 0;
    match is_positive {
        true => Ok(Some(interval)),
        false => Err(Error::invalid_input(format!(
            "buckets of time have a width above zero: width=`{text}`"
        ))
        .into()),
    }
}
