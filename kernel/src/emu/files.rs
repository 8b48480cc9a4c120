// SPDX-License-Identifier: MIT OR GPL-2.0
//! The emulated hardware's side of things, as files.

use core::fmt::{self, Write};
use core::marker::PhantomData;

use kernel::prelude::*;

use super::ask::{Ask, LAWS};
use crate::rmpopt_core::{table, CoreId};
use crate::snp_defs::Region;
use crate::sys::files::{Folder, Out, Rows, Served};
use crate::topology::Topology;

/// Whoever shows an emulated host.
pub(crate) trait Shows: Sync + 'static {
    /// The host, if there is one.
    fn host(&self) -> Option<&impl Ask>;
    /// The CPUs of its cores.
    fn topology(&self) -> &Topology;
}

/// Makes the files.
pub(crate) fn add<D: Shows>(served: &Served<D>, folder: Folder) {
    served.rows::<Table<D>>(folder);
    served.rows::<Cores<D>>(folder);
    served.rows::<Laws<D>>(folder);
}

/// `table`: the bits that the emulated tables really hold, as upstream's text.
struct Table<D>(PhantomData<D>);

impl<D: Shows> Rows for Table<D> {
    type Data = D;
    const NAME: &'static CStr = c"table";

    fn count(data: &D) -> u64 {
        data.host().map_or(0, |host| u64::from(host.regions()))
    }

    fn row(data: &D, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(region) = u32::try_from(row).ok().and_then(Region::new) else { return Ok(()) };
        let Some(host) = data.host() else { return Ok(()) };
        let having = data.topology().cpus().filter(|&(_, core)| host.is_optimised(core, region));
        table::write_row(out, region, having.map(|(cpu, _)| cpu))
    }
}

/// `laws`: `law.N.checks` and `law.N.breaches`, and how many RMPOPTs were run.
struct Laws<D>(PhantomData<D>);

impl<D: Shows> Rows for Laws<D> {
    type Data = D;
    const NAME: &'static CStr = c"laws";

    fn count(_: &D) -> u64 {
        1
    }

    fn row(data: &D, _: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(host) = data.host() else { return Ok(()) };
        for number in LAWS {
            writeln!(out, "law.{number}.checks {}", host.law(number, false))?;
            writeln!(out, "law.{number}.breaches {}", host.law(number, true))?;
        }
        writeln!(out, "executed {}", host.executed())
    }
}

/// `cores`: what each core's registers hold.
struct Cores<D>(PhantomData<D>);

impl<D: Shows> Rows for Cores<D> {
    type Data = D;
    const NAME: &'static CStr = c"cores";

    fn count(data: &D) -> u64 {
        u64::from(data.topology().cores())
    }

    fn row(data: &D, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(host) = data.host() else { return Ok(()) };
        let core = CoreId(row as u16);
        let (base, snp_en) = (host.read_base(core), u8::from(host.snp_en(core)));
        writeln!(out, "core {core} snp_en {snp_en} base {base:#x}")
    }
}
