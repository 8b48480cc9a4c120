//! What our module's counters say of the time between two samples.

use serde::Serialize;

use crate::Sample;

/// Per second of the time between two samples; only our module counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds between the samples.
    pub seconds: f64,
    /// Time taken from all CPUs together, in CPUs: 0.01 is a hundredth of one CPU.
    pub cpu_taken: f64,
    /// Times that a CPU was taken from what ran there.
    pub interruptions: f64,
    /// RMPOPTs.
    pub rmpopts: f64,
    /// Of the verifies the share that found a region clean; null without verifies.
    pub clean_share: Option<f64>,
    /// Work items that had to wake their worker.
    pub wakeups: f64,
}

impl Rates {
    /// `None` where a counter is missing at either end, went back (the module was loaded anew), or no
    /// time has passed.
    pub fn between(before: &Sample, now: &Sample) -> Option<Self> {
        let seconds = now.at.checked_sub(before.at)?.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let counted = |name: &str| {
            let of = |sample: &Sample| sample.state.driver.stats.get(name).copied();
            of(now)?.checked_sub(of(before)?)
        };
        let per_second = |name| Some(counted(name)? as f64 / seconds);
        let (clean, dirty) = (counted("rmpopt.clean")?, counted("rmpopt.dirty")?);
        let verified = clean.saturating_add(dirty);
        Some(Self {
            seconds,
            cpu_taken: per_second("cpu.taken_ns")? / 1e9,
            interruptions: per_second("interruptions.total")?,
            rmpopts: per_second("rmpopt.executed")?,
            clean_share: (verified > 0).then(|| clean as f64 / verified as f64),
            wakeups: per_second("wakeups")?,
        })
    }
}
