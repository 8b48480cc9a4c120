// SPDX-License-Identifier: MIT OR GPL-2.0
//! Emulated hardware: MSRs, RMP and RMPOPT are snp-model; CPUs, timers and work queues are real.

mod control;
pub(crate) mod files;
mod laws;
mod storage;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::prelude::*;

pub(crate) use self::laws::Laws;
use self::storage::{KernelRmp, KernelUnit};
use crate::hardware::CoreState;
use crate::params;
use crate::params::emu::Found;
use crate::rmpopt_core;
use crate::snp_defs::{Region, RmpoptBase, RmpoptFunction, PAGES_PER_REGION};
use crate::snp_model::{
    CoreId, Coverage, Exception, InitLayout, Machine, PfnRange, Storage, UnitConfig, UpdateOrder,
};
use crate::sys::insn::Fault;

/// log2 of the bytes of an RMP segment.
const SEGMENT_SHIFT: u32 = 36;

/// The emulated host.
pub(crate) type Silicon = Machine<KernelRmp, KernelUnit>;

/// The emulated host and what is kept of it.
pub(crate) struct Emulated {
    pub(crate) silicon: KBox<Silicon>,
    pub(crate) laws: Laws,
    /// Changes of the RMP are followed.
    pub(crate) marks: bool,
    /// RMPOPTs that will raise `#UD`: a seeded fault.
    seeded_ud: AtomicU32,
    /// RMPOPTs that raised an exception nobody seeded: law 4.
    exceptions: AtomicU64,
    /// RMPOPTs run.
    pub(crate) executed: AtomicU64,
    /// How many had been run when the firmware shut SNP down.
    pub(crate) at_shutdown: AtomicU64,
}

impl Emulated {
    pub(crate) fn new(gib: u32, cores: u16) -> Result<Self> {
        let silicon = silicon(gib, cores, params::emu::unit()?)?;
        let base = match params::emu::found()? {
            Found::Down => None,
            Found::Fresh => Some(RmpoptBase::OFF),
            Found::Left(region) => Some(RmpoptBase::enabled_at(region)),
        };
        if let Some(base) = base {
            initialise(&silicon)?;
            for core in (0..u32::from(cores)).map(CoreId) {
                silicon.wrmsr_rmpopt_base(core, base.raw()).map_err(|_| EINVAL)?;
            }
        }
        Ok(Self {
            silicon,
            laws: Laws::new(),
            marks: params::emu::marks(),
            seeded_ud: AtomicU32::new(0),
            exceptions: AtomicU64::new(0),
            executed: AtomicU64::new(0),
            at_shutdown: AtomicU64::new(0),
        })
    }

    /// RMPOPT as this core would do it.
    pub(crate) fn rmpopt(
        &self,
        core: rmpopt_core::CoreId,
        region: Region,
        function: RmpoptFunction,
    ) -> core::result::Result<bool, Fault> {
        self.executed.fetch_add(1, Ordering::SeqCst);
        let seeded = self
            .seeded_ud
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if seeded.is_ok() {
            return Err(Fault);
        }
        match self.silicon.rmpopt(model(core), region.base().get(), function) {
            Ok(outcome) => Ok(outcome.cf),
            Err(Exception::UndefinedOpcode | Exception::GeneralProtection) => {
                self.exceptions.fetch_add(1, Ordering::SeqCst);
                Err(Fault)
            }
        }
    }

    /// WRMSR of `RMPOPT_BASE`; false if it raised `#GP`.
    pub(crate) fn write_base(&self, core: rmpopt_core::CoreId, base: RmpoptBase) -> bool {
        self.silicon.wrmsr_rmpopt_base(model(core), base.raw()).is_ok()
    }

    pub(crate) fn read(&self, core: rmpopt_core::CoreId) -> CoreState {
        CoreState {
            base: RmpoptBase::from_raw(self.silicon.rdmsr_rmpopt_base(model(core))).ok(),
            snp_en: self.silicon.unit().snp_en(model(core)),
        }
    }
}

/// SNP_INIT of a host whose memory is all the hypervisor's.
fn initialise(silicon: &Silicon) -> Result {
    silicon.enable_snp();
    let regions = u64::from(silicon.rmp().storage().regions());
    let dram = [PfnRange::new(Region::ZERO.first_pfn(), regions.saturating_mul(PAGES_PER_REGION))];
    let layout = InitLayout { dram: &dram, ..InitLayout::default() };
    silicon.snp_init(&layout).map_err(|_| ENOMEM)
}

/// The model's number of a core.
pub(crate) fn model(core: rmpopt_core::CoreId) -> CoreId {
    CoreId(u32::from(core.0))
}

/// A host after reset. On its own, so that it passes over the stack of no one else.
#[inline(never)]
fn silicon(gib: u32, cores: u16, config: UnitConfig) -> Result<KBox<Silicon>> {
    let coverage = Coverage::segmented(SEGMENT_SHIFT).ok_or(EINVAL)?.with_regions(gib);
    let place = KBox::new_uninit(GFP_KERNEL)?;
    let (rmp, unit) = (KernelRmp::new(gib)?, KernelUnit::new(gib, cores)?);
    let machine = Machine::new(rmp, coverage, unit, config, UpdateOrder::default());
    Ok(KBox::write(place, machine))
}
