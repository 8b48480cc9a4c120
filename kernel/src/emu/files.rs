// SPDX-License-Identifier: MIT OR GPL-2.0
//! `emu/`: the emulated hardware's side of things.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use kernel::prelude::*;

use super::{control, model};
use crate::driver::Driver;
use crate::rmpopt_core::{table, CoreId};
use crate::snp_defs::Region;
use crate::sys::crew::Crew;
use crate::sys::files::{Commands, Out, Rows, Served};

pub(crate) fn add(served: &Served<Crew<Driver>>) {
    let folder = served.sub_folder(c"emu");
    served.commands::<Control>(folder);
    served.rows::<Table>(folder);
    served.rows::<Cores>(folder);
    served.rows::<Laws>(folder);
}

/// `control`: what happens to the emulated host, a command a line.
struct Control;

impl Commands for Control {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"control";

    fn write(crew: &Crew<Driver>, text: &[u8]) -> Result {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        text.lines().try_for_each(|line| control::command(crew, line))
    }
}

/// `table`: the bits that the emulated tables really hold, as upstream's text.
struct Table;

impl Rows for Table {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"table";

    fn count(crew: &Crew<Driver>) -> u64 {
        u64::from(crew.hardware.memory.regions())
    }

    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(region) = u32::try_from(row).ok().and_then(Region::new) else { return Ok(()) };
        let Some(emulated) = crew.hardware.emulated() else { return Ok(()) };
        let unit = emulated.silicon.unit();
        let cpus = crew.hardware.topology.cpus();
        let having = cpus.filter(|&(_, core)| unit.is_optimised(model(core), region));
        table::write_row(out, region, having.map(|(cpu, _)| cpu))
    }
}

/// `laws`: `law.N.checks` and `law.N.breaches`.
struct Laws;

impl Rows for Laws {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"laws";

    fn count(_: &Crew<Driver>) -> u64 {
        1
    }

    fn row(crew: &Crew<Driver>, _: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(emulated) = crew.hardware.emulated() else { return Ok(()) };
        for law in emulated.laws.all() {
            let (checks, breaches) =
                (law.checks.load(Ordering::Relaxed), law.breaches.load(Ordering::Relaxed));
            writeln!(out, "law.{}.checks {checks}", law.number)?;
            writeln!(out, "law.{}.breaches {breaches}", law.number)?;
        }
        Ok(())
    }
}

/// `cores`: what each core's registers hold.
struct Cores;

impl Rows for Cores {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"cores";

    fn count(crew: &Crew<Driver>) -> u64 {
        u64::from(crew.hardware.topology.cores())
    }

    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(emulated) = crew.hardware.emulated() else { return Ok(()) };
        let core = CoreId(row as u16);
        let (base, snp_en) = (
            emulated.silicon.rdmsr_rmpopt_base(model(core)),
            u8::from(emulated.silicon.unit().snp_en(model(core))),
        );
        writeln!(out, "core {core} snp_en {snp_en} base {base:#x}")
    }
}
