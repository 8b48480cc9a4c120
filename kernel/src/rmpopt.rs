// SPDX-License-Identifier: MIT OR GPL-2.0
//! RMPOPT for a stock Linux kernel. See docs/kernel-module.md.

// On real hardware the driver is started by probes that are still to come (docs/kernel-module.md):
// until then only emulated hardware reaches all of it.
#![cfg_attr(not(emulate), allow(dead_code))]

use kernel::prelude::*;

#[path = "../../crates/snp-defs/src/snp_defs/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_defs;

#[path = "../../crates/rmpopt-core/src/rmpopt_core/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod rmpopt_core;

#[cfg(emulate)]
#[path = "../../crates/snp-model/src/snp_model/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_model;

mod config;
mod counts;
mod driver;
#[cfg(emulate)]
mod emu;
mod files;
mod gate;
mod hardware;
mod masks;
mod memory;
mod params;
mod plan;
mod sys;
mod topology;
mod tunables;
mod words;

use self::driver::Driver;
use self::hardware::Hardware;
use self::sys::crew::Crew;
use self::sys::files::Served;

module! {
    type: RmpoptModule,
    name: "rmpopt",
    authors: ["rmpopt"],
    description: "RMPOPT: no RMP checks where no SEV-SNP guest has memory",
    license: "Dual MIT/GPL",
    params: {
        adopt: bool {
            default: false,
            description: "keep the RMPOPT_BASE that an earlier driver left, if it is the same",
        },
        silicon: bool {
            default: false,
            description: "start on real hardware, which this module has never met",
        },
        delay_ms: u32 {
            default: 1000,
            description: "from a region's last activity to its verification, in ms",
        },
        bound_ms: u32 {
            default: 10000,
            description: "from a region's first activity to its verification, however active, in ms",
        },
        merge_ms: u32 {
            default: 1000,
            description: "clean regions are collected for so long before cores are asked, in ms",
        },
        follow_ms: u32 {
            default: 2000,
            description: "idle cores are woken for clean regions after so long, in ms",
        },
        tick_ms: u32 {
            default: 250,
            description: "how often marks of changed regions are looked at while there are any, in ms",
        },
        hold_us: u32 {
            default: 100,
            description: "longest stretch that a CPU is held for RMPOPTs, one more or less, in us",
        },
        slow_us: u32 {
            default: 20,
            description: "a follower whose RMPOPT took longer gives its CPU back at once, in us",
        },
        followers: u16 {
            default: 16,
            description: "cores that may be woken at once",
        },
        audit_ms: u32 {
            default: 60000,
            description: "one core's table is compared with what is believed so often, in ms; 0: never",
        },
        cap_ms: u32 {
            default: 0,
            description: "CPU time that may be taken per minute, in ms; 0: no limit",
        },
        sweep: u32 {
            default: 32,
            description: "regions verified per second where the RMP's changes cannot be followed; 0: none",
        },
        trust_base_clear: bool {
            default: false,
            description: "RMPOPT_BASE may be written again within one SNP_INIT",
        },
    },
}

struct RmpoptModule {
    /// Taken away before the driver ends.
    folder: Option<config::Folder>,
    served: Served<Crew<Driver>>,
}

impl kernel::Module for RmpoptModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let crew = driver::crew(Hardware::find()?)?;
        let served = Served::new(c"rmpopt", crew);
        files::add(&served);
        let folder = config::add(&served)?;
        driver::life::begin(&served)?;
        Ok(Self { folder: Some(folder), served })
    }
}

impl Drop for RmpoptModule {
    fn drop(&mut self) {
        drop(self.folder.take());
        driver::life::unload(&self.served);
    }
}
