//! Where in the input a piece of JSON text stands, found only when it is asked for.
//!
//! Read [`Place`].

use super::{Location, Rejection};

/// A piece of JSON text whose place in the input is known, and the spans seen before it.
pub(super) struct Place<'a> {
    text: &'a str,
    /// The line of the first byte of `text`.
    line: u64,
    /// The line on which the value began that `text` is a part of.
    value_line: u64,
    /// Spans of that value so far, good and bad.
    seen: &'a mut u64,
}

impl<'a> Place<'a> {
    /// A piece that begins on `line`, of a value that began on `value_line`.
    pub(super) fn new(text: &'a str, line: u64, value_line: u64, seen: &'a mut u64) -> Self {
        Self {
            text,
            line,
            value_line,
            seen,
        }
    }

    /// Counts one span more.
    pub(super) fn count_span(&mut self) {
        *self.seen += 1;
    }

    /// A part of the text that holds no span that could be counted.
    pub(super) fn reject(&self, part: &str, reason: String) -> Rejection {
        Rejection {
            location: Location::Line(self.line_of(part)),
            reason,
            span_count: 0,
        }
    }

    /// The span last counted, whose text is `part`.
    pub(super) fn reject_span(&self, part: &str, reason: String) -> Rejection {
        let line = self.line_of(part);
        // Where each span has lines of its own, the line says all.
        let location = if line == self.value_line {
            Location::SpanOfLine {
                span: *self.seen,
                line,
            }
        } else {
            Location::Line(line)
        };
        Rejection {
            location,
            reason,
            span_count: 1,
        }
    }

    fn line_of(&self, part: &str) -> u64 {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        self.line + memchr::memchr_iter(b'\n', before).count() as u64
    }
}
