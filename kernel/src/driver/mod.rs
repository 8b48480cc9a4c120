// SPDX-License-Identifier: MIT OR GPL-2.0
//! The executor: carries out what the policy decides, on real CPUs and in real time.
//!
//! * The policy and all that is decided about lie under one mutex, [`State`].
//! * Work of a core (MSR writes, a leader's verifies, woken followers) runs in that core's work item,
//!   on one of its CPUs, and takes the mutex only to fetch a job and to report.
//! * A follower that rides on a tick runs in a deferrable pinned timer and takes no lock: its batch
//!   and its report pass through [`Slot`]s.
//! * Every RMPOPT goes through [`Driver::execute`], where law 4 is kept.

pub(crate) mod asked;
pub(crate) mod cpus;
pub(crate) mod events;
mod jobs;
pub(crate) mod life;
pub(crate) mod operator;
mod perform;
mod ride;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use kernel::interrupt::local_interrupt_disable;
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, Mutex};

use crate::counts::Counts;
use crate::hardware::{CoreState, Hardware};
use crate::masks::Masks;
use crate::memory::Place;
use crate::plan::Plan;
use crate::rmpopt_core::{
    words_for, Activity, BatchReport, Capable, Config, CoreId, Event, Run, Ticket, Time,
    WINDOW_WORDS,
};
use crate::snp_defs::{Counter, Region, RmpoptBase, RmpoptFunction};
use crate::sys::cpu::Fixed;
use crate::sys::crew::{Crew, Owner};
use crate::sys::fprobe::Arguments;
use crate::sys::modules::News;
use crate::sys::slot::Slot;
use crate::words::Words;

/// A batch that a core was offered, or is at work on.
pub(crate) struct Offer {
    run: Run,
    /// The instruction faulted.
    faulted: bool,
}

/// What a core is to do in its work item.
#[derive(Clone, Copy, Default)]
struct Jobs {
    base: Option<RmpoptBase>,
    verify: Option<(Region, Ticket)>,
    broadcast: Option<(Region, Ticket)>,
    /// To ask its table: see [`asked`].
    ask: bool,
    /// The core is woken for its offer: it does not wait for a tick any more.
    woken: bool,
    /// When to wake it if no tick came.
    by: Time,
    /// An offer for which there was no memory.
    refused: Option<(Ticket, RmpoptFunction)>,
}

/// Where the policy is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It has stopped, or never began.
    Stopped,
    Runs,
    /// It has asked to quiesce.
    Quiescing,
}

/// All that is decided about.
pub(crate) struct State {
    pub(crate) plan: Plan,
    /// The parameters in force.
    pub(crate) config: Config,
    pub(crate) life: Life,
    jobs: KVVec<Jobs>,
    /// When the policy wants [`Event::Timer`].
    timer: Time,
    /// Jobs given out and not answered.
    busy: u32,
    /// Followers' work items under way.
    woken: u16,
    /// No offer waits to be woken for before this.
    next_wake: Time,
    /// Passes logged.
    passes: u64,
    pass_began: Time,
    pass_open: bool,
    first_pass_logged: bool,
    /// When the policy was last told something that changes what it believes.
    pub(crate) changed: Time,
}

/// The executor.
#[pin_data]
pub(crate) struct Driver {
    pub(crate) hardware: KBox<Hardware>,
    pub(crate) counts: KBox<Counts>,
    pub(crate) activity: Activity<Words>,
    /// No RMPOPT begins any more. Set first of all when SNP goes down.
    stop: AtomicBool,
    /// The operator has stopped everything: nothing begins, whatever happens to SNP.
    pub(crate) killed: AtomicBool,
    /// The operator wants nothing more begun.
    pub(crate) paused: AtomicBool,
    /// SNP is up.
    up: AtomicBool,
    /// Which CPUs the operator allows.
    pub(crate) masks: KBox<Masks>,
    /// How often marks are looked at while there are any.
    tick_ns: AtomicU64,
    /// RMPOPTs under way.
    running: AtomicU32,
    /// Cores on which SNP_EN and the enable bit were read back since the last SNP_INIT.
    enabled: KVVec<AtomicBool>,
    /// Cores whose base was written since the last SNP_INIT, or taken over.
    written: KVVec<AtomicBool>,
    /// Cores whose last CPU is going offline, or has: nothing is sent there.
    leaving: KVVec<AtomicBool>,
    offers: KVVec<Slot<Offer>>,
    /// Holds of ticks, to be reported.
    done: KVVec<Slot<Offer>>,
    /// What each core said when it was last asked, and when that was.
    asked: Words,
    #[pin]
    asked_at: Mutex<Option<Time>>,
    /// Longest hold, in nanoseconds, its last RMPOPT not counted.
    pub(crate) longest_hold_ns: AtomicU64,
    /// Holds in ticks that came anyway, and in work items that were woken.
    pub(crate) holds_ridden: AtomicU64,
    pub(crate) holds_woken: AtomicU64,
    /// Something was left when the policy had stopped: law 6.
    pub(crate) unclean: AtomicU64,
    /// RMPOPTs that faulted though enabled: law 4.
    pub(crate) faults: AtomicU64,
    /// Offers to swallow, and offers for which there is no memory: seeded faults.
    #[cfg(emulate)]
    pub(crate) swallow: AtomicU32,
    #[cfg(emulate)]
    pub(crate) starve: AtomicU32,
    noted: events::Noted,
    /// Held while SNP is up: a CPU that comes without SNP_EN would do no RMP checks.
    #[pin]
    cpus: Mutex<Option<Fixed>>,
    /// Held by whoever starts, stops or rearranges the driver; taken before the others.
    #[pin]
    pub(crate) turn: Mutex<()>,
    #[pin]
    pub(crate) state: Mutex<State>,
    /// The policy has stopped.
    #[pin]
    ended: CondVar,
}

/// How an RMPOPT ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ran {
    Carry(bool),
    Fault,
    /// It was not run: the driver stops, the core is not enabled, or we are on another one.
    Not,
}

/// A driver of this hardware; nothing runs before SNP_INIT. On its own, as it needs much stack.
#[inline(never)]
pub(crate) fn crew(hardware: KBox<Hardware>) -> Result<Arc<Crew<Driver>>> {
    let masks = crate::params::masks()?;
    let cores = hardware.topology.cores();
    Arc::pin_init(Crew::new(Driver::new(hardware, masks), usize::from(cores)), GFP_KERNEL)
}

impl Driver {
    fn new(hardware: KBox<Hardware>, masks: KBox<Masks>) -> impl PinInit<Self, Error> {
        let regions = hardware.memory.regions();
        let cores = hardware.topology.cores();
        let marks = words_for(regions);
        let proof = hardware.proof;
        let config = crate::params::config();
        try_pin_init!(Self {
            hardware: hardware,
            counts: Counts::new()?,
            activity: Activity::new(Words::new(marks)?, Words::new(marks)?),
            stop: AtomicBool::new(true),
            killed: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            up: AtomicBool::new(false),
            masks: masks,
            tick_ns: AtomicU64::new(config.tick_ns),
            running: AtomicU32::new(0),
            enabled: each(cores, || AtomicBool::new(false))?,
            written: each(cores, || AtomicBool::new(false))?,
            leaving: each(cores, || AtomicBool::new(false))?,
            offers: each(cores, Slot::new)?,
            done: each(cores, Slot::new)?,
            asked: Words::new(usize::from(cores).saturating_mul(WINDOW_WORDS))?,
            asked_at <- new_mutex!(None, "rmpopt_asked"),
            longest_hold_ns: AtomicU64::new(0),
            holds_ridden: AtomicU64::new(0),
            holds_woken: AtomicU64::new(0),
            unclean: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            noted: events::Noted::new(),
            cpus <- new_mutex!(None, "rmpopt_cpus"),
            #[cfg(emulate)]
            swallow: AtomicU32::new(0),
            #[cfg(emulate)]
            starve: AtomicU32::new(0),
            turn <- new_mutex!((), "rmpopt_turn"),
            state <- new_mutex!(State::new(proof, config, cores, regions)?, "rmpopt"),
            ended <- new_condvar!("rmpopt"),
        }? Error)
    }

    pub(crate) fn now(&self) -> Time {
        crate::sys::clock::now()
    }

    /// Cores and memory as a policy sees them.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { driver: self }
    }

    /// A CPU on which a core's work can run.
    pub(crate) fn cpu_of(&self, core: CoreId) -> Option<u32> {
        let leaving = self.leaving.get(core.index()).is_some_and(|on| on.load(Ordering::SeqCst));
        if leaving {
            None
        } else {
            self.hardware.topology.online_cpu(core, |cpu| self.masks.allows(cpu))
        }
    }

    /// One of a core's CPUs, for its registers: also one that the operator does not allow, but none
    /// that is going offline.
    fn any_cpu_of(&self, core: CoreId) -> Option<u32> {
        let masked = |cpu| !self.masks.allows(cpu);
        self.cpu_of(core).or_else(|| self.hardware.topology.online_cpu(core, masked))
    }

    /// What a core says of itself, if one of its CPUs is online.
    fn read(&self, core: CoreId) -> Option<CoreState> {
        self.any_cpu_of(core).map(|cpu| self.hardware.read(cpu, core))
    }

    fn set_leaving(&self, core: CoreId, on: bool) {
        if let Some(leaving) = self.leaving.get(core.index()) {
            leaving.store(on, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_enabled(&self, core: CoreId) -> bool {
        self.enabled.get(core.index()).is_some_and(|enabled| enabled.load(Ordering::Acquire))
    }

    fn enable(&self, core: CoreId, on: bool) {
        if let Some(enabled) = self.enabled.get(core.index()) {
            enabled.store(on, Ordering::Release);
        }
    }

    /// SNP_INIT: no base was written in it.
    fn none_written(&self) {
        for written in &self.written {
            written.store(false, Ordering::SeqCst);
        }
    }

    /// The base of a core is written, or has been. Returns whether it had been before.
    fn set_written(&self, core: CoreId) -> bool {
        self.written.get(core.index()).is_some_and(|written| written.swap(true, Ordering::SeqCst))
    }

    /// The one place where RMPOPT is run (law 4): interrupts off, so that we stay on this CPU; it is
    /// the core meant; SNP_EN and the enable bit were read back there; the driver does not stop.
    /// Returns how it ended and how long it took, in nanoseconds.
    fn execute(&self, core: CoreId, region: Region, function: RmpoptFunction) -> (Ran, u64) {
        let here = local_interrupt_disable();
        let cpu = crate::sys::cpu::held(&here);
        // Counted before `stop` is looked at: who sets `stop` and then sees 0 knows that none runs.
        self.running.fetch_add(1, Ordering::SeqCst);
        let ours = self.hardware.topology.core_of(cpu) == Some(core);
        if !ours || !self.is_enabled(core) || self.stop.load(Ordering::SeqCst) {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return (Ran::Not, 0);
        }
        let before = self.now();
        let outcome = self.hardware.rmpopt(&here, core, region, function);
        let took_ns = self.now().since(before);
        self.running.fetch_sub(1, Ordering::SeqCst);
        drop(here);
        self.counts.one(Counter::RmpoptExecuted);
        self.counts.one(match (function, outcome) {
            (RmpoptFunction::Report, _) => Counter::RmpoptReport,
            (RmpoptFunction::Verify, _) => Counter::RmpoptVerify,
        });
        match outcome {
            Ok(carry) => {
                if function == RmpoptFunction::Verify {
                    let counter = if carry { Counter::RmpoptClean } else { Counter::RmpoptDirty };
                    self.counts.one(counter);
                }
                (Ran::Carry(carry), took_ns)
            }
            Err(fault) => {
                // Nothing is safe to run on this host any more.
                self.stop.store(true, Ordering::SeqCst);
                if self.faults.fetch_add(1, Ordering::Relaxed) == 0 {
                    pr_err!("RMPOPT raised an exception on CPU {cpu} ({fault:?}): stopped\n");
                }
                (Ran::Fault, took_ns)
            }
        }
    }

    /// One hold: RMPOPT after RMPOPT until the budget is used up or the batch is done.
    /// False if nothing can be reported of it: the driver stops, and with that the offer is void.
    fn hold(&self, core: CoreId, offer: &mut Offer) -> bool {
        let run = &mut offer.run;
        let function = run.batch().function;
        let counter = match function {
            RmpoptFunction::Verify => Counter::RmpoptFollowers,
            RmpoptFunction::Report => Counter::AuditsRun,
        };
        run.begin_hold(self.now());
        let mut last_ns = 0;
        while let Some(region) = run.region() {
            let (ran, took_ns) = self.execute(core, region, function);
            let carry = match ran {
                Ran::Carry(carry) => carry,
                Ran::Fault => {
                    offer.faulted = true;
                    self.counts.add(Counter::CpuTaken, took_ns);
                    return true;
                }
                Ran::Not => return false,
            };
            last_ns = took_ns;
            self.counts.one(counter);
            if run.record(self.now(), took_ns, carry) != crate::rmpopt_core::Step::More {
                break;
            }
        }
        let held_ns = run.report().held_ns.saturating_sub(last_ns);
        self.longest_hold_ns.fetch_max(held_ns, Ordering::Relaxed);
        self.counts.add(Counter::CpuTaken, run.report().held_ns);
        self.counts.add(Counter::RmpoptSlow, u64::from(run.report().slow));
        true
    }
}

impl State {
    /// On its own, so that it passes over the stack of no one else.
    #[inline(never)]
    fn new(proof: Capable, config: Config, cores: u16, regions: u32) -> Result<Self> {
        Ok(Self {
            plan: Plan::new(proof, config, cores, regions)?,
            config,
            life: Life::Stopped,
            jobs: each(cores, Jobs::default)?,
            timer: Time::NEVER,
            busy: 0,
            woken: 0,
            next_wake: Time::NEVER,
            passes: 0,
            pass_began: Time::ZERO,
            pass_open: false,
            first_pass_logged: false,
            changed: Time::ZERO,
        })
    }

    fn job(&mut self, core: CoreId) -> Option<&mut Jobs> {
        self.jobs.get_mut(core.index())
    }

    /// A hold's report, or the fault that ended it.
    fn report(&mut self, now: Time, offer: &Offer) {
        let batch = offer.run.batch();
        if offer.faulted {
            let (core, ticket) = (batch.core, batch.ticket);
            self.plan.policy().handle(now, Event::BatchFault { core, ticket });
        } else {
            self.batch(now, offer.run.report());
        }
    }

    fn batch(&mut self, now: Time, report: &BatchReport) {
        self.changed = now;
        self.plan.policy().handle(now, Event::Batch(report));
    }
}

impl Owner for Driver {
    fn control(crew: &Crew<Self>) {
        perform::control(crew);
    }
    fn reports(crew: &Crew<Self>) {
        perform::reports(crew);
    }
    fn events(crew: &Crew<Self>) {
        events::see_to(crew);
    }
    fn drain(crew: &Crew<Self>) {
        perform::drain(crew);
    }
    fn work(crew: &Crew<Self>, member: usize) {
        jobs::work(crew, CoreId(member as u16));
    }
    fn tick(crew: &Crew<Self>, member: usize) {
        ride::tick(crew, CoreId(member as u16));
    }
    const PROBED: &'static [&'static CStr] = &events::SYMBOLS;
    fn called(crew: &Crew<Self>, number: usize, arguments: Arguments) {
        events::called(crew, number, arguments);
    }
    fn returned(crew: &Crew<Self>, number: usize, arguments: Arguments, result: u64) {
        events::returned(crew, number, arguments, result);
    }
    fn going_down(crew: &Crew<Self>) {
        life::machine_goes_down(crew);
    }
    fn may_sleep(crew: &Crew<Self>) -> bool {
        life::may_sleep(crew)
    }
    fn module(crew: &Crew<Self>, name: &CStr, news: News) {
        events::module(crew, name, news);
    }
    fn cpu_online(crew: &Crew<Self>, cpu: u32) {
        cpus::online(crew, cpu);
    }
    fn cpu_offline(crew: &Crew<Self>, cpu: u32) {
        cpus::offline(crew, cpu);
    }
}

/// Marks that a region's pages became shared, after the RMPUPDATE. From any context.
pub(crate) fn became_shared(crew: &Crew<Driver>, region: Region) {
    if crew.activity.became_shared(region) {
        crew.drain_in(crew.tick_ns.load(Ordering::Relaxed));
    }
}

/// Marks that pages of a region were assigned, after the RMPUPDATE. From any context.
pub(crate) fn lost(crew: &Crew<Driver>, region: Region) {
    if crew.activity.lost(region) {
        crew.drain_in(crew.tick_ns.load(Ordering::Relaxed));
    }
}

/// A vector with one of something for each core.
fn each<T>(cores: u16, one: impl Fn() -> T) -> Result<KVVec<T>> {
    let mut all = KVVec::with_capacity(usize::from(cores), GFP_KERNEL)?;
    for _ in 0..cores {
        all.push(one(), GFP_KERNEL)?;
    }
    Ok(all)
}
