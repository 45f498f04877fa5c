//! tracelake: a SQL query engine for distributed traces, on Apache DataFusion.

pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod ingest;
pub mod span;
pub mod trace;
pub mod workload;

pub use config::Config;
pub use error::{Error, ErrorKind, Result};
