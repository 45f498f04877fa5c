//! OTLP's rules for times, the same in JSON and protobuf.

/// A time of the wire as nanoseconds since the epoch. What does not fit a signed number, that
/// is lies beyond the year 2262, is refused and never wraps to a negative time.
pub(super) fn signed_nanos(nanos: u64) -> Result<i64, String> {
    i64::try_from(nanos)
        .map_err(|_| format!("time {nanos} lies beyond 2262-04-11, the last that can be stored"))
}

/// The duration of a span: negative where clocks were skewed, `None` where the span was not
/// ended, that is has no end although it has a start.
pub(super) fn duration_nano(start: i64, end: i64) -> Option<i64> {
    if end == 0 && start != 0 {
        return None;
    }
    Some(end.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_their_sign_and_absence() {
        assert_eq!(duration_nano(10, 15), Some(5));
        assert_eq!(duration_nano(15, 10), Some(-5));
        assert_eq!(duration_nano(15, 0), None);
        assert_eq!(duration_nano(0, 0), Some(0));
        assert!(signed_nanos(1 << 63).is_err());
    }
}
