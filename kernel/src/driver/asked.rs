// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the hardware says of its tables when an operator asks: one visit to each core, in its work
//! item, at most once a second whoever asks.

use core::sync::atomic::Ordering;

use super::{perform, Driver, Ran};
use crate::rmpopt_core::{CoreId, SECOND, WINDOW_WORDS};
use crate::snp_defs::{Counter, Region, RmpoptFunction};
use crate::sys::crew::Crew;

/// Asks every core, unless that was done less than a second ago.
pub(crate) fn ask(crew: &Crew<Driver>) {
    let mut last = crew.asked_at.lock();
    let now = crew.now();
    if last.is_some_and(|last| now.since(last) < SECOND) {
        return;
    }
    for core in cores(crew) {
        // What an offline core had is not known.
        words(crew, core).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let mut state = crew.state.lock();
        if let Some(job) = state.job(core) {
            job.ask = crew.is_enabled(core);
        }
        perform::start(crew, core);
    }
    for core in cores(crew) {
        crew.wait_for(core.index());
    }
    *last = Some(crew.now());
}

/// Whether a core said that it has a region optimised.
pub(crate) fn has(crew: &Crew<Driver>, core: CoreId, region: Region) -> bool {
    let Some(slot) = crew.state.lock().plan.seen().window(core).and_then(|w| w.slot(region)) else {
        return false;
    };
    let word = words(crew, core).get((slot / 64) as usize);
    word.is_some_and(|word| word.load(Ordering::Relaxed) >> (slot % 64) & 1 == 1)
}

/// The visit, in the core's work item.
pub(super) fn visit(crew: &Crew<Driver>, core: CoreId) {
    let Some(window) = crew.state.lock().plan.seen().window(core) else { return };
    let regions = crew.hardware.memory.regions();
    for (index, word) in (0..u32::MAX).zip(words(crew, core)) {
        let mut bits = 0u64;
        for bit in 0..64 {
            let slot = index.wrapping_mul(64).wrapping_add(bit);
            let Some(region) = window.region(slot).filter(|region| region.get() < regions) else {
                break;
            };
            let (ran, took_ns) = crew.execute(core, region, RmpoptFunction::Report);
            crew.counts.add(Counter::CpuTaken, took_ns);
            if ran == Ran::Carry(true) {
                bits |= 1 << bit;
            }
        }
        word.store(bits, Ordering::Relaxed);
        crate::sys::cpu::let_others_run();
    }
}

fn cores(crew: &Crew<Driver>) -> impl Iterator<Item = CoreId> {
    (0..crew.hardware.topology.cores()).map(CoreId)
}

/// A core's bits.
fn words(crew: &Crew<Driver>, core: CoreId) -> &[core::sync::atomic::AtomicU64] {
    crew.asked.all().chunks_exact(WINDOW_WORDS).nth(core.index()).unwrap_or(&[])
}
