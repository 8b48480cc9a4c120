// SPDX-License-Identifier: MIT OR GPL-2.0
//! A core's work item: MSR writes, verifies, broadcasts, holds of a woken follower.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::cpu::CpuId;
use kernel::cpumask::CpumaskVar;
use kernel::prelude::*;

use super::perform::{self, NOT_RUN};
use super::{asked, Driver, Life, Offer, Ran, State};
use crate::rmpopt_core::{CoreId, Event, Ticket, Verdict};
use crate::snp_defs::{Counter, Region, RmpoptBase, RmpoptFunction};
use crate::sys::crew::Crew;
use crate::sys::{cpu, ipi};

/// Something to do, fetched under the lock and done without it.
enum Job {
    Base(RmpoptBase),
    Verify(Region, Ticket),
    Broadcast(Region, Ticket),
    Hold(KBox<Offer>),
    Ask,
}

/// Does what there is, giving way after each job.
pub(super) fn work(crew: &Crew<Driver>, core: CoreId) {
    // A bound worker stays on its CPU; only if that went offline before it began, it is elsewhere.
    let here = cpu::this();
    if crew.hardware.topology.core_of(here) != Some(core) {
        if let Some(there) = crew.cpu_of(core) {
            crew.work_on(core.index(), there);
        }
        return;
    }
    loop {
        let job = next(crew, &mut crew.state.lock(), core);
        match job {
            None => return,
            Some(Job::Base(base)) => write_base(crew, core, here, base),
            Some(Job::Verify(region, ticket)) => verify(crew, core, region, ticket),
            Some(Job::Broadcast(region, ticket)) => broadcast(crew, core, region, ticket),
            Some(Job::Hold(offer)) => hold(crew, core, offer),
            Some(Job::Ask) => asked::visit(crew, core),
        }
        cpu::let_others_run();
    }
}

fn next(crew: &Crew<Driver>, state: &mut State, core: CoreId) -> Option<Job> {
    let job = state.job(core)?;
    if let Some(base) = job.base.take() {
        return Some(Job::Base(base));
    }
    if let Some((region, ticket)) = job.verify.take() {
        return Some(Job::Verify(region, ticket));
    }
    if let Some((region, ticket)) = job.broadcast.take() {
        return Some(Job::Broadcast(region, ticket));
    }
    if core::mem::take(&mut job.ask) {
        return Some(Job::Ask);
    }
    if !job.woken {
        return None;
    }
    match crew.offers.get(core.index()).and_then(|slot| slot.take()) {
        Some(offer) => Some(Job::Hold(offer)),
        None => {
            perform::follower_ended(crew, state, core);
            perform::pump(crew, state);
            None
        }
    }
}

/// The job was answered.
fn answered(crew: &Crew<Driver>, state: &mut State, event: Event<'_>) {
    state.busy = state.busy.saturating_sub(1);
    state.changed = crew.now();
    perform::tell(crew, state, event);
}

fn write_base(crew: &Crew<Driver>, core: CoreId, here: u32, base: RmpoptBase) {
    // What may be run there is known again only when it has been read back.
    crew.enable(core, false);
    let mut read = crew.hardware.read(here, core);
    // What is there already is not written again: adopted, or ours from before the operator's stop.
    // Nor is what has gone since, in a reset, unless silicon is known to clear the table then.
    let trusted = || crate::module_parameters::trust_base_clear.value();
    let may = base == RmpoptBase::OFF || !crew.set_written(core) || trusted();
    if may && (base == RmpoptBase::OFF || read.base != Some(base)) {
        read = crew.hardware.write_base(here, core, base);
        crew.counts.one(Counter::BaseWrites);
    }
    crew.enable(core, read.snp_en && read.base.is_some_and(RmpoptBase::is_enabled));
    let answer = Event::BaseWritten { core, base: read.base, snp_en: read.snp_en };
    answered(crew, &mut crew.state.lock(), answer);
}

fn verify(crew: &Crew<Driver>, core: CoreId, region: Region, ticket: Ticket) {
    let (ran, took_ns) = crew.execute(core, region, RmpoptFunction::Verify);
    crew.counts.add(Counter::CpuTaken, took_ns);
    crew.counts.add(Counter::RmpoptLeader, u64::from(ran != Ran::Not));
    let verdict = match ran {
        Ran::Carry(true) => Verdict::Clean,
        Ran::Carry(false) => Verdict::Dirty,
        Ran::Fault => Verdict::Fault,
        Ran::Not => NOT_RUN,
    };
    let answer = Event::Verified { ticket, core, region, verdict, took_ns };
    answered(crew, &mut crew.state.lock(), answer);
}

/// One interrupt to one CPU of every enabled core but the leader, as upstream has it.
fn broadcast(crew: &Crew<Driver>, leader: CoreId, region: Region, ticket: Ticket) {
    if let Ok(mut mask) = CpumaskVar::new_zero(GFP_KERNEL) {
        let mut seen = None;
        for (number, core) in crew.hardware.topology.cpus() {
            // Threads of a core have neighbouring places only on some machines: one is enough, and
            // a second does no harm (upstream, spec/rmpopt.md 3).
            let first = crew.cpu_of(core) == Some(number);
            if core == leader || seen == Some(core) || !first || !crew.is_enabled(core) {
                continue;
            }
            seen = Some(core);
            if let Some(number) = CpuId::from_u32(number) {
                mask.set(number);
                crew.counts.interrupt();
            }
        }
        let (ran, faulted) = (AtomicU64::new(0), AtomicBool::new(false));
        ipi::on_mask(&mask, &|| {
            if let Some(core) = crew.hardware.topology.core_of(cpu::this()) {
                let (outcome, took_ns) = crew.execute(core, region, RmpoptFunction::Verify);
                crew.counts.add(Counter::CpuTaken, took_ns);
                match outcome {
                    Ran::Carry(_) => drop(ran.fetch_add(1, Ordering::Relaxed)),
                    Ran::Fault => faulted.store(true, Ordering::Relaxed),
                    Ran::Not => {}
                }
            }
        });
        crew.counts.add(Counter::RmpoptFollowers, ran.load(Ordering::Relaxed));
        if faulted.load(Ordering::Relaxed) {
            answered(crew, &mut crew.state.lock(), Event::BroadcastFault { ticket });
            return;
        }
    } else {
        // Upstream skips the pass, too.
        kernel::pr_warn_once!("no memory for a CPU mask: followers are passed over\n");
    }
    answered(crew, &mut crew.state.lock(), Event::BroadcastDone { ticket });
}

fn hold(crew: &Crew<Driver>, core: CoreId, mut offer: KBox<Offer>) {
    crew.holds_woken.fetch_add(1, Ordering::Relaxed);
    let told = crew.hold(core, &mut offer);
    let mut state = crew.state.lock();
    if told {
        state.report(crew.now(), &offer);
    }
    let ended = !told || offer.faulted || offer.run.report().finished;
    if !ended && state.life == Life::Runs {
        if let Some(slot) = crew.offers.get(core.index()) {
            // A newer offer takes the place of this one.
            drop(slot.put_back(offer));
        }
    }
    perform::pump(crew, &mut state);
}
