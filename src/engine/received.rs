//! One request of a sender, decoded.
//!
//! Read [`decode_request`]. A request is small enough to be held whole; what becomes of its
//! spans is `commit_queue.rs`'s business.

use arrow::array::RecordBatch;
use bytes::{Buf, Bytes};

use crate::config::CommitConfig;
use crate::error::{Error, Result};
use crate::ingest::{self, Format, Rejection, SpanSink};
use crate::span::{Origin, Span, SpanBatchBuilder, Value};

/// Rejections named in an answer; the rest are counted.
const NAMED_REJECTIONS: usize = 5;

/// What became of a request whose good spans are in the lake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Spans committed.
    pub span_count: u64,
    /// Spans left out, since they are broken.
    pub rejected_span_count: u64,
    /// The first of them, each with its place and the reason.
    pub rejections: Vec<Rejection>,
    /// Values of attributes that were cut to the length configured.
    pub cut_value_count: u64,
}

impl Receipt {
    /// Names what was rejected and why, as one line; empty where nothing was.
    pub fn message(&self) -> String {
        let mut message: Vec<String> = self.rejections.iter().map(ToString::to_string).collect();
        let named: u64 = self.rejections.iter().map(|one| one.span_count).sum();
        if self.rejected_span_count > named {
            message.push(format!("{} more", self.rejected_span_count - named));
        }
        message.join("; ")
    }
}

/// The spans of a request and what else is to be said of it.
pub(super) struct Decoded {
    /// `None` where there is no good span.
    pub(super) batch: Option<RecordBatch>,
    /// About what the spans take in memory.
    pub(super) byte_count: usize,
    pub(super) receipt: Receipt,
}

/// Decodes a whole request. A bad span is left out; a request whose envelope is broken is an
/// error, so that its sender learns of it, and nothing of it is taken.
pub(super) fn decode_request(
    body: Bytes,
    format: Option<Format>,
    config: &CommitConfig,
) -> Result<Decoded> {
    let mut sink = RequestSink {
        config,
        builder: SpanBatchBuilder::new(),
        receipt: Receipt::default(),
    };
    ingest::decode(body.reader(), "request", format, &mut sink)?;
    let mut receipt = sink.receipt;
    receipt.span_count = sink.builder.len() as u64;
    let byte_count = sink.builder.memory_bytes();
    let batch = (!sink.builder.is_empty()).then(|| sink.builder.finish());
    Ok(Decoded {
        batch,
        byte_count,
        receipt,
    })
}

struct RequestSink<'a> {
    config: &'a CommitConfig,
    builder: SpanBatchBuilder,
    receipt: Receipt,
}

impl SpanSink for RequestSink<'_> {
    fn span(&mut self, origin: &Origin, span: &Span) -> Result<()> {
        match self.config.max_attribute_bytes {
            Some(limit) if has_longer(span, limit) => {
                let mut span = span.clone();
                self.receipt.cut_value_count += cut(&mut span, limit);
                self.builder.push(origin, &span);
            }
            _ => self.builder.push(origin, span),
        }
        if self.builder.memory_bytes() > self.config.request_bytes {
            return Err(Error::invalid_input(format!(
                "the spans of one request take more than {} bytes; send fewer at once",
                self.config.request_bytes
            )));
        }
        Ok(())
    }

    fn reject(&mut self, rejection: Rejection) -> Result<()> {
        if rejection.span_count == 0 {
            return Err(Error::invalid_input(format!(
                "the request cannot be decoded, and nothing of it was taken: {rejection}"
            )));
        }
        self.receipt.rejected_span_count += rejection.span_count;
        if self.receipt.rejections.len() < NAMED_REJECTIONS {
            self.receipt.rejections.push(rejection);
        }
        Ok(())
    }
}

fn has_longer(span: &Span, limit: usize) -> bool {
    let longer = |value: &Value| matches!(value, Value::String(text) if text.len() > limit);
    let events = span.events.iter().flat_map(|event| &event.attributes);
    let links = span.links.iter().flat_map(|link| &link.attributes);
    let mut all = span.attributes.iter().chain(events).chain(links);
    all.any(|(_, value)| longer(value))
}

/// Cuts texts at the last character that fits; returns how many were cut.
fn cut(span: &mut Span, limit: usize) -> u64 {
    let events = span
        .events
        .iter_mut()
        .flat_map(|event| &mut event.attributes);
    let links = span.links.iter_mut().flat_map(|link| &mut link.attributes);
    let mut count = 0;
    for (_, value) in span.attributes.iter_mut().chain(events).chain(links) {
        if let Value::String(text) = value
            && text.len() > limit
        {
            text.truncate(text.floor_char_boundary(limit));
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn request(spans: &str) -> Bytes {
        let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        Bytes::from(text)
    }

    const GOOD: &str =
        r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"1112131415161718"}"#;

    #[test]
    fn a_bad_span_is_named_and_a_broken_request_is_refused() {
        let config = CommitConfig::default();
        let bad = GOOD.replace("11121314", "zz");
        let body = request(&format!("{GOOD},{bad}"));
        let decoded = decode_request(body, Some(Format::OtlpJson), &config).unwrap();
        assert_eq!(decoded.batch.unwrap().num_rows(), 1);
        assert_eq!(decoded.receipt.rejected_span_count, 1);
        assert!(decoded.receipt.message().contains("malformed span id"));
        for broken in ["nonsense", "{\"resourceSpans\":[", "[1,2]"] {
            let outcome = decode_request(Bytes::from(broken), Some(Format::OtlpJson), &config);
            let error = outcome.err().expect("it is refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{broken}");
        }
        let empty = decode_request(Bytes::new(), Some(Format::OtlpProtobuf), &config).unwrap();
        assert!(empty.batch.is_none());
    }

    #[test]
    fn long_values_are_cut_only_where_that_is_asked_for() {
        let value = r#","attributes":[{"key":"k","value":{"stringValue":"aé12345"}}]}"#;
        let body = request(&GOOD.replace('}', value));
        let mut config = CommitConfig::default();
        let whole = decode_request(body.clone(), None, &config).unwrap();
        assert_eq!(whole.receipt.cut_value_count, 0);
        config.max_attribute_bytes = Some(2);
        let cut = decode_request(body.clone(), None, &config).unwrap();
        assert_eq!(cut.receipt.cut_value_count, 1);
        config.request_bytes = 10;
        let refused = decode_request(body, None, &config).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}
