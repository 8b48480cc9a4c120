// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the kernel does to SNP and to the RMP, by probes on its functions.
//!
//! Marks are made on the *return* of an update that succeeded, so that they are never consumed before
//! the update is there (the invariant of `Activity`). SNP's life is noted in atomics and seen to by a
//! work item.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::prelude::*;

use super::{became_shared, life, lost, Driver};
use crate::rmpopt_core::Event;
use crate::snp_defs::{FirmwareCommand, Pfn, Region};
use crate::sys::crew::Crew;
use crate::sys::fprobe::Arguments;
use crate::sys::modules::{self, News};

/// A function that is probed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    /// A page becomes the hypervisor's.
    Share,
    /// A page becomes a guest's or the firmware's.
    Assign,
    /// A large page is split: its entries change, its owner does not.
    Split,
    /// A command to the firmware, SNP_INIT and SNP_SHUTDOWN among them.
    Firmware,
    /// SNP is shut down because the kernel panics.
    Panic,
    /// A guest's context goes.
    GuestEnd,
    /// Any virtual machine goes: shows that functions of kvm_amd are reached without SNP.
    #[cfg(emulate)]
    AnyEnd,
}

/// Where stand-ins for the kernel's own are.
#[cfg(emulate)]
const STAND_INS: &CStr = c"rmpopt_caller";

/// Where each is; `None`: in the kernel itself.
const FUNCTIONS: [(Function, Option<&CStr>); if cfg!(emulate) { 10 } else { 6 }] = [
    (Function::Share, None),
    (Function::Assign, None),
    (Function::Split, None),
    (Function::Firmware, Some(c"ccp")),
    (Function::Panic, Some(c"ccp")),
    (Function::GuestEnd, Some(c"kvm_amd")),
    #[cfg(emulate)]
    (Function::AnyEnd, Some(c"kvm_amd")),
    // Stand-ins for the kernel's own, which fail without SNP.
    #[cfg(emulate)]
    (Function::Share, Some(STAND_INS)),
    #[cfg(emulate)]
    (Function::Assign, Some(STAND_INS)),
    #[cfg(emulate)]
    (Function::Split, Some(STAND_INS)),
];

/// Their names, in the same order. (ccp's own functions for SNP's life are inlined in Debian's kernel;
/// all of them end in the one that sends commands.)
pub(super) const SYMBOLS: [&CStr; FUNCTIONS.len()] = [
    c"rmp_make_shared",
    c"rmp_make_private",
    c"psmash",
    c"__sev_do_cmd_locked",
    c"snp_shutdown_on_panic",
    c"snp_decommission_context",
    #[cfg(emulate)]
    c"sev_vm_destroy",
    #[cfg(emulate)]
    c"rmpopt_stand_in_shared",
    #[cfg(emulate)]
    c"rmpopt_stand_in_private",
    #[cfg(emulate)]
    c"rmpopt_stand_in_psmash",
];

/// Longest wait for RMPOPTs under way before the firmware shuts SNP down. One takes less than 1 ms.
const PATIENCE_NS: u64 = 10_000_000;

/// What probes have noted of SNP's life.
pub(crate) struct Noted {
    /// The firmware has done SNP_INIT, and the flush that must follow is still to come.
    built: AtomicBool,
    panics: AtomicBool,
    initialised: AtomicBool,
    going_down: AtomicBool,
    guests_ended: AtomicBool,
    /// Calls that probes missed and that have been made good.
    missed: AtomicU64,
}

impl Noted {
    pub(super) const fn new() -> Self {
        Self {
            built: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            initialised: AtomicBool::new(false),
            going_down: AtomicBool::new(false),
            guests_ended: AtomicBool::new(false),
            missed: AtomicU64::new(0),
        }
    }
}

fn function(number: usize) -> Option<Function> {
    FUNCTIONS.get(number).map(|(function, _)| *function)
}

/// Whether SNP's shutdown would be seen.
pub(super) fn sees_shutdown(crew: &Crew<Driver>) -> bool {
    let mut probes = crew.probes().iter().zip(FUNCTIONS);
    probes.any(|(probe, (function, _))| function == Function::Firmware && probe.is_attached())
}

/// Follows the kernel's functions. What cannot be attached is logged once. Without one of the kernel's
/// own, marks may be missing: then a few regions that are not optimised are verified each second, and
/// what is lost is found by the audit alone.
pub(crate) fn attach(crew: &Crew<Driver>) -> Result {
    crew.watch_modules()?;
    let mut all = is_followed(crew);
    for (probe, (_, module)) in crew.probes().iter().zip(FUNCTIONS) {
        // Looking for what is not there takes the kernel long.
        if module.is_some_and(|name| !modules::is_loaded(name)) {
            continue;
        }
        match probe.attach() {
            Ok(()) => {}
            // It is attached when its module comes.
            Err(error) if module.is_some() && error == ENOENT => {}
            // What could be followed must be: SNP's life is seen in no other way.
            Err(ENOMEM) => return Err(ENOMEM),
            Err(error) => {
                let name = probe.symbol().to_str().unwrap_or("?");
                pr_warn!("{name} cannot be followed ({error:?})\n");
                all = false;
            }
        }
    }
    if !all {
        sweep(crew);
    }
    Ok(())
}

fn is_followed(crew: &Crew<Driver>) -> bool {
    #[cfg(emulate)]
    return crew.hardware.emulated().is_none_or(|emulated| emulated.marks);
    #[cfg(not(emulate))]
    {
        let _ = crew;
        true
    }
}

/// Regions are looked at in turn from now on.
fn sweep(crew: &Crew<Driver>) {
    let rate = crate::module_parameters::sweep.value();
    let mut state = crew.state.lock();
    state.config.sweep_per_second = rate;
    let config = state.config;
    if let crate::plan::Plan::Tracked(policy) = &mut state.plan {
        policy.configure(crew.now(), config);
    }
    pr_warn!("not every change of the RMP is followed: {rate} regions are looked at each second\n");
}

/// A module comes: its functions are followed; or goes: they are let go.
pub(super) fn module(crew: &Crew<Driver>, name: &CStr, news: News) {
    for (probe, (_, module)) in crew.probes().iter().zip(FUNCTIONS) {
        if module != Some(name) {
            continue;
        }
        match news {
            // Also of those that were on their way when we began to listen.
            News::Coming | News::Live => {
                if let Err(error) = probe.attach() {
                    let name = probe.symbol().to_str().unwrap_or("?");
                    pr_warn!("{name} cannot be followed ({error:?})\n");
                }
            }
            News::Going => probe.detach(),
        }
    }
}

/// Whether what a function does concerns our hardware: the kernel's own change real RMPs, stand-ins
/// emulated ones.
fn counts(crew: &Crew<Driver>, number: usize) -> bool {
    let silicon = crew.hardware.is_silicon();
    #[cfg(emulate)]
    if FUNCTIONS.get(number).is_some_and(|(_, module)| *module == Some(STAND_INS)) {
        return !silicon;
    }
    let _ = number;
    silicon
}

/// A followed function was called. Anywhere, preemption off.
pub(super) fn called(crew: &Crew<Driver>, number: usize, arguments: Arguments) {
    if let (Some(function), true) = (function(number), counts(crew, number)) {
        begins(crew, function, arguments);
    }
}

/// It returned. Anywhere, preemption off.
pub(super) fn returned(crew: &Crew<Driver>, number: usize, arguments: Arguments, result: u64) {
    if let (Some(function), true) = (function(number), counts(crew, number)) {
        // An `int`; of PSMASH a result code: 0 is success in both.
        ends(crew, function, arguments, result as u32 == 0);
    }
}

fn begins(crew: &Crew<Driver>, function: Function, arguments: Arguments) {
    let [first, _] = arguments;
    match function {
        Function::Firmware if command(first) == FirmwareCommand::SNP_SHUTDOWN_EX => {
            going_down(crew);
        }
        Function::Panic => {
            // Nothing more is begun, and nothing more is touched.
            crew.stop.store(true, Ordering::SeqCst);
            crew.noted.panics.store(true, Ordering::SeqCst);
        }
        _ => {}
    }
}

fn ends(crew: &Crew<Driver>, function: Function, arguments: Arguments, succeeded: bool) {
    let [first, _] = arguments;
    let noted = &crew.noted;
    let region = || Pfn::new(first).map_or(Region::ZERO, Pfn::region);
    match function {
        _ if !succeeded => {}
        Function::Share => became_shared(crew, region()),
        Function::Assign | Function::Split => lost(crew, region()),
        Function::Firmware => match command(first) {
            FirmwareCommand::SNP_INIT | FirmwareCommand::SNP_INIT_EX => {
                noted.built.store(true, Ordering::SeqCst);
            }
            FirmwareCommand::SNP_DF_FLUSH if noted.built.swap(false, Ordering::SeqCst) => {
                noted.initialised.store(true, Ordering::SeqCst);
                crew.event();
            }
            _ => {}
        },
        Function::GuestEnd => {
            noted.guests_ended.store(true, Ordering::SeqCst);
            crew.event();
        }
        Function::Panic => {}
        #[cfg(emulate)]
        Function::AnyEnd => {}
    }
}

fn command(number: u64) -> FirmwareCommand {
    FirmwareCommand(number as u32)
}

/// The firmware is about to clear SNP_EN: no RMPOPT begins any more, and those under way are waited
/// for here, with interrupts on and a limit. They hold no lock and wait for nobody.
fn going_down(crew: &Crew<Driver>) {
    let noted = &crew.noted;
    if noted.panics.load(Ordering::SeqCst) {
        return;
    }
    // An SNP_INIT that was not seen to is over. `going_down` before `stop`: see `is_going_down`.
    noted.initialised.store(false, Ordering::SeqCst);
    noted.going_down.store(true, Ordering::SeqCst);
    crew.stop.store(true, Ordering::SeqCst);
    crew.event();
    let begun = crew.now();
    while crew.running.load(Ordering::SeqCst) > 0 && crew.now().since(begun) < PATIENCE_NS {
        core::hint::spin_loop();
    }
}

/// What the kernel's calls would be for the emulated firmware: so that SNP's life can be followed
/// without its hardware.
#[cfg(emulate)]
pub(crate) fn emulate(
    crew: &Crew<Driver>,
    command: FirmwareCommand,
    run: impl FnOnce() -> Result,
) -> Result {
    let arguments = [u64::from(command.0), 0];
    begins(crew, Function::Firmware, arguments);
    let done = run();
    ends(crew, Function::Firmware, arguments, done.is_ok());
    done
}

/// Whether SNP is on its way down and that was not seen to yet. Who takes `stop` back asks this
/// afterwards: if `stop` was set before, so was this.
pub(super) fn is_going_down(crew: &Crew<Driver>) -> bool {
    crew.noted.going_down.load(Ordering::SeqCst)
}

/// Sees to what was noted.
pub(super) fn see_to(crew: &Crew<Driver>) {
    let noted = &crew.noted;
    let _turn = crew.turn.lock();
    if noted.going_down.swap(false, Ordering::SeqCst) {
        // The error is in the log.
        let _ = life::snp_goes_down(crew);
    }
    if noted.initialised.swap(false, Ordering::SeqCst) {
        life::snp_initialised(crew);
    }
    if noted.guests_ended.swap(false, Ordering::SeqCst) {
        life::guest_decommissioned(crew);
    }
}

/// Whether probes missed a call since this was last asked: then marks may be missing.
pub(super) fn evidence_is_lost(crew: &Crew<Driver>) -> Option<Event<'static>> {
    let sum = |sum: u64, missed: u64| sum.wrapping_add(missed);
    let missed = crew.probes().iter().map(|probe| probe.missed()).fold(0, sum);
    let before = crew.noted.missed.swap(missed, Ordering::SeqCst);
    (missed != before).then_some(Event::EvidenceLost)
}
