//! What an OTLP receiver answers, as protobuf and as JSON.
//!
//! Read [`export_response_proto`] and [`status_proto`]. Shapes are those of OTLP's
//! `ExportTraceServiceResponse` and of `google.rpc.Status` with `google.rpc.RetryInfo`, which
//! the [OTLP specification](https://opentelemetry.io/docs/specs/otlp/) asks for.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::{Value, json};

/// The type of the detail that says when to try again.
const RETRY_INFO_TYPE: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The answer to a request that was taken: empty, or with the spans rejected and why.
pub fn export_response_proto(rejected_span_count: u64, message: &str) -> Vec<u8> {
    let is_partial = rejected_span_count > 0 || !message.is_empty();
    ExportTraceServiceResponse {
        partial_success: is_partial.then(|| ExportTracePartialSuccess {
            rejected_spans: i64::try_from(rejected_span_count).unwrap_or(i64::MAX),
            error_message: message.to_string(),
        }),
    }
    .encode_to_vec()
}

/// The same as JSON.
pub fn export_response_json(rejected_span_count: u64, message: &str) -> String {
    if rejected_span_count == 0 && message.is_empty() {
        return "{}".to_string();
    }
    // 64-bit integers are quoted in OTLP's JSON.
    let partial = json!({
        "rejectedSpans": rejected_span_count.to_string(),
        "errorMessage": message,
    });
    json!({ "partialSuccess": partial }).to_string()
}

/// A `google.rpc.Status` with a gRPC code, and when to try again where that helps.
pub fn status_proto(code: i32, message: &str, retry_after: Option<Duration>) -> Vec<u8> {
    let detail = |delay: Duration| Any {
        type_url: RETRY_INFO_TYPE.to_string(),
        value: RetryInfo {
            retry_delay: Some(ProtoDuration {
                seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                nanos: delay.subsec_nanos().cast_signed(),
            }),
        }
        .encode_to_vec(),
    };
    Status {
        code,
        message: message.to_string(),
        details: retry_after.map(detail).into_iter().collect(),
    }
    .encode_to_vec()
}

/// The same as JSON.
pub fn status_json(code: i32, message: &str, retry_after: Option<Duration>) -> String {
    let mut status = json!({ "code": code, "message": message });
    if let Some(delay) = retry_after {
        let detail: Value = json!({
            "@type": RETRY_INFO_TYPE,
            "retryDelay": format!("{}s", delay.as_secs_f64()),
        });
        status["details"] = json!([detail]);
    }
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_success_is_empty_and_a_partial_one_counts() {
        assert!(export_response_proto(0, "").is_empty());
        assert_eq!(export_response_json(0, ""), "{}");
        let bytes = export_response_proto(2, "why");
        let decoded = ExportTraceServiceResponse::decode(&bytes[..]).unwrap();
        let partial = decoded.partial_success.unwrap();
        assert_eq!(
            (partial.rejected_spans, &*partial.error_message),
            (2, "why")
        );
        assert_eq!(
            export_response_json(2, "why"),
            r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"why"}}"#
        );
    }

    #[test]
    fn a_status_says_when_to_try_again() {
        let bytes = status_proto(8, "full", Some(Duration::from_millis(1500)));
        let status = Status::decode(&bytes[..]).unwrap();
        assert_eq!(status.details[0].type_url, RETRY_INFO_TYPE);
        let retry = RetryInfo::decode(&status.details[0].value[..]).unwrap();
        let delay = retry.retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
        assert!(status_json(8, "full", Some(Duration::from_secs(2))).contains("\"2s\""));
    }
}
