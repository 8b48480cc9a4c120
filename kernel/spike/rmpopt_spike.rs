// SPDX-License-Identifier: MIT OR GPL-2.0
//! The shared floors in a kernel: the control plane, driven by the kernel's clock and a work queue,
//! optimises an emulated SNP host that lives in this module. Touches no hardware.

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

mod executor;
mod host;
mod script;
mod sys;

use script::Spike;

module! {
    type: SpikeModule,
    name: "rmpopt_spike",
    authors: ["rmpopt"],
    description: "The RMPOPT control plane driven by a kernel's clock and timers",
    license: "Dual MIT/GPL",
}

struct SpikeModule {
    /// Runs the script until it ends or the module goes.
    work: Pin<KBox<sys::Ticker<Spike>>>,
}

impl kernel::Module for SpikeModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let work = KBox::pin_init(sys::Ticker::new(Spike::new()), GFP_KERNEL)?;
        work.start();
        Ok(Self { work })
    }
}

impl Drop for SpikeModule {
    fn drop(&mut self) {
        self.work.stop();
        self.work.turn().unload();
    }
}
