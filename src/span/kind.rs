//! Span kinds and status codes: a small number on disk, OpenTelemetry's name in SQL.

use serde::{Deserialize, Serialize};

/// How a span relates to its parent and children
/// (<https://opentelemetry.io/docs/specs/otel/trace/api/#spankind>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(i8)]
pub enum SpanKind {
    /// The producer did not say.
    #[default]
    Unspecified = 0,
    /// Work inside a process.
    Internal = 1,
    /// The answering side of a synchronous call.
    Server = 2,
    /// The asking side of a synchronous call.
    Client = 3,
    /// The sender of a message.
    Producer = 4,
    /// The receiver of a message.
    Consumer = 5,
}

impl SpanKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::Internal,
        Self::Server,
        Self::Client,
        Self::Producer,
        Self::Consumer,
    ];

    /// The kind with OTLP's number. Unknown numbers, legal in proto3, are `Unspecified`.
    pub fn from_number(number: i64) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
            .unwrap_or_default()
    }

    /// The name as SQL shows it.
    pub fn name(self) -> &'static str {
        [
            "UNSPECIFIED",
            "INTERNAL",
            "SERVER",
            "CLIENT",
            "PRODUCER",
            "CONSUMER",
        ][self as usize]
    }

    /// The kind of that name, in any case, with or without OTLP's `SPAN_KIND_` before it.
    pub fn from_name(name: &str) -> Option<Self> {
        find_name(&Self::ALL.map(Self::name), name, "SPAN_KIND_").map(|index| Self::ALL[index])
    }
}

/// How a span ended (<https://opentelemetry.io/docs/specs/otel/trace/api/#set-status>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(i8)]
pub enum StatusCode {
    /// Nobody said.
    #[default]
    Unset = 0,
    /// Explicitly well.
    Ok = 1,
    /// Failed.
    Error = 2,
}

impl StatusCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Unset, Self::Ok, Self::Error];

    /// The code with OTLP's number. Unknown numbers, legal in proto3, are `Unset`.
    pub fn from_number(number: i64) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
            .unwrap_or_default()
    }

    /// The name as SQL shows it.
    pub fn name(self) -> &'static str {
        ["UNSET", "OK", "ERROR"][self as usize]
    }

    /// The code of that name, in any case, with or without OTLP's `STATUS_CODE_` before it.
    pub fn from_name(name: &str) -> Option<Self> {
        find_name(&Self::ALL.map(Self::name), name, "STATUS_CODE_").map(|index| Self::ALL[index])
    }
}

fn find_name(names: &[&str], name: &str, prefix: &str) -> Option<usize> {
    let bare = match name.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => &name[prefix.len()..],
        _ => name,
    };
    names
        .iter()
        .position(|known| known.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_otlp() {
        assert_eq!(SpanKind::from_number(3), SpanKind::Client);
        assert_eq!(
            SpanKind::from_name("SPAN_KIND_SERVER"),
            Some(SpanKind::Server)
        );
        assert_eq!(SpanKind::from_name("server"), Some(SpanKind::Server));
        assert_eq!(SpanKind::from_number(99), SpanKind::Unspecified);
        assert_eq!(
            StatusCode::from_name("STATUS_CODE_ERROR"),
            Some(StatusCode::Error)
        );
        assert_eq!(StatusCode::from_number(-1), StatusCode::Unset);
        for kind in SpanKind::ALL {
            assert_eq!(SpanKind::from_name(kind.name()), Some(kind));
        }
    }
}
