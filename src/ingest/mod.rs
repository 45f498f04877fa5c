//! Bytes in, spans out: one file per wire format. Pure: it reads what it is given, and knows no
//! network, no storage and no await. Start with `decode.rs`, then `rejection.rs` for what comes
//! out; each format's file opens with how its fields map.

mod decode;
mod rejection;

mod format;
mod input;

mod jaeger;
mod otlp_encode;
mod otlp_json;
mod otlp_proto;
mod otlp_response;
mod zipkin;
mod zipkin_shared;
mod zipkin_v1;

mod json_document;
mod json_field;
mod json_place;
mod json_text;

mod ids;
mod otlp_time;
mod tag_rules;

pub use decode::decode;
pub use format::Format;
pub use otlp_encode::{encode_otlp_json, encode_otlp_json_all, encode_otlp_proto, fits_otlp_proto};
pub use otlp_response::{export_response_json, export_response_proto, status_json, status_proto};
pub use rejection::{Location, Rejection, SpanSink};
