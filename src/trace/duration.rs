//! Durations as people read them.

/// A duration in nanoseconds with three digits and its unit: `812 ns`, `12.3 µs`, `182 ms`,
/// `1.24 s`, `2m 05s`, `3h 12m`, `4d 06h`; a minus before a negative one.
///
/// ```
/// use tracelake::trace::format_duration;
///
/// assert_eq!(format_duration(1_240_000_000), "1.24 s");
/// assert_eq!(format_duration(-12_300), "-12.3 µs");
/// ```
pub fn format_duration(nano: i64) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let nano = nano.unsigned_abs();
    if nano < 1000 {
        return format!("{sign}{nano} ns");
    }
    // Each unit ends where its three digits would round up to a thousand.
    for (unit, size, limit) in [
        ("µs", 1_000, 999_500),
        ("ms", 1_000_000, 999_500_000),
        ("s", 1_000_000_000, 59_950_000_000),
    ] {
        if nano < limit {
            let number = nano as f64 / size as f64;
            // 9.995 and 99.95 would round to four digits.
            let decimals = if number < 9.995 {
                2
            } else if number < 99.95 {
                1
            } else {
                0
            };
            return format!("{sign}{number:.decimals$} {unit}");
        }
    }
    let seconds = nano.saturating_add(500_000_000) / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if hours == 0 {
        format!("{sign}{minutes}m {:02}s", seconds % 60)
    } else if days == 0 {
        format!("{sign}{hours}h {:02}m", minutes % 60)
    } else {
        format!("{sign}{days}d {:02}h", hours % 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_the_unit_that_fits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (182_400_000, "182 ms"),
            (1_240_000_000, "1.24 s"),
            (59_940_000_000, "59.9 s"),
            (59_960_000_000, "1m 00s"),
            (125_000_000_000, "2m 05s"),
            (11_520_000_000_000, "3h 12m"),
            (367_200_000_000_000, "4d 06h"),
            (-3_200_000, "-3.20 ms"),
            (i64::MIN, "-106751d 23h"),
            (i64::MAX, "106751d 23h"),
        ];
        for (nano, expected) in cases {
            assert_eq!(format_duration(nano), expected, "{nano}");
        }
    }
}
