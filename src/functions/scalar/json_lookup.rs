//! One key looked up in a column of JSON objects.
//!
//! Read [`for_each_value`].

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use crate::span::{JsonLookup, list_item, lookup};

/// Texts of which the value found is remembered.
const REMEMBERED: usize = 256;

/// Which key to look up: the same in every row, or one a row.
pub(super) enum Keys {
    /// The same in every row.
    One(Option<String>),
    /// One a row.
    Each(StringViewArray),
    /// The same place of a list in every row.
    Item(Option<i64>),
    /// A place of a list a row.
    EachItem(Int64Array),
}

/// Calls `emit` for every row with the raw JSON value of its key, or `None` where the object
/// or the key is absent.
///
/// Columns of repeated objects (resources, scopes) hold views of a few texts, each of which is
/// looked into once.
pub(super) fn for_each_value(
    objects: &ArrayRef,
    keys: &Keys,
    mut emit: impl FnMut(Option<&str>),
) -> Result<()> {
    let objects = text_views(objects)?;
    match keys {
        Keys::One(None) | Keys::Item(None) => (0..objects.len()).for_each(|_| emit(None)),
        Keys::One(Some(key)) => {
            let finder = JsonLookup::new(key);
            for_each_distinct(&objects, |object| finder.find(object), emit);
        }
        Keys::Item(Some(index)) => {
            for_each_distinct(&objects, |list| list_item(list, *index), emit);
        }
        Keys::Each(keys) => {
            for (object, key) in objects.iter().zip(keys) {
                emit(
                    object
                        .zip(key)
                        .and_then(|(object, key)| lookup(object, key)),
                );
            }
        }
        Keys::EachItem(indexes) => {
            for (list, index) in objects.iter().zip(indexes) {
                emit(
                    list.zip(index)
                        .and_then(|(list, index)| list_item(list, index)),
                );
            }
        }
    }
    Ok(())
}

/// Calls `find` once for each text, as far as rows share it, and `emit` for every row.
fn for_each_distinct<'a>(
    objects: &'a StringViewArray,
    find: impl Fn(&'a str) -> Option<&'a str>,
    mut emit: impl FnMut(Option<&str>),
) {
    let views = objects.views();
    let mut last: Option<(u128, Option<&str>)> = None;
    let mut found: HashMap<u128, Option<&str>> = HashMap::new();
    for row in 0..objects.len() {
        if objects.is_null(row) {
            emit(None);
            continue;
        }
        let view = views[row];
        let value = match last {
            Some((same, value)) if same == view => value,
            // Texts that do not repeat are not worth remembering.
            _ if found.len() > REMEMBERED => find(objects.value(row)),
            _ => *found
                .entry(view)
                .or_insert_with(|| find(objects.value(row))),
        };
        last = Some((view, value));
        emit(value);
    }
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
