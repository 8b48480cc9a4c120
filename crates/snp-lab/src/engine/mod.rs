//! The emulated host over simulated time.
//!
//! [`Engine`] holds everything: the RMP and its RMPOPT unit, the policy, CPUs, guests, books. Events
//! come out of a queue in the order of their time; each may tell the policy something, whose actions
//! the executor ([`driver`]) carries out at a cost. Nothing reads a clock or a random source but the
//! run's own.

mod driver;
mod guests;
mod host;
mod laws;
mod ledger;
mod meter;
mod queue;
mod report;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use rand_pcg::Pcg64Mcg;
use rmpopt_core::{
    Activity, Buffers, Config, CoreCell, CoreId, Event as PolicyEvent, Facts, Host as _, Off,
    Policy, RegionCell, Request as PolicyRequest, Tracked, V10, WorstCase, v10, words_for,
    words_needed,
};
use snp_defs::{Region, RmpoptBase, Window};
use snp_model::UnitConfig;

use self::driver::Driver;
use self::guests::Guest;
use self::host::{Cpus, HostView, TICK_NS};
use self::laws::Laws;
use self::ledger::Ledger;
use self::meter::Meter;
use self::queue::{Event, Queue};
use crate::boot::{BootLayout, boot};
use crate::choose;
use crate::cost::CostModel;
use crate::error::LabError;
use crate::memory::PhysicalMemory;
use crate::placement::Allocator;
use crate::report::{RegionMark, SHARE_POINTS, TimelineEntry, TimelineKind, TraceReport};
use crate::rmp::{Extents, HostRmp, Pages, RmpError};
use crate::scenario::{
    Action, FidelityChoice, GuestKind, GuestSpec, MemorySpec, Nanos, PolicyName, Progress, SECOND,
    Setup, TRACE_START, TopologySpec,
};
use crate::seeded::Seeded;
use crate::topology::Topology;
use crate::words::{count, size, things};

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
/// Usable ASIDs of SNP guests: the ten bits of a raw entry, less 0 and the firmware's own 0x3FF.
const ASIDS: u32 = 1022;
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
    guests: Vec<Guest>,
    allocator: Allocator,
    /// Blocks that hold guests' save areas and context pages.
    contexts: HashMap<usize, Vec<crate::memory::Extent>>,
    asids: Vec<u32>,
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
    config: Config,
}

impl<'a> Engine<'a> {
    /// Builds the host that `setup` describes. `seeded` defects strike at their times.
    pub(crate) fn new(setup: &'a Setup, seeded: &[Seeded]) -> Result<Self, LabError> {
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
        let config = policy_config(&scenario.policy);
        let facts = Facts {
            segmented_rmp_enabled: boot.rmpopt_possible(),
            ..Facts::venice(topology.cpu_count())
        };
        let (policy, refused) = choose_policy(setup.policy, facts, config, cores, regions);
        let cost = CostModel::default();
        let worst = WorstCase {
            slow_ns: cost.rmpopt_slow,
            fast_ns: cost.rmpopt_fast,
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
            cpus: Cpus::new(&topology),
            driver: Driver::new(cores as usize),
            guests: Vec::new(),
            allocator: Allocator::new(&memory, &boot),
            contexts: HashMap::new(),
            asids: (1..=ASIDS).rev().collect(),
            rng: Pcg64Mcg::new(choose::seed_state(setup.seed)),
            probe: 0,
            meter: Meter::new(topology.cpu_limit()),
            ledger: Ledger::new(ram, until, SHARE_POINTS as u64),
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
            config,
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
        if let Some(trace) = &scenario.trace {
            self.trace.rows = trace.rows;
            self.trace.unscheduled = trace.unscheduled;
            self.trace.invalid = trace.invalid;
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
            self.ledger.advance(at);
            self.now = at;
            self.strike();
            self.happen(&event)?;
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
        self.meter.end_steady();
        progress(Progress { now: self.now, until: self.until });
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Result<(), RmpError> {
        match *event {
            Event::SnpInit => self.snp_init()?,
            Event::Scenario(index) => self.scenario_event(index)?,
            Event::Launch(index) => {
                self.launch(index);
                // A guest of no duration ends when it has been launched.
                let spec = self.guests.get(index).map(|guest| &guest.spec);
                if spec.is_some_and(|spec| spec.until.is_some_and(|end| end <= spec.at)) {
                    self.end(index);
                }
            }
            Event::End(index) => self.end(index),
            Event::Decommissioned(index) => self.decommissioned(index),
            Event::Converted { guest, slice } => self.converted(guest, slice)?,
            Event::Drain => self.drain(),
            Event::Timer(number) => self.timer(number),
            Event::WriteBase { core, base } => self.write_base(core, base),
            Event::VerifyEnd { core, region, ticket, begun, took_ns } => {
                self.end_verify(core, region, ticket, begun, took_ns);
            }
            Event::Turn { core, turn } => self.turn(core, turn),
            Event::HoldEnd { core, turn } => self.end_hold(core, turn),
            Event::BroadcastEnd { region, ticket } => self.end_broadcast(region, ticket),
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
            match seeded.model_fault() {
                Some(fault) => self.rmp.unit().faults().seed(fault, seeded.times),
                None => self.driver.swallow = seeded.times,
            }
        }
    }

    // ---- SNP's life ----

    fn snp_init(&mut self) -> Result<(), RmpError> {
        if self.ledger.is_up() || self.shutting_down {
            let state = if self.shutting_down { "still going down" } else { "up already" };
            self.note(TimelineKind::Snp, format!("SNP_INIT: SNP is {state}"));
            return Ok(());
        }
        self.rmp.snp_init(&self.boot)?;
        self.driver_starts();
        self.policy
            .handle(rmpopt_core::Time::from_ns(self.now), PolicyEvent::SnpInitialised(&self.view));
        for core in 0..self.view.cores() {
            // The pairs are those of the scenario's CPUs, also for a policy that enables nothing.
            let window = self.policy.window(CoreId(core));
            let fallback = || rmpopt_core::window::lowest(&self.view);
            let counts = self.view.participates(CoreId(core));
            if let Some(slot) = self.windows.get_mut(usize::from(core)) {
                *slot = counts.then(|| window.unwrap_or_else(fallback));
            }
        }
        let mut boot_pages = vec![0u64; self.memory.spanned_regions() as usize];
        for range in &self.boot.assigned {
            let mut at = range.first;
            let mut left = range.pages;
            while left > 0 {
                let room = snp_defs::PAGES_PER_REGION - u64::from(at.index_in_region());
                let here = left.min(room);
                if let Some(pages) = boot_pages.get_mut(at.region().index()) {
                    *pages += here;
                }
                left -= here;
                let Some(next) = at.checked_add(here) else { break };
                at = next;
            }
        }
        let windows = &self.windows;
        self.ledger.snp_up(|index| {
            let region = Region::new(index as u32).unwrap_or_default();
            let covered = windows.iter().flatten().filter(|window| window.covers(region)).count();
            (boot_pages.get(index).copied().unwrap_or(0), covered as u32)
        });
        let assigned: u64 = boot_pages.iter().sum();
        self.note(
            TimelineKind::Snp,
            format!(
                "SNP_INIT: RMP built, {} assigned to firmware",
                size(assigned * snp_defs::PAGE_BYTES)
            ),
        );
        if let Some(refused) = self.refused.clone() {
            self.note(TimelineKind::Snp, format!("RMPOPT is not used: {refused}"));
        }
        for index in 0..self.ledger.regions.len() {
            let book = self.ledger.regions.get(index).copied().unwrap_or_default();
            if let Some(region) = Region::new(index as u32).filter(|_| book.assigned == 0) {
                self.watch_liveness(region, book.freed);
            }
        }
        self.tell(PolicyEvent::Timer);
        Ok(())
    }

    /// SNP shall go down: its guests first.
    fn begin_shutdown(&mut self) {
        if !self.ledger.is_up() || self.shutting_down {
            let state = if self.shutting_down { "going down already" } else { "not up" };
            self.note(TimelineKind::Snp, format!("SNP shutdown: SNP is {state}"));
            return;
        }
        self.shutting_down = true;
        let running: Vec<usize> = (0..self.guests.len())
            .filter(|&index| {
                self.guests.get(index).is_some_and(|g| g.holds_pages() && g.is_running())
            })
            .collect();
        self.note(
            TimelineKind::Snp,
            match running.len() as u64 {
                0 => "SNP shutdown begins".into(),
                1 => "SNP shutdown begins: 1 SNP guest is ended first".into(),
                guests => {
                    format!("SNP shutdown begins: {} are ended first", things(guests, "SNP guest"))
                }
            },
        );
        for index in running {
            self.end(index);
        }
        self.guest_gone();
    }

    /// A guest is gone; a shutdown may wait for the last.
    fn guest_gone(&mut self) {
        if !self.shutting_down || self.going_down || self.guests.iter().any(Guest::holds_pages) {
            return;
        }
        self.going_down = true;
        self.snapshot = Some(self.take_snapshot());
        self.ledger.snp_down();
        self.meter.end_steady();
        self.tell(PolicyEvent::SnpGoingDown);
    }

    /// The driver has stopped: the firmware may clear SNP_EN.
    fn finish_shutdown(&mut self) {
        // A core that is away is cleared when it returns.
        let set: Vec<_> = (0..self.view.cores())
            .filter(|&core| self.cpus.worker(CoreId(core)).is_some())
            .filter(|&core| {
                let unit = self.rmp.unit();
                unit.rdmsr_base(snp_model::CoreId(u32::from(core))) != RmpoptBase::OFF.raw()
            })
            .collect();
        self.check(laws::CLEAN_EXIT, set.is_empty(), || {
            let cores = things(set.len() as u64, "core");
            format!("RMPOPT_BASE is not 0 on {cores} after SNP shutdown")
        });
        let cleared = set.is_empty();
        if let Err(error) = self.rmp.snp_shutdown(&self.boot) {
            self.breach(laws::CLEAN_EXIT, || error.to_string());
        }
        self.shutting_down = false;
        self.going_down = false;
        let what = match (self.uses_rmpopt(), cleared) {
            (false, _) => "SNP shut down",
            (true, true) => "SNP shut down: the driver has stopped, RMPOPT_BASE is 0 on every core",
            (true, false) => "SNP shut down: the driver has stopped",
        };
        self.note(TimelineKind::Snp, what.into());
    }

    // ---- the scenario's events ----

    fn scenario_event(&mut self, index: usize) -> Result<(), RmpError> {
        let Some(event) = self.setup.scenario.events.get(index) else { return Ok(()) };
        match event.action {
            Action::Share { guest, memory } => self.convert(guest, memory, true),
            Action::Private { guest, memory } => self.convert(guest, memory, false),
            Action::Leak { guest, pages } => self.leak(guest, pages),
            Action::SnpInit => self.snp_init()?,
            Action::SnpShutdown => self.begin_shutdown(),
            Action::CpuOffline { cpu } => self.cpu_offline(cpu),
            Action::CpuOnline { cpu } => self.cpu_online(cpu),
            Action::Request => self.operator(PolicyRequest::Optimise, "asks for a pass"),
            Action::Pause => {
                self.paused_at = Some(self.now);
                self.operator(PolicyRequest::Pause, "pauses passes");
            }
            Action::Resume => {
                self.paused_at = None;
                self.last_resumed = self.now;
                self.operator(PolicyRequest::Resume, "lets passes go on");
            }
        }
        Ok(())
    }

    fn operator(&mut self, request: PolicyRequest, what: &str) {
        self.note(TimelineKind::Operator, format!("the operator {what}"));
        self.tell(PolicyEvent::Request(request));
    }

    /// Whether CPUs may not come and go: upstream forbids it from v8 on while SNP is up
    /// (spec/rmpopt.md 4).
    fn hotplug_disabled(&self) -> bool {
        self.setup.policy == PolicyName::V10
            && self.refused.is_none()
            && (self.ledger.is_up() || self.shutting_down)
    }

    /// A CPU is told to go offline or to come online. Returns whether it can.
    fn may_change(&mut self, cpu: u32, online: bool) -> bool {
        let why = if self.topology.core_of(cpu).is_none() {
            format!("there is no CPU {cpu}")
        } else if self.cpus.is_online(cpu) == online {
            format!("CPU {cpu} is {} already", if online { "online" } else { "offline" })
        } else if self.hotplug_disabled() {
            let stays = if online { "offline" } else { "online" };
            format!("CPU {cpu} stays {stays}: v10 disables CPU hotplug while SNP is up")
        } else {
            return true;
        };
        self.note(TimelineKind::Cpu, why);
        false
    }

    fn cpu_offline(&mut self, cpu: u32) {
        if self.may_change(cpu, false) && !self.leaving.contains(&cpu) {
            self.leaving.push(cpu);
            self.cpus_leave();
        }
    }

    /// CPUs that were told to leave go, once the driver has nothing under way there.
    fn cpus_leave(&mut self) {
        for cpu in std::mem::take(&mut self.leaving) {
            let Some(core) = self.topology.core_of(cpu) else { continue };
            let core = CoreId(core as u16);
            if self.driver.is_using(core) {
                self.leaving.push(cpu);
                continue;
            }
            self.cpus.set_online(cpu, false);
            self.note(TimelineKind::Cpu, format!("CPU {cpu} goes offline"));
            if self.cpus.worker(core).is_none() {
                self.drop_slot(core);
                if let Some(enabled) = self.driver.enabled.get_mut(core.index()) {
                    *enabled = false;
                }
                if let Some(participates) = self.view.participates.get_mut(core.index()) {
                    *participates = false;
                }
                self.tell(PolicyEvent::CoreOffline(core));
            } else {
                self.queue_turn(core);
            }
        }
    }

    fn cpu_online(&mut self, cpu: u32) {
        let leaving = self.leaving.len();
        self.leaving.retain(|&leaving| leaving != cpu);
        if self.leaving.len() < leaving {
            self.note(TimelineKind::Cpu, format!("CPU {cpu} was about to go offline and stays"));
            return;
        }
        if !self.may_change(cpu, true) {
            return;
        }
        let Some(core) = self.topology.core_of(cpu) else { return };
        let core = CoreId(core as u16);
        let was_away = self.cpus.worker(core).is_none();
        self.cpus.set_online(cpu, true);
        self.note(TimelineKind::Cpu, format!("CPU {cpu} comes online"));
        if !was_away {
            return;
        }
        if let Some(participates) = self.view.participates.get_mut(core.index()) {
            *participates = true;
        }
        let at = snp_model::CoreId(u32::from(core.0));
        let base = RmpoptBase::from_raw(self.rmp.unit().rdmsr_base(at)).unwrap_or_default();
        let snp_en = self.rmp.unit().snp_en(at);
        if let Some(enabled) = self.driver.enabled.get_mut(core.index()) {
            *enabled = snp_en && base.is_enabled();
        }
        if let Some(since) = self.driver.able_since.get_mut(core.index()) {
            *since = self.now;
        }
        self.tell(PolicyEvent::CoreOnline { core, base, snp_en });
    }

    // ---- laws ----

    fn check(&mut self, law: usize, holds: bool, what: impl FnOnce() -> String) {
        if self.laws.check(law, self.now, holds, what) {
            let first = self.laws.first(law).unwrap_or_default().to_owned();
            self.note(TimelineKind::Law, format!("law {law} is broken {first}"));
        }
    }

    fn breach(&mut self, law: usize, what: impl FnOnce() -> String) {
        self.check(law, false, what);
    }

    /// A driver is there and may use RMPOPT.
    fn uses_rmpopt(&self) -> bool {
        self.refused.is_none() && self.setup.policy != PolicyName::Off
    }

    /// Law 3: a region has become free; it must be optimised in time.
    fn watch_liveness(&mut self, region: Region, freed: u64) {
        if self.uses_rmpopt() {
            self.queue.push(self.now + self.bound_ns, Event::LivenessDue { region, freed });
        }
    }

    fn liveness_due(&mut self, region: Region, freed: u64) {
        let Some(book) = self.ledger.regions.get(region.index()) else { return };
        let began = self.now.saturating_sub(self.bound_ns);
        let could = self.paused_at.is_none() && self.last_resumed <= began;
        if book.freed != freed || book.assigned > 0 || !self.ledger.is_up() || !could {
            return;
        }
        if self.shutting_down || book.covered_by == 0 {
            return;
        }
        let unit = self.rmp.unit();
        let lacking = (0..self.view.cores())
            .map(CoreId)
            .filter(|&core| self.covers(core, region))
            .filter(|&core| {
                let able = self.driver.enabled.get(core.index()).is_some_and(|&on| on);
                let since = self.driver.able_since.get(core.index()).copied().unwrap_or(0);
                able && since <= began
                    && !unit.is_optimised(snp_model::CoreId(u32::from(core.0)), region)
            })
            .count();
        let bound = laws::seconds(self.bound_ns);
        self.check(laws::LIVENESS, lacking == 0, || {
            let cores = things(lacking as u64, "core");
            format!("region {region} has been free for {bound}, it is not optimised on {cores}")
        });
    }

    /// Whether a pair counts: the core participates and its window covers the region.
    fn covers(&self, core: CoreId, region: Region) -> bool {
        self.windows
            .get(core.index())
            .copied()
            .flatten()
            .is_some_and(|window| window.covers(region))
    }

    // ---- the timeline ----

    fn note(&mut self, kind: TimelineKind, text: String) {
        if self.timeline.len() >= TIMELINE_MAX && kind != TimelineKind::Law {
            self.untold += 1;
            return;
        }
        self.timeline.push(TimelineEntry { t_s: self.now as f64 / SECOND as f64, kind, text });
    }

    /// Of many guests only the first are named.
    fn note_guest(&mut self, traced: bool, text: impl FnOnce() -> String) {
        if traced || self.guests.len() as u64 > GUEST_NOTES {
            self.guest_notes += 1;
            if self.guest_notes > GUEST_NOTES {
                self.untold += 1;
                return;
            }
        }
        self.note(TimelineKind::Guest, text());
    }

    fn note_first_pass(&mut self) {
        let free = self.ledger.regions.iter().filter(|book| book.optimised_on > 0).count();
        self.passes_noted = self.policy.passes();
        self.optimised_noted = free;
        if self.uses_rmpopt() {
            let regions = things(free as u64, "region");
            self.note(TimelineKind::Pass, format!("first pass over: {regions} optimised"));
        }
    }

    /// Passes that ended since the last look.
    fn note_passes(&mut self) {
        let passes = self.policy.passes();
        if passes > self.passes_noted && self.meter.is_steady() {
            self.passes_noted = passes;
            let all = self
                .ledger
                .regions
                .iter()
                .filter(|book| book.covered_by > 0 && book.optimised_on == book.covered_by)
                .count();
            if all > self.optimised_noted {
                let more = things((all - self.optimised_noted) as u64, "more region");
                let all = count(all as u64);
                self.note(
                    TimelineKind::Pass,
                    format!("pass {passes} over: {more} optimised on every core, {all} in all"),
                );
            }
            self.optimised_noted = all;
        }
    }

    // ---- the trace's books ----

    fn admit(&mut self, traced: bool, kind: GuestKind) {
        if traced {
            self.trace.admitted += 1;
            match kind {
                GuestKind::Snp => self.trace.snp += 1,
                GuestKind::Ordinary => self.trace.ordinary += 1,
            }
        }
    }

    fn held_bytes(&mut self, traced: bool, bytes: u64, more: bool) {
        if !traced {
            return;
        }
        self.traced_bytes =
            if more { self.traced_bytes + bytes } else { self.traced_bytes.saturating_sub(bytes) };
        self.trace.peak_bytes = self.trace.peak_bytes.max(self.traced_bytes);
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
    name: PolicyName,
    facts: Facts,
    config: Config,
    cores: u32,
    regions: u32,
) -> (Box<dyn Policy>, Option<String>) {
    let proof = match facts.check() {
        Ok(proof) => proof,
        Err(refusal) => return (Box::new(Off::default()), Some(refusal.to_string())),
    };
    let policy: Box<dyn Policy> = match name {
        PolicyName::Off => Box::new(Off::default()),
        PolicyName::V10 => Box::new(V10::new(proof, v10::DELAY_NS)),
        PolicyName::Tracked => {
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

/// When the last thing that is known beforehand happens.
fn last_of(setup: &Setup) -> Nanos {
    let scenario = &setup.scenario;
    let guests = scenario.guests.iter().map(|guest| guest.until.unwrap_or(guest.at));
    let events = scenario.events.iter().map(|event| event.at);
    let traced = scenario.trace.iter().flat_map(|trace| &trace.guests);
    let traced = traced.map(|guest| guest.end.unwrap_or(guest.start).saturating_add(TRACE_START));
    guests.chain(events).chain(traced).max().unwrap_or(0).max(SNP_INIT_AT)
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
