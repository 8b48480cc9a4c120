//! A batch of regions for one core, and how the core works through it.
//!
//! An executor gets a [`Batch`], makes a [`Run`] of it and goes through it in *holds*: stretches in
//! which nothing else runs on that CPU. The run decides after each RMPOPT whether the hold goes on.
//! One RMPOPT cannot be cut, so a hold lasts at most the budget and one RMPOPT (law 5).

use crate::rmpopt_core::{CoreId, Ticket, Time, WindowMask};
use crate::snp_defs::{Region, RmpoptFunction, Window};

/// Regions of one core's window that the core is to verify (or report).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The core.
    pub core: CoreId,
    /// What the answer refers to.
    pub ticket: Ticket,
    /// Verify, or report for the audit.
    pub function: RmpoptFunction,
    /// The core's window.
    pub window: Window,
    /// Which of its regions.
    pub regions: WindowMask,
}

/// How long a CPU may be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// A hold ends at the first look at the clock after this long.
    pub hold_ns: u64,
    /// An RMPOPT longer than this was not answered from the cached scan: the hold ends at once.
    pub slow_ns: u64,
}

/// What a hold brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchReport {
    /// The core.
    pub core: CoreId,
    /// The batch's ticket.
    pub ticket: Ticket,
    /// The batch's function.
    pub function: RmpoptFunction,
    /// Regions that answered CF = 1.
    pub set: WindowMask,
    /// Regions that answered CF = 0.
    pub refused: WindowMask,
    /// RMPOPTs that took longer than [`Budget::slow_ns`].
    pub slow: u32,
    /// How long the CPU was held.
    pub held_ns: u64,
    /// Nothing of the batch is left.
    pub finished: bool,
}

/// Whether a hold goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Run the next.
    More,
    /// Give the CPU back; go on at the next tick or rescheduling point.
    Yield,
    /// The batch is done.
    Finished,
}

/// A batch under way.
#[derive(Clone, Debug)]
pub struct Run {
    batch: Batch,
    budget: Budget,
    /// First slot not tried yet.
    next: u32,
    report: BatchReport,
    hold_started: Time,
}

impl Run {
    /// Starts a batch; no hold has begun.
    pub fn new(batch: Batch, budget: Budget) -> Self {
        let report = BatchReport {
            core: batch.core,
            ticket: batch.ticket,
            function: batch.function,
            set: WindowMask::EMPTY,
            refused: WindowMask::EMPTY,
            slow: 0,
            held_ns: 0,
            finished: false,
        };
        Self { batch, budget, next: 0, report, hold_started: Time::ZERO }
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The CPU is ours from `now` on.
    pub fn begin_hold(&mut self, now: Time) {
        self.hold_started = now;
        self.report.set = WindowMask::EMPTY;
        self.report.refused = WindowMask::EMPTY;
        self.report.slow = 0;
        self.report.held_ns = 0;
    }

    /// The region to run RMPOPT on next, `None` when the batch is done.
    pub fn region(&self) -> Option<Region> {
        self.batch.regions.next(self.next).and_then(|slot| self.batch.window.region(slot))
    }

    /// The RMPOPT on [`Self::region`] ended at `now` after `took_ns`, with this carry flag.
    pub fn record(&mut self, now: Time, took_ns: u64, carry: bool) -> Step {
        if let Some(slot) = self.batch.regions.next(self.next) {
            if carry {
                self.report.set.insert(slot);
            } else {
                self.report.refused.insert(slot);
            }
            self.next = slot.wrapping_add(1);
        }
        self.report.held_ns = now.since(self.hold_started);
        let slow = took_ns > self.budget.slow_ns;
        self.report.slow = self.report.slow.saturating_add(u32::from(slow));
        if self.region().is_none() {
            self.report.finished = true;
            Step::Finished
        } else if slow || self.report.held_ns >= self.budget.hold_ns {
            Step::Yield
        } else {
            Step::More
        }
    }

    /// What the hold that just ended brought.
    pub fn report(&self) -> &BatchReport {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(slots: &[u32]) -> Run {
        let mut regions = WindowMask::EMPTY;
        for &slot in slots {
            regions.insert(slot);
        }
        let batch = Batch {
            core: CoreId(3),
            ticket: Ticket::default(),
            function: RmpoptFunction::Verify,
            window: Window { base: Region::new(16).unwrap() },
            regions,
        };
        Run::new(batch, Budget { hold_ns: 10_000, slow_ns: 5_000 })
    }

    #[test]
    fn a_hold_ends_at_the_budget_and_goes_on_where_it_was() {
        let mut run = run(&[0, 5, 2047]);
        run.begin_hold(Time::from_ns(100));
        assert_eq!(run.region(), Region::new(16));
        assert_eq!(run.record(Time::from_ns(4_100), 4_000, true), Step::More);
        assert_eq!(run.record(Time::from_ns(10_100), 4_000, false), Step::Yield);
        let report = *run.report();
        assert_eq!((report.held_ns, report.slow, report.finished), (10_000, 0, false));
        assert!(report.set.contains(0) && report.refused.contains(5));
        run.begin_hold(Time::from_ns(50_000));
        assert_eq!(run.region(), Region::new(16 + 2047));
        assert_eq!(run.record(Time::from_ns(50_001), 1, true), Step::Finished);
        assert_eq!(run.report().set.count(), 1, "a report speaks of its own hold");
        assert!(run.report().finished && run.region().is_none());
    }

    #[test]
    fn one_slow_rmpopt_ends_the_hold() {
        let mut run = run(&[1, 2]);
        run.begin_hold(Time::ZERO);
        assert_eq!(run.record(Time::from_ns(5_001), 5_001, true), Step::Yield);
        assert_eq!(run.report().slow, 1);
    }
}
