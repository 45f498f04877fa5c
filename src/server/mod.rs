//! Wires in and out, one file a protocol. It translates and limits; all query logic is the
//! engine's. Start with `running.rs`, then `options.rs`.

mod options;
mod option_values;
mod running;

mod auth;
mod listener;
mod metrics;
mod own_traces;
mod query_gate;
mod span_body;
mod span_door;
mod status;

mod raw_codec;
mod otlp_grpc;
mod otlp_http;
mod otlp_sender;

mod http;
mod http_search;
mod sql_request;
mod search_request;
mod openapi;
mod row_format;

mod postgres;
mod postgres_auth;
mod postgres_statement;

mod flight;
mod flight_schema;

pub use options::ServeOptions;
pub use otlp_sender::OtlpSender;
pub use running::{Addresses, Server};
