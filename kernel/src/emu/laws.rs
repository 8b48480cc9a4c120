// SPDX-License-Identifier: MIT OR GPL-2.0
//! Laws 1, 4 and 6, checked after each step of a script (DESIGN "Laws").
//!
//! The steps come one at a time, so that no RMPUPDATE is under way while a check looks.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{model, Emulated};
use crate::rmpopt_core::CoreId;
use crate::snp_defs::Region;
use crate::snp_model::{RegionScan, Storage};
use crate::topology::Topology;

/// Checks and breaches of one law.
pub(crate) struct Law {
    pub(crate) number: u8,
    pub(crate) checks: AtomicU64,
    pub(crate) breaches: AtomicU64,
}

impl Law {
    const fn new(number: u8) -> Self {
        Self { number, checks: AtomicU64::new(0), breaches: AtomicU64::new(0) }
    }

    fn check(&self, holds: bool) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.breaches.fetch_add(u64::from(!holds), Ordering::Relaxed);
    }
}

/// The laws that can be checked from the hardware's side.
pub(crate) struct Laws {
    /// No core's bit is set where a page is assigned.
    safety: Law,
    /// RMPOPT runs only where it is enabled.
    no_ud: Law,
    /// After the stop nothing runs, and the bases are 0 once SNP is down.
    clean_exit: Law,
}

impl Laws {
    pub(super) const fn new() -> Self {
        Self { safety: Law::new(1), no_ud: Law::new(4), clean_exit: Law::new(6) }
    }

    pub(crate) fn all(&self) -> [&Law; 3] {
        [&self.safety, &self.no_ud, &self.clean_exit]
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.all().into_iter().any(|law| law.breaches.load(Ordering::Relaxed) > 0)
    }
}

impl Emulated {
    fn cores(&self) -> impl Iterator<Item = CoreId> {
        (0..self.silicon.unit().cores()).map(|core| CoreId(core as u16))
    }

    /// Law 1 in one region, and law 4.
    pub(super) fn check_region(&self, region: Region) {
        let unit = self.silicon.unit();
        let assigned = self.silicon.rmp().scan(region).assigned;
        let breaks = |core| assigned && unit.is_optimised(model(core), region);
        self.laws.safety.check(!self.cores().any(breaks));
        self.laws.no_ud.check(self.exceptions.load(Ordering::SeqCst) == 0);
    }

    /// Law 1 everywhere.
    pub(super) fn check_all(&self) {
        let regions = self.silicon.rmp().storage().regions();
        for region in (0..regions).filter_map(Region::new) {
            self.check_region(region);
        }
    }

    /// Law 6 after the driver has stopped: `executed` RMPOPTs had been run then. A core that is away
    /// is cleared when it comes back.
    pub(super) fn check_stopped(&self, topology: &Topology, executed: u64, unclean: u64) {
        let quiet = self.executed.load(Ordering::SeqCst) == executed;
        let off = |core| {
            self.silicon.rdmsr_rmpopt_base(model(core)) == 0
                || topology.online_cpu(core, |_| true).is_none()
        };
        self.laws.clean_exit.check(quiet && unclean == 0 && self.cores().all(off));
    }
}
