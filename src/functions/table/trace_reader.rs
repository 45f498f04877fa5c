//! Where table functions get their traces from.
//!
//! Read [`TraceReader`].

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::span::TraceId;
use crate::trace::Trace;

/// Finds traces by their ids.
#[async_trait]
pub trait TraceReader: std::fmt::Debug + Send + Sync {
    /// The whole traces of these ids, in their order; `None` for one that is not there.
    async fn traces(&self, ids: &[TraceId]) -> Result<Vec<Option<Arc<Trace>>>>;
}
