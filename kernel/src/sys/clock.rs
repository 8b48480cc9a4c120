// SPDX-License-Identifier: MIT OR GPL-2.0
//! The monotonic clock.

use kernel::bindings;

use crate::rmpopt_core::Time;

/// Now. From any context but NMI.
pub(crate) fn now() -> Time {
    // SAFETY: Nothing is asked of callers but not to be an NMI.
    let ns = unsafe { bindings::ktime_get() };
    Time::from_ns(u64::try_from(ns).unwrap_or(0))
}
