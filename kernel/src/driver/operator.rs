// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the operator can do while the module is loaded.

use core::sync::atomic::Ordering;

use kernel::prelude::*;

use super::{cpus, life, perform, Driver, Life};
use crate::masks;
use crate::plan::Plan;
use crate::rmpopt_core::{Event, Request};
use crate::sys::cpu::Fixed;
use crate::sys::crew::Crew;
use crate::tunables::Tunable;

/// Everything that is not optimised is verified, now: also what marks say that wait for a tick.
pub(crate) fn optimise(crew: &Crew<Driver>) {
    perform::drain(crew);
    perform::tell(crew, &mut crew.state.lock(), Event::Request(Request::Optimise));
}

/// Whether something is under way.
pub(crate) fn is_busy(crew: &Crew<Driver>) -> bool {
    let state = crew.state.lock();
    state.life != Life::Stopped && (state.busy > 0 || state.woken > 0)
}

/// Nothing more is begun (`on`), or work goes on; what is optimised stays. Holds over SNP_INITs.
pub(crate) fn pause(crew: &Crew<Driver>, on: bool) {
    let mut state = crew.state.lock();
    crew.paused.store(on, Ordering::SeqCst);
    let request = if on { Request::Pause } else { Request::Resume };
    perform::tell(crew, &mut state, Event::Request(request));
}

/// Stops everything at once, and for good: when this returns no RMPOPT runs, and none does whatever
/// happens to SNP until [`revive`]. What is optimised stays; bases are cleared when SNP goes down.
pub(crate) fn kill(crew: &Crew<Driver>) {
    // These two hold before any lock is waited for.
    let before = crew.killed.swap(true, Ordering::SeqCst);
    crew.stop.store(true, Ordering::SeqCst);
    let _turn = crew.turn.lock();
    // A `revive` that had the turn before has undone both: it is as if this came after it.
    let before = crew.killed.swap(true, Ordering::SeqCst) && before;
    crew.stop.store(true, Ordering::SeqCst);
    // The error is in the log.
    let _ = life::end(crew, Event::Unload);
    if !before {
        pr_info!("stopped by the operator\n");
    }
}

/// Undoes [`kill`]: if SNP is up a first pass begins, with the bases that are there.
pub(crate) fn revive(crew: &Crew<Driver>) {
    let _turn = crew.turn.lock();
    if crew.killed.swap(false, Ordering::SeqCst) {
        pr_info!("goes on by the operator's word\n");
        life::go_on(crew);
    }
}

/// Sets one number.
pub(crate) fn tune(crew: &Crew<Driver>, tunable: Tunable, text: &str) -> Result {
    let mut state = crew.state.lock();
    let mut config = state.config;
    tunable.set(&mut config, text)?;
    state.config = config;
    crew.tick_ns.store(config.tick_ns, Ordering::Relaxed);
    let now = crew.now();
    if let Plan::Tracked(policy) = &mut state.plan {
        policy.configure(now, config);
    }
    perform::pump(crew, &mut state);
    Ok(())
}

/// RMPOPT runs on these CPUs only. Those that are left keep what they have, of which nothing more is
/// known; those that come are used as the policy decides.
pub(crate) fn set_cpus(crew: &Crew<Driver>, list: &str) -> Result {
    let wanted = masks::parse("cpus", list, crew.masks.words())?;
    let _turn = crew.turn.lock();
    // No CPU goes or comes meanwhile.
    let _fixed = Fixed::new();
    {
        let state = crew.state.lock();
        if matches!(state.plan, Plan::V10(_)) && state.life != Life::Stopped {
            pr_err!("cpus cannot be changed under v10 while SNP is up\n");
            return Err(EBUSY);
        }
    }
    cpus::remask(crew, &wanted)
}

/// These CPUs' cores may lead.
pub(crate) fn set_leaders(crew: &Crew<Driver>, list: &str) -> Result {
    let wanted = masks::parse("leaders", list, crew.masks.words())?;
    let _turn = crew.turn.lock();
    let mut state = crew.state.lock();
    crew.masks.lead.set(&wanted);
    cpus::choose_leaders(crew, &mut state);
    perform::pump(crew, &mut state);
    Ok(())
}
