//! Attributes that a file stores as columns, as SQL sees them.
//!
//! Read [`AttributeDecoding`]. Like those of `decode.rs`, these functions stand only in
//! physical plans, where `attribute_access.rs` puts them.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, Int64Array,
    StringViewArray, StringViewBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::PhysicalExpr;

use crate::span::{
    AttributeColumn, AttributeOutput, AttributeType, number_of_text, render_value, write_double,
    write_json_string,
};
use crate::storage::put_together;

/// What columns of attributes become.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum AttributeDecoding {
    /// One attribute, from its columns of these types.
    One(AttributeOutput, Vec<AttributeType>),
    /// All attributes as one JSON object: from the remainder, the order, and these columns.
    Whole(Vec<AttributeColumn>),
}

impl AttributeDecoding {
    /// The expression that decodes `inputs`.
    pub(super) fn of(self, inputs: Vec<Arc<dyn PhysicalExpr>>) -> Arc<dyn PhysicalExpr> {
        static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(Arc::default);
        let output = Arc::new(Field::new(self.name(), self.data_type(), true));
        Arc::new(ScalarFunctionExpr::new(
            self.name(),
            Arc::new(ScalarUDF::from(AttributeDecodeFunc::new(self.clone()))),
            inputs,
            output,
            Arc::clone(&CONFIG),
        ))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::One(AttributeOutput::Text, _) => "decode_attribute",
            Self::One(AttributeOutput::Json, _) => "decode_attribute_json",
            Self::One(AttributeOutput::Double, _) => "decode_attribute_double",
            Self::One(AttributeOutput::Exists, _) => "decode_attribute_exists",
            Self::Whole(_) => "decode_attributes",
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::One(output, _) => output.data_type(),
            Self::Whole(_) => DataType::Utf8View,
        }
    }

    fn decode(&self, inputs: &[ArrayRef]) -> Result<ArrayRef> {
        match self {
            Self::One(output, types) => {
                let values = types.iter().zip(inputs);
                let values = values
                    .map(|(value_type, array)| Values::try_new(*value_type, array))
                    .collect::<Result<Vec<_>>>()?;
                let row_count = inputs.first().map_or(0, Array::len);
                Ok(decode_one(*output, &values, row_count))
            }
            Self::Whole(columns) => {
                let [remainder, order, values @ ..] = inputs else {
                    return exec_err!("decode_attributes takes a remainder and an order");
                };
                let view = |array: &ArrayRef| cast(array, &DataType::Utf8View);
                let columns = columns.iter().cloned().zip(values).map(|(column, values)| {
                    let values = cast(values, &column.value_type.data_type())?;
                    Ok((column, values))
                });
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let whole = put_together(&columns, &view(remainder)?, Some(&view(order)?))?;
                Ok(Arc::new(whole))
            }
        }
    }
}

/// The values of one type of an attribute.
enum Values {
    Text(StringViewArray),
    Int(Int64Array),
    Double(Float64Array),
    Bool(BooleanArray),
    Json(StringViewArray),
}

impl Values {
    fn try_new(value_type: AttributeType, array: &ArrayRef) -> Result<Self> {
        let array = cast(array, &value_type.data_type())?;
        Ok(match value_type {
            AttributeType::Text => Self::Text(array.as_string_view().clone()),
            AttributeType::Int => Self::Int(array.as_primitive::<Int64Type>().clone()),
            AttributeType::Double => Self::Double(array.as_primitive::<Float64Type>().clone()),
            AttributeType::Bool => Self::Bool(array.as_boolean().clone()),
            AttributeType::Json => Self::Json(array.as_string_view().clone()),
        })
    }

    fn is_valid(&self, row: usize) -> bool {
        match self {
            Self::Text(values) | Self::Json(values) => values.is_valid(row),
            Self::Int(values) => values.is_valid(row),
            Self::Double(values) => values.is_valid(row),
            Self::Bool(values) => values.is_valid(row),
        }
    }

    /// Appends the value as text, without quotes; false where it is JSON null.
    fn write_text(&self, row: usize, out: &mut String) -> bool {
        match self {
            Self::Text(values) => out.push_str(values.value(row)),
            Self::Json(values) => match render_value(values.value(row)) {
                Some(text) => out.push_str(&text),
                None => return false,
            },
            _ => self.write_json(row, out),
        }
        true
    }

    fn write_json(&self, row: usize, out: &mut String) {
        use std::fmt::Write as _;
        match self {
            Self::Text(values) => write_json_string(values.value(row), out),
            Self::Json(values) => out.push_str(values.value(row)),
            Self::Int(values) => {
                let _ = write!(out, "{}", values.value(row));
            }
            Self::Double(values) => write_double(values.value(row), out),
            Self::Bool(values) => out.push_str(if values.value(row) { "true" } else { "false" }),
        }
    }

    fn number(&self, row: usize) -> Option<f64> {
        match self {
            Self::Text(values) => number_of_text(values.value(row)),
            Self::Json(values) => number_of_text(&render_value(values.value(row))?),
            Self::Int(values) => Some(values.value(row) as f64),
            Self::Double(values) => Some(values.value(row)),
            Self::Bool(_) => None,
        }
    }
}

fn decode_one(output: AttributeOutput, values: &[Values], row_count: usize) -> ArrayRef {
    let at = |row: usize| values.iter().find(|values| values.is_valid(row));
    match output {
        AttributeOutput::Text | AttributeOutput::Json => {
            let mut texts = StringViewBuilder::with_capacity(row_count);
            let mut text = String::new();
            for row in 0..row_count {
                text.clear();
                let is_value = at(row).is_some_and(|values| {
                    if output == AttributeOutput::Text {
                        return values.write_text(row, &mut text);
                    }
                    values.write_json(row, &mut text);
                    true
                });
                texts.append_option(is_value.then_some(&text));
            }
            Arc::new(texts.finish())
        }
        AttributeOutput::Double => {
            let mut numbers = Float64Builder::with_capacity(row_count);
            for row in 0..row_count {
                numbers.append_option(at(row).and_then(|values| values.number(row)));
            }
            Arc::new(numbers.finish())
        }
        AttributeOutput::Exists => {
            let exists = (0..row_count).map(|row| Some(at(row).is_some()));
            Arc::new(exists.collect::<BooleanArray>())
        }
    }
}

/// [`AttributeDecoding`] as a DataFusion function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AttributeDecodeFunc {
    decoding: AttributeDecoding,
    signature: Signature,
}

impl AttributeDecodeFunc {
    fn new(decoding: AttributeDecoding) -> Self {
        Self {
            decoding,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for AttributeDecodeFunc {
    fn name(&self) -> &str {
        self.decoding.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.decoding.data_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = self.decoding.data_type();
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let inputs = ColumnarValue::values_to_arrays(&arguments.args)?;
        Ok(ColumnarValue::Array(self.decoding.decode(&inputs)?))
    }
}
