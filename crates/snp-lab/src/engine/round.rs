//! A broadcast: one interrupt to each CPU of many, RMPOPT of one region there, and the sender waits
//! for all. Here RMPOPTs run together, and here is what that costs ([`Parallel`]).

use rmpopt_core::{CoreId, Event as PolicyEvent, Reach, Ticket};
use snp_defs::{Region, RmpoptFunction};

use super::Engine;
use super::queue::Event;
use super::times::Found;
use crate::cost::{CostModel, Parallel};
use crate::scenario::Nanos;

/// RMPOPTs of one region that run together; times from the start of the broadcast.
#[derive(Debug)]
pub(super) struct Round {
    /// From here on there is a result to use.
    result_at: Option<Nanos>,
    /// The lines that a scan needs have been read by some CPU.
    read: bool,
    /// Until then another CPU reads the result.
    turn: Nanos,
    /// The last scan on each core, from when to when: its other thread makes no progress meanwhile.
    scans: Vec<(Nanos, Nanos)>,
}

/// What one RMPOPT of a round met, when it was over and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) met: Found,
    pub(super) done: Nanos,
    pub(super) took: Nanos,
}

impl Round {
    pub(super) fn new(reach: Reach, cores: usize) -> Self {
        Self { result_at: None, read: leader_has_read(reach), turn: 0, scans: vec![(0, 0); cores] }
    }

    /// One CPU's RMPOPT of a region, near to it or far, ready to begin at `at`; it would have found
    /// this when the round began. `alone` gives its time if its mean is so long.
    pub(super) fn take_part(
        &mut self,
        cost: &CostModel,
        core: CoreId,
        near: bool,
        found: Found,
        at: Nanos,
        mut alone: impl FnMut(Nanos) -> Nanos,
    ) -> Part {
        let scan = self.scans.get(core.index()).copied().unwrap_or_default();
        let at = if (scan.0..scan.1).contains(&at) { scan.1 } else { at };
        if found == Found::Cached {
            self.result_at.get_or_insert(0);
        }
        let first = self.result_at.is_none();
        // What it meets when its turn comes, which may be what another has found meanwhile.
        let mut met = if matches!(found, Found::Lines { assigned: false, .. }) {
            Found::Cached
        } else {
            found
        };
        let took = match (found, cost.parallel) {
            (Found::Lines { lines, assigned: true }, _) if self.read => {
                alone(cost.reread_ns(lines))
            }
            (Found::Lines { lines, assigned: true }, _) => alone(cost.scan_ns(lines, near)),
            (Found::Cached, Parallel::Misses) => alone(cost.rmpopt_fast),
            (Found::Lines { lines, .. }, Parallel::Misses) => {
                if self.result_at.is_some_and(|from| from <= at) {
                    alone(cost.rmpopt_fast)
                } else {
                    met = found;
                    alone(cost.scan_ns(lines, near))
                }
            }
            (Found::Lines { lines, .. }, Parallel::Contention) if first => {
                met = found;
                alone(cost.scan_ns(lines, near))
            }
            (_, Parallel::Contention) => {
                let from = at.max(self.turn).max(self.result_at.unwrap_or(0));
                self.turn = from + cost.line_ns(near);
                self.turn - at + alone(cost.rmpopt_fast)
            }
        };
        let done = at + took;
        if matches!(met, Found::Lines { assigned: false, .. })
            && let Some(scan) = self.scans.get_mut(core.index())
        {
            *scan = (at, done);
        }
        self.read = true;
        if let Found::Lines { assigned: false, .. } = found {
            self.result_at = Some(self.result_at.map_or(done, |from| from.min(done)));
        }
        Part { met, done, took }
    }

    /// How long the core's last scan of the region took: if it is the sender's, what is sent after it
    /// is so much later.
    pub(super) fn scanned_ns(&self, core: CoreId) -> Nanos {
        self.scans.get(core.index()).map_or(0, |&(from, to)| to - from)
    }
}

/// A leader has read the region before, if there was one for sure.
pub(super) fn leader_has_read(reach: Reach) -> bool {
    reach == Reach::OtherCores
}

impl Engine<'_> {
    /// Whom a broadcast interrupts, in the order in which they are sent to, and whether the sender takes
    /// part too.
    pub(super) fn reached(&self, leader: CoreId, reach: Reach) -> (Vec<(u32, CoreId)>, bool) {
        let enabled = |core: &CoreId| self.driver.enabled.get(core.index()).is_some_and(|&on| on);
        let cores = (0..self.driver.enabled.len() as u16).map(CoreId).filter(enabled);
        let threads = if reach == Reach::EveryCpu { usize::MAX } else { 1 };
        let cpus = |core| self.cpus.online_of(core).take(threads).map(move |cpu| (cpu, core));
        let mut reached: Vec<_> = cores
            .filter(|&core| core != leader || reach != Reach::OtherCores)
            .flat_map(cpus)
            .collect();
        reached.sort_unstable();
        let (all, sender) = (reached.len(), self.cpus.worker(leader));
        reached.retain(|&(cpu, _)| Some(cpu) != sender);
        let sender_too = reached.len() < all;
        (reached, sender_too)
    }

    /// What an interrupt's way into and out of the CPU takes.
    pub(super) fn ipi_entry(&self, cpu: u32) -> Nanos {
        self.cost.ipi_target + self.guest_exit(cpu)
    }

    pub(super) fn start_broadcast(
        &mut self,
        leader: CoreId,
        region: Region,
        reach: Reach,
        ticket: Ticket,
    ) {
        if let Some((cpu, ns)) = self.wake(leader) {
            self.meter.steal(cpu, ns);
        }
        self.driver.broadcast.clear();
        let waited = self
            .broadcast_in_bulk(leader, region, reach)
            .unwrap_or_else(|| self.broadcast_one_by_one(leader, region, reach));
        // The sender waits with preemption off until the last has answered.
        if let Some(cpu) = self.cpus.worker(leader) {
            self.meter.steal(cpu, waited);
            self.held(0, waited, 0);
        }
        self.keep_awake(leader, self.now + waited);
        self.driver.in_flight += 1;
        self.queue.push(self.now + waited, Event::BroadcastEnd { region, ticket });
    }

    /// CPU by CPU. Returns how long the sender waits.
    fn broadcast_one_by_one(&mut self, leader: CoreId, region: Region, reach: Reach) -> Nanos {
        let (targets, sender_too) = self.reached(leader, reach);
        let mut round = Round::new(reach, self.driver.enabled.len());
        let (mut sent, mut stalled) = (0, 0);
        let mut all_done = 0;
        for (cpu, core) in targets {
            let entry = self.ipi_entry(cpu);
            let arrives = self.cost.ipi_send_ns(sent + 1) + stalled;
            let Some(part) = self.take_part(&mut round, region, core, arrives + entry) else {
                continue;
            };
            sent += 1;
            all_done = all_done.max(part.done);
            if core == leader {
                stalled += round.scanned_ns(core);
            }
            self.meter.counts.ipis += 1;
            self.meter.interrupt(cpu);
            self.meter.steal(cpu, part.done - arrives);
            self.held(part.done - arrives - part.took, part.took, part.took);
        }
        let sending = self.cost.ipi_send_ns(sent) + stalled;
        if sender_too && let Some(part) = self.take_part(&mut round, region, leader, sending) {
            all_done = all_done.max(part.done);
        }
        sending.max(all_done)
    }

    /// One CPU's RMPOPT, ready to begin at `at`; nothing if it raised #UD.
    fn take_part(
        &mut self,
        round: &mut Round,
        region: Region,
        core: CoreId,
        at: Nanos,
    ) -> Option<Part> {
        let mut begun = self.begin(core, region, RmpoptFunction::Verify)?;
        let found = self.found(region, &mut begun);
        self.driver.broadcast.push((core, begun));
        self.meter.counts.followers += 1;
        let near = self.view.is_near(core, region);
        let (cost, dice) = (&self.cost, &mut self.times.dice);
        let part = round.take_part(cost, core, near, found, at, |mean| dice.time(cost, mean));
        self.tally(part.met, part.took);
        Some(part)
    }

    pub(super) fn end_broadcast(&mut self, region: Region, ticket: Ticket) {
        self.driver.in_flight -= 1;
        let mut broadcast = std::mem::take(&mut self.driver.broadcast);
        let mut everywhere = true;
        for (core, begun) in broadcast.drain(..) {
            everywhere &= self.finish(core, region, begun).cf;
        }
        self.driver.broadcast = broadcast;
        self.end_bulk(region, everywhere);
        self.cpus_leave();
        self.tell(PolicyEvent::BroadcastDone { ticket });
        self.quiesced();
    }
}
