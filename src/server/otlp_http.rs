//! Spans over HTTP: OTLP at `/v1/traces`, protobuf and JSON, and Zipkin at `/api/v2/spans`.
//!
//! Read [`router`]. Bodies may be compressed with gzip or zstd; the decoder sees that itself.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER as RETRY_HEADER,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::auth::Denial;
use super::span_body::BodyError;
use super::span_door::{RETRY_AFTER, Refusal, SpanDoor};
use super::status::{grpc_code, http_status};
use crate::engine::Receipt;
use crate::error::{Error, ErrorKind};
use crate::ingest::{
    Format, export_response_json, export_response_proto, status_json, status_proto,
};

/// What the handlers work with.
#[derive(Clone)]
struct Intake {
    door: SpanDoor,
    max_request: usize,
}

/// The paths where spans come in.
pub(super) fn router(door: SpanDoor, max_request: usize) -> Router {
    Router::new()
        .route("/v1/traces", post(otlp))
        .route("/api/v2/spans", post(zipkin))
        .with_state(Intake { door, max_request })
}

/// A request that was not taken: the status, gRPC's code for it, why, and whether to try again.
struct Failure {
    status: StatusCode,
    code: tonic::Code,
    message: String,
    retry: bool,
}

impl Failure {
    fn new(status: StatusCode, code: tonic::Code, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry: false,
        }
    }

    fn response(self, content_type: &'static str, body: impl Into<Body>) -> Response {
        let mut response =
            (self.status, [(CONTENT_TYPE, content_type)], body.into()).into_response();
        if self.retry {
            let seconds = RETRY_AFTER.as_secs().max(1);
            response.headers_mut().insert(RETRY_HEADER, seconds.into());
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            status: http_status(error.kind()),
            code: grpc_code(error.kind()),
            message: error.report(),
            retry: error.kind() == ErrorKind::Unavailable,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denial @ Denial::Unknown) => Self::new(
                StatusCode::UNAUTHORIZED,
                tonic::Code::Unauthenticated,
                denial.message(),
            ),
            Refusal::Denied(denial @ Denial::Forbidden) => Self::new(
                StatusCode::FORBIDDEN,
                tonic::Code::PermissionDenied,
                denial.message(),
            ),
            Refusal::Full => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: tonic::Code::ResourceExhausted,
                message: "too many requests are under way; send this one again later".into(),
                retry: true,
            },
        }
    }
}

async fn otlp(State(intake): State<Intake>, request: Request) -> Response {
    let is_json = match media_type(request.headers()) {
        "application/x-protobuf" | "application/protobuf" => false,
        "application/json" => true,
        _ => {
            let message = "OTLP is taken as application/x-protobuf or application/json";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
        }
    };
    let (protocol, format) = if is_json {
        ("otlp-http-json", Format::OtlpJson)
    } else {
        ("otlp-http", Format::OtlpProtobuf)
    };
    let outcome = intake.receive(protocol, request, format).await;
    // The answer has the type of the request.
    match (outcome, is_json) {
        (Ok(receipt), true) => {
            let body = export_response_json(receipt.rejected_span_count, &receipt.message());
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        (Ok(receipt), false) => {
            let body = export_response_proto(receipt.rejected_span_count, &receipt.message());
            ([(CONTENT_TYPE, "application/x-protobuf")], body).into_response()
        }
        (Err(failure), true) => {
            let retry = failure.retry.then_some(RETRY_AFTER);
            let body = status_json(failure.code as i32, &failure.message, retry);
            failure.response("application/json", body)
        }
        (Err(failure), false) => {
            let retry = failure.retry.then_some(RETRY_AFTER);
            let body = status_proto(failure.code as i32, &failure.message, retry);
            failure.response("application/x-protobuf", body)
        }
    }
}

async fn zipkin(State(intake): State<Intake>, request: Request) -> Response {
    match intake.receive("zipkin", request, Format::Zipkin).await {
        Ok(receipt) if receipt.span_count == 0 && receipt.rejected_span_count > 0 => {
            let failure = Failure::new(
                StatusCode::BAD_REQUEST,
                tonic::Code::InvalidArgument,
                receipt.message(),
            );
            let body = failure.message.clone();
            failure.response("text/plain; charset=utf-8", body)
        }
        // Zipkin's answer has no body; what was left out is named all the same.
        Ok(receipt) => (StatusCode::ACCEPTED, receipt.message()).into_response(),
        Err(failure) => {
            let body = failure.message.clone();
            failure.response("text/plain; charset=utf-8", body)
        }
    }
}

impl Intake {
    async fn receive(
        &self,
        protocol: &'static str,
        request: Request,
        format: Format,
    ) -> Result<Receipt, Failure> {
        let headers = request.headers();
        let authorization = headers.get(AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok());
        let place = self.door.enter(protocol, authorization)?;
        let encoding = headers.get(CONTENT_ENCODING);
        let encoding = encoding.map_or(Ok("identity"), |value| value.to_str());
        if !matches!(encoding, Ok("identity" | "gzip" | "zstd")) {
            return Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                tonic::Code::InvalidArgument,
                "bodies may be compressed with gzip or zstd",
            ));
        }
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let too_long = || {
            Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                tonic::Code::InvalidArgument,
                format!(
                    "the body is longer than {} bytes; send fewer spans at once",
                    self.max_request
                ),
            )
        };
        let body = request.into_body();
        let read = self.door.read(protocol, body, self.max_request, |_| length);
        let body = read.await.map_err(|error| match error {
            BodyError::TooLong => too_long(),
            BodyError::Failed(error) => error.into(),
        })?;
        let receipt = self.door.receive(protocol, body, format).await?;
        drop(place);
        Ok(receipt)
    }
}

/// The type of the body, without its parameters; OTLP's is protobuf where not said.
fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let value = value.unwrap_or("application/x-protobuf");
    value.split(';').next().unwrap_or_default().trim()
}
