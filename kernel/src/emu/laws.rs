// SPDX-License-Identifier: MIT OR GPL-2.0
//! Laws 1, 4 and 6, checked after each step of a script (DESIGN "Laws").
//!
//! The steps come one at a time, so that no RMPUPDATE is under way while a check looks.

use core::sync::atomic::{AtomicU64, Ordering};

/// Checks and breaches of one law.
pub(super) struct Law {
    number: u8,
    checks: AtomicU64,
    breaches: AtomicU64,
}

impl Law {
    const fn new(number: u8) -> Self {
        Self { number, checks: AtomicU64::new(0), breaches: AtomicU64::new(0) }
    }

    pub(super) fn check(&self, holds: bool) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.breaches.fetch_add(u64::from(!holds), Ordering::Relaxed);
    }
}

/// The laws that can be checked from the hardware's side.
pub(super) struct Laws {
    /// No core's bit is set where a page is assigned.
    pub(super) safety: Law,
    /// RMPOPT runs only where it is enabled.
    pub(super) no_ud: Law,
    /// After the stop nothing runs, and the bases are 0 once SNP is down.
    pub(super) clean_exit: Law,
}

impl Laws {
    pub(super) const fn new() -> Self {
        Self { safety: Law::new(1), no_ud: Law::new(4), clean_exit: Law::new(6) }
    }

    /// How often a law was checked, or found broken.
    pub(super) fn count(&self, number: u8, breaches: bool) -> Option<u64> {
        let all = [&self.safety, &self.no_ud, &self.clean_exit];
        let law = all.into_iter().find(|law| law.number == number)?;
        let counter = if breaches { &law.breaches } else { &law.checks };
        Some(counter.load(Ordering::Relaxed))
    }
}
