// SPDX-License-Identifier: MIT OR GPL-2.0
//! From SNP_INIT to SNP's going down, and the module's own end.

#[cfg(emulate)]
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;

use kernel::prelude::*;
use kernel::time::msecs_to_jiffies;

use super::perform;
use super::{Driver, Life};
use crate::hardware::CoreState;
use crate::rmpopt_core::{CoreId, Event, Time};
use crate::snp_defs::{Counter, RmpoptBase};
use crate::sys::cpu::Fixed;
use crate::sys::crew::Crew;

/// How long the end may take before it is logged that it takes long, in milliseconds.
const PATIENCE_MS: u32 = 10_000;

/// The module is loaded: what happens to SNP is listened for from here on.
pub(crate) fn begin(crew: &Crew<Driver>) -> Result {
    if crew.hardware.is_silicon() && !crate::module_parameters::silicon.value() {
        pr_err!(
            "not loaded: this host can use RMPOPT, but this module has never met such hardware; \
             silicon=1 loads it all the same\n"
        );
        return Err(EOPNOTSUPP);
    }
    crew.watch_machine()?;
    super::events::attach(crew)?;
    crew.watch_cpus()?;
    if let Some(core) = the_first(crew, |read| !read.snp_en) {
        pr_debug!("SNP is off on core {}\n", core.0);
        return Ok(());
    }
    if crew.hardware.is_silicon() && !super::events::sees_shutdown(crew) {
        pr_err!("not loaded: SNP is up, and its shutdown could not be followed\n");
        return Err(EOPNOTSUPP);
    }
    // SNP is up already, whether we have a part in it or wait.
    fix_cpus(crew, true);
    // What an earlier driver left may be kept if it is just what we would write. One that was cut short
    // has left some cores at 0, and those can still be written.
    let left = the_first(crew, |read| read.base != Some(RmpoptBase::OFF));
    let other = (0..crew.hardware.topology.cores()).map(CoreId).find(|&core| {
        let ours = RmpoptBase::enabled_at(crew.state.lock().plan.base(&crew.place(), core));
        let known = [Some(ours), Some(RmpoptBase::OFF)];
        crew.read(core).is_some_and(|read| !known.contains(&read.base))
    });
    let adopt = crate::module_parameters::adopt.value();
    match (left, other) {
        (None, _) => snp_initialised(crew),
        (Some(_), None) if adopt => {
            pr_info!("adopts the bases that an earlier driver left\n");
            snp_initialised(crew);
        }
        (Some(core), _) => pr_warn!(
            "RMPOPT_BASE is not 0 on core {}: an earlier driver's. Waits for the next SNP_INIT; \
             adopt=1 goes on with the same base\n",
            core.0
        ),
    }
    Ok(())
}

/// The first core that can be asked and of which this holds.
fn the_first(crew: &Crew<Driver>, like: impl Fn(CoreState) -> bool) -> Option<CoreId> {
    let mut cores = (0..crew.hardware.topology.cores()).map(CoreId);
    cores.find(|&core| crew.read(core).is_some_and(&like))
}

/// SNP_INIT has ended: all tables are empty, nothing that was believed holds.
pub(crate) fn snp_initialised(crew: &Crew<Driver>) {
    fix_cpus(crew, true);
    crew.none_written();
    crew.up.store(true, Ordering::SeqCst);
    crew.counts.one(Counter::SnpInits);
    pr_info!(
        "SNP is initialised: {} regions on {} cores\n",
        crew.hardware.memory.regions(),
        crew.hardware.topology.cores()
    );
    go_on(crew);
}

/// The policy begins if SNP is up and the operator has not stopped everything.
pub(super) fn go_on(crew: &Crew<Driver>) {
    if !crew.up.load(Ordering::SeqCst) || crew.killed.load(Ordering::SeqCst) {
        return;
    }
    let mut state = crew.state.lock();
    // Marks from before say nothing of the RMP that was just built.
    crew.activity.drain(|_| {});
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        crew.enable(core, false);
    }
    crew.stop.store(false, Ordering::SeqCst);
    if super::events::is_going_down(crew) || crew.killed.load(Ordering::SeqCst) {
        // No core is enabled yet, so that none ran RMPOPT in between.
        crew.stop.store(true, Ordering::SeqCst);
    }
    state.life = Life::Runs;
    state.timer = Time::NEVER;
    state.first_pass_logged = false;
    state.pass_open = false;
    super::cpus::choose_leaders(crew, &mut state);
    perform::tell(crew, &mut state, Event::SnpInitialised(&crew.place()));
}

/// SNP is about to go down: returns when no RMPOPT runs and none will, and the bases are 0.
pub(crate) fn snp_goes_down(crew: &Crew<Driver>) -> Result {
    crew.stop.store(true, Ordering::SeqCst);
    crew.up.store(false, Ordering::SeqCst);
    super::cpus::count_masked(crew);
    let ended = end(crew, Event::SnpGoingDown);
    clear_what_was_left(crew);
    fix_cpus(crew, false);
    ended?;
    pr_info!("SNP goes down: stopped\n");
    Ok(())
}

/// The bases of an earlier driver that the policy knows nothing of.
fn clear_what_was_left(crew: &Crew<Driver>) {
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        let (Some(cpu), Some(read)) = (crew.any_cpu_of(core), crew.read(core)) else { continue };
        if read.base != Some(RmpoptBase::OFF) {
            crew.hardware.write_base(cpu, core, RmpoptBase::OFF);
        }
    }
}

/// The module goes. Base and enable bit of each core stay as they are if SNP is up.
pub(crate) fn unload(crew: &Crew<Driver>) {
    crew.forget_events();
    crew.forget_cpus();
    stop_for_good(crew);
    // The error is in the log; dropping the crew cancels what is left.
    let _ = end(crew, Event::Unload);
    fix_cpus(crew, false);
}

/// From here on no RMPOPT begins, whatever is noted of SNP.
fn stop_for_good(crew: &Crew<Driver>) {
    crew.killed.store(true, Ordering::SeqCst);
    crew.stop.store(true, Ordering::SeqCst);
}

/// The machine reboots or starts another kernel: nothing runs any more. The firmware's own shutdown
/// is ccp's to ask for.
pub(super) fn machine_goes_down(crew: &Crew<Driver>) {
    stop_for_good(crew);
    let ended = end(crew, Event::Unload);
    fix_cpus(crew, false);
    pr_info!("the machine goes down: {}\n", if ended.is_ok() { "stopped" } else { "not stopped" });
}

/// Sleep takes SNP_EN away, and RMPOPT's tables with it; also where the driver waits for the next
/// SNP_INIT.
pub(super) fn may_sleep(crew: &Crew<Driver>) -> bool {
    let may = the_first(crew, |read| read.snp_en).is_none();
    if !may {
        pr_warn!("the machine cannot sleep while SNP is up\n");
    }
    may
}

/// CPU hotplug is disabled while SNP is up, as upstream decided; tests of the handler leave it on.
fn fix_cpus(crew: &Crew<Driver>, on: bool) {
    #[cfg(emulate)]
    if crate::emu::wanted::hotplug() {
        return;
    }
    let mut cpus = crew.cpus.lock();
    if !on {
        *cpus = None;
    } else if cpus.is_none() {
        *cpus = Some(Fixed::new());
    }
}

/// A guest has been decommissioned.
pub(crate) fn guest_decommissioned(crew: &Crew<Driver>) {
    perform::tell(crew, &mut crew.state.lock(), Event::GuestDecommissioned);
}

pub(super) fn end(crew: &Crew<Driver>, event: Event<'_>) -> Result {
    let mut state = crew.state.lock();
    if state.life == Life::Stopped {
        // Until the policy says so again: bases may be left to clear.
        state.life = Life::Runs;
    }
    perform::tell(crew, &mut state, event);
    drop(state);
    wait_for_the_end(crew)
}

/// Returns when the policy has stopped and no RMPOPT runs.
pub(crate) fn wait_for_the_end(crew: &Crew<Driver>) -> Result {
    let mut state = crew.state.lock();
    let patience = msecs_to_jiffies(PATIENCE_MS);
    while state.life != Life::Stopped {
        use kernel::sync::CondVarTimeoutResult;
        let waited = crew.ended.wait_interruptible_timeout(&mut state, patience);
        if matches!(waited, CondVarTimeoutResult::Timeout) {
            pr_err!("not stopped after {} ms\n", PATIENCE_MS);
            return Err(EBUSY);
        }
        if matches!(waited, CondVarTimeoutResult::Signal { .. }) {
            // The end is not left half done for a signal.
            drop(state);
            crate::sys::cpu::let_others_run();
            state = crew.state.lock();
        }
    }
    drop(state);
    let running = crew.running.load(Ordering::SeqCst);
    if running > 0 {
        crew.unclean.fetch_add(1, Ordering::Relaxed);
        pr_err!("{running} RMPOPTs run after the stop\n");
    }
    Ok(())
}

/// Whether a seeded fault happens now.
#[cfg(emulate)]
pub(super) fn seeded(left: &AtomicU32) -> bool {
    left.load(Ordering::Relaxed) != 0
        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
