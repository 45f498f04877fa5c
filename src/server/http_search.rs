//! `POST /api/v1/search`: a search in, one page of traces out.
//!
//! Read [`search`]. What is asked is the engine's `TraceQuery`, field by field; the traces have
//! the columns of SQL's `search_traces`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::http::{Problem, Shared, read_body};
use super::search_request::read_search;
use crate::error::Result;
use crate::search::{SearchHit, SearchPage};

/// Answers one search.
pub(super) async fn search(
    axum::extract::State(api): Shared,
    request: Request,
) -> Result<Response, Problem> {
    api.check(request.headers())?;
    let body = read_body(request, api.max_request).await?;
    let query = read_search(&body)?;
    let lake = api.lake.clone();
    let running = async move { lake.search(&query).await };
    let page = api
        .gate
        .answer("http", running, |page| page.hits.len() as u64)
        .await?;
    let head = [(CONTENT_TYPE, "application/json")];
    let answer = Body::from(answer(&page).to_string());
    Ok((head, answer).into_response())
}

fn answer(page: &SearchPage) -> Value {
    json!({
        "traces": page.hits.iter().map(trace).collect::<Vec<_>>(),
        "next_cursor": page.next_cursor,
        "total_count": page.total,
    })
}

fn trace(hit: &SearchHit) -> Value {
    let trace = &hit.trace;
    let span_ids = hit.matched_span_ids.iter().map(ToString::to_string);
    json!({
        "trace_id": trace.trace_id.to_string(),
        "root_service": trace.root_service,
        "root_name": trace.root_name,
        "start_time": nano_text(trace.start_nano),
        "end_time": nano_text(trace.end_nano),
        "duration_nano": trace.duration_nano(),
        "duration_ms": trace.duration_nano() as f64 / 1e6,
        "span_count": trace.span_count,
        "service_count": trace.service_count,
        "error_count": trace.error_count,
        "has_root": trace.has_root,
        "orphan_count": trace.orphan_count,
        "first_ingested_at": trace.first_ingested_micros.map(micro_text),
        "last_ingested_at": trace.last_ingested_micros.map(micro_text),
        "matched_span_count": hit.matched_span_count,
        "matched_span_ids": span_ids.collect::<Vec<_>>(),
        "last_match_time": nano_text(hit.last_match_nano),
        "longest_match_nano": hit.longest_match_nano,
        "cursor": hit.cursor,
    })
}

fn nano_text(nano: i64) -> String {
    DateTime::from_timestamp_nanos(nano).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

fn micro_text(micros: i64) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}
