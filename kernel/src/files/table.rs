// SPDX-License-Identifier: MIT OR GPL-2.0
//! `rmpopt-table`: upstream's text, from what the driver believes.
//!
//! Upstream's file interrupts every CPU once per row; reading this one interrupts nobody. How old
//! the belief is stands in `regions`.

use core::fmt;

use kernel::prelude::*;

use crate::driver::Driver;
use crate::rmpopt_core::table;
use crate::snp_defs::Region;
use crate::sys::crew::Crew;
use crate::sys::files::{Out, Rows};

pub(super) struct Table;

impl Rows for Table {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"rmpopt-table";

    fn count(crew: &Crew<Driver>) -> u64 {
        u64::from(crew.hardware.memory.regions())
    }

    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(region) = u32::try_from(row).ok().and_then(Region::new) else { return Ok(()) };
        let state = crew.state.lock();
        let cpus = crew.hardware.topology.cpus();
        let having = cpus.filter(|&(_, core)| state.plan.believes(core, region));
        table::write_row(out, region, having.map(|(cpu, _)| cpu))
    }
}
