// SPDX-License-Identifier: MIT OR GPL-2.0
//! Emulated hardware: MSRs, RMP and RMPOPT are snp-model; CPUs, timers and work queues are real.

pub(crate) mod ask;
mod control;
pub(crate) mod files;
pub(crate) mod host;
mod laws;
mod pages;
mod settings;
mod storage;
pub(crate) mod trap;
pub(crate) mod wanted;

use core::sync::atomic::AtomicU64;

use kernel::prelude::*;

use self::ask::{Ask, Request};
use crate::driver::Driver;
use crate::hardware::CoreState;
use crate::rmpopt_core::CoreId;
use crate::snp_defs::{Region, RmpoptBase, RmpoptFunction};
use crate::sys::crew::Crew;
use crate::sys::emulated::Link;
use crate::sys::files::Served;
use crate::sys::insn::Fault;
use crate::topology::Topology;

/// The way to the emulated host, and what is kept of it here.
pub(crate) struct Emulated {
    pub(crate) host: Link,
    /// Changes of the RMP are followed.
    pub(crate) marks: bool,
    /// How many RMPOPTs had been run when the firmware shut SNP down.
    at_shutdown: AtomicU64,
}

impl Emulated {
    /// The host that `rmpopt_emu` keeps, if that is loaded; else one of our own.
    pub(crate) fn new(cores: u16) -> Result<Self> {
        let host = match Link::find() {
            Some(kept) if settings::is_described() => {
                drop(kept);
                pr_err!(
                    "the emulated host is there: emu_mem, emu_choices, emu_up are rmpopt_emu's\n"
                );
                return Err(EINVAL);
            }
            Some(kept) => kept,
            None => Link::make(cores)?,
        };
        if host.cores().count() != usize::from(cores) {
            pr_err!("the emulated host has {} cores, here are {cores}\n", host.cores().count());
            return Err(EINVAL);
        }
        Ok(Self { host, marks: wanted::marks(), at_shutdown: AtomicU64::new(0) })
    }

    /// RMPOPT as this core would do it.
    pub(crate) fn rmpopt(
        &self,
        core: CoreId,
        region: Region,
        function: RmpoptFunction,
    ) -> Result<bool, Fault> {
        self.host.rmpopt(core, region, function).map_err(|_| Fault)
    }

    /// WRMSR of `RMPOPT_BASE`; false if it raised `#GP`.
    pub(crate) fn write_base(&self, core: CoreId, base: RmpoptBase) -> bool {
        self.host.write_base(core, base).is_ok()
    }

    pub(crate) fn read(&self, core: CoreId) -> CoreState {
        CoreState {
            base: RmpoptBase::from_raw(self.host.read_base(core)).ok(),
            snp_en: self.host.snp_en(core),
        }
    }

    /// Law 6 after the driver has stopped: `executed` RMPOPTs had been run then. A core that is away
    /// is cleared when it comes back.
    fn check_stopped(&self, topology: &Topology, executed: u64, unclean: u64) {
        let quiet = self.host.executed() == executed;
        let off =
            |core| self.host.read_base(core) == 0 || topology.online_cpu(core, |_| true).is_none();
        let holds = quiet && unclean == 0 && self.host.cores().all(off);
        self.host.ask(Request::NoteStop { holds });
    }
}

impl files::Shows for Crew<Driver> {
    fn host(&self) -> Option<&impl Ask> {
        self.hardware.emulated().map(|emulated| &emulated.host)
    }

    fn topology(&self) -> &Topology {
        &self.hardware.topology
    }
}

/// Makes the files in `emu/`.
pub(crate) fn add_files(served: &Served<Crew<Driver>>) {
    let folder = served.sub_folder(c"emu");
    served.commands::<control::Control>(folder);
    files::add(served, folder);
    served.rows::<trap::Trapped>(folder);
}
