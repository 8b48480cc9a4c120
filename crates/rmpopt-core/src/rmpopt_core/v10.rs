//! `v10`: upstream's design, as faithful as spec/rmpopt.md 4 allows.
//!
//! * SNP_INIT: every core's base is written, one core after the other, all with the lowest RAM as
//!   base; a pass is queued with no delay.
//! * A guest's end restarts a timer of 10 s (`mod_delayed_work`); when it fires, a pass.
//! * A pass: the leader runs RMPOPT on every region of the window, rescheduling after each; then,
//!   region by region, one interrupt to every other core, waited for. No result is looked at.
//! * A request during a pass queues another. Teardown waits for the pass and writes 0 everywhere.
//!
//! `WQ_UNBOUND` work runs where the scheduler puts it; here always on the first enabled core
//! (assumed).

use crate::rmpopt_core::bits::CoreSet;
use crate::rmpopt_core::{
    window, Action, Budget, Capable, Claims, CoreId, Event, Host, LivenessBound, Policy, Request,
    Serial, Ticket, Time, WorstCase, SECOND,
};
use crate::snp_defs::{Region, RmpoptBase, Window};

/// Upstream's `RMPOPT_WORK_TIMEOUT`.
pub const DELAY_NS: u64 = 10 * SECOND;

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

/// The policy; it needs no storage but two masks of cores.
#[derive(Debug)]
pub struct V10 {
    phase: Phase,
    delay_ns: u64,
    init: u32,
    serial: Serial,
    participates: CoreSet,
    enabled: CoreSet,
    window: Window,
    /// First region past the pass: top of RAM rounded up, at most 2 TiB from the base.
    end: u32,
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

impl V10 {
    /// Upstream's driver with its delay of 10 s ([`DELAY_NS`]) or another.
    pub const fn new(_proof: Capable, delay_ns: u64) -> Self {
        Self {
            phase: Phase::Down,
            delay_ns,
            init: 0,
            serial: 0,
            participates: CoreSet::EMPTY,
            enabled: CoreSet::EMPTY,
            window: Window { base: Region::ZERO },
            end: 0,
            queued: None,
            armed: Time::NEVER,
            bases_out: 0,
            stopping: None,
            paused: false,
            passes: 0,
            first_pass_over: true,
        }
    }

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
        }
        self.window = window::lowest(host);
        let window_end = self.window.base.get().saturating_add(Window::REGIONS);
        self.end = host.spanned_regions().min(window_end);
        self.phase = Phase::Programming { next: 0 };
        self.queued = Some(now);
        self.stopping = None;
        self.armed = Time::NEVER;
        self.first_pass_over = false;
    }

    /// The region after the leader's; followers start over when it has been through all.
    fn led(&mut self, region: u32) {
        let next = region.saturating_add(1);
        self.phase = if next < self.end {
            Phase::Leading { region: next, asked: false }
        } else {
            Phase::Following { region: self.window.base.get(), asked: false }
        };
    }

    fn followed(&mut self, region: u32) {
        let next = region.saturating_add(1);
        if next < self.end {
            self.phase = Phase::Following { region: next, asked: false };
        } else {
            self.phase = Phase::Idle;
            self.passes = self.passes.wrapping_add(1);
            self.first_pass_over = true;
        }
    }

    fn leader(&self) -> Option<CoreId> {
        self.enabled.next(0)
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
            self.phase = Phase::Leading { region: self.window.base.get(), asked: false };
            return self.poll(now);
        }
        if self.armed == at {
            return None;
        }
        self.armed = at;
        Some(Action::ArmTimer(at))
    }
}

impl Policy for V10 {
    fn name(&self) -> &'static str {
        "v10"
    }

    /// v8 on claims 4 and 6 besides 1 and 2; upstream bounds neither time to optimise nor holds
    /// (DESIGN "What is counted").
    fn claims(&self) -> Claims {
        Claims::of(&[1, 2, 4, 6])
    }

    fn handle(&mut self, now: Time, event: Event<'_>) {
        match event {
            Event::SnpInitialised(host) => self.initialise(now, host),
            Event::BaseWritten { core, base, snp_en } => {
                let on = snp_en && base == Some(RmpoptBase::enabled_at(self.window.base));
                self.enabled.put(core, on);
                self.bases_out = self.bases_out.saturating_sub(1);
            }
            Event::GuestDecommissioned if self.phase != Phase::Down => {
                self.queued = Some(now.after(self.delay_ns));
            }
            Event::Request(Request::Optimise) if self.phase != Phase::Down => {
                self.queued = Some(now);
            }
            Event::Request(Request::Pause) => self.paused = true,
            Event::Request(Request::Resume) => self.paused = false,
            Event::Verified { ticket, .. } if ticket.init == self.init => {
                if let Phase::Leading { region, asked: true } = self.phase {
                    self.led(region);
                }
            }
            Event::BroadcastDone { ticket } if ticket.init == self.init => {
                if let Phase::Following { region, asked: true } = self.phase {
                    self.followed(region);
                }
            }
            Event::CoreOffline(core) => {
                self.enabled.put(core, false);
            }
            Event::Timer => self.armed = Time::NEVER,
            Event::Quiesced if self.phase == Phase::Quiescing => {
                let clear = self.stopping == Some(true);
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
                Some(Action::WriteBase { core, base: RmpoptBase::enabled_at(self.window.base) })
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
                Some(Action::Broadcast { leader, region: number, ticket })
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
        None
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
        self.participates.contains(core).then_some(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rmpopt_core::tests::{self, Layout};
    use crate::rmpopt_core::window::tests::Plain;
    use crate::rmpopt_core::{Facts, Verdict};

    fn host() -> Plain {
        Plain { sockets: 1, nodes_per_socket: 1, cores_per_node: 3, regions_per_node: 4, hole: 0 }
    }

    /// Answers everything at once; returns the actions as short texts.
    fn drive(policy: &mut V10, now: Time) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(action) = policy.poll(now) {
            match action {
                Action::WriteBase { core, base } => {
                    seen.push(format!("base {core} {:#x}", base.raw()));
                    policy.handle(now, Event::BaseWritten { core, base: Some(base), snp_en: true });
                }
                Action::Verify { core, region, ticket } => {
                    seen.push(format!("verify {core} {region}"));
                    let verdict = Verdict::Dirty;
                    policy
                        .handle(now, Event::Verified { ticket, core, region, verdict, took_ns: 1 });
                }
                Action::Broadcast { leader, region, ticket } => {
                    seen.push(format!("broadcast -{leader} {region}"));
                    policy.handle(now, Event::BroadcastDone { ticket });
                }
                Action::ArmTimer(at) => seen.push(format!("timer {at:?}")),
                Action::Quiesce => policy.handle(now, Event::Quiesced),
                Action::Stopped => seen.push("stopped".into()),
                other @ Action::Offer { .. } => panic!("unexpected {other:?}"),
            }
        }
        seen
    }

    fn up() -> V10 {
        let proof = Facts::venice(6).check().unwrap();
        let mut policy = V10::new(proof, DELAY_NS);
        policy.handle(Time::ZERO, Event::SnpInitialised(&host()));
        let seen = drive(&mut policy, Time::ZERO);
        assert_eq!(seen[..3], ["base 0 0x1", "base 1 0x1", "base 2 0x1"]);
        assert_eq!(seen[3..7], ["verify 0 0", "verify 0 1", "verify 0 2", "verify 0 3"]);
        // Dirty or not, every follower is interrupted for every region.
        assert_eq!(seen[7], "broadcast -0 0");
        assert_eq!(seen.len(), 11);
        assert!(policy.first_pass_over() && policy.passes() == 1);
        policy
    }

    #[test]
    fn guests_ends_restart_the_timer() {
        let mut policy = up();
        policy.handle(Time::from_ns(SECOND), Event::GuestDecommissioned);
        assert_eq!(drive(&mut policy, Time::from_ns(SECOND)), ["timer 11.000000s"]);
        policy.handle(Time::from_ns(5 * SECOND), Event::GuestDecommissioned);
        assert_eq!(drive(&mut policy, Time::from_ns(5 * SECOND)), ["timer 15.000000s"]);
        policy.handle(Time::from_ns(15 * SECOND), Event::Timer);
        assert_eq!(drive(&mut policy, Time::from_ns(15 * SECOND)).len(), 8);
    }

    #[test]
    fn teardown_clears_every_base() {
        let mut policy = up();
        policy.handle(Time::from_ns(SECOND), Event::SnpGoingDown);
        let seen = drive(&mut policy, Time::from_ns(SECOND));
        assert_eq!(seen, ["base 0 0x0", "base 1 0x0", "base 2 0x0", "stopped"]);
    }

    #[test]
    fn a_request_in_a_pass_queues_another() {
        let mut machine = tests::v10(Layout::new(2, 2), DELAY_NS);
        machine.snp_init();
        machine.base(0);
        machine.base(0);
        machine.answer_verify(0);
        machine.request(Request::Optimise);
        machine.until(Time::from_ns(SECOND));
        assert_eq!(machine.policy.passes(), 2);
    }

    #[test]
    fn teardown_waits_for_the_pass() {
        let mut machine = tests::v10(Layout::new(2, 2), DELAY_NS);
        machine.snp_init();
        machine.base(0);
        machine.base(0);
        machine.did();
        machine.snp_shutdown();
        machine.settle();
        assert_eq!(
            machine.did(),
            [
                "verify 0:1",
                "broadcast -0:0",
                "broadcast -0:1",
                "quiesce",
                "clear 0",
                "clear 1",
                "stopped",
            ]
        );
    }

    #[test]
    fn without_cores_or_ram_the_first_pass_is_over_at_once() {
        for (cores, regions) in [(0, 2), (2, 0)] {
            let mut machine = tests::v10(Layout::new(cores, regions), DELAY_NS);
            machine.snp_init();
            machine.settle();
            assert!(machine.policy.first_pass_over() && machine.policy.passes() == 0);
            machine.snp_shutdown();
            machine.settle();
            assert!(machine.stopped);
        }
    }

    #[test]
    fn unload_leaves_the_bases() {
        let mut policy = up();
        policy.handle(Time::from_ns(SECOND), Event::Unload);
        assert_eq!(drive(&mut policy, Time::from_ns(SECOND)), ["stopped"]);
    }
}
