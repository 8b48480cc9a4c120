//! The emulated host over simulated time.
//!
//! [`Engine`] holds everything: the RMP and its RMPOPT unit, the policy, CPUs, guests, books. Events
//! come out of a queue in the order of their time; each may tell the policy something, whose actions
//! the executor ([`driver`]) carries out at a cost. Nothing reads a clock or a random source but the
//! run's own.

mod advice;
mod asids;
mod bulk;
mod convert;
mod driver;
mod end;
mod events;
mod gmem;
mod guests;
mod host;
mod launch;
mod laws;
mod ledger;
mod live;
mod meter;
mod notes;
mod oracle;
mod queue;
mod report;
mod round;
mod slices;
mod snp;
mod times;
mod watch;
mod writes;

use std::sync::atomic::AtomicU64;

use rand_pcg::Pcg64Mcg;
use rmpopt_core::upstream::Version;
use rmpopt_core::{
    Activity, Buffers, Config, CoreCell, Facts, Host as _, Off, Policy, RegionCell, Tracked,
    Upstream, WorstCase, words_for, words_needed,
};
use snp_defs::{Region, Window};
use snp_model::UnitConfig;

use self::asids::Asids;
use self::bulk::Bulk;
use self::driver::Driver;
use self::guests::Guest;
use self::host::{Cpus, HostView, TICK_NS};
use self::laws::Laws;
use self::ledger::Ledger;
pub use self::live::{Live, LiveGuest, LiveLife, LiveStatus};
use self::meter::Meter;
use self::oracle::Oracle;
use self::queue::{Event, Queue};
pub(crate) use self::times::Tally;
use self::times::Times;
use crate::boot::{BootLayout, boot};
use crate::choose;
use crate::cost::CostModel;
use crate::error::LabError;
use crate::memory::PhysicalMemory;
use crate::placement::Allocator;
use crate::policies::Kind;
use crate::report::{RegionMark, SHARE_POINTS, TimelineEntry, TimelineKind, TraceReport};
use crate::rmp::{Extents, HostRmp, Pages, RmpError};
use crate::scenario::{
    FidelityChoice, Grain, GuestKind, GuestSpec, MemorySpec, Nanos, Progress, SECOND, Setup,
    TRACE_START, TopologySpec,
};
use crate::seeded::{Defect, Seeded};
use crate::topology::Topology;
use crate::words::{size, things};

/// When the secure processor's driver initialises SNP: it is loaded some time into boot (assumed).
const SNP_INIT_AT: Nanos = SECOND;
/// A run without a stated end goes on for so long after the last thing that happens.
const TAIL_NS: Nanos = 60 * SECOND;
/// Of a trace's guests, or of a scenario's if it has more, so many steps are told one by one.
const GUEST_NOTES: u64 = 40;
/// Rejected guests that the timeline names.
const REJECTED_NOTES: u64 = 20;
/// Entries of the timeline; what comes after is counted.
const TIMELINE_MAX: usize = 400;
/// Progress is told every so many events.
const PROGRESS_EVERY: u64 = 4096;
/// `auto` keeps every RMP entry up to this much RAM.
const PAGES_UP_TO: u64 = 64 << 30;

/// Everything of one run.
pub(crate) struct Engine<'a> {
    setup: &'a Setup,
    cost: CostModel,
    topology: Topology,
    memory: PhysicalMemory,
    boot: BootLayout,
    rmp: Box<dyn HostRmp>,
    policy: Box<dyn Policy>,
    /// Why RMPOPT cannot be used here.
    refused: Option<String>,
    view: HostView,
    activity: Activity<Vec<AtomicU64>>,
    queue: Queue,
    now: Nanos,
    until: Nanos,
    cpus: Cpus,
    driver: Driver,
    bulk: Bulk,
    times: Times,
    guests: Vec<Guest>,
    allocator: Allocator,
    asids: Asids,
    rng: Pcg64Mcg,
    /// Turns the core that probes writes.
    probe: u32,
    meter: Meter,
    ledger: Ledger,
    laws: Laws,
    timeline: Vec<TimelineEntry>,
    untold: u64,
    guest_notes: u64,
    rejected: u64,
    trace: TraceReport,
    traced_bytes: u64,
    /// Windows of the cores, as the policy chose them at SNP_INIT.
    windows: Vec<Option<Window>>,
    /// Map and table at the last end of SNP.
    snapshot: Option<report::Snapshot>,
    passes_noted: u64,
    optimised_noted: usize,
    /// Law 3's yardstick, and law 5's.
    bound_ns: Nanos,
    hold_budget_ns: Nanos,
    paused_at: Option<Nanos>,
    last_resumed: Nanos,
    /// SNP is to go down: guests first, then the driver.
    shutting_down: bool,
    going_down: bool,
    /// CPUs that shall go offline as soon as the driver has left them.
    leaving: Vec<u32>,
    seeded: Vec<Seeded>,
    /// Defects of the host or its firmware that are armed, and how often each will strike.
    armed: Vec<(Defect, u32)>,
    config: Config,
    /// Each region's first page is assigned once SNP is up.
    heads_assigned: bool,
}

/// What the posted measurements had that no scenario has ([`crate::calibrate`]).
#[derive(Default)]
pub(crate) struct Posted {
    /// Put around the policy.
    pub(crate) driver: Option<WrapPolicy>,
    /// Each region's first page is assigned once SNP is up.
    pub(crate) heads_assigned: bool,
    /// No broadcast is taken in bulk.
    pub(crate) cpu_by_cpu: bool,
}

/// Puts something around a policy.
pub(crate) type WrapPolicy = Box<dyn FnOnce(Box<dyn Policy>) -> Box<dyn Policy>>;

impl<'a> Engine<'a> {
    /// Builds the host that `setup` describes. `seeded` defects strike at their times.
    pub(crate) fn new(setup: &'a Setup, seeded: &[Seeded]) -> Result<Self, LabError> {
        Self::build(setup, seeded, Posted::default())
    }

    /// The same with what a posted measurement had besides.
    pub(crate) fn build(
        setup: &'a Setup,
        seeded: &[Seeded],
        posted: Posted,
    ) -> Result<Self, LabError> {
        let scenario = &setup.scenario;
        let topology = match &scenario.host.topology {
            TopologySpec::Regular(numbers) => Topology::from_numbers(*numbers)?,
            TopologySpec::Listed(lists) => Topology::from_lists(lists)?,
        };
        let memory = match &scenario.host.memory {
            MemorySpec::Bytes(bytes) => {
                PhysicalMemory::from_size(*bytes, topology.nodes().len() as u32)?
            }
            MemorySpec::Map { entries, nodes } => PhysicalMemory::from_map(entries, nodes)?,
        };
        let boot = boot(&memory, topology.sockets(), scenario.host.rmp)?;
        let (cores, regions) = (topology.cores(), memory.spanned_regions());
        let pages = match setup.fidelity {
            FidelityChoice::Auto => memory.memory_bytes() <= PAGES_UP_TO,
            FidelityChoice::Pages => true,
            FidelityChoice::Extents => false,
        };
        let unit = UnitConfig::default();
        let rmp: Box<dyn HostRmp> = if pages {
            Box::new(Pages::new(cores, regions, &boot, unit))
        } else {
            Box::new(Extents::new(cores, regions, &boot, unit))
        };
        let config = setup.policy.configure(policy_config(&scenario.policy));
        let facts = Facts {
            segmented_rmp_enabled: boot.rmpopt_possible(),
            ..Facts::venice(topology.cpu_count())
        };
        let (policy, refused) = choose_policy(setup, facts, config, cores, regions);
        let wrap = posted.driver.unwrap_or_else(|| Box::new(|policy| policy));
        let policy = wrap(policy);
        let refused = boot.linux_refuses().map(|why| format!("SNP stays off: {why}")).or(refused);
        let cost = setup.costs;
        let (slow_ns, fast_ns) = cost.worst_ns();
        let worst = WorstCase {
            slow_ns,
            fast_ns,
            entry_ns: cost.work_wakeup + cost.guest_exit,
            tick_ns: TICK_NS,
        };
        let yardstick = config.liveness_bound(cores as u16, &worst);
        let bound_ns = policy.liveness_bound(&worst).unwrap_or(yardstick).total_ns();
        let until = setup.until.or(scenario.until).unwrap_or_else(|| last_of(setup) + TAIL_NS);
        let view = HostView::new(&topology, &memory);
        let ram = (0..regions)
            .map(|number| Region::new(number).is_some_and(|region| view.ram_mib(region) > 0));
        let words = || (0..words_for(regions)).map(|_| AtomicU64::new(0)).collect();
        let mut engine = Self {
            setup,
            cost,
            rmp,
            refused,
            activity: Activity::new(words(), words()),
            queue: Queue::default(),
            now: 0,
            until,
            cpus: Cpus::new(&topology, &scenario.host.nohz_full),
            driver: Driver::new(cores as usize),
            bulk: Bulk::new(regions, seeded.is_empty() && !posted.cpu_by_cpu),
            times: Times::new(setup.seed, regions),
            guests: Vec::new(),
            allocator: Allocator::new(&memory, &boot),
            asids: Asids::new(),
            rng: Pcg64Mcg::new(choose::seed_state(setup.seed)),
            probe: 0,
            meter: Meter::new(topology.cpu_limit(), until),
            ledger: Ledger::new(ram, view.writes(), until, SHARE_POINTS as u64),
            laws: Laws::new(policy.claims()),
            timeline: Vec::new(),
            untold: 0,
            guest_notes: 0,
            rejected: 0,
            trace: TraceReport::default(),
            traced_bytes: 0,
            windows: vec![None; cores as usize],
            snapshot: None,
            passes_noted: 0,
            optimised_noted: 0,
            bound_ns,
            hold_budget_ns: policy.budget().map_or(config.hold_ns, |budget| budget.hold_ns),
            paused_at: None,
            last_resumed: 0,
            shutting_down: false,
            going_down: false,
            leaving: Vec::new(),
            seeded: seeded.to_vec(),
            armed: Vec::new(),
            config,
            heads_assigned: posted.heads_assigned,
            policy,
            view,
            topology,
            memory,
            boot,
        };
        engine.enqueue();
        Ok(engine)
    }

    /// Puts everything that is known beforehand into the queue.
    fn enqueue(&mut self) {
        self.queue.push(SNP_INIT_AT, Event::SnpInit);
        let scenario = &self.setup.scenario;
        for spec in &scenario.guests {
            self.guests.push(Guest::new(spec.clone(), false));
        }
        for stream in &scenario.streams {
            let guests = crate::stream::guests(stream, self.setup.seed, self.until);
            self.guests.extend(guests.into_iter().map(|spec| Guest::new(spec, false)));
        }
        if let Some(trace) = &scenario.trace {
            self.trace.rows = trace.rows;
            self.trace.unscheduled = trace.unscheduled;
            self.trace.invalid = trace.invalid;
            self.trace.left_out = trace.left_out;
            self.trace.left_censored =
                trace.guests.iter().filter(|guest| guest.left_censored).count() as u64;
            let snp = choose::snp_guests(trace, self.setup.seed);
            for (guest, snp) in trace.guests.iter().zip(snp) {
                let spec = GuestSpec {
                    name: guest.id.clone(),
                    kind: if snp { GuestKind::Snp } else { GuestKind::Ordinary },
                    memory: guest.memory,
                    placement: choose::traced_placement(snp),
                    at: guest.start,
                    until: guest.end,
                    vcpus: u32::try_from(guest.cpu_milli.div_ceil(1000)).unwrap_or(u32::MAX).max(1),
                    node: None,
                    touched: guest.memory,
                    convert_rate: None,
                    accept: Grain::default(),
                };
                self.guests.push(Guest::new(spec, true));
            }
        }
        for (index, guest) in self.guests.iter().enumerate() {
            let shift = if guest.traced { TRACE_START } else { 0 };
            self.queue.push(guest.spec.at.saturating_add(shift), Event::Launch(index));
            if let Some(end) = guest.spec.until.filter(|&end| end > guest.spec.at) {
                self.queue.push(end.saturating_add(shift), Event::End(index));
            }
        }
        for (index, event) in scenario.events.iter().enumerate() {
            self.queue.push(event.at, Event::Scenario(index));
        }
        self.note(
            TimelineKind::Host,
            format!(
                "power-on: {}, {}, {}, {} of RAM",
                things(self.topology.sockets().into(), "socket"),
                things(self.topology.cores().into(), "core"),
                things(self.topology.cpu_count().into(), "CPU"),
                size(self.memory.memory_bytes())
            ),
        );
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), LabError> {
        let mut events: u64 = 0;
        while let Some((at, event)) = self.queue.pop(self.until) {
            self.step(at, &event)?;
            if events.is_multiple_of(PROGRESS_EVERY) {
                progress(Progress { now: self.now, until: self.until });
            }
            events += 1;
        }
        self.ledger.advance(self.until);
        self.now = self.until;
        if self.ledger.is_up() {
            self.snapshot = Some(self.take_snapshot());
            self.ledger.snp_down();
        }
        self.meter.at(self.until);
        self.meter.end_steady();
        self.meter.slices.finish();
        progress(Progress { now: self.now, until: self.until });
        Ok(())
    }

    /// How long the RMPOPTs of each pass took.
    pub(crate) fn tallies(&self) -> &[Tally] {
        self.times.tallies()
    }

    /// It is `at`, and `event` happens.
    fn step(&mut self, at: Nanos, event: &Event) -> Result<(), RmpError> {
        self.ledger.advance(at);
        self.meter.at(at);
        self.now = at;
        self.strike();
        self.happen(event)
    }

    fn happen(&mut self, event: &Event) -> Result<(), RmpError> {
        match *event {
            Event::SnpInit => self.snp_init()?,
            Event::Scenario(index) => self.scenario_event(index)?,
            Event::Launch(index) => {
                self.launch(index)?;
                // A guest of no duration ends when it has been launched.
                let spec = self.guests.get(index).map(|guest| &guest.spec);
                if spec.is_some_and(|spec| spec.until.is_some_and(|end| end <= spec.at)) {
                    self.end(index);
                }
            }
            Event::End(index) => self.end(index),
            Event::Launched { guest, slice } => self.launched(guest, slice)?,
            Event::Decommissioned(index) => self.decommissioned(index)?,
            Event::Converted { guest, slice } => self.converted(guest, slice)?,
            Event::Drain(number) => self.drain(number),
            Event::Timer(number) => self.timer(number),
            Event::WriteBase { core, base } => self.write_base(core, base),
            Event::VerifyEnd { core, region, ticket, begun, took_ns } => {
                self.end_verify(core, region, ticket, begun, took_ns);
            }
            Event::Turn { core, turn } => self.turn(core, turn),
            Event::HoldEnd { core, turn } => self.end_hold(core, turn),
            Event::BroadcastEnd { region, ticket } => self.end_broadcast(region, ticket),
            Event::Oracle { region, freed } => self.oracle_due(region, freed),
            Event::LivenessDue { region, freed } => self.liveness_due(region, freed),
        }
        Ok(())
    }

    /// Seeded defects whose time has come are armed.
    fn strike(&mut self) {
        let now = self.now;
        let (due, rest): (Vec<_>, Vec<_>) =
            self.seeded.drain(..).partition(|seeded| seeded.at <= now);
        self.seeded = rest;
        for seeded in due {
            match (seeded.defect, seeded.defect.model_fault()) {
                (_, Some(fault)) => self.rmp.unit().faults().seed(fault, seeded.times),
                (Defect::SkipFollower, None) => self.driver.swallow = seeded.times,
                (defect, None) => self.armed.push((defect, seeded.times)),
            }
        }
    }

    /// Whether a seeded defect of the host or its firmware strikes now.
    fn defect(&mut self, which: Defect) -> bool {
        let armed = self.armed.iter_mut().find(|(defect, left)| *defect == which && *left > 0);
        armed.is_some_and(|(_, left)| {
            *left -= 1;
            true
        })
    }
}

fn policy_config(spec: &crate::scenario::PolicySpec) -> Config {
    let mut config = Config::default();
    let set = |field: &mut u64, value: Option<u64>| {
        if let Some(value) = value {
            *field = value;
        }
    };
    set(&mut config.delay_ns, spec.delay);
    set(&mut config.bound_ns, spec.bound);
    set(&mut config.hold_ns, spec.budget);
    set(&mut config.audit_ns, spec.audit);
    set(&mut config.tick_ns, spec.tick);
    set(&mut config.follow_ns, spec.follow_by);
    if let Some(followers) = spec.followers {
        config.followers_at_once = u16::try_from(followers).unwrap_or(u16::MAX);
    }
    config
}

/// The policy asked for, or `off` with the reason if RMPOPT cannot be used here.
fn choose_policy(
    setup: &Setup,
    facts: Facts,
    config: Config,
    cores: u32,
    regions: u32,
) -> (Box<dyn Policy>, Option<String>) {
    let proof = match facts.check() {
        Ok(proof) => proof,
        Err(refusal) => return (Box::new(Off::default()), Some(refusal.to_string())),
    };
    let policy: Box<dyn Policy> = match setup.policy.kind() {
        Kind::Off => Box::new(Off::default()),
        Kind::Upstream(version) => {
            let own = vec![Window::default(); cores as usize];
            Box::new(Upstream::with_windows(proof, version, upstream_delay(setup, version), own))
        }
        Kind::Oracle { delayed } => {
            let delay_ns = if delayed { config.delay_ns } else { 0 };
            Box::new(Oracle::new(setup.policy.as_str(), delay_ns))
        }
        Kind::Tracked { .. } => {
            let storage = Buffers {
                regions: vec![RegionCell::default(); regions as usize],
                cores: vec![CoreCell::default(); cores as usize],
                words: vec![0u64; words_needed(regions)],
            };
            Box::new(Tracked::new(proof, config, storage))
        }
    };
    (policy, None)
}

/// A version's delay, unless the scenario says another; a version without one keeps to that.
fn upstream_delay(setup: &Setup, version: &Version) -> Nanos {
    let delay = setup.scenario.policy.delay.filter(|_| version.delay_ns > 0);
    delay.unwrap_or(version.delay_ns)
}

/// When the last thing that is known beforehand happens.
fn last_of(setup: &Setup) -> Nanos {
    let scenario = &setup.scenario;
    let guests = scenario.guests.iter().map(|guest| guest.until.unwrap_or(guest.at));
    let streams = scenario.streams.iter().map(|stream| stream.until);
    let events = scenario.events.iter().map(|event| event.at);
    let traced = scenario.trace.iter().flat_map(|trace| &trace.guests);
    let traced = traced.map(|guest| guest.end.unwrap_or(guest.start).saturating_add(TRACE_START));
    guests.chain(streams).chain(events).chain(traced).max().unwrap_or(0).max(SNP_INIT_AT)
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What a region is, for the map.
fn mark_of(book: &ledger::RegionBook) -> RegionMark {
    if !book.ram {
        RegionMark::NoRam
    } else if book.boot > 0 {
        RegionMark::Firmware
    } else if book.assigned > 0 {
        RegionMark::SnpGuest
    } else if book.covered_by == 0 {
        RegionMark::Outside
    } else if book.optimised_on == 0 {
        RegionMark::NotYet
    } else if book.optimised_on < book.covered_by {
        RegionMark::SomeCores
    } else {
        RegionMark::AllCores
    }
}
