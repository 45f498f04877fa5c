//! The place in a search's order behind which the next page begins.
//!
//! Read [`Cursor`]. It is opaque text to whoever carries it; nothing of it is ever taken as SQL.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{SearchOrder, TraceQuery};
use crate::error::{Error, Result};
use crate::span::TraceId;

/// The layout of the bytes.
const VERSION: u8 = 1;

/// Version, order, fingerprint of the query, key, trace id, checksum.
const LENGTH: usize = 1 + 1 + 8 + 8 + 16 + 4;

/// A trace and its place in the order of one search.
///
/// ```text
/// version 1 | order 1 | fingerprint of the query 8 | key 8 | trace id 16 | checksum 4
/// ```
///
/// as URL-safe base64, integers big-endian. The key is what the order compares: the start of the
/// latest matching span or the duration of the longest one, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    order: SearchOrder,
    fingerprint: u64,
    /// What the order compares.
    pub(crate) key: i64,
    /// The trace, which breaks ties.
    pub(crate) trace_id: TraceId,
}

impl Cursor {
    /// The place of a trace with this key in the order of `query`.
    pub(crate) fn new(query: &TraceQuery, key: i64, trace_id: TraceId) -> Self {
        Self {
            order: query.order,
            fingerprint: fingerprint(query),
            key,
            trace_id,
        }
    }

    /// Reads a cursor; whatever [`Cursor`] did not write is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
        let cursor = bytes.and_then(|bytes| Self::from_bytes(&bytes));
        cursor.ok_or_else(|| {
            Error::invalid_input(
                "the cursor is damaged or of another version; search again from the first page",
            )
        })
    }

    fn from_bytes(bytes: &[u8; LENGTH]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk::<4>()?;
        let (&[version, order], rest) = content.split_first_chunk::<2>()?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>()?;
        let (key, id) = rest.split_first_chunk::<8>()?;
        if version != VERSION || checksum_of(content) != *checksum {
            return None;
        }
        Some(Self {
            order: *SearchOrder::ALL.get(usize::from(order))?,
            fingerprint: u64::from_be_bytes(*fingerprint),
            key: i64::from_be_bytes(*key),
            trace_id: TraceId::from_bytes(id.try_into().ok()?)?,
        })
    }

    /// The order it is a place in.
    pub(crate) fn order(&self) -> SearchOrder {
        self.order
    }

    /// Refuses to go on with another search than the cursor's own; limits may differ.
    pub(super) fn check(&self, query: &TraceQuery) -> Result<()> {
        if self.order == query.order && self.fingerprint == fingerprint(query) {
            return Ok(());
        }
        Err(Error::invalid_input(
            "the cursor belongs to another search; repeat that one's conditions and order, \
             or search again from the first page",
        ))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![VERSION, self.order as u8];
        bytes.extend(self.fingerprint.to_be_bytes());
        bytes.extend(self.key.to_be_bytes());
        bytes.extend(self.trace_id.as_bytes());
        bytes.extend(checksum_of(&bytes));
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// What tells searches apart: everything but the page that is asked for.
fn fingerprint(query: &TraceQuery) -> u64 {
    let asked = TraceQuery {
        limit: 0,
        cursor: None,
        page: None,
        with_total: false,
        max_span_ids: 0,
        ..query.clone()
    };
    // Plain data of finite depth always has a JSON form.
    fnv1a(&serde_json::to_vec(&asked).unwrap_or_default())
}

/// Finds slips of copying, not forgery: a forged cursor is merely a place in the order.
fn checksum_of(bytes: &[u8]) -> [u8; 4] {
    let hash = fnv1a(bytes);
    ((hash >> 32) as u32 ^ hash as u32).to_be_bytes()
}

/// The 64-bit FNV-1a hash, the same in every process
/// (<https://datatracker.ietf.org/doc/draft-eastlake-fnv/>).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(query: &TraceQuery) -> Cursor {
        let id = TraceId::parse("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        Cursor::new(query, -5, id)
    }

    #[test]
    fn a_cursor_survives_being_text() {
        let cursor = cursor(&TraceQuery::new());
        assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
    }

    #[test]
    fn a_damaged_or_forged_cursor_is_an_error() {
        let text = cursor(&TraceQuery::new()).to_string();
        for (index, _) in text.char_indices() {
            let mut damaged = text.clone();
            let other = if damaged[index..].starts_with('B') {
                "C"
            } else {
                "B"
            };
            damaged.replace_range(index..=index, other);
            assert!(Cursor::parse(&damaged).is_err(), "{damaged}");
        }
        for forged in ["", "' OR 1=1 --", "AAAA", &text[1..], &format!("{text}A")] {
            assert!(Cursor::parse(forged).is_err(), "{forged}");
        }
    }

    #[test]
    fn a_cursor_goes_on_with_its_own_search_only() {
        let query = TraceQuery::new().with_service("a");
        let cursor = cursor(&query);
        assert!(cursor.check(&query.clone().with_limit(3)).is_ok());
        assert!(cursor.check(&query.with_service("b")).is_err());
    }
}
