//! tracelake: a SQL query engine for distributed traces, on Apache DataFusion.

pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod functions;
pub mod ingest;
pub mod span;
pub mod storage;
pub mod table;
pub mod trace;
pub mod workload;

pub use config::Config;
pub use engine::Lake;
pub use error::{Error, ErrorKind, Result};
