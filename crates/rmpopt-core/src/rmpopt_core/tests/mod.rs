//! A host to drive policies on, in the simplest way: hardware that obeys spec/rmpopt.md 1 to 3, and
//! an executor that does one thing at a time, when a test says so.
//!
//! [`Machine::pump`] holds every action of a policy against the seam's promises.

mod property;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use crate::rmpopt_core::upstream::Version;
use crate::rmpopt_core::{
    words_for, words_needed, Action, Activity, Batch, BatchReport, Buffers, Config, CoreCell,
    CoreId, Event, Facts, Host, Policy, Reach, RegionCell, Request, Run, Step, Ticket, Time,
    Tracked, Upstream, Verdict,
};
use crate::snp_defs::{Region, RmpoptBase, RmpoptFunction};

/// More actions than one event may cause.
const TOO_MANY: usize = 100_000;

pub(crate) fn region(number: u32) -> Region {
    Region::new(number).unwrap()
}

/// Where cores and RAM are. One node per socket.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Node of each core.
    pub(crate) cores: Vec<u16>,
    /// Node of each region that holds RAM.
    pub(crate) ram: BTreeMap<u32, u16>,
    pub(crate) offline: BTreeSet<u16>,
}

impl Layout {
    /// One node.
    pub(crate) fn new(cores: u16, regions: u32) -> Self {
        Self {
            cores: vec![0; cores.into()],
            ram: (0..regions).map(|number| (number, 0)).collect(),
            offline: BTreeSet::new(),
        }
    }
}

impl Host for Layout {
    fn cores(&self) -> u16 {
        self.cores.len() as u16
    }
    fn participates(&self, core: CoreId) -> bool {
        !self.offline.contains(&core.0)
    }
    fn node(&self, core: CoreId) -> u16 {
        self.cores[core.index()]
    }
    fn socket(&self, core: CoreId) -> u16 {
        self.node(core)
    }
    fn spanned_regions(&self) -> u32 {
        self.ram.last_key_value().map_or(0, |(&number, _)| number + 1)
    }
    fn ram_mib(&self, region: Region) -> u32 {
        if self.ram.contains_key(&region.get()) {
            1024
        } else {
            0
        }
    }
    fn region_node(&self, region: Region) -> u16 {
        self.ram.get(&region.get()).copied().unwrap_or(0)
    }
    fn node_socket(&self, node: u16) -> u16 {
        node
    }
}

/// One core's registers and RMPOPT table.
#[derive(Clone, Default)]
pub(crate) struct Core {
    pub(crate) base: RmpoptBase,
    pub(crate) snp_en: bool,
    /// Regions whose bits are set.
    pub(crate) table: BTreeSet<u32>,
    /// Writes of the base are ignored.
    pub(crate) stuck: bool,
    /// RMPOPT finds this region dirty, whatever the RMP says.
    pub(crate) contradicts: Option<u32>,
}

impl Core {
    fn can_rmpopt(&self) -> bool {
        self.snp_en && self.base.is_enabled()
    }
}

#[derive(Default)]
pub(crate) struct Hardware {
    pub(crate) cores: Vec<Core>,
    /// Pages assigned by region.
    pub(crate) assigned: BTreeMap<u32, u32>,
}

impl Hardware {
    pub(crate) fn is_free(&self, region: u32) -> bool {
        !self.assigned.contains_key(&region)
    }

    pub(crate) fn has(&self, core: u16, region: u32) -> bool {
        self.cores[usize::from(core)].table.contains(&region)
    }

    /// The carry flag, `None` for #UD.
    fn rmpopt(&mut self, core: CoreId, region: Region, function: RmpoptFunction) -> Option<bool> {
        let free = self.is_free(region.get());
        let core = self.cores.get_mut(core.index()).unwrap();
        if !core.can_rmpopt() {
            return None;
        }
        if !core.base.window().covers(region) {
            return Some(false);
        }
        let number = region.get();
        if function == RmpoptFunction::Report {
            return Some(core.table.contains(&number));
        }
        let clean = free && core.contradicts != Some(number);
        if clean {
            core.table.insert(number);
        } else {
            core.table.remove(&number);
        }
        Some(clean)
    }
}

/// A verify that is under way.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) core: CoreId,
    pub(crate) region: Region,
    pub(crate) ticket: Ticket,
    /// It has run; the answer is on its way.
    pub(crate) verdict: Option<Verdict>,
}

pub(crate) type Plane = Tracked<Buffers<Vec<RegionCell>, Vec<CoreCell>, Vec<u64>>>;

#[allow(clippy::struct_excessive_bools)] // Each says one independent thing.
pub(crate) struct Machine<P> {
    pub(crate) policy: P,
    pub(crate) layout: Layout,
    pub(crate) hardware: Hardware,
    pub(crate) now: Time,
    activity: Activity<Vec<AtomicU64>>,
    /// Regions with marks that have not been drained.
    marked: BTreeSet<u32>,
    drain_at: Option<Time>,
    timer: Option<Time>,
    /// `None`: it was written before a stop, and is only read back.
    pub(crate) bases: Vec<(CoreId, Option<RmpoptBase>)>,
    pub(crate) verifies: Vec<Asked>,
    pub(crate) broadcast: Option<(CoreId, Region, Ticket)>,
    pub(crate) offers: BTreeMap<u16, (Run, Time)>,
    /// Of holds that have ended, by core.
    reports: BTreeMap<u16, BatchReport>,
    quiescing: bool,
    /// The policy has stopped, or was never started.
    pub(crate) stopped: bool,
    /// Firmware waits for the stop to take SNP down.
    going_down: bool,
    /// Cores whose base was written in this SNP_INIT; `None`: that is not checked.
    written: Option<BTreeSet<u16>>,
    /// The driver has stopped and begun again in this SNP_INIT.
    gone_on: bool,
    /// Cores that were reset in this SNP_INIT, or went while their base was written: they may be left
    /// out until the next.
    upset: BTreeSet<u16>,
    serials: BTreeSet<u32>,
    /// What an RMPOPT takes.
    pub(crate) rmpopt_ns: u64,
    log: Vec<String>,
}

/// The policy of our own on a host like this; SNP is down.
pub(crate) fn tracked(layout: Layout, config: Config) -> Machine<Plane> {
    let (cores, regions) = (layout.cores.len(), layout.spanned_regions());
    let storage = Buffers {
        regions: vec![RegionCell::default(); regions as usize],
        cores: vec![CoreCell::default(); cores],
        words: vec![0; words_needed(regions)],
    };
    let proof = Facts::venice(1).check().unwrap();
    let mut machine = Machine::new(Tracked::new(proof, config, storage), layout);
    if config.trust_base_clear {
        machine.written = None;
    }
    machine
}

/// Upstream's policy on a host like this; SNP is down.
pub(crate) fn upstream(layout: Layout, version: &'static Version) -> Machine<Upstream> {
    Machine::new(Upstream::new(Facts::venice(1).check().unwrap(), version), layout)
}

impl<P: Policy> Machine<P> {
    fn new(policy: P, layout: Layout) -> Self {
        let words = words_for(layout.spanned_regions());
        let marks = || (0..words).map(|_| AtomicU64::new(0)).collect();
        let cores = vec![Core::default(); layout.cores.len()];
        Self {
            policy,
            layout,
            hardware: Hardware { cores, assigned: BTreeMap::new() },
            now: Time::ZERO,
            activity: Activity::new(marks(), marks()),
            marked: BTreeSet::new(),
            drain_at: None,
            timer: None,
            bases: Vec::new(),
            verifies: Vec::new(),
            broadcast: None,
            offers: BTreeMap::new(),
            reports: BTreeMap::new(),
            quiescing: false,
            stopped: true,
            going_down: false,
            written: Some(BTreeSet::new()),
            gone_on: false,
            upset: BTreeSet::new(),
            serials: BTreeSet::new(),
            rmpopt_ns: 0,
            log: Vec::new(),
        }
    }

    // ---- the seam ----

    pub(crate) fn tell(&mut self, event: Event<'_>) {
        self.policy.handle(self.now, event);
        self.pump();
    }

    pub(crate) fn pump(&mut self) {
        for _ in 0..TOO_MANY {
            let Some(action) = self.policy.poll(self.now) else { return };
            self.carry_out(&action);
        }
        panic!("poll() does not come to an end");
    }

    fn carry_out(&mut self, action: &Action) {
        let now = self.now;
        let allowed =
            matches!(action, Action::WriteBase { base: RmpoptBase::OFF, .. } | Action::Stopped);
        assert!(!self.stopped || allowed, "{action:?} after the stop");
        match *action {
            Action::WriteBase { core, base } => {
                let verb = if base == RmpoptBase::OFF { "clear" } else { "base" };
                self.log.push(format!("{verb} {core}"));
                let written = self.written.as_mut().filter(|_| base.is_enabled());
                let again = written.is_some_and(|written| !written.insert(core.0));
                assert!(!again || self.gone_on, "{core:?}: base written twice");
                self.bases.push((core, (!again).then_some(base)));
            }
            Action::Verify { core, region, ticket } => {
                self.log.push(format!("verify {core}:{region}"));
                self.assert_can_rmpopt(core);
                assert!(self.verifies.iter().all(|asked| asked.core != core), "{core:?} is busy");
                self.assert_fresh(ticket);
                self.verifies.push(Asked { core, region, ticket, verdict: None });
            }
            Action::Offer { ref batch, by, .. } => self.offered(batch, by),
            Action::Broadcast { leader, region, reach, ticket } => {
                assert_eq!(reach, Reach::OtherCores, "the machine knows no other");
                self.log.push(format!("broadcast -{leader}:{region}"));
                self.assert_fresh(ticket);
                assert!(self.broadcast.replace((leader, region, ticket)).is_none());
            }
            Action::ArmTimer(at) => {
                assert!(at > now && at < Time::NEVER, "timer at {at:?}, now {now:?}");
                self.log.push(format!("timer {at:?}"));
                self.timer = Some(at);
            }
            Action::Quiesce => {
                self.log.push("quiesce".into());
                assert!(!self.quiescing);
                self.timer = None;
                self.offers.clear();
                self.quiescing = true;
                self.check_quiesced();
            }
            Action::Stopped => {
                self.log.push("stopped".into());
                assert!(self.bases.is_empty() && self.verifies.is_empty());
                assert!(self.reports.is_empty());
                assert!(self.offers.is_empty() && self.timer.is_none() && !self.quiescing);
                self.stopped = true;
                if self.going_down {
                    self.snp_is_down();
                }
            }
        }
    }

    fn offered(&mut self, batch: &Batch, by: Time) {
        let (core, function) = (batch.core, batch.function);
        let verb = if function == RmpoptFunction::Report { "audit" } else { "offer" };
        let regions: Vec<_> = batch.regions.regions(batch.window).map(Region::get).collect();
        self.log.push(match regions[..] {
            [] => panic!("{core:?}: an empty offer"),
            [.., last] if regions.len() > 8 => {
                format!("{verb} {core}:{} to {last} by {by:?}", regions.len())
            }
            _ => format!("{verb} {core}:{regions:?} by {by:?}"),
        });
        self.assert_can_rmpopt(core);
        let base = self.hardware.cores[core.index()].base;
        assert_eq!(batch.window, base.window(), "{core:?}");
        self.assert_fresh(batch.ticket);
        assert_eq!(by == Time::NEVER, function == RmpoptFunction::Report);
        let budget = self.policy.budget().unwrap();
        // Of what it replaces nothing more is reported.
        self.reports.remove(&core.0);
        self.offers.insert(core.0, (Run::new(*batch, budget), by));
    }

    fn assert_can_rmpopt(&self, core: CoreId) {
        assert!(self.is_online(core.0), "{core:?} is offline");
        assert!(self.hardware.cores[core.index()].can_rmpopt(), "{core:?} is not enabled");
    }

    fn assert_fresh(&mut self, ticket: Ticket) {
        assert!(self.serials.insert(ticket.serial), "{ticket:?} was used before");
    }

    fn check_quiesced(&mut self) {
        let idle = self.bases.is_empty() && self.verifies.is_empty() && self.reports.is_empty();
        if self.quiescing && idle && self.broadcast.is_none() {
            self.quiescing = false;
            // From within `carry_out`, the pump goes on.
            self.policy.handle(self.now, Event::Quiesced);
        }
    }

    /// What the policy did since this was last asked, timers left out.
    pub(crate) fn did(&mut self) -> Vec<String> {
        let mut log = std::mem::take(&mut self.log);
        log.retain(|what| !what.starts_with("timer"));
        log
    }

    /// The time that the last timer was armed for, in milliseconds.
    pub(crate) fn timer_ms(&self) -> Option<u64> {
        self.timer.map(|at| at.as_ns() / 1_000_000)
    }

    // ---- answers ----

    /// The write of the base that was asked for as number `index` is carried out and answered.
    pub(crate) fn base(&mut self, index: usize) {
        let (core, base) = self.bases.remove(index);
        let online = self.is_online(core.0);
        let hardware = &mut self.hardware.cores[core.index()];
        let mut read = None;
        if online {
            if let Some(base) = base.filter(|_| !hardware.stuck) {
                hardware.base = base;
            }
            read = Some(hardware.base);
        }
        let snp_en = online && hardware.snp_en;
        self.policy.handle(self.now, Event::BaseWritten { core, base: read, snp_en });
        self.check_quiesced();
        self.pump();
    }

    /// Verify number `index` runs; its answer is on its way.
    pub(crate) fn run_verify(&mut self, index: usize) {
        let asked = &mut self.verifies[index];
        if asked.verdict.is_none() {
            let carry = self.hardware.rmpopt(asked.core, asked.region, RmpoptFunction::Verify);
            asked.verdict = Some(match carry {
                Some(true) => Verdict::Clean,
                Some(false) => Verdict::Dirty,
                None => Verdict::Fault,
            });
        }
    }

    /// The answer to verify number `index` arrives.
    pub(crate) fn answer_verify(&mut self, index: usize) {
        self.run_verify(index);
        let Asked { core, region, ticket, verdict } = self.verifies.remove(index);
        let (verdict, took_ns) = (verdict.unwrap(), self.rmpopt_ns);
        self.policy.handle(self.now, Event::Verified { ticket, core, region, verdict, took_ns });
        self.check_quiesced();
        self.pump();
    }

    fn end_broadcast(&mut self) {
        let Some((leader, region, ticket)) = self.broadcast.take() else { return };
        for core in (0..self.layout.cores()).map(CoreId).filter(|&core| core != leader) {
            if self.is_online(core.0) {
                self.hardware.rmpopt(core, region, RmpoptFunction::Verify);
            }
        }
        self.policy.handle(self.now, Event::BroadcastDone { ticket });
        self.check_quiesced();
        self.pump();
    }

    /// A hold of at most `most` RMPOPTs on a core that has an offer; its report is on its way.
    pub(crate) fn run_hold(&mut self, core: u16, most: usize) {
        if self.reports.contains_key(&core) {
            return;
        }
        let Some((run, _)) = self.offers.get_mut(&core) else { return };
        let (ticket, function) = (run.batch().ticket, run.batch().function);
        let mut at = self.now;
        run.begin_hold(at);
        for _ in 0..most {
            let Some(region) = run.region() else { break };
            let Some(carry) = self.hardware.rmpopt(CoreId(core), region, function) else {
                self.offers.remove(&core);
                self.tell(Event::BatchFault { core: CoreId(core), ticket });
                return;
            };
            at = at.after(self.rmpopt_ns);
            if run.record(at, self.rmpopt_ns, carry) != Step::More {
                break;
            }
        }
        self.reports.insert(core, *run.report());
    }

    /// The report of the hold that ended on a core arrives.
    pub(crate) fn report(&mut self, core: u16) {
        let Some(report) = self.reports.remove(&core) else { return };
        if report.finished {
            self.offers.remove(&core);
        }
        self.policy.handle(self.now, Event::Batch(&report));
        self.check_quiesced();
        self.pump();
    }

    pub(crate) fn hold(&mut self, core: u16, most: usize) {
        self.run_hold(core, most);
        self.report(core);
    }

    /// Answers whatever is under way and lets cores work whose time has come, until all is quiet.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TOO_MANY {
            let due = self.offers.iter().find(|(_, &(_, by))| by <= self.now);
            if !self.bases.is_empty() {
                self.base(0);
            } else if !self.verifies.is_empty() {
                self.answer_verify(0);
            } else if let Some((&core, _)) = self.reports.first_key_value() {
                self.report(core);
            } else if self.broadcast.is_some() {
                self.end_broadcast();
            } else if let Some((&core, _)) = due {
                self.hold(core, usize::MAX);
            } else {
                return;
            }
        }
        panic!("it does not settle");
    }

    /// Time passes; all that becomes due is done.
    pub(crate) fn until(&mut self, until: Time) {
        self.settle();
        for _ in 0..TOO_MANY {
            let by = self.offers.values().map(|&(_, by)| by).min();
            let next = [self.timer, self.drain_at, by].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            self.fire();
            self.settle();
        }
        panic!("time does not pass");
    }

    pub(crate) fn until_ms(&mut self, ms: u64) {
        self.until(Time::from_ns(ms * 1_000_000));
    }

    /// Time passes; what is under way stays so.
    pub(crate) fn skip_until_ms(&mut self, ms: u64) {
        self.now = Time::from_ns(ms * 1_000_000);
        self.fire();
    }

    /// The drain and the timer, if their time has come.
    pub(crate) fn fire(&mut self) {
        if self.drain_at.is_some_and(|at| at <= self.now) {
            self.drain();
        }
        if self.timer.is_some_and(|at| at <= self.now) {
            self.timer = None;
            self.tell(Event::Timer);
        }
    }

    // ---- pages ----

    fn mark(&mut self, number: u32, shared: bool) {
        let mark = if shared { Activity::became_shared } else { Activity::lost };
        let first = mark(&self.activity, region(number));
        self.marked.insert(number);
        if let Some(tick_ns) = self.policy.tick_ns().filter(|_| first) {
            self.drain_at.get_or_insert(self.now.after(tick_ns));
        }
    }

    pub(crate) fn drain(&mut self) {
        self.drain_at = None;
        self.marked.clear();
        let (policy, now) = (&mut self.policy, self.now);
        self.activity.drain(|drained| policy.handle(now, Event::Drained(drained)));
        self.pump();
    }

    /// A page is assigned, and nobody hears of it.
    pub(crate) fn assign_unmarked(&mut self, number: u32) {
        *self.hardware.assigned.entry(number).or_default() += 1;
        for core in &mut self.hardware.cores {
            core.table.remove(&number);
        }
    }

    pub(crate) fn assign(&mut self, number: u32) {
        self.assign_unmarked(number);
        self.mark(number, false);
    }

    /// An assigned page becomes shared, if there is one.
    pub(crate) fn free(&mut self, number: u32) {
        let Some(pages) = self.hardware.assigned.get_mut(&number) else { return };
        *pages -= 1;
        if *pages == 0 {
            self.hardware.assigned.remove(&number);
        }
        self.mark(number, true);
    }

    /// A page becomes private and shared again; the marks are drained at once.
    pub(crate) fn flip(&mut self, number: u32) {
        self.assign(number);
        self.free(number);
        self.drain();
    }

    // ---- SNP and cores ----

    /// SNP_INIT; nothing is answered yet.
    pub(crate) fn snp_init(&mut self) {
        self.firmware_initialises();
        self.policy.handle(self.now, Event::SnpInitialised(&self.layout));
        self.pump();
    }

    /// The driver had stopped with SNP up, and begins again: bases and tables are as they were.
    pub(crate) fn goes_on(&mut self) {
        assert!(self.stopped && self.snp_is_up());
        (self.stopped, self.gone_on) = (false, true);
        self.marked.clear();
        self.activity.drain(|_| {});
        self.policy.handle(self.now, Event::SnpInitialised(&self.layout));
        self.pump();
    }

    /// What firmware does in SNP_INIT; the policy is not told.
    pub(crate) fn firmware_initialises(&mut self) {
        for core in &mut self.hardware.cores {
            core.table.clear();
            core.snp_en = true;
        }
        if let Some(written) = &mut self.written {
            written.clear();
        }
        self.stopped = false;
        self.gone_on = false;
        self.upset.clear();
        self.going_down = false;
    }

    /// All guests end, then SNP goes down once the driver has stopped.
    pub(crate) fn snp_shutdown(&mut self) {
        while let Some((&number, _)) = self.hardware.assigned.first_key_value() {
            self.free(number);
        }
        self.going_down = true;
        self.tell(Event::SnpGoingDown);
    }

    pub(crate) fn snp_is_up(&self) -> bool {
        self.hardware.cores.iter().any(|core| core.snp_en)
    }

    /// The driver has stopped. Law 6: no base is left on a core that is online.
    fn snp_is_down(&mut self) {
        for (number, core) in (0..).zip(&mut self.hardware.cores) {
            let online = !self.layout.offline.contains(&number);
            assert!(!online || core.stuck || core.base == RmpoptBase::OFF, "core {number}");
            core.snp_en = false;
        }
        self.going_down = false;
    }

    pub(crate) fn is_online(&self, core: u16) -> bool {
        !self.layout.offline.contains(&core)
    }

    /// What runs there is answered, then the core goes.
    pub(crate) fn offline(&mut self, core: u16) {
        while let Some(index) = self.verifies.iter().position(|asked| asked.core.0 == core) {
            self.answer_verify(index);
        }
        self.report(core);
        self.offers.remove(&core);
        if self.bases.iter().any(|(written, _)| written.0 == core) {
            self.upset.insert(core);
        }
        self.layout.offline.insert(core);
        self.tell(Event::CoreOffline(CoreId(core)));
    }

    /// The core returns with its base as it was.
    pub(crate) fn online(&mut self, core: u16) {
        self.layout.offline.remove(&core);
        let Core { base, snp_en, .. } = self.hardware.cores[usize::from(core)];
        self.tell(Event::CoreOnline { core: CoreId(core), base, snp_en });
    }

    pub(crate) fn request(&mut self, request: Request) {
        self.tell(Event::Request(request));
    }
}

impl Machine<Plane> {
    /// Believed bits are set, but for regions whose marks are on their way.
    pub(crate) fn assert_belief(&self) {
        for core in 0..self.layout.cores() {
            for &number in self.layout.ram.keys() {
                let believed = self.policy.believes(CoreId(core), region(number));
                let known = !believed || self.hardware.has(core, number);
                assert!(known || self.marked.contains(&number), "core {core}, region {number}");
            }
        }
    }

    /// RMPOPT runs on every core that is online, but for those that had no chance.
    pub(crate) fn assert_enabled(&self) {
        for core in (0..self.layout.cores()).filter(|&core| self.is_online(core)) {
            let enabled = self.policy.is_enabled(CoreId(core));
            assert!(enabled || self.upset.contains(&core), "core {core} is left out");
        }
    }

    /// Every free region is optimised on every enabled core that covers it.
    pub(crate) fn assert_optimised(&self) {
        for core in (0..self.layout.cores()).filter(|&core| self.policy.is_enabled(CoreId(core))) {
            let window = self.hardware.cores[usize::from(core)].base.window();
            for &number in self.layout.ram.keys() {
                if window.covers(region(number)) {
                    let free = self.hardware.is_free(number);
                    assert_eq!(self.hardware.has(core, number), free, "core {core}, {number}");
                    let believed = self.policy.believes(CoreId(core), region(number));
                    assert_eq!(believed, free, "core {core}, {number}");
                }
            }
        }
    }
}
