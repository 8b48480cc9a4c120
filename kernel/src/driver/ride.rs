// SPDX-License-Identifier: MIT OR GPL-2.0
//! A follower in a tick that comes anyway.

use core::sync::atomic::Ordering;

use super::Driver;
use crate::rmpopt_core::CoreId;
use crate::sys::crew::Crew;

/// One hold, in a softirq on one of the core's CPUs. Takes no lock and does not allocate.
pub(super) fn tick(crew: &Crew<Driver>, core: CoreId) {
    let slots = (crew.offers.get(core.index()), crew.done.get(core.index()));
    let (Some(offers), Some(done)) = slots else { return };
    let Some(mut offer) = offers.take() else { return };
    crew.holds_ridden.fetch_add(1, Ordering::Relaxed);
    if crew.hold(core, &mut offer) {
        // A report that nobody has fetched yet was of an offer that has been replaced.
        drop(done.put(offer));
        crew.report();
    }
}
