//! Stored values as SQL shows them: bytes as hex, small numbers as names, nested fields renamed.
//!
//! Read [`Decoding`]. These functions stand only in physical plans, where `adapter.rs` puts
//! them; no SQL can call them.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, StringArray, StringViewArray,
    StructArray, UInt32Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int8Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::PhysicalExpr;

use crate::span::{SpanKind, StatusCode, logical_event_fields, logical_link_fields};

/// How a stored column becomes a logical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Decoding {
    /// Bytes to lower-case hex.
    Hex,
    /// A span kind's number to its name.
    KindName,
    /// A status code's number to its name.
    StatusName,
    /// Stored events to logical ones.
    Events,
    /// Stored links to logical ones.
    Links,
}

impl Decoding {
    /// The expression that decodes `input` into the logical field `output`.
    pub(super) fn of(
        self,
        input: Arc<dyn PhysicalExpr>,
        output: FieldRef,
    ) -> Arc<dyn PhysicalExpr> {
        static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(Arc::default);
        let function = Arc::new(ScalarUDF::from(DecodeFunc::new(self)));
        Arc::new(ScalarFunctionExpr::new(
            self.name(),
            function,
            vec![input],
            output,
            Arc::clone(&CONFIG),
        ))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hex => "decode_hex",
            Self::KindName => "decode_kind",
            Self::StatusName => "decode_status",
            Self::Events => "decode_events",
            Self::Links => "decode_links",
        }
    }

    fn decode(self, stored: &ArrayRef) -> Result<ArrayRef> {
        match self {
            Self::Hex => match stored.as_fixed_size_binary_opt() {
                Some(ids) => Ok(Arc::new(hex_array(ids)?)),
                None => exec_err!("an id column is stored as {}", stored.data_type()),
            },
            Self::KindName => names(stored, &SpanKind::ALL.map(SpanKind::name)),
            Self::StatusName => names(stored, &StatusCode::ALL.map(StatusCode::name)),
            Self::Events => list_as(stored, &logical_event_fields()),
            Self::Links => list_as(stored, &logical_link_fields()),
        }
    }
}

/// [`Decoding`] as a DataFusion function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DecodeFunc {
    decoding: Decoding,
    signature: Signature,
}

impl DecodeFunc {
    fn new(decoding: Decoding) -> Self {
        Self {
            decoding,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for DecodeFunc {
    fn name(&self) -> &str {
        self.decoding.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.decoding {
            Decoding::Hex | Decoding::KindName | Decoding::StatusName => DataType::Utf8View,
            Decoding::Events => list_type(logical_event_fields()),
            Decoding::Links => list_type(logical_link_fields()),
        })
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        let data_type = self.return_type(&[])?;
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &arguments.args[..] {
            [ColumnarValue::Array(stored)] => {
                Ok(ColumnarValue::Array(self.decoding.decode(stored)?))
            }
            [ColumnarValue::Scalar(stored)] => {
                let decoded = self.decoding.decode(&stored.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                    &decoded, 0,
                )?))
            }
            other => exec_err!("{} takes one argument, got {}", self.name(), other.len()),
        }
    }
}

fn list_type(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new(
        "element",
        DataType::Struct(fields),
        false,
    )))
}

/// Ids as hex text.
fn hex_array(ids: &FixedSizeBinaryArray) -> Result<StringViewArray> {
    match ids.value_length() {
        16 => hex_ids::<16>(ids),
        8 => hex_ids::<8>(ids),
        other => exec_err!("an id has {other} bytes"),
    }
}

/// Ids that follow one another and are the same, as those of the spans of a trace, are one text.
fn hex_ids<const N: usize>(ids: &FixedSizeBinaryArray) -> Result<StringViewArray> {
    let (values, _) = ids.value_data().as_chunks::<N>();
    let values = &values[ids.offset()..ids.offset() + ids.len()];
    let runs = || values.chunk_by(|a, b| a == b);
    let run_count = runs().count();
    if 2 * run_count > values.len() {
        return hex_texts(values.iter(), ids.nulls().cloned());
    }
    let texts = hex_texts(runs().map(|run| &run[0]), None)?;
    let mut places = Vec::with_capacity(values.len());
    for (place, run) in (0..).zip(runs()) {
        places.resize(places.len() + run.len(), place);
    }
    let places = UInt32Array::new(places.into(), ids.nulls().cloned());
    Ok(take(&texts, &places, None)?.as_string_view().clone())
}

fn hex_texts<'a, const N: usize>(
    values: impl Iterator<Item = &'a [u8; N]>,
    nulls: Option<NullBuffer>,
) -> Result<StringViewArray> {
    // Computed, not looked up, so that many digits are made at a time.
    let digit = |number: u8| number + if number < 10 { b'0' } else { b'a' - 10 };
    let mut texts = Vec::with_capacity(values.size_hint().0 * 2 * N);
    for value in values {
        let mut digits = [[0; 2]; N];
        for (digits, byte) in digits.iter_mut().zip(value) {
            *digits = [digit(byte >> 4), digit(byte & 15)];
        }
        texts.extend_from_slice(digits.as_flattened());
    }
    let Ok(end) = i32::try_from(texts.len()) else {
        return exec_err!("a batch holds too many ids");
    };
    let offsets: ScalarBuffer<i32> = (0..=end).step_by(2 * N).collect();
    // Checked as a whole: views are checked one by one.
    let texts = StringArray::try_new(OffsetBuffer::new(offsets), Buffer::from(texts), nulls)?;
    Ok(StringViewArray::from(&texts))
}

/// Small numbers as names: views are gathered from an array of all names, which copies no text.
fn names(stored: &ArrayRef, names: &[&str]) -> Result<ArrayRef> {
    let Some(numbers) = stored.as_primitive_opt::<Int8Type>() else {
        return exec_err!("an enum column is stored as {}", stored.data_type());
    };
    let known = 0..names.len();
    let indices: UInt32Array = numbers.unary(|number| match usize::try_from(number) {
        Ok(index) if known.contains(&index) => u32::from(number.unsigned_abs()),
        _ => 0,
    });
    let names = StringViewArray::from_iter_values(names);
    Ok(take(&names, &indices, None)?)
}

/// A list of stored structs as a list of logical ones, field by field in the stored order.
fn list_as(stored: &ArrayRef, fields: &Fields) -> Result<ArrayRef> {
    let Some(list) = stored.as_list_opt::<i32>() else {
        return exec_err!("a list column is stored as {}", stored.data_type());
    };
    let Some(items) = list.values().as_struct_opt() else {
        return exec_err!("a list column holds {}", list.values().data_type());
    };
    let columns = fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let stored = items.columns().get(index);
            match (stored, field.data_type()) {
                (None, data_type) => Ok(arrow::array::new_null_array(data_type, items.len())),
                (Some(ids), DataType::Utf8View)
                    if matches!(ids.data_type(), DataType::FixedSizeBinary(_)) =>
                {
                    Decoding::Hex.decode(ids)
                }
                (Some(column), data_type) => Ok(cast(column, data_type)?),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let items = StructArray::try_new_with_length(
        fields.clone(),
        columns,
        items.nulls().cloned(),
        items.len(),
    )?;
    let element = Field::new("element", DataType::Struct(fields.clone()), false);
    Ok(Arc::new(ListArray::try_new(
        Arc::new(element),
        list.offsets().clone(),
        Arc::new(items),
        list.nulls().cloned(),
    )?))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int8Array;

    use super::*;

    #[test]
    fn bytes_become_hex_and_nulls_stay() {
        let id = |last: u8| Some([0u8, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, last]);
        for ids in [
            vec![id(0xb7), None, id(0)],
            vec![id(1), id(1), id(1), None, None, id(1), id(2), id(2), id(2)],
            vec![None, None, None, id(0xff)],
        ] {
            let stored =
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.iter().copied(), 8)
                    .unwrap();
            for from in 0..ids.len() {
                let text = hex_array(&stored.slice(from, ids.len() - from)).unwrap();
                let expected = ids[from..].iter().map(|id| id.map(hex::encode));
                assert_eq!(text, expected.collect::<StringViewArray>());
            }
        }
    }

    #[test]
    fn an_unknown_number_has_the_first_name() {
        let kinds: ArrayRef = Arc::new(Int8Array::from(vec![Some(2), Some(99), Some(-1), None]));
        let decoded = Decoding::KindName.decode(&kinds).unwrap();
        let decoded = decoded.as_string_view();
        assert_eq!(decoded.value(0), "SERVER");
        assert_eq!(decoded.value(1), "UNSPECIFIED");
        assert_eq!(decoded.value(2), "UNSPECIFIED");
        assert!(decoded.is_null(3));
    }
}
