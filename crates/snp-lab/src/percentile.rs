//! Exact percentiles of whole numbers.
//!
//! Nearest rank: the p-th percentile of n samples is the one at rank ceil(p * n), counted from 1 in
//! ascending order; it is always one of the samples, never a number between two. Many of our samples
//! are zero ("this CPU was not interrupted"); those need not be stored.

/// The percentile of `sorted` (ascending) beside `zeros` further samples that are zero.
///
/// `per_mille` is 500 for the median, 990 for p99, 1,000 for the largest; more counts as 1,000. 0 gives
/// the smallest. `None` if there is no sample at all.
pub fn percentile(sorted: &[u64], zeros: u64, per_mille: u32) -> Option<u64> {
    debug_assert!(sorted.is_sorted(), "percentile of unsorted samples");
    let total = u128::from(zeros) + sorted.len() as u128;
    if total == 0 {
        return None;
    }
    let rank = (total * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
    // The implied zeros come first: no sample is smaller.
    match rank.checked_sub(u128::from(zeros) + 1) {
        Some(index) => sorted.get(usize::try_from(index).ok()?).copied(),
        None => Some(0),
    }
}

/// Samples that percentiles are asked of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Samples {
    sorted: Vec<u64>,
    zeros: u64,
}

impl Samples {
    /// `values` in any order, beside `zeros` samples that are zero and not stored.
    pub fn new(mut values: Vec<u64>, zeros: u64) -> Self {
        values.sort_unstable();
        Self { sorted: values, zeros }
    }

    /// Samples, implied zeros included.
    pub fn count(&self) -> u64 {
        self.zeros.saturating_add(self.sorted.len() as u64)
    }

    /// As [`percentile`].
    pub fn percentile(&self, per_mille: u32) -> Option<u64> {
        percentile(&self.sorted, self.zeros, per_mille)
    }

    /// The median: the smallest value that at least half of the samples do not exceed.
    pub fn p50(&self) -> Option<u64> {
        self.percentile(500)
    }

    /// The 99th percentile.
    pub fn p99(&self) -> Option<u64> {
        self.percentile(990)
    }

    /// The largest sample.
    pub fn max(&self) -> Option<u64> {
        self.percentile(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearest_rank() {
        let five = Samples::new(vec![35, 15, 50, 20, 40], 0);
        for (per_mille, expected) in
            [(0, 15), (50, 15), (300, 20), (400, 20), (500, 35), (1000, 50)]
        {
            assert_eq!(five.percentile(per_mille), Some(expected), "{per_mille}");
        }
        assert_eq!(Samples::new((1..=100).collect(), 0).p99(), Some(99));
        assert_eq!(Samples::new((1..=1000).collect(), 0).p99(), Some(990));
        assert_eq!(Samples::new(vec![7], 0).p50(), Some(7));
    }

    #[test]
    fn zeros_and_nothing() {
        assert_eq!(Samples::default().p50(), None);
        assert_eq!(Samples::new(Vec::new(), 3).max(), Some(0));
        assert_eq!(Samples::new(vec![9], 99).p99(), Some(0));
        assert_eq!(Samples::new(vec![9], 99).max(), Some(9));
        assert_eq!(Samples::new(vec![9, 8], 98).p99(), Some(8));
        assert_eq!(percentile(&[1], u64::MAX, 1000), Some(1));
        assert_eq!(percentile(&[1, 2], 0, 5000), Some(2));
    }

    proptest! {
        #[test]
        fn implied_zeros_equal_stored_ones(
            values in prop::collection::vec(0u64..9, 0..40), zeros in 0usize..40, p in 0u32..=1000,
        ) {
            let mut all = values.clone();
            all.extend(std::iter::repeat_n(0, zeros));
            let implied = Samples::new(values, zeros as u64);
            let stored = Samples::new(all, 0);
            prop_assert_eq!(implied.percentile(p), stored.percentile(p));
            prop_assert_eq!(implied.count(), stored.count());
        }
    }
}
