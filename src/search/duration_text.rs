//! Durations as people and Jaeger's clients write them.
//!
//! Read [`parse_duration`].

use crate::error::{Error, Result};

/// Units with their nanoseconds. The sign of micro is one of two characters.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Digits behind the point that count; further ones are less than a nanosecond of any unit.
const FRACTION_DIGITS: usize = 18;

/// Nanoseconds of a duration: decimal numbers with units (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`)
/// one after another, as in `250ms`, `1.5s` or `1h30m`, a sign before all of them or none, or a
/// bare `0`: the grammar of Go's `time.ParseDuration`, which Jaeger's clients use.
///
/// ```
/// use tracelake::search::parse_duration;
///
/// assert_eq!(parse_duration("1.5s").unwrap(), 1_500_000_000);
/// assert!(parse_duration("20").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<i64> {
    let nanos = nanos_of(text).map_err(|what| {
        Error::invalid_input(format!(
            "{what}; write a duration as `250ms`, `1.5s` or `1h30m`: duration=`{}`",
            text.escape_debug()
        ))
    })?;
    i64::try_from(nanos).map_err(|_| {
        Error::invalid_input(format!(
            "a duration is longer than 292 years: duration=`{text}`"
        ))
    })
}

fn nanos_of(text: &str) -> Result<i128, &'static str> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err("a duration is empty");
    }
    let mut nanos = 0i128;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        if unit.is_empty() {
            return Err("a duration lacks its unit");
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err("a duration has an unknown unit; they are ns, us, ms, s, m and h");
        };
        let part = times(number, *size).ok_or("a duration has a number that is none")?;
        nanos = nanos.saturating_add(part);
        rest = after;
    }
    Ok(nanos.saturating_mul(sign))
}

/// A decimal number times a unit, to the nearest nanosecond.
fn times(number: &str, size: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let fraction = fraction.get(..FRACTION_DIGITS).unwrap_or(fraction);
    let digits = |text: &str| match text.trim_start_matches('0') {
        "" => Some(0i128),
        // Numbers with more digits are too long durations in any unit.
        long if long.len() > 20 => Some(i128::from(u64::MAX)),
        digits => digits.parse().ok(),
    };
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let below = (digits(fraction)? * size + scale / 2) / scale;
    Some(digits(whole)? * size + below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-4s", -4_000_000_000),
            ("+5s", 5_000_000_000),
            ("1ns", 1),
            ("250us", 250_000),
            ("250µs", 250_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1h15m30.918s", 4_530_918_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9007199254740993ns", 9_007_199_254_740_993),
        ] {
            assert_eq!(parse_duration(text).unwrap(), nanos, "{text}");
        }
        let long = "9".repeat(1000);
        for text in [
            "",
            " ",
            "-",
            ".",
            "20",
            "s",
            ".s",
            "+.s",
            "1.2.3s",
            "1x",
            "1d",
            "1e3s",
            "1 s",
            "1s2",
            "3000000h",
            "1-.23s",
            "--1s",
            &format!("{long}ns"),
            &format!("{long}h"),
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
