//! OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`.
//!
//! Read [`TraceService`]. A message goes to the decoder as bytes: there is one decoder a format,
//! and it is `ingest`'s.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};

use super::raw_codec::RawCodec;
use super::span_door::{RETRY_AFTER, Refusal, SpanDoor};
use super::status::grpc_code;
use crate::error::{Error, ErrorKind};
use crate::ingest::{Format, export_response_proto, status_proto};

/// What metrics call this protocol.
const PROTOCOL: &str = "otlp-grpc";

/// The only method there is.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

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
            let mut grpc = Grpc::new(RawCodec)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(max_request);
            let response = grpc.unary(Export { door }, request).await;
            drop(place);
            Ok(response)
        })
    }
}

struct Export {
    door: SpanDoor,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let door = self.door.clone();
        Box::pin(async move {
            let body = request.into_inner();
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
