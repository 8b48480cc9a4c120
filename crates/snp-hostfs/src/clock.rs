//! Simulated time against the wall clock.

use std::time::{Duration, Instant};

use snp_lab::scenario::{Nanos, limits};

/// Says what time it is on the host: `speed` simulated seconds a second, 0 for a clock that stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Instant,
    at: Nanos,
    speed: f64,
}

/// The fastest clock.
pub const MAX_SPEED: f64 = 1e6;

impl Clock {
    /// A clock that shows `at` now.
    pub(crate) fn new(at: Nanos, speed: f64) -> Self {
        Self { wall: Instant::now(), at, speed: speed.clamp(0.0, MAX_SPEED) }
    }

    /// How fast it goes.
    pub(crate) const fn speed(&self) -> f64 {
        self.speed
    }

    /// The host's time at this moment.
    pub(crate) fn now(&self) -> Nanos {
        self.after(self.wall.elapsed())
    }

    fn after(&self, passed: Duration) -> Nanos {
        // Good to a nanosecond for three months. More than fits is the end of time.
        let passed = Duration::try_from_secs_f64(passed.as_secs_f64() * self.speed);
        let passed =
            passed.map_or(u64::MAX, |passed| u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        self.at.saturating_add(passed).min(limits::TIME_MAX)
    }

    /// How long until the host's time is `at`; `None` for a clock that stands.
    pub(crate) fn until(&self, at: Nanos) -> Option<Duration> {
        if self.speed <= 0.0 {
            return None;
        }
        let left = Duration::from_nanos(at.saturating_sub(self.now()));
        Some(Duration::try_from_secs_f64(left.as_secs_f64() / self.speed).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_as_fast_as_asked() {
        let second = Duration::from_secs(1);
        assert_eq!(Clock::new(5, 0.0).after(second), 5);
        assert_eq!(Clock::new(5, 1.0).after(second), 1_000_000_005);
        assert_eq!(Clock::new(0, 60.0).after(second), 60_000_000_000);
        assert_eq!(Clock::new(5, -1.0).after(second), 5);
        assert_eq!(Clock::new(0, f64::INFINITY).after(second), 1_000_000_000_000_000);
        assert_eq!(Clock::new(0, 0.0).until(10), None);
        assert!(Clock::new(0, 1.0).until(1_000_000_000).unwrap() <= second);
    }
}
