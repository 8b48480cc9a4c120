// SPDX-License-Identifier: MIT OR GPL-2.0
//! Shows that the floors shared with user space live in a kernel module.

use kernel::prelude::*;

#[path = "../../crates/snp-defs/src/snp_defs/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_defs;

module! {
    type: Spike,
    name: "rmpopt_spike",
    authors: ["rmpopt"],
    description: "The RMPOPT control plane driven by a kernel's clock and timers",
    license: "Dual MIT/GPL",
}

struct Spike;

impl kernel::Module for Spike {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pr_info!(
            "regions of {} MiB, {} RMP entries each\n",
            snp_defs::REGION_BYTES >> 20,
            snp_defs::PAGES_PER_REGION
        );
        pr_info!("OK actions=0\n");
        Ok(Self)
    }
}

impl Drop for Spike {
    fn drop(&mut self) {
        pr_info!("gone\n");
    }
}
