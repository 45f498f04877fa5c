//! Queries over HTTP, health and metrics.
//!
//! ```text
//! POST /api/v1/sql            SQL, or {"sql", "parameters"}; rows by `accept`
//! POST /api/v1/search         a search for traces (`http_search.rs`)
//! GET  /api/v1/traces/{id}    a trace as OTLP, JSON or protobuf by `accept`
//! GET  /api/v1/openapi.json   all this, for programs
//! GET  /healthz /readyz /metrics
//! ```
//!
//! Read [`router`]. Errors are problems as RFC 9457 has them, with the kind of error as `kind`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::auth::{Authority, Denial};
use super::http_search::search;
use super::metrics::Metrics;
use super::openapi::openapi;
use super::options::Role;
use super::query_gate::{LimitedRows, QueryGate};
use super::row_format::{RowFormat, RowWriter};
use super::sql_request::SqlRequest;
use super::status::{http_status, kind_name};
use crate::engine::{CommitQueue, Lake, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::{encode_otlp_json_all, encode_otlp_proto, fits_otlp_proto};
use crate::span::{TraceId, resource_spans};

/// Bytes of rows that one trace may take in memory.
const TRACE_BYTES: usize = 256 << 20;

/// What the handlers work with.
pub(super) struct Api {
    pub(super) lake: Lake,
    /// Shared by all requests: it only answers queries.
    pub(super) session: Session,
    pub(super) gate: Arc<QueryGate>,
    pub(super) authority: Arc<Authority>,
    pub(super) metrics: Arc<Metrics>,
    /// `None` where spans are not taken in.
    pub(super) queue: Option<CommitQueue>,
    pub(super) max_request: usize,
    /// Cancelled when the server is about to end.
    pub(super) stop: CancellationToken,
}

pub(super) type Shared = State<Arc<Api>>;

/// The paths of the API.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/api/v1/sql", post(sql))
        .route("/api/v1/search", post(search))
        .route("/api/v1/traces/{trace_id}", get(trace))
        .route("/api/v1/openapi.json", get(|| async { Json(openapi()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid-input",
                "this path does not know the method",
            )
        })
        .with_state(api)
}

/// What went wrong, as a client reads it.
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
        }
    }

    fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    fn not_acceptable(types: &str) -> Self {
        let detail = format!("answers come as {types}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "unsupported", detail)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::new(
            http_status(error.kind()),
            kind_name(error.kind()),
            error.report(),
        )
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        let status = match denial {
            Denial::Unknown => StatusCode::UNAUTHORIZED,
            Denial::Forbidden => StatusCode::FORBIDDEN,
        };
        Self::new(status, "denied", denial.message())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "kind": self.kind,
            "detail": self.detail,
        });
        let head = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, head, body.to_string()).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, 1.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = axum::http::HeaderValue::from_static("Bearer");
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl Api {
    /// Whether the sender of a request may query.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let authorization = text_of(headers, &AUTHORIZATION);
        Ok(self.authority.check(authorization, Role::Read)?)
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn ready(State(api): Shared) -> Response {
    if api.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(api): Shared, headers: HeaderMap) -> Result<Response, Problem> {
    api.check(&headers)?;
    let commits = api.queue.as_ref().map(CommitQueue::stats);
    let text = api.metrics.render(&api.lake.stats(), commits)?;
    let head = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((head, text).into_response())
}

async fn sql(State(api): Shared, request: Request) -> Result<Response, Problem> {
    api.check(request.headers())?;
    let accept = text_of(request.headers(), &ACCEPT);
    let format = RowFormat::of_accept(accept).ok_or_else(|| {
        Problem::not_acceptable(
            "application/json, application/x-ndjson, text/csv or \
             application/vnd.apache.arrow.stream",
        )
    })?;
    let media_type = text_of(request.headers(), &CONTENT_TYPE).unwrap_or_default();
    let media_type = media_type.to_string();
    let body = read_body(request, api.max_request).await?;
    let SqlRequest { sql, parameters } = SqlRequest::read(&media_type, &body)?;
    let session = api.session.clone();
    let running = async move { session.query(&sql, &parameters).await };
    let mut rows = api.gate.run("http", None, running).await?;
    let mut writer = RowWriter::try_new(format, &rows.schema())?;
    // What fails before the first row is told by the status; later, the body breaks off.
    let first = rows.try_next().await?;
    let first = first.map(|batch| writer.write(&batch)).transpose()?;
    let body = Body::from_stream(body_of(rows, writer, first));
    Ok(([(CONTENT_TYPE, format.media_type())], body).into_response())
}

/// The body of a request, unless it is too long.
pub(super) async fn read_body(request: Request, max_request: usize) -> Result<Bytes, Problem> {
    let body = to_bytes(request.into_body(), max_request).await;
    body.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid-input",
            format!("the body is longer than {max_request} bytes"),
        )
    })
}

/// The bytes of an answer as its rows come.
fn body_of(
    rows: LimitedRows,
    writer: RowWriter,
    first: Option<Vec<u8>>,
) -> impl Stream<Item = Result<Bytes>> + Send {
    let start = futures::stream::iter(first.map(|bytes| Ok(Bytes::from(bytes))));
    let rest = futures::stream::try_unfold(Some((rows, writer)), |state| async {
        let Some((mut rows, mut writer)) = state else {
            return Ok(None);
        };
        match rows.try_next().await {
            Ok(Some(batch)) => {
                let bytes = Bytes::from(writer.write(&batch)?);
                Ok(Some((bytes, Some((rows, writer)))))
            }
            Ok(None) => Ok(Some((Bytes::from(writer.finish()?), None))),
            Err(error) => {
                tracing::warn!(error = error.report(), "an answer was broken off");
                Err(error)
            }
        }
    });
    start.chain(rest)
}

async fn trace(
    State(api): Shared,
    Path(trace_id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.check(&headers)?;
    let accept = text_of(&headers, &ACCEPT).unwrap_or("*/*");
    let mut wanted = accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default());
    let is_json = wanted.find_map(|media_type| match media_type.trim() {
        "*/*" | "application/*" | "application/json" => Some(true),
        "application/x-protobuf" | "application/protobuf" => Some(false),
        _ => None,
    });
    let Some(is_json) = is_json else {
        return Err(Problem::not_acceptable(
            "application/json or application/x-protobuf",
        ));
    };
    let trace_id = TraceId::parse(&trace_id)?;
    let session = api.session.clone();
    let running = async move { session.trace_rows(trace_id).await };
    let rows = api.gate.run("http", None, running).await?;
    let batches = collect(rows).await?;
    let resources = tokio::task::spawn_blocking(move || resource_spans(&batches))
        .await
        .map_err(|error| Error::internal("a trace was not assembled").with_source(error))??;
    if resources.is_empty() {
        return Err(Problem::not_found(format!(
            "there is no trace of this id; trace_id=`{trace_id}`"
        )));
    }
    if is_json {
        let mut text = String::new();
        encode_otlp_json_all(&resources, &mut text);
        return Ok(([(CONTENT_TYPE, "application/json")], text).into_response());
    }
    if !fits_otlp_proto(&resources) {
        return Err(Problem::not_acceptable(
            "application/json where values are nested deeper than protobuf readers take",
        ));
    }
    // Requests one after another are one request.
    let mut bytes = Vec::new();
    for (resource, scope_spans) in &resources {
        encode_otlp_proto(resource, scope_spans, &mut bytes);
    }
    Ok(([(CONTENT_TYPE, "application/x-protobuf")], bytes).into_response())
}

async fn collect(mut rows: LimitedRows) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let mut byte_count = 0;
    while let Some(batch) = rows.try_next().await? {
        byte_count += batch.get_array_memory_size();
        if byte_count > TRACE_BYTES {
            return Err(Error::new(
                ErrorKind::ResourcesExhausted,
                "the trace is too large to be sent whole; read its spans by SQL",
            ));
        }
        batches.push(batch);
    }
    Ok(batches)
}
