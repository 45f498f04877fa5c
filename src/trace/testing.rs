//! What the tests of this room share: spans written as lines, random traces, and definitions that
//! are obviously right and slow.

use proptest::prelude::*;

use super::critical_path::PathSection;
use super::{
    EdgeDetails, EdgeMode, Forest, LinkTarget, NO_OFFSET, NONE, SpanRow, TraceBuffer, TraceColumns,
    UNFINISHED, service_edges,
};
use crate::span::{SpanId, SpanKind, StatusCode};

/// Spans from lines `id parent start duration service [KIND] [ERROR] [name]`: `-` is no parent, a
/// duration `?` is that of a span that never ended, a service `?` is not known.
pub(super) fn spans(rows: &[&str]) -> TraceBuffer {
    let mut buffer = TraceBuffer::default();
    push_spans(&mut buffer, rows);
    buffer
}

/// The edges of spans as `caller>callee kind`, with `!` where they failed. Rows have peers and links
/// to other rows' ids.
pub(super) fn edge_texts(
    mode: EdgeMode,
    rows: &[&str],
    peers: &[(usize, &str)],
    links: &[(u32, u64)],
) -> Vec<String> {
    let mut buffer = spans(rows);
    let mut peer = vec![NONE; rows.len()];
    for (row, name) in peers {
        peer[*row] = buffer.service(name);
    }
    let links: Vec<_> = links
        .iter()
        .map(|(row, id)| (*row, LinkTarget::Span(*id)))
        .collect();
    let details = EdgeDetails {
        peer: &peer,
        links: &links,
    };
    let columns = buffer.columns();
    let mut found = Vec::new();
    service_edges(&columns, &Forest::new(&columns), &details, mode, &mut found);
    let name = |number| buffer.service_name(number).unwrap();
    let texts = found.iter().map(|edge| {
        let failed = if edge.is_error { "!" } else { "" };
        let (caller, callee) = (name(edge.caller), name(edge.callee));
        format!("{caller}>{callee} {}{failed}", edge.kind.name())
    });
    texts.collect()
}

pub(super) fn push_spans(buffer: &mut TraceBuffer, rows: &[&str]) {
    for row in rows {
        buffer.push(&read_row(row));
    }
}

fn read_row(row: &str) -> SpanRow<'_> {
    let mut words = row.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let id = span_id(number(word()) as u64);
    let parent = word();
    let mut span = SpanRow {
        span_id: id.unwrap(),
        parent_span_id: (parent != "-")
            .then(|| span_id(number(parent) as u64))
            .flatten(),
        start_time_unix_nano: number(word()),
        duration_nano: Some(word()).filter(|text| *text != "?").map(number),
        kind: SpanKind::Unspecified,
        status_code: StatusCode::Unset,
        service_name: Some(word()).filter(|text| *text != "?").unwrap_or(""),
        name: "",
    };
    for word in words {
        match (SpanKind::from_name(word), StatusCode::from_name(word)) {
            (Some(kind), _) => span.kind = kind,
            (None, Some(code)) => span.status_code = code,
            (None, None) => span.name = word,
        }
    }
    span
}

pub(super) fn span_id(number: u64) -> Option<SpanId> {
    SpanId::from_bytes(number.to_be_bytes())
}

/// The spans of a random trace: short ids, so that parents are missing, ids shared and circles
/// closed, short times, so that they tie, and rows told twice.
#[derive(Debug, Clone)]
pub(super) struct RandomRows(pub(super) Vec<RandomRow>);

/// Id, parent (0 is none), start, duration (20 is none), service and name together, kind.
type RandomRow = (u8, u8, i64, i64, u8, usize);

pub(super) fn random_rows() -> impl Strategy<Value = RandomRows> {
    let row = (1u8..20, 0u8..22, 0i64..12, -2i64..21, 0u8..4, 0usize..6);
    (proptest::collection::vec(row, 0..24), any::<bool>()).prop_map(|(mut rows, has_copies)| {
        if has_copies {
            rows.extend(rows.clone().into_iter().step_by(3));
        }
        RandomRows(rows)
    })
}

impl RandomRows {
    pub(super) fn buffer(&self) -> TraceBuffer {
        let mut buffer = TraceBuffer::default();
        for (id, parent, start, duration, text, kind) in &self.0 {
            buffer.push(&SpanRow {
                span_id: span_id(u64::from(*id)).unwrap(),
                parent_span_id: span_id(u64::from(*parent)),
                start_time_unix_nano: *start,
                duration_nano: (*duration != 20).then_some(*duration),
                kind: SpanKind::ALL[*kind],
                status_code: StatusCode::Unset,
                service_name: ["", "a", "b", "b"][usize::from(*text)],
                name: ["x", "x", "x", "y"][usize::from(*text)],
            });
        }
        buffer
    }
}

/// Offsets as they are stored: to the first row with the parent's id.
pub(super) fn stored_offsets(columns: &TraceColumns<'_>) -> Vec<i32> {
    let rows = 0..columns.len();
    rows.map(|row| {
        let parent = columns.parent_span_id[row];
        let at = columns.span_id.iter().position(|id| *id == parent);
        at.filter(|_| parent != 0)
            .map_or(NO_OFFSET, |at| at as i32 - row as i32)
    })
    .collect()
}

/// The moments of a span that no child has, counted one by one.
pub(super) fn naive_self_time(columns: &TraceColumns<'_>, forest: &Forest, node: usize) -> i64 {
    let row = forest.row(node);
    let Some(duration) = columns.duration(row) else {
        return UNFINISHED;
    };
    let start = columns.start(row);
    let moments = start..start + duration.max(0);
    let children: Vec<usize> = (0..forest.len())
        .filter(|child| forest.parent(*child) == Some(node))
        .map(|child| forest.row(child))
        .collect();
    moments
        .filter(|moment| {
            !children
                .iter()
                .any(|child| (columns.start(*child)..columns.end(*child)).contains(moment))
        })
        .count() as i64
}

/// The critical path as Jaeger UI describes it, recursively, and searching all nodes at each step.
pub(super) fn naive_critical_path(columns: &TraceColumns<'_>, forest: &Forest) -> Vec<PathSection> {
    let mut clipped: Vec<Option<(i64, i64)>> = Vec::new();
    for node in 0..forest.len() {
        let row = forest.row(node);
        let (start, end) = (columns.start(row), columns.end(row));
        clipped.push(match forest.parent(node) {
            None => Some((start, end)),
            Some(parent) => match clipped[parent] {
                None => None,
                _ if columns.kind(forest.row(parent)) == SpanKind::Producer
                    && columns.kind(row) == SpanKind::Consumer =>
                {
                    None
                }
                Some((_, to)) if start >= to => None,
                Some((from, _)) if start < from && end <= from => None,
                Some((from, to)) => Some((start.max(from), end.min(to))),
            },
        });
    }
    let mut sections = Vec::new();
    for top in forest.tops() {
        let mut path = Vec::new();
        naive_step(forest, &clipped, top, None, &mut path);
        path.reverse();
        sections.extend(path.into_iter().map(|(node, start, end)| PathSection {
            top: top as u32,
            node: node as u32,
            start,
            end,
        }));
    }
    sections
}

fn naive_step(
    forest: &Forest,
    clipped: &[Option<(i64, i64)>],
    node: usize,
    returned_at: Option<i64>,
    path: &mut Vec<(usize, i64, i64)>,
) {
    let Some((start, end)) = clipped[node] else {
        return;
    };
    let at = returned_at.unwrap_or(end);
    let mut last: Option<(usize, i64)> = None;
    for child in forest.children(node) {
        let Some((_, child_end)) = clipped[child] else {
            continue;
        };
        let in_time = returned_at.is_none_or(|at| child_end < at);
        if in_time && last.is_none_or(|(_, end)| child_end > end) {
            last = Some((child, child_end));
        }
    }
    let from = last.map_or(start, |(_, end)| end);
    if from != at {
        path.push((node, from, at));
    }
    if let Some((child, _)) = last {
        naive_step(forest, clipped, child, None, path);
        let child_start = clipped[child].map(|(start, _)| start);
        naive_step(forest, clipped, node, child_start, path);
    }
}
