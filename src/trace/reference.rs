//! Which other traces a trace names.
//!
//! Read [`TraceReference`].

use arrow::array::{Array, AsArray, StringViewArray, StructArray};

use super::Trace;
use crate::span::{JsonLookup, SpanId, TraceId, render_value};

/// The attribute by which a span names another trace: an id, or a list of ids.
pub const RELATED_TRACE_ATTRIBUTE: &str = "related.trace_id";

/// A span's mention of another trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceReference {
    /// The row of the span in [`Trace::rows`].
    pub row: usize,
    /// The trace it names.
    pub trace_id: TraceId,
    /// The span it names there; `None` for an attribute, which names no span.
    pub span_id: Option<SpanId>,
}

impl Trace {
    /// The traces that spans of this one name by links ([OpenTelemetry: Links between
    /// spans](https://opentelemetry.io/docs/specs/otel/overview/#links-between-spans)) and by the
    /// attribute [`RELATED_TRACE_ATTRIBUTE`], in the order of rows, links first. The trace itself
    /// may be among them, and others more than once; malformed ids are left out.
    pub fn references(&self) -> Vec<TraceReference> {
        let mut references = Vec::new();
        let links = self.rows().column_by_name("links");
        let links = links.and_then(|links| links.as_list_opt::<i32>());
        let parts = links.and_then(|links| links.values().as_struct_opt());
        let ids = |name: &str| parts.and_then(|parts| texts_of(parts, name));
        let (trace_ids, span_ids) = (ids("trace_id"), ids("span_id"));
        let attributes = self.rows().column_by_name("attributes");
        let attributes = attributes.and_then(|attributes| attributes.as_string_view_opt());
        let finder = JsonLookup::new(RELATED_TRACE_ATTRIBUTE);
        for row in 0..self.span_count() {
            if let (Some(links), Some(trace_ids)) = (links, trace_ids)
                && links.is_valid(row)
            {
                let range = links.value_offsets()[row]..links.value_offsets()[row + 1];
                for link in range.filter_map(|link| usize::try_from(link).ok()) {
                    if let Ok(trace_id) = TraceId::parse(trace_ids.value(link)) {
                        let span_id = span_ids.and_then(|ids| SpanId::parse(ids.value(link)).ok());
                        references.push(TraceReference {
                            row,
                            trace_id,
                            span_id,
                        });
                    }
                }
            }
            if let Some(attributes) = attributes
                && attributes.is_valid(row)
                && let Some(value) = finder.find(attributes.value(row))
            {
                let ids = ids_in(value).into_iter();
                references.extend(ids.map(|trace_id| TraceReference {
                    row,
                    trace_id,
                    span_id: None,
                }));
            }
        }
        references
    }
}

fn texts_of<'a>(parts: &'a StructArray, name: &str) -> Option<&'a StringViewArray> {
    parts.column_by_name(name)?.as_string_view_opt()
}

/// The ids of a JSON text, or of a list of texts.
fn ids_in(value: &str) -> Vec<TraceId> {
    if let Ok(serde_json::Value::Array(items)) = serde_json::from_str(value) {
        let texts = items.iter().filter_map(serde_json::Value::as_str);
        return texts.filter_map(|text| TraceId::parse(text).ok()).collect();
    }
    let text = render_value(value);
    let id = text.and_then(|text| TraceId::parse(&text).ok());
    id.into_iter().collect()
}
