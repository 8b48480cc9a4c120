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
use crate::rmpopt_core::bits::CoreSet;
use crate::rmpopt_core::storage::{Bitmap, CoreCell, CoreState};
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
    /// Nothing runs; bases are being cleared.
    Clearing,
    /// Cleared; [`Action::Stopped`] is due.
    Stopped,
}

/// Counts that only this policy has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Answers that were void because the region had been marked meanwhile.
    pub stale: u64,
    /// Followers' RMPOPTs that found a region dirty that a leader had found clean, with no mark in
    /// between: its mark was not drained yet, or was lost.
    pub contradicted: u64,
    /// Audited bits that were not set, for the same reasons.
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
    /// Between SNP_INIT and SNP's going down, whatever the driver does.
    snp_up: bool,
    /// Some core's base is to be written.
    bases_wanted: bool,
    /// Writes of bases that have not been answered.
    bases_out: u16,
    /// Some core's base is to be cleared.
    leftovers: bool,
    /// Cores that may lack a clean region: all of them once a region is found clean.
    lacking: CoreSet,
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
    /// How often the audit has been through all cores.
    audit_round: u32,
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
            snp_up: false,
            bases_wanted: false,
            bases_out: 0,
            leftovers: false,
            lacking: CoreSet::EMPTY,
            offers_wanted: false,
            unoffered_since: None,
            offers_out: 0,
            core_cursor: 0,
            first_pass: false,
            pass_open: false,
            passes: 0,
            audit_at: Time::NEVER,
            audit_cursor: 0,
            audit_round: 0,
            audited: 0,
            sweep_at: Time::NEVER,
            sweep_cursor: 0,
            armed: Time::NEVER,
            minute: Time::ZERO,
            spent_ns: 0,
            stats: Stats::default(),
        }
    }

    /// The parameters in force.
    pub const fn config(&self) -> Config {
        self.config
    }

    /// Other parameters from now on. Delays that have begun end as they would have.
    pub fn configure(&mut self, now: Time, config: Config) {
        let up = self.phase == Phase::Up;
        if up && config.audit_ns != self.config.audit_ns {
            self.audit_at = later(now, config.audit_ns);
        }
        if up && (config.sweep_per_second == 0) != (self.config.sweep_per_second == 0) {
            let interval_ns = if config.sweep_per_second == 0 { 0 } else { SECOND };
            self.sweep_at = later(now, interval_ns);
        }
        self.config = config;
        self.armed = Time::NEVER;
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

    /// Cores that there are cells for.
    fn cores(&self) -> u16 {
        self.storage.cores().len().min(usize::from(CoreSet::MAX)) as u16
    }

    fn first_core(&self, like: impl Fn(&CoreCell) -> bool) -> Option<CoreId> {
        let mut cores = (0..self.cores()).zip(self.storage.cores());
        cores.find(|(_, cell)| like(cell)).map(|(number, _)| CoreId(number))
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
            from = bit.wrapping_add(1);
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
        self.unclean(now, region);
        if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
            cell.marked = mark;
            cell.retries = 0;
        }
        if shared {
            self.nominate(now, region, self.delay(region));
        } else {
            // Pages were assigned and none was given back since: when they are, a mark will come.
            Bitmap::Candidate.put(&mut self.storage, region, false);
        }
    }

    /// A region may not be clean any more: drops what is believed, and notes whether it flips.
    fn unclean(&mut self, now: Time, region: Region) {
        if !Bitmap::Clean.put(&mut self.storage, region, false) {
            return;
        }
        self.drop_belief(region);
        let flip_ns = self.config.flip_ns;
        if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
            let flipped = now.since(cell.clean_since) < flip_ns;
            cell.hold_off = if flipped { cell.hold_off.saturating_add(1).min(16) } else { 0 };
        }
    }

    /// From a region's activity to its verification, its hold-off included.
    fn delay(&self, region: Region) -> u64 {
        let cell = self.storage.regions().get(region.index());
        self.config.delay(cell.map_or(0, |cell| cell.hold_off))
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
            from = number.wrapping_add(1);
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
        self.unclean(now, region);
        self.nominate(now, region, self.delay(region));
        if let Some(cell) = self.storage.regions_mut().get_mut(region.index()) {
            cell.retries = 1;
        }
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
            let number = if self.sweep_cursor < regions { self.sweep_cursor } else { 0 };
            self.sweep_cursor = number.wrapping_add(1);
            let Some(region) = Region::new(number) else { continue };
            let known = self.is_clean(region) || Bitmap::Candidate.has(&self.storage, region);
            if Bitmap::Eligible.has(&self.storage, region) && !known {
                self.nominate(now, region, 0);
                left = left.wrapping_sub(1);
            }
        }
    }

    /// A pass ends when there is nothing due, nothing under way and nothing to offer.
    fn close_pass(&mut self, now: Time) {
        if !self.leaders_done(now) || self.offers_wanted || self.offers_out > 0 {
            return;
        }
        self.first_pass = false;
        if self.pass_open {
            self.pass_open = false;
            self.passes = self.passes.wrapping_add(1);
        }
    }

    fn timer(&mut self, now: Time) -> Option<Action> {
        let merged = match self.unoffered_since {
            Some(since) if self.offers_wanted => since.after(self.patience_ns()),
            _ => Time::NEVER,
        };
        let allowed = self.allowed_at(now);
        let next = if self.paused {
            Time::NEVER
        } else if allowed > now {
            allowed
        } else {
            // What is due already waits for an answer, not for time.
            [self.next_due, merged, self.audit_at, self.sweep_at]
                .into_iter()
                .filter(|&at| at > now)
                .fold(Time::NEVER, Time::earlier)
        };
        if next == self.armed || next == Time::NEVER {
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
            Event::BaseWritten { core, base, snp_en } => self.base_written(now, core, base, snp_en),
            Event::CoreOnline { core, base, snp_en } => self.core_online(now, core, base, snp_en),
            Event::CoreOffline(core) => self.core_offline(core),
            Event::Timer => self.armed = Time::NEVER,
            // The operator's word holds over SNP_INITs.
            Event::Request(Request::Pause) => self.paused = true,
            Event::Request(Request::Resume) => self.paused = false,
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
            Event::Request(Request::Optimise) => self.nominate_all(now, 0, true),
            // The marks of its pages say more than a guest's end does.
            Event::GuestDecommissioned
            | Event::GuestMemoryFreed
            | Event::BroadcastDone { .. }
            | Event::BroadcastFault { .. } => {}
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
            self.close_pass(now);
            if let Some(action) = self.next_audit(now) {
                return Some(action);
            }
        }
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
        Some(self.config.liveness_bound(self.cores(), costs))
    }

    fn passes(&self) -> u64 {
        self.passes
    }

    fn counts(&self) -> Option<Stats> {
        Some(self.stats)
    }

    fn first_pass_over(&self) -> bool {
        !self.first_pass
    }

    fn window(&self, core: CoreId) -> Option<Window> {
        let cell = self.storage.cores().get(core.index())?;
        (cell.state != CoreState::Out).then_some(cell.window)
    }

    fn belief(&self, core: CoreId, region: Region) -> bool {
        self.believes(core, region)
    }

    fn clean(&self, region: Region) -> bool {
        self.is_clean(region)
    }
}

/// After an interval; never if it is 0.
fn later(now: Time, interval_ns: u64) -> Time {
    if interval_ns == 0 {
        Time::NEVER
    } else {
        now.after(interval_ns)
    }
}
