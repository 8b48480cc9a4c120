//! A host that goes on: time is brought forward step by step, and meanwhile it can be looked at and
//! acted upon.
//!
//! A run has an end that is known beforehand; a live host has none. Its scenario is played like any
//! other; what comes after is up to the caller. Nothing here reads a clock either.

use std::collections::VecDeque;

use rmpopt_core::{Config, CoreId, Request as PolicyRequest, table};
use snp_defs::{Counter, PAGE_BYTES, Region, RmpoptBase, Window};
use snp_model::Exception;

use super::Engine;
use super::driver::Life;
use super::guests::{Guest, State};
use super::laws;
use crate::boot::BootLayout;
use crate::error::LabError;
use crate::memory::PhysicalMemory;
use crate::policies::Kind;
use crate::report::{TimelineEntry, TimelineKind};
use crate::runs::by_region;
use crate::scenario::{GIB, GuestKind, GuestSpec, Nanos, SECOND, Setup, limits};
use crate::topology::Topology;

/// Entries of the timeline that are kept, the latest.
const NOTES: usize = 1000;
/// A host without RMPOPT has settled this long after power-on: SNP is up by then if it ever is.
const SETTLED_NS: Nanos = 2 * SECOND;

/// A host that goes on.
#[derive(Debug)]
pub struct Live<'a> {
    engine: Engine<'a>,
    notes: VecDeque<TimelineEntry>,
    /// MSR writes by others than the driver that changed `RMPOPT_BASE`.
    foreign_writes: u64,
}

/// Where a guest of a live host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveLife {
    /// Its time has not come.
    Future,
    /// It has memory; its launch is under way.
    Launching,
    /// It runs.
    Running,
    /// It was shut down and gives its memory back.
    Ending,
}

impl LiveLife {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Future => "future",
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Ending => "ending",
        }
    }
}

/// A guest of a live host. Guests that are gone are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveGuest {
    /// The host's number for it: never used again.
    pub number: usize,
    /// Name, kind and size as asked for.
    pub spec: GuestSpec,
    /// Where it is in its life.
    pub life: LiveLife,
    /// The ASID of an SNP guest, 0 if it has none (yet).
    pub asid: u32,
    /// Its private memory in bytes; 0 for an ordinary guest.
    pub private_bytes: u64,
}

/// How a live host is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveStatus {
    /// Simulated time since power-on.
    pub now: Nanos,
    /// SNP is up.
    pub snp_up: bool,
    /// The policy has looked at every region since SNP came up.
    pub first_pass_over: bool,
    /// Share of pairs of core and region that are optimised, 0 to 1; `None` while SNP is down.
    pub optimised: Option<f64>,
    /// The same of pairs whose region holds no assigned page.
    pub optimisable: Option<f64>,
    /// Breaches of laws that the policy claims.
    pub law_breaches: u64,
    /// Writes of `RMPOPT_BASE` by others than the driver that changed it.
    pub foreign_writes: u64,
}

impl<'a> Live<'a> {
    /// The host that `setup` describes, at power-on. The end that the scenario gives its run is not
    /// heeded.
    pub fn new(setup: &'a Setup) -> Result<Self, LabError> {
        let mut engine = Engine::new(setup, &[])?;
        engine.until = limits::TIME_MAX;
        Ok(Self { engine, notes: VecDeque::new(), foreign_writes: 0 })
    }

    /// Brings time forward to `to`, or as far as `events` events go. Returns whether it is `to` now,
    /// with nothing left that was to happen by then.
    pub fn advance(&mut self, to: Nanos, events: u32) -> Result<bool, LabError> {
        let to = to.min(limits::TIME_MAX);
        let mut left = events;
        while left > 0 {
            let Some((at, event)) = self.engine.queue.pop(to) else { break };
            self.engine.step(at, &event)?;
            left -= 1;
        }
        let done = self.engine.queue.next_at().is_none_or(|at| at > to);
        if done && to > self.engine.now {
            self.engine.ledger.advance(to);
            self.engine.meter.at(to);
            self.engine.now = to;
        }
        self.keep_notes();
        Ok(done)
    }

    /// The timeline is emptied as it fills, so that it never comes to its limit.
    fn keep_notes(&mut self) {
        self.notes.extend(self.engine.timeline.drain(..));
        let surplus = self.notes.len().saturating_sub(NOTES);
        self.notes.drain(..surplus);
    }

    /// Simulated time since power-on.
    pub fn now(&self) -> Nanos {
        self.engine.now
    }

    /// When the next thing happens, if anything ever does by itself.
    pub fn next_at(&self) -> Option<Nanos> {
        self.engine.queue.next_at()
    }

    /// Boot is over: the first pass too, to the last follower, if RMPOPT is used here.
    pub fn is_settled(&self) -> bool {
        if self.engine.uses_rmpopt() {
            self.engine.meter.is_steady() && !self.is_busy()
        } else {
            self.engine.now >= SETTLED_NS
        }
    }

    /// CPUs, cores, sockets, nodes.
    pub fn topology(&self) -> &Topology {
        &self.engine.topology
    }

    /// RAM.
    pub fn memory(&self) -> &PhysicalMemory {
        &self.engine.memory
    }

    /// What firmware and driver took at boot.
    pub fn boot(&self) -> &BootLayout {
        &self.engine.boot
    }

    /// Why RMPOPT is not used on this host.
    pub fn refused(&self) -> Option<&str> {
        self.engine.refused.as_deref()
    }

    /// The latest of what happened, oldest first.
    pub fn notes(&self) -> impl ExactSizeIterator<Item = &TimelineEntry> {
        self.notes.iter()
    }

    /// How it is.
    pub fn status(&self) -> LiveStatus {
        let engine = &self.engine;
        let (optimised, optimisable) = engine.ledger.current();
        LiveStatus {
            now: engine.now,
            snp_up: engine.ledger.is_up(),
            first_pass_over: engine.meter.is_steady(),
            optimised,
            optimisable,
            law_breaches: engine
                .laws
                .reports()
                .iter()
                .filter(|l| l.claimed)
                .map(|l| l.breaches)
                .sum(),
            foreign_writes: self.foreign_writes,
        }
    }

    // ---- CPUs ----

    /// Whether a CPU is online.
    pub fn is_online(&self, cpu: u32) -> bool {
        self.engine.cpus.is_online(cpu)
    }

    /// Takes a CPU away or brings it back. `Err` says why that is not done. A CPU on which the driver
    /// is at work goes once it has finished there.
    pub fn set_online(&mut self, cpu: u32, online: bool) -> Result<(), String> {
        if self.is_online(cpu) == online && !self.engine.leaving.contains(&cpu) {
            return Ok(());
        }
        let before = self.engine.timeline.len();
        if online {
            self.engine.cpu_online(cpu);
        } else {
            self.engine.cpu_offline(cpu);
        }
        let is_done = self.is_online(cpu) == online || self.engine.leaving.contains(&cpu);
        let why = self.engine.timeline.get(before).map(|entry| entry.text.clone());
        self.keep_notes();
        if is_done { Ok(()) } else { Err(why.unwrap_or_else(|| "the host refuses".to_owned())) }
    }

    // ---- registers ----

    /// SYSCFG's SNP_EN on a core.
    pub fn snp_en(&self, core: u32) -> bool {
        self.engine.rmp.unit().snp_en(snp_model::CoreId(core))
    }

    /// `RMPOPT_BASE` of a core.
    pub fn rmpopt_base(&self, core: u32) -> u64 {
        self.engine.rmp.unit().rdmsr_base(snp_model::CoreId(core))
    }

    /// WRMSR of `RMPOPT_BASE` on a core by somebody who is not the driver, which does not learn of it.
    pub fn write_rmpopt_base(&mut self, core: u32, raw: u64) -> Result<(), Exception> {
        let at = snp_model::CoreId(core);
        let engine = &mut self.engine;
        let old = engine.rmp.unit().rdmsr_base(at);
        let window = RmpoptBase::from_raw(old).unwrap_or_default().window();
        let end = window.end().min(engine.memory.spanned_regions());
        let held: Vec<Region> = (window.base.get()..end)
            .filter_map(Region::new)
            .filter(|&region| engine.rmp.unit().is_optimised(at, region))
            .collect();
        engine.rmp.unit().wrmsr_base(at, raw)?;
        engine.driver.cores_epoch += 1;
        let policy_core = CoreId(core as u16);
        for region in held {
            if !engine.rmp.unit().is_optimised(at, region) && engine.covers(policy_core, region) {
                engine.ledger.bit(engine.now, policy_core.index(), region.index(), false);
            }
        }
        if engine.rmp.unit().rdmsr_base(at) != old {
            self.foreign_writes += 1;
        }
        Ok(())
    }

    // ---- the driver ----

    /// The numbers by which this project's driver goes.
    pub fn config(&self) -> Config {
        self.engine.config
    }

    /// Whether the driver is this project's own, which keeps a belief.
    pub fn is_ours(&self) -> bool {
        matches!(self.engine.setup.policy.kind(), Kind::Tracked { .. })
    }

    /// Upstream's text of the whole memory: what the driver believes if it keeps a belief, else what
    /// the hardware says. Interrupts nobody.
    pub fn table(&self) -> String {
        let engine = &self.engine;
        let ours = self.is_ours();
        let mut cpus: Vec<(u32, CoreId)> = (0..engine.topology.cores())
            .flat_map(|core| engine.topology.cpus(core).iter().map(move |&cpu| (cpu, core)))
            .filter(|&(cpu, _)| engine.cpus.is_online(cpu))
            .map(|(cpu, core)| (cpu, CoreId(core as u16)))
            .collect();
        cpus.sort_unstable();
        let unit = engine.rmp.unit();
        let windows = self.windows();
        let mut having = vec![false; engine.topology.cores() as usize];
        let mut text = String::new();
        for region in (0..engine.memory.spanned_regions()).filter_map(Region::new) {
            // Most of a large host lies in no core's window.
            if !windows.iter().any(|window| window.covers(region)) {
                let _ = table::write_row(&mut text, region, std::iter::empty());
                continue;
            }
            for (core, has) in (0..).zip(&mut having) {
                *has = if ours {
                    engine.policy.belief(CoreId(core), region)
                } else {
                    unit.is_optimised(snp_model::CoreId(core.into()), region)
                };
            }
            let has = |core: CoreId| having.get(core.index()).copied().unwrap_or(false);
            let those = cpus.iter().filter(|&&(_, core)| has(core)).map(|&(cpu, _)| cpu);
            // Writing to a string cannot fail.
            let _ = table::write_row(&mut text, region, those);
        }
        text
    }

    /// The windows that there are: those of the policy, and those in the registers.
    fn windows(&self) -> Vec<Window> {
        let cores = 0..self.engine.topology.cores();
        let raw = cores.filter_map(|core| RmpoptBase::from_raw(self.rmpopt_base(core)).ok());
        let set = raw.filter(|base| base.is_enabled()).map(RmpoptBase::window);
        let mut all: Vec<Window> =
            set.chain(self.engine.windows.iter().copied().flatten()).collect();
        all.sort_unstable_by_key(|window| window.base.get());
        all.dedup();
        all
    }

    /// Of each region: MiB of RAM, whether it was found clean, cores believed to have it.
    pub fn beliefs(&self) -> Vec<(u32, bool, u32)> {
        let engine = &self.engine;
        let cores = engine.topology.cores() as u16;
        let windows = self.windows();
        (0..engine.memory.spanned_regions())
            .filter_map(Region::new)
            .map(|region| {
                let reached = windows.iter().any(|window| window.covers(region));
                let cores = if reached { 0..cores } else { 0..0 };
                let having = cores.filter(|&core| engine.policy.belief(CoreId(core), region));
                (
                    rmpopt_core::Host::ram_mib(&engine.view, region),
                    engine.policy.clean(region),
                    having.count() as u32,
                )
            })
            .collect()
    }

    /// What the driver does, in the word of our module's `regions`: `runs`, `paused`, `stops`,
    /// `stopped`.
    pub fn driver_life(&self) -> &'static str {
        match self.engine.driver.life() {
            Life::Runs if self.is_paused() => "paused",
            Life::Runs => "runs",
            Life::Quiescing => "stops",
            Life::Stopped => "stopped",
        }
    }

    /// How long ago a core's table last changed.
    pub fn changed_ago(&self) -> Nanos {
        self.engine.now.saturating_sub(self.engine.ledger.changed)
    }

    /// Whether something of the driver is under way or waits for its turn.
    pub fn is_busy(&self) -> bool {
        self.engine.driver.is_busy()
    }

    /// Whether passes are stopped.
    pub fn is_paused(&self) -> bool {
        self.engine.paused_at.is_some()
    }

    /// The operator asks for a pass over everything.
    pub fn request_pass(&mut self) {
        self.engine.operator(PolicyRequest::Optimise, "asks for a pass");
        self.keep_notes();
    }

    /// The operator stops passes, or lets them go on.
    pub fn set_paused(&mut self, on: bool) {
        if on == self.is_paused() {
            return;
        }
        if on {
            self.engine.pause();
        } else {
            self.engine.resume();
        }
        self.keep_notes();
    }

    /// The counters of docs/counting.md that are known while a host lives, in their order.
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        let counts = &self.engine.meter.counts;
        let mut all = vec![
            (Counter::RmpoptExecuted, counts.rmpopts()),
            (Counter::RmpoptVerify, counts.leader + counts.followers),
            (Counter::RmpoptReport, counts.report),
            (Counter::RmpoptLeader, counts.leader),
            (Counter::RmpoptFollowers, counts.followers),
            (Counter::Ipis, counts.ipis),
            (Counter::Wakeups, counts.wakeups),
            (Counter::InterruptionsTotal, counts.interruptions),
            (Counter::Passes, self.engine.policy.passes()),
            (Counter::RmpoptClean, counts.clean),
            (Counter::RmpoptDirty, counts.dirty),
            (Counter::RmpoptSlow, counts.late),
            // Today every interruption is one of these two.
            (Counter::InterruptionsIpi, counts.ipis),
            (Counter::InterruptionsWakeup, counts.wakeups),
            (Counter::CpuTaken, counts.stolen_ns),
            (Counter::Batches, counts.batches),
            (Counter::MarksShared, counts.marked_shared),
            (Counter::MarksLost, counts.marked_lost),
            (Counter::AuditsRun, counts.report),
            (Counter::BaseWrites, counts.base_writes),
            (Counter::SnpInits, counts.snp_inits),
        ];
        if let Some(of_policy) = self.engine.policy.counts() {
            all.push((Counter::ResultsStale, of_policy.stale));
            all.push((Counter::AuditsFailed, of_policy.audit_failures));
        }
        all.sort_by_key(|(counter, _)| counter.index());
        all
    }

    /// What our module's `stats` says after the counters (docs/kernel-module.md), in its order.
    ///
    /// `contradicted` is 0 under a policy that believes nothing. `hold.longest_ns` holds what it took to
    /// get to the CPU, too.
    pub fn further_counts(&self) -> [(&'static str, u64); 6] {
        let engine = &self.engine;
        let counts = &engine.meter.counts;
        let contradicted = engine.policy.counts().map_or(0, |counts| counts.contradicted);
        [
            ("contradicted", contradicted),
            ("hold.longest_ns", engine.meter.longest_hold()),
            ("holds.ridden", counts.holds_ridden),
            ("holds.woken", counts.holds_woken),
            ("faults", engine.laws.breaches(laws::NO_UD)),
            ("unclean", counts.unclean),
        ]
    }

    // ---- guests ----

    /// Guests that are not gone.
    pub fn guests(&self) -> Vec<LiveGuest> {
        let shown = |(number, guest): (usize, &Guest)| {
            let life = match guest.state {
                State::Future => LiveLife::Future,
                State::Launching => LiveLife::Launching,
                State::Running => LiveLife::Running,
                State::Ending => LiveLife::Ending,
                State::Gone => return None,
            };
            let private: u64 = guest.private.iter().map(|run| run.pages).sum();
            Some(LiveGuest {
                number,
                spec: guest.spec.clone(),
                life,
                asid: guest.asid,
                private_bytes: private * PAGE_BYTES,
            })
        };
        self.engine.guests.iter().enumerate().filter_map(shown).collect()
    }

    /// Bytes of each node's RAM that guests have, by the node's number.
    pub fn guest_bytes(&self) -> Vec<(u32, u64)> {
        let mut nodes: Vec<(u32, u64)> =
            self.engine.memory.nodes().into_iter().map(|node| (node, 0)).collect();
        let runs = self.engine.guests.iter().filter(|guest| guest.state != State::Gone);
        for (region, part) in runs.flat_map(|g| g.memory.iter().copied()).flat_map(by_region) {
            let node = self.engine.memory.region_node(region);
            if let Some(entry) = nodes.iter_mut().find(|(number, _)| Some(*number) == node) {
                entry.1 += part.pages * PAGE_BYTES;
            }
        }
        nodes
    }

    /// Launches a guest now; `at` and `until` of `spec` are not used. Returns its number, or why it
    /// cannot be had.
    pub fn start_guest(&mut self, spec: GuestSpec) -> Result<usize, String> {
        self.check_guest(&spec)?;
        let index = self.engine.guests.len();
        let spec = GuestSpec { at: self.engine.now, until: None, ..spec };
        self.engine.guests.push(Guest::new(spec, false));
        let launched = self.engine.launch(index);
        self.keep_notes();
        launched.map_err(|error| error.to_string())?;
        match self.engine.guests.get_mut(index).and_then(|guest| guest.refusal.take()) {
            Some(why) => Err(why),
            None => Ok(index),
        }
    }

    fn check_guest(&self, spec: &GuestSpec) -> Result<(), String> {
        let name = &spec.name;
        if self.engine.guests.len() >= limits::GUESTS_MAX {
            return Err(format!("this host has had {} guests, its limit", limits::GUESTS_MAX));
        }
        let taken = |guest: &Guest| guest.spec.name == *name && guest.state != State::Gone;
        if self.engine.guests.iter().any(taken) {
            return Err(format!("there is a guest {name} already"));
        }
        if spec.memory == 0 || !spec.memory.is_multiple_of(spec.placement.page_bytes()) {
            let page = spec.placement.page_bytes();
            return Err(format!("memory of {} bytes, expected a multiple of {page}", spec.memory));
        }
        if spec.memory > 12 * 1024 * GIB || spec.touched > spec.memory {
            return Err(format!("memory of {} bytes, expected at most 12 TiB", spec.memory));
        }
        if spec.vcpus == 0 || spec.vcpus > self.engine.topology.cpu_count() {
            let most = self.engine.topology.cpu_count();
            return Err(format!("{} vCPUs, expected 1 to {most}", spec.vcpus));
        }
        let nodes = self.engine.memory.nodes();
        match spec.node.filter(|node| !nodes.contains(node)) {
            Some(node) => Err(format!("there is no node {node} with memory")),
            None => Ok(()),
        }
    }

    /// Shuts a guest down; an SNP guest gives its memory back over some time.
    pub fn stop_guest(&mut self, name: &str) -> Result<(), String> {
        let there = |guest: &Guest| guest.spec.name == name && guest.is_there();
        let Some(index) = self.engine.guests.iter().position(there) else {
            return Err(format!("no guest {name} is running"));
        };
        self.engine.end(index);
        self.keep_notes();
        Ok(())
    }

    /// Says something in the timeline.
    pub fn note(&mut self, text: String) {
        self.engine.note(TimelineKind::Operator, text);
        self.keep_notes();
    }

    /// SNP guests that are there, or were and still hold pages.
    pub fn snp_guests(&self) -> usize {
        let snp = |guest: &&Guest| guest.spec.kind == GuestKind::Snp && guest.holds_pages();
        self.engine.guests.iter().filter(snp).count()
    }
}
