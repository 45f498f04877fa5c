//! `date_bin` without a division for each row: dashboards call it for every span.
//!
//! Read [`DateBin`]. It is DataFusion's function in all that can be seen; only how a column of
//! nanoseconds is put into bins of one width is its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime::date_bin::DateBinFunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};

/// DataFusion's `date_bin(width, time [, origin])`.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct DateBin {
    library: DateBinFunc,
}

impl ScalarUDFImpl for DateBin {
    fn name(&self) -> &str {
        self.library.name()
    }

    fn signature(&self) -> &Signature {
        self.library.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.library.return_type(arguments)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.library.output_ordering(inputs)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match nanos_in_bins(&arguments.args) {
            Some(bins) => Ok(ColumnarValue::Array(bins)),
            None => self.library.invoke_with_args(arguments),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.library.documentation()
    }
}

/// The bins of a column of nanoseconds; `None` for what is left to the library: other units,
/// months, and times before the origin.
fn nanos_in_bins(arguments: &[ColumnarValue]) -> Option<ArrayRef> {
    let (width, times, origin) = match arguments {
        [ColumnarValue::Scalar(width), ColumnarValue::Array(times)] => (width, times, 0),
        [
            ColumnarValue::Scalar(width),
            ColumnarValue::Array(times),
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(origin), _)),
        ] => (width, times, *origin),
        _ => return None,
    };
    let DataType::Timestamp(TimeUnit::Nanosecond, zone) = times.data_type() else {
        return None;
    };
    let ScalarValue::IntervalMonthDayNano(Some(width)) = width else {
        return None;
    };
    if (width.months, width.days) != (0, 0) || width.nanoseconds <= 0 || origin < 0 {
        return None;
    }
    let times = times.as_primitive::<TimestampNanosecondType>();
    // Not the first one that is: all of them are compared many at a time.
    let any_before = |any, time: &i64| any | (*time < origin);
    if times.values().iter().fold(false, any_before) {
        return None;
    }
    let divisor = Divisor::new(width.nanoseconds.unsigned_abs());
    let begin = |time: i64| time - divisor.rest((time - origin).unsigned_abs()).cast_signed();
    let begins: PrimitiveArray<TimestampNanosecondType> = times.unary(begin);
    Some(Arc::new(begins.with_timezone_opt(zone.clone())))
}

/// A number that others are divided by, again and again.
struct Divisor {
    number: u64,
    /// How many times it goes into the greatest number: a product with it, shifted, is a quotient
    /// that is right or one too small.
    reciprocal: u64,
}

impl Divisor {
    fn new(number: u64) -> Self {
        let reciprocal = u64::MAX / number;
        Self { number, reciprocal }
    }

    /// What is left of a number.
    fn rest(&self, of: u64) -> u64 {
        let product = u128::from(of) * u128::from(self.reciprocal);
        let quotient = (product >> u64::BITS) as u64;
        let rest = of - quotient * self.number;
        rest.checked_sub(self.number).unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampNanosecondArray;
    use arrow::datatypes::{Field, IntervalMonthDayNano};
    use datafusion::config::ConfigOptions;
    use proptest::prelude::*;

    use super::*;

    fn called(function: &dyn ScalarUDFImpl, arguments: &[ColumnarValue]) -> ArrayRef {
        let types = arguments.iter().map(ColumnarValue::data_type);
        let field = |data_type| Arc::new(Field::new("argument", data_type, true));
        let number_rows = 3;
        let arguments = ScalarFunctionArgs {
            args: arguments.to_vec(),
            arg_fields: types.map(field).collect(),
            number_rows,
            return_field: field(arguments[1].data_type()),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let result = function.invoke_with_args(arguments).unwrap();
        result.into_array(number_rows).unwrap()
    }

    proptest! {
        #[test]
        fn bins_are_those_of_the_library(
            width in prop_oneof![1..10_000i64, Just(300_000_000_000), 1..=i64::MAX],
            first in prop_oneof![-1_000..1_000_000i64, any::<i64>()],
            second in 0..=i64::MAX,
            origin in prop::option::of(prop_oneof![-1_000..1_000i64, any::<i64>()]),
            zone in prop::option::of(Just("UTC")),
        ) {
            let times = TimestampNanosecondArray::from(vec![Some(first), None, Some(second)]);
            let zone = zone.map(Arc::from);
            let times: ArrayRef = Arc::new(times.with_timezone_opt(zone.clone()));
            let width = IntervalMonthDayNano::new(0, 0, width);
            let width = ScalarValue::IntervalMonthDayNano(Some(width));
            let origin = origin.map(|o| ScalarValue::TimestampNanosecond(Some(o), zone).into());
            let arguments = [width.into(), ColumnarValue::Array(times)];
            let arguments: Vec<_> = arguments.into_iter().chain(origin).collect();
            let expected = called(&DateBinFunc::new(), &arguments);
            prop_assert_eq!(&called(&DateBin::default(), &arguments), &expected);
        }
    }

    #[test]
    fn rests_are_exact_at_the_borders() {
        for number in [1, 2, 3, 1 << 32, (1 << 63) - 1, u64::MAX] {
            let divisor = Divisor::new(number);
            for of in [
                0,
                1,
                number - 1,
                number,
                u64::MAX / 2,
                u64::MAX - 1,
                u64::MAX,
            ] {
                assert_eq!(divisor.rest(of), of % number, "{of} by {number}");
            }
        }
    }
}
