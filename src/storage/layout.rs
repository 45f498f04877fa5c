//! Where a file lies and what its path says: the hour and the bucket.
//!
//! Read [`Hour`] and [`Bucket`]. Nothing here touches a store.
//!
//! ```text
//! day=2026-11-22/hour=13/L0-<uuid>.parquet        as ingested
//! day=2026-11-22/hour=13/b03of16-<uuid>.parquet   compacted: bucket 3 of 16
//! ```

use std::fmt;

use chrono::{DateTime, NaiveDate, Timelike};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::span::TraceId;

/// The name of the partition column that holds the day (`2026-11-22`, UTC).
pub(super) const DAY_COLUMN: &str = "day";
/// The name of the partition column that holds the hour of the day (0 to 23).
pub(super) const HOUR_COLUMN: &str = "hour";
/// The name of the partition column that holds the bucket as its path writes it.
pub(super) const BUCKET_COLUMN: &str = "bucket";

const HOUR_NANO: i64 = 3_600_000_000_000;

/// One hour of start times, in UTC: hours since 1970-01-01T00:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub i32);

impl Hour {
    /// The hour in which a nanosecond since the epoch lies; every `i64` has one.
    pub fn of_nano(unix_nano: i64) -> Self {
        // At most 2^63 / 3.6e12, about 2.6 million, either way.
        Self(i32::try_from(unix_nano.div_euclid(HOUR_NANO)).unwrap_or(i32::MAX))
    }

    /// The hour of that day, as a path or a partition value writes both.
    pub fn parse(day: &str, hour: &str) -> Option<Self> {
        let date = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
        let hour: i64 = hour.parse().ok().filter(|hour| (0..24).contains(hour))?;
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        i32::try_from(days * 24 + hour).ok().map(Self)
    }

    /// The day, `2026-11-22`.
    pub fn day(self) -> String {
        self.time()
            .map_or_else(String::new, |time| time.format("%Y-%m-%d").to_string())
    }

    /// The hour of the day, 0 to 23.
    pub fn hour(self) -> u32 {
        self.0.rem_euclid(24).unsigned_abs()
    }

    /// The first nanosecond of the hour; `i64::MIN` where it lies before what `i64` holds.
    pub fn start_nano(self) -> i64 {
        i64::from(self.0).saturating_mul(HOUR_NANO)
    }

    /// The nanosecond after the last of the hour; `i64::MAX` where it lies beyond.
    pub fn end_nano(self) -> i64 {
        (i64::from(self.0) + 1).saturating_mul(HOUR_NANO)
    }

    /// The directory of the hour's files, relative to the lake, without a slash at its end.
    pub(super) fn directory(self) -> String {
        format!(
            "{DAY_COLUMN}={}/{HOUR_COLUMN}={:02}",
            self.day(),
            self.hour()
        )
    }

    fn time(self) -> Option<DateTime<chrono::Utc>> {
        DateTime::from_timestamp(i64::from(self.0) * 3600, 0)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time() {
            Some(time) => write!(f, "{}T{:02}", time.format("%Y-%m-%d"), time.hour()),
            None => write!(f, "hour {}", self.0),
        }
    }
}

/// Which traces a file may hold.
///
/// A bucket of `count` (a power of two, at most [`Bucket::MAX_COUNT`]) holds the traces for
/// which the top `log2(count)` bits of a hash of the trace id are `index`. Trace ids themselves
/// are not used: 64-bit ids padded with zeros would all fall into one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Any trace: a file as ingested.
    Level0,
    /// One class of traces: a compacted file.
    Of {
        /// Which bucket, from 0.
        index: u32,
        /// Of how many.
        count: u32,
    },
}

impl Bucket {
    /// The largest number of buckets of an hour.
    pub const MAX_COUNT: u32 = 4096;

    /// The bucket of `count` that holds the trace.
    pub fn of(trace_id: &TraceId, count: u32) -> Self {
        Self::Of {
            index: bucket_index(trace_id.as_bytes(), count),
            count,
        }
    }

    /// Whether a file of this bucket can hold spans of the trace.
    pub fn may_contain(&self, trace_id: &TraceId) -> bool {
        match self {
            Self::Level0 => true,
            Self::Of { index, count } => bucket_index(trace_id.as_bytes(), *count) == *index,
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "L0" {
            return Some(Self::Level0);
        }
        let (index, count) = text.strip_prefix('b')?.split_once("of")?;
        let (index, count): (u32, u32) = (index.parse().ok()?, count.parse().ok()?);
        let valid = count.is_power_of_two() && count <= Self::MAX_COUNT && index < count;
        valid.then_some(Self::Of { index, count })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level0 => f.write_str("L0"),
            Self::Of { index, count } => write!(f, "b{index:02}of{count}"),
        }
    }
}

/// A stable hash of a trace id: XXH3-like mixing is not needed, only that ids which differ in
/// a few low bits spread evenly. Two rounds of the finalizer of SplitMix64 (Steele, Lea and
/// Flood, "Fast splittable pseudorandom number generators", 2014) over the id's two halves,
/// big-endian. It is part of the format: changing it makes compacted files unreadable by id.
pub(super) fn trace_hash(trace_id: &[u8; 16]) -> u64 {
    let id = u128::from_be_bytes(*trace_id);
    let high = (id >> 64) as u64;
    let low = id as u64;
    mix(mix(high).wrapping_add(low))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The bucket of `count`, a power of two, that holds the trace.
pub(super) fn bucket_index(trace_id: &[u8; 16], count: u32) -> u32 {
    // The top bits of the hash: the buckets of 2n are halves of the buckets of n.
    let scaled = u128::from(trace_hash(trace_id)) * u128::from(count);
    (scaled >> 64) as u32
}

/// A new path for a file of that hour and bucket, relative to the lake.
pub(super) fn new_path(hour: Hour, bucket: Bucket) -> String {
    format!("{}/{bucket}-{}.parquet", hour.directory(), Uuid::new_v4())
}

/// The hour and the bucket that a path names.
pub(super) fn parse_path(path: &str) -> Result<(Hour, Bucket)> {
    parse_parts(path).ok_or_else(|| {
        Error::corrupt(format!(
            "the table names a file that tracelake did not write; path=`{path}`"
        ))
    })
}

fn parse_parts(path: &str) -> Option<(Hour, Bucket)> {
    let mut parts = path.split('/');
    let day = parts.next()?.strip_prefix("day=")?;
    let hour = parts.next()?.strip_prefix("hour=")?;
    let name = parts.next()?.strip_suffix(".parquet")?;
    if parts.next().is_some() {
        return None;
    }
    let (bucket, _) = name.split_once('-')?;
    Some((Hour::parse(day, hour)?, Bucket::parse(bucket)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_buckets_come_back_from_a_path() {
        for (hour, bucket) in [
            (Hour(0), Bucket::Level0),
            (Hour(-1), Bucket::Of { index: 0, count: 1 }),
            (
                Hour::of_nano(1_795_352_400_000_000_000),
                Bucket::Of {
                    index: 3,
                    count: 16,
                },
            ),
            (Hour::of_nano(i64::MIN), Bucket::Level0),
            (Hour::of_nano(i64::MAX), Bucket::Level0),
        ] {
            let path = new_path(hour, bucket);
            assert_eq!(parse_path(&path).unwrap(), (hour, bucket), "{path}");
        }
        assert!(new_path(Hour(-1), Bucket::Level0).starts_with("day=1969-12-31/hour=23/L0-"));
    }

    #[test]
    fn foreign_paths_are_named_in_the_error() {
        for path in [
            "x.parquet",
            "day=2026-13-01/hour=1/L0-a.parquet",
            "day=2026-01-01/hour=24/L0-a.parquet",
            "day=2026-01-01/hour=2/b3of3-a.parquet",
        ] {
            let error = parse_path(path).unwrap_err();
            assert!(error.message().contains(path));
        }
    }

    #[test]
    fn every_nanosecond_lies_in_its_hour() {
        for nano in [i64::MIN, -1, 0, 1, HOUR_NANO - 1, HOUR_NANO, i64::MAX] {
            let hour = Hour::of_nano(nano);
            assert!(hour.start_nano() <= nano, "{nano}");
            assert!(
                nano < hour.end_nano() || hour.end_nano() == i64::MAX,
                "{nano}"
            );
        }
    }

    #[test]
    fn padded_sequential_ids_spread_over_all_buckets_and_halves_nest() {
        let mut sizes = [0u32; 16];
        for number in 1u128..=16_000 {
            let id = TraceId::from_bytes(number.to_be_bytes()).unwrap();
            let index = bucket_index(id.as_bytes(), 16);
            sizes[index as usize] += 1;
            assert_eq!(bucket_index(id.as_bytes(), 32) / 2, index);
            assert_eq!(bucket_index(id.as_bytes(), 1), 0);
            assert!(Bucket::of(&id, 16).may_contain(&id));
        }
        assert!(
            sizes.iter().all(|size| (800..1200).contains(size)),
            "{sizes:?}"
        );
    }
}
