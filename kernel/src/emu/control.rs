// SPDX-License-Identifier: MIT OR GPL-2.0
//! Commands of the file `emu/control`.
//!
//! ```text
//! snp-init                          SNP_INIT; then the driver is told
//! snp-down                          the driver is told; then SHUTDOWN_EX
//! fw-init, fw-down                  the same by the firmware's commands, as probes see them: the
//!                                   driver is not waited for
//! stopped                           the driver has stopped since fw-down; law 6
//! assign FIRST PAGES ASID [2m]      RMPUPDATE: pages (4K, or 2M) from page number FIRST on
//! share FIRST PAGES [2m]            RMPUPDATE: they are the hypervisor's again
//! decommission                      a guest's end (upstream's trigger)
//! optimise                          the operator's request, as an action of configfs
//! reset CORE                        a core that is away: SNP off, base 0, empty table
//! check                             law 1 in all regions
//! fault NAME TIMES                  drop-clear, stale-cache, blind-publish, skip-follower, no-memory
//!                                   (for offers), ud
//! fixup                             the instruction's exception table entry, by #UD and #GP, where
//!                                   that can be shown
//! ```

use core::sync::atomic::Ordering;

use kernel::interrupt::local_interrupt_disable;
use kernel::prelude::*;

use super::ask::{Ask, Request, SeededFault};
use super::pages::Pages;
use super::Emulated;
use crate::driver::{self, events, life, operator, Driver};
use crate::rmpopt_core::CoreId;
use crate::snp_defs::FirmwareCommand;
use crate::sys::crew::Crew;
use crate::sys::files::Commands;

/// `control`: what happens to the emulated host, a command a line.
pub(super) struct Control;

impl Commands for Control {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"control";

    fn write(crew: &Crew<Driver>, text: &[u8]) -> Result {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        text.lines().try_for_each(|line| command(crew, line))
    }
}

/// Does one line. An error has one line in the log, and means that nothing was done, except for
/// pages before the one that failed.
fn command(crew: &Crew<Driver>, line: &str) -> Result {
    let Some(emulated) = crew.hardware.emulated() else { return Err(ENODEV) };
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(()) };
    let done = match name {
        "snp-init" => snp_init(crew, emulated),
        "snp-down" => snp_down(crew, emulated),
        "fw-init" => fw_init(crew, emulated),
        "fw-down" => fw_down(crew, emulated),
        "stopped" => stopped(crew, emulated),
        "assign" => Pages::parse(&mut words, true).and_then(|pages| update(crew, emulated, &pages)),
        "share" => Pages::parse(&mut words, false).and_then(|pages| update(crew, emulated, &pages)),
        "reset" => reset(emulated, words.next()),
        "decommission" => {
            life::guest_decommissioned(crew);
            Ok(())
        }
        "optimise" => {
            operator::optimise(crew);
            Ok(())
        }
        "check" => {
            emulated.host.ask(Request::CheckAll);
            Ok(())
        }
        "fault" => fault(crew, emulated, words.next(), words.next()),
        "fixup" => fixup(),
        _ => Err(EINVAL),
    };
    let spare = words.next().is_some();
    if let Err(error) = done {
        pr_info!("emu/control: \"{line}\" failed ({error:?})\n");
        return Err(error);
    }
    if spare {
        pr_info!("emu/control: \"{line}\" has words to spare\n");
        return Err(EINVAL);
    }
    if emulated.host.is_broken() {
        return Err(BROKEN);
    }
    Ok(())
}

/// A law is broken: the step was done, but the script is not to go on.
const BROKEN: Error = EIO;

fn snp_init(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    let _turn = crew.turn.lock();
    emulated.host.asked(Request::Init)?;
    life::snp_initialised(crew);
    Ok(())
}

fn snp_down(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    let host = &emulated.host;
    if !host.is_up() {
        return Err(ENODEV);
    }
    let _turn = crew.turn.lock();
    life::snp_goes_down(crew)?;
    let executed = host.executed();
    host.asked(Request::Shutdown)?;
    let unclean = crew.unclean.load(Ordering::Relaxed);
    emulated.check_stopped(&crew.hardware.topology, executed, unclean);
    Ok(())
}

fn fw_init(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    if emulated.host.is_up() {
        return Err(EBUSY);
    }
    let init = || emulated.host.asked(Request::Init).map(|_| ());
    events::emulate(crew, FirmwareCommand::SNP_INIT_EX, init)?;
    events::emulate(crew, FirmwareCommand::SNP_DF_FLUSH, || Ok(()))
}

fn fw_down(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    let host = &emulated.host;
    if !host.is_up() {
        return Err(ENODEV);
    }
    events::emulate(crew, FirmwareCommand::SNP_SHUTDOWN_EX, || {
        // From here on none may be run, whatever the driver has still to do.
        emulated.at_shutdown.store(host.executed(), Ordering::SeqCst);
        host.asked(Request::Shutdown).map(|_| ())
    })
}

fn stopped(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    life::wait_for_the_end(crew)?;
    let executed = emulated.at_shutdown.load(Ordering::SeqCst);
    let unclean = crew.unclean.load(Ordering::Relaxed);
    emulated.check_stopped(&crew.hardware.topology, executed, unclean);
    emulated.host.ask(Request::CheckAll);
    Ok(())
}

/// RMPUPDATE page by page; after each, the region's mark, as a probe on its return would make it.
fn update(crew: &Crew<Driver>, emulated: &Emulated, pages: &Pages) -> Result {
    let mark = if pages.are_assigned() { driver::lost } else { driver::became_shared };
    pages.update(&emulated.host, |region| {
        if emulated.marks {
            mark(crew, region);
        }
    })
}

/// A core that is away went through a reset, as it does on its way back.
fn reset(emulated: &Emulated, core: Option<&str>) -> Result {
    let core = core.and_then(|word| word.parse().ok()).ok_or(EINVAL)?;
    let known = emulated.host.cores().any(|known| known == CoreId(core));
    if !known {
        return Err(EINVAL);
    }
    emulated.host.asked(Request::Reset { core }).map(|_| ())
}

fn fault(
    crew: &Crew<Driver>,
    emulated: &Emulated,
    name: Option<&str>,
    times: Option<&str>,
) -> Result {
    let times = times.and_then(|word| word.parse::<u32>().ok()).ok_or(EINVAL)?;
    let fault = match name {
        Some("skip-follower") => {
            crew.swallow.store(times, Ordering::SeqCst);
            return Ok(());
        }
        Some("no-memory") => {
            crew.starve.store(times, Ordering::SeqCst);
            return Ok(());
        }
        Some("drop-clear") => SeededFault::DropClear,
        Some("stale-cache") => SeededFault::StaleCache,
        Some("blind-publish") => SeededFault::BlindPublish,
        Some("ud") => SeededFault::UndefinedOpcode,
        _ => return Err(EINVAL),
    };
    emulated.host.asked(Request::Seed { fault, times }).map(|_| ())
}

/// Whether an exception in the instruction comes back as an error.
fn fixup() -> Result {
    let here = local_interrupt_disable();
    let shown = crate::sys::insn::prove_fixup(&here);
    drop(here);
    match shown {
        Some(true) => {
            pr_info!("an exception in RMPOPT comes back as an error\n");
            Ok(())
        }
        Some(false) => Err(EFAULT),
        None => Err(EOPNOTSUPP),
    }
}
