// SPDX-License-Identifier: MIT OR GPL-2.0
//! CPUs that go offline and come back. On a real SNP host CPU hotplug is disabled.

use super::perform::{self, NOT_RUN};
use super::Driver;
use crate::rmpopt_core::{CoreId, Event, Time};
use crate::snp_defs::RmpoptBase;
use crate::sys::crew::Crew;

/// A CPU is back: its core is usable again once SNP_EN and the enable bit have been read there.
pub(super) fn online(crew: &Crew<Driver>, cpu: u32) {
    let Some(core) = crew.hardware.topology.core_of(cpu) else { return };
    if crew.hardware.topology.online_cpu_but(core, cpu).is_some() {
        return;
    }
    let read = crew.hardware.read(cpu, core);
    let base = read.base.unwrap_or(RmpoptBase::OFF);
    let mut state = crew.state.lock();
    crew.set_leaving(core, false);
    crew.enable(core, read.snp_en && base.is_enabled());
    let snp_en = read.snp_en;
    perform::tell(crew, &mut state, Event::CoreOnline { core, base, snp_en });
}

/// A CPU goes. If it is its core's last, what runs there is waited for and the policy told.
///
/// Our own work never takes the hotplug lock, so that it can be waited for here.
pub(super) fn offline(crew: &Crew<Driver>, cpu: u32) {
    let topology = &crew.hardware.topology;
    let Some(core) = topology.core_of(cpu) else { return };
    let other = topology.online_cpu_but(core, cpu);
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
    job.by = Time::NEVER;
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
