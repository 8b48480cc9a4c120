// SPDX-License-Identifier: MIT OR GPL-2.0
//! Which CPUs are threads of which core.

use kernel::prelude::*;

use crate::rmpopt_core::CoreId;
use crate::sys::cpu;

/// A CPU that is not there.
const ABSENT: u16 = u16::MAX;
/// Cores that the control plane can name.
const MOST: u16 = 4096;

/// Cores, numbered from 0 in the order of their first CPUs.
///
/// Taken when the module is loaded. Of a CPU that is offline then the kernel does not say whose
/// sibling it is: it counts as a core of its own, which is RMPOPT run once more than needed.
pub(crate) struct Topology {
    core_of: KVVec<u16>,
    cores: u16,
}

impl Topology {
    pub(crate) fn read() -> Result<Self> {
        let limit = cpu::limit();
        let mut core_of = KVVec::with_capacity(limit as usize, GFP_KERNEL)?;
        let mut cores = 0u16;
        for number in 0..limit {
            if !cpu::is_present(number) {
                core_of.push(ABSENT, GFP_KERNEL)?;
                continue;
            }
            let sibling = (0..number).find(|&other| cpu::are_siblings(number, other));
            let known = sibling.and_then(|other| core_of.get(other as usize).copied());
            let core = match known.filter(|&core| core != ABSENT) {
                Some(core) => core,
                None if cores == MOST => {
                    pr_err!("more than {MOST} cores, which RMPOPT has no use for here\n");
                    return Err(EOPNOTSUPP);
                }
                None => {
                    cores = cores.saturating_add(1);
                    cores.saturating_sub(1)
                }
            };
            core_of.push(core, GFP_KERNEL)?;
        }
        Ok(Self { core_of, cores })
    }

    /// How many cores.
    pub(crate) fn cores(&self) -> u16 {
        self.cores
    }

    /// The core that a CPU is a thread of.
    pub(crate) fn core_of(&self, cpu: u32) -> Option<CoreId> {
        let core = *self.core_of.get(cpu as usize)?;
        (core != ABSENT).then_some(CoreId(core))
    }

    /// CPUs with their cores, ascending.
    pub(crate) fn cpus(&self) -> impl Iterator<Item = (u32, CoreId)> + '_ {
        (0..u32::MAX)
            .zip(&self.core_of)
            .filter(|(_, &core)| core != ABSENT)
            .map(|(cpu, &core)| (cpu, CoreId(core)))
    }

    /// First online CPU of a core of which this holds.
    pub(crate) fn online_cpu(&self, core: CoreId, like: impl Fn(u32) -> bool) -> Option<u32> {
        let mut cpus = self.cpus();
        cpus.find(|&(cpu, of)| of == core && like(cpu) && cpu::is_online(cpu)).map(|(cpu, _)| cpu)
    }

    /// NUMA node of a core.
    pub(crate) fn node(&self, core: CoreId) -> u16 {
        self.cpus().find(|&(_, of)| of == core).map_or(0, |(number, _)| cpu::node(number))
    }
}
