//! Repeated measurements: their median and how far they lie apart.

use std::time::Duration;

/// Measurements of one thing, in milliseconds unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more measurement.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1000.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one, or the mean of the middle two; NaN for none.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The one below which so many of a hundred lie (the nearest rank); NaN for none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The smallest; infinite for none.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest; minus infinite for none.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Each measurement over the other one that was taken next to it: what drift leaves alone.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        Self(self.0.iter().zip(&others.0).map(|(one, other)| one / other).collect())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(measurements: I) -> Self {
        Self(measurements.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(measurements: &[f64]) -> Samples {
        measurements.iter().copied().collect()
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn the_median_is_the_middle_of_the_sorted() {
        assert!(close(samples(&[9.0, 1.0, 2.0]).median(), 2.0));
        assert!(close(samples(&[9.0, 1.0, 2.0, 4.0]).median(), 3.0));
        assert!(close(samples(&[7.0]).median(), 7.0));
        assert!(samples(&[]).median().is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_measurements() {
        let hundred: Samples = (1..=100).rev().map(f64::from).collect();
        assert!(close(hundred.percentile(99), 99.0) && close(hundred.percentile(100), 100.0));
        assert!(close(samples(&[3.0, 1.0]).percentile(99), 3.0));
        assert!(samples(&[]).percentile(99).is_nan());
    }

    #[test]
    fn the_spread_goes_from_the_smallest_to_the_largest() {
        let samples = samples(&[9.0, 1.0, 2.0]);
        assert!(close(samples.min(), 1.0) && close(samples.max(), 9.0));
        assert_eq!(samples.len(), 3);
    }

    #[test]
    fn durations_count_in_milliseconds() {
        let mut samples = Samples::default();
        samples.push(Duration::from_micros(1500));
        assert!(close(samples.median(), 1.5));
    }

    #[test]
    fn ratios_are_of_neighbours() {
        let ratios = samples(&[1.0, 20.0, 3.0]).over(&samples(&[2.0, 10.0, 3.0]));
        assert!(close(ratios.min(), 0.5) && close(ratios.max(), 2.0) && close(ratios.median(), 1.0));
    }
}
