// SPDX-License-Identifier: MIT OR GPL-2.0
//! From the policy's actions to jobs, timers and offers; and the control work.

use kernel::prelude::*;

use super::{Driver, Life, Offer, State};
use crate::rmpopt_core::{
    Action, Batch, BatchReport, CoreId, Event, Policy, Run, Ticket, Time, Verdict, WindowMask,
    MILLISECOND, SECOND,
};
use crate::snp_defs::{Counter, RmpoptFunction};
use crate::sys::crew::Crew;

/// Tells the policy of something and does what it then wants.
pub(super) fn tell(crew: &Crew<Driver>, state: &mut State, event: Event<'_>) {
    state.plan.policy().handle(crew.now(), event);
    pump(crew, state);
}

/// Does what the policy wants until it wants nothing more.
pub(super) fn pump(crew: &Crew<Driver>, state: &mut State) {
    loop {
        while let Some(action) = state.plan.policy().poll(crew.now()) {
            perform(crew, state, &action);
        }
        if state.life != Life::Quiescing || state.busy > 0 || state.woken > 0 {
            break;
        }
        state.life = Life::Runs;
        state.plan.policy().handle(crew.now(), Event::Quiesced);
    }
    log_passes(crew, state);
    let next = state.timer.earlier(state.next_wake);
    if next != Time::NEVER {
        crew.control_in(next.since(crew.now()));
    }
}

fn perform(crew: &Crew<Driver>, state: &mut State, action: &Action) {
    match *action {
        Action::WriteBase { core, base } => match crew.any_cpu_of(core) {
            Some(cpu) => {
                state.busy = state.busy.saturating_add(1);
                let older = state.job(core).and_then(|job| job.base.replace(base));
                if older.is_some() {
                    // It had not begun.
                    state.busy = state.busy.saturating_sub(1);
                    let answer = Event::BaseWritten { core, base: None, snp_en: false };
                    state.plan.policy().handle(crew.now(), answer);
                }
                send(crew, core, cpu);
            }
            None => {
                let answer = Event::BaseWritten { core, base: None, snp_en: false };
                state.plan.policy().handle(crew.now(), answer);
            }
        },
        Action::Verify { core, region, ticket } => {
            if !state.pass_open {
                state.pass_open = true;
                state.pass_began = crew.now();
            }
            state.busy = state.busy.saturating_add(1);
            if let Some(job) = state.job(core) {
                job.verify = Some((region, ticket));
            }
            start(crew, core);
        }
        // Of upstream's versions the module has v10 only, which reaches the other cores.
        Action::Broadcast { leader, region, ticket, reach: _ } => {
            state.busy = state.busy.saturating_add(1);
            if let Some(job) = state.job(leader) {
                job.broadcast = Some((region, ticket));
            }
            start(crew, leader);
        }
        // The operator cannot choose another manner than the default, the tick.
        Action::Offer { ref batch, by, manner: _ } => offer(crew, state, batch, by),
        Action::ArmTimer(at) => state.timer = at,
        Action::Quiesce => quiesce(crew, state),
        Action::Stopped => stopped(crew, state),
    }
}

/// Has a core see to its jobs; if it is just leaving, [`super::cpus`] answers for it.
pub(super) fn start(crew: &Crew<Driver>, core: CoreId) {
    if let Some(cpu) = crew.cpu_of(core) {
        send(crew, core, cpu);
    }
}

fn send(crew: &Crew<Driver>, core: CoreId, cpu: u32) {
    if crew.work_on(core.index(), cpu) {
        crew.counts.wakeup();
    }
}

/// After so long an offer for which there was no memory is made again.
const NO_MEMORY_NS: u64 = 100 * MILLISECOND;

/// On its own: a run is as large as a stack frame should be.
#[inline(never)]
fn boxed(batch: &Batch, run: impl Fn(Batch) -> Run) -> Result<KBox<Offer>> {
    Ok(KBox::new(Offer { run: run(*batch), faulted: false }, GFP_KERNEL)?)
}

fn offer(crew: &Crew<Driver>, state: &mut State, batch: &Batch, by: Time) {
    let core = batch.core;
    #[cfg(emulate)]
    if batch.function == RmpoptFunction::Verify && super::life::seeded(&crew.swallow) {
        return;
    }
    let Some(budget) = state.plan.policy().budget() else { return };
    let Some(cpu) = crew.cpu_of(core) else { return };
    #[cfg(emulate)]
    let starved = batch.function == RmpoptFunction::Verify && super::life::seeded(&crew.starve);
    #[cfg(not(emulate))]
    let starved = false;
    let offer = if starved { Err(ENOMEM) } else { boxed(batch, |batch| Run::new(batch, budget)) };
    let Ok(offer) = offer else {
        kernel::pr_warn_once!("no memory for an offer\n");
        let by = crew.now().after(NO_MEMORY_NS);
        if let Some(job) = state.job(core) {
            (job.refused, job.by) = (Some((batch.ticket, batch.function)), by);
        }
        // It was to take the place of what is there.
        drop(crew.offers.get(core.index()).and_then(|slot| slot.take()));
        state.next_wake = state.next_wake.earlier(by);
        return;
    };
    if batch.function == RmpoptFunction::Verify {
        crew.counts.one(Counter::Batches);
    }
    let Some(slot) = crew.offers.get(core.index()) else { return };
    drop(slot.put(offer));
    let now = crew.now();
    let Some(job) = state.job(core) else { return };
    (job.refused, job.by) = (None, by);
    if job.woken {
        // The work item that is under way takes the new one.
        return;
    }
    if by > now {
        state.next_wake = state.next_wake.earlier(by);
        crew.tick_on(core.index(), cpu);
    } else {
        wake(crew, state, core);
    }
}

/// Wakes a core for its offer, or leaves it for later if enough are awake.
fn wake(crew: &Crew<Driver>, state: &mut State, core: CoreId) {
    let most = state.plan.policy().followers_at_once();
    let full = state.woken >= most;
    let now = crew.now();
    let Some(job) = state.job(core) else { return };
    if job.woken || crew.cpu_of(core).is_none() {
        return;
    }
    if full {
        // Whoever ends looks for the next.
        job.by = now;
        return;
    }
    job.woken = true;
    state.woken = state.woken.saturating_add(1);
    crew.no_tick(core.index());
    start(crew, core);
}

/// A follower's work item has ended: the next core that waits for one gets it.
pub(super) fn follower_ended(crew: &Crew<Driver>, state: &mut State, core: CoreId) {
    if let Some(job) = state.job(core) {
        if job.woken {
            job.woken = false;
            state.woken = state.woken.saturating_sub(1);
        }
    }
    wake_due(crew, state);
}

/// Wakes the cores whose offers have waited long enough; notes when to look again.
fn wake_due(crew: &Crew<Driver>, state: &mut State) {
    if state.life == Life::Quiescing {
        return;
    }
    let now = crew.now();
    let mut next = Time::NEVER;
    for index in 0..crew.hardware.topology.cores() {
        let core = CoreId(index);
        let waits = crew.offers.get(core.index()).is_some_and(|slot| slot.is_full());
        let Some(job) = state.jobs.get(core.index()).copied() else { break };
        if job.woken || !(waits || job.refused.is_some()) {
            continue;
        }
        if job.by > now {
            next = next.earlier(job.by);
        } else if let Some((ticket, function)) = job.refused {
            give_back(crew, state, core, ticket, function);
        } else if state.woken < state.plan.policy().followers_at_once() {
            wake(crew, state, core);
        }
    }
    state.next_wake = next;
}

/// The policy is told that nothing was done of an offer, and makes another.
#[inline(never)]
fn give_back(
    crew: &Crew<Driver>,
    state: &mut State,
    core: CoreId,
    ticket: Ticket,
    function: RmpoptFunction,
) {
    if let Some(job) = state.job(core) {
        job.refused = None;
    }
    let nothing = WindowMask::EMPTY;
    let (set, refused) = (nothing, nothing);
    state.batch(
        crew.now(),
        &BatchReport { core, ticket, function, set, refused, slow: 0, held_ns: 0, finished: true },
    );
}

fn quiesce(crew: &Crew<Driver>, state: &mut State) {
    state.life = Life::Quiescing;
    state.timer = Time::NEVER;
    state.next_wake = Time::NEVER;
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        if let Some(slot) = crew.offers.get(core.index()) {
            drop(slot.take());
        }
        if let Some(job) = state.job(core) {
            job.refused = None;
        }
        // A tick that runs is waited for, and what it did is reported.
        crew.no_tick(core.index());
        take_report(crew, state, core, false);
    }
    // What a tick put back since.
    for slot in &crew.offers {
        drop(slot.take());
    }
}

/// Hands on what a tick's hold brought; an unfinished batch waits for the next tick if `go_on`.
fn take_report(crew: &Crew<Driver>, state: &mut State, core: CoreId, go_on: bool) {
    let Some(slot) = crew.done.get(core.index()) else { return };
    let Some(offer) = slot.take() else { return };
    state.report(crew.now(), &offer);
    let ended = offer.faulted || offer.run.report().finished || !go_on;
    let Some(home) = crew.offers.get(core.index()) else { return };
    let Some(cpu) = crew.cpu_of(core) else { return };
    // A newer offer takes the place of this one.
    if ended || home.put_back(offer).is_some() {
        return;
    }
    // It goes on with the next tick; but its CPU may be idle by then, and have none.
    let by = state.job(core).map_or(Time::NEVER, |job| job.by);
    if by > crew.now() {
        state.next_wake = state.next_wake.earlier(by);
        crew.tick_on(core.index(), cpu);
    } else {
        wake(crew, state, core);
    }
}

fn stopped(crew: &Crew<Driver>, state: &mut State) {
    let left = state.busy > 0
        || state.woken > 0
        || state.timer != Time::NEVER
        || crew.offers.iter().any(|slot| slot.is_full())
        || crew.done.iter().any(|slot| slot.is_full());
    if left {
        crew.unclean.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        pr_err!("work was left when the driver stopped\n");
    }
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        crew.enable(core, false);
    }
    state.life = Life::Stopped;
    crew.ended.notify_all();
}

/// Hands on the reports of ticks.
pub(super) fn reports(crew: &Crew<Driver>) {
    let mut state = crew.state.lock();
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        let go_on = state.life == Life::Runs;
        take_report(crew, &mut state, core, go_on);
    }
    pump(crew, &mut state);
}

/// The control work: the policy's timer, cores that have waited long enough.
pub(super) fn control(crew: &Crew<Driver>) {
    let mut state = crew.state.lock();
    let now = crew.now();
    if state.timer <= now {
        state.timer = Time::NEVER;
        state.plan.policy().handle(now, Event::Timer);
    }
    wake_due(crew, &mut state);
    pump(crew, &mut state);
}

/// Takes the marks.
pub(super) fn drain(crew: &Crew<Driver>) {
    let mut state = crew.state.lock();
    let now = crew.now();
    let policy: &mut dyn Policy = state.plan.policy();
    crew.activity.drain(|drained| {
        crew.counts.add(Counter::MarksShared, u64::from(drained.shared.count_ones()));
        crew.counts.add(Counter::MarksLost, u64::from(drained.lost.count_ones()));
        policy.handle(now, Event::Drained(drained));
    });
    if let Some(event) = super::events::evidence_is_lost(crew) {
        policy.handle(now, event);
    }
    state.changed = now;
    pump(crew, &mut state);
}

/// One line for each pass that ended; the rate is the policy's.
fn log_passes(crew: &Crew<Driver>, state: &mut State) {
    let (passes, first_over) = (state.plan.seen().passes(), state.plan.seen().first_pass_over());
    if passes == state.passes {
        return;
    }
    crew.counts.add(Counter::Passes, passes.saturating_sub(state.passes));
    state.passes = passes;
    let took_ms = crew.now().since(state.pass_began) / MILLISECOND;
    state.pass_open = false;
    if first_over && !state.first_pass_logged {
        state.first_pass_logged = true;
        pr_info!(
            "first pass over {} regions ended after {}.{:03} s; {} RMPOPTs so far\n",
            crew.hardware.memory.regions(),
            took_ms / (SECOND / MILLISECOND),
            took_ms % (SECOND / MILLISECOND),
            crew.counts.get(Counter::RmpoptExecuted)
        );
    } else {
        pr_debug!("pass {passes} ended after {took_ms} ms\n");
    }
}

/// What a verify that was not run is reported as. Only a driver that stops, or a core that is gone,
/// does not run one: no answer is believed then.
pub(super) const NOT_RUN: Verdict = Verdict::Dirty;

/// Hands on what a core's last tick brought; the core goes.
pub(super) fn report_of(crew: &Crew<Driver>, state: &mut State, core: CoreId) {
    take_report(crew, state, core, false);
}
