//! What each protocol calls a kind of error: one function a protocol.

use axum::http::StatusCode;
use tonic::Code;

use crate::error::{Error, ErrorKind};

/// The status of an HTTP answer.
pub(super) fn http_status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::ResourcesExhausted => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The code of a gRPC answer.
pub(super) fn grpc_code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::ResourcesExhausted => Code::ResourceExhausted,
        ErrorKind::Corrupt => Code::DataLoss,
        _ => Code::Internal,
    }
}

/// The SQLSTATE of an error, as PostgreSQL clients know it.
pub(super) fn sql_state(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidInput => "42000",
        ErrorKind::NotFound => "42P01",
        ErrorKind::Unsupported => "0A000",
        ErrorKind::Unavailable => "53300",
        // Drivers tell a query that took too long from others by this.
        ErrorKind::ResourcesExhausted if error.message().starts_with(TOO_LONG) => "57014",
        ErrorKind::ResourcesExhausted => "53000",
        ErrorKind::Corrupt => "XX001",
        _ => "XX000",
    }
}

/// How the message of a query that took too long begins.
pub(super) const TOO_LONG: &str = "the query was cancelled";

/// The name of a kind, as it stands in answers and metrics.
pub(super) fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "invalid-input",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::ResourcesExhausted => "resources-exhausted",
        _ => "internal",
    }
}
