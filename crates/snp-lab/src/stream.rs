//! Guests that keep coming: when each one starts and ends, drawn from the seed.

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::choose;
use crate::scenario::{GuestSpec, Nanos, Spread, StreamSpec};

/// The guests of a stream, in the order in which they start. They depend on the seed and on the
/// stream's name alone, so every policy meets the same ones. Those that end after `end` are there
/// until the run ends.
pub fn guests(stream: &StreamSpec, seed: u64, end: Nanos) -> Vec<GuestSpec> {
    let state = choose::seed_state(choose::hash(seed, &stream.guest.name));
    let mut rng = Pcg64Mcg::new(state);
    let mut guests = Vec::new();
    let mut at = stream.guest.at;
    if stream.arrivals == Spread::Exponential {
        at = at.saturating_add(stream.arrivals.draw(stream.every, &mut rng));
    }
    while at < stream.until.min(end) {
        // A guest that lives for no time at all would be no guest.
        let life = stream.lifetimes.draw(stream.lifetime, &mut rng).max(1);
        let gone = at.saturating_add(life);
        guests.push(GuestSpec {
            name: format!("{}-{}", stream.guest.name, guests.len() + 1),
            at,
            until: (gone < end).then_some(gone),
            ..stream.guest.clone()
        });
        at = at.saturating_add(stream.arrivals.draw(stream.every, &mut rng).max(1));
    }
    guests
}

impl Spread {
    /// A time of the given mean.
    fn draw(self, mean: Nanos, rng: &mut Pcg64Mcg) -> Nanos {
        match self {
            Self::Fixed => mean,
            Self::Exponential => {
                let (whole, part) = exponential(rng);
                let part = (u128::from(mean) * u128::from(part)) >> 64;
                mean.saturating_mul(whole).saturating_add(part as Nanos)
            }
        }
    }
}

/// An exponential variate of mean 1 as whole part and 2^-64ths, by von Neumann's method (Various
/// Techniques Used in Connection with Random Digits, 1951): it compares and never computes a
/// logarithm, whose last bit is another one on another machine.
fn exponential(rng: &mut Pcg64Mcg) -> (u64, u64) {
    let mut whole = 0;
    loop {
        let first: u64 = rng.random();
        let (mut last, mut falling) = (first, 1_u32);
        loop {
            let next: u64 = rng.random();
            if next > last {
                break;
            }
            last = next;
            falling += 1;
        }
        if falling % 2 == 1 {
            return (whole, first);
        }
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{GIB, Grain, GuestKind, Placement, SECOND};

    fn stream(arrivals: Spread, lifetimes: Spread) -> StreamSpec {
        StreamSpec {
            guest: GuestSpec {
                name: "pod".into(),
                kind: GuestKind::Snp,
                memory: GIB,
                placement: Placement::Pages2M,
                at: 5 * SECOND,
                until: None,
                vcpus: 1,
                node: None,
                touched: GIB,
                convert_rate: None,
                accept: Grain::default(),
            },
            every: 2 * SECOND,
            arrivals,
            until: 20_005 * SECOND,
            lifetime: 3 * SECOND,
            lifetimes,
        }
    }

    #[test]
    fn fixed_times_are_exact() {
        let guests = guests(&stream(Spread::Fixed, Spread::Fixed), 1, 20_006 * SECOND);
        assert_eq!(guests.len(), 10_000);
        assert_eq!((guests[0].name.as_str(), guests[0].at), ("pod-1", 5 * SECOND));
        assert_eq!(guests[0].until, Some(8 * SECOND));
        assert_eq!(guests[1].at, 7 * SECOND);
        // It would end at 20,006 s, when all ends.
        assert_eq!(guests[9_999].until, None);
    }

    #[test]
    fn nobody_comes_after_the_end() {
        let guests = guests(&stream(Spread::Fixed, Spread::Fixed), 1, 9 * SECOND);
        assert_eq!(guests.iter().map(|g| g.at / SECOND).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn exponential_times_have_their_mean_and_tail() {
        let guests = guests(&stream(Spread::Exponential, Spread::Exponential), 1, Nanos::MAX);
        // 10,000 arrivals are expected, with a deviation of 100.
        assert!((9_600..10_400).contains(&guests.len()), "{}", guests.len());
        let lives: Vec<f64> =
            guests.iter().map(|g| (g.until.unwrap() - g.at) as f64 / (3 * SECOND) as f64).collect();
        let n = lives.len() as f64;
        let mean = lives.iter().sum::<f64>() / n;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        let square = lives.iter().map(|x| x * x).sum::<f64>() / n;
        assert!((square - 2.0).abs() < 0.3, "{square}");
        let beyond = lives.iter().filter(|&&x| x > 3.0).count() as f64 / n;
        assert!((beyond - (-3.0_f64).exp()).abs() < 0.01, "{beyond}");
    }

    #[test]
    fn the_seed_and_the_name_decide() {
        let one = stream(Spread::Exponential, Spread::Exponential);
        let mut other = one.clone();
        other.guest.name = "job".into();
        let times = |s: &StreamSpec, seed| -> Vec<_> {
            guests(s, seed, Nanos::MAX).iter().map(|g| (g.at, g.until)).collect()
        };
        assert_eq!(times(&one, 1), times(&one, 1));
        assert_ne!(times(&one, 1), times(&one, 2));
        assert_ne!(times(&one, 1), times(&other, 1));
    }
}
