// SPDX-License-Identifier: MIT OR GPL-2.0
//! configfs `rmpopt/`: v1's `action` and `description` (spec/rmpopt.md 4), what stops and restrains the
//! driver, and its numbers.
//!
//! A file that is open does not keep the module in place; once the module goes, using it is an error
//! (`ENOENT`). Writes that are under way are waited for.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::driver::{operator, Driver};
use crate::rmpopt_core::table;
use crate::sys::configfs::{self, File, Files, Texts};
use crate::sys::crew::Crew;
use crate::sys::files::Served;
use crate::tunables::TUNABLES;

/// What the files are about.
pub(crate) struct Settings(Arc<Crew<Driver>>);

/// The folder; it goes when this is dropped.
pub(crate) type Folder = configfs::Folder<Settings>;

/// Where a file's text goes.
struct Page<'a> {
    bytes: &'a mut [u8; PAGE_SIZE],
    used: usize,
}

impl Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used.checked_add(text.len()).ok_or(fmt::Error)?;
        let place = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        for (to, from) in place.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        self.used = end;
        Ok(())
    }
}

/// Files before the numbers.
const ACTION: usize = 0;
const DESCRIPTION: usize = 1;
const PAUSE: usize = 2;
const KILL: usize = 3;
const CPUS: usize = 4;
const LEADERS: usize = 5;
const FIRST_NUMBER: usize = 6;

impl Settings {
    fn show_file(&self, file: usize, out: &mut dyn Write) -> fmt::Result {
        let crew = &*self.0;
        match file {
            ACTION => {
                let busy = if operator::is_busy(crew) { "Yes" } else { "No" };
                writeln!(out, "RMP optimization in progress: {busy}")
            }
            DESCRIPTION => {
                out.write_str("[RMPOPT]\n\necho 1 > action to perform RMP optimization.\n")
            }
            PAUSE => writeln!(out, "{}", u8::from(crew.paused.load(Ordering::SeqCst))),
            KILL => writeln!(out, "{}", u8::from(crew.killed.load(Ordering::SeqCst))),
            CPUS => crew.masks.work.write(out).and_then(|()| out.write_char('\n')),
            LEADERS => crew.masks.lead.write(out).and_then(|()| out.write_char('\n')),
            number => {
                let tunable = TUNABLES.get(number.wrapping_sub(FIRST_NUMBER)).ok_or(fmt::Error)?;
                writeln!(out, "{}", tunable.get(crew.state.lock().config))
            }
        }
    }

    fn store_file(&self, file: usize, text: &[u8]) -> Result {
        let crew = &*self.0;
        let text = core::str::from_utf8(text.trim_ascii()).map_err(|_| EINVAL)?;
        match file {
            ACTION => match table::read_number(text.as_bytes()) {
                // A pass that is under way is not begun twice.
                Some(1) if !operator::is_busy(crew) => operator::optimise(crew),
                Some(1) => {}
                _ => return Err(EINVAL),
            },
            PAUSE => operator::pause(crew, flag(text)?),
            KILL if flag(text)? => operator::kill(crew),
            KILL => operator::revive(crew),
            CPUS => operator::set_cpus(crew, text)?,
            LEADERS => operator::set_leaders(crew, text)?,
            number => {
                let tunable = TUNABLES.get(number.wrapping_sub(FIRST_NUMBER)).ok_or(EINVAL)?;
                operator::tune(crew, *tunable, text)?;
            }
        }
        Ok(())
    }
}

fn flag(text: &str) -> Result<bool> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(EINVAL),
    }
}

impl Texts for Settings {
    fn show(&self, file: usize, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        let mut page = Page { bytes: page, used: 0 };
        self.show_file(file, &mut page).map_err(|_| EOVERFLOW)?;
        Ok(page.used)
    }

    fn store(&self, file: usize, text: &[u8]) -> Result {
        self.store_file(file, text)
    }
}

const READ: bool = false;
const WRITTEN: bool = true;

/// By number; the last are in the order of `TUNABLES`.
static ALL: [File<Settings>; 17] = [
    File::new::<ACTION>(c"action", WRITTEN),
    File::new::<DESCRIPTION>(c"description", READ),
    File::new::<PAUSE>(c"pause", WRITTEN),
    File::new::<KILL>(c"kill", WRITTEN),
    File::new::<CPUS>(c"cpus", WRITTEN),
    File::new::<LEADERS>(c"leaders", WRITTEN),
    File::new::<6>(c"delay_ms", WRITTEN),
    File::new::<7>(c"bound_ms", WRITTEN),
    File::new::<8>(c"merge_ms", WRITTEN),
    File::new::<9>(c"follow_ms", WRITTEN),
    File::new::<10>(c"tick_ms", WRITTEN),
    File::new::<11>(c"hold_us", WRITTEN),
    File::new::<12>(c"slow_us", WRITTEN),
    File::new::<13>(c"followers", WRITTEN),
    File::new::<14>(c"audit_ms", WRITTEN),
    File::new::<15>(c"cap_ms", WRITTEN),
    File::new::<16>(c"sweep", WRITTEN),
];

static FILES: Files<Settings, 18> = Files::new(&ALL);

/// Makes the folder.
pub(crate) fn add(served: &Served<Crew<Driver>>) -> Result<Folder> {
    Folder::new(c"rmpopt", &FILES, Settings(served.shared()))
}
