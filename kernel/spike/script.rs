// SPDX-License-Identifier: MIT OR GPL-2.0
//! What happens to the emulated host, and what must have come of it.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

use crate::executor::Executor;
use crate::host::{silicon, Layout, CORES, REGIONS};
use crate::rmpopt_core::{
    Config, CoreId, Event, Facts, Host, Policy, Request, Time, MILLISECOND, SECOND,
};
use crate::snp_defs::{Gpa, PageSize, Region, RmpOperand, RmpoptBase};
use crate::snp_model::{self, InitLayout, PfnRange};
use crate::sys::Turn;

/// A guest's page lies here from the start, and is given back.
const GUEST: u32 = 3;
/// A page here is assigned later.
const LATE: u32 = 65;
const ASID: u32 = 5;

/// Times short enough for a test, long enough to be told apart from the clock's noise.
fn config() -> Config {
    Config {
        delay_ns: 200 * MILLISECOND,
        bound_ns: SECOND,
        merge_ns: 50 * MILLISECOND,
        follow_ns: 100 * MILLISECOND,
        tick_ns: 20 * MILLISECOND,
        flip_ns: 0,
        audit_ns: 300 * MILLISECOND,
        // Holds short enough that the first pass takes several.
        hold_ns: 50_000,
        ..Config::default()
    }
}

/// Steps of the script; each waits until its condition holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Begin,
    /// Everything but the guest's region becomes optimised.
    FirstPass,
    /// The guest's page was given back.
    Returned,
    /// Another page was assigned.
    Assigned,
    /// A core went and came back.
    CoreBack,
    /// Each core's belief is audited.
    Audited,
    GoingDown,
    Over,
}

/// The executor and how far the script is.
struct State {
    executor: Executor,
    stage: Stage,
    /// When the stage began.
    since: Time,
}

/// The whole spike, run by a worker.
#[pin_data]
pub(crate) struct Spike {
    #[pin]
    state: Mutex<State>,
}

type Check = core::result::Result<(), &'static str>;

fn ensure(holds: bool, what: &'static str) -> Check {
    if holds {
        Ok(())
    } else {
        Err(what)
    }
}

fn region(number: u32) -> Region {
    Region::new(number).unwrap_or_default()
}

impl Spike {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            state <- new_mutex!(State::new()?, "rmpopt_spike"),
        }? Error)
    }

    /// The module goes: whatever was going on ends here, and nothing comes after it.
    pub(crate) fn unload(&self) {
        let mut state = self.state.lock();
        let executor = &mut state.executor;
        if !executor.stopped {
            executor.handle(Event::Unload);
        }
        pr_info!("gone, stopped={}\n", executor.stopped);
    }
}

impl Turn for Spike {
    fn turn(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.executor.tick();
        if let Err(what) = state.advance() {
            pr_err!("FAILED at {:?}: {}\n", state.stage, what);
            return None;
        }
        let now = state.executor.now();
        if state.stage == Stage::Over || now.since(state.since) > 30 * SECOND {
            return None;
        }
        // The script looks again at least this often.
        let next = state.executor.next().earlier(now.after(10 * MILLISECOND));
        Some(next.since(now))
    }
}

impl State {
    fn new() -> Result<Self> {
        let proof = Facts::venice(u32::from(CORES)).check().map_err(|_| ENODEV)?;
        let executor = Executor::new(proof, config(), silicon()?)?;
        Ok(Self { executor, stage: Stage::Begin, since: Time::ZERO })
    }

    /// Begins the next stage if this one's condition holds.
    fn advance(&mut self) -> Check {
        let waited_ns = self.executor.now().since(self.since);
        let next = match self.stage {
            Stage::Begin => {
                self.begin()?;
                Stage::FirstPass
            }
            Stage::FirstPass => {
                if !self.executor.policy.first_pass_over() || !self.all_have(Some(GUEST)) {
                    return self.patience(waited_ns);
                }
                self.executor.disturb = Some(region(GUEST));
                self.give_back(GUEST)?;
                Stage::Returned
            }
            Stage::Returned => {
                if !self.all_have(None) {
                    return self.patience(waited_ns);
                }
                // Disturbed once, the region had to wait for its delay twice.
                ensure(waited_ns >= 2 * config().delay_ns, "verified before its delay")?;
                ensure(self.executor.policy.stats().stale == 1, "a stale verdict was believed")?;
                self.assign(LATE)?;
                Stage::Assigned
            }
            Stage::Assigned => {
                if !self.executor.is_settled() {
                    return self.patience(waited_ns);
                }
                ensure(!self.executor.policy.is_clean(region(LATE)), "a lost region is clean")?;
                ensure(self.all_have(Some(LATE)), "more was lost than one region")?;
                self.core_goes_and_comes(CoreId(2))?;
                Stage::CoreBack
            }
            Stage::CoreBack => {
                if !self.all_have(Some(LATE)) {
                    return self.patience(waited_ns);
                }
                Stage::Audited
            }
            Stage::Audited => {
                // Audits ride only, so idle cores have none; a turn of all cores takes 4 periods.
                if waited_ns < 5 * config().audit_ns {
                    return Ok(());
                }
                ensure(self.executor.policy.stats().audit_failures == 0, "an audit failed")?;
                ensure(self.executor.policy.stats().contradicted == 0, "a verdict was wrong")?;
                self.executor.request(Request::Pause);
                self.executor.request(Request::Resume);
                self.executor.handle(Event::SnpGoingDown);
                Stage::GoingDown
            }
            Stage::GoingDown => {
                if !self.executor.stopped {
                    return self.patience(waited_ns);
                }
                self.went_down()?;
                Stage::Over
            }
            Stage::Over => return Ok(()),
        };
        pr_info!("{:?} after {} ms\n", self.stage, waited_ns / MILLISECOND);
        self.stage = next;
        self.since = self.executor.now();
        Ok(())
    }

    /// Each stage ends within law 3's bound; ten seconds are more than that here.
    fn patience(&self, waited_ns: u64) -> Check {
        ensure(waited_ns < 10 * SECOND, "took too long")
    }

    fn begin(&mut self) -> Check {
        let silicon = &self.executor.silicon;
        silicon.enable_snp();
        let pages = u64::from(REGIONS) << 18;
        let dram = [PfnRange::new(Region::ZERO.first_pfn(), pages)];
        let layout = InitLayout { dram: &dram, ..InitLayout::default() };
        silicon.snp_init(&layout).map_err(|_| "SNP_INIT failed")?;
        self.assign(GUEST)?;
        self.executor.snp_initialised();
        ensure(self.executor.counts.bases == u32::from(CORES), "not every base was written")?;
        (0..CORES).map(CoreId).try_for_each(|core| {
            ensure(self.executor.policy.is_enabled(core), "a core is not enabled")?;
            ensure(self.executor.policy.window(core).is_some(), "a core has no window")
        })
    }

    /// Whether every core has every region but one optimised, and the policy believes just that.
    fn all_have(&self, except: Option<u32>) -> bool {
        let executor = &self.executor;
        (0..CORES).all(|core| {
            let emulated = snp_model::CoreId(u32::from(core));
            (0..Layout.spanned_regions()).all(|number| {
                let wanted = Some(number) != except;
                let region = region(number);
                executor.silicon.unit().is_optimised(emulated, region) == wanted
                    && executor.policy.believes(CoreId(core), region) == wanted
            })
        })
    }

    fn update(&mut self, number: u32, operand: &RmpOperand) -> Check {
        let (core, spa) = (snp_model::CoreId(1), region(number).base());
        let pages = PfnRange::new(spa.pfn(), 1);
        let silicon = &self.executor.silicon;
        silicon.reserve_pages(pages).map_err(|_| "no memory for an RMP block")?;
        let update = silicon.rmpupdate(core, spa, operand).map_err(|_| "RMPUPDATE faulted")?;
        ensure(update.status.is_success(), "RMPUPDATE failed")
    }

    fn assign(&mut self, number: u32) -> Check {
        self.update(number, &RmpOperand::private(Gpa::ZERO, PageSize::Size4K, ASID, false))?;
        self.executor.activity.lost(region(number));
        let unit = self.executor.silicon.unit();
        let mut cores = (0..u32::from(CORES)).map(snp_model::CoreId);
        ensure(
            !cores.any(|core| unit.is_optimised(core, region(number))),
            "an assigned page lies in an optimised region",
        )
    }

    fn give_back(&mut self, number: u32) -> Check {
        self.update(number, &RmpOperand::shared(PageSize::Size4K))?;
        let first = self.executor.activity.became_shared(region(number));
        ensure(first, "the first mark did not ask for a tick")
    }

    fn core_goes_and_comes(&mut self, core: CoreId) -> Check {
        self.executor.handle(Event::CoreOffline(core));
        ensure(!self.executor.policy.believes(core, Region::ZERO), "belief outlived its core")?;
        let base = RmpoptBase::enabled_at(Region::ZERO);
        self.executor.handle(Event::CoreOnline { core, base, snp_en: true });
        ensure(self.executor.policy.is_enabled(core), "the core did not come back")
    }

    fn went_down(&mut self) -> Check {
        let mut cores = (0..u32::from(CORES)).map(snp_model::CoreId);
        let silicon = &self.executor.silicon;
        ensure(cores.all(|core| silicon.rdmsr_rmpopt_base(core) == 0), "a base is not 0")?;
        silicon.snp_shutdown(true, &[]);
        let actions = self.executor.counts.actions;
        self.executor.tick();
        ensure(self.executor.counts.actions == actions, "something came after the end")?;
        ensure(self.executor.next() == Time::NEVER, "a timer is left")?;
        let counts = self.executor.counts;
        ensure(counts.quiesces == 1, "not quiesced once")?;
        pr_info!(
            "OK actions={} bases={} verifies={} offers={} holds={} rmpopts={} timers={} \
             late_us={} passes={}\n",
            counts.actions,
            counts.bases,
            counts.verifies,
            counts.offers,
            counts.holds,
            counts.rmpopts,
            counts.timers,
            counts.late_ns / 1000,
            self.executor.policy.passes(),
        );
        Ok(())
    }
}
