//! What many measurements come to.

use std::time::Duration;

/// The middle one, or the mean of the two in the middle; of nothing, not a number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest of the values that `percent` of all do not exceed (nearest rank); of nothing, not a number.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The chance that one of `these` is greater than one of `usual`, ties counted half: the area under the curve
/// that shows how well a threshold tells them apart. One half is not at all.
pub(crate) fn area_under_curve(these: &[f64], usual: &[f64]) -> f64 {
    let mut won = 0.0;
    for this in these {
        for that in usual {
            won += match this.total_cmp(that) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    won / (number(these.len()) * number(usual.len()))
}

/// How many a second ended between `from` and `until`, each of them moved back to the last end before it.
///
/// Passwords that are hashed side by side end together, several in a millisecond and then none for half a
/// second. Between two fixed instants there would be one such batch more or less; from the end of one batch to
/// the end of another it is always the same.
pub(crate) fn per_second(ends: &[Duration], from: Duration, until: Duration) -> f64 {
    let last_before = |limit| ends.iter().copied().filter(|end| *end <= limit).max();
    let (Some(first), Some(last)) = (last_before(from), last_before(until)) else {
        return number(ends.iter().filter(|end| **end <= until).count()) / until.as_secs_f64();
    };
    let between = ends.iter().filter(|end| **end > first && **end <= last).count();
    if between == 0 { 0.0 } else { number(between) / last.saturating_sub(first).as_secs_f64() }
}

/// A count as what can be divided.
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted to 2^52")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

/// A time in milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    fn at(milliseconds: &[u64]) -> Vec<Duration> {
        milliseconds.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_median_is_in_the_middle_whatever_the_order() {
        about(median(&[9.0, 1.0, 2.0]), 2.0);
        about(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        about(percentile(&hundred, 50), 50.0);
        about(percentile(&hundred, 99), 99.0);
        about(percentile(&hundred, 100), 100.0);
        about(percentile(&[3.0, 7.0], 99), 7.0);
        about(percentile(&[3.0, 7.0], 0), 3.0);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn a_curve_has_all_below_it_where_each_of_these_is_later_and_half_where_none_can_be_told() {
        about(area_under_curve(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
        about(area_under_curve(&[1.0, 2.0], &[3.0, 4.0]), 0.0);
        about(area_under_curve(&[1.0, 2.0], &[1.0, 2.0]), 0.5);
        about(area_under_curve(&[1.0, 3.0], &[2.0]), 0.5);
        about(area_under_curve(&[2.0, 3.0, 4.0], &[2.0, 1.0]), 5.5 / 6.0);
    }

    #[test]
    fn batches_are_counted_from_end_to_end() {
        // Three in a batch, a batch every half second: six a second, wherever the window is put.
        let ends = at(&[500, 500, 500, 1000, 1000, 1000, 1500, 1500, 1500, 2000, 2000, 2000]);
        for (from, until) in [(500, 1999), (600, 1900), (999, 2000), (501, 2400)] {
            about(per_second(&ends, Duration::from_millis(from), Duration::from_millis(until)), 6.0);
        }
    }

    #[test]
    fn before_the_first_end_the_window_itself_counts() {
        about(per_second(&at(&[700, 900]), Duration::from_millis(500), Duration::from_secs(1)), 2.0);
        about(per_second(&[], Duration::ZERO, Duration::from_secs(1)), 0.0);
        about(per_second(&at(&[100]), Duration::from_millis(500), Duration::from_secs(1)), 0.0);
    }
}
