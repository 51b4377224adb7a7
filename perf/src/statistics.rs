//! Medians and spreads of a few runs.

/// Above this share of the median, runs differ too much to be believed.
pub const SPREAD_LIMIT: f64 = 0.20;

/// The middle one; of an even number the lower of the two in the middle. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// How far the runs lie apart: (highest - lowest) / median.
pub fn spread(values: &[f64]) -> f64 {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (high - low) / median(values)
}

#[cfg(test)]
mod tests {
    use super::{median, spread};

    #[test]
    fn one_that_was_disturbed_moves_the_spread_and_not_the_median() {
        let runs = [100.0, 101.0, 99.0, 150.0, 100.0];
        assert_eq!(median(&runs), 100.0);
        assert_eq!(spread(&runs), 0.51);
        assert_eq!(median(&[1.0, 2.0]), 1.0);
        assert!(median(&[]).is_nan());
    }
}
