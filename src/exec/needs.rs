//! Which stored columns the notions of a trace need.
//!
//! Read [`Needs`].

use datafusion::common::Result;

use crate::span::{column, logical_schema};
use crate::table::stored_index;

/// A set of the columns of [`TraceColumns`](crate::trace::TraceColumns), and a few more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs(u16);

impl Needs {
    /// Span ids.
    pub const SPAN_ID: Self = Self(1);
    /// Parents' ids.
    pub const PARENT_SPAN_ID: Self = Self(1 << 1);
    /// Rows from a span to its parent.
    pub const PARENT_OFFSET: Self = Self(1 << 2);
    /// Starts.
    pub const START: Self = Self(1 << 3);
    /// Durations.
    pub const DURATION: Self = Self(1 << 4);
    /// Kinds.
    pub const KIND: Self = Self(1 << 5);
    /// Status codes.
    pub const STATUS: Self = Self(1 << 6);
    /// Services, as numbers.
    pub const SERVICE: Self = Self(1 << 7);
    /// Span names, as numbers.
    pub const NAME: Self = Self(1 << 8);
    /// When the row was committed.
    pub const INGESTED_AT: Self = Self(1 << 9);

    /// What the tree of a trace needs: links, order, and all by which copies are told from
    /// different spans with one id.
    pub const TREE: Self = Self(0b1_1011_1111);

    /// Each column of its own.
    pub(super) const ALL: [Self; 10] = [
        Self::SPAN_ID,
        Self::PARENT_SPAN_ID,
        Self::PARENT_OFFSET,
        Self::START,
        Self::DURATION,
        Self::KIND,
        Self::STATUS,
        Self::SERVICE,
        Self::NAME,
        Self::INGESTED_AT,
    ];

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The index of a single column in the schema of a scan of traces.
    pub(super) fn index(self) -> Result<usize> {
        let stored = match self {
            Self::SPAN_ID => column::SPAN_ID,
            Self::PARENT_SPAN_ID => column::PARENT_SPAN_ID,
            Self::PARENT_OFFSET => column::PARENT_OFFSET,
            Self::START => column::START_TIME_UNIX_NANO,
            Self::DURATION => column::DURATION_NANO,
            Self::KIND => column::KIND,
            Self::STATUS => column::STATUS_CODE,
            // Texts are read as the table shows them.
            Self::SERVICE => return Ok(logical_schema().index_of("service_name")?),
            Self::NAME => return Ok(logical_schema().index_of("name")?),
            _ => return Ok(logical_schema().index_of("ingested_at")?),
        };
        stored_index(stored)
    }
}
