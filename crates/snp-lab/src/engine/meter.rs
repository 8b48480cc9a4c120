//! What the driver did, what it took from each CPU, and how often it interrupted.

use rmpopt_core::MICROSECOND;

use crate::percentile::Samples;
use crate::report::{
    CpusReport, GuestOpsReport, InterruptionReport, RmpoptReport, SteadyReport, StolenReport,
};
use crate::scenario::Nanos;

/// Event counts of the whole run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) leader: u64,
    pub(super) followers: u64,
    pub(super) report: u64,
    pub(super) ipis: u64,
    pub(super) wakeups: u64,
    pub(super) interruptions: u64,
    pub(super) stolen_ns: u64,
    pub(super) rmpupdates: u64,
    pub(super) drains: u64,
    pub(super) guests: GuestOpsReport,
}

impl Counts {
    pub(super) const fn rmpopts(&self) -> u64 {
        self.leader + self.followers + self.report
    }
}

/// Counts, and what each CPU lost.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) counts: Counts,
    stolen_ns: Vec<u64>,
    interruptions: Vec<u64>,
    max_hold_ns: u64,
    /// Counts when the first pass ended, while SNP is up after it.
    steady_from: Option<Counts>,
    steady: Counts,
}

impl Meter {
    pub(super) fn new(cpu_limit: u32) -> Self {
        Self {
            counts: Counts::default(),
            stolen_ns: vec![0; cpu_limit as usize],
            interruptions: vec![0; cpu_limit as usize],
            max_hold_ns: 0,
            steady_from: None,
            steady: Counts::default(),
        }
    }

    /// `cpu` lost `ns` to the driver.
    pub(super) fn steal(&mut self, cpu: u32, ns: Nanos) {
        self.counts.stolen_ns += ns;
        if let Some(stolen) = self.stolen_ns.get_mut(cpu as usize) {
            *stolen += ns;
        }
    }

    /// What ran on `cpu` was interrupted.
    pub(super) fn interrupt(&mut self, cpu: u32) {
        self.counts.interruptions += 1;
        if let Some(count) = self.interruptions.get_mut(cpu as usize) {
            *count += 1;
        }
    }

    /// A CPU was held for `ns` at a stretch.
    pub(super) fn hold(&mut self, ns: Nanos) {
        self.max_hold_ns = self.max_hold_ns.max(ns);
    }

    /// The first pass is over: steady counting begins.
    pub(super) fn first_pass_over(&mut self) {
        self.steady_from.get_or_insert(self.counts);
    }

    pub(super) const fn is_steady(&self) -> bool {
        self.steady_from.is_some()
    }

    /// SNP went down, or the run ended: steady counting ends.
    pub(super) fn end_steady(&mut self) {
        let Some(from) = self.steady_from.take() else { return };
        let (now, sum) = (self.counts, &mut self.steady);
        sum.leader += now.leader - from.leader;
        sum.followers += now.followers - from.followers;
        sum.report += now.report - from.report;
        sum.ipis += now.ipis - from.ipis;
        sum.wakeups += now.wakeups - from.wakeups;
        sum.interruptions += now.interruptions - from.interruptions;
        sum.stolen_ns += now.stolen_ns - from.stolen_ns;
    }

    pub(super) fn rmpopt(&self) -> RmpoptReport {
        let Counts { leader, followers, report, .. } = self.counts;
        RmpoptReport {
            executed: self.counts.rmpopts(),
            verify: leader + followers,
            report,
            leader,
            followers,
        }
    }

    /// Percentiles over the CPUs that exist.
    pub(super) fn interruptions(&self, cpus: &[u32]) -> InterruptionReport {
        let samples = of_cpus(&self.interruptions, cpus);
        InterruptionReport {
            total: self.counts.interruptions,
            max_per_cpu: samples.max().unwrap_or(0),
            p99_per_cpu: samples.p99().unwrap_or(0),
        }
    }

    pub(super) fn stolen(&self, cpus: &[u32]) -> StolenReport {
        let samples = of_cpus(&self.stolen_ns, cpus);
        StolenReport {
            total: us(self.counts.stolen_ns),
            max_hold: us(self.max_hold_ns),
            max_per_cpu: us(samples.max().unwrap_or(0)),
            p99_per_cpu: us(samples.p99().unwrap_or(0)),
        }
    }

    pub(super) fn steady(&self) -> SteadyReport {
        SteadyReport {
            rmpopt: self.steady.rmpopts(),
            ipis: self.steady.ipis,
            wakeups: self.steady.wakeups,
            interruptions: self.steady.interruptions,
            stolen_us: us(self.steady.stolen_ns),
        }
    }

    pub(super) fn cpus(&self) -> CpusReport {
        CpusReport {
            stolen_us: self.stolen_ns.iter().map(|&ns| us(ns)).collect(),
            interruptions: self.interruptions.clone(),
        }
    }
}

fn of_cpus(values: &[u64], cpus: &[u32]) -> Samples {
    Samples::new(cpus.iter().filter_map(|&cpu| values.get(cpu as usize).copied()).collect(), 0)
}

fn us(ns: Nanos) -> f64 {
    ns as f64 / MICROSECOND as f64
}
