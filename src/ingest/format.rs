//! The wire formats, and how one is told from another.
//!
//! Read [`Format`]. Only text and protobuf are told apart here, from the name and the first
//! bytes; which JSON it is shows in its keys, while it is read (`json_document.rs`).

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A wire format that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// OTLP JSON: one object, an array of objects, or JSON lines.
    OtlpJson,
    /// OTLP protobuf: one request, or requests each after its 4-byte big-endian length.
    OtlpProtobuf,
    /// Jaeger JSON, as its UI and API export it.
    Jaeger,
    /// Zipkin JSON, version 2 or 1.
    Zipkin,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [
        Self::OtlpJson,
        Self::OtlpProtobuf,
        Self::Jaeger,
        Self::Zipkin,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtlpJson => "otlp-json",
            Self::OtlpProtobuf => "otlp-proto",
            Self::Jaeger => "jaeger",
            Self::Zipkin => "zipkin",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::name).join(", ");
                Error::invalid_input(format!(
                    "unknown format; use one of {known}, format=`{name}`"
                ))
            })
    }
}

/// What the bytes are, before a JSON dialect is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
    Unknown,
}

/// Tells JSON from protobuf. A name that ends in `.pb` and its like decides, so that a file
/// that is not what it says is refused and not guessed at; else the first bytes do.
pub(super) fn sniff(name: &str, head: &[u8]) -> Encoding {
    if says_protobuf(name) {
        return Encoding::Protobuf;
    }
    if looks_like_json(head) {
        return Encoding::Json;
    }
    if has_extension(name, &["json", "jsonl", "ndjson"]) {
        return Encoding::Unknown;
    }
    // A request begins with the tag of its only field; a stream with a length whose first byte
    // is small, since no message may be that long otherwise.
    match head {
        [0x0a, ..] => Encoding::Protobuf,
        [0..=3, ..] if head.len() >= 4 => Encoding::Protobuf,
        _ => Encoding::Unknown,
    }
}

/// Whether the name says that this is protobuf.
pub(super) fn says_protobuf(name: &str) -> bool {
    has_extension(name, &["pb", "binpb", "proto", "protobuf", "bin"])
}

/// Whether the name says that each line is a value of its own.
pub(super) fn says_json_lines(name: &str) -> bool {
    has_extension(name, &["jsonl", "ndjson"])
}

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    let mut base = name;
    for compression in [".gz", ".gzip", ".zst", ".zstd"] {
        if let Some(start) = base.len().checked_sub(compression.len())
            && base
                .get(start..)
                .is_some_and(|end| end.eq_ignore_ascii_case(compression))
        {
            base = &base[..start];
            break;
        }
    }
    base.rsplit_once('.').is_some_and(|(_, extension)| {
        extensions
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Whether the bytes begin an object or array, and hold no control characters, which JSON
/// does not allow and protobuf has everywhere. The line feed is also protobuf's first tag.
fn looks_like_json(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
        && text
            .iter()
            .all(|byte| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert!(
            "thrift"
                .parse::<Format>()
                .unwrap_err()
                .message()
                .contains("otlp-json")
        );
    }

    #[test]
    fn the_encoding_shows_in_the_name_or_the_first_bytes() {
        let cases: [(&str, &[u8], Encoding); 11] = [
            ("a.json", b"{\"resourceSpans\"", Encoding::Json),
            ("-", b"\xef\xbb\xbf {", Encoding::Json),
            ("-", b"\n[{\"traceId\"", Encoding::Json),
            ("-", b"\n\x7b\n\x22\n\x05\x01\x02", Encoding::Protobuf),
            ("-", b"\x0a\x99\x01", Encoding::Protobuf),
            ("-", b"\x00\x00\x01\x00\x0a", Encoding::Protobuf),
            ("a.pb", b"{\"resourceSpans\"", Encoding::Protobuf),
            ("a.PB.gz", b"{", Encoding::Protobuf),
            ("a.json", b"<html>", Encoding::Unknown),
            ("a.csv", b"trace_id,span_id", Encoding::Unknown),
            ("é.gz", b"PK", Encoding::Unknown),
        ];
        for (name, head, expected) in cases {
            assert_eq!(sniff(name, head), expected, "{name} {head:?}");
        }
    }
}
