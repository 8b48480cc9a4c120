//! The stressed host: which threads run, what each does, and the laws as each of them can know them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use snp_defs::{
    Gpa, PageSize, PageState, Pfn, Region, RmpOperand, RmpStatus, RmpoptBase, RmpoptFunction,
    PAGES_PER_REGION,
};
use snp_model::{
    Accessor, BaseWrite, CoreId, Coverage, EnableToggle, Fault, GuestAccess, GuestCpu, InitLayout,
    PfnRange, StdMachine, UnitConfig, Verdict, Walk,
};

const CORES: u32 = 4;
const REGIONS: u32 = 3;
/// 2M blocks that change: of 4K pages, and of one 2M page. All others stay the hypervisor's.
const SMALL_BLOCK: u64 = 0;
const LARGE_BLOCK: u64 = 511;
const QUIET_BLOCK: u64 = 200;
/// What each thread does at least, on a machine where it has to wait for its turn.
const LEAST_ROUNDS: u64 = 30;
/// The core whose registers a sibling thread writes.
const WRITTEN: CoreId = CoreId(CORES - 1);

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Update4K,
    Update2M,
    Psmash,
    Pvalidate,
    GuestAccess,
    HostWrite,
    Skipped,
    Refused,
    Verify,
    Optimised,
    FromCache,
    Raced,
    BaseWrite,
    CacheDrop,
    LawCheck,
}

impl Kind {
    pub(crate) const ALL: [Self; 15] = [
        Self::Update4K,
        Self::Update2M,
        Self::Psmash,
        Self::Pvalidate,
        Self::GuestAccess,
        Self::HostWrite,
        Self::Skipped,
        Self::Refused,
        Self::Verify,
        Self::Optimised,
        Self::FromCache,
        Self::Raced,
        Self::BaseWrite,
        Self::CacheDrop,
        Self::LawCheck,
    ];
}

/// How often each was done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally([u64; Kind::ALL.len()]);

impl Tally {
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }
    fn one(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Kind::ALL.iter().try_for_each(|&kind| write!(f, "{kind:?} {}, ", self.of(kind)))
    }
}

/// Splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
    fn core(&mut self) -> CoreId {
        CoreId(self.below(u64::from(CORES)) as u32)
    }
}

fn page(region: u64, block: u64, index: u64) -> Pfn {
    Pfn::new(region * PAGES_PER_REGION + block * 512 + index).unwrap()
}

fn base(region: u32) -> u64 {
    RmpoptBase::enabled_at(Region::new(region).unwrap()).raw()
}

fn machine(config: UnitConfig) -> StdMachine {
    let coverage = Coverage::segmented(30).unwrap().with_regions(REGIONS);
    let host = StdMachine::on_heap(CORES, REGIONS, coverage, config);
    host.enable_snp();
    let dram = [PfnRange::new(page(0, 0, 0), u64::from(REGIONS) * PAGES_PER_REGION)];
    host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }).unwrap();
    for region in 0..u64::from(REGIONS) {
        for block in [SMALL_BLOCK, LARGE_BLOCK] {
            host.reserve_pages(PfnRange::new(page(region, block, 0), 512)).unwrap();
        }
    }
    for core in 0..CORES {
        host.wrmsr_rmpopt_base(CoreId(core), base(0)).unwrap();
    }
    host
}

/// One thread's view.
struct Actor<'a> {
    host: &'a StdMachine,
    rng: Rng,
    tally: Tally,
}

type Step = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Step {
    if holds {
        Ok(())
    } else {
        Err(what())
    }
}

impl Actor<'_> {
    fn update(&mut self, pfn: Pfn, operand: &RmpOperand) -> Step {
        let update = self.host.rmpupdate(self.rng.core(), pfn.spa(), operand).unwrap();
        self.tally.one(match operand.size() {
            PageSize::Size4K => Kind::Update4K,
            PageSize::Size2M => Kind::Update2M,
        });
        ensure(update.status.is_success(), || format!("RMPUPDATE of {pfn:?}: {}", update.status))
    }

    /// Laws 1 and 2 for a page that the caller has assigned and nobody else frees.
    fn assigned(&mut self, pfn: Pfn) -> Step {
        self.tally.one(Kind::LawCheck);
        for core in (0..CORES).map(CoreId) {
            for size in [PageSize::Size4K, PageSize::Size2M] {
                let write = self.host.check_write(core, Accessor::HostKernel, pfn.spa(), size);
                ensure(!write.skipped_by_rmpopt, || format!("law 1: core {core} skips {pfn:?}"))?;
                ensure(write.verdict != Verdict::Allowed, || {
                    format!("law 2: core {core} writes to {pfn:?}, {size:?}")
                })?;
            }
        }
        let core = self.rng.core();
        let function = [RmpoptFunction::Report, RmpoptFunction::Verify][self.rng.below(2) as usize];
        let asked = self.host.rmpopt(core, pfn.spa().get(), function);
        ensure(!asked.is_ok_and(|outcome| outcome.cf), || {
            format!("law 1: {function:?} on core {core} has CF for {pfn:?}")
        })
    }

    /// Law 2 for a page that is the hypervisor's as long as the caller does not assign it.
    fn free(&mut self, pfn: Pfn) -> Step {
        let core = self.rng.core();
        let write = self.host.check_write(core, Accessor::HostUser, pfn.spa(), PageSize::Size4K);
        ensure(write.verdict == Verdict::Allowed, || format!("law 2: a write to {pfn:?} fails"))
    }

    /// A guest accepts its page and uses it; then the page gets another owner, unvalidated.
    fn guest(&mut self, pfn: Pfn, asid: u32) -> Step {
        let cpu = GuestCpu { asid, vmpl: 0 };
        let walk = Walk {
            gva: 0,
            gpa: Gpa::ZERO,
            spa: pfn.spa(),
            nested: PageSize::Size4K,
            private: true,
        };
        let core = self.rng.core();
        self.tally.one(Kind::Pvalidate);
        let accepted = self.host.pvalidate(core, cpu, &walk, 0, 1);
        ensure(
            accepted.is_ok_and(|done| done.status == RmpStatus::SUCCESS && !done.carry),
            || format!("PVALIDATE of {pfn:?}: {accepted:?}"),
        )?;
        self.tally.one(Kind::GuestAccess);
        let access = self.host.check_guest(core, cpu, GuestAccess::Write, &walk).verdict;
        ensure(access.is_ok(), || format!("{pfn:?} and its guest: {access:?}"))?;
        self.update(pfn, &RmpOperand::private(Gpa::ZERO, PageSize::Size4K, asid + 8, false))?;
        let state = self.host.page_state(pfn);
        ensure(state == PageState::GuestInvalid, || format!("{pfn:?} is {state:?}"))?;
        self.tally.one(Kind::GuestAccess);
        let access = self.host.check_guest(core, cpu, GuestAccess::Write, &walk).verdict;
        ensure(access.is_err(), || format!("{pfn:?} is open to its former guest"))
    }

    /// Assigns 4K pages that are this thread's alone, `asid` and up, and frees them.
    fn small_pages(&mut self, asid: u32) -> Step {
        let region = self.rng.below(u64::from(REGIONS));
        let index = u64::from(asid) + 8 * self.rng.below(60);
        let pfn = page(region, SMALL_BLOCK, index);
        self.update(pfn, &RmpOperand::private(Gpa::ZERO, PageSize::Size4K, asid, false))?;
        self.assigned(pfn)?;
        if self.rng.below(2) == 0 {
            self.guest(pfn, asid)?;
            self.assigned(pfn)?;
        }
        self.update(pfn, &RmpOperand::shared(PageSize::Size4K))?;
        self.free(pfn)
    }

    /// Assigns a 2M page, splits it now and then, and frees it.
    fn large_page(&mut self, asid: u32) -> Step {
        let region = self.rng.below(u64::from(REGIONS));
        let head = page(region, LARGE_BLOCK, 0);
        let inside = page(region, LARGE_BLOCK, self.rng.below(512));
        self.update(head, &RmpOperand::private(Gpa::ZERO, PageSize::Size2M, asid, false))?;
        self.assigned(inside)?;
        if self.rng.below(4) == 0 {
            self.tally.one(Kind::Psmash);
            let smashed = self.host.psmash(self.rng.core(), head.spa()).unwrap().status;
            ensure(smashed.is_success(), || format!("PSMASH: {smashed}"))?;
            self.assigned(inside)?;
            for index in 0..512 {
                self.update(
                    page(region, LARGE_BLOCK, index),
                    &RmpOperand::shared(PageSize::Size4K),
                )?;
            }
        } else {
            self.update(head, &RmpOperand::shared(PageSize::Size2M))?;
        }
        self.free(inside)
    }

    fn verify(&mut self, core: CoreId) {
        let region = self.rng.below(u64::from(REGIONS) + 1);
        let Ok(outcome) = self.host.rmpopt(core, region << 30, RmpoptFunction::Verify) else {
            // Disabled just now, or outside the window under that switch.
            return;
        };
        self.tally.one(Kind::Verify);
        for (is, kind) in [
            (outcome.cf, Kind::Optimised),
            (outcome.cached, Kind::FromCache),
            (outcome.raced, Kind::Raced),
        ] {
            if is {
                self.tally.one(kind);
            }
        }
    }

    /// Writes of the host and of ordinary guests anywhere; nobody ever assigns the quiet block.
    fn write(&mut self) -> Step {
        let region = self.rng.below(u64::from(REGIONS));
        let block = [SMALL_BLOCK, QUIET_BLOCK, LARGE_BLOCK][self.rng.below(3) as usize];
        let pfn = page(region, block, self.rng.below(512));
        let accessor = [Accessor::HostKernel, Accessor::Guest][self.rng.below(2) as usize];
        let size = [PageSize::Size4K, PageSize::Size2M][self.rng.below(2) as usize];
        let write = self.host.check_write(self.rng.core(), accessor, pfn.spa(), size);
        self.tally.one(Kind::HostWrite);
        if write.skipped_by_rmpopt {
            self.tally.one(Kind::Skipped);
        }
        if write.verdict == Verdict::Allowed {
            return Ok(());
        }
        self.tally.one(Kind::Refused);
        ensure(block != QUIET_BLOCK, || format!("law 2: a write to {pfn:?} fails"))?;
        ensure(write.verdict == accessor.refusal(), || format!("{:?}", write.verdict))
    }

    /// Moves and toggles that keep law 1 under these switches, by a sibling thread of one core.
    fn registers(&mut self) -> Step {
        let config = *self.host.unit().config();
        let toggles = config.en_toggle != EnableToggle::KeepsAndMissesRmpupdate;
        let to = base(self.rng.below(2) as u32);
        let moves = config.base_write == BaseWrite::Clears;
        let moves_disabled = toggles && config.base_write == BaseWrite::Gp;
        let to = if moves || moves_disabled { to } else { base(0) };
        if toggles && (moves_disabled || self.rng.below(2) == 0) {
            self.host.wrmsr_rmpopt_base(WRITTEN, 0).map_err(|stop| format!("disabling: {stop}"))?;
            self.tally.one(Kind::BaseWrite);
        }
        self.host.wrmsr_rmpopt_base(WRITTEN, to).map_err(|stop| format!("enabling: {stop}"))?;
        self.tally.one(Kind::BaseWrite);
        Ok(())
    }

    fn drop_cache(&mut self) {
        self.tally.one(Kind::CacheDrop);
        match self.rng.below(u64::from(REGIONS) + 1) as u32 {
            REGIONS => self.host.unit().drop_all_caches(),
            region => self.host.unit().drop_cache(Region::new(region).unwrap()),
        }
        std::thread::yield_now();
    }
}

/// What each thread does again and again.
type Act = fn(&mut Actor<'_>) -> Step;

const THREADS: [Act; 9] = [
    |actor| actor.small_pages(1),
    |actor| actor.small_pages(2),
    |actor| actor.large_page(3),
    |actor| {
        actor.verify(CoreId(0));
        Ok(())
    },
    |actor| {
        actor.verify(CoreId(1));
        Ok(())
    },
    |actor| {
        actor.verify(WRITTEN);
        Ok(())
    },
    |actor| actor.write(),
    |actor| actor.registers(),
    |actor| {
        actor.drop_cache();
        Ok(())
    },
];

/// Runs all threads for this long, or until one finds a law broken.
pub(crate) fn stress(
    config: UnitConfig,
    time: Duration,
    fault: Option<Fault>,
) -> Result<Tally, String> {
    let host = &machine(config);
    if let Some(fault) = fault {
        host.unit().faults().seed(fault, u32::MAX);
    }
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let (sum, broken) = (Mutex::new(Tally::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for (seed, act) in THREADS.into_iter().enumerate() {
            let (stop, sum, broken) = (&stop, &sum, &broken);
            scope.spawn(move || {
                let mut actor = Actor { host, rng: Rng(seed as u64), tally: Tally::default() };
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed)
                    && (rounds < LEAST_ROUNDS || begun.elapsed() < time)
                {
                    rounds += 1;
                    if let Err(what) = act(&mut actor) {
                        broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
                        stop.store(true, Ordering::Relaxed);
                    }
                    if rounds % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
                sum.lock().unwrap_or_else(PoisonError::into_inner).add(&actor.tally);
            });
        }
    });
    if let Some(what) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(what);
    }
    // All pages were freed at the end of each round.
    for region in (0..REGIONS).filter_map(Region::new) {
        for block in [SMALL_BLOCK, LARGE_BLOCK] {
            let head = page(u64::from(region.get()), block, 0);
            let entry = host.rmp().entry(head).unwrap_or_default();
            ensure(!entry.assigned() && entry.subpage_count() == 0, || {
                format!("{head:?} counts {} pages at the end", entry.subpage_count())
            })?;
        }
        let outcome = host.rmpopt(CoreId(0), region.base().get(), RmpoptFunction::Verify);
        ensure(outcome.is_ok_and(|outcome| outcome.cf), || format!("{region} is not free"))?;
    }
    for asid in 1..16 {
        let left = host.rmp().assigned_to(asid);
        ensure(left == 0, || format!("ASID {asid} has {left} pages at the end"))?;
    }
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}
