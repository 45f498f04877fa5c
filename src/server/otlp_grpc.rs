//! OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`.
//!
//! Read [`TraceService`]. A message goes to the decoder as the bytes that came: there is one decoder
//! a format, and it is `ingest`'s.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};

use super::raw_codec::RawCodec;
use super::span_body::{BodyError, SpanBody};
use super::span_door::{RETRY_AFTER, Refusal, SpanDoor};
use super::status::grpc_code;
use crate::error::{Error, ErrorKind};
use crate::ingest::{Format, export_response_proto, status_proto};

/// What metrics call this protocol.
const PROTOCOL: &str = "otlp-grpc";

/// The only method there is.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Whether a message is compressed, and its length, before it.
const PREFIX: usize = 5;

/// A message of no bytes.
const NO_MESSAGE: &[u8] = &[0; PREFIX];

/// How messages may come.
const ENCODINGS: [&[u8]; 3] = [b"identity", b"gzip", b"zstd"];

/// Takes the spans of OTLP senders.
#[derive(Clone)]
pub(super) struct TraceService {
    door: SpanDoor,
    max_request: usize,
}

impl TraceService {
    pub(super) fn new(door: SpanDoor, max_request: usize) -> Self {
        Self { door, max_request }
    }
}

impl NamedService for TraceService {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Service<http::Request<Body>> for TraceService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (door, max_request) = (self.door.clone(), self.max_request);
        Box::pin(async move {
            if request.uri().path() != EXPORT {
                let message = "traces are taken here, by Export, and nothing else";
                return Ok(Status::unimplemented(message).into_http());
            }
            let authorization = request.headers().get(http::header::AUTHORIZATION);
            let authorization = authorization.and_then(|value| value.to_str().ok());
            // Before the message is read: who may not, or comes too many, takes no memory.
            let place = match door.enter(PROTOCOL, authorization) {
                Ok(place) => place,
                Err(refusal) => return Ok(refused(&refusal).into_http()),
            };
            let (request, export) = match read(door, max_request, request).await {
                Ok(read) => read,
                Err(status) => return Ok(status.into_http()),
            };
            let response = Grpc::new(RawCodec).unary(export, request).await;
            drop(place);
            Ok(response)
        })
    }
}

/// Reads the message of a request. What is handed on has none: the message is in the [`Export`],
/// not decompressed, since its decoder does that within its own limits.
async fn read(
    door: SpanDoor,
    max_request: usize,
    request: http::Request<Body>,
) -> Result<(http::Request<Body>, Export), Status> {
    let (mut head, body) = request.into_parts();
    let encoding = head.headers.remove("grpc-encoding");
    if encoding.is_some_and(|name| !ENCODINGS.contains(&name.as_bytes())) {
        let mut status = Status::unimplemented("messages may be compressed with gzip or zstd");
        let accepted = tonic::metadata::MetadataValue::from_static("identity,gzip,zstd");
        status
            .metadata_mut()
            .insert("grpc-accept-encoding", accepted);
        return Err(status);
    }
    let body = axum::body::Body::new(body);
    let max = max_request.saturating_add(PREFIX);
    let read = door.read(PROTOCOL, body, max, message_length).await;
    let mut body = read.map_err(|error| match error {
        BodyError::TooLong => Status::out_of_range(format!(
            "the message is longer than {max_request} bytes; send fewer spans at once"
        )),
        BodyError::Failed(error) => failed(&error),
    })?;
    if message_length(&body.bytes) != Some(body.bytes.len()) {
        return Err(Status::invalid_argument(
            "one message is expected, and all of it",
        ));
    }
    let message = body.bytes.split_off(PREFIX);
    body.bytes = message;
    let request = http::Request::from_parts(head, Body::new(axum::body::Body::from(NO_MESSAGE)));
    let body = Some(body);
    Ok((request, Export { door, body }))
}

/// The length of the prefix and of the message it announces
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn message_length(bytes: &[u8]) -> Option<usize> {
    let (prefix, _) = bytes.split_first_chunk::<PREFIX>()?;
    let [_, length @ ..] = prefix;
    usize::try_from(u32::from_be_bytes(*length))
        .ok()?
        .checked_add(PREFIX)
}

struct Export {
    door: SpanDoor,
    /// Taken by the only call.
    body: Option<SpanBody>,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let (door, body) = (self.door.clone(), self.body.take());
        Box::pin(async move {
            let Some(body) = body else {
                return Err(Status::internal("a message was taken already"));
            };
            match door.receive(PROTOCOL, body, Format::OtlpProtobuf).await {
                Ok(receipt) => {
                    let message = receipt.message();
                    let answer = export_response_proto(receipt.rejected_span_count, &message);
                    Ok(Response::new(answer.into()))
                }
                Err(error) => Err(failed(&error)),
            }
        })
    }
}

fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Denied(denial) => denial.status(),
        Refusal::Full => retry(
            Code::ResourceExhausted,
            "too many requests are under way; send this one again later",
        ),
    }
}

fn failed(error: &Error) -> Status {
    let code = grpc_code(error.kind());
    let message = error.report();
    if error.kind() == ErrorKind::Unavailable {
        return retry(code, &message);
    }
    Status::new(code, message)
}

/// A status that says when to try again.
fn retry(code: Code, message: &str) -> Status {
    let details = status_proto(code as i32, message, Some(RETRY_AFTER));
    Status::with_details(code, message, details.into())
}
