//! The server's own spans, kept in its own lake: one for each query and each request with spans.
//!
//! Read [`OwnTraces`]. What it writes itself makes no spans.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::CommitQueue;
use crate::ingest::{Format, encode_otlp_proto};
use crate::span::{Resource, Scope, Span, SpanId, SpanKind, StatusCode, TraceId, Value};

/// Spans that wait to be written; more are dropped rather than waited for.
const WAITING: usize = 4096;

/// Spans written at once at the most.
const BATCH: usize = 1024;

/// How long spans are gathered before they are written.
const INTERVAL: Duration = Duration::from_secs(1);

/// Takes note of what the server did. Cheap to clone; does nothing where it is off.
#[derive(Clone, Default)]
pub(super) struct OwnTraces {
    spans: Option<mpsc::Sender<Span>>,
}

impl OwnTraces {
    /// Notes for [`write`].
    pub(super) fn new() -> (Self, mpsc::Receiver<Span>) {
        let (sender, spans) = mpsc::channel(WAITING);
        let spans_in = Some(sender);
        (Self { spans: spans_in }, spans)
    }

    /// Something of this name ended now, after `elapsed`, so. What failed has the status `ERROR`.
    pub(super) fn record(
        &self,
        name: &str,
        elapsed: Duration,
        outcome: &str,
        failed: bool,
        attributes: &[(&str, Value)],
    ) {
        let Some(spans) = &self.spans else {
            return;
        };
        let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else {
            return;
        };
        let (now, elapsed) = (now.as_nanos() as i64, elapsed.as_nanos() as i64);
        // All zeros, one time in 2^64, is no id.
        let ids = (
            TraceId::from_bytes(rand::random()),
            SpanId::from_bytes(rand::random()),
        );
        let (Some(trace_id), Some(span_id)) = ids else {
            return;
        };
        let mut span = Span::new(trace_id, span_id, now.saturating_sub(elapsed));
        span.name = name.to_string();
        span.kind = SpanKind::Server;
        span.duration_nano = Some(elapsed);
        span.attributes = attributes
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone()))
            .collect();
        let outcome = Value::String(outcome.to_string());
        span.attributes.push(("tracelake.outcome".into(), outcome));
        if failed {
            span.status_code = StatusCode::Error;
        }
        // Where nobody keeps up, a span less is no loss.
        let _ = spans.try_send(span);
    }
}

/// Writes spans as they come, until `stop`.
pub(super) async fn write(
    mut spans: mpsc::Receiver<Span>,
    queue: CommitQueue,
    service_name: String,
    stop: CancellationToken,
) {
    let resource = Resource {
        attributes: vec![
            ("service.name".into(), Value::String(service_name)),
            (
                "service.version".into(),
                Value::String(env!("CARGO_PKG_VERSION").into()),
            ),
        ],
        ..Resource::default()
    };
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            continue;
        }
        let mut request = Vec::new();
        encode_otlp_proto(&resource, &[(Scope::default(), batch)], &mut request);
        let format = Some(Format::OtlpProtobuf);
        if let Err(error) = queue.receive(request.into(), format).await {
            tracing::debug!(error = error.report(), "own spans were not written");
        }
    }
}
