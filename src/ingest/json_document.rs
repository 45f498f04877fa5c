//! The frame around JSON spans: one object, an array, nested arrays, or lines, of any dialect.
//!
//! Read [`decode_json`]. The frame is walked as a stream, so that only one element of the arrays
//! that hold the spans is in memory; which dialect it is shows in the keys of the first object.
//!
//! ```text
//! {"resourceSpans": [ E, E ]}          OTLP, element by element
//! {"data": [ E, E ]}                   Jaeger, trace by trace
//! {"traceID": …, "spans": […], …}      Jaeger, one trace at once
//! [ E, E ]   or   E newline E          any of the above, or Zipkin or Jaeger spans
//! [ [ E, E ], [ E ] ]                  Zipkin, an array a trace
//! ```

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::input::Input;
use super::jaeger::JaegerDecoder;
use super::json_field::{parse_array, parse_shallow};
use super::json_place::Place;
use super::json_text::{Fault, JsonText, MAX_VALUE_BYTES, Taken};
use super::zipkin::ZipkinDecoder;
use super::{Format, Location, Rejection, SpanSink, otlp_json};
use crate::error::{Error, Result};

/// Decodes JSON until the input ends; the dialect found, `None` where there was nothing.
pub(super) fn decode_json(
    input: Input<'_>,
    format: Option<Format>,
    one_value_per_line: bool,
    sink: &mut dyn SpanSink,
) -> Result<Option<Format>> {
    let text = match JsonText::new(input, one_value_per_line) {
        Ok(text) => text,
        Err(Fault::Source(error)) => return Err(error),
        Err(Fault::Text { reason, .. }) => {
            let location = Location::Input;
            sink.reject(Rejection {
                location,
                reason,
                span_count: 0,
            })?;
            return Ok(format);
        }
    };
    let mut document = Document {
        text,
        format,
        jaeger: JaegerDecoder::default(),
        zipkin: ZipkinDecoder::default(),
        sink,
        value_line: 1,
        spans: 0,
        buffer: Vec::new(),
    };
    document.decode()?;
    document.zipkin.flush(document.sink)?;
    Ok(document.format)
}

/// Why a value could not be finished.
enum Stop {
    Error(Error),
    Text { line: u64, reason: String },
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Source(error) => Self::Error(error),
            Fault::Text { line, reason } => Self::Text { line, reason },
        }
    }
}

struct Document<'a, 'b> {
    text: JsonText<'a>,
    format: Option<Format>,
    jaeger: JaegerDecoder,
    zipkin: ZipkinDecoder,
    sink: &'b mut dyn SpanSink,
    /// Where the value at hand began, and its spans so far.
    value_line: u64,
    spans: u64,
    /// Holds one element; kept so that it need not grow again.
    buffer: Vec<u8>,
}

/// What is known of an object's dialect by its keys.
#[derive(Deserialize)]
struct Keys {
    #[serde(rename = "resourceSpans", alias = "resource_spans", alias = "batches")]
    otlp: Option<IgnoredAny>,
    #[serde(rename = "traceID")]
    jaeger_trace_id: Option<IgnoredAny>,
    #[serde(rename = "spanID")]
    jaeger_span_id: Option<IgnoredAny>,
    spans: Option<IgnoredAny>,
    #[serde(rename = "traceId")]
    zipkin_trace_id: Option<IgnoredAny>,
    id: Option<IgnoredAny>,
}

impl Keys {
    fn format(&self) -> Option<Format> {
        if self.otlp.is_some() {
            Some(Format::OtlpJson)
        } else if self.jaeger_trace_id.is_some()
            && (self.jaeger_span_id.is_some() || self.spans.is_some())
        {
            Some(Format::Jaeger)
        } else if self.zipkin_trace_id.is_some() && self.id.is_some() {
            Some(Format::Zipkin)
        } else {
            None
        }
    }
}

impl Document<'_, '_> {
    fn decode(&mut self) -> Result<()> {
        let mut last_line = None;
        loop {
            let outcome = match self.text.next_value() {
                Ok(None) => return Ok(()),
                Ok(Some(byte)) => {
                    self.value_line = self.text.line();
                    self.spans = 0;
                    // A second value on a line of its own, after one: these are JSON lines.
                    if last_line.is_some_and(|line| line < self.value_line) {
                        self.text.expect_one_value_per_line();
                    }
                    self.value(byte)
                }
                Err(fault) => Err(fault.into()),
            };
            last_line = None;
            let (line, reason) = match outcome {
                Ok(()) => {
                    last_line = Some(self.text.line()).filter(|line| *line == self.value_line);
                    continue;
                }
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Text { line, reason }) => (line, reason),
            };
            let location = Location::Line(line);
            self.sink.reject(Rejection {
                location,
                reason,
                span_count: 0,
            })?;
            // A value that broke on its first line costs that line. One that spans lines has no
            // end that could be found.
            if line != self.value_line || self.text.line() != line {
                return Ok(());
            }
            match self.text.skip_line() {
                Ok(()) => {}
                Err(Fault::Source(error)) => return Err(error),
                // The compressed data is damaged, as was just reported.
                Err(Fault::Text { .. }) => return Ok(()),
            }
        }
    }

    fn value(&mut self, first: u8) -> Result<(), Stop> {
        match first {
            b'{' => self.object(),
            b'[' => self.array(),
            _ => Err(Stop::Text {
                line: self.value_line,
                reason: "expected a JSON object or array".to_string(),
            }),
        }
    }

    /// The dialect whose elements stand under this quoted key, if it is such a key.
    fn dialect_of_key(&self, key: &[u8]) -> Option<Format> {
        let key = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let format = match key {
            b"data" => Format::Jaeger,
            _ if otlp_json::TOP_LEVEL_KEYS
                .iter()
                .any(|known| known.as_bytes() == key) =>
            {
                Format::OtlpJson
            }
            _ => return None,
        };
        (self.format.is_none() || self.format == Some(format)).then_some(format)
    }

    fn object(&mut self) -> Result<(), Stop> {
        self.text.step();
        // What is not streamed is put together again, and decoded at the end.
        let mut rest = vec![b'{'];
        let mut key = Vec::new();
        let mut is_streamed = false;
        let mut is_first = true;
        while self.text.has_next(b'}', is_first)? {
            is_first = false;
            key.clear();
            self.text.take_key(&mut key)?;
            if let Some(format) = self.dialect_of_key(&key) {
                is_streamed = true;
                self.format = Some(format);
                self.streamed_field(format, &key)?;
                continue;
            }
            if rest.len() > 1 {
                rest.push(b',');
            }
            rest.extend_from_slice(&key);
            rest.push(b':');
            if is_streamed || self.format == Some(Format::OtlpJson) {
                // An unknown field, of which nothing is wanted but that it was there.
                self.buffer.clear();
                self.text.take_value(&mut self.buffer)?;
                rest.truncate(1);
                rest.extend_from_slice(b"\"\":0");
            } else if self.text.take_value(&mut rest)? == Taken::TooLong {
                let reason = format!("one object takes more than {MAX_VALUE_BYTES} bytes");
                return Err(Stop::Text {
                    line: self.value_line,
                    reason,
                });
            }
        }
        if is_streamed || rest.len() == 1 {
            return Ok(());
        }
        rest.push(b'}');
        self.element(&rest, self.value_line)
    }

    /// A field that holds resource spans or traces, one after another.
    fn streamed_field(&mut self, format: Format, key: &[u8]) -> Result<(), Stop> {
        let mut line = self.text.line();
        if self.text.peek()? != b'[' {
            self.buffer.clear();
            self.text.take_value(&mut self.buffer)?;
            if self.buffer == b"null" {
                return Ok(());
            }
            let reason = format!("{} is not an array", String::from_utf8_lossy(key));
            let location = Location::Line(line);
            self.sink.reject(Rejection {
                location,
                reason,
                span_count: 0,
            })?;
            return Ok(());
        }
        self.text.step();
        let mut is_first = true;
        while self.text.has_next(b']', is_first)? {
            is_first = false;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            self.text.peek()?;
            line = self.text.line();
            if self.text.take_value(&mut buffer)? == Taken::TooLong {
                self.reject_too_long(line)?;
            } else if let Some(text) = self.utf8(&buffer, line)? {
                let mut place = Place::new(text, line, self.value_line, &mut self.spans);
                match format {
                    Format::Jaeger => self.jaeger.decode_trace(&mut place, text, self.sink)?,
                    _ => otlp_json::decode_resource_spans(&mut place, text, self.sink)?,
                }
            }
            self.buffer = buffer;
        }
        Ok(())
    }

    fn array(&mut self) -> Result<(), Stop> {
        self.text.step();
        let mut is_first = true;
        while self.text.has_next(b']', is_first)? {
            is_first = false;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            self.text.peek()?;
            let line = self.text.line();
            if self.text.take_value(&mut buffer)? == Taken::TooLong {
                self.reject_too_long(line)?;
            } else {
                self.element(&buffer, line)?;
            }
            self.buffer = buffer;
        }
        Ok(())
    }

    /// An object whose whole text is at hand, or an array of spans.
    fn element(&mut self, bytes: &[u8], line: u64) -> Result<(), Stop> {
        let Some(text) = self.utf8(bytes, line)? else {
            return Ok(());
        };
        let mut place = Place::new(text, line, self.value_line, &mut self.spans);
        if text.starts_with('[') {
            match parse_array::<&RawValue>(text) {
                Ok(items) => {
                    for item in items {
                        Self::object_of(
                            &mut self.format,
                            &mut self.jaeger,
                            &mut self.zipkin,
                            &mut place,
                            item.get(),
                            self.sink,
                        )?;
                    }
                }
                Err(reason) => self.sink.reject(place.reject(text, reason))?,
            }
            return Ok(());
        }
        Self::object_of(
            &mut self.format,
            &mut self.jaeger,
            &mut self.zipkin,
            &mut place,
            text,
            self.sink,
        )?;
        Ok(())
    }

    fn object_of(
        known: &mut Option<Format>,
        jaeger: &mut JaegerDecoder,
        zipkin: &mut ZipkinDecoder,
        place: &mut Place<'_>,
        text: &str,
        sink: &mut dyn SpanSink,
    ) -> Result<()> {
        let keys: Keys = match parse_shallow(text) {
            Ok(keys) => keys,
            Err(reason) => return sink.reject(place.reject(text, reason)),
        };
        let format = known.or_else(|| keys.format());
        if format == Some(Format::OtlpJson) && keys.otlp.is_none() && text.len() > 2
            || format.is_none()
        {
            let reason = match format {
                Some(_) => "no key `resourceSpans`, so this is not OTLP JSON",
                None => {
                    "neither OTLP (`resourceSpans`), Jaeger (`data`, `traceID`) nor Zipkin \
                     (`traceId`, `id`) JSON"
                }
            };
            return sink.reject(place.reject(text, reason.to_string()));
        }
        *known = format;
        match format {
            Some(Format::Jaeger) if keys.spans.is_some() => jaeger.decode_trace(place, text, sink),
            Some(Format::Jaeger) => jaeger.decode_span(place, text, sink),
            Some(Format::Zipkin) => zipkin.decode_span(place, text, sink),
            _ => otlp_json::decode_request(place, text, sink),
        }
    }

    /// The text, or `None` where it is not UTF-8, which is then reported.
    fn utf8<'t>(&mut self, bytes: &'t [u8], line: u64) -> Result<Option<&'t str>> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = line + memchr::memchr_iter(b'\n', before).count() as u64;
                let reason = "not UTF-8; the whole element is left out".to_string();
                let location = Location::Line(line);
                self.sink.reject(Rejection {
                    location,
                    reason,
                    span_count: 0,
                })?;
                Ok(None)
            }
        }
    }

    fn reject_too_long(&mut self, line: u64) -> Result<()> {
        let reason = format!("one element takes more than {MAX_VALUE_BYTES} bytes; split it");
        let location = Location::Line(line);
        self.sink.reject(Rejection {
            location,
            reason,
            span_count: 0,
        })
    }
}
