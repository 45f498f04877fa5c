//! Columns of results while traces are worked through.
//!
//! Read [`id_column`] and [`passed_column`].

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    UInt32Array,
};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::Result;

/// Bytes of buffers that an array may hold on to without using them.
const UNUSED_BYTES: usize = 64 << 10;

/// Ids as lower-case hex, NULL where `None`; `N` is how many bytes an id has.
pub(super) fn id_column<const N: usize>(ids: impl Iterator<Item = Option<[u8; N]>>) -> ArrayRef {
    let width = N * 2;
    let mut text = Vec::with_capacity(ids.size_hint().0 * width);
    let mut views: Vec<u128> = Vec::with_capacity(ids.size_hint().0);
    let mut valid = Vec::with_capacity(ids.size_hint().0);
    for id in ids {
        let start = text.len();
        valid.push(id.is_some());
        let Some(id) = id else {
            views.push(0);
            continue;
        };
        text.resize(start + width, 0);
        // The target has twice the width of the source: encoding cannot fail.
        let _ = hex::encode_to_slice(id, &mut text[start..]);
        // A view holds the length, then four bytes of prefix, buffer and offset.
        let mut prefix = [0; 4];
        prefix.copy_from_slice(&text[start..start + 4]);
        let prefix = u128::from(u32::from_le_bytes(prefix));
        views.push(width as u128 | (prefix << 32) | ((start as u128) << 96));
    }
    let nulls = valid.contains(&false).then(|| valid.clone().into());
    let count = views.len();
    if u32::try_from(text.len()).is_ok()
        && let Ok(array) = StringViewArray::try_new(
            ScalarBuffer::from(views),
            vec![Buffer::from(text.clone())],
            nulls,
        )
    {
        return Arc::new(array);
    }
    // More text than one buffer takes.
    let mut texts = text.chunks_exact(width.max(1));
    let values = valid.iter().take(count).map(|valid| {
        let bytes = if *valid { texts.next() } else { None };
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    });
    Arc::new(values.collect::<StringViewArray>())
}

/// Nanoseconds since the epoch as times.
pub(super) fn time_column(nanos: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"))
}

/// Microseconds since the epoch as times.
pub(super) fn micro_time_column(micros: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

/// Rows of a column as they are; texts no longer hold on to what others of the column need.
pub(super) fn passed_column(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    let taken = take(column.as_ref(), rows, None)?;
    Ok(match taken.as_string_view_opt() {
        Some(texts) if wastes(texts) => Arc::new(texts.gc()),
        _ => taken,
    })
}

fn wastes(texts: &StringViewArray) -> bool {
    let held: usize = texts.data_buffers().iter().map(Buffer::len).sum();
    held > UNUSED_BYTES && held > 2 * texts.total_buffer_bytes_used()
}

/// About how many bytes a value of this type takes.
pub(super) fn row_bytes(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn ids_become_hex_and_missing_ones_null() {
        let ids = [Some(0x00f0_67aa_0ba9_02b7_u64), None, Some(1)];
        let column = id_column(ids.into_iter().map(|id| id.map(u64::to_be_bytes)));
        let column = column.as_string_view();
        assert_eq!(column.value(0), "00f067aa0ba902b7");
        assert!(column.is_null(1));
        assert_eq!(column.value(2), "0000000000000001");
    }
}
