// SPDX-License-Identifier: MIT OR GPL-2.0
//! `rmpopt_emu`: the emulated host on its own, for tests of `rmpopt`'s going and coming.
//!
//! As on a real host, registers, tables and RMP are not the driver's: they stay when it is unloaded.
//! Loaded first, this is the host that `rmpopt emulate=model` finds. Its files are in
//! `/sys/kernel/debug/x86/rmpopt_emu/`; `control` takes, also while no driver is there:
//!
//! ```text
//! snp-init, snp-down                SNP_INIT, SHUTDOWN_EX: no driver is told
//! assign FIRST PAGES ASID [2m]      RMPUPDATE: pages (4K, or 2M) from page number FIRST on
//! share FIRST PAGES [2m]            RMPUPDATE: they are the hypervisor's again
//! check                             laws 1 and 4 in all regions
//! ```

use kernel::prelude::*;

#[path = "../../crates/snp-defs/src/snp_defs/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_defs;

#[path = "../../crates/rmpopt-core/src/rmpopt_core/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod rmpopt_core;

#[path = "../../crates/snp-model/src/snp_model/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_model;

/// What it shares with the module under test.
#[allow(dead_code)]
mod emu {
    pub(crate) mod ask;
    pub(crate) mod files;
    pub(crate) mod host;
    mod laws;
    pub(crate) mod pages;
    mod settings;
    mod storage;
}

#[allow(dead_code)]
mod sys {
    pub(crate) mod cpu;
    pub(crate) mod files;
    pub(crate) mod keeper;
    pub(crate) mod text;
}

#[allow(dead_code)]
mod topology;
mod words;

use kernel::sync::Arc;

use self::emu::ask::{Ask, Request};
use self::emu::files::Shows;
use self::emu::host::Host;
use self::emu::pages::Pages;
use self::sys::files::{Commands, Served};
use self::sys::keeper;
use self::topology::Topology;

module! {
    type: RmpoptModule,
    name: "rmpopt_emu",
    authors: ["rmpopt"],
    description: "An emulated SEV-SNP host for tests of rmpopt; protects nothing",
    license: "Dual MIT/GPL",
}

/// The host, and where its cores are.
#[pin_data]
struct Keeper {
    #[pin]
    host: Host,
    topology: Topology,
}

impl Keeper {
    fn new(topology: Topology) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            host <- Host::new(topology.cores()),
            topology,
        }? Error)
    }
}

impl Shows for Keeper {
    fn host(&self) -> Option<&impl Ask> {
        Some(&self.host)
    }

    fn topology(&self) -> &Topology {
        &self.topology
    }
}

/// `control`: what happens to the host without a driver, a command a line.
struct Control;

impl Commands for Control {
    type Data = Keeper;
    const NAME: &'static CStr = c"control";

    fn write(keeper: &Keeper, text: &[u8]) -> Result {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        text.lines().try_for_each(|line| {
            command(&keeper.host, line).inspect_err(|error| {
                pr_info!("control: \"{line}\" failed ({error:?})\n");
            })
        })
    }
}

/// Does one line. With `EIO` it was done, but a law is broken.
fn command(host: &Host, line: &str) -> Result {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(()) };
    match name {
        "snp-init" => host.asked(Request::Init).map(|_| ())?,
        "snp-down" => host.asked(Request::Shutdown).map(|_| ())?,
        "assign" => Pages::parse(&mut words, true)?.update(host, |_| {})?,
        "share" => Pages::parse(&mut words, false)?.update(host, |_| {})?,
        "check" => host.asked(Request::CheckAll).map(|_| ())?,
        _ => return Err(EINVAL),
    }
    match (words.next(), host.is_broken()) {
        (Some(_), _) => Err(EINVAL),
        (None, true) => Err(EIO),
        (None, false) => Ok(()),
    }
}

struct RmpoptModule {
    served: Served<Keeper>,
}

impl kernel::Module for RmpoptModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let keeper = Arc::pin_init(Keeper::new(Topology::read()?), GFP_KERNEL)?;
        keeper.host.bring_up()?;
        let (cores, gib) = (keeper.topology.cores(), keeper.host.regions());
        let served = Served::new(c"rmpopt_emu", keeper);
        served.commands::<Control>(served.folder());
        emu::files::add(&served, served.folder());
        keeper::open(&served.host);
        pr_info!("keeps an EMULATED host: {cores} cores, {gib} GiB; nothing here is protected\n");
        Ok(Self { served })
    }
}

impl Drop for RmpoptModule {
    fn drop(&mut self) {
        keeper::close(&self.served.host);
    }
}
