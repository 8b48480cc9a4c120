// SPDX-License-Identifier: MIT OR GPL-2.0
//! What can be asked of the emulated host, by value: it may live in another module.

use kernel::prelude::*;

use crate::rmpopt_core::CoreId;
use crate::snp_defs::{Pfn, Region, RmpoptBase, RmpoptFunction};

/// One request. Laid out as C does it: both sides are built from this file, but not at once.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) enum Request {
    /// How many regions of 1 GiB its memory has.
    Regions,
    /// Whether a region has RAM.
    HasRam { region: u32 },
    /// How many cores it has.
    Cores,
    /// RMPOPT on a core: CF, or `EFAULT` for an exception.
    Rmpopt { core: u16, region: u32, function: u64 },
    /// WRMSR of `RMPOPT_BASE`; `EFAULT` for `#GP`.
    WriteBase { core: u16, base: u64 },
    /// RDMSR of `RMPOPT_BASE`.
    ReadBase { core: u16 },
    /// SYSCFG\[24\] of a core.
    SnpEn { core: u16 },
    /// Whether SNP is initialised.
    IsUp,
    /// SNP_INIT of a host whose memory is all the hypervisor's.
    Init,
    /// SHUTDOWN_EX.
    Shutdown,
    /// A core went through a reset: SNP off there, base 0, empty table.
    Reset { core: u16 },
    /// Makes room for changes of so many pages of 4K from this on. May sleep.
    Reserve { first: u64, pages: u64 },
    /// RMPUPDATE of one page; ASID 0 makes it the hypervisor's. `EPERM`: it did not succeed.
    Update { page: u64, large: bool, asid: u32 },
    /// Whether a core's table has the region's bit.
    IsOptimised { core: u16, region: u32 },
    /// RMPOPTs run so far.
    Executed,
    /// Seeds a fault.
    Seed { fault: SeededFault, times: u32 },
    /// Laws 1 and 4 in a region.
    CheckRegion { region: u32 },
    /// Laws 1 and 4 in every region.
    CheckAll,
    /// Law 6 was checked, and this is what came of it.
    NoteStop { holds: bool },
    /// How often a law was checked, or found broken.
    Law { number: u8, breaches: bool },
}

/// Faults that can be seeded in the host.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) enum SeededFault {
    DropClear,
    StaleCache,
    BlindPublish,
    UndefinedOpcode,
}

/// The laws that can be checked from the hardware's side.
pub(crate) const LAWS: [u8; 3] = [1, 4, 6];

/// Whoever answers: the host itself, or the way to it.
pub(crate) trait Ask {
    /// The answer; below 0 it is an error's number.
    fn ask(&self, request: Request) -> i64;

    /// The answer, or the error.
    fn asked(&self, request: Request) -> Result<u64> {
        let answer = self.ask(request);
        u64::try_from(answer).map_err(|_| Error::from_errno(answer as i32))
    }

    /// An answer that cannot be an error.
    fn number(&self, request: Request) -> u64 {
        self.asked(request).unwrap_or(0)
    }

    fn is(&self, request: Request) -> bool {
        self.ask(request) > 0
    }

    fn regions(&self) -> u32 {
        self.number(Request::Regions) as u32
    }

    fn has_ram(&self, region: Region) -> bool {
        self.is(Request::HasRam { region: region.get() })
    }

    fn cores(&self) -> impl Iterator<Item = CoreId> {
        (0..self.number(Request::Cores) as u16).map(CoreId)
    }

    fn rmpopt(&self, core: CoreId, region: Region, function: RmpoptFunction) -> Result<bool> {
        let (core, region, function) = (core.0, region.get(), function.rcx());
        self.asked(Request::Rmpopt { core, region, function }).map(|carry| carry != 0)
    }

    fn write_base(&self, core: CoreId, base: RmpoptBase) -> Result {
        self.asked(Request::WriteBase { core: core.0, base: base.raw() }).map(|_| ())
    }

    fn read_base(&self, core: CoreId) -> u64 {
        self.number(Request::ReadBase { core: core.0 })
    }

    fn snp_en(&self, core: CoreId) -> bool {
        self.is(Request::SnpEn { core: core.0 })
    }

    fn is_up(&self) -> bool {
        self.is(Request::IsUp)
    }

    fn is_optimised(&self, core: CoreId, region: Region) -> bool {
        self.is(Request::IsOptimised { core: core.0, region: region.get() })
    }

    fn executed(&self) -> u64 {
        self.number(Request::Executed)
    }

    fn check_region(&self, region: Region) {
        self.ask(Request::CheckRegion { region: region.get() });
    }

    fn law(&self, number: u8, breaches: bool) -> u64 {
        self.number(Request::Law { number, breaches })
    }

    /// Whether a law was found broken.
    fn is_broken(&self) -> bool {
        LAWS.into_iter().any(|number| self.law(number, true) > 0)
    }

    /// RMPUPDATE of one page.
    fn update(&self, pfn: Pfn, large: bool, asid: u32) -> Result {
        self.asked(Request::Update { page: pfn.get(), large, asid }).map(|_| ())
    }
}
