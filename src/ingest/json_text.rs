//! Cuts a stream of JSON text into the raw texts of its values, in bounded memory.
//!
//! Read [`JsonText`]. It follows brackets and strings and nothing more; that a value is right
//! JSON is found out by whoever parses it. It counts depth and never recurses.

use memchr::memchr3;

use super::input::{Input, InputError};
use crate::error::Error;

/// The longest raw text that is held at once: one resource's spans, one trace, one span.
pub(super) const MAX_VALUE_BYTES: usize = 128 << 20;

/// JSON text, read from the front.
pub(super) struct JsonText<'a> {
    input: Input<'a>,
    /// The line of the next byte, from one.
    line: u64,
    /// Whether a line break inside a value means that the value was cut off.
    one_value_per_line: bool,
    max_value_bytes: usize,
}

/// Why the text cannot be followed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The caller's reader failed.
    Source(Error),
    /// The text is broken, at this line.
    Text { line: u64, reason: String },
}

impl From<InputError> for Fault {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Source(error) => Self::Source(error),
            // The line is filled in by whoever knows it.
            InputError::Damaged(reason) => Self::Text { line: 0, reason },
        }
    }
}

/// How a value was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its whole text.
    Whole,
    /// It was stepped over, being longer than a value may be.
    TooLong,
}

impl<'a> JsonText<'a> {
    /// Text from the start of `input`, whose byte order mark is stepped over.
    pub(super) fn new(mut input: Input<'a>, one_value_per_line: bool) -> Result<Self, Fault> {
        if input.ensure(3)?.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        Ok(Self {
            input,
            line: 1,
            one_value_per_line,
            max_value_bytes: MAX_VALUE_BYTES,
        })
    }

    /// The line of the next byte.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// From now on a line break inside a value means that the value was cut off.
    pub(super) fn expect_one_value_per_line(&mut self) {
        self.one_value_per_line = true;
    }

    /// The next byte between values, white space skipped; `None` at the end of the input.
    pub(super) fn next_value(&mut self) -> Result<Option<u8>, Fault> {
        self.skip_space(false)
    }

    /// Steps over the next byte, which [`Self::next_value`] or [`Self::peek`] showed.
    pub(super) fn step(&mut self) {
        self.input.consume(1);
    }

    /// The next byte inside a value, white space skipped.
    pub(super) fn peek(&mut self) -> Result<u8, Fault> {
        match self.skip_space(true)? {
            Some(byte) => Ok(byte),
            None => Err(self.fault("the text ends inside a value")),
        }
    }

    /// After an item of an array or object: whether another follows. Steps over the comma or
    /// the closing bracket `end`.
    pub(super) fn has_next(&mut self, end: u8, is_first: bool) -> Result<bool, Fault> {
        let byte = self.peek()?;
        if byte == end {
            self.step();
            return Ok(false);
        }
        if is_first {
            return Ok(true);
        }
        if byte != b',' {
            let reason = format!(
                "expected `,` or `{}`, found {:?}",
                char::from(end),
                char::from(byte)
            );
            return Err(self.fault(&reason));
        }
        self.step();
        if self.peek()? == end {
            return Err(self.fault("a comma stands before the closing bracket"));
        }
        Ok(true)
    }

    /// Takes an object's key, quotes included, and the colon after it.
    pub(super) fn take_key(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.peek()? != b'"' {
            return Err(self.fault("expected a key in quotes"));
        }
        if self.take_value(out)? == Taken::TooLong {
            return Err(self.fault("a key is too long"));
        }
        if self.peek()? != b':' {
            return Err(self.fault("expected `:` after a key"));
        }
        self.step();
        Ok(())
    }

    /// Appends the raw text of the next value to `out`, unless `out` then held more than a value
    /// may have.
    pub(super) fn take_value(&mut self, out: &mut Vec<u8>) -> Result<Taken, Fault> {
        let before = out.len();
        let mut scan = match self.peek()? {
            b'{' | b'[' => Scan {
                depth: 0,
                state: State::Between,
            },
            b'"' => Scan {
                depth: 0,
                state: State::Opening,
            },
            b',' | b':' | b']' | b'}' => return Err(self.fault("expected a value")),
            _ => Scan {
                depth: 0,
                state: State::Scalar,
            },
        };
        let mut taken = Taken::Whole;
        loop {
            let line = self.line;
            let one_line = self.one_value_per_line;
            let bytes = match self.input.available() {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.input_fault(error)),
            };
            if bytes.is_empty() {
                if scan.state == State::Scalar {
                    return Ok(taken);
                }
                return Err(self.fault("the text ends inside a value"));
            }
            let step = scan.run(bytes, one_line);
            if taken == Taken::Whole {
                if out.len() + step.length > self.max_value_bytes {
                    taken = Taken::TooLong;
                    out.truncate(before);
                    out.shrink_to(before);
                } else {
                    out.extend_from_slice(&bytes[..step.length]);
                }
            }
            self.line = line + step.lines;
            self.input.consume(step.length);
            match step.end {
                StepEnd::More => {}
                StepEnd::Done => return Ok(taken),
                StepEnd::Broken(reason) => return Err(self.fault(reason)),
            }
        }
    }

    /// Steps over the rest of the line, as after a value that cannot be followed.
    pub(super) fn skip_line(&mut self) -> Result<(), Fault> {
        loop {
            let bytes = match self.input.available() {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.input_fault(error)),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            if let Some(at) = memchr::memchr(b'\n', bytes) {
                self.input.consume(at + 1);
                self.line += 1;
                return Ok(());
            }
            let length = bytes.len();
            self.input.consume(length);
        }
    }

    fn skip_space(&mut self, inside: bool) -> Result<Option<u8>, Fault> {
        loop {
            let bytes = match self.input.available() {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.input_fault(error)),
            };
            match bytes.first().copied() {
                None => return Ok(None),
                Some(b'\n') => {
                    if inside && self.one_value_per_line {
                        return Err(self.fault("the line ends inside a value"));
                    }
                    self.line += 1;
                }
                Some(b' ' | b'\t' | b'\r') => {}
                found => return Ok(found),
            }
            self.input.consume(1);
        }
    }

    fn fault(&self, reason: &str) -> Fault {
        Fault::Text {
            line: self.line,
            reason: reason.to_string(),
        }
    }

    fn input_fault(&self, error: InputError) -> Fault {
        match Fault::from(error) {
            Fault::Text { reason, .. } => Fault::Text {
                line: self.line,
                reason,
            },
            source => source,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A string that stands alone is about to open.
    Opening,
    /// Between the tokens of an object or array.
    Between,
    InString,
    /// After a backslash.
    Escaped,
    /// A number or a word that stands alone.
    Scalar,
}

/// Where in a value the scan is; kept between buffers.
struct Scan {
    depth: usize,
    state: State,
}

struct Step {
    length: usize,
    lines: u64,
    end: StepEnd,
}

enum StepEnd {
    More,
    Done,
    Broken(&'static str),
}

impl Scan {
    /// Follows the value through `bytes`, to its end or theirs.
    fn run(&mut self, bytes: &[u8], one_line: bool) -> Step {
        let mut lines = 0;
        let mut at = 0;
        let step = |length, lines, end| Step { length, lines, end };
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                State::InString => {
                    let Some(found) = memchr3(b'"', b'\\', b'\n', &bytes[at..]) else {
                        return step(bytes.len(), lines, StepEnd::More);
                    };
                    at += found;
                    match bytes[at] {
                        b'\\' => self.state = State::Escaped,
                        // Not stepped over: the next line may be good.
                        b'\n' => {
                            let end = StepEnd::Broken("the line ends inside a string");
                            return step(at, lines, end);
                        }
                        _ if self.depth == 0 => return step(at + 1, lines, StepEnd::Done),
                        _ => self.state = State::Between,
                    }
                }
                State::Escaped if byte == b'\n' => {
                    return step(at, lines, StepEnd::Broken("the line ends inside a string"));
                }
                State::Escaped | State::Opening => self.state = State::InString,
                State::Between => match byte {
                    b'"' => self.state = State::InString,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return step(at + 1, lines, StepEnd::Done);
                        }
                    }
                    b'\n' if one_line => {
                        return step(at, lines, StepEnd::Broken("the line ends inside a value"));
                    }
                    b'\n' => lines += 1,
                    _ => {}
                },
                State::Scalar => {
                    if matches!(byte, b',' | b']' | b'}' | b':' | b'{' | b'[' | b'"')
                        || byte.is_ascii_whitespace()
                    {
                        return step(at, lines, StepEnd::Done);
                    }
                }
            }
            at += 1;
        }
        step(bytes.len(), lines, StepEnd::More)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Gives one byte a read, so that every token is cut at every place.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(buffer.len()).min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn values(text: &str) -> Result<Vec<String>, String> {
        let input = Input::new(Drip(text.as_bytes())).unwrap();
        let mut json = JsonText::new(input, false).unwrap();
        let mut found = Vec::new();
        let describe = |fault| match fault {
            Fault::Text { line, reason } => format!("{line}: {reason}"),
            Fault::Source(error) => error.report(),
        };
        while json.next_value().map_err(describe)?.is_some() {
            let mut out = Vec::new();
            json.take_value(&mut out).map_err(describe)?;
            found.push(String::from_utf8(out).unwrap());
        }
        Ok(found)
    }

    #[test]
    fn values_are_cut_at_their_ends() {
        let text = "\u{feff} {\"a\":[1,{\"b\":\"}\\\"]\"}]}\n[]\n12 \"x\\\\\" null{}";
        let expected = [
            "{\"a\":[1,{\"b\":\"}\\\"]\"}]}",
            "[]",
            "12",
            "\"x\\\\\"",
            "null",
            "{}",
        ];
        assert_eq!(values(text).unwrap(), expected);
    }

    #[test]
    fn broken_text_is_named_by_its_line() {
        for (text, expected) in [
            ("\n{\"a\": 1", "2: the text ends inside a value"),
            ("{}\n{\"a\": \"b\n", "2: the line ends inside a string"),
            ("]", "1: expected a value"),
        ] {
            assert_eq!(values(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_value_too_long_is_stepped_over_and_not_held() {
        let text = format!("{{\"a\": \"{}\"}} [1]", "x".repeat(1000));
        let input = Input::new(text.as_bytes()).unwrap();
        let mut json = JsonText::new(input, false).unwrap();
        json.max_value_bytes = 100;
        let mut out = Vec::new();
        assert_eq!(json.take_value(&mut out).unwrap(), Taken::TooLong);
        assert!(out.capacity() < 1000);
        assert_eq!(json.next_value().unwrap(), Some(b'['));
        assert_eq!(json.take_value(&mut out).unwrap(), Taken::Whole);
        assert_eq!(out, b"[1]");
    }

    #[test]
    fn a_million_brackets_are_followed_without_recursion() {
        let text = "[".repeat(1_000_000);
        let mut json = JsonText::new(Input::new(text.as_bytes()).unwrap(), false).unwrap();
        assert!(json.take_value(&mut Vec::new()).is_err());
    }
}
