//! A broadcast: one interrupt to each CPU of many, RMPOPT of one region there, and the sender waits
//! for all. Here RMPOPTs run together, and here is what that costs ([`Parallel`]).

use rmpopt_core::{CoreId, Event as PolicyEvent, Reach, Ticket};
use snp_defs::{Region, RmpoptFunction};

use super::Engine;
use super::queue::Event;
use super::times::Found;
use crate::cost::Parallel;
use crate::scenario::Nanos;

/// RMPOPTs of one region that run together; times from the start of the broadcast.
#[derive(Debug)]
struct Round {
    region: Region,
    /// From here on there is a result to use.
    result_at: Option<Nanos>,
    /// The lines that a scan needs have been read by some CPU.
    read: bool,
    /// Until then another CPU reads the result.
    turn: Nanos,
    /// The last scan on each core, from when to when: its other thread makes no progress meanwhile.
    scans: Vec<(Nanos, Nanos)>,
}

impl Engine<'_> {
    /// Whom a broadcast interrupts, in the order in which they are sent to, and whether the sender takes
    /// part too.
    fn reached(&self, leader: CoreId, reach: Reach) -> (Vec<(u32, CoreId)>, bool) {
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
        let (targets, sender_too) = self.reached(leader, reach);
        let cores = self.driver.enabled.len();
        let mut round = Round {
            region,
            result_at: None,
            // By the leader, if there was one for sure.
            read: reach == Reach::OtherCores,
            turn: 0,
            scans: vec![(0, 0); cores],
        };
        let (mut sent, mut stalled) = (0, 0);
        let mut all_done = 0;
        self.driver.broadcast.clear();
        for (cpu, core) in targets {
            let entry = self.cost.ipi_target + self.guest_exit(cpu);
            let arrives = self.cost.ipi_send_ns(sent + 1) + stalled;
            let Some((done, rmpopt_ns)) = self.take_part(&mut round, core, arrives + entry) else {
                continue;
            };
            sent += 1;
            all_done = all_done.max(done);
            if core == leader
                && let Some(&(from, to)) = round.scans.get(core.index())
            {
                // The sender's own other thread scans.
                stalled += to - from;
            }
            self.meter.counts.ipis += 1;
            self.meter.interrupt(cpu);
            self.meter.steal(cpu, done - arrives);
            self.held(done - arrives - rmpopt_ns, rmpopt_ns, rmpopt_ns);
        }
        let sending = self.cost.ipi_send_ns(sent) + stalled;
        if sender_too && let Some((done, _)) = self.take_part(&mut round, leader, sending) {
            all_done = all_done.max(done);
        }
        // The sender waits with preemption off until the last has answered.
        let waited = sending.max(all_done);
        if let Some(cpu) = self.cpus.worker(leader) {
            self.meter.steal(cpu, waited);
            self.held(0, waited, 0);
        }
        self.keep_awake(leader, self.now + waited);
        self.driver.in_flight += 1;
        self.queue.push(self.now + waited, Event::BroadcastEnd { region, ticket });
    }

    /// One CPU's RMPOPT, ready to begin at `at`. Returns when it is over and how long it took;
    /// nothing if it raised #UD.
    fn take_part(&mut self, round: &mut Round, core: CoreId, at: Nanos) -> Option<(Nanos, Nanos)> {
        let mut begun = self.begin(core, round.region, RmpoptFunction::Verify)?;
        let found = self.found(round.region, &mut begun);
        self.driver.broadcast.push((core, begun));
        self.meter.counts.followers += 1;
        let scan = round.scans.get_mut(core.index())?;
        let at = if (scan.0..scan.1).contains(&at) { scan.1 } else { at };
        let near = self.view.is_near(core, round.region);
        let cost = &self.cost;
        if found == Found::Cached {
            round.result_at.get_or_insert(0);
        }
        let first = round.result_at.is_none();
        let mut alone = |mean| self.times.dice.time(cost, mean);
        // What it meets when its turn comes, which may be what another has found meanwhile.
        let mut met = if matches!(found, Found::Lines { assigned: false, .. }) {
            Found::Cached
        } else {
            found
        };
        let took = match (found, cost.parallel) {
            (Found::Lines { lines, assigned: true }, _) if round.read => {
                alone(cost.reread_ns(lines))
            }
            (Found::Lines { lines, assigned: true }, _) => alone(cost.scan_ns(lines, near)),
            (Found::Cached, Parallel::Misses) => alone(cost.rmpopt_fast),
            (Found::Lines { lines, .. }, Parallel::Misses) => {
                if round.result_at.is_some_and(|from| from <= at) {
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
                let from = at.max(round.turn).max(round.result_at.unwrap_or(0));
                round.turn = from + cost.line_ns(near);
                round.turn - at + alone(cost.rmpopt_fast)
            }
        };
        let done = at + took;
        if matches!(met, Found::Lines { assigned: false, .. }) {
            *scan = (at, done);
        }
        round.read = true;
        if let Found::Lines { assigned: false, .. } = found {
            round.result_at = Some(round.result_at.map_or(done, |from| from.min(done)));
        }
        self.tally(met, took);
        Some((done, took))
    }

    pub(super) fn end_broadcast(&mut self, region: Region, ticket: Ticket) {
        self.driver.in_flight -= 1;
        let mut broadcast = std::mem::take(&mut self.driver.broadcast);
        for (core, begun) in broadcast.drain(..) {
            self.finish(core, region, begun);
        }
        self.driver.broadcast = broadcast;
        self.cpus_leave();
        self.tell(PolicyEvent::BroadcastDone { ticket });
        self.quiesced();
    }
}
