//! Times of single RMPOPTs, drawn with whole numbers alone: one seed, the same times on every machine.

use rand::Rng as _;
use rand_pcg::Pcg64Mcg;

use super::{CostModel, Draws, per_mille};

/// The run's dice for times; a stream of its own, so that nothing else that is drawn depends on it.
#[derive(Debug)]
pub(crate) struct Dice(Pcg64Mcg);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::new(crate::choose::seed_state(seed ^ 0x0052_4d50_4f50_5431)))
    }

    /// Evenly from 0 to `limit` - 1, to within 2^-64.
    fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// One in a million for each of `ppm`.
    fn happens(&mut self, ppm: u64) -> bool {
        self.below(1_000_000) < ppm
    }

    /// The cached result that could be used is lost.
    pub(crate) fn cache_lost(&mut self, cost: &CostModel) -> bool {
        cost.draws == Draws::Drawn && self.happens(cost.cache_loss)
    }

    /// The time of one RMPOPT whose mean is `mean`.
    pub(crate) fn time(&mut self, cost: &CostModel, mean: u64) -> u64 {
        if cost.draws == Draws::Mean {
            return mean;
        }
        let spread = per_mille(mean, cost.rmpopt_spread);
        let body =
            mean.saturating_sub(spread).saturating_add(self.below(spread.saturating_mul(2) + 1));
        if !self.happens(cost.rmpopt_tail) {
            return body;
        }
        // Twice as long half as often: the tail of a Pareto distribution with exponent 1.
        let octave = self.0.next_u64().trailing_ones();
        let low = cost.rmpopt_tail_min.checked_shl(octave).unwrap_or(u64::MAX);
        let extra = low.saturating_add(self.below(low)).min(cost.rmpopt_tail_max);
        body.saturating_add(extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWN: CostModel = CostModel { draws: Draws::Drawn, ..CostModel::DEFAULT };

    #[test]
    fn a_seed_gives_the_same_times_everywhere() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            [0; 6].map(|_| dice.time(&DRAWN, 10_000))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(draw(1), EXPECTED);
    }

    // Written down once: a change of platform or of a crate would show.
    const EXPECTED: [u64; 6] = [8_072, 6_577, 8_281, 6_820, 10_275, 14_176];

    #[test]
    fn without_draws_nothing_varies() {
        let mut dice = Dice::new(7);
        assert!((0..1_000).all(|_| dice.time(&CostModel::DEFAULT, 777) == 777));
        assert!((0..1_000).all(|_| !dice.cache_lost(&CostModel::DEFAULT)));
    }

    #[test]
    fn mean_spread_and_tail_are_as_documented() {
        let (mut dice, mean, count) = (Dice::new(3), 10_000u64, 2_000_000u64);
        let (mut sum, mut tail, mut largest, mut lost) = (0, 0, 0, 0);
        for _ in 0..count {
            let ns = dice.time(&DRAWN, mean);
            lost += u64::from(dice.cache_lost(&DRAWN));
            assert!(ns >= 5_700);
            if ns > 14_300 {
                tail += 1;
                assert!(ns >= 5_700 + DRAWN.rmpopt_tail_min);
            } else {
                sum += ns;
            }
            largest = largest.max(ns);
        }
        assert!((9_980..10_020).contains(&(sum / (count - tail))));
        // 20 and 50 of a million; four standard deviations.
        assert!((15..66).contains(&tail), "{tail}");
        assert!((60..141).contains(&lost), "{lost}");
        assert!(largest > 83_680 / 2 && largest <= 14_300 + DRAWN.rmpopt_tail_max, "{largest}");
        let (slow, _) = DRAWN.worst_ns();
        assert!(slow > 600_000);
    }
}
