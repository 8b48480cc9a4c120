//! One line of the tables: a policy in a scenario, over all seeds.

use snp_lab::report::RunReport;

/// Medians over the seeds (of an even number the lower one), but for what must not be hidden in a median:
/// `never`, `max_hold_us` and the breaches are the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) seeds: u64,
    /// Optimised share over time, 0 to 1: of all pairs, of what can be, of ordinary guests' writes.
    pub(crate) mean: Option<f64>,
    pub(crate) optimizable_mean: Option<f64>,
    pub(crate) weighted_mean: Option<f64>,
    /// From clean to optimised on every core, seconds.
    pub(crate) back_p50: Option<f64>,
    pub(crate) back_p99: Option<f64>,
    pub(crate) never: u64,
    /// RMPOPTs of the whole run.
    pub(crate) rmpopts: u64,
    pub(crate) slow: u64,
    /// After the first pass.
    pub(crate) steady_rmpopts: u64,
    pub(crate) steady_ipis: u64,
    pub(crate) steady_wakeups: u64,
    pub(crate) steady_stolen_us: f64,
    /// On the CPU that had or gave most, after the first pass.
    pub(crate) worst_interruptions: u64,
    pub(crate) worst_stolen_us: f64,
    /// Of an ordinary vCPU's windows of 1 ms after the first pass.
    pub(crate) vcpu_p999_us: Option<f64>,
    pub(crate) vcpu_max_us: Option<f64>,
    pub(crate) max_hold_us: f64,
    pub(crate) violations: u64,
    pub(crate) unclaimed: u64,
}

impl Row {
    /// Of the runs of one policy in one scenario; `None` without any.
    pub(crate) fn new<'a>(runs: impl Iterator<Item = &'a RunReport>) -> Option<Self> {
        let runs: Vec<&RunReport> = runs.collect();
        if runs.is_empty() {
            return None;
        }
        let share = |value: fn(&RunReport) -> Option<f64>| {
            median(runs.iter().filter_map(|run| value(run)).collect())
        };
        let number =
            |value: fn(&RunReport) -> f64| median(runs.iter().map(|run| value(run)).collect());
        let count = |value: fn(&RunReport) -> u64| {
            let mut values: Vec<u64> = runs.iter().map(|run| value(run)).collect();
            values.sort_unstable();
            values.get(middle(values.len())).copied().unwrap_or(0)
        };
        let worst = |value: fn(&RunReport) -> u64| runs.iter().map(|run| value(run)).max();
        let longest = runs.iter().map(|run| run.stolen_us.max_hold).fold(0.0, f64::max);
        Some(Self {
            seeds: runs.len() as u64,
            mean: share(|run| run.optimized.mean),
            optimizable_mean: share(|run| run.optimized.optimizable_mean),
            weighted_mean: share(|run| run.optimized.weighted_mean),
            back_p50: share(|run| run.reoptimize_s.p50),
            back_p99: share(|run| run.reoptimize_s.p99),
            never: worst(|run| run.reoptimize_s.never).unwrap_or(0),
            rmpopts: count(|run| run.rmpopt.executed),
            slow: count(|run| run.rmpopt.slow),
            steady_rmpopts: count(|run| run.steady.rmpopt),
            steady_ipis: count(|run| run.steady.ipis),
            steady_wakeups: count(|run| run.steady.wakeups),
            steady_stolen_us: number(|run| run.steady.stolen_us).unwrap_or(0.0),
            worst_interruptions: count(|run| run.steady.max_interruptions_per_cpu),
            worst_stolen_us: number(|run| run.steady.max_stolen_us_per_cpu).unwrap_or(0.0),
            vcpu_p999_us: share(|run| run.steady.jitter_us.vcpu.p999),
            vcpu_max_us: share(|run| run.steady.jitter_us.vcpu.max),
            max_hold_us: longest,
            violations: runs.iter().map(|run| run.law_violations).sum(),
            unclaimed: runs.iter().map(|run| run.law_breaches_unclaimed).sum(),
        })
    }
}

fn middle(count: usize) -> usize {
    count.saturating_sub(1) / 2
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(middle(values.len())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_what_no_median_may_hide() {
        let run = |n: u64| {
            let mut run = RunReport { law_violations: n / 3, ..RunReport::default() };
            run.rmpopt.executed = n;
            run.reoptimize_s.never = n;
            run.reoptimize_s.p50 = (n != 2).then_some(n as f64);
            run
        };
        let runs: Vec<_> = [3, 1, 2].map(run).into();
        let row = Row::new(runs.iter()).unwrap();
        assert_eq!((row.seeds, row.rmpopts, row.never, row.violations), (3, 2, 3, 1));
        assert_eq!(row.back_p50, Some(1.0), "the lower of 1 and 3");
        assert_eq!(row.mean, None);
        assert_eq!(Row::new([].iter()), None);
    }
}
