//! Rounds in which every side takes its turn, and what their times say.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Fewest rounds whose median counts.
pub(crate) const FEWEST_ROUNDS: usize = 7;

/// The middle value; of an even number the mean of the middle two. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// What a row promises. Every ratio is one of medians of times.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Limit {
    /// The other side's time over ours, our share of its speed: at least this.
    SpeedAtLeast(f64),
    /// Our time over the other side's: at most this.
    TimeAtMost(f64),
}

impl Limit {
    /// The ratio that the limit speaks of.
    pub(crate) fn ratio(self, ours: f64, other: f64) -> f64 {
        match self {
            Self::SpeedAtLeast(_) => other / ours,
            Self::TimeAtMost(_) => ours / other,
        }
    }

    /// Whether a ratio keeps to it. What is no number does not.
    pub(crate) fn holds(self, ratio: f64) -> bool {
        match self {
            Self::SpeedAtLeast(least) => ratio >= least,
            Self::TimeAtMost(most) => ratio <= most,
        }
    }

    /// The limit for people: `>= 0.70`.
    pub(crate) fn shown(self) -> String {
        match self {
            Self::SpeedAtLeast(least) => format!(">= {least:.2}"),
            Self::TimeAtMost(most) => format!("<= {most:.2}"),
        }
    }
}

/// One side's times, a nanosecond count per unit of work for each round.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Times {
    /// What was timed.
    pub(crate) what: &'static str,
    /// Nanoseconds per unit, in the order of the rounds.
    pub(crate) ns: Vec<f64>,
}

impl Times {
    pub(crate) fn median(&self) -> Option<f64> {
        median(&self.ns)
    }
}

/// One side of a comparison: runs round `n` and says how many units of work it did.
pub(crate) type Side<'a> = (&'static str, &'a mut dyn FnMut(usize) -> u64);

/// Runs all sides in turn, round after round (A B C A B C ...). The first round warms up and is not
/// counted.
pub(crate) fn interleave(rounds: usize, sides: &mut [Side<'_>]) -> Vec<Times> {
    let mut times: Vec<Times> =
        sides.iter().map(|(what, _)| Times { what, ns: Vec::with_capacity(rounds) }).collect();
    for round in 0..=rounds {
        for ((_, side), times) in sides.iter_mut().zip(&mut times) {
            let start = Instant::now();
            let units = side(round);
            let taken = start.elapsed();
            if round > 0 {
                times.ns.push(per_unit(taken, units));
            }
        }
    }
    times
}

fn per_unit(taken: Duration, units: u64) -> f64 {
    taken.as_secs_f64() * 1e9 / units as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[8.0, 1.0, 100.0, 2.0]), Some(5.0));
        assert_eq!(median(&[1.0, 1.0, 1.0, 1e9, 1e9]), Some(1.0));
    }

    #[test]
    fn a_limit_holds_on_its_own_side_only() {
        let speed = Limit::SpeedAtLeast(0.7);
        assert!((speed.ratio(200.0, 150.0) - 0.75).abs() < 1e-12);
        assert!(speed.holds(0.7) && speed.holds(2.0) && !speed.holds(0.699));
        let time = Limit::TimeAtMost(1.2);
        assert!((time.ratio(240.0, 200.0) - 1.2).abs() < 1e-12);
        assert!(time.holds(1.2) && time.holds(0.1) && !time.holds(1.201));
    }

    #[test]
    fn no_number_keeps_no_limit() {
        for limit in [Limit::SpeedAtLeast(0.7), Limit::TimeAtMost(1.2)] {
            assert!(!limit.holds(f64::NAN));
            assert!(!limit.holds(limit.ratio(0.0, 0.0)));
        }
    }

    #[test]
    fn sides_take_turns_and_the_first_round_is_not_counted() {
        let log = std::cell::RefCell::new(Vec::new());
        let side = |name: char| {
            let log = &log;
            move |round| {
                log.borrow_mut().push((name, round));
                10
            }
        };
        let (mut a, mut b) = (side('a'), side('b'));
        let times = interleave(2, &mut [("a", &mut a), ("b", &mut b)]);
        let turns = [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)];
        assert_eq!(*log.borrow(), turns);
        assert_eq!(times.iter().map(|t| t.ns.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(times.iter().all(|t| t.ns.iter().all(|&ns| ns >= 0.0)));
    }

    #[test]
    fn time_is_per_unit() {
        assert!((per_unit(Duration::from_micros(3), 1000) - 3.0).abs() < 1e-9);
    }
}
