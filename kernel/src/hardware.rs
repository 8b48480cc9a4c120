// SPDX-License-Identifier: MIT OR GPL-2.0
//! The seam between the driver and the hardware, real or emulated.

use kernel::interrupt::LocalInterruptDisabled;
use kernel::prelude::*;
#[cfg(emulate)]
use kernel::sync::Arc;

use crate::gate;
use crate::memory::Memory;
use crate::rmpopt_core::{Capable, CoreId};
use crate::snp_defs::{msr, Region, RmpoptBase, RmpoptFunction, Syscfg};
use crate::sys;
use crate::sys::insn::Fault;
use crate::topology::Topology;

/// What the driver drives.
pub(crate) struct Hardware {
    pub(crate) proof: Capable,
    pub(crate) topology: Topology,
    pub(crate) memory: Memory,
    /// The instruction itself is executed, and answered by the model. Ends before the model does.
    #[cfg(emulate)]
    trap: Option<crate::emu::trap::Trap>,
    kind: Kind,
}

enum Kind {
    Silicon,
    #[cfg(emulate)]
    Model(Arc<crate::emu::Emulated>),
}

/// What a core says of itself.
#[derive(Clone, Copy)]
pub(crate) struct CoreState {
    /// `RMPOPT_BASE`; `None` if an access faulted or its value has no meaning.
    pub(crate) base: Option<RmpoptBase>,
    /// SYSCFG\[24\].
    pub(crate) snp_en: bool,
}

impl Hardware {
    /// The hardware asked for, if it may be used; else one line in the log and an error.
    pub(crate) fn find() -> Result<KBox<Self>> {
        #[cfg(emulate)]
        if let Some(manner) = crate::emu::wanted::wanted()? {
            return Ok(KBox::new(Self::model(manner)?, GFP_KERNEL)?);
        }
        let proof = gate::check()?;
        let (topology, memory) = (Topology::read()?, Memory::real()?);
        let silicon = Self {
            proof,
            topology,
            memory,
            #[cfg(emulate)]
            trap: None,
            kind: Kind::Silicon,
        };
        Ok(KBox::new(silicon, GFP_KERNEL)?)
    }

    #[cfg(emulate)]
    fn model(manner: crate::emu::wanted::Manner) -> Result<Self> {
        use crate::emu::ask::Ask;
        use crate::rmpopt_core::Facts;
        let topology = Topology::read()?;
        let cores = topology.cores();
        // The kernel is a real one.
        let kernel_owns_rmpopt = gate::is_the_kernels_own();
        let proof = gate::prove(&Facts { kernel_owns_rmpopt, ..Facts::venice(u32::from(cores)) })?;
        let model = Arc::new(crate::emu::Emulated::new(cores)?, GFP_KERNEL)?;
        let trap = match manner {
            crate::emu::wanted::Manner::Model => None,
            crate::emu::wanted::Manner::Trap => Some(crate::emu::trap::begin(&model)?),
        };
        let gib = model.host.regions();
        let memory = Memory::emulated(&model.host)?;
        pr_info!("hardware is EMULATED: {cores} cores, {gib} GiB; nothing here is protected\n");
        Ok(Self { proof, topology, memory, trap, kind: Kind::Model(model) })
    }

    /// The emulated hardware, if that is what it is.
    #[cfg(emulate)]
    pub(crate) fn emulated(&self) -> Option<&crate::emu::Emulated> {
        match &self.kind {
            Kind::Silicon => None,
            Kind::Model(model) => Some(model),
        }
    }

    /// Exceptions that RMPOPT's bytes raised, where they are executed and emulated.
    #[cfg(emulate)]
    pub(crate) fn trapped(&self) -> u64 {
        self.trap.as_ref().map_or(0, |trap| trap.seen())
    }

    /// Whether this is real hardware.
    pub(crate) fn is_silicon(&self) -> bool {
        matches!(self.kind, Kind::Silicon)
    }

    /// RMPOPT on this CPU, which is one of `core`.
    pub(crate) fn rmpopt(
        &self,
        here: &LocalInterruptDisabled,
        core: CoreId,
        region: Region,
        function: RmpoptFunction,
    ) -> Result<bool, Fault> {
        match &self.kind {
            Kind::Silicon => {
                let _ = core;
                sys::insn::rmpopt(&self.proof, here, region, function)
            }
            #[cfg(emulate)]
            Kind::Model(_) if self.trap.is_some() => sys::insn::trapping(here, region, function),
            #[cfg(emulate)]
            Kind::Model(model) => model.rmpopt(core, region, function),
        }
    }

    /// Writes `RMPOPT_BASE` of the core that `cpu` belongs to, and reads back.
    pub(crate) fn write_base(&self, cpu: u32, core: CoreId, base: RmpoptBase) -> CoreState {
        let written = match &self.kind {
            Kind::Silicon => sys::msr::write_rmpopt_base(cpu, base).is_ok(),
            #[cfg(emulate)]
            Kind::Model(model) => model.write_base(core, base),
        };
        let mut state = self.read(cpu, core);
        if !written {
            state.base = None;
        }
        state
    }

    /// Reads what law 4 wants to know of the core that `cpu` belongs to.
    pub(crate) fn read(&self, cpu: u32, core: CoreId) -> CoreState {
        match &self.kind {
            Kind::Silicon => {
                let _ = core;
                let base = sys::msr::read(cpu, msr::RMPOPT_BASE).ok();
                let syscfg = sys::msr::read(cpu, msr::SYSCFG).unwrap_or(0);
                CoreState {
                    base: base.and_then(|raw| RmpoptBase::from_raw(raw).ok()),
                    snp_en: Syscfg(syscfg).snp_en(),
                }
            }
            #[cfg(emulate)]
            Kind::Model(model) => model.read(core),
        }
    }
}
