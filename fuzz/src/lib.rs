//! What the fuzz targets do with their bytes. The modules are tracelake's own files.
//!
//! Read [`decoded`] and [`http_requests`].

#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/ingest/mod.rs"]
mod ingest;
#[path = "../../src/search/mod.rs"]
mod search;
#[path = "../../src/server/search_request.rs"]
mod search_request;
#[path = "../../src/span/mod.rs"]
mod span;
#[path = "../../src/server/sql_request.rs"]
mod sql_request;

use error::Result;
pub use ingest::Format;
use ingest::{Rejection, SpanSink, decode, encode_otlp_json_all, encode_otlp_proto, fits_otlp_proto};
use search::{Cursor, JaegerRequest};
use span::{Origin, Span, SpanBatchBuilder};

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    builder: SpanBatchBuilder,
    rejected: u64,
}

impl SpanSink for Collected {
    fn span(&mut self, origin: &Origin, span: &Span) -> Result<()> {
        self.builder.push(origin, span);
        self.spans.push(span.clone());
        Ok(())
    }

    fn reject(&mut self, rejection: Rejection) -> Result<()> {
        let _ = rejection.to_string();
        self.rejected += rejection.span_count;
        Ok(())
    }
}

fn collect(bytes: &[u8], format: Option<Format>) -> Option<Collected> {
    let mut collected = Collected::default();
    decode(bytes, "fuzz", format, &mut collected).ok()?;
    Some(collected)
}

/// Decodes bytes, makes rows of the spans, writes them as OTLP and decodes that: the spans are the
/// same.
pub fn decoded(bytes: &[u8], format: Format) {
    // Also what is recognized by itself.
    let _ = collect(bytes, None);
    let Some(mut found) = collect(bytes, Some(format)) else {
        return;
    };
    let batch = found.builder.finish();
    assert_eq!(batch.num_rows(), found.spans.len());
    if found.spans.is_empty() || !found.spans.iter().all(are_times_told) {
        return;
    }
    let scope = span::Scope::default();
    let (mut proto, mut json) = (Vec::new(), String::new());
    let scopes = [(scope, found.spans.clone())];
    encode_otlp_proto(&span::Resource::default(), &scopes, &mut proto);
    let resources = [(span::Resource::default(), scopes.to_vec())];
    encode_otlp_json_all(&resources, &mut json);
    let mut written = vec![(json.as_bytes(), Format::OtlpJson)];
    // Protobuf nests less deep than what JSON may hold.
    written.extend(fits_otlp_proto(&resources).then_some((&proto[..], Format::OtlpProtobuf)));
    for (bytes, format) in written {
        let again = collect(bytes, Some(format)).expect("what was written can be read");
        assert_eq!(again.rejected, 0);
        let (found, again) = (format!("{:?}", found.spans), format!("{:?}", again.spans));
        assert_eq!(found, again);
    }
}

/// Whether OTLP can say the times of a span: none is before 1970, and an end at zero means that
/// there is none unless the start is zero as well.
fn are_times_told(span: &Span) -> bool {
    let start = span.start_time_unix_nano;
    let is_end_told = match span.duration_nano {
        None => start != 0,
        Some(duration) => start
            .checked_add(duration)
            .is_some_and(|end| end > 0 || (start, end) == (0, 0)),
    };
    start >= 0 && is_end_told && span.events.iter().all(|event| event.time_unix_nano >= 0)
}

/// Reads bytes as every text that comes with a request over HTTP.
pub fn http_requests(bytes: &[u8]) {
    let _ = sql_request::SqlRequest::read("application/json", bytes);
    // What is refused may be nested too deep to be read again.
    let search = search_request::read_search(bytes).ok();
    if let Some(query) = search.filter(|query| query.validate().is_ok()) {
        let json = serde_json::to_string(&query).expect("plain data has a JSON form");
        let again = search_request::read_search(json.as_bytes()).expect("its own JSON");
        // NaN cannot come in, so equality is what it says.
        assert_eq!(query, again);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(condition) = text.parse::<search::Condition>() {
        let query = search::TraceQuery::new().with_condition(condition);
        let _ = query.validate();
    }
    let _ = search::parse_duration(text);
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.to_string(), text);
    }
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let _ = JaegerRequest::parse(pairs, 1_700_000_000_000_000_000);
    let _ = span::TraceId::parse(text);
}
