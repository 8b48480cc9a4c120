//! What an operator can set, with its defaults.

use core::num::NonZeroU64;

use crate::rmpopt_core::{LivenessBound, Manner, WorstCase, MICROSECOND, MILLISECOND, SECOND};
use crate::snp_defs::Window;

/// Parameters of [`Tracked`](super::Tracked). All times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// From a region's last activity to its verification.
    pub delay_ns: u64,
    /// From a region's first activity to its verification, however active it stays.
    pub bound_ns: u64,
    /// First retry where the evidence is incomplete; doubles up to [`Self::retry_max_ns`].
    pub retry_ns: u64,
    /// Longest retry interval, after which a region waits for its next mark.
    pub retry_max_ns: u64,
    /// Clean regions are collected for so long before followers are asked, unless the leader has
    /// nothing left to do.
    pub merge_ns: u64,
    /// Followers ride on interrupts that come anyway for so long, then they are woken once.
    pub follow_ns: u64,
    /// How often marks are drained while there are any.
    pub tick_ns: u64,
    /// Longest stretch for which followers hold a CPU, one RMPOPT more or less.
    pub hold_ns: u64,
    /// An RMPOPT longer than this was a full scan: a follower yields at once.
    pub slow_ns: u64,
    /// Followers that may be woken at once.
    pub followers_at_once: u16,
    /// A region that was clean for less than this before it was lost counts as flipping: its delay
    /// doubles, up to the bound.
    pub flip_ns: u64,
    /// One core's belief is audited (RMPOPT function 1) this often, in turn; 0: never.
    pub audit_ns: u64,
    /// Regions per audit.
    pub audit_regions: u32,
    /// CPU time that leaders and followers may take per minute; 0: no limit.
    pub cap_ns_per_minute: u64,
    /// Without probes: regions that are not optimised verified per second, in turn; 0 with probes.
    pub sweep_per_second: u32,
    /// What takes followers' CPUs; other than by [`Manner::Tick`] they do not wait for
    /// [`Self::follow_ns`].
    pub manner: Manner,
    /// All cores take upstream's window, the lowest 2 TiB, instead of their own memory's.
    pub lowest_window: bool,
    /// A base may be written again within one SNP_INIT (silicon known to clear the table then).
    pub trust_base_clear: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay_ns: SECOND,
            bound_ns: 10 * SECOND,
            retry_ns: SECOND,
            retry_max_ns: 8 * SECOND,
            merge_ns: SECOND,
            follow_ns: 2 * SECOND,
            tick_ns: 250 * MILLISECOND,
            hold_ns: 100 * MICROSECOND,
            slow_ns: 20 * MICROSECOND,
            followers_at_once: 16,
            flip_ns: 60 * SECOND,
            audit_ns: 60 * SECOND,
            audit_regions: 32,
            cap_ns_per_minute: 0,
            sweep_per_second: 0,
            manner: Manner::Tick,
            lowest_window: false,
            trust_base_clear: false,
        }
    }
}

impl Config {
    /// Delay of a region that has flipped `hold_off` times in a row.
    pub(super) fn delay(&self, hold_off: u8) -> u64 {
        doubled(self.delay_ns, hold_off).min(self.bound_ns).max(self.delay_ns)
    }

    /// Law 3's bound for a host of so many cores under these costs.
    ///
    /// The worst case of each term: a mark that just missed a tick, the full delay bound, a leader
    /// with a window of full scans before it, followers that are woken in turns and go through
    /// their whole windows, and a core that has just begun a batch when the region becomes clean:
    /// that batch and the next, in holds with a tick between two of them.
    ///
    /// The CPU-time cap and the operator's pause come on top.
    pub fn liveness_bound(&self, cores: u16, costs: &WorstCase) -> LivenessBound {
        let candidates = u64::from(Window::REGIONS);
        let turns = u64::from(cores).div_ceil(u64::from(self.followers_at_once.max(1)));
        let per_hold = NonZeroU64::new(self.hold_ns / costs.fast_ns.max(1));
        let per_hold = per_hold.unwrap_or(NonZeroU64::MIN);
        // Rounded up; the type tells the compiler that this does not divide by 0.
        let holds = candidates.saturating_add(per_hold.get().wrapping_sub(1)) / per_hold;
        let hold_ns = self.hold_ns.saturating_add(costs.slow_ns).saturating_add(costs.entry_ns);
        LivenessBound {
            tick_ns: self.tick_ns,
            delay_ns: self.bound_ns.max(self.delay_ns),
            leader_ns: candidates.saturating_mul(costs.slow_ns.saturating_add(costs.entry_ns)),
            merge_ns: self.merge_ns,
            follow_ns: self
                .follow_ns
                .saturating_add(turns.saturating_mul(holds.saturating_mul(hold_ns))),
            batch_ns: holds.saturating_mul(hold_ns.saturating_add(costs.tick_ns)).saturating_mul(2),
        }
    }
}

/// `ns` doubled so many times.
pub(super) const fn doubled(ns: u64, times: u8) -> u64 {
    match 1u64.checked_shl(times as u32) {
        Some(factor) => ns.saturating_mul(factor),
        None => u64::MAX,
    }
}
