//! Upstream's series, v1 to v10, and two ideas from its review, as faithful as spec/rmpopt.md 4 allows.
//!
//! One policy; what a version does differently is a row of [`version`]. Of v10:
//!
//! * SNP_INIT: every core's base is written, one core after the other, all with the lowest RAM as
//!   base; a pass is queued with no delay.
//! * A guest's end restarts a timer of 10 s (`mod_delayed_work`); when it fires, a pass.
//! * A pass: the leader runs RMPOPT on every region of the window, rescheduling after each; then,
//!   region by region, one interrupt to every other core, waited for. No result is looked at.
//! * A request during a pass queues another. Teardown waits for the pass and writes 0 everywhere.
//! * An exception in RMPOPT where it was enabled, which upstream has no answer to (an oops): all stops.
//!
//! `WQ_UNBOUND` work runs where the scheduler puts it; here always on the first online core, or the
//! first enabled one where the version sees to that (assumed).

#[cfg(test)]
mod tests;
pub mod version;

use core::borrow::BorrowMut;

pub use self::version::Version;
use self::version::{Lead, Trigger, Windows};
use crate::rmpopt_core::bits::CoreSet;
use crate::rmpopt_core::{
    bits, window, Action, Budget, Capable, Claims, CoreId, Drained, Event, Host, LivenessBound,
    Policy, Request, Serial, Ticket, Time, Verdict, WindowMask, WorstCase, SECOND,
};
use crate::snp_defs::{Region, RmpoptBase, Window};

/// How often the marks that feed the map are drained, while there are any (assumed; upstream would
/// set its bits where pages change hands).
const MAP_TICK_NS: u64 = SECOND;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Down,
    Programming {
        next: u16,
    },
    Idle,
    /// The leader is at this region.
    Leading {
        region: u32,
        asked: bool,
    },
    /// Followers are at this region.
    Following {
        region: u32,
        asked: bool,
    },
    /// Timer cancelled, waiting for what runs.
    Quiescing,
    Clearing {
        next: u16,
    },
    Stopped,
}

/// The policy; it needs no storage but masks, and for v1 a window per core.
#[derive(Debug)]
pub struct Upstream<W = [Window; 0]> {
    version: &'static Version,
    delay_ns: u64,
    phase: Phase,
    init: u32,
    serial: Serial,
    participates: CoreSet,
    enabled: CoreSet,
    online: CoreSet,
    /// The lowest RAM's: where every pass begins.
    window: Window,
    /// Windows of the first so many cores; others have the lowest.
    own: W,
    /// First region past the pass: top of RAM rounded up, mostly at most 2 TiB from the base.
    end: u32,
    /// The map: slots of regions that a pass is to try.
    held: WindowMask,
    /// Slots of regions that the followers of this pass are interrupted for.
    follow: WindowMask,
    /// When the next pass begins.
    queued: Option<Time>,
    armed: Time,
    /// Bases that are being written.
    bases_out: u16,
    /// `Some(clear)`: asked to stop.
    stopping: Option<bool>,
    paused: bool,
    passes: u64,
    first_pass_over: bool,
}

impl Upstream {
    /// A version whose cores all have the same window.
    pub const fn new(proof: Capable, version: &'static Version) -> Self {
        Self::with_windows(proof, version, version.delay_ns, [])
    }
}

impl<W> Upstream<W> {
    /// A version with another delay than its own; `own` has room for each core's window.
    pub const fn with_windows(
        _proof: Capable,
        version: &'static Version,
        delay_ns: u64,
        own: W,
    ) -> Self {
        Self {
            version,
            delay_ns,
            phase: Phase::Down,
            init: 0,
            serial: 0,
            participates: CoreSet::EMPTY,
            enabled: CoreSet::EMPTY,
            online: CoreSet::EMPTY,
            window: Window { base: Region::ZERO },
            own,
            end: 0,
            held: WindowMask::EMPTY,
            follow: WindowMask::EMPTY,
            queued: None,
            armed: Time::NEVER,
            bases_out: 0,
            stopping: None,
            paused: false,
            passes: 0,
            first_pass_over: true,
        }
    }
}

impl<W: BorrowMut<[Window]>> Upstream<W> {
    fn ticket(&mut self) -> Ticket {
        self.serial = self.serial.wrapping_add(1);
        Ticket { init: self.init, mark: 0, serial: self.serial }
    }

    fn initialise(&mut self, now: Time, host: &dyn Host) {
        self.init = self.init.wrapping_add(1);
        self.participates.clear();
        self.enabled.clear();
        for core in (0..host.cores().min(CoreSet::MAX)).map(CoreId) {
            self.participates.put(core, host.participates(core));
            self.online.put(core, host.participates(core));
        }
        self.window = window::lowest(host);
        for (core, own) in (0..host.cores()).map(CoreId).zip(self.own.borrow_mut()) {
            *own = match self.version.windows {
                Windows::Lowest => self.window,
                Windows::Own => window::start_of_own(host, core),
            };
        }
        let window_end = self.window.base.get().saturating_add(Window::REGIONS);
        self.end = host.spanned_regions();
        if !self.version.whole_ram {
            self.end = self.end.min(window_end);
        }
        for slot in 0..Window::REGIONS {
            self.held.insert(slot);
        }
        self.phase = Phase::Programming { next: 0 };
        self.queued = Some(now.after(self.version.first_ns));
        self.stopping = None;
        self.armed = Time::NEVER;
        self.first_pass_over = false;
    }

    fn window_of(&self, core: CoreId) -> Window {
        self.own.borrow().get(core.index()).copied().unwrap_or(self.window)
    }

    /// The first region from `from` on that lies in the pass, and in `mask` if there is one.
    fn next_of(&self, from: u32, mask: Option<&WindowMask>) -> Option<u32> {
        let next = match mask {
            None => from,
            Some(mask) => {
                let slot = mask.next(from.wrapping_sub(self.window.base.get()))?;
                self.window.base.get().saturating_add(slot)
            }
        };
        (next < self.end).then_some(next)
    }

    /// The leader's next region; then the followers start over.
    fn lead_on(&mut self, from: u32) {
        let next = self.next_of(from, self.version.map.then_some(&self.held));
        match next.filter(|_| self.version.lead != Lead::None) {
            Some(region) => self.phase = Phase::Leading { region, asked: false },
            None => self.follow_on(self.window.base.get()),
        }
    }

    /// The leader has been at `region`; `follow` notes whether the others are to go there.
    fn led(&mut self, region: u32, verdict: Verdict) {
        let clean = verdict == Verdict::Clean;
        if let Some(slot) = Region::new(region).and_then(|region| self.window.slot(region)) {
            if clean {
                self.held.remove(slot);
            }
            if clean || !self.version.only_clean {
                self.follow.insert(slot);
            }
        }
        self.lead_on(region.saturating_add(1));
    }

    /// RMPOPT faulted where it was enabled: nothing is safe to run on this host. The pass is given up.
    fn fault(&mut self) {
        if matches!(self.phase, Phase::Leading { .. } | Phase::Following { .. }) {
            self.phase = Phase::Idle;
            self.stopping.get_or_insert(false);
        }
    }

    /// The followers' next region; then the pass is over.
    fn follow_on(&mut self, from: u32) {
        let mask = (self.version.lead != Lead::None).then_some(&self.follow);
        if let Some(region) = self.next_of(from, mask) {
            self.phase = Phase::Following { region, asked: false };
        } else {
            self.phase = Phase::Idle;
            self.passes = self.passes.wrapping_add(1);
            self.first_pass_over = true;
        }
    }

    /// The core on which a pass runs.
    fn leader(&self) -> Option<CoreId> {
        match self.version.lead {
            Lead::Held => self.online.next(0),
            Lead::None | Lead::HeldEnabled | Lead::Rescheduled => self.enabled.next(0),
        }
    }

    /// A pass is asked for, `delay_ns` from now.
    fn queue(&mut self, now: Time, delay_ns: u64) {
        let runs = matches!(self.phase, Phase::Leading { .. } | Phase::Following { .. });
        if self.version.restarts || !runs && self.queued.is_none() {
            self.queued = Some(now.after(delay_ns));
        }
    }

    /// Regions of which pages changed hands are tried by the next pass.
    fn drained(&mut self, drained: Drained) {
        let marks = [drained.shared | drained.lost];
        let mut from = 0;
        while let Some(bit) = bits::next_set(&marks, from) {
            from = bit.wrapping_add(1);
            let number = drained.word.saturating_mul(64).saturating_add(bit);
            if let Some(slot) = Region::new(number).and_then(|region| self.window.slot(region)) {
                self.held.insert(slot);
            }
        }
    }

    /// What an idle driver does: stop, begin a queued pass, or wait for it.
    fn poll_idle(&mut self, now: Time) -> Option<Action> {
        if self.stopping.is_some() {
            self.phase = Phase::Quiescing;
            return Some(Action::Quiesce);
        }
        let at = self.queued.filter(|_| !self.paused)?;
        if at <= now {
            self.queued = None;
            if self.leader().is_none() || self.end <= self.window.base.get() {
                // Nothing to pass over, and nobody to wait for.
                self.first_pass_over = true;
                return None;
            }
            self.follow = WindowMask::EMPTY;
            self.lead_on(self.window.base.get());
            return self.poll(now);
        }
        if self.armed == at {
            return None;
        }
        self.armed = at;
        Some(Action::ArmTimer(at))
    }
}

impl<W: BorrowMut<[Window]>> Policy for Upstream<W> {
    fn name(&self) -> &'static str {
        self.version.name
    }

    fn claims(&self) -> Claims {
        self.version.claims
    }

    fn handle(&mut self, now: Time, event: Event<'_>) {
        match event {
            Event::SnpInitialised(host) => self.initialise(now, host),
            Event::BaseWritten { core, base, snp_en } => {
                let window = self.window_of(core);
                let on = snp_en && base == Some(RmpoptBase::enabled_at(window.base));
                self.enabled.put(core, on);
                self.bases_out = self.bases_out.saturating_sub(1);
            }
            Event::GuestDecommissioned
                if self.phase != Phase::Down && self.version.trigger == Trigger::Decommission =>
            {
                self.queue(now, self.delay_ns);
            }
            Event::GuestMemoryFreed
                if self.phase != Phase::Down && self.version.trigger == Trigger::MemoryFreed =>
            {
                self.queue(now, self.delay_ns);
            }
            Event::Request(Request::Optimise) if self.phase != Phase::Down => self.queue(now, 0),
            Event::Drained(drained) => self.drained(drained),
            Event::Request(Request::Pause) => self.paused = true,
            Event::Request(Request::Resume) => self.paused = false,
            Event::Verified { ticket, core, verdict, .. } if ticket.init == self.init => {
                if verdict == Verdict::Fault && self.enabled.contains(core) {
                    self.fault();
                } else if let Phase::Leading { region, asked: true } = self.phase {
                    self.led(region, verdict);
                }
            }
            Event::BroadcastFault { ticket } if ticket.init == self.init => self.fault(),
            Event::BroadcastDone { ticket } if ticket.init == self.init => {
                if let Phase::Following { region, asked: true } = self.phase {
                    self.follow_on(region.saturating_add(1));
                }
            }
            Event::CoreOnline { core, .. } => self.online.put(core, true),
            Event::CoreOffline(core) => {
                self.enabled.put(core, false);
                self.online.put(core, false);
            }
            Event::Timer => self.armed = Time::NEVER,
            Event::Quiesced if self.phase == Phase::Quiescing => {
                let clear = self.version.clears && self.stopping == Some(true);
                self.phase = if clear { Phase::Clearing { next: 0 } } else { Phase::Stopped };
            }
            Event::SnpGoingDown => self.stopping = Some(true),
            Event::Unload => self.stopping = Some(false),
            _ => {}
        }
        if self.stopping.is_some() && self.phase == Phase::Down {
            self.phase = Phase::Stopped;
        }
    }

    fn poll(&mut self, now: Time) -> Option<Action> {
        match self.phase {
            Phase::Programming { next: from } => {
                let Some(core) = self.participates.next(from) else {
                    if self.bases_out > 0 {
                        return None;
                    }
                    self.phase = Phase::Idle;
                    return self.poll_idle(now);
                };
                self.bases_out = self.bases_out.saturating_add(1);
                self.phase = Phase::Programming { next: core.0.saturating_add(1) };
                let base = RmpoptBase::enabled_at(self.window_of(core).base);
                Some(Action::WriteBase { core, base })
            }
            Phase::Idle => self.poll_idle(now),
            Phase::Down
            | Phase::Quiescing
            | Phase::Leading { asked: true, .. }
            | Phase::Following { asked: true, .. } => None,
            // Upstream forbids CPU hotplug while SNP is up, so this needs every core gone.
            Phase::Leading { .. } | Phase::Following { .. } if self.leader().is_none() => {
                self.phase = Phase::Idle;
                self.poll_idle(now)
            }
            Phase::Leading { region, asked: false } => {
                let (core, number) = (self.leader()?, Region::new(region)?);
                let ticket = self.ticket();
                self.phase = Phase::Leading { region, asked: true };
                Some(Action::Verify { core, region: number, ticket })
            }
            Phase::Following { region, asked: false } => {
                let (leader, number) = (self.leader()?, Region::new(region)?);
                let ticket = self.ticket();
                self.phase = Phase::Following { region, asked: true };
                let reach = self.version.reach;
                Some(Action::Broadcast { leader, region: number, reach, ticket })
            }
            Phase::Clearing { next: from } => {
                let Some(core) = self.enabled.next(from) else {
                    if self.bases_out > 0 {
                        return None;
                    }
                    self.phase = Phase::Stopped;
                    return self.poll(now);
                };
                self.bases_out = self.bases_out.saturating_add(1);
                self.phase = Phase::Clearing { next: core.0.saturating_add(1) };
                Some(Action::WriteBase { core, base: RmpoptBase::OFF })
            }
            Phase::Stopped => {
                self.phase = Phase::Down;
                self.queued = None;
                self.stopping = None;
                Some(Action::Stopped)
            }
        }
    }

    fn tick_ns(&self) -> Option<u64> {
        self.version.map.then_some(MAP_TICK_NS)
    }

    fn leader_reschedules(&self) -> bool {
        !matches!(self.version.lead, Lead::Held | Lead::HeldEnabled)
    }

    fn budget(&self) -> Option<Budget> {
        None
    }

    fn followers_at_once(&self) -> u16 {
        u16::MAX
    }

    fn liveness_bound(&self, _: &WorstCase) -> Option<LivenessBound> {
        None
    }

    fn passes(&self) -> u64 {
        self.passes
    }

    fn first_pass_over(&self) -> bool {
        self.first_pass_over
    }

    fn window(&self, core: CoreId) -> Option<Window> {
        self.participates.contains(core).then(|| self.window_of(core))
    }
}
