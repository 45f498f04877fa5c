//! The columns that spans have because of their places in their trace.
//!
//! Read [`tree_columns`]. Names, types and meanings are those of the relation `span_tree`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, ListBuilder, StringViewBuilder, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};

use crate::error::Result;
use crate::span::IdKind;
use crate::trace::{NONE, Placement, SelfTimes, Trace, UNFINISHED, find, for_each_path};

fn finding_field() -> Field {
    Field::new("element", DataType::Utf8View, false)
}

/// The fields of [`tree_columns`].
pub(super) fn tree_fields() -> Vec<Field> {
    use DataType::{Boolean, Int64, Utf8View};
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    let optional = |name: &str, data_type| Field::new(name, data_type, true);
    vec![
        required("depth", Int64),
        optional("path", Utf8View),
        required("tree_order", Int64),
        required("tree_end", Int64),
        required("child_count", Int64),
        required("descendant_count", Int64),
        IdKind::Span.mark(required("root_span_id", Utf8View)),
        optional("parent_service_name", Utf8View),
        optional("parent_name", Utf8View),
        optional("self_time_nano", Int64),
        required("is_orphan", Boolean),
        required("on_critical_path", Boolean),
        required("findings", DataType::List(Arc::new(finding_field()))),
    ]
}

/// The places of a trace's spans in its tree, in tree order.
pub(super) fn tree_columns(trace: &Trace) -> Result<Vec<ArrayRef>> {
    let (forest, columns) = (trace.forest(), trace.columns());
    let count = forest.len();
    let numbers = |number: &dyn Fn(usize) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..count).map(number)))
    };
    let mut paths = StringViewBuilder::with_capacity(count);
    for_each_path(forest, |_, path| paths.append_option(path));
    // Parents come before their children.
    let mut tops: Vec<u32> = Vec::with_capacity(count);
    for (node, parent) in (0u32..).zip(forest.parents()) {
        let top = if *parent == NONE {
            node
        } else {
            tops[*parent as usize]
        };
        tops.push(top);
    }
    // NULL where there is no parent.
    let parent_rows = |node: usize| forest.parent(node).map(|parent| forest.rows()[parent]);
    let parent_rows: UInt32Array = (0..count).map(parent_rows).collect();
    let of_parents = |name: &str| take(&trace.rows()[name], &parent_rows, None);
    let top_rows = tops.iter().map(|top| forest.rows()[*top as usize]);
    let top_rows = UInt32Array::from_iter_values(top_rows);
    let self_times = SelfTimes::new(&columns, forest);
    let self_times = self_times.nano().iter();
    let self_times = self_times.map(|nano| (*nano != UNFINISHED).then_some(*nano));
    let is_orphan = (0..count).map(|node| Some(forest.placement(node) == Placement::Orphan));
    Ok(vec![
        numbers(&|node| i64::from(forest.depths()[node])),
        Arc::new(paths.finish()),
        numbers(&|node| node as i64),
        numbers(&|node| forest.subtree_end(node) as i64 - 1),
        numbers(&|node| forest.child_count(node) as i64),
        numbers(&|node| forest.descendant_count(node) as i64),
        take(&trace.rows()["span_id"], &top_rows, None)?,
        of_parents("service_name")?,
        of_parents("name")?,
        Arc::new(self_times.collect::<Int64Array>()),
        Arc::new(is_orphan.collect::<BooleanArray>()),
        Arc::new(BooleanArray::from(trace.on_critical_path())),
        finding_lists(trace),
    ])
}

fn finding_lists(trace: &Trace) -> ArrayRef {
    let mut findings = Vec::new();
    find(&trace.columns(), trace.forest(), &mut findings);
    let names = StringViewBuilder::new().with_deduplicate_strings();
    let mut lists = ListBuilder::new(names).with_field(finding_field());
    for found in findings {
        found
            .names()
            .for_each(|name| lists.values().append_value(name));
        lists.append(true);
    }
    Arc::new(lists.finish())
}
