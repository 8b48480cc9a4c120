// SPDX-License-Identifier: MIT OR GPL-2.0
//! `probes`: which of the kernel's functions are followed.

use core::fmt::{self, Write};

use kernel::prelude::*;

use crate::driver::Driver;
use crate::sys::crew::Crew;
use crate::sys::files::{Out, Rows};

pub(super) struct Probes;

impl Rows for Probes {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"probes";

    fn count(crew: &Crew<Driver>) -> u64 {
        crew.probes().len() as u64
    }

    /// `function attached|absent calls missed`.
    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let Some(probe) = crew.probes().get(row as usize) else { return Ok(()) };
        let name = probe.symbol().to_str().unwrap_or("?");
        let state = if probe.is_attached() { "attached" } else { "absent" };
        writeln!(out, "{name} {state} {} {}", probe.hits(), probe.missed())
    }
}
