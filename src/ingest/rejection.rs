//! What a decoder hands on: good spans, and what it had to leave out.
//!
//! Read [`SpanSink`] first, then [`Rejection`]. Counting and printing are the caller's.

use std::fmt;

use crate::error::Result;
use crate::span::{Origin, Span};

/// Receives what a decoder finds, in the order of the input.
pub trait SpanSink {
    /// Takes one span. An error stops decoding at once and is returned by `decode`.
    fn span(&mut self, origin: &Origin, span: &Span) -> Result<()>;

    /// Takes note of something left out. An error stops decoding at once, as strict callers want.
    fn reject(&mut self, rejection: Rejection) -> Result<()>;
}

/// Something a decoder left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where in the decompressed input it stands.
    pub location: Location,
    /// What is wrong with it: lower case, no full stop.
    pub reason: String,
    /// The spans lost; zero where that is not known, as for a line that is not JSON.
    pub span_count: u64,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.reason)
    }
}

/// A place in the decompressed input. All numbers but bytes count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// The input as a whole.
    Input,
    /// A line of text.
    Line(u64),
    /// A span of a line that holds several.
    SpanOfLine {
        /// Which span of the line.
        span: u64,
        /// The line.
        line: u64,
    },
    /// A byte offset.
    Byte(u64),
    /// A message of a length-delimited stream.
    Message(u64),
    /// A span of such a message.
    SpanOfMessage {
        /// Which span of the message.
        span: u64,
        /// The message.
        message: u64,
    },
    /// A span of a request that stands alone.
    Span(u64),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::SpanOfLine { span, line } => write!(f, "span {span} of line {line}"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
            Self::Message(message) => write!(f, "message {message}"),
            Self::SpanOfMessage { span, message } => {
                write!(f, "span {span} of message {message}")
            }
            Self::Span(span) => write!(f, "span {span}"),
        }
    }
}
