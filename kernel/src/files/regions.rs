// SPDX-License-Identifier: MIT OR GPL-2.0
//! `regions`: how far the driver is with each region, and how old its belief is.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use kernel::prelude::*;

use crate::driver::{Driver, Life};
use crate::rmpopt_core::{CoreId, MILLISECOND};
use crate::snp_defs::Region;
use crate::sys::crew::Crew;
use crate::sys::files::{Out, Rows};

pub(super) struct Regions;

impl Rows for Regions {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"regions";

    fn count(crew: &Crew<Driver>) -> u64 {
        u64::from(crew.hardware.memory.regions()).saturating_add(1)
    }

    /// A head, then `region ram_mib clean|unknown cores` each.
    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let state = crew.state.lock();
        let Some(number) = row.checked_sub(1) else {
            let age_ms = crew.now().since(state.changed) / MILLISECOND;
            let policy = state.plan.seen();
            let life = match state.life {
                _ if crew.killed.load(Ordering::SeqCst) => "killed",
                Life::Runs if crew.paused.load(Ordering::SeqCst) => "paused",
                Life::Stopped => "stopped",
                Life::Runs => "runs",
                Life::Quiescing => "stops",
            };
            let first = if policy.first_pass_over() { "over" } else { "under way" };
            return writeln!(
                out,
                "# policy {}, {life}, first pass {first}, last change {age_ms} ms ago",
                policy.name()
            );
        };
        let Some(region) = u32::try_from(number).ok().and_then(Region::new) else { return Ok(()) };
        let cores = (0..crew.hardware.topology.cores()).map(CoreId);
        let has = |core| u32::from(state.plan.believes(core, region));
        let having = cores.fold(0u32, |sum, core| sum.saturating_add(has(core)));
        let clean = if state.plan.is_clean(region) { "clean" } else { "unknown" };
        writeln!(out, "{number} {} {clean} {having}", crew.hardware.memory.mib(region))
    }
}
