// SPDX-License-Identifier: MIT OR GPL-2.0
//! Counters that any context may raise.

use core::sync::atomic::{AtomicU64, Ordering};

use kernel::prelude::*;

use crate::snp_defs::Counter;

/// What the driver can count. Others of the list (interruptions of guests, pairs lost, RMPUPDATEs)
/// it does not see; the file says nothing of them rather than 0.
pub(crate) const KEPT: [Counter; 23] = [
    Counter::RmpoptExecuted,
    Counter::RmpoptVerify,
    Counter::RmpoptReport,
    Counter::RmpoptLeader,
    Counter::RmpoptFollowers,
    Counter::Ipis,
    Counter::Wakeups,
    Counter::InterruptionsTotal,
    Counter::Passes,
    Counter::RmpoptClean,
    Counter::RmpoptDirty,
    Counter::RmpoptSlow,
    Counter::ResultsStale,
    Counter::InterruptionsIpi,
    Counter::InterruptionsWakeup,
    Counter::CpuTaken,
    Counter::Batches,
    Counter::MarksShared,
    Counter::MarksLost,
    Counter::AuditsRun,
    Counter::AuditsFailed,
    Counter::BaseWrites,
    Counter::SnpInits,
];

/// A cell for each counter.
pub(crate) struct Counts([AtomicU64; Counter::COUNT]);

impl Counts {
    /// All 0. On its own, so that they pass over the stack of no one else.
    #[inline(never)]
    pub(crate) fn new() -> Result<KBox<Self>> {
        Ok(KBox::new(Self([const { AtomicU64::new(0) }; Counter::COUNT]), GFP_KERNEL)?)
    }

    pub(crate) fn add(&self, counter: Counter, by: u64) {
        if let Some(cell) = self.0.get(counter.index()) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(crate) fn one(&self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter.index()).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// An interrupt for RMPOPT on another CPU.
    pub(crate) fn interrupt(&self) {
        self.one(Counter::Ipis);
        self.one(Counter::InterruptionsIpi);
        self.one(Counter::InterruptionsTotal);
    }

    /// A work item that was queued.
    pub(crate) fn wakeup(&self) {
        self.one(Counter::Wakeups);
        self.one(Counter::InterruptionsWakeup);
        self.one(Counter::InterruptionsTotal);
    }
}
