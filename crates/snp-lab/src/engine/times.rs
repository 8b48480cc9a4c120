//! How long each RMPOPT takes: what it found, near or far memory, draws; and how long a scan's result
//! lasts.

use rmpopt_core::CoreId;
use snp_defs::Region;
use snp_model::{Begun, Scan};

use super::Engine;
use crate::cost::{CostModel, Dice};
use crate::scenario::Nanos;

/// A run of many passes has its first few apart.
const TALLIES: usize = 16;

/// What an RMPOPT meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A result of an earlier scan.
    Cached,
    /// The RMP: this many lines of it are read.
    Lines {
        lines: u32,
        /// The region holds an assigned page: there will be no result to use.
        assigned: bool,
    },
}

/// RMPOPTs that belong together, and their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum_ns: u64,
    pub(crate) least_ns: u64,
    pub(crate) most_ns: u64,
}

impl Tally {
    const EMPTY: Self = Self { count: 0, sum_ns: 0, least_ns: u64::MAX, most_ns: 0 };

    fn add(&mut self, ns: Nanos, times: u64) {
        self.count += times;
        self.sum_ns += ns * times;
        self.least_ns = self.least_ns.min(ns);
        self.most_ns = self.most_ns.max(ns);
    }
}

/// The run's dice, when each region was last scanned, and the times of each pass.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) dice: Dice,
    scanned: Vec<Option<Nanos>>,
    passes: Vec<Tally>,
}

impl Times {
    pub(super) fn new(seed: u64, regions: u32) -> Self {
        Self { dice: Dice::new(seed), scanned: vec![None; regions as usize], passes: Vec::new() }
    }

    /// SNP_INIT: no result is left.
    pub(super) fn forget(&mut self) {
        self.scanned.fill(None);
    }

    /// For each pass in turn, the RMPOPTs that ran before it ended.
    pub(super) fn tallies(&self) -> &[Tally] {
        &self.passes
    }
}

impl Engine<'_> {
    /// What the RMPOPT meets. The model keeps results for ever; here they end, and that changes only
    /// how long it takes: a kept result says that the region is clean, and so would its scan.
    pub(super) fn found(&mut self, region: Region, begun: &mut Begun) -> Found {
        let scan = self.rmp.look(begun);
        let Some(scanned) = self.times.scanned.get_mut(region.index()) else {
            return Found::Lines { lines: 0, assigned: true };
        };
        if !begun.is_cached() {
            let Scan { lines, assigned } = scan.unwrap_or(Scan { assigned: true, lines: 0 });
            if !assigned {
                *scanned = Some(self.now);
            }
            return Found::Lines { lines, assigned };
        }
        // Whoever begins together with the one that scans again has no result either.
        let kept = scanned.is_some_and(|from| {
            from < self.now && self.now < from.saturating_add(self.cost.scan_kept)
        });
        if kept && !self.times.dice.cache_lost(&self.cost) {
            return Found::Cached;
        }
        *scanned = Some(self.now);
        Found::Lines { lines: CostModel::SCAN_LINES as u32, assigned: false }
    }

    /// The time of an RMPOPT that runs alone.
    pub(super) fn rmpopt_time(&mut self, core: CoreId, region: Region, found: Found) -> Nanos {
        let mean = match found {
            Found::Cached => self.cost.rmpopt_fast,
            Found::Lines { lines, .. } => self.cost.scan_ns(lines, self.view.is_near(core, region)),
        };
        let took = self.times.dice.time(&self.cost, mean);
        self.tally(found, took);
        took
    }

    /// An RMPOPT that met this took so long.
    pub(super) fn tally(&mut self, found: Found, ns: Nanos) {
        self.tally_all(found, ns, 1);
    }

    /// So many did.
    pub(super) fn tally_all(&mut self, found: Found, ns: Nanos, times: u64) {
        if times == 0 {
            return;
        }
        match found {
            Found::Cached => self.meter.rmpopts_ended(0, true, times),
            Found::Lines { lines, .. } => self.meter.rmpopts_ended(lines, false, times),
        }
        let pass = usize::try_from(self.policy.passes()).unwrap_or(usize::MAX);
        let pass = pass.min(TALLIES - 1);
        if self.times.passes.len() <= pass {
            self.times.passes.resize(pass + 1, Tally::EMPTY);
        }
        if let Some(tally) = self.times.passes.get_mut(pass) {
            tally.add(ns, times);
        }
    }
}
