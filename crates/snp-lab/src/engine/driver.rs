//! The executor: carries out what the policy decides, on simulated CPUs and in simulated time.

use std::collections::VecDeque;

use rmpopt_core::{
    Action, Batch, BatchReport, Budget, CoreId, Event as PolicyEvent, Manner, Run, Step, Ticket,
    Time, Verdict,
};
use snp_defs::{Region, RmpoptBase, RmpoptFunction};
use snp_model::Begun;

use super::bulk::UnderWay;
use super::host::TICK_NS;
use super::queue::Event;
use super::times::Found;
use super::{Engine, laws};
use crate::scenario::Nanos;
use crate::seeded::Defect;

/// A batch that a core was offered.
#[derive(Debug)]
struct Slot {
    run: Run,
    /// From here on a work item is woken if the core had no tick.
    by: Time,
    manner: Manner,
    /// Number of the turn that is queued or under way.
    turn: u64,
    /// A hold is under way.
    holding: bool,
    /// Runs in a work item that was woken for it.
    woken: bool,
    /// Its first hold has begun: from there on it goes on with the ticks that come.
    begun: bool,
}

/// Where the policy is in its life, as the executor sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// It has said that it has stopped, or never began.
    Stopped,
    /// It is at work.
    Runs,
    /// It has asked to quiesce.
    Quiescing,
}

/// What the executor keeps.
#[derive(Debug)]
pub(super) struct Driver {
    slots: Vec<Option<Slot>>,
    turns: u64,
    /// Work items of followers under way, and cores that wait for one.
    woken: u16,
    waiting: VecDeque<CoreId>,
    /// Verifies, holds and broadcasts under way.
    pub(super) in_flight: u32,
    /// What is under way on each core: verifies, holds, writes of its base.
    using: Vec<u32>,
    life: Life,
    timer: u64,
    timer_armed: bool,
    drain_queued: bool,
    /// Number of the drain that is queued: an event of another one is void.
    drain: u64,
    /// The control thread writes one base after the other.
    control_free: Nanos,
    bases_queued: u32,
    /// Until when each core's worker is awake.
    awake: Vec<Nanos>,
    /// For how long a leader that does not reschedule has held its CPU.
    led_ns: Nanos,
    /// Cores whose enable bit was read back.
    pub(super) enabled: Vec<bool>,
    /// When each core was last brought into a state in which it can run RMPOPT.
    pub(super) able_since: Vec<Nanos>,
    /// Moves on when a core comes, goes, or its base or SNP_EN may have changed.
    pub(super) cores_epoch: u64,
    /// RMPOPTs under way on the cores that a broadcast interrupted.
    pub(super) broadcast: Vec<(CoreId, Begun)>,
    /// Of a broadcast in bulk, what to do when it ends.
    pub(super) bulk: Option<UnderWay>,
    /// Offers to swallow: a seeded fault.
    pub(super) swallow: u32,
}

impl Driver {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(cores).collect(),
            turns: 0,
            woken: 0,
            waiting: VecDeque::new(),
            in_flight: 0,
            using: vec![0; cores],
            life: Life::Stopped,
            timer: 0,
            timer_armed: false,
            drain_queued: false,
            drain: 0,
            control_free: 0,
            bases_queued: 0,
            awake: vec![0; cores],
            led_ns: 0,
            enabled: vec![false; cores],
            able_since: vec![0; cores],
            cores_epoch: 0,
            broadcast: Vec::new(),
            bulk: None,
            swallow: 0,
        }
    }

    /// Where the policy is in its life.
    pub(super) const fn life(&self) -> Life {
        self.life
    }

    /// Something is under way, or was offered and waits for its turn.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0 || self.bases_queued > 0 || self.slots.iter().any(Option::is_some)
    }

    /// Something of the driver is under way on this core.
    pub(super) fn is_using(&self, core: CoreId) -> bool {
        self.using.get(core.index()).is_some_and(|&count| count > 0)
            || !self.broadcast.is_empty()
            || self.bulk.is_some()
    }

    /// A verify or hold begins on `core`.
    fn takes_off(&mut self, core: CoreId) {
        self.in_flight += 1;
        if let Some(count) = self.using.get_mut(core.index()) {
            *count += 1;
        }
    }

    /// It has ended.
    fn lands(&mut self, core: CoreId) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(count) = self.using.get_mut(core.index()) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Engine<'_> {
    /// Hands an event to the policy and does what it then asks for.
    pub(super) fn tell(&mut self, event: PolicyEvent<'_>) {
        self.policy.handle(Time::from_ns(self.now), event);
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(action) = self.policy.poll(Time::from_ns(self.now)) {
            self.execute(&action);
        }
        if self.ledger.is_up() && !self.meter.is_steady() && self.policy.first_pass_over() {
            self.meter.first_pass_over();
            self.note_first_pass();
        }
        self.note_passes();
    }

    fn execute(&mut self, action: &Action) {
        let clears = matches!(action, Action::WriteBase { base: RmpoptBase::OFF, .. });
        if self.driver.life == Life::Stopped && !clears && !matches!(action, Action::Stopped) {
            self.breach(laws::CLEAN_EXIT, || format!("{action:?} after the stop"));
        }
        match *action {
            Action::WriteBase { core, base } => self.queue_base(core, base),
            Action::Verify { core, region, ticket } => self.start_verify(core, region, ticket),
            Action::Offer { ref batch, by, manner } => self.offer(batch, by, manner),
            Action::Broadcast { leader, region, reach, ticket } => {
                self.start_broadcast(leader, region, reach, ticket);
            }
            Action::ArmTimer(at) => {
                self.driver.timer += 1;
                self.driver.timer_armed = true;
                self.queue.push(at.as_ns().max(self.now), Event::Timer(self.driver.timer));
            }
            Action::Quiesce => {
                self.driver.life = Life::Quiescing;
                self.driver.timer += 1;
                self.driver.timer_armed = false;
                self.driver.drain_queued = false;
                self.driver.waiting.clear();
                for slot in &mut self.driver.slots {
                    if slot.as_ref().is_some_and(|slot| !slot.holding) {
                        *slot = None;
                    }
                }
                self.driver.woken = 0;
                self.quiesced();
            }
            Action::Stopped => self.stopped(),
        }
    }

    /// Answers [`Action::Quiesce`] once nothing is under way.
    pub(super) fn quiesced(&mut self) {
        let driver = &mut self.driver;
        if driver.life == Life::Quiescing && driver.in_flight == 0 && driver.bases_queued == 0 {
            driver.life = Life::Runs;
            self.policy.handle(Time::from_ns(self.now), PolicyEvent::Quiesced);
            self.pump();
        }
    }

    // ---- where things run ----

    /// A worker runs on `core` from now on. Returns the CPU and what waking it costs.
    pub(super) fn wake(&mut self, core: CoreId) -> Option<(u32, Nanos)> {
        let cpu = self.cpus.worker(core)?;
        let awake = self.driver.awake.get(core.index()).is_some_and(|&until| until >= self.now);
        if awake && self.now > 0 {
            return Some((cpu, 0));
        }
        self.meter.counts.wakeups += 1;
        self.meter.interrupt(cpu);
        Some((cpu, self.cost.work_wakeup + self.guest_exit(cpu)))
    }

    pub(super) fn guest_exit(&self, cpu: u32) -> Nanos {
        if self.cpus.runs_guest(cpu) { self.cost.guest_exit } else { 0 }
    }

    pub(super) fn keep_awake(&mut self, core: CoreId, until: Nanos) {
        if let Some(awake) = self.driver.awake.get_mut(core.index()) {
            *awake = until;
        }
    }

    /// The core on which the control thread, the timer and the drain run.
    fn control(&self) -> CoreId {
        let cores = 0..self.driver.enabled.len() as u16;
        cores.map(CoreId).find(|&core| self.cpus.worker(core).is_some()).unwrap_or_default()
    }

    /// The control thread wakes up for something short.
    fn control_wakes(&mut self) {
        let core = self.control();
        if let Some((cpu, ns)) = self.wake(core) {
            self.meter.steal(cpu, ns);
            self.keep_awake(core, self.now);
        }
    }

    pub(super) fn timer(&mut self, number: u64) {
        if number != self.driver.timer {
            return;
        }
        self.driver.timer_armed = false;
        if let Some(cpu) = self.cpus.worker(self.control()) {
            self.meter.steal(cpu, self.cost.timer);
        }
        self.control_wakes();
        self.tell(PolicyEvent::Timer);
    }

    // ---- marks ----

    /// A mark was made; the first since the last drain queues the next.
    pub(super) fn marked(&mut self, first: bool) {
        let Some(tick_ns) = self.policy.tick_ns().filter(|_| first) else { return };
        if self.driver.life == Life::Runs && !self.driver.drain_queued {
            self.driver.drain_queued = true;
            self.driver.drain += 1;
            self.queue.push(self.now + tick_ns, Event::Drain(self.driver.drain));
        }
    }

    pub(super) fn drain(&mut self, number: u64) {
        if number != self.driver.drain || !self.driver.drain_queued {
            return;
        }
        self.driver.drain_queued = false;
        self.meter.counts.drains += 1;
        self.control_wakes();
        let (now, policy) = (Time::from_ns(self.now), &mut self.policy);
        let counts = &mut self.meter.counts;
        self.activity.drain(|drained| {
            counts.marked_shared += u64::from(drained.shared.count_ones());
            counts.marked_lost += u64::from(drained.lost.count_ones());
            policy.handle(now, PolicyEvent::Drained(drained));
        });
        self.pump();
    }

    // ---- MSR ----

    fn queue_base(&mut self, core: CoreId, base: RmpoptBase) {
        let remote = core != self.control();
        let Some(cpu) = self.cpus.worker(core) else {
            self.tell(PolicyEvent::BaseWritten { core, base: None, snp_en: false });
            return;
        };
        let mut took = self.cost.wrmsr;
        if remote {
            self.meter.counts.ipis += 1;
            self.meter.interrupt(cpu);
            took += self.cost.ipi_target + self.guest_exit(cpu);
        }
        self.meter.steal(cpu, took);
        self.meter.hold(took);
        let done = self.driver.control_free.max(self.now) + took + self.cost.ipi_send_ns(1);
        self.driver.control_free = done;
        self.driver.bases_queued += 1;
        self.driver.takes_off(core);
        self.queue.push(done, Event::WriteBase { core, base });
    }

    pub(super) fn write_base(&mut self, core: CoreId, base: RmpoptBase) {
        self.driver.bases_queued -= 1;
        self.driver.cores_epoch += 1;
        self.driver.lands(core);
        let at = snp_model::CoreId(u32::from(core.0));
        let unit = self.rmp.unit();
        let written = unit.wrmsr_base(at, base.raw());
        self.meter.counts.base_writes += 1;
        let read = RmpoptBase::from_raw(unit.rdmsr_base(at)).ok();
        let snp_en = unit.snp_en(at);
        let read = read.filter(|_| written.is_ok());
        if let Some(enabled) = self.driver.enabled.get_mut(core.index()) {
            *enabled = snp_en && read.is_some_and(RmpoptBase::is_enabled);
        }
        if let Some(since) = self.driver.able_since.get_mut(core.index()) {
            *since = self.now;
        }
        let answer = PolicyEvent::BaseWritten { core, base: read, snp_en };
        self.policy.handle(Time::from_ns(self.now), answer);
        self.cpus_leave();
        self.pump();
        self.quiesced();
    }

    // ---- RMPOPT ----

    /// First half of an RMPOPT. A core that raises #UD breaks law 4.
    pub(super) fn begin(
        &mut self,
        core: CoreId,
        region: Region,
        function: RmpoptFunction,
    ) -> Option<Begun> {
        let at = snp_model::CoreId(u32::from(core.0));
        let begun = self.rmp.unit().begin(at, region.base().get(), function);
        self.check(laws::NO_UD, begun.is_ok(), || format!("RMPOPT raised #UD on {core:?}"));
        begun.ok()
    }

    /// Second half. Keeps the books and checks law 1 where a bit is set.
    pub(super) fn finish(
        &mut self,
        core: CoreId,
        region: Region,
        begun: Begun,
    ) -> snp_model::Outcome {
        let at = snp_model::CoreId(u32::from(core.0));
        let before = self.rmp.unit().is_optimised(at, region);
        let function = begun.function();
        let outcome = self.rmp.finish(begun);
        if function == RmpoptFunction::Verify {
            self.meter.counts.verified(outcome.cf, 1);
        }
        let after = self.rmp.unit().is_optimised(at, region);
        if before != after && self.covers(core, region) {
            self.ledger.bit(self.now, core.index(), region.index(), after);
        }
        if after {
            let assigned = self.ledger.regions.get(region.index()).map_or(0, |book| book.assigned);
            self.check(laws::SAFETY, assigned == 0, || {
                format!("{core:?} has region {region} optimised with {assigned} pages assigned")
            });
        }
        outcome
    }

    fn start_verify(&mut self, core: CoreId, region: Region, ticket: Ticket) {
        let begun = self.begin(core, region, RmpoptFunction::Verify);
        let (Some(mut begun), Some((cpu, overhead))) = (begun, self.wake(core)) else {
            let verdict = Verdict::Fault;
            self.tell(PolicyEvent::Verified { ticket, core, region, verdict, took_ns: 0 });
            return;
        };
        let found = self.found(region, &mut begun);
        let took_ns = self.rmpopt_time(core, region, found);
        let end = self.now + overhead + took_ns;
        self.meter.counts.leader += 1;
        self.meter.steal(cpu, overhead + took_ns);
        let going_on = !self.policy.leader_reschedules() && overhead == 0;
        let held_ns = if going_on { self.driver.led_ns + took_ns } else { took_ns };
        self.driver.led_ns = held_ns;
        self.held(overhead, held_ns, took_ns);
        self.keep_awake(core, end);
        self.driver.takes_off(core);
        self.queue.push(end, Event::VerifyEnd { core, region, ticket, begun, took_ns });
    }

    pub(super) fn end_verify(
        &mut self,
        core: CoreId,
        region: Region,
        ticket: Ticket,
        begun: Begun,
        took_ns: Nanos,
    ) {
        self.driver.lands(core);
        let outcome = self.finish(core, region, begun);
        let verdict = if outcome.cf { Verdict::Clean } else { Verdict::Dirty };
        let answer = PolicyEvent::Verified { ticket, core, region, verdict, took_ns };
        self.policy.handle(Time::from_ns(self.now), answer);
        self.cpus_leave();
        self.pump();
        self.quiesced();
    }

    /// A CPU was taken for `entry_ns`, to get there, and `held_ns`. Law 5 bounds the latter, of
    /// which the last RMPOPT was `last_ns`.
    pub(super) fn held(&mut self, entry_ns: Nanos, held_ns: Nanos, last_ns: Nanos) {
        self.meter.hold(entry_ns + held_ns);
        let budget_ns = self.hold_budget_ns;
        self.check(laws::QUIET, held_ns.saturating_sub(last_ns) <= budget_ns, || {
            format!("a CPU was held for {held_ns} ns, its last RMPOPT took {last_ns} ns")
        });
    }

    // ---- batches ----

    fn offer(&mut self, batch: &Batch, by: Time, manner: Manner) {
        let core = batch.core;
        if self.driver.swallow > 0 && batch.function == RmpoptFunction::Verify {
            self.driver.swallow -= 1;
            return;
        }
        let Some(mut budget) = self.policy.budget() else { return };
        if batch.function == RmpoptFunction::Verify && self.defect(Defect::Overstay) {
            budget = Budget { hold_ns: Nanos::MAX, slow_ns: Nanos::MAX };
        }
        self.drop_slot(core);
        if batch.function == RmpoptFunction::Verify {
            self.meter.counts.batches += 1;
        }
        let run = Run::new(*batch, budget);
        let slot = Slot { run, by, manner, turn: 0, holding: false, woken: false, begun: false };
        if let Some(place) = self.driver.slots.get_mut(core.index()) {
            *place = Some(slot);
        }
        self.queue_turn(core);
    }

    /// Takes back what a core was offered. The hold that is under way, if any, reports no more.
    pub(super) fn drop_slot(&mut self, core: CoreId) {
        let Some(slot) = self.driver.slots.get_mut(core.index()).and_then(Option::take) else {
            return;
        };
        if slot.holding {
            self.driver.lands(core);
        }
        if slot.woken {
            self.work_item_ended();
        }
        self.driver.waiting.retain(|&waiting| waiting != core);
    }

    /// Queues the core's next turn: its next tick if it has ticks, else when it has to be woken.
    pub(super) fn queue_turn(&mut self, core: CoreId) {
        let busy = self.cpus.busy(core);
        self.driver.turns += 1;
        let turn = self.driver.turns;
        let now = self.now;
        let Some(Some(slot)) = self.driver.slots.get_mut(core.index()) else { return };
        if slot.holding {
            return;
        }
        slot.turn = turn;
        let forced = slot.by.as_ns().max(now);
        let at = match busy {
            _ if slot.woken => now,
            _ if slot.manner == Manner::Ipi && slot.begun => now + TICK_NS,
            _ if slot.manner != Manner::Tick => forced,
            Some(cpu) if slot.begun => self.cpus.next_tick(cpu, now),
            Some(cpu) => self.cpus.next_tick(cpu, now).min(forced),
            None if slot.by == Time::NEVER => return,
            None => forced,
        };
        self.queue.push(at, Event::Turn { core, turn });
    }

    /// The core's turn has come: ride on the tick, or wake a work item.
    pub(super) fn turn(&mut self, core: CoreId, turn: u64) {
        let busy = self.cpus.busy(core);
        let Some(cpu) = busy.or_else(|| self.cpus.worker(core)) else { return };
        let (now, most) = (self.now, self.policy.followers_at_once());
        let driver = &mut self.driver;
        let Some(Some(slot)) = driver.slots.get_mut(core.index()) else { return };
        if slot.turn != turn || slot.holding {
            return;
        }
        let rides =
            slot.manner == Manner::Tick && busy.is_some() && (slot.begun || slot.by.as_ns() > now);
        let overhead = if slot.woken {
            self.meter.counts.holds_woken += 1;
            0
        } else if slot.manner == Manner::Ipi {
            self.meter.counts.ipis += 1;
            self.meter.interrupt(cpu);
            if let Some(sender) = self.cpus.worker(self.control()) {
                self.meter.steal(sender, self.cost.ipi_send_ns(1));
            }
            self.cost.ipi_target + self.guest_exit(cpu)
        } else if rides {
            self.meter.counts.holds_ridden += 1;
            self.cost.tick_extra
        } else {
            if driver.woken >= most {
                driver.waiting.push_back(core);
                return;
            }
            driver.woken += 1;
            slot.woken = true;
            self.meter.counts.holds_woken += 1;
            self.meter.counts.wakeups += 1;
            self.meter.interrupt(cpu);
            self.cost.work_wakeup + self.guest_exit(cpu)
        };
        self.hold(core, cpu, overhead);
    }

    /// One hold: RMPOPT after RMPOPT until the budget is used up or the batch is done.
    fn hold(&mut self, core: CoreId, cpu: u32, overhead: Nanos) {
        let Some(mut slot) = self.driver.slots.get_mut(core.index()).and_then(Option::take) else {
            return;
        };
        let start = self.now + overhead;
        let (mut at, mut last) = (start, 0);
        let function = slot.run.batch().function;
        let ticket = slot.run.batch().ticket;
        slot.run.begin_hold(Time::from_ns(start));
        slot.begun = true;
        while let Some(region) = slot.run.region() {
            let Some(mut begun) = self.begin(core, region, function) else {
                self.driver.slots[core.index()] = None;
                if slot.woken {
                    self.work_item_ended();
                }
                self.tell(PolicyEvent::BatchFault { core, ticket });
                return;
            };
            let found = match function {
                RmpoptFunction::Verify => self.found(region, &mut begun),
                RmpoptFunction::Report => Found::Cached,
            };
            let outcome = self.finish(core, region, begun);
            last = self.rmpopt_time(core, region, found);
            at += last;
            match function {
                RmpoptFunction::Verify => self.meter.counts.followers += 1,
                RmpoptFunction::Report => self.meter.counts.report += 1,
            }
            if slot.run.record(Time::from_ns(at), last, outcome.cf) != Step::More {
                break;
            }
        }
        self.meter.steal(cpu, overhead + (at - start));
        self.meter.counts.late += u64::from(slot.run.report().slow);
        self.held(overhead, at - start, last);
        slot.holding = true;
        let turn = slot.turn;
        if let Some(place) = self.driver.slots.get_mut(core.index()) {
            *place = Some(slot);
        }
        self.driver.takes_off(core);
        self.queue.push(at, Event::HoldEnd { core, turn });
    }

    pub(super) fn end_hold(&mut self, core: CoreId, turn: u64) {
        let busy = self.cpus.busy(core).is_some();
        let quiescing = self.driver.life == Life::Quiescing;
        let Some(Some(slot)) = self.driver.slots.get_mut(core.index()) else { return };
        if slot.turn != turn || !slot.holding {
            return;
        }
        slot.holding = false;
        let report: BatchReport = *slot.run.report();
        // A busy core goes on with its ticks; an idle one in the work item, as any core does whose
        // followers are work items.
        let rides_on = busy && slot.manner == Manner::Tick;
        let leaves = slot.woken && (rides_on || report.finished);
        if leaves {
            slot.woken = false;
        }
        if report.finished || quiescing {
            self.driver.slots[core.index()] = None;
        }
        self.driver.lands(core);
        if leaves {
            self.work_item_ended();
        }
        self.policy.handle(Time::from_ns(self.now), PolicyEvent::Batch(&report));
        self.cpus_leave();
        if !report.finished {
            self.queue_turn(core);
        }
        self.pump();
        self.quiesced();
    }

    /// A follower's work item ended: the next core that waits for one gets it.
    fn work_item_ended(&mut self) {
        self.driver.woken = self.driver.woken.saturating_sub(1);
        if let Some(core) = self.driver.waiting.pop_front() {
            self.queue_turn(core);
        }
    }

    // ---- the end ----

    fn stopped(&mut self) {
        let driver = &self.driver;
        let still = driver.in_flight > 0
            || driver.bases_queued > 0
            || driver.timer_armed
            || driver.drain_queued
            || driver.slots.iter().any(Option::is_some);
        self.meter.counts.unclean += u64::from(still);
        self.check(laws::CLEAN_EXIT, !still, || "work was left when the driver stopped".into());
        self.driver.life = Life::Stopped;
        self.driver.enabled.fill(false);
        self.driver.cores_epoch += 1;
        if self.going_down {
            self.finish_shutdown();
        }
    }

    /// The driver is started (again): SNP is up.
    pub(super) fn driver_starts(&mut self) {
        self.driver.life = Life::Runs;
        self.driver.cores_epoch += 1;
        self.driver.control_free = self.now;
        // Marks from before say nothing of the RMP that was just built; left where they are, they
        // would keep the next one from arming a tick.
        self.activity.drain(|_| {});
    }
}
