//! Followers: cores that lack what a leader found clean; and the audit.

use super::Tracked;
use crate::rmpopt_core::storage::{CoreState, Offered};
use crate::rmpopt_core::{
    Action, Batch, BatchReport, CoreId, Manner, Policy, Storage, Ticket, Time, WindowMask,
};
use crate::snp_defs::{Region, RmpoptFunction, Window};

impl<S: Storage> Tracked<S> {
    /// The next core that lacks a clean region gets all it lacks.
    pub(super) fn next_offer(&mut self, now: Time) -> Option<Action> {
        if !self.offers_wanted || !self.may_offer(now) {
            return None;
        }
        for _ in 0..self.cores() {
            let next = self.lacking.next(self.core_cursor).or_else(|| self.lacking.next(0));
            let Some(core) = next else { break };
            self.core_cursor = core.0.wrapping_add(1);
            self.lacking.put(core, false);
            let Some(cell) = self.storage.cores().get(core.index()) else { continue };
            // An offer that the core has not begun grows; when it is woken stays as it was.
            let out = cell.offered.filter(|offered| !offered.audit);
            if out.is_some_and(|offered| offered.begun) {
                continue;
            }
            let (window, regions) = (cell.window, self.missing(cell));
            let count = regions.count();
            if count <= out.map_or(0, |offered| offered.regions) {
                continue;
            }
            let manner = self.config.manner;
            let at_once = self.first_pass || manner != Manner::Tick;
            let fresh = if at_once { now } else { now.after(self.config.follow_ns) };
            let by = out.map_or(fresh, |offered| offered.by);
            let ticket = self.ticket();
            let serial = ticket.serial;
            if let Some(cell) = self.storage.cores_mut().get_mut(core.index()) {
                cell.offered =
                    Some(Offered { serial, audit: false, regions: count, by, begun: false });
            }
            if out.is_none() {
                self.offers_out = self.offers_out.saturating_add(1);
            }
            let function = RmpoptFunction::Verify;
            return Some(Action::Offer {
                batch: Batch { core, ticket, function, window, regions },
                by,
                manner,
            });
        }
        self.offers_wanted = false;
        self.unoffered_since = None;
        None
    }

    /// Clean regions are collected while the leaders work, but not for long; in the first pass
    /// until they are done, so that each core is visited once.
    fn may_offer(&self, now: Time) -> bool {
        // What is out is charged when it ends: with a cap, not everything goes out at once.
        if self.config.cap_ns_per_minute > 0 && self.offers_out >= self.followers_at_once() {
            return false;
        }
        self.leaders_done(now)
            || self.unoffered_since.is_some_and(|since| now.since(since) >= self.patience_ns())
    }

    pub(super) fn patience_ns(&self) -> u64 {
        if self.first_pass {
            self.config.bound_ns
        } else {
            self.config.merge_ns
        }
    }

    pub(super) fn leaders_done(&self, now: Time) -> bool {
        self.bases_out == 0 && !self.leaders.any_busy() && now < self.next_due
    }

    pub(super) fn batch(&mut self, now: Time, report: &BatchReport) {
        let core = report.core;
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        let Some(offered) = cell.offered.as_mut() else { return };
        if report.ticket.init != self.init || offered.serial != report.ticket.serial {
            return;
        }
        offered.begun = true;
        if report.finished {
            cell.offered = None;
            self.lacking.put(core, true);
        }
        let (window, believed) = (cell.window, cell.believed);
        self.stats.slow_followers = self.stats.slow_followers.wrapping_add(u64::from(report.slow));
        let audit = report.function == RmpoptFunction::Report;
        for region in report.set.regions(window) {
            if !audit && self.is_current(report.ticket, region) && self.is_clean(region) {
                self.believe(core, region);
            }
        }
        for region in report.refused.regions(window) {
            if !self.is_current(report.ticket, region) {
                self.stats.stale = self.stats.stale.wrapping_add(1);
            } else if audit {
                // Another follower's contradiction may have dropped it meanwhile.
                if window.slot(region).is_some_and(|slot| believed.contains(slot)) {
                    self.audit_failed(core, region);
                }
            } else {
                self.suspect(now, region);
            }
        }
        if report.finished {
            if !audit {
                self.offers_out = self.offers_out.saturating_sub(1);
            }
            self.offers_wanted = true;
            self.unoffered_since.get_or_insert(now);
        }
    }

    /// Of an offer that was replaced or withdrawn, too: the instruction ran.
    pub(super) fn batch_fault(&mut self, core: CoreId, ticket: Ticket) {
        if ticket.init == self.init {
            self.fault(core);
        }
    }

    /// Asks one core whether it has what it is believed to have.
    pub(super) fn next_audit(&mut self, now: Time) -> Option<Action> {
        if self.config.audit_ns == 0 || now < self.audit_at || self.first_pass {
            return None;
        }
        self.audit_at = now.after(self.config.audit_ns);
        // A core that had no interrupt since the last turn is let go.
        if let Some(cell) = self.storage.cores_mut().get_mut(usize::from(self.audited)) {
            if cell.offered.is_some_and(|offered| offered.audit) {
                cell.offered = None;
            }
        }
        let cores = self.cores();
        for _ in 0..cores {
            let core = next_core(&mut self.audit_cursor, cores);
            if core == CoreId(0) {
                self.audit_round = self.audit_round.wrapping_add(1);
            }
            let Some(cell) = self.storage.cores().get(core.index()).copied() else { continue };
            if cell.state != CoreState::Enabled
                || cell.offered.is_some()
                || cell.believed.is_empty()
            {
                continue;
            }
            let regions = self.sample(&cell.believed);
            let ticket = self.ticket();
            let (serial, by) = (ticket.serial, Time::NEVER);
            if let Some(cell) = self.storage.cores_mut().get_mut(core.index()) {
                let regions = regions.count();
                cell.offered = Some(Offered { serial, audit: true, regions, by, begun: false });
            }
            self.audited = core.0;
            let function = RmpoptFunction::Report;
            let batch = Batch { core, ticket, function, window: cell.window, regions };
            return Some(Action::Offer { batch, by, manner: Manner::Tick });
        }
        None
    }

    /// So many of the believed regions as one audit takes, from a place that moves each round.
    fn sample(&self, believed: &WindowMask) -> WindowMask {
        let mut from = self.audit_round.wrapping_mul(self.config.audit_regions) % Window::REGIONS;
        let mut regions = WindowMask::EMPTY;
        for _ in 0..self.config.audit_regions {
            let Some(slot) = believed.next(from).or_else(|| believed.next(0)) else { break };
            if !regions.insert(slot) {
                break;
            }
            from = slot.wrapping_add(1);
        }
        regions
    }

    /// The bit was not set although no mark said so.
    fn audit_failed(&mut self, core: CoreId, region: Region) {
        self.stats.audit_failures = self.stats.audit_failures.wrapping_add(1);
        if let Some(cell) = self.storage.cores_mut().get_mut(core.index()) {
            if let Some(slot) = cell.window.slot(region) {
                cell.believed.remove(slot);
            }
        }
        self.lacking.put(core, true);
        self.offers_wanted = true;
    }
}

/// The core whose turn it is, round and round.
fn next_core(cursor: &mut u16, cores: u16) -> CoreId {
    let core = if *cursor < cores { *cursor } else { 0 };
    *cursor = core.wrapping_add(1);
    CoreId(core)
}
