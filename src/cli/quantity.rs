//! Numbers as people read and write them: counts, bytes, durations, times.
//!
//! Read [`bytes`] and [`duration`]. Machine-readable output (JSON, CSV) never goes through here.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat};

pub(crate) use crate::config::{parse_bytes, parse_duration};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A count with its thousands set apart: `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun, in the plural unless it is one: `3 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Bytes in the unit that reads best; MiB for everything between one and ten thousand of them.
pub(crate) fn bytes(bytes: u64) -> String {
    let in_unit = |unit: u64| bytes as f64 / unit as f64;
    if bytes < KIB {
        format!("{bytes} B")
    } else if bytes < MIB {
        format!("{:.1} KiB", in_unit(KIB))
    } else if bytes < 10_000 * MIB {
        format!("{:.1} MiB", in_unit(MIB))
    } else {
        format!("{:.1} GiB", in_unit(GIB))
    }
}

/// A span of time in the unit that reads best: `840 µs`, `14.2 ms`, `5.21 s`, `3 min 20 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = duration.as_secs();
    if duration < Duration::from_millis(1) {
        format!("{} µs", duration.as_micros())
    } else if duration < Duration::from_secs(1) {
        format!("{:.1} ms", seconds * 1e3)
    } else if whole < 120 {
        format!("{seconds:.2} s")
    } else if whole < 7200 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else if whole < 172_800 {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    } else {
        format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600)
    }
}

/// How many a second, as a whole number; zero when no time has passed.
pub(crate) fn per_second(number: u64, elapsed: Duration) -> u64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        (number as f64 / seconds) as u64
    } else {
        0
    }
}

/// `part` of `whole` as a ratio; zero when there is no whole.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Nanoseconds since the epoch as RFC 3339 in UTC, with the digits they need.
pub(crate) fn time(unix_nano: i64) -> String {
    DateTime::from_timestamp_nanos(unix_nano).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Reads a point in time in UTC: `2026-11-22T13:00:00Z`, where `T`, `Z` and the whole time of day
/// may be left out.
pub(crate) fn parse_time(text: &str) -> Result<SystemTime, String> {
    let text = text.trim();
    humantime::parse_rfc3339_weak(text)
        .or_else(|error| {
            humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")).map_err(|_| error)
        })
        .map_err(|error| format!("{error}; use a time such as 2026-11-22T13:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(2_000, "file"), "2,000 files");
    }

    #[test]
    fn bytes_and_durations_come_in_the_unit_people_read() {
        for (number, text) in [
            (0, "0 B"),
            (1_536, "1.5 KiB"),
            (75 << 20, "75.0 MiB"),
            (20 << 30, "20.0 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (micros, text) in [
            (840, "840 µs"),
            (14_200, "14.2 ms"),
            (5_210_000, "5.21 s"),
            (200_000_000, "3 min 20 s"),
            (7_500_000_000, "2 h 5 min"),
            (180_000_000_000, "2 d 2 h"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, size) in [
            ("1048576", Some(1 << 20)),
            ("4GiB", Some(4 << 30)),
            ("4g", Some(4 << 30)),
            (" 512 MB ", Some(512_000_000)),
            ("1.5KiB", Some(1_536)),
            ("0", None),
            ("-1", None),
            ("GiB", None),
            ("4 parsecs", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), size, "{text}");
        }
    }

    #[test]
    fn a_rate_of_no_time_is_zero_and_not_a_panic() {
        assert_eq!(per_second(10, Duration::ZERO), 0);
        assert_eq!(per_second(10, Duration::from_millis(500)), 20);
        assert!(ratio(1, 0).abs() < f64::EPSILON);
    }

    #[test]
    fn times_are_read_with_and_without_the_time_of_day() {
        let midnight = parse_time("2026-11-22T00:00:00Z").expect("the time is well formed");
        assert_eq!(parse_time("2026-11-22"), Ok(midnight));
        assert_eq!(parse_time("2026-11-22 00:00:00"), Ok(midnight));
        assert!(parse_time("today").is_err());
        assert!(parse_time("2026-13-40").is_err());
    }

    #[test]
    fn ages_are_read_as_people_write_them() {
        assert_eq!(
            parse_duration("30d"),
            Ok(Duration::from_secs(30 * 24 * 3600))
        );
        assert!(parse_duration("soon").is_err());
    }
}
