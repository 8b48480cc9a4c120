// SPDX-License-Identifier: MIT OR GPL-2.0
//! `stats`: one `key value` a line; the counters' names and order are those of the JSON of a run.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use kernel::prelude::*;

use crate::counts::KEPT;
use crate::driver::Driver;
use crate::snp_defs::Counter;
use crate::sys::crew::Crew;
use crate::sys::files::{Out, Rows};

pub(super) struct Stats;

/// Rows after the counters.
const MORE: u64 = 6;

impl Rows for Stats {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"stats";

    fn count(_: &Crew<Driver>) -> u64 {
        (KEPT.len() as u64).saturating_add(MORE)
    }

    fn row(crew: &Crew<Driver>, row: u64, out: &mut Out<'_>) -> fmt::Result {
        let counter = usize::try_from(row).ok().and_then(|row| KEPT.get(row).copied());
        if let Some(counter) = counter {
            let value = match counter {
                Counter::ResultsStale => crew.state.lock().plan.stats().stale,
                Counter::AuditsFailed => crew.state.lock().plan.stats().audit_failures,
                counter => crew.counts.get(counter),
            };
            return writeln!(out, "{counter} {value}");
        }
        match row.saturating_sub(KEPT.len() as u64) {
            0 => writeln!(out, "contradicted {}", crew.state.lock().plan.stats().contradicted),
            1 => writeln!(out, "hold.longest_ns {}", crew.longest_hold_ns.load(Ordering::Relaxed)),
            2 => writeln!(out, "holds.ridden {}", crew.holds_ridden.load(Ordering::Relaxed)),
            3 => writeln!(out, "holds.woken {}", crew.holds_woken.load(Ordering::Relaxed)),
            4 => writeln!(out, "faults {}", crew.faults.load(Ordering::Relaxed)),
            _ => writeln!(out, "unclean {}", crew.unclean.load(Ordering::Relaxed)),
        }
    }
}
