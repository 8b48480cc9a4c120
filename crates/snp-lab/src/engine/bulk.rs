//! A broadcast in bulk: one region answers every CPU alike, so what they do and lose is worked out once
//! and charged to all of them at once. A pass over R regions by C CPUs so costs O(R), and O(C) more for
//! each region that has changed since.
//!
//! Everything is counted as it would be CPU by CPU (`broadcast_one_by_one`), and a test holds the two to
//! the same report. Where that is not certain it is done CPU by CPU: where times are drawn, where a
//! defect is seeded, where cores have different windows, where one of them would raise #UD.
//!
//! * What each CPU loses depends on what the region answers, on the socket it lies in, and on which CPUs
//!   are reached and run guests: a [`Shape`], kept while those stay ([`Plan`]). CPUs that lose the same in
//!   every shape are a lane of the meter.
//! * The lines that are read of a region with an assigned page make every RMPOPT longer alike.
//! * A region that was optimised on all these cores, and of which nothing has changed since
//!   ([`snp_model::RmpoptUnit::generation`]), stays so: its RMPOPTs change nothing, nor do those of a
//!   region with an assigned page, of which no core has the bit.

use std::collections::BTreeMap;

use rmpopt_core::{CoreId, Host as _, Reach};
use snp_defs::{Region, RmpoptBase, RmpoptFunction, Window};

use super::round::{Round, leader_has_read};
use super::times::Found;
use super::{Engine, laws};
use crate::cost::Draws;
use crate::scenario::Nanos;

/// What is kept from one broadcast to the next.
#[derive(Debug)]
pub(super) struct Bulk {
    allowed: bool,
    plan: Option<Plan>,
    /// By region: the cores' epoch and the region's generation at which all had it optimised.
    settled: Vec<Option<(u64, u64)>>,
}

impl Bulk {
    pub(super) fn new(regions: u32, allowed: bool) -> Self {
        Self { allowed, plan: None, settled: vec![None; regions as usize] }
    }
}

/// Of a broadcast in bulk that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    /// RMPOPTs.
    count: u64,
    /// The cores' epoch and the region's generation.
    at: Option<(u64, u64)>,
    effect: Effect,
}

/// What the RMPOPTs of a broadcast change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// No bit is set, before or after.
    Dirty,
    /// Every bit is set, and stays.
    Settled,
    /// They are finished one by one.
    OneByOne,
}

/// Whom a broadcast reaches, and what that costs them.
#[derive(Debug)]
struct Plan {
    leader: CoreId,
    reach: Reach,
    /// It holds while these stay: cores; CPUs that run guests; the meter's lanes.
    epochs: (u64, u64, u64),
    /// The window of all cores.
    window: Window,
    targets: Vec<(u32, CoreId)>,
    sender_too: bool,
    /// Each target's lane.
    lane_of: Vec<usize>,
    lanes: usize,
    shapes: Vec<Shape>,
}

/// What a broadcast costs whom if the region answers in one way.
#[derive(Clone, Debug)]
struct Shape {
    /// The answer, without the lines read where a page is assigned.
    found: Found,
    /// The socket that the region lies in.
    socket: u16,
    /// What each target loses.
    losses: Vec<Nanos>,
    /// The same by lane.
    by_lane: Vec<Nanos>,
    /// When the first RMPOPT is over, the last of all others, and the last interrupt has been sent.
    first_done: Nanos,
    rest_done: Nanos,
    sending: Nanos,
    /// What the others than the first met, how long that took, and how many; then the first.
    rest: Vec<(Found, Nanos, u64)>,
    first: Option<(Found, Nanos)>,
}

impl Plan {
    fn participants(&self) -> u64 {
        self.targets.len() as u64 + u64::from(self.sender_too)
    }

    /// Each core that takes part, once for each of its CPUs.
    fn cores(&self) -> impl Iterator<Item = CoreId> + '_ {
        let sender = self.sender_too.then_some(self.leader);
        self.targets.iter().map(|target| target.1).chain(sender)
    }

    /// Divides lanes until all CPUs of each lose the same in every shape. Returns the lanes if they
    /// are new.
    fn divide(&mut self) -> Option<Vec<Vec<u32>>> {
        let mut lanes: BTreeMap<(usize, Vec<Nanos>), Vec<usize>> = BTreeMap::new();
        for (target, &lane) in self.lane_of.iter().enumerate() {
            let losses = self.shapes.iter().map(|shape| shape.losses[target]).collect();
            lanes.entry((lane, losses)).or_default().push(target);
        }
        let new = lanes.len() != self.lanes;
        self.lanes = lanes.len();
        let mut cpus = vec![Vec::new(); self.lanes];
        for shape in &mut self.shapes {
            shape.by_lane.clear();
        }
        for (number, ((_, losses), targets)) in lanes.into_iter().enumerate() {
            for (shape, ns) in self.shapes.iter_mut().zip(losses) {
                shape.by_lane.push(ns);
            }
            for target in targets {
                self.lane_of[target] = number;
                cpus[number].push(self.targets[target].0);
            }
        }
        new.then_some(cpus)
    }
}

/// What the answer is called in a shape: how many lines are read of a region with an assigned page is
/// added later.
const fn key(found: Found) -> Found {
    match found {
        Found::Lines { assigned: true, .. } => Found::Lines { lines: 0, assigned: true },
        found => found,
    }
}

impl Engine<'_> {
    /// Broadcasts in bulk and returns how long the sender waits; `None` if it has to be done CPU by CPU.
    pub(super) fn broadcast_in_bulk(
        &mut self,
        leader: CoreId,
        region: Region,
        reach: Reach,
    ) -> Option<Nanos> {
        if !self.bulk.allowed || self.cost.draws != Draws::Mean {
            return None;
        }
        let mut plan = match self.bulk.plan.take().filter(|plan| self.holds(plan, leader, reach)) {
            Some(plan) => plan,
            None => self.plan(leader, reach)?,
        };
        let waited = self.broadcast_by(&mut plan, region);
        self.bulk.plan = Some(plan);
        waited
    }

    fn holds(&self, plan: &Plan, leader: CoreId, reach: Reach) -> bool {
        (plan.leader, plan.reach) == (leader, reach) && plan.epochs == self.epochs()
    }

    fn epochs(&self) -> (u64, u64, u64) {
        let lanes = self.meter.slices.lanes_epoch();
        (self.driver.cores_epoch, self.cpus.busy_epoch(), lanes)
    }

    fn plan(&mut self, leader: CoreId, reach: Reach) -> Option<Plan> {
        let (targets, sender_too) = self.reached(leader, reach);
        let cores = || targets.iter().map(|target| target.1).chain(sender_too.then_some(leader));
        let unit = self.rmp.unit();
        let base = |core: CoreId| unit.rdmsr_base(snp_model::CoreId(u32::from(core.0)));
        let window = RmpoptBase::from_raw(base(cores().next()?)).ok()?.window();
        let alike = |core: CoreId| {
            let at = snp_model::CoreId(u32::from(core.0));
            let begun = unit.begin(at, window.base.base().get(), RmpoptFunction::Verify);
            begun.is_ok() && base(core) == RmpoptBase::enabled_at(window.base).raw()
        };
        if !cores().all(alike) {
            return None;
        }
        // The first may have to read what the others then find read.
        let lanes: Vec<_> = (targets.iter().enumerate())
            .map(|(number, &(cpu, _))| {
                let first = number == 0 && !leader_has_read(reach);
                (first, self.meter.slices.vcpus_on(cpu))
            })
            .collect();
        let mut kinds = lanes.clone();
        kinds.sort_unstable();
        kinds.dedup();
        let lane_of = lanes.iter().map(|lane| kinds.partition_point(|kind| kind < lane)).collect();
        let (epochs, shapes) = (self.epochs(), Vec::new());
        // Lanes are set with the first shape.
        let lanes = 0;
        Some(Plan { leader, reach, epochs, window, targets, sender_too, lane_of, lanes, shapes })
    }

    /// The shape of a broadcast of `region`, which answers `found`.
    fn shape(&mut self, plan: &mut Plan, region: Region, found: Found) -> usize {
        let (found, socket) = (key(found), self.view.node_socket(self.view.region_node(region)));
        let known = |shape: &Shape| (shape.found, shape.socket) == (found, socket);
        if let Some(known) = plan.shapes.iter().position(known) {
            return known;
        }
        let shape = self.new_shape(plan, region, found, socket);
        plan.shapes.push(shape);
        if let Some(lanes) = plan.divide() {
            self.meter.set_lanes(lanes);
            plan.epochs = self.epochs();
        }
        plan.shapes.len() - 1
    }

    /// As `broadcast_one_by_one` goes, but that nothing is charged.
    fn new_shape(&self, plan: &Plan, region: Region, found: Found, socket: u16) -> Shape {
        let mut round = Round::new(plan.reach, self.driver.enabled.len());
        let mut shape = Shape {
            found,
            socket,
            losses: Vec::new(),
            by_lane: Vec::new(),
            first_done: 0,
            rest_done: 0,
            sending: 0,
            rest: Vec::new(),
            first: None,
        };
        let part = |round: &mut Round, shape: &mut Shape, core, at| {
            let near = self.view.is_near(core, region);
            let part = round.take_part(&self.cost, core, near, found, at, |mean| mean);
            if shape.first.is_none() {
                shape.first = Some((part.met, part.took));
                shape.first_done = part.done;
                return part;
            }
            shape.rest_done = shape.rest_done.max(part.done);
            let same = |met: &&mut (Found, Nanos, u64)| (met.0, met.1) == (part.met, part.took);
            match shape.rest.iter_mut().find(same) {
                Some(met) => met.2 += 1,
                None => shape.rest.push((part.met, part.took, 1)),
            }
            part
        };
        let mut stalled = 0;
        for (sent, &(cpu, core)) in (1..).zip(&plan.targets) {
            let arrives = self.cost.ipi_send_ns(sent) + stalled;
            let part = part(&mut round, &mut shape, core, arrives + self.ipi_entry(cpu));
            shape.losses.push(part.done - arrives);
            if core == plan.leader {
                stalled += round.scanned_ns(core);
            }
        }
        shape.sending = self.cost.ipi_send_ns(plan.targets.len() as u32) + stalled;
        if plan.sender_too {
            let sending = shape.sending;
            part(&mut round, &mut shape, plan.leader, sending);
        }
        shape
    }

    fn broadcast_by(&mut self, plan: &mut Plan, region: Region) -> Option<Nanos> {
        if !plan.window.covers(region) || region.get() >= self.rmp.unit().regions() {
            return None;
        }
        let first_core = plan.cores().next()?;
        let at = snp_model::CoreId(u32::from(first_core.0));
        let base = region.base().get();
        let mut begun = self.rmp.unit().begin(at, base, RmpoptFunction::Verify).ok()?;
        let found = self.found(region, &mut begun);
        let index = self.shape(plan, region, found);
        let shape = plan.shapes.get(index)?;

        // The first of a region with an assigned page may scan what the others then find read.
        let (mut more_first, mut more) = (0, 0);
        if let Found::Lines { lines, assigned: true } = found {
            more = self.cost.reread_ns(lines) - self.cost.reread_ns(0);
            more_first = more;
            if !leader_has_read(plan.reach) {
                let near = self.view.is_near(first_core, region);
                more_first = self.cost.scan_ns(lines, near) - self.cost.scan_ns(0, near);
            }
        }
        let first_lane = plan.lane_of.first().copied();
        for (lane, &ns) in shape.by_lane.iter().enumerate() {
            let ns = ns + if Some(lane) == first_lane { more_first } else { more };
            self.meter.counts.ipis += self.meter.interrupt_lane(lane, ns);
            self.meter.hold(ns);
        }
        let met = |met| if key(met) == key(found) { found } else { met };
        if let Some((what, ns)) = shape.first {
            self.tally_all(met(what), ns + more_first, 1);
        }
        for &(what, ns, times) in &shape.rest {
            self.tally_all(met(what), ns + more, times);
        }
        let count = plan.participants();
        self.meter.counts.followers += count;
        // Each began without #UD, and no target is held but for its one RMPOPT.
        self.laws.held(laws::NO_UD, count);
        self.laws.held(laws::QUIET, plan.targets.len() as u64);
        let rest_done = if count > 1 { shape.rest_done + more } else { 0 };
        let waited = shape.sending.max(shape.first_done + more_first).max(rest_done);

        let generation = self.rmp.unit().generation(region);
        let at = generation.map(|generation| (self.driver.cores_epoch, generation));
        let settled = self.bulk.settled.get(region.index()).copied().flatten();
        let effect = match found {
            Found::Lines { assigned: true, .. } => Effect::Dirty,
            _ if at.is_some() && settled == at => Effect::Settled,
            _ => Effect::OneByOne,
        };
        if effect == Effect::OneByOne {
            for core in plan.cores() {
                let at = snp_model::CoreId(u32::from(core.0));
                if let Ok(mut begun) = self.rmp.unit().begin(at, base, RmpoptFunction::Verify) {
                    self.rmp.look(&mut begun);
                    self.driver.broadcast.push((core, begun));
                }
            }
        }
        self.driver.bulk = Some(UnderWay { count, at, effect });
        Some(waited)
    }

    /// On how many of the `count` cores of a settled broadcast the region is optimised when it ends:
    /// on all, unless somebody wrote a base meanwhile.
    fn still_optimised(&self, region: Region, at: Option<(u64, u64)>, count: u64) -> u64 {
        let cores_stay = at.is_some_and(|at| at.0 == self.driver.cores_epoch);
        let (false, Some(plan)) = (cores_stay, &self.bulk.plan) else { return count };
        let unit = self.rmp.unit();
        let at = |core: CoreId| snp_model::CoreId(u32::from(core.0));
        plan.cores().filter(|&core| unit.is_optimised(at(core), region)).count() as u64
    }

    /// A broadcast ends; `everywhere`: each RMPOPT that was finished has set its bit.
    pub(super) fn end_bulk(&mut self, region: Region, everywhere: bool) {
        let Some(UnderWay { count, at, effect }) = self.driver.bulk.take() else { return };
        let generation = self.rmp.unit().generation(region);
        // Changed meanwhile, it is not settled any more, and no bit was set.
        let same = at.is_some() && generation == at.map(|at| at.1);
        match effect {
            Effect::Settled if same => {
                let all = count;
                let count = self.still_optimised(region, at, all);
                self.meter.counts.verified(true, count);
                self.meter.counts.verified(false, all - count);
                let book = self.ledger.regions.get(region.index());
                let clean = book.is_none_or(|book| book.assigned == 0);
                if clean {
                    self.laws.held(laws::SAFETY, count);
                } else {
                    let what = || format!("region {region} is optimised with pages assigned");
                    (0..count).for_each(|_| self.breach(laws::SAFETY, what));
                }
            }
            // One by one they were counted as they were finished.
            Effect::Settled | Effect::Dirty => self.meter.counts.verified(false, count),
            // A core that came meanwhile was not asked.
            Effect::OneByOne if same && everywhere => {
                if let Some(settled) = self.bulk.settled.get_mut(region.index()) {
                    *settled = at;
                }
            }
            Effect::OneByOne => {}
        }
    }
}
