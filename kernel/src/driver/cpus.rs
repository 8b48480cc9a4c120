// SPDX-License-Identifier: MIT OR GPL-2.0
//! CPUs that go offline and come back, and those that the operator takes away and gives back. On a
//! real SNP host CPU hotplug is disabled.

use kernel::prelude::*;

use super::perform::{self, NOT_RUN};
use super::{Driver, State};
use crate::plan::Plan;
use crate::rmpopt_core::{CoreId, Event, Time};
use crate::snp_defs::RmpoptBase;
use crate::sys::crew::Crew;
use crate::words::Words;

/// A CPU is back.
pub(super) fn online(crew: &Crew<Driver>, cpu: u32) {
    let Some(core) = crew.hardware.topology.core_of(cpu) else { return };
    let other = |other| other != cpu && crew.masks.allows(other);
    if crew.masks.allows(cpu) && crew.hardware.topology.online_cpu(core, other).is_none() {
        arrives(crew, core, cpu);
    }
}

/// A CPU goes.
pub(super) fn offline(crew: &Crew<Driver>, cpu: u32) {
    let Some(core) = crew.hardware.topology.core_of(cpu) else { return };
    if crew.masks.allows(cpu) {
        let other = |other| other != cpu && crew.masks.allows(other);
        departs(crew, core, crew.hardware.topology.online_cpu(core, other));
    }
}

/// Other CPUs may be used from now on. No CPU goes or comes meanwhile.
pub(super) fn remask(crew: &Crew<Driver>, wanted: &Words) -> Result {
    let cores = || (0..crew.hardware.topology.cores()).map(CoreId);
    let mut before = KVVec::with_capacity(usize::from(crew.hardware.topology.cores()), GFP_KERNEL)?;
    for core in cores() {
        before.push(crew.cpu_of(core), GFP_KERNEL)?;
    }
    crew.masks.work.set(wanted);
    for (core, &before) in cores().zip(&before) {
        let now = crew.hardware.topology.online_cpu(core, |cpu| crew.masks.allows(cpu));
        match (before, now) {
            (None, Some(cpu)) => arrives(crew, core, cpu),
            (Some(old), new) if new != Some(old) => departs(crew, core, new),
            _ => {}
        }
    }
    Ok(())
}

/// Tells the policy which cores may lead: those with a CPU that may. `v10` knows no such thing.
pub(super) fn choose_leaders(crew: &Crew<Driver>, state: &mut State) {
    let Plan::Tracked(policy) = &mut state.plan else { return };
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        let may = |(cpu, of): (u32, CoreId)| of == core && crew.masks.lead.has(cpu);
        policy.let_lead(core, crew.hardware.topology.cpus().any(may));
    }
}

/// SNP goes down: cores that the operator has taken away are told to the policy as being there, so
/// that their bases are cleared, too. Nothing can run on them: `stop` is set.
pub(super) fn count_masked(crew: &Crew<Driver>) {
    let mut state = crew.state.lock();
    for core in (0..crew.hardware.topology.cores()).map(CoreId) {
        let (None, Some(read)) = (crew.cpu_of(core), crew.read(core)) else { continue };
        let base = read.base.unwrap_or(RmpoptBase::OFF);
        let event = Event::CoreOnline { core, base, snp_en: read.snp_en };
        // Before it is asked what to do, it is told that SNP goes down.
        state.plan.policy().handle(crew.now(), event);
    }
}

/// A core is usable again, by this CPU, once SNP_EN and the enable bit have been read there.
fn arrives(crew: &Crew<Driver>, core: CoreId, cpu: u32) {
    let read = crew.hardware.read(cpu, core);
    let base = read.base.unwrap_or(RmpoptBase::OFF);
    let mut state = crew.state.lock();
    crew.set_leaving(core, false);
    crew.enable(core, read.snp_en && base.is_enabled());
    if base.is_enabled() {
        crew.set_written(core);
    }
    let snp_en = read.snp_en;
    perform::tell(crew, &mut state, Event::CoreOnline { core, base, snp_en });
}

/// The CPU that a core's work ran on goes. Without another, what runs there is waited for and the
/// policy told.
///
/// Our own work never takes the hotplug lock, so that it can be waited for here.
fn departs(crew: &Crew<Driver>, core: CoreId, other: Option<u32>) {
    if other.is_none() {
        // Under the lock: what is sent, is sent before this or not at all.
        let state = crew.state.lock();
        crew.set_leaving(core, true);
        drop(state);
    }
    // From here on nothing new is sent to it, if it is the last.
    crew.wait_for(core.index());
    crew.no_tick(core.index());
    let mut state = crew.state.lock();
    if let Some(there) = other {
        // What was meant for this CPU goes to its sibling.
        let waits = crew.offers.get(core.index()).is_some_and(|slot| slot.is_full());
        if waits {
            crew.tick_on(core.index(), there);
        }
        crew.work_on(core.index(), there);
        return;
    }
    crew.enable(core, false);
    perform::report_of(crew, &mut state, core);
    if let Some(slot) = crew.offers.get(core.index()) {
        drop(slot.take());
    }
    parked(crew, &mut state, core);
}

/// Tells the policy that the core is gone, then answers what was asked of it meanwhile.
fn parked(crew: &Crew<Driver>, state: &mut super::State, core: CoreId) {
    let now = crew.now();
    state.plan.policy().handle(now, Event::CoreOffline(core));
    let Some(job) = state.job(core) else { return };
    let (base, verify, broadcast) = (job.base.take(), job.verify.take(), job.broadcast.take());
    (job.refused, job.by) = (None, Time::NEVER);
    if job.woken {
        job.woken = false;
        state.woken = state.woken.saturating_sub(1);
    }
    if base.is_some() {
        state.busy = state.busy.saturating_sub(1);
        let answer = Event::BaseWritten { core, base: None, snp_en: false };
        state.plan.policy().handle(now, answer);
    }
    if let Some((region, ticket)) = verify {
        state.busy = state.busy.saturating_sub(1);
        let answer = Event::Verified { ticket, core, region, verdict: NOT_RUN, took_ns: 0 };
        state.plan.policy().handle(now, answer);
    }
    if let Some((_, ticket)) = broadcast {
        state.busy = state.busy.saturating_sub(1);
        state.plan.policy().handle(now, Event::BroadcastDone { ticket });
    }
    perform::pump(crew, state);
}
