// SPDX-License-Identifier: MIT OR GPL-2.0
//! `/sys/kernel/debug/x86/rmpopt/`.

mod audit;
mod probes;
mod regions;
mod stats;
mod table;

use crate::driver::Driver;
use crate::sys::crew::Crew;
use crate::sys::files::Served;

/// Makes the files.
pub(crate) fn add(served: &Served<Crew<Driver>>) {
    let folder = served.folder();
    served.rows::<table::Table>(folder);
    served.rows::<audit::Audit>(folder);
    served.rows::<stats::Stats>(folder);
    served.rows::<regions::Regions>(folder);
    served.rows::<probes::Probes>(folder);
    #[cfg(emulate)]
    if served.hardware.emulated().is_some() {
        crate::emu::add_files(served);
    }
}
