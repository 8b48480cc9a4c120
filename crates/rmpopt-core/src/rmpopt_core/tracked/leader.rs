//! Leaders: one core per window, which verifies.

use super::config::doubled;
use super::Tracked;
use crate::rmpopt_core::storage::{Bitmap, CoreCell, CoreState};
use crate::rmpopt_core::{bits, Action, CoreId, Serial, Storage, Ticket, Time, Verdict};
use crate::snp_defs::{Region, Window};

/// Different windows that one host may have; cores of further ones follow, and are led by those
/// whose windows overlap theirs.
pub const MAX_WINDOWS: usize = 64;

/// The leader of the cores that share a window.
#[derive(Clone, Copy, Debug)]
struct Leader {
    window: Window,
    core: Option<CoreId>,
    /// What it is verifying.
    busy: Option<(Serial, Region)>,
    /// Where its next look at the candidates begins.
    cursor: u32,
}

#[derive(Debug)]
pub(super) struct Leaders {
    all: [Option<Leader>; MAX_WINDOWS],
}

impl Leaders {
    pub(super) const NONE: Self = Self { all: [None; MAX_WINDOWS] };

    /// Forgets all, in place: the table is larger than a kernel stack frame should be.
    pub(super) fn clear(&mut self) {
        for leader in &mut self.all {
            *leader = None;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Leader> {
        self.all.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Leader> {
        self.all.iter_mut().flatten()
    }

    pub(super) fn any_busy(&self) -> bool {
        self.iter().any(|leader| leader.busy.is_some())
    }

    fn is_verifying(&self, region: Region) -> bool {
        self.iter().any(|leader| leader.busy.is_some_and(|(_, busy)| busy == region))
    }

    /// `core` can lead its window if nobody does.
    pub(super) fn enlist(&mut self, core: CoreId, window: Window) {
        let known = self.iter_mut().find(|leader| leader.window == window);
        if let Some(leader) = known {
            leader.core.get_or_insert(core);
            return;
        }
        if let Some(free) = self.all.iter_mut().find(|slot| slot.is_none()) {
            let cursor = window.base.get();
            *free = Some(Leader { window, core: Some(core), busy: None, cursor });
        }
    }

    /// `core` cannot lead any more. Returns the window that now lacks a leader.
    pub(super) fn dismiss(&mut self, core: CoreId) -> Option<Window> {
        let leader = self.iter_mut().find(|leader| leader.core == Some(core))?;
        leader.core = None;
        leader.busy = None;
        Some(leader.window)
    }

    fn answered(&mut self, serial: Serial) -> bool {
        let answered =
            self.iter_mut().find(|leader| leader.busy.is_some_and(|(asked, _)| asked == serial));
        answered.is_some_and(|leader| leader.busy.take().is_some())
    }
}

impl<S: Storage> Tracked<S> {
    /// The next candidate that is due, on a leader that is free.
    pub(super) fn next_verify(&mut self, now: Time) -> Option<Action> {
        if now < self.next_due {
            return None;
        }
        for index in 0..MAX_WINDOWS {
            let Some(Some(leader)) = self.leaders.all.get(index).copied() else { continue };
            let (Some(core), None) = (leader.core, leader.busy) else { continue };
            let Some(region) = self.due_in(now, leader.window, leader.cursor) else { continue };
            let ticket = self.ticket();
            if let Some(Some(leader)) = self.leaders.all.get_mut(index) {
                leader.busy = Some((ticket.serial, region));
                leader.cursor = region.get().saturating_add(1);
            }
            self.pass_open = true;
            return Some(Action::Verify { core, region, ticket });
        }
        self.next_due = self.earliest_after(now);
        None
    }

    /// A candidate of `window` that is due and not being verified, in turn from `cursor` on.
    fn due_in(&self, now: Time, window: Window, cursor: u32) -> Option<Region> {
        let candidates = Bitmap::Candidate.of(&self.storage);
        let find = |from: u32, end: u32| {
            let mut from = from;
            while let Some(number) = bits::next_set(candidates, from).filter(|&n| n < end) {
                from = number.wrapping_add(1);
                let region = Region::new(number)?;
                let due = self.storage.regions().get(region.index())?.due;
                if due <= now && !self.leaders.is_verifying(region) {
                    return Some(region);
                }
            }
            None
        };
        let base = window.base.get();
        let end = base.saturating_add(Window::REGIONS);
        let cursor = cursor.max(base).min(end);
        find(cursor, end).or_else(|| find(base, cursor))
    }

    /// When the next candidate becomes due. One that is due already and is not being verified
    /// waits for a leader: each answer looks again.
    fn earliest_after(&self, now: Time) -> Time {
        let mut earliest = Time::NEVER;
        let mut from = 0;
        while let Some(number) = bits::next_set(Bitmap::Candidate.of(&self.storage), from) {
            from = number.wrapping_add(1);
            let due = self.storage.regions().get(number as usize).map_or(Time::NEVER, |c| c.due);
            if due > now {
                earliest = earliest.earlier(due);
            }
        }
        earliest
    }

    pub(super) fn verified(
        &mut self,
        now: Time,
        ticket: Ticket,
        core: CoreId,
        region: Region,
        verdict: Verdict,
    ) {
        if ticket.init != self.init {
            return;
        }
        if verdict == Verdict::Fault {
            self.fault(core);
            return;
        }
        if !self.leaders.answered(ticket.serial) {
            return;
        }
        // Whoever waited for this leader gets its turn.
        self.next_due = Time::ZERO;
        if !self.is_current(ticket, region) {
            self.stats.stale = self.stats.stale.wrapping_add(1);
            return;
        }
        Bitmap::Candidate.put(&mut self.storage, region, false);
        if verdict == Verdict::Clean {
            Bitmap::Clean.put(&mut self.storage, region, true);
            if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
                cell.clean_since = now;
                cell.retries = 0;
            }
            self.believe(core, region);
            self.lacking.fill(self.cores());
            self.offers_wanted = true;
            self.unoffered_since.get_or_insert(now);
        } else {
            self.retry(now, region);
        }
    }

    /// Dirty. With complete evidence a mark will come when that changes; without, look again.
    fn retry(&mut self, now: Time, region: Region) {
        let (first_ns, longest_ns) = (self.config.retry_ns, self.config.retry_max_ns);
        let Some(cell) = self.storage.regions_mut().get_mut(region.index()) else { return };
        let Some(step) = cell.retries.checked_sub(1) else { return };
        let interval_ns = doubled(first_ns, step);
        if interval_ns > longest_ns {
            cell.retries = 0;
            return;
        }
        cell.retries = cell.retries.saturating_add(1);
        self.nominate(now, region, interval_ns);
    }

    /// RMPOPT faulted where it was enabled: the proof of law 4 did not hold, nothing is safe to run
    /// on this host. A core that is known to be away may fault.
    pub(super) fn fault(&mut self, core: CoreId) {
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        if cell.state == CoreState::Enabled {
            cell.state = CoreState::Barred;
            self.begin_stop(false);
        }
    }

    /// `core`, which is enabled, leads its window if nobody does and it may.
    pub(super) fn enlist(&mut self, core: CoreId, window: Window) {
        let cell = self.storage.cores().get(core.index());
        if cell.is_some_and(|cell| !cell.follows_only) {
            self.leaders.enlist(core, window);
        }
    }

    /// Whether `core` may lead. Without any that may, nothing in their window is verified.
    pub fn let_lead(&mut self, core: CoreId, may: bool) {
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        cell.follows_only = !may;
        let (enabled, window) = (cell.state == CoreState::Enabled, cell.window);
        if !may {
            self.replace_leader(core);
        } else if enabled {
            self.leaders.enlist(core, window);
            self.next_due = Time::ZERO;
        }
    }

    /// Finds another leader for the window that `core` led.
    pub(super) fn replace_leader(&mut self, core: CoreId) {
        let Some(window) = self.leaders.dismiss(core) else { return };
        let heir = |cell: &CoreCell| {
            cell.state == CoreState::Enabled && cell.window == window && !cell.follows_only
        };
        if let Some(heir) = self.first_core(heir) {
            self.leaders.enlist(heir, window);
        }
        self.next_due = Time::ZERO;
    }
}
