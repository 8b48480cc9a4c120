//! `tracked`: the policy of our own.
//!
//! * Only regions whose pages became shared are verified, after a delay that starts at their last
//!   activity and is bounded from their first.
//! * One leader per window verifies, in a worker that may be rescheduled after each RMPOPT. Its
//!   verdict counts: dirty ends there, clean is offered to the cores that lack it.
//! * Followers ride on interrupts that come anyway; a core that has none is woken once, with one
//!   batch. The first pass after SNP_INIT visits every participating core.
//! * What a core is believed to have is dropped by a mark, an SNP_INIT, the core's return and a
//!   failed audit.

mod belief;
mod config;
mod followers;
mod leader;
mod life;
#[cfg(test)]
mod tests;

pub use self::config::Config;
pub use self::leader::MAX_WINDOWS;

use self::leader::Leaders;
use crate::rmpopt_core::storage::{Bitmap, CoreState};
use crate::rmpopt_core::{
    bits, Action, Budget, Capable, Claims, CoreId, Drained, Event, LivenessBound, Policy, Request,
    Serial, Storage, Ticket, Time, WorstCase, SECOND,
};
use crate::snp_defs::{Region, Window};

/// Where the driver is in SNP's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// SNP is not initialised, or the driver has stopped.
    Down,
    /// SNP is up.
    Up,
    /// Asked to stop; waiting for what runs. `clear`: bases are written 0 afterwards.
    Stopping { asked: bool, clear: bool },
    /// Nothing runs; bases are being cleared from this core on.
    Clearing { next: u16 },
    /// Cleared; [`Action::Stopped`] is due.
    Stopped,
}

/// Counts that only this policy has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Answers that were void because the region had been marked meanwhile.
    pub stale: u64,
    /// Regions found clean that a follower then found dirty, with no mark in between.
    pub contradicted: u64,
    /// Audited bits that were not set.
    pub audit_failures: u64,
    /// Followers' RMPOPTs that turned out to be full scans.
    pub slow_followers: u64,
}

/// The policy. `S` is its memory: see [`Storage`].
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Each says one independent thing of the driver.
pub struct Tracked<S> {
    config: Config,
    storage: S,
    phase: Phase,
    /// Counts SNP_INITs.
    init: u32,
    /// Counts marks.
    mark: u64,
    serial: Serial,
    paused: bool,
    leaders: Leaders,
    /// No candidate is due before this.
    next_due: Time,
    /// Cores whose base is still to be written or read back.
    bases_out: u16,
    /// A core returned after the bases had been cleared.
    leftovers: bool,
    /// Moves when a region is found clean: then any core may lack it.
    generation: u32,
    /// Some core may lack a clean region.
    offers_wanted: bool,
    /// When the first region became clean that has not been offered.
    unoffered_since: Option<Time>,
    /// Offers out, audits not counted.
    offers_out: u16,
    core_cursor: u16,
    first_pass: bool,
    pass_open: bool,
    passes: u64,
    audit_at: Time,
    audit_cursor: u16,
    /// The core that was audited last.
    audited: u16,
    sweep_at: Time,
    sweep_cursor: u32,
    armed: Time,
    minute: Time,
    spent_ns: u64,
    stats: Stats,
}

impl<S: Storage> Tracked<S> {
    /// A driver for a host on which RMPOPT may be used; nothing happens before SNP_INIT.
    pub fn new(_proof: Capable, config: Config, storage: S) -> Self {
        Self {
            config,
            storage,
            phase: Phase::Down,
            init: 0,
            mark: 0,
            serial: 0,
            paused: false,
            leaders: Leaders::NONE,
            next_due: Time::NEVER,
            bases_out: 0,
            leftovers: false,
            generation: 0,
            offers_wanted: false,
            unoffered_since: None,
            offers_out: 0,
            core_cursor: 0,
            first_pass: false,
            pass_open: false,
            passes: 0,
            audit_at: Time::NEVER,
            audit_cursor: 0,
            audited: 0,
            sweep_at: Time::NEVER,
            sweep_cursor: 0,
            armed: Time::NEVER,
            minute: Time::ZERO,
            spent_ns: 0,
            stats: Stats::default(),
        }
    }

    /// Counts that only this policy has.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether `region` was found clean since its last mark.
    pub fn is_clean(&self, region: Region) -> bool {
        Bitmap::Clean.has(&self.storage, region)
    }

    /// Whether `core` is believed to have `region` optimised.
    pub fn believes(&self, core: CoreId, region: Region) -> bool {
        self.storage.cores().get(core.index()).is_some_and(|cell| {
            cell.window.slot(region).is_some_and(|slot| cell.believed.contains(slot))
        })
    }

    /// Whether RMPOPT runs on `core`.
    pub fn is_enabled(&self, core: CoreId) -> bool {
        self.storage.cores().get(core.index()).is_some_and(|cell| cell.state == CoreState::Enabled)
    }

    fn ticket(&mut self) -> Ticket {
        self.serial = self.serial.wrapping_add(1);
        Ticket { init: self.init, mark: self.mark, serial: self.serial }
    }

    /// Whether an answer still speaks of the region as it is.
    fn is_current(&self, ticket: Ticket, region: Region) -> bool {
        ticket.init == self.init
            && self
                .storage
                .regions()
                .get(region.index())
                .is_some_and(|cell| cell.marked <= ticket.mark)
    }

    fn drained(&mut self, now: Time, drained: Drained) {
        let marks = [drained.shared | drained.lost];
        let mut from = 0;
        while let Some(bit) = bits::next_set(&marks, from) {
            from = bit + 1;
            let number = drained.word.saturating_mul(64).saturating_add(bit);
            if let Some(region) = Region::new(number) {
                self.marked(now, region, drained.shared >> bit & 1 == 1);
            }
        }
    }

    /// A region was marked: nothing is known of it any more.
    fn marked(&mut self, now: Time, region: Region, shared: bool) {
        if !Bitmap::Eligible.has(&self.storage, region) {
            return;
        }
        self.mark = self.mark.wrapping_add(1);
        let mark = self.mark;
        if Bitmap::Clean.put(&mut self.storage, region, false) {
            self.drop_belief(region);
            let flip_ns = self.config.flip_ns;
            if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
                let flipped = now.since(cell.clean_since) < flip_ns;
                cell.hold_off = if flipped { cell.hold_off.saturating_add(1).min(16) } else { 0 };
            }
        }
        if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
            cell.marked = mark;
            cell.retries = 0;
        }
        if shared {
            let hold_off =
                self.storage.regions().get(region.index()).map_or(0, |cell| cell.hold_off);
            let delay_ns = self.config.delay(hold_off);
            self.nominate(now, region, delay_ns);
        } else {
            // Pages were assigned and none was given back since: when they are, a mark will come.
            Bitmap::Candidate.put(&mut self.storage, region, false);
        }
    }

    /// Makes a region a candidate, due `delay_ns` from now but within the bound of its first
    /// activity.
    fn nominate(&mut self, now: Time, region: Region, delay_ns: u64) {
        let already = Bitmap::Candidate.put(&mut self.storage, region, true);
        let bound_ns = self.config.bound_ns;
        if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
            if !already {
                cell.since = now;
            }
            cell.due = now.after(delay_ns).earlier(cell.since.after(bound_ns));
            self.next_due = self.next_due.earlier(cell.due);
        }
    }

    /// Makes every region that is not clean a candidate.
    fn nominate_all(&mut self, now: Time, delay_ns: u64, evidence_complete: bool) {
        let mut from = 0;
        while let Some(number) = bits::next_set(Bitmap::Eligible.of(&self.storage), from) {
            from = number + 1;
            let Some(region) = Region::new(number) else { break };
            if self.is_clean(region) {
                continue;
            }
            self.nominate(now, region, delay_ns);
            if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
                cell.retries = u8::from(!evidence_complete);
            }
        }
    }

    /// The verdict contradicts what the marks say: look again, and keep looking for a while.
    fn suspect(&mut self, now: Time, region: Region) {
        self.stats.contradicted = self.stats.contradicted.wrapping_add(1);
        if Bitmap::Clean.put(&mut self.storage, region, false) {
            self.drop_belief(region);
        }
        let delay_ns = self.config.delay_ns;
        self.nominate(now, region, delay_ns);
        if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
            cell.retries = 1;
        }
    }

    fn request(&mut self, now: Time, request: Request) {
        match request {
            Request::Optimise => self.nominate_all(now, 0, true),
            Request::Pause => self.paused = true,
            Request::Resume => self.paused = false,
        }
        self.offers_wanted = true;
    }

    /// Takes CPU time off the minute's allowance.
    fn charge(&mut self, now: Time, took_ns: u64) {
        if now.since(self.minute) >= 60 * SECOND {
            self.minute = now;
            self.spent_ns = 0;
        }
        self.spent_ns = self.spent_ns.saturating_add(took_ns);
    }

    /// When work may go on: now, or when the minute's allowance is fresh again.
    fn allowed_at(&self, now: Time) -> Time {
        let cap = self.config.cap_ns_per_minute;
        let fresh = self.minute.after(60 * SECOND);
        if cap == 0 || self.spent_ns < cap || fresh <= now {
            now
        } else {
            fresh
        }
    }

    /// Without probes: a few regions that are not optimised become candidates each second.
    fn sweep(&mut self, now: Time) {
        if self.config.sweep_per_second == 0 || now < self.sweep_at {
            return;
        }
        self.sweep_at = now.after(SECOND);
        let regions = self.storage.regions().len() as u32;
        let mut left = self.config.sweep_per_second;
        for _ in 0..regions {
            if left == 0 {
                break;
            }
            let number = self.sweep_cursor % regions.max(1);
            self.sweep_cursor = (number + 1) % regions.max(1);
            let Some(region) = Region::new(number) else { continue };
            if Bitmap::Eligible.has(&self.storage, region) && !self.is_clean(region) {
                self.nominate(now, region, 0);
                left -= 1;
            }
        }
    }

    /// A pass ends when there is nothing due, nothing under way and nothing to offer.
    fn close_pass(&mut self, now: Time) {
        let idle = !self.leaders.any_busy()
            && now < self.next_due
            && !self.offers_wanted
            && self.offers_out == 0;
        if self.pass_open && idle {
            self.pass_open = false;
            self.passes = self.passes.wrapping_add(1);
        }
    }

    fn timer(&mut self, now: Time) -> Option<Action> {
        let mut next = self.next_due;
        if self.offers_wanted {
            if let Some(since) = self.unoffered_since {
                next = next.earlier(since.after(self.config.merge_ns));
            }
        }
        next = next.earlier(self.audit_at).earlier(self.sweep_at);
        let allowed = self.allowed_at(now);
        if self.paused {
            next = Time::NEVER;
        } else if allowed > now {
            next = allowed;
        }
        // What is due already waits for an answer, not for time.
        if next <= now || next == self.armed || next == Time::NEVER {
            return None;
        }
        self.armed = next;
        Some(Action::ArmTimer(next))
    }
}

impl<S: Storage> Policy for Tracked<S> {
    fn name(&self) -> &'static str {
        "tracked"
    }

    fn claims(&self) -> Claims {
        Claims::of(&[1, 2, 3, 4, 5, 6])
    }

    fn handle(&mut self, now: Time, event: Event<'_>) {
        match event {
            Event::SnpInitialised(host) => self.initialise(now, host),
            Event::SnpGoingDown => self.stop(true),
            Event::Unload => self.stop(false),
            Event::Quiesced => self.quiesced(),
            Event::BaseWritten { core, base, snp_en } => self.base_written(core, base, snp_en),
            Event::CoreOnline { core, base, snp_en } => self.core_online(now, core, base, snp_en),
            Event::CoreOffline(core) => self.core_offline(core),
            Event::Timer => self.armed = Time::NEVER,
            _ if self.phase != Phase::Up => {}
            Event::Drained(drained) => self.drained(now, drained),
            Event::EvidenceLost => {
                let delay_ns = self.config.delay_ns;
                self.nominate_all(now, delay_ns, false);
            }
            Event::Verified { ticket, core, region, verdict, took_ns } => {
                self.charge(now, took_ns);
                self.verified(now, ticket, core, region, verdict);
            }
            Event::Batch(report) => {
                self.charge(now, report.held_ns);
                self.batch(now, report);
            }
            Event::BatchFault { core, ticket } => self.batch_fault(core, ticket),
            Event::Request(request) => self.request(now, request),
            // The marks of its pages say more than a guest's end does.
            Event::GuestDecommissioned | Event::BroadcastDone { .. } => {}
        }
    }

    fn poll(&mut self, now: Time) -> Option<Action> {
        if self.phase != Phase::Up {
            return self.poll_stopping();
        }
        if let Some(action) = self.write_next_base() {
            return Some(action);
        }
        if !self.paused && self.allowed_at(now) <= now {
            self.sweep(now);
            if let Some(action) = self.next_verify(now) {
                return Some(action);
            }
            if let Some(action) = self.next_offer(now) {
                return Some(action);
            }
            if let Some(action) = self.next_audit(now) {
                return Some(action);
            }
        }
        self.close_pass(now);
        self.timer(now)
    }

    fn tick_ns(&self) -> Option<u64> {
        Some(self.config.tick_ns)
    }

    fn budget(&self) -> Option<Budget> {
        Some(Budget { hold_ns: self.config.hold_ns, slow_ns: self.config.slow_ns })
    }

    fn followers_at_once(&self) -> u16 {
        self.config.followers_at_once.max(1)
    }

    fn liveness_bound(&self, costs: &WorstCase) -> Option<LivenessBound> {
        Some(self.config.liveness_bound(self.storage.cores().len() as u16, costs))
    }

    fn passes(&self) -> u64 {
        self.passes
    }

    fn first_pass_over(&self) -> bool {
        !self.first_pass
    }

    fn window(&self, core: CoreId) -> Option<Window> {
        let cell = self.storage.cores().get(core.index())?;
        (cell.state != CoreState::Out).then_some(cell.window)
    }
}
