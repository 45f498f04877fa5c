//! Stored values as SQL shows them: bytes as hex, small numbers as names, nested fields renamed.
//!
//! Read [`Decoding`]. These functions stand only in physical plans, where `adapter.rs` puts
//! them; no SQL can call them.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, StringViewArray, StringViewBuilder,
    StructArray, UInt32Array,
};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
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
                Some(ids) => Ok(Arc::new(hex_array(ids))),
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

/// Fixed-size bytes as hex text: 16 bytes a value in one buffer that the views point into.
fn hex_array(ids: &FixedSizeBinaryArray) -> StringViewArray {
    let width = ids.value_length() as usize;
    let text_width = width * 2;
    let mut text = vec![0u8; ids.len() * text_width];
    for (index, chars) in text.chunks_exact_mut(text_width.max(1)).enumerate() {
        if ids.is_valid(index) {
            // The target has twice the width of the source: encoding cannot fail.
            let _ = hex::encode_to_slice(ids.value(index), chars);
        }
    }
    let mut views: Vec<u128> = Vec::with_capacity(ids.len());
    for index in 0..ids.len() {
        let start = index * text_width;
        let chars = &text[start..start + text_width];
        // A view holds the length, then four bytes of prefix, buffer and offset.
        let prefix = u32::from_le_bytes([chars[0], chars[1], chars[2], chars[3]]);
        let view = text_width as u128 | (u128::from(prefix) << 32) | ((start as u128) << 96);
        views.push(if ids.is_valid(index) { view } else { 0 });
    }
    let nulls: Option<NullBuffer> = ids.nulls().cloned();
    if u32::try_from(text.len()).is_err() {
        return hex_array_in_blocks(ids);
    }
    StringViewArray::try_new(ScalarBuffer::from(views), vec![Buffer::from(text)], nulls)
        .unwrap_or_else(|_| hex_array_in_blocks(ids))
}

/// The same by way of a builder, for arrays whose text exceeds one buffer.
fn hex_array_in_blocks(ids: &FixedSizeBinaryArray) -> StringViewArray {
    let mut builder = StringViewBuilder::with_capacity(ids.len());
    for id in ids.iter() {
        builder.append_option(id.map(hex::encode));
    }
    builder.finish()
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
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
            [Some([0u8, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]), None].into_iter(),
            8,
        )
        .unwrap();
        let text = hex_array(&ids);
        assert_eq!(text.value(0), "00f067aa0ba902b7");
        assert!(text.is_null(1));
        assert_eq!(hex_array_in_blocks(&ids), text);
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
