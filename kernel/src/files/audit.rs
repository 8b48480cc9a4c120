// SPDX-License-Identifier: MIT OR GPL-2.0
//! `audit`: the same text as `rmpopt-table`, but asked of the hardware (RMPOPT function 1).

use core::fmt;

use kernel::prelude::*;

use crate::driver::{asked, Driver};
use crate::rmpopt_core::table;
use crate::snp_defs::Region;
use crate::sys::crew::Crew;
use crate::sys::files::{Out, Rows};

pub(super) struct Audit;

impl Rows for Audit {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"audit";

    fn count(crew: &Crew<Driver>) -> u64 {
        u64::from(crew.hardware.memory.regions())
    }

    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(region) = u32::try_from(row).ok().and_then(Region::new) else { return Ok(()) };
        if row == 0 {
            asked::ask(crew);
        }
        let cpus = crew.hardware.topology.cpus();
        let having = cpus.filter(|&(_, core)| asked::has(crew, core, region));
        table::write_row(out, region, having.map(|(cpu, _)| cpu))
    }
}
