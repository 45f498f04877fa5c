//! A trace as it would be if the clocks of its hosts had agreed.
//!
//! Read [`Trace::corrected`]; by how much a span is moved says [`ClockSkew`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::TimestampNanosecondType;

use super::{ClockSkew, Trace};
use crate::error::Result;
use crate::span::{JsonLookup, list_item, render_value};

/// The attributes of a resource that name its host, the first that is there going before.
const HOST_KEYS: [&str; 3] = ["host.id", "host.ip", "host.name"];

impl Trace {
    /// The same trace, spans moved in time so that they fit into their parents where the clocks
    /// of their hosts differ by `max_delta_nano` at the most, by the rules of [`ClockSkew`].
    ///
    /// Starts, ends and the times of events are moved; durations stay. Order, self times, critical
    /// path and findings follow from the moved times.
    pub fn corrected(&self, max_delta_nano: i64) -> Result<Self> {
        let hosts = self.hosts();
        let skew = ClockSkew::new(&self.columns(), self.forest(), &hosts, max_delta_nano);
        let deltas = self.row_deltas(skew.delta_nano());
        if deltas.iter().all(|delta| *delta == 0) {
            return self.with_rows(self.rows().clone());
        }
        let rows = self.rows();
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns());
        let columns = columns.map(|(field, column)| match field.name().as_str() {
            "start_time" | "end_time" => moved(column, |row| deltas[row]),
            "events" => moved_events(column, &deltas),
            _ => Ok(Arc::clone(column)),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        self.with_rows(RecordBatch::try_new(schema, columns)?)
    }

    /// For each row the number of its host, 0 where not known.
    fn hosts(&self) -> Vec<u32> {
        let resources = self.rows().column_by_name("resource_attributes");
        let Some(resources) = resources.and_then(|column| column.as_string_view_opt()) else {
            return Vec::new();
        };
        let finders = HOST_KEYS.map(JsonLookup::new);
        // Spans of one resource share its text.
        let mut of_resource: HashMap<&str, u32> = HashMap::new();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let hosts = resources.iter().map(|resource| {
            let resource = resource.unwrap_or_default();
            *of_resource.entry(resource).or_insert_with(|| {
                let Some(host) = finders.iter().find_map(|finder| host(finder, resource)) else {
                    return 0;
                };
                let next = numbers.len() as u32 + 1;
                *numbers.entry(host).or_insert(next)
            })
        });
        hosts.collect()
    }

    /// What is to be added to the times of each row. A span that would become the copy of another
    /// one, alike in all that tells copies, stays where it is, so that none is lost.
    fn row_deltas(&self, of_nodes: &[i64]) -> Vec<i64> {
        let columns = self.columns();
        let key = |row: usize, delta: i64| {
            let start = columns.start(row).saturating_add(delta);
            let duration = columns.raw_duration(row);
            (
                columns.span_id(row),
                columns.raw_kind(row),
                start,
                duration,
                columns.name(row),
            )
        };
        let mut deltas = vec![0; self.span_count()];
        let mut taken = HashSet::new();
        for (node, delta) in of_nodes.iter().enumerate() {
            let row = self.forest().row(node);
            if *delta == 0 {
                taken.insert(key(row, 0));
            }
        }
        for (node, delta) in of_nodes.iter().enumerate() {
            let row = self.forest().row(node);
            if *delta != 0 && taken.insert(key(row, *delta)) {
                deltas[row] = *delta;
            }
        }
        deltas
    }
}

/// The host that a resource names by one of the keys.
fn host(finder: &JsonLookup, resource: &str) -> Option<String> {
    let value = finder.find(resource)?;
    let value = list_item(value, 0).unwrap_or(value);
    render_value(value)
        .filter(|host| !host.is_empty())
        .map(std::borrow::Cow::into_owned)
}

/// Times, each moved by what is said for its place.
fn moved(times: &ArrayRef, delta: impl Fn(usize) -> i64) -> Result<ArrayRef> {
    let times = times.as_primitive::<TimestampNanosecondType>();
    let values = times.values().iter().enumerate();
    let values = values.map(|(place, time)| time.saturating_add(delta(place)));
    let moved = TimestampNanosecondArray::try_new(values.collect(), times.nulls().cloned())?;
    Ok(Arc::new(moved.with_timezone_opt(times.timezone())))
}

/// Events with their times moved as the span is that has them.
fn moved_events(events: &ArrayRef, deltas: &[i64]) -> Result<ArrayRef> {
    let list: &ListArray = events.as_list();
    let items: &StructArray = list.values().as_struct();
    let mut of_items = vec![0; items.len()];
    for (row, ends) in list.value_offsets().windows(2).enumerate() {
        of_items[ends[0] as usize..ends[1] as usize].fill(deltas[row]);
    }
    let columns = items.fields().iter().zip(items.columns());
    let columns = columns.map(|(field, column)| match field.name().as_str() {
        "time" => moved(column, |item| of_items[item]),
        _ => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let items = StructArray::try_new(items.fields().clone(), columns, items.nulls().cloned())?;
    let arrow::datatypes::DataType::List(field) = list.data_type() else {
        return Ok(Arc::clone(events));
    };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(field),
        list.offsets().clone(),
        Arc::new(items),
        list.nulls().cloned(),
    )?))
}
