//! When traces start: a rate that follows the hours in which people order meals.
//!
//! Read [`DayCurve`].

const MINUTE_NANO: i64 = 60_000_000_000;
/// More steps than this add nothing that could be seen.
const MAX_STEPS: i64 = 100_000;

/// Relative traffic at each full hour (UTC): quiet nights, a lunch and a dinner peak.
const HOURLY_RATE: [f64; 24] = [
    3.0, 2.0, 1.4, 1.1, 1.0, 1.3, 2.2, 3.6, 4.6, 5.2, 6.8, 10.5, 13.0, 9.6, 6.2, 5.4, 6.6, 10.2,
    14.6, 15.0, 11.8, 8.4, 6.0, 4.2,
];

/// Maps progress through the workload to a moment in its time range.
#[derive(Debug)]
pub(super) struct DayCurve {
    start_nano: i64,
    step_nano: i64,
    duration_nano: i64,
    /// The share of traffic before the end of each step; the last is 1.
    cumulative: Vec<f64>,
}

impl DayCurve {
    /// The curve over `duration_nano` from `start_nano`. A duration below one counts as one.
    pub(super) fn new(start_nano: i64, duration_nano: i64) -> Self {
        let duration_nano = duration_nano.max(1);
        let step_nano = MINUTE_NANO.max(duration_nano / MAX_STEPS + 1);
        let step_count = duration_nano.div_euclid(step_nano) + 1;
        let mut total = 0.0;
        let mut cumulative = Vec::new();
        for step in 0..step_count {
            let offset = step * step_nano;
            // The last step may be short, or empty.
            let length = (duration_nano - offset).min(step_nano).max(0);
            total += rate_at(start_nano.saturating_add(offset)) * length as f64;
            cumulative.push(total);
        }
        for share in &mut cumulative {
            *share /= total;
        }
        Self {
            start_nano,
            step_nano,
            duration_nano,
            cumulative,
        }
    }

    /// The moment by which `progress` (0 to 1) of the traffic has started; within the range.
    pub(super) fn at(&self, progress: f64) -> i64 {
        let progress = progress.clamp(0.0, 1.0);
        let step = self
            .cumulative
            .partition_point(|share| *share < progress)
            .min(self.cumulative.len() - 1);
        let before = if step == 0 {
            0.0
        } else {
            self.cumulative[step - 1]
        };
        let share = self.cumulative[step] - before;
        let within = if share > 0.0 {
            (progress - before) / share
        } else {
            0.0
        };
        let offset = step as i64 * self.step_nano + (within * self.step_nano as f64) as i64;
        self.start_nano
            .saturating_add(offset.clamp(0, self.duration_nano - 1))
    }

    /// How far into the range a moment lies: 0 at the start, 1 at the end.
    pub(super) fn elapsed_share(&self, nano: i64) -> f64 {
        nano.saturating_sub(self.start_nano) as f64 / self.duration_nano as f64
    }
}

/// The rate between two full hours, in a straight line; a quarter more on Friday to Sunday.
fn rate_at(nano: i64) -> f64 {
    const HOUR_NANO: i64 = 60 * MINUTE_NANO;
    let hour = nano.div_euclid(HOUR_NANO);
    let within = nano.rem_euclid(HOUR_NANO) as f64 / HOUR_NANO as f64;
    let of_day = hour.rem_euclid(24) as usize;
    let rate = HOURLY_RATE[of_day] * (1.0 - within) + HOURLY_RATE[(of_day + 1) % 24] * within;
    // The epoch was a Thursday.
    let weekend = (1..=3).contains(&hour.div_euclid(24).rem_euclid(7));
    if weekend { rate * 1.25 } else { rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dinner_has_many_times_the_traffic_of_the_night() {
        let day = 24 * 60 * MINUTE_NANO;
        let curve = DayCurve::new(1_763_683_200_000_000_000, day);
        let mut by_hour = [0u32; 24];
        for index in 0..10_000 {
            let offset = curve.at(f64::from(index) / 10_000.0) - 1_763_683_200_000_000_000;
            by_hour[(offset * 24 / day) as usize] += 1;
        }
        assert!(by_hour[18] > 5 * by_hour[4], "{by_hour:?}");
    }

    #[test]
    fn moments_rise_and_stay_within_the_range_however_odd_it_is() {
        for (start, duration) in [(0, 0), (5, 1), (-7, 90 * MINUTE_NANO), (i64::MAX - 5, 1000)] {
            let curve = DayCurve::new(start, duration);
            let mut last = start;
            for index in 0..=1000 {
                let moment = curve.at(f64::from(index) / 1000.0);
                assert!(moment >= last, "{start} {duration}: {moment} < {last}");
                assert!(moment <= start.saturating_add(duration.max(1) - 1));
                last = moment;
            }
        }
    }
}
