//! `tracelake load`: what a server takes, and how fast it acknowledges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde_json::json;

use super::args::LoadArgs;
use super::context::Context;
use super::exit::Exit;
use super::generate::unix_nano;
use super::run::print;
use crate::ingest::encode_otlp_proto;
use crate::server::OtlpSender;
use crate::span::{Resource, Scope, Span};
use crate::workload::Workload;
use crate::{Error, ErrorKind, Result};

/// Requests that are made beforehand; sent again, their traces get other ids.
const TEMPLATES: usize = 100;

/// The time before now from which the spans are.
const SPREAD: Duration = Duration::from_secs(300);

pub(crate) fn run(context: &Context, args: &LoadArgs) -> Result<Exit> {
    let templates = Arc::new(templates(args.batch_spans as usize)?);
    let load = Arc::new(Load {
        templates,
        next: AtomicU64::new(0),
        ends: Instant::now() + args.duration,
    });
    let started = Instant::now();
    let outcomes = context.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..args.connections {
            let sender = OtlpSender::connect(&args.to).await?;
            for _ in 0..args.in_flight {
                tasks.push(tokio::spawn(send(Arc::clone(&load), sender.clone())));
            }
        }
        let mut outcomes = Outcome::default();
        for task in tasks {
            let outcome = task
                .await
                .map_err(|error| Error::internal("a sender stopped").with_source(error))?;
            outcomes.add(outcome?);
        }
        Ok::<_, Error>(outcomes)
    })?;
    let elapsed = started.elapsed().as_secs_f64();
    let mut waits = outcomes.waits_micros;
    waits.sort_unstable();
    let quantile = |share: f64| {
        let at = (waits.len().saturating_sub(1)) as f64 * share;
        waits.get(at as usize).copied().unwrap_or_default() as f64 / 1e3
    };
    print(
        &json!({
            "spans": outcomes.span_count,
            "spans_per_second": (outcomes.span_count as f64 / elapsed) as u64,
            "requests": waits.len(),
            "retries": outcomes.retry_count,
            "ack_p50_ms": quantile(0.5),
            "ack_p99_ms": quantile(0.99),
            "ack_max_ms": quantile(1.0),
            "elapsed_seconds": elapsed,
        })
        .to_string(),
    )?;
    Ok(Exit::Success)
}

struct Load {
    templates: Arc<Vec<Template>>,
    next: AtomicU64,
    ends: Instant,
}

/// A request made beforehand.
struct Template {
    bytes: Vec<u8>,
    span_count: u64,
    /// Where the trace ids of spans and links stand.
    trace_ids: Vec<usize>,
}

impl Template {
    fn new(bytes: Vec<u8>, span_count: u64) -> Self {
        // Field 1 with 16 bytes, then field 2 with 8: a trace id, then a span id.
        let places = bytes.windows(20).enumerate();
        let trace_ids = places
            .filter(|(_, found)| found[..2] == [0x0a, 16] && found[18..] == [0x12, 8])
            .map(|(at, _)| at + 2)
            .collect();
        Self {
            bytes,
            span_count,
            trace_ids,
        }
    }

    /// The request with trace ids that no other round has.
    fn request(&self, round: u64) -> Bytes {
        let mut bytes = self.bytes.clone();
        for at in &self.trace_ids {
            for (byte, other) in bytes[*at..].iter_mut().zip(round.to_be_bytes()) {
                *byte ^= other;
            }
        }
        bytes.into()
    }
}

fn templates(batch_spans: usize) -> Result<Vec<Template>> {
    let now = unix_nano(SystemTime::now())?;
    let start = now - i64::try_from(SPREAD.as_nanos()).unwrap_or_default();
    let span_count = (TEMPLATES * batch_spans * 2) as u64;
    let mut workload = Workload::new(7, span_count, start, SPREAD);
    let parts: Vec<(Resource, Scope)> = workload.origin_parts().to_vec();
    let mut templates = Vec::new();
    while templates.len() < TEMPLATES {
        let mut by_origin: Vec<Vec<Span>> = vec![Vec::new(); parts.len()];
        let mut count = 0;
        while count < batch_spans {
            let Some(spans) = workload.next_trace() else {
                return Ok(templates);
            };
            let room = batch_spans - count;
            for (origin, span) in spans.into_iter().take(room) {
                by_origin[origin].push(span);
                count += 1;
            }
        }
        let mut bytes = Vec::new();
        for ((resource, scope), spans) in parts.iter().zip(by_origin) {
            if !spans.is_empty() {
                encode_otlp_proto(resource, &[(scope.clone(), spans)], &mut bytes);
            }
        }
        templates.push(Template::new(bytes, count as u64));
    }
    Ok(templates)
}

#[derive(Default)]
struct Outcome {
    span_count: u64,
    retry_count: u64,
    waits_micros: Vec<u64>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.span_count += other.span_count;
        self.retry_count += other.retry_count;
        self.waits_micros.extend(other.waits_micros);
    }
}

async fn send(load: Arc<Load>, mut sender: OtlpSender) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    while Instant::now() < load.ends {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        let count = load.templates.len() as u64;
        let template = &load.templates[(number % count) as usize];
        let request = template.request(number / count);
        let started = Instant::now();
        loop {
            match sender.send(request.clone()).await {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    outcome.retry_count += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
        outcome.span_count += template.span_count;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        outcome.waits_micros.push(micros);
    }
    Ok(outcome)
}
