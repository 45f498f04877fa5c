//! The input as a stream of bytes: decompressed, buffered, with its offset.
//!
//! Read [`Input`]. It holds one buffer, whatever the size of the input.

use std::cell::Cell;
use std::io::{self, Chain, Cursor, Read};
use std::rc::Rc;

use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 256 << 10;

/// Decompressed bytes, read ahead by one buffer.
pub(super) struct Input<'a> {
    reader: Box<dyn Read + 'a>,
    /// Set when the caller's reader itself failed, as opposed to decompression.
    source_failed: Rc<Cell<bool>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The offset in the decompressed input of `buffer[start]`.
    offset: u64,
}

/// Why no more bytes come.
#[derive(Debug)]
pub(super) enum InputError {
    /// The caller's reader failed.
    Source(Error),
    /// The compressed data is damaged; what came before it is good.
    Damaged(String),
}

impl<'a> Input<'a> {
    /// Looks for gzip and zstd by their first bytes.
    pub(super) fn new(source: impl Read + 'a) -> Result<Self> {
        let source_failed = Rc::new(Cell::new(false));
        let mut source = Watched {
            inner: source,
            failed: Rc::clone(&source_failed),
        };
        let mut magic = Vec::with_capacity(4);
        (&mut source).take(4).read_to_end(&mut magic)?;
        let kind: [u8; 4] = std::array::from_fn(|index| magic.get(index).copied().unwrap_or(0));
        let source: Chain<Cursor<Vec<u8>>, _> = Cursor::new(magic).chain(source);
        let reader: Box<dyn Read + 'a> = match kind {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(source)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(source)?),
            _ => Box::new(source),
        };
        Ok(Self {
            reader,
            source_failed,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            offset: 0,
        })
    }

    /// The offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes at hand, at least one; none at the end.
    pub(super) fn available(&mut self) -> Result<&[u8], InputError> {
        self.ensure(1)
    }

    /// The bytes at hand, at least `count` of them but at the end; `count` is small.
    pub(super) fn ensure(&mut self, count: usize) -> Result<&[u8], InputError> {
        debug_assert!(count <= BUFFER_BYTES);
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < count {
                match self.reader.read(&mut self.buffer[self.end..]) {
                    Ok(0) => break,
                    Ok(read) => self.end += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.failure(error)),
                }
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Steps over bytes that are at hand.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Appends up to `count` bytes to `out`, fewer only at the end; memory grows with what is
    /// there, not with `count`.
    pub(super) fn read_up_to(&mut self, count: u64, out: &mut Vec<u8>) -> Result<(), InputError> {
        let mut left = count;
        while left > 0 {
            let bytes = self.available()?;
            if bytes.is_empty() {
                break;
            }
            let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            out.extend_from_slice(&bytes[..taken]);
            self.consume(taken);
            left -= taken as u64;
        }
        Ok(())
    }

    /// Steps over `count` bytes; the number of those that were there.
    pub(super) fn skip(&mut self, count: u64) -> Result<u64, InputError> {
        let mut left = count;
        while left > 0 {
            let at_hand = self.available()?.len();
            if at_hand == 0 {
                break;
            }
            let taken = usize::try_from(left).map_or(at_hand, |left| left.min(at_hand));
            self.consume(taken);
            left -= taken as u64;
        }
        Ok(count - left)
    }

    fn failure(&self, error: io::Error) -> InputError {
        if self.source_failed.get() {
            InputError::Source(Error::from(error))
        } else {
            InputError::Damaged(format!("compressed data is damaged or cut short: {error}"))
        }
    }
}

/// Remembers whether it was the wrapped reader that failed.
struct Watched<R> {
    inner: R,
    failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failed.set(true);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text_of(bytes: &[u8]) -> Result<String, String> {
        let mut input = Input::new(bytes).map_err(|error| error.report())?;
        let mut out = Vec::new();
        match input.read_up_to(u64::MAX, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(InputError::Damaged(reason)) => Err(reason),
            Err(InputError::Source(error)) => Err(error.report()),
        }
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_and_zstd_are_recognized_by_their_first_bytes() {
        let text = "spans ".repeat(100_000);
        assert_eq!(text_of(text.as_bytes()).unwrap(), text);
        assert_eq!(text_of(&gzip(&text)).unwrap(), text);
        assert_eq!(text_of(&[gzip("a"), gzip("b")].concat()).unwrap(), "ab");
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        assert_eq!(text_of(&zstd).unwrap(), text);
        assert_eq!(text_of(b"").unwrap(), "");
        assert_eq!(text_of(b"{}").unwrap(), "{}");
    }

    #[test]
    fn damaged_compression_is_told_from_a_failing_reader() {
        let whole = gzip(&"spans ".repeat(1000));
        let error = text_of(&whole[..whole.len() / 2]).unwrap_err();
        assert!(error.contains("damaged or cut short"), "{error}");

        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cable pulled"))
            }
        }
        let mut input = Input::new((&whole[..30]).chain(Broken)).unwrap();
        let result = input.read_up_to(u64::MAX, &mut Vec::new());
        assert!(matches!(result, Err(InputError::Source(_))), "{result:?}");
    }
}
