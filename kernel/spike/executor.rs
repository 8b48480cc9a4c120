// SPDX-License-Identifier: MIT OR GPL-2.0
//! Does what the control plane decides, on the emulated host, in real time.

use kernel::prelude::*;
use kernel::time::{Instant, Monotonic};

use crate::host::{Layout, Silicon, Words, CORES, REGIONS};
use crate::rmpopt_core::{
    words_for, words_needed, Action, Activity, Batch, Buffers, Capable, Config, CoreCell, CoreId,
    Event, Policy, RegionCell, Request, Run, Step, Time, Tracked, Verdict, MILLISECOND,
};
use crate::snp_defs::{Region, RmpoptBase, RmpoptFunction};
use crate::snp_model;

/// The kernel's monotonic clock as the control plane sees it.
pub(crate) struct Clock(Instant<Monotonic>);

impl Clock {
    pub(crate) fn now(&self) -> Time {
        Time::from_ns(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(0))
    }
}

/// A batch that a core has been offered.
struct Offer {
    run: Run,
    /// Waits for an interrupt that comes anyway until then.
    by: Time,
}

/// What was done so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) actions: u32,
    pub(crate) bases: u32,
    pub(crate) verifies: u32,
    pub(crate) offers: u32,
    pub(crate) holds: u32,
    pub(crate) rmpopts: u32,
    pub(crate) timers: u32,
    pub(crate) quiesces: u32,
    /// Largest delay of a timer, in nanoseconds.
    pub(crate) late_ns: u64,
}

/// The control plane's memory, in kernel vectors.
type Memory = Buffers<KVec<RegionCell>, KVec<CoreCell>, KVec<u64>>;

/// The control plane and what it acts on.
pub(crate) struct Executor {
    clock: Clock,
    pub(crate) silicon: KBox<Silicon>,
    pub(crate) policy: KBox<Tracked<Memory>>,
    pub(crate) activity: Activity<Words>,
    offers: KVec<Option<Offer>>,
    /// When the policy wants [`Event::Timer`].
    timer: Option<Time>,
    /// Mark this region while it is being verified, as an RMPUPDATE on another CPU would.
    pub(crate) disturb: Option<Region>,
    pub(crate) stopped: bool,
    pub(crate) counts: Counts,
}

impl Executor {
    pub(crate) fn new(proof: Capable, config: Config, silicon: KBox<Silicon>) -> Result<Self> {
        let cores = usize::from(CORES);
        let mut offers = KVec::with_capacity(cores, GFP_KERNEL)?;
        for _ in 0..cores {
            offers.push(None, GFP_KERNEL)?;
        }
        let storage = Buffers {
            regions: KVec::from_elem(RegionCell::default(), REGIONS as usize, GFP_KERNEL)?,
            cores: KVec::from_elem(CoreCell::default(), cores, GFP_KERNEL)?,
            words: KVec::from_elem(0, words_needed(REGIONS), GFP_KERNEL)?,
        };
        let marks = words_for(REGIONS);
        Ok(Self {
            clock: Clock(Instant::now()),
            silicon,
            policy: control_plane(proof, config, storage)?,
            activity: Activity::new(Words::new(marks)?, Words::new(marks)?),
            offers,
            timer: None,
            disturb: None,
            stopped: false,
            counts: Counts::default(),
        })
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// No mark waits, and no offer but audits, for which idle cores are not woken.
    pub(crate) fn is_settled(&self) -> bool {
        let waits = |offer: &Offer| offer.by != Time::NEVER;
        !self.activity.is_pending() && !self.offers.iter().flatten().any(waits)
    }

    pub(crate) fn handle(&mut self, event: Event<'_>) {
        let now = self.now();
        self.policy.handle(now, event);
        self.pump();
    }

    pub(crate) fn snp_initialised(&mut self) {
        self.handle(Event::SnpInitialised(&Layout));
    }

    pub(crate) fn request(&mut self, request: Request) {
        self.handle(Event::Request(request));
    }

    /// What a tick brings: marks, the timer, and holds on cores that have an interrupt.
    pub(crate) fn tick(&mut self) {
        self.drain();
        let now = self.now();
        if let Some(due) = self.timer.filter(|due| *due <= now) {
            self.timer = None;
            count(&mut self.counts.timers);
            self.counts.late_ns = self.counts.late_ns.max(now.since(due));
            self.policy.handle(now, Event::Timer);
        }
        self.pump();
        for index in 0..CORES {
            self.ride(CoreId(index));
        }
    }

    /// When to come back.
    pub(crate) fn next(&self) -> Time {
        let now = self.now();
        let mut next = self.timer.unwrap_or(Time::NEVER);
        if self.activity.is_pending() {
            next = next.earlier(now.after(self.policy.tick_ns().unwrap_or(MILLISECOND)));
        }
        for offer in self.offers.iter().flatten() {
            let core = offer.run.batch().core;
            next =
                next.earlier(if has_ticks(core) { now.after(4 * MILLISECOND) } else { offer.by });
        }
        next
    }

    fn drain(&mut self) {
        let now = self.now();
        let Self { activity, policy, .. } = self;
        activity.drain(|drained| policy.handle(now, Event::Drained(drained)));
    }

    /// Does what the policy wants until it wants nothing more.
    fn pump(&mut self) {
        loop {
            let now = self.now();
            let Some(action) = self.policy.poll(now) else { break };
            count(&mut self.counts.actions);
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::WriteBase { core, base } => self.write_base(core, base),
            Action::Verify { core, region, ticket } => {
                count(&mut self.counts.verifies);
                let before = self.now();
                let function = RmpoptFunction::Verify;
                let verdict = match rmpopt(&self.silicon, &mut self.counts, core, region, function)
                {
                    Some(true) => Verdict::Clean,
                    Some(false) => Verdict::Dirty,
                    None => Verdict::Fault,
                };
                let now = self.now();
                let took_ns = now.since(before);
                if self.disturb == Some(region) {
                    self.disturb = None;
                    self.activity.became_shared(region);
                    self.drain();
                }
                let event = Event::Verified { ticket, core, region, verdict, took_ns };
                self.policy.handle(now, event);
            }
            Action::Offer { batch, by } => self.offer(batch, by),
            Action::ArmTimer(at) => self.timer = Some(at),
            Action::Quiesce => {
                count(&mut self.counts.quiesces);
                self.timer = None;
                self.offers.iter_mut().for_each(|offer| *offer = None);
                let now = self.now();
                self.policy.handle(now, Event::Quiesced);
            }
            Action::Stopped => self.stopped = true,
            Action::Broadcast { ticket, .. } => {
                let now = self.now();
                self.policy.handle(now, Event::BroadcastDone { ticket });
            }
        }
    }

    fn write_base(&mut self, core: CoreId, base: RmpoptBase) {
        count(&mut self.counts.bases);
        let emulated = snp_model::CoreId(u32::from(core.0));
        let written = self.silicon.wrmsr_rmpopt_base(emulated, base.raw());
        let read = RmpoptBase::from_raw(self.silicon.rdmsr_rmpopt_base(emulated));
        let base = written.ok().and_then(|()| read.ok());
        let snp_en = self.silicon.unit().snp_en(emulated);
        let now = self.now();
        self.policy.handle(now, Event::BaseWritten { core, base, snp_en });
    }

    fn offer(&mut self, batch: Batch, by: Time) {
        count(&mut self.counts.offers);
        let Some(budget) = self.policy.budget() else { return };
        if let Some(place) = self.offers.get_mut(batch.core.index()) {
            *place = Some(Offer { run: Run::new(batch, budget), by });
        }
    }

    /// One hold on a core that has a tick, or has been waited for long enough.
    fn ride(&mut self, core: CoreId) {
        let Self { clock, silicon, policy, offers, counts, .. } = self;
        let Some(place) = offers.get_mut(core.index()) else { return };
        // A run is worked on where it lies: it is too large to be moved over the stack for nothing.
        let Some(offer) = place.as_mut() else { return };
        let now = clock.now();
        if !has_ticks(core) && now < offer.by {
            return;
        }
        count(&mut counts.holds);
        let run = &mut offer.run;
        let function = run.batch().function;
        run.begin_hold(now);
        while let Some(region) = run.region() {
            let before = clock.now();
            let Some(carry) = rmpopt(silicon, counts, core, region, function) else {
                let ticket = run.batch().ticket;
                policy.handle(before, Event::BatchFault { core, ticket });
                *place = None;
                return self.pump();
            };
            let now = clock.now();
            if run.record(now, now.since(before), carry) != Step::More {
                break;
            }
        }
        policy.handle(clock.now(), Event::Batch(run.report()));
        if run.report().finished {
            *place = None;
        }
        self.pump();
    }
}

/// RMPOPT on the emulated host: its carry flag, `None` if it faulted.
fn rmpopt(
    silicon: &Silicon,
    counts: &mut Counts,
    core: CoreId,
    region: Region,
    function: RmpoptFunction,
) -> Option<bool> {
    count(&mut counts.rmpopts);
    let core = snp_model::CoreId(u32::from(core.0));
    let outcome = silicon.rmpopt(core, region.base().get(), function).ok()?;
    Some(outcome.cf)
}

/// On its own, so that the policy passes over the stack of no one else.
#[inline(never)]
fn control_plane(proof: Capable, config: Config, storage: Memory) -> Result<KBox<Tracked<Memory>>> {
    let place = KBox::new_uninit(GFP_KERNEL)?;
    Ok(KBox::write(place, Tracked::new(proof, config, storage)))
}

fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

/// Even cores are busy and have ticks; odd ones are idle and have to be woken.
fn has_ticks(core: CoreId) -> bool {
    core.0 % 2 == 0
}
