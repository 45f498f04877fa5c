//! Finds the spans of other traces to which links lead.
//!
//! Read [`follow_links`].

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int8Type;
use datafusion::common::Result;
use futures::TryStreamExt;

use super::edge_finder::stored_links;
use super::needs::Needs;
use super::range_rows::{RangeRows, trace_numbers};
use crate::span::{SpanKind, TraceId, column};
use crate::table::{TraceScan, scan_column, stored_index};
use crate::trace::LinkTarget;

/// Looks up the spans to which CONSUMER spans of a range link, among all that the scan may read,
/// so as far as its margin goes.
pub(super) async fn follow_links(scan: &TraceScan, rows: &mut RangeRows) -> Result<()> {
    let mut wanted = outgoing(rows);
    wanted.sort_unstable();
    wanted.dedup();
    let mut ids: Vec<TraceId> = wanted
        .iter()
        .filter_map(|(trace, _)| TraceId::from_bytes(trace.to_be_bytes()))
        .collect();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    let columns = [
        stored_index(column::TRACE_ID)?,
        Needs::SPAN_ID.index()?,
        Needs::KIND.index()?,
        Needs::SERVICE.index()?,
    ];
    let reader = scan.reader(columns.map(scan_column).to_vec())?;
    let mut linked = HashMap::new();
    for file in 0..scan.file_count() {
        let stretches = scan.rows_of(file, &ids);
        if stretches.is_empty() {
            continue;
        }
        let mut batches = scan.read(&reader, file, &stretches)?;
        while let Some(batch) = batches.try_next().await? {
            add_found(&batch, &wanted, rows, &mut linked)?;
        }
    }
    rows.set_linked(linked);
    Ok(())
}

/// The traces and spans to which links of CONSUMER spans lead.
fn outgoing(rows: &RangeRows) -> Vec<(u128, u64)> {
    let links = rows.passed(0).and_then(|links| links.as_list_opt::<i32>());
    let Some(links) = links else {
        return Vec::new();
    };
    let mut wanted = Vec::new();
    for run in rows.runs() {
        for place in run.start as usize..run.end as usize {
            if rows.columns.kind.get(place) == Some(&(SpanKind::Consumer as i8)) {
                let elsewhere = stored_links(links, place);
                wanted.extend(elsewhere.filter(|(trace, _)| *trace != run.trace));
            }
        }
    }
    wanted
}

fn add_found(
    batch: &RecordBatch,
    wanted: &[(u128, u64)],
    rows: &mut RangeRows,
    linked: &mut HashMap<(u128, u64), LinkTarget>,
) -> Result<()> {
    let mut traces = Vec::new();
    trace_numbers(batch.column(0), &mut traces)?;
    let spans: &ArrayRef = batch.column(1);
    let (Some(spans), Some(kinds), Some(services)) = (
        spans.as_fixed_size_binary_opt(),
        batch.column(2).as_primitive_opt::<Int8Type>(),
        batch.column(3).as_string_view_opt(),
    ) else {
        return datafusion::common::exec_err!("columns of spans have unexpected types");
    };
    let mut row = 0;
    for same in traces.chunk_by(|a, b| a == b) {
        let (trace, first) = (same[0], row);
        row += same.len();
        let from = wanted.partition_point(|(other, _)| *other < trace);
        if wanted.get(from).is_none_or(|(other, _)| *other != trace) {
            continue;
        }
        for row in first..row {
            let span = u64::from_be_bytes(spans.value(row).try_into().unwrap_or_default());
            if wanted.binary_search(&(trace, span)).is_err() || services.is_null(row) {
                continue;
            }
            let target = LinkTarget::Elsewhere {
                service: rows.services.number(services.value(row)),
                kind: kinds.value(row),
            };
            // Where several spans have the id, the one that sent the message counts.
            if kinds.value(row) == SpanKind::Producer as i8 {
                linked.insert((trace, span), target);
            } else {
                linked.entry((trace, span)).or_insert(target);
            }
        }
    }
    Ok(())
}
