//! Where table functions get their traces from.
//!
//! Read [`TraceReader`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Counts the spans that another reader reads.
#[derive(Debug)]
pub(super) struct CountedReader<'a> {
    reader: &'a dyn TraceReader,
    span_count: AtomicUsize,
}

impl<'a> CountedReader<'a> {
    pub(super) fn new(reader: &'a dyn TraceReader) -> Self {
        Self {
            reader,
            span_count: AtomicUsize::new(0),
        }
    }

    /// How many spans were read so far.
    pub(super) fn span_count(&self) -> usize {
        self.span_count.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl TraceReader for CountedReader<'_> {
    async fn traces(&self, ids: &[TraceId]) -> Result<Vec<Option<Arc<Trace>>>> {
        let traces = self.reader.traces(ids).await?;
        let span_count = traces
            .iter()
            .flatten()
            .map(|trace| trace.span_count())
            .sum();
        self.span_count.fetch_add(span_count, Ordering::Relaxed);
        Ok(traces)
    }
}
