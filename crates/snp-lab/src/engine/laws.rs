//! The laws of the design, checked while the host runs.

use rmpopt_core::Claims;

use crate::report::LawReport;
use crate::scenario::{Nanos, SECOND};

/// Law 1: no core's bit is set for a region that holds an assigned page.
pub(super) const SAFETY: usize = 1;
/// Law 2: every outcome with RMPOPT is permitted without it.
pub(super) const REFINEMENT: usize = 2;
/// Law 3: a free region becomes optimised within the bound.
pub(super) const LIVENESS: usize = 3;
/// Law 4: RMPOPT runs only where it is enabled.
pub(super) const NO_UD: usize = 4;
/// Law 5: no CPU is held longer than the budget and one RMPOPT.
pub(super) const QUIET: usize = 5;
/// Law 6: after the stop nothing runs, and `RMPOPT_BASE` is 0.
pub(super) const CLEAN_EXIT: usize = 6;

const NAMES: [&str; 7] = [
    "",
    "safety: no bit set where a page is assigned",
    "refinement: no write succeeds that the RMP forbids",
    "liveness: free regions are optimised within the bound",
    "no #UD: RMPOPT runs only where it is enabled",
    "quiet: no CPU held beyond budget and one RMPOPT",
    "clean exit: nothing runs after the stop, bases are 0",
];

#[derive(Clone, Debug, Default)]
struct Law {
    checks: u64,
    breaches: u64,
    first: Option<String>,
}

/// Checks and breaches so far.
#[derive(Debug)]
pub(super) struct Laws {
    laws: [Law; 7],
    claims: Claims,
}

impl Laws {
    pub(super) fn new(claims: Claims) -> Self {
        Self { laws: Default::default(), claims }
    }

    /// Counts a check of `law`; a breach is described when it is the first.
    ///
    /// Returns whether this was the first breach.
    pub(super) fn check(
        &mut self,
        law: usize,
        now: Nanos,
        holds: bool,
        what: impl FnOnce() -> String,
    ) -> bool {
        let Some(entry) = self.laws.get_mut(law) else { return false };
        entry.checks += 1;
        if holds {
            return false;
        }
        entry.breaches += 1;
        if entry.first.is_some() {
            return false;
        }
        entry.first = Some(format!("at {}: {}", seconds(now), what()));
        true
    }

    /// Counts so many checks of `law` that held.
    pub(super) fn held(&mut self, law: usize, checks: u64) {
        if let Some(entry) = self.laws.get_mut(law) {
            entry.checks += checks;
        }
    }

    pub(super) fn breaches(&self, law: usize) -> u64 {
        self.laws.get(law).map_or(0, |law| law.breaches)
    }

    pub(super) fn first(&self, law: usize) -> Option<&str> {
        self.laws.get(law)?.first.as_deref()
    }

    pub(super) fn reports(&self) -> Vec<LawReport> {
        let numbered = self.laws.iter().zip(NAMES).enumerate().skip(1);
        numbered
            .map(|(number, (law, name))| LawReport {
                law: number as u8,
                name,
                claimed: self.claims.law(number as u8),
                checks: law.checks,
                breaches: law.breaches,
                first: law.first.clone(),
            })
            .collect()
    }
}

/// Simulated time for people: `12.345678 s`.
pub(super) fn seconds(ns: Nanos) -> String {
    format!("{}.{:06} s", ns / SECOND, ns % SECOND / 1_000)
}
