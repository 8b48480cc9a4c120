// SPDX-License-Identifier: MIT OR GPL-2.0
//! How much RAM lies in which region.

use kernel::prelude::*;

use crate::driver::Driver;
use crate::rmpopt_core::{CoreId, Host};
use crate::snp_defs::Region;
use crate::sys::cpu;

/// RAM by region.
pub(crate) struct Memory {
    /// MiB of RAM in each region up to the highest.
    ram_mib: KVVec<u16>,
}

impl Memory {
    /// The emulated host's.
    #[cfg(emulate)]
    pub(crate) fn emulated(host: &impl crate::emu::ask::Ask) -> Result<Self> {
        let mut ram_mib = KVVec::with_capacity(host.regions() as usize, GFP_KERNEL)?;
        for region in (0..host.regions()).filter_map(Region::new) {
            ram_mib.push(if host.has_ram(region) { 1024 } else { 0 }, GFP_KERNEL)?;
        }
        Ok(Self { ram_mib })
    }

    /// The RAM of this host.
    pub(crate) fn real() -> Result<Self> {
        let mut ram_mib = KVVec::new();
        crate::sys::iomem::ram(|range| {
            for number in range.start >> 30..=range.last >> 30 {
                let number = usize::try_from(number).map_err(|_| EOVERFLOW)?;
                while ram_mib.len() <= number {
                    ram_mib.push(0u16, GFP_KERNEL)?;
                }
                let first = range.start.max((number as u64) << 30);
                let last = range.last.min(((number as u64) << 30) | ((1 << 30) - 1));
                if let Some(mib) = ram_mib.get_mut(number) {
                    let more = (last.saturating_sub(first).saturating_add(1) >> 20) as u16;
                    *mib = mib.saturating_add(more).min(1024);
                }
            }
            Ok(())
        })?;
        Ok(Self { ram_mib })
    }

    /// Regions up to the top of RAM.
    pub(crate) fn regions(&self) -> u32 {
        self.ram_mib.len() as u32
    }

    /// MiB of RAM in a region.
    pub(crate) fn mib(&self, region: Region) -> u32 {
        self.ram_mib.get(region.index()).copied().map_or(0, u32::from)
    }
}

/// Cores and memory as a policy sees them.
pub(crate) struct Place<'a> {
    pub(crate) driver: &'a Driver,
}

impl Host for Place<'_> {
    fn cores(&self) -> u16 {
        self.driver.hardware.topology.cores()
    }
    fn participates(&self, core: CoreId) -> bool {
        self.driver.cpu_of(core).is_some()
    }
    fn node(&self, core: CoreId) -> u16 {
        self.driver.hardware.topology.node(core)
    }
    fn socket(&self, core: CoreId) -> u16 {
        // A node lies in one socket: taking each for one chooses windows by node, never worse.
        self.node(core)
    }
    fn spanned_regions(&self) -> u32 {
        self.driver.hardware.memory.regions()
    }
    fn ram_mib(&self, region: Region) -> u32 {
        self.driver.hardware.memory.mib(region)
    }
    fn region_node(&self, region: Region) -> u16 {
        cpu::node_of_memory(region.base().get())
    }
    fn node_socket(&self, node: u16) -> u16 {
        node
    }
}
