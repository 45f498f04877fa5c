//! Where spans come in, whatever the protocol: who may, how many at once, and what is counted.
//!
//! Read [`SpanDoor`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::{Authority, Denial};
use super::metrics::Metrics;
use super::options::Role;
use super::span_body::{BodyError, SpanBody};
use crate::engine::{CommitQueue, Receipt};
use crate::error::Result;
use crate::ingest::Format;

/// When a sender that was refused for lack of room should try again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Takes requests with spans. Cheap to clone.
#[derive(Clone)]
pub(super) struct SpanDoor {
    queue: CommitQueue,
    authority: Arc<Authority>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Why a request is refused before it is read.
pub(super) enum Refusal {
    Denied(Denial),
    Full,
}

impl SpanDoor {
    pub(super) fn new(
        queue: CommitQueue,
        authority: Arc<Authority>,
        max_requests: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            queue,
            authority,
            places: Arc::new(Semaphore::new(
                max_requests.clamp(1, Semaphore::MAX_PERMITS),
            )),
            metrics,
        }
    }

    /// A place for one request, by the value of its `authorization` header.
    pub(super) fn enter(
        &self,
        protocol: &'static str,
        authorization: Option<&str>,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        self.authority
            .check(authorization, Role::Write)
            .map_err(|denial| {
                self.metrics.request(protocol, "denied");
                Refusal::Denied(denial)
            })?;
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            self.metrics.request(protocol, "overloaded");
            Refusal::Full
        })
    }

    /// Reads the body of a request, at most `max` bytes; `length` tells its length from its first
    /// bytes.
    pub(super) async fn read(
        &self,
        protocol: &'static str,
        body: Body,
        max: usize,
        length: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<SpanBody, BodyError> {
        let read = SpanBody::read(&self.queue, body, max, length).await;
        match &read {
            Ok(_) => {}
            Err(BodyError::TooLong) => self.metrics.request(protocol, "too-long"),
            Err(BodyError::Failed(_)) => self.metrics.request(protocol, "overloaded"),
        }
        read
    }

    /// Takes the spans of a request; returns when they are in the lake.
    pub(super) async fn receive(
        &self,
        protocol: &'static str,
        body: SpanBody,
        format: Format,
    ) -> Result<Receipt> {
        let started = Instant::now();
        let SpanBody { bytes, room } = body;
        let outcome = self.queue.receive_in(room, bytes, Some(format)).await;
        let said = match &outcome {
            Ok(receipt) if receipt.rejected_span_count == 0 => "accepted",
            Ok(_) => "partial",
            Err(error) => super::status::kind_name(error.kind()),
        };
        let taken = outcome.as_ref().map_or(0, |receipt| receipt.span_count);
        self.metrics
            .received(protocol, said, started.elapsed(), taken);
        outcome
    }
}
