//! What the driver did, what it took from each CPU, and how often it interrupted.

use rmpopt_core::MICROSECOND;

use super::slices::Slices;
use crate::cost::CostModel;
use crate::percentile::Samples;
use crate::report::{
    CpusReport, GuestOpsReport, InterruptionReport, JitterMap, JitterReport, RmpoptReport,
    SteadyReport, StolenReport,
};
use crate::scenario::Nanos;

/// Event counts of the whole run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) leader: u64,
    pub(super) followers: u64,
    pub(super) report: u64,
    /// Verifies by what they found.
    pub(super) clean: u64,
    pub(super) dirty: u64,
    /// RMPOPTs of batches that took longer than the policy expects of one.
    pub(super) late: u64,
    /// RMPOPTs by how they ended: every line read, an assigned page met, nothing to read.
    slow: u64,
    early: u64,
    fast: u64,
    pub(super) ipis: u64,
    pub(super) wakeups: u64,
    pub(super) interruptions: u64,
    pub(super) stolen_ns: u64,
    pub(super) rmpupdates: u64,
    pub(super) drains: u64,
    /// Regions marked, by why, once for each drain.
    pub(super) marked_shared: u64,
    pub(super) marked_lost: u64,
    /// Batches of verifies that were offered.
    pub(super) batches: u64,
    /// Followers' holds in ticks that came anyway, and in work items.
    pub(super) holds_ridden: u64,
    pub(super) holds_woken: u64,
    /// Work was left when the driver had stopped.
    pub(super) unclean: u64,
    pub(super) base_writes: u64,
    pub(super) snp_inits: u64,
    pub(super) guests: GuestOpsReport,
}

impl Counts {
    pub(super) const fn rmpopts(&self) -> u64 {
        self.leader + self.followers + self.report
    }

    /// So many verifies said the same of a region.
    pub(super) const fn verified(&mut self, clean: bool, times: u64) {
        if clean {
            self.clean += times;
        } else {
            self.dirty += times;
        }
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
    steady_from: Option<From>,
    steady: Counts,
    /// What each CPU lost while steady, and how often it was interrupted.
    steady_stolen_ns: Vec<u64>,
    steady_interruptions: Vec<u64>,
    pub(super) slices: Slices,
    now: Nanos,
    lanes: Vec<Lane>,
}

/// What each CPU of a lane ([`slices`](super::slices)) lost that was not added to it yet.
#[derive(Debug)]
struct Lane {
    cpus: Vec<u32>,
    stolen_ns: u64,
    interruptions: u64,
}

/// Where steady counting began.
#[derive(Debug)]
struct From {
    counts: Counts,
    stolen_ns: Vec<u64>,
    interruptions: Vec<u64>,
}

impl Meter {
    pub(super) fn new(cpu_limit: u32, until: Nanos) -> Self {
        let none = || vec![0; cpu_limit as usize];
        Self {
            counts: Counts::default(),
            stolen_ns: none(),
            interruptions: none(),
            max_hold_ns: 0,
            steady_from: None,
            steady: Counts::default(),
            steady_stolen_ns: none(),
            steady_interruptions: none(),
            slices: Slices::new(cpu_limit, until),
            now: 0,
            lanes: Vec::new(),
        }
    }

    /// It is `now`: what is taken from here on is taken from this moment.
    pub(super) fn at(&mut self, now: Nanos) {
        self.now = now;
    }

    /// So many RMPOPTs read `lines` lines of the RMP each, or took their results from the cache.
    pub(super) fn rmpopts_ended(&mut self, lines: u32, cached: bool, times: u64) {
        let counts = &mut self.counts;
        if cached || lines == 0 {
            counts.fast += times;
        } else if u64::from(lines) >= CostModel::SCAN_LINES {
            counts.slow += times;
        } else {
            counts.early += times;
        }
    }

    /// `cpu` loses `ns` to the driver, from now on.
    pub(super) fn steal(&mut self, cpu: u32, ns: Nanos) {
        self.slices.steal(self.now, cpu, ns);
        self.counts.stolen_ns += ns;
        if let Some(stolen) = self.stolen_ns.get_mut(cpu as usize) {
            *stolen += ns;
        }
    }

    /// From now on these CPUs lose the same at the same times, until the slices' lanes are given up.
    pub(super) fn set_lanes(&mut self, lanes: Vec<Vec<u32>>) {
        self.settle();
        self.slices.set_lanes(&lanes);
        let lane = |cpus| Lane { cpus, stolen_ns: 0, interruptions: 0 };
        self.lanes = lanes.into_iter().map(lane).collect();
    }

    /// Each CPU of a lane is interrupted, and loses `ns` from now on. Returns how many those are.
    pub(super) fn interrupt_lane(&mut self, index: usize, ns: Nanos) -> u64 {
        self.slices.steal_lane(self.now, index, ns);
        let Some(lane) = self.lanes.get_mut(index) else { return 0 };
        let cpus = lane.cpus.len() as u64;
        lane.stolen_ns += ns;
        lane.interruptions += 1;
        self.counts.stolen_ns += ns * cpus;
        self.counts.interruptions += cpus;
        cpus
    }

    /// What lanes lost is added to their CPUs.
    fn settle(&mut self) {
        self.slices.settle();
        for lane in &mut self.lanes {
            let (stolen_ns, interruptions) =
                (std::mem::take(&mut lane.stolen_ns), std::mem::take(&mut lane.interruptions));
            for &cpu in &lane.cpus {
                if let Some(stolen) = self.stolen_ns.get_mut(cpu as usize) {
                    *stolen += stolen_ns;
                }
                if let Some(count) = self.interruptions.get_mut(cpu as usize) {
                    *count += interruptions;
                }
            }
        }
    }

    /// What ran on `cpu` was interrupted.
    pub(super) fn interrupt(&mut self, cpu: u32) {
        self.counts.interruptions += 1;
        if let Some(count) = self.interruptions.get_mut(cpu as usize) {
            *count += 1;
        }
    }

    /// The longest time for which a CPU was taken.
    pub(super) const fn longest_hold(&self) -> Nanos {
        self.max_hold_ns
    }

    /// A CPU was held for `ns` at a stretch.
    pub(super) fn hold(&mut self, ns: Nanos) {
        self.max_hold_ns = self.max_hold_ns.max(ns);
    }

    /// The first pass is over: steady counting begins.
    pub(super) fn first_pass_over(&mut self) {
        if self.steady_from.is_none() {
            self.settle();
            self.slices.begin_steady(self.now);
            self.steady_from = Some(From {
                counts: self.counts,
                stolen_ns: self.stolen_ns.clone(),
                interruptions: self.interruptions.clone(),
            });
        }
    }

    pub(super) const fn is_steady(&self) -> bool {
        self.steady_from.is_some()
    }

    /// SNP went down, or the run ended: steady counting ends.
    pub(super) fn end_steady(&mut self) {
        self.settle();
        let Some(from) = self.steady_from.take() else { return };
        self.slices.end_steady(self.now);
        for (sum, now, from) in [
            (&mut self.steady_stolen_ns, &self.stolen_ns, &from.stolen_ns),
            (&mut self.steady_interruptions, &self.interruptions, &from.interruptions),
        ] {
            for ((sum, now), from) in sum.iter_mut().zip(now).zip(from) {
                *sum += now - from;
            }
        }
        let (now, from, sum) = (self.counts, from.counts, &mut self.steady);
        sum.leader += now.leader - from.leader;
        sum.followers += now.followers - from.followers;
        sum.report += now.report - from.report;
        sum.ipis += now.ipis - from.ipis;
        sum.wakeups += now.wakeups - from.wakeups;
        sum.interruptions += now.interruptions - from.interruptions;
        sum.stolen_ns += now.stolen_ns - from.stolen_ns;
    }

    pub(super) fn rmpopt(&self) -> RmpoptReport {
        let Counts { leader, followers, report, slow, early, fast, .. } = self.counts;
        RmpoptReport {
            executed: self.counts.rmpopts(),
            verify: leader + followers,
            report,
            leader,
            followers,
            slow,
            early,
            fast,
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

    pub(super) fn steady(&self, cpus: &[u32]) -> SteadyReport {
        let most = |values: &[u64]| of_cpus(values, cpus).max().unwrap_or(0);
        SteadyReport {
            rmpopt: self.steady.rmpopts(),
            ipis: self.steady.ipis,
            wakeups: self.steady.wakeups,
            interruptions: self.steady.interruptions,
            stolen_us: us(self.steady.stolen_ns),
            max_interruptions_per_cpu: most(&self.steady_interruptions),
            max_stolen_us_per_cpu: us(most(&self.steady_stolen_ns)),
            jitter_us: self.slices.reports(cpus.len() as u64).1,
        }
    }

    pub(super) fn jitter(&self, cpus: &[u32]) -> JitterReport {
        self.slices.reports(cpus.len() as u64).0
    }

    pub(super) fn jitter_map(&self) -> JitterMap {
        self.slices.map()
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
