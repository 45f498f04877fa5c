//! tracelake: a SQL query engine for distributed traces, on Apache DataFusion.

pub mod config;
pub mod error;
pub mod ingest;
pub mod span;

pub use config::Config;
pub use error::{Error, ErrorKind, Result};
