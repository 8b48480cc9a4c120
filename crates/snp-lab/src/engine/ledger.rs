//! The lab's own books of regions: what is assigned there and how many cores have it optimised.
//!
//! Kept from what the lab itself does, not read from the RMP, so that it can judge the model. The
//! shares are of pairs (participating core, region with RAM inside that core's window), as DESIGN
//! "What is counted" defines them.

use super::writes::Writes;
use crate::percentile::Samples;
use crate::report::{OptimizedReport, ReoptimizeReport, SharePoint};
use crate::scenario::{Nanos, SECOND};

/// One region.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RegionBook {
    /// Holds usable RAM.
    pub(super) ram: bool,
    /// Assigned 4 KiB pages.
    pub(super) assigned: u64,
    /// Of them, assigned at boot.
    pub(super) boot: u64,
    /// Participating cores whose window covers it (0 without RAM).
    pub(super) covered_by: u32,
    /// Of those, cores on which it is optimised.
    pub(super) optimised_on: u32,
    /// Number of the last time it became free; tells a later one apart.
    pub(super) freed: u64,
    /// Since when it waits to be optimised again.
    waiting_since: Option<Nanos>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) regions: Vec<RegionBook>,
    pairs: u64,
    /// Pairs whose region holds no assigned page.
    optimizable: u64,
    optimised: u64,
    /// SNP is up.
    up: bool,
    /// Up to here the integrals are taken.
    at: Nanos,
    up_ns: Nanos,
    share_integral: f64,
    optimizable_ns: Nanos,
    optimizable_integral: f64,
    weighted_ns: Nanos,
    weighted_integral: f64,
    last: Shares,
    waits: Vec<u64>,
    never: u64,
    never_longest: Nanos,
    freed: u64,
    points: Vec<SharePoint>,
    point_every: Nanos,
    /// When a core's table last changed.
    pub(super) changed: Nanos,
    pub(super) writes: Writes,
}

/// The three shares at one time.
#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    all: Option<f64>,
    optimizable: Option<f64>,
    weighted: Option<f64>,
}

impl Ledger {
    pub(super) fn new(
        ram: impl Iterator<Item = bool>,
        writes: Writes,
        until: Nanos,
        points: u64,
    ) -> Self {
        Self {
            regions: ram.map(|ram| RegionBook { ram, ..RegionBook::default() }).collect(),
            pairs: 0,
            optimizable: 0,
            optimised: 0,
            up: false,
            at: 0,
            up_ns: 0,
            share_integral: 0.0,
            optimizable_ns: 0,
            optimizable_integral: 0.0,
            weighted_ns: 0,
            weighted_integral: 0.0,
            last: Shares::default(),
            waits: Vec::new(),
            never: 0,
            never_longest: 0,
            freed: 0,
            points: Vec::new(),
            point_every: (until / points.saturating_sub(1).max(1)).max(1),
            changed: 0,
            writes,
        }
    }

    fn shares(&mut self) -> Shares {
        Shares {
            all: self.share(),
            optimizable: self.optimizable_share(),
            weighted: self.writes.share().filter(|_| self.up),
        }
    }

    fn share(&self) -> Option<f64> {
        (self.up && self.pairs > 0).then(|| self.optimised as f64 / self.pairs as f64)
    }

    fn optimizable_share(&self) -> Option<f64> {
        (self.up && self.optimizable > 0).then(|| self.optimised as f64 / self.optimizable as f64)
    }

    /// Takes the integrals up to `now`; to be called before anything changes.
    pub(super) fn advance(&mut self, now: Nanos) {
        let shares = self.shares();
        loop {
            let at = (self.points.len() as u64).saturating_mul(self.point_every);
            if at > now || at == Nanos::MAX {
                break;
            }
            self.points.push(SharePoint {
                t_s: at as f64 / SECOND as f64,
                optimized: shares.all,
                optimizable: shares.optimizable,
                weighted: shares.weighted,
            });
        }
        let passed = now.saturating_sub(self.at);
        self.at = now;
        if let Some(share) = shares.all {
            self.up_ns += passed;
            self.share_integral += share * passed as f64;
        }
        if let Some(share) = shares.optimizable {
            self.optimizable_ns += passed;
            self.optimizable_integral += share * passed as f64;
        }
        if let Some(share) = shares.weighted {
            self.weighted_ns += passed;
            self.weighted_integral += share * passed as f64;
        }
    }

    /// SNP is up: `boot` pages are assigned in each region, `covered_by` cores cover it.
    pub(super) fn snp_up(&mut self, mut book: impl FnMut(usize) -> (u64, u32)) {
        self.up = true;
        (self.pairs, self.optimizable, self.optimised) = (0, 0, 0);
        self.writes.clear_all();
        for (index, region) in self.regions.iter_mut().enumerate() {
            let (boot, covered_by) = book(index);
            self.freed += 1;
            *region = RegionBook {
                ram: region.ram,
                assigned: boot,
                boot,
                covered_by: if region.ram { covered_by } else { 0 },
                optimised_on: 0,
                freed: self.freed,
                waiting_since: None,
            };
            self.pairs += u64::from(region.covered_by);
            if boot == 0 {
                self.optimizable += u64::from(region.covered_by);
            }
        }
    }

    /// SNP goes down: the final shares are those of this moment.
    pub(super) fn snp_down(&mut self) {
        if !self.up {
            return;
        }
        self.last = self.shares();
        for since in self.regions.iter().filter_map(|region| region.waiting_since) {
            self.never += 1;
            self.never_longest = self.never_longest.max(self.at.saturating_sub(since));
        }
        self.up = false;
        for region in &mut self.regions {
            region.waiting_since = None;
        }
    }

    /// `pages` were assigned in a region. `optimised_on`: cores that still have its bit, which is
    /// none unless law 1 is broken.
    pub(super) fn assigned(&mut self, index: usize, pages: u64, optimised_on: Option<u32>) {
        let Some(region) = self.regions.get_mut(index) else { return };
        if region.assigned == 0 {
            self.optimizable -= u64::from(region.covered_by);
            region.waiting_since = None;
        }
        region.assigned += pages;
        if let Some(left) = optimised_on {
            self.changed = self.at;
            self.optimised = self.optimised + u64::from(left) - u64::from(region.optimised_on);
            region.optimised_on = left;
            // Where some are left law 1 is broken, and the weighted share is not exact any more.
            if left == 0 {
                self.writes.clear(index);
            }
        }
    }

    /// `pages` were given back. Returns the number of the freeing if none is left.
    pub(super) fn given_back(&mut self, now: Nanos, index: usize, pages: u64) -> Option<u64> {
        let region = self.regions.get_mut(index)?;
        region.assigned = region.assigned.saturating_sub(pages);
        if region.assigned > 0 {
            return None;
        }
        self.optimizable += u64::from(region.covered_by);
        self.freed += 1;
        region.freed = self.freed;
        if region.covered_by > 0 && self.up {
            region.waiting_since = Some(now);
        }
        Some(region.freed)
    }

    /// A covering core's bit changed.
    pub(super) fn bit(&mut self, now: Nanos, core: usize, index: usize, on: bool) {
        let Some(region) = self.regions.get_mut(index).filter(|region| region.ram) else { return };
        self.changed = now;
        self.writes.bit(core, index, on);
        if on {
            region.optimised_on += 1;
            self.optimised += 1;
            if region.optimised_on >= region.covered_by
                && let Some(since) = region.waiting_since.take()
            {
                self.waits.push(now.saturating_sub(since));
            }
        } else {
            region.optimised_on = region.optimised_on.saturating_sub(1);
            self.optimised = self.optimised.saturating_sub(1);
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.up
    }

    /// Shares of all pairs, and of those that could be optimised, as they are now.
    pub(super) fn current(&self) -> (Option<f64>, Option<f64>) {
        (self.share(), self.optimizable_share())
    }

    pub(super) fn optimized(&self) -> OptimizedReport {
        let mean = |integral: f64, ns: Nanos| (ns > 0).then(|| integral / ns as f64);
        OptimizedReport {
            at_end: self.last.all,
            mean: mean(self.share_integral, self.up_ns),
            optimizable_at_end: self.last.optimizable,
            optimizable_mean: mean(self.optimizable_integral, self.optimizable_ns),
            integral_s: self.share_integral / SECOND as f64,
            weighted_at_end: self.last.weighted,
            weighted_mean: mean(self.weighted_integral, self.weighted_ns),
        }
    }

    pub(super) fn reoptimize(&self) -> ReoptimizeReport {
        let samples = Samples::new(self.waits.clone(), 0);
        let seconds = |ns: Option<u64>| ns.map(|ns| ns as f64 / SECOND as f64);
        ReoptimizeReport {
            p50: seconds(samples.p50()),
            p99: seconds(samples.p99()),
            max: seconds(samples.max()),
            never: self.never,
            count: samples.count(),
            never_longest: (self.never > 0).then(|| self.never_longest as f64 / SECOND as f64),
        }
    }

    pub(super) fn points(&self) -> Vec<SharePoint> {
        self.points.clone()
    }
}
