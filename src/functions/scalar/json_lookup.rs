//! One key looked up in a column of JSON objects.
//!
//! Read [`for_each_value`].

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use crate::span::{JsonLookup, lookup};

/// Which key to look up: the same in every row, or one a row.
pub(super) enum Keys {
    /// The same in every row.
    One(Option<String>),
    /// One a row.
    Each(StringViewArray),
}

/// Calls `emit` for every row with the raw JSON value of its key, or `None` where the object
/// or the key is absent.
///
/// Columns of repeated objects (resources, scopes) hold views of one text: a row with the view
/// of the row before has its value, and is not looked up again.
pub(super) fn for_each_value(
    objects: &ArrayRef,
    keys: &Keys,
    mut emit: impl FnMut(Option<&str>),
) -> Result<()> {
    let objects = text_views(objects)?;
    match keys {
        Keys::One(None) => (0..objects.len()).for_each(|_| emit(None)),
        Keys::One(Some(key)) => {
            let finder = JsonLookup::new(key);
            let views = objects.views();
            let mut last: Option<(u128, Option<&str>)> = None;
            for row in 0..objects.len() {
                if objects.is_null(row) {
                    emit(None);
                    continue;
                }
                let value = match last {
                    Some((view, value)) if view == views[row] => value,
                    _ => finder.find(objects.value(row)),
                };
                last = Some((views[row], value));
                emit(value);
            }
        }
        Keys::Each(keys) => {
            for row in 0..objects.len() {
                let absent = objects.is_null(row) || keys.is_null(row);
                emit(if absent {
                    None
                } else {
                    lookup(objects.value(row), keys.value(row))
                });
            }
        }
    }
    Ok(())
}

/// Any text array as views.
pub(super) fn text_views(array: &ArrayRef) -> Result<StringViewArray> {
    match array.data_type() {
        DataType::Utf8View => Ok(array.as_string_view().clone()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Null | DataType::Dictionary(_, _) => {
            Ok(cast(array, &DataType::Utf8View)?.as_string_view().clone())
        }
        other => exec_err!("expected a JSON object as text, got {other}"),
    }
}
