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
//! check                             law 1 in all regions
//! fault NAME TIMES                  drop-clear, stale-cache, blind-publish, skip-follower, ud
//! rmp-make-shared PAGE              calls the kernel's function of this name, which fails without SNP
//! time-conversions CALLS            what the probe on `rmp_make_shared` costs, to the log
//! fixup                             the instruction's exception table entry, where it can be shown
//! ```

use core::sync::atomic::Ordering;

use kernel::interrupt::local_interrupt_disable;
use kernel::prelude::*;

use super::Emulated;
use crate::driver::{self, events, life, operator, Driver};
use crate::snp_defs::{FirmwareCommand, Gpa, PageSize, Pfn, Region, RmpOperand};
use crate::snp_model::{CoreId, Fault, PfnRange};
use crate::sys::crew::Crew;

/// Does one line. An error has one line in the log, and means that nothing was done, except for
/// pages before the one that failed.
pub(super) fn command(crew: &Crew<Driver>, line: &str) -> Result {
    let Some(emulated) = crew.hardware.emulated() else { return Err(ENODEV) };
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(()) };
    let done = match name {
        "snp-init" => snp_init(crew, emulated),
        "snp-down" => snp_down(crew, emulated),
        "fw-init" => fw_init(crew, emulated),
        "fw-down" => fw_down(crew, emulated),
        "stopped" => stopped(crew, emulated),
        "assign" => Pages::parse(&mut words, true).and_then(|pages| assign(crew, emulated, &pages)),
        "share" => Pages::parse(&mut words, false).and_then(|pages| share(crew, emulated, &pages)),
        "decommission" => {
            life::guest_decommissioned(crew);
            Ok(())
        }
        "optimise" => {
            operator::optimise(crew);
            Ok(())
        }
        "check" => {
            emulated.check_all();
            Ok(())
        }
        "fault" => fault(crew, emulated, words.next(), words.next()),
        "rmp-make-shared" => rmp_make_shared(words.next()),
        "time-conversions" => time_conversions(crew, words.next()),
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
    if emulated.laws.is_broken() {
        return Err(BROKEN);
    }
    Ok(())
}

/// A law is broken: the step was done, but the script is not to go on.
const BROKEN: Error = EIO;

fn snp_init(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    let silicon = &emulated.silicon;
    if silicon.is_initialised() {
        return Err(EBUSY);
    }
    let _turn = crew.turn.lock();
    super::initialise(silicon)?;
    life::snp_initialised(crew);
    Ok(())
}

fn snp_down(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    if !emulated.silicon.is_initialised() {
        return Err(ENODEV);
    }
    let _turn = crew.turn.lock();
    life::snp_goes_down(crew)?;
    let executed = emulated.executed.load(Ordering::SeqCst);
    emulated.silicon.snp_shutdown(true, &[]);
    let unclean = crew.unclean.load(Ordering::Relaxed);
    emulated.check_stopped(&crew.hardware.topology, executed, unclean);
    Ok(())
}

fn fw_init(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    if emulated.silicon.is_initialised() {
        return Err(EBUSY);
    }
    let init = || super::initialise(&emulated.silicon);
    events::emulate(crew, FirmwareCommand::SNP_INIT_EX, init)?;
    events::emulate(crew, FirmwareCommand::SNP_DF_FLUSH, || Ok(()))
}

fn fw_down(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    if !emulated.silicon.is_initialised() {
        return Err(ENODEV);
    }
    events::emulate(crew, FirmwareCommand::SNP_SHUTDOWN_EX, || {
        // From here on none may be run, whatever the driver has still to do.
        let executed = emulated.executed.load(Ordering::SeqCst);
        emulated.at_shutdown.store(executed, Ordering::SeqCst);
        emulated.silicon.snp_shutdown(true, &[]);
        Ok(())
    })
}

fn stopped(crew: &Crew<Driver>, emulated: &Emulated) -> Result {
    life::wait_for_the_end(crew)?;
    let executed = emulated.at_shutdown.load(Ordering::SeqCst);
    let unclean = crew.unclean.load(Ordering::Relaxed);
    emulated.check_stopped(&crew.hardware.topology, executed, unclean);
    emulated.check_all();
    Ok(())
}

/// Pages of one size.
struct Pages {
    first: Pfn,
    count: u64,
    size: PageSize,
    asid: u32,
}

impl Pages {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>, owned: bool) -> Result<Self> {
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or(EINVAL);
        let first = Pfn::new(number()?).ok_or(EINVAL)?;
        let count = number()?;
        let asid = if owned { u32::try_from(number()?).map_err(|_| EINVAL)? } else { 0 };
        let size = match words.next() {
            None => PageSize::Size4K,
            Some("2m") => PageSize::Size2M,
            Some(_) => return Err(EINVAL),
        };
        Ok(Self { first, count, size, asid })
    }

    /// Each page's number.
    fn each(&self) -> impl Iterator<Item = Pfn> + '_ {
        let pages = self.size.pages();
        (0..self.count).filter_map(move |index| self.first.checked_add(index.wrapping_mul(pages)))
    }
}

/// RMPUPDATE page by page; after each, the region's mark, as a probe on its return would make it.
fn update(
    crew: &Crew<Driver>,
    emulated: &Emulated,
    pages: &Pages,
    operand: impl Fn(Pfn) -> RmpOperand,
    mark: fn(&Crew<Driver>, Region),
) -> Result {
    let all = pages.count.checked_mul(pages.size.pages()).ok_or(EINVAL)?;
    emulated.silicon.reserve_pages(PfnRange::new(pages.first, all)).map_err(|_| ENOMEM)?;
    let mut checked = None;
    for pfn in pages.each() {
        let update = emulated.silicon.rmpupdate(CoreId(0), pfn.spa(), &operand(pfn));
        if !update.map_err(|_| EFAULT)?.status.is_success() {
            return Err(EPERM);
        }
        if emulated.marks {
            mark(crew, pfn.region());
        }
        if checked != Some(pfn.region()) {
            checked = Some(pfn.region());
            emulated.check_region(pfn.region());
        }
        crate::sys::cpu::let_others_run();
    }
    Ok(())
}

fn assign(crew: &Crew<Driver>, emulated: &Emulated, pages: &Pages) -> Result {
    let operand = |pfn: Pfn| {
        let gpa = Gpa::new(pfn.spa().get()).unwrap_or(Gpa::ZERO);
        RmpOperand::private(gpa, pages.size, pages.asid, false)
    };
    update(crew, emulated, pages, operand, driver::lost)
}

fn share(crew: &Crew<Driver>, emulated: &Emulated, pages: &Pages) -> Result {
    update(crew, emulated, pages, |_| RmpOperand::shared(pages.size), driver::became_shared)
}

fn fault(
    crew: &Crew<Driver>,
    emulated: &Emulated,
    name: Option<&str>,
    times: Option<&str>,
) -> Result {
    let times = times.and_then(|word| word.parse::<u32>().ok()).ok_or(EINVAL)?;
    let faults = emulated.silicon.unit().faults();
    match name {
        Some("drop-clear") => faults.seed(Fault::DropClear, times),
        Some("stale-cache") => faults.seed(Fault::StaleCache, times),
        Some("blind-publish") => faults.seed(Fault::BlindPublish, times),
        Some("skip-follower") => crew.swallow.store(times, Ordering::SeqCst),
        Some("ud") => emulated.seeded_ud.store(times, Ordering::SeqCst),
        _ => return Err(EINVAL),
    }
    Ok(())
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

/// Calls `rmp_make_shared`, to see that the probe on it is reached. Without SNP it gives `ENODEV` and
/// does nothing, and with SNP we are not here.
fn rmp_make_shared(page: Option<&str>) -> Result {
    let page = page.and_then(|word| word.parse().ok()).ok_or(EINVAL)?;
    match crate::sys::symbol::rmp_make_shared(page) {
        Some(-19) => Ok(()),
        Some(_) => Err(EFAULT),
        None => Err(EOPNOTSUPP),
    }
}

/// How long calls of `rmp_make_shared` take with the probe on it and without, in turns; what is least
/// disturbed, the shortest of ten turns, counts.
fn time_conversions(crew: &Crew<Driver>, calls: Option<&str>) -> Result {
    let calls = calls.and_then(|word| word.parse::<u64>().ok()).filter(|&n| n > 0).ok_or(EINVAL)?;
    let Some(probe) = crew.probes().iter().find(|probe| probe.symbol() == c"rmp_make_shared")
    else {
        return Err(ENODEV);
    };
    let turn = || -> Result<u64> {
        let begun = crew.now();
        for _ in 0..calls {
            crate::sys::symbol::rmp_make_shared(0).ok_or(EOPNOTSUPP)?;
        }
        Ok(crew.now().since(begun) / calls)
    };
    let (mut with, mut without) = (u64::MAX, u64::MAX);
    for _ in 0..10 {
        with = with.min(turn()?);
        probe.detach();
        without = without.min(turn()?);
        probe.attach()?;
        crate::sys::cpu::let_others_run();
    }
    pr_info!(
        "a call of rmp_make_shared: {with} ns followed, {without} ns not followed (EMULATED)\n"
    );
    Ok(())
}
