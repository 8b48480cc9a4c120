// SPDX-License-Identifier: MIT OR GPL-2.0
//! The emulated host: on a real one it is silicon and firmware. It belongs to the module under test,
//! or to `rmpopt_emu`, where it stays while the module under test goes and comes again.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

use super::ask::{Ask, Request, SeededFault};
use super::laws::Laws;
use super::settings::{self, Found};
use super::storage::{KernelRmp, KernelUnit};
use crate::snp_defs::{
    Gpa, PageSize, Pfn, Region, RmpOperand, RmpoptBase, RmpoptFunction, PAGES_PER_REGION,
};
use crate::snp_model::{
    CoreId, Coverage, Fault, InitLayout, Machine, PfnRange, RegionScan, UnitConfig, UpdateOrder,
};

/// log2 of the bytes of an RMP segment.
const SEGMENT_SHIFT: u32 = 36;

type Silicon = Machine<KernelRmp, KernelUnit>;

/// The emulated host, and what its checks have found.
#[pin_data]
pub(crate) struct Host {
    silicon: KBox<Silicon>,
    regions: u32,
    /// First and last region without RAM.
    hole: Option<(u32, u32)>,
    cores: u16,
    laws: Laws,
    /// RMPOPTs that will raise `#UD`: a seeded fault.
    seeded_ud: AtomicU32,
    /// RMPOPTs that raised an exception nobody seeded: law 4.
    exceptions: AtomicU64,
    /// RMPOPTs run.
    executed: AtomicU64,
    /// Room for pages is made by one at a time.
    #[pin]
    reserving: Mutex<()>,
}

impl Host {
    /// The host that the parameters describe.
    pub(crate) fn new(cores: u16) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            silicon: silicon(settings::gib()?, cores, settings::unit()?)?,
            regions: settings::gib()?,
            hole: settings::hole()?,
            cores,
            laws: Laws::new(),
            seeded_ud: AtomicU32::new(0),
            exceptions: AtomicU64::new(0),
            executed: AtomicU64::new(0),
            reserving <- new_mutex!((), "rmpopt_emu"),
        }? Error)
    }

    /// SNP may be up when the host is found.
    pub(crate) fn bring_up(&self) -> Result {
        let base = match settings::found()? {
            Found::Down => return Ok(()),
            Found::Fresh => RmpoptBase::OFF,
            Found::Left(region) => RmpoptBase::enabled_at(region),
        };
        self.initialise()?;
        self.cores().try_for_each(|core| self.write_base(core, base))
    }

    /// RAM below the hole and above it.
    fn ram(&self) -> [PfnRange; 2] {
        let (first, after) = match self.hole {
            Some((first, last)) => (first.min(self.regions), last.saturating_add(1)),
            None => (self.regions, self.regions),
        };
        let range = |from: u32, to: u32| {
            let pages = |regions: u32| u64::from(regions).saturating_mul(PAGES_PER_REGION);
            let start = Pfn::new(pages(from)).unwrap_or(Region::ZERO.first_pfn());
            PfnRange::new(start, pages(to.saturating_sub(from)))
        };
        [range(0, first), range(after, self.regions)]
    }

    /// SNP_INIT of a host whose RAM is all the hypervisor's.
    fn initialise(&self) -> Result {
        if self.silicon.is_initialised() {
            return Err(EBUSY);
        }
        self.silicon.enable_snp();
        let dram = self.ram();
        let layout = InitLayout { dram: &dram, ..InitLayout::default() };
        self.silicon.snp_init(&layout).map_err(|_| ENOMEM)
    }

    fn shut_down(&self) -> Result {
        if !self.silicon.is_initialised() {
            return Err(ENODEV);
        }
        self.silicon.snp_shutdown(true, &[]);
        Ok(())
    }

    fn run_rmpopt(&self, core: CoreId, region: u32, function: u64) -> Result<bool> {
        self.executed.fetch_add(1, Ordering::SeqCst);
        let left = |left: u32| left.checked_sub(1);
        if self.seeded_ud.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return Err(EFAULT);
        }
        let function = match function {
            0 => RmpoptFunction::Verify,
            _ => RmpoptFunction::Report,
        };
        let address = Region::new(region).ok_or(EINVAL)?.base().get();
        self.silicon.rmpopt(core, address, function).map(|outcome| outcome.cf).map_err(|_| {
            self.exceptions.fetch_add(1, Ordering::SeqCst);
            EFAULT
        })
    }

    fn reserve(&self, first: u64, pages: u64) -> Result {
        let _turn = self.reserving.lock();
        let first = Pfn::new(first).ok_or(EINVAL)?;
        self.silicon.reserve_pages(PfnRange::new(first, pages)).map_err(|_| ENOMEM)
    }

    fn rmpupdate(&self, page: u64, large: bool, asid: u32) -> Result {
        let pfn = Pfn::new(page).ok_or(EINVAL)?;
        let size = if large { PageSize::Size2M } else { PageSize::Size4K };
        let operand = match asid {
            0 => RmpOperand::shared(size),
            _ => {
                let gpa = Gpa::new(pfn.spa().get()).unwrap_or(Gpa::ZERO);
                RmpOperand::private(gpa, size, asid, false)
            }
        };
        let update = self.silicon.rmpupdate(CoreId(0), pfn.spa(), &operand);
        if update.map_err(|_| EFAULT)?.status.is_success() {
            Ok(())
        } else {
            Err(EPERM)
        }
    }

    fn seed(&self, fault: SeededFault, times: u32) {
        let faults = self.silicon.unit().faults();
        match fault {
            SeededFault::DropClear => faults.seed(Fault::DropClear, times),
            SeededFault::StaleCache => faults.seed(Fault::StaleCache, times),
            SeededFault::BlindPublish => faults.seed(Fault::BlindPublish, times),
            SeededFault::UndefinedOpcode => self.seeded_ud.store(times, Ordering::SeqCst),
        }
    }

    /// Law 1 in one region, and law 4.
    fn check(&self, region: Region) {
        let unit = self.silicon.unit();
        let assigned = self.silicon.rmp().scan(region).assigned;
        let optimised = |core: u16| unit.is_optimised(CoreId(u32::from(core)), region);
        self.laws.safety.check(!(assigned && (0..self.cores).any(optimised)));
        self.laws.no_ud.check(self.exceptions.load(Ordering::SeqCst) == 0);
    }

    fn answer(&self, request: Request) -> Result<u64> {
        let core = |core: u16| CoreId(u32::from(core));
        let unit = self.silicon.unit();
        let done = |()| 0;
        Ok(match request {
            Request::Regions => u64::from(self.regions),
            Request::HasRam { region } => {
                let first = Region::new(region).ok_or(EINVAL)?.first_pfn().get();
                let has = |range: PfnRange| range.first.get() <= first && first < range.end();
                u64::from(self.ram().into_iter().any(has))
            }
            Request::Cores => u64::from(self.cores),
            Request::Rmpopt { core: of, region, function } => {
                u64::from(self.run_rmpopt(core(of), region, function)?)
            }
            Request::WriteBase { core: of, base } => {
                self.silicon.wrmsr_rmpopt_base(core(of), base).map(done).map_err(|_| EFAULT)?
            }
            Request::ReadBase { core: of } => self.silicon.rdmsr_rmpopt_base(core(of)),
            Request::SnpEn { core: of } => u64::from(unit.snp_en(core(of))),
            Request::IsUp => u64::from(self.silicon.is_initialised()),
            Request::Init => self.initialise().map(done)?,
            Request::Shutdown => self.shut_down().map(done)?,
            Request::Reset { core: of } => {
                self.silicon.reset_core(core(of));
                0
            }
            Request::Reserve { first, pages } => self.reserve(first, pages).map(done)?,
            Request::Update { page, large, asid } => self.rmpupdate(page, large, asid).map(done)?,
            Request::IsOptimised { core: of, region } => {
                let region = Region::new(region).ok_or(EINVAL)?;
                u64::from(unit.is_optimised(core(of), region))
            }
            Request::Executed => self.executed.load(Ordering::SeqCst),
            Request::Seed { fault, times } => {
                self.seed(fault, times);
                0
            }
            Request::CheckRegion { region } => {
                self.check(Region::new(region).ok_or(EINVAL)?);
                0
            }
            Request::CheckAll => {
                (0..self.regions).filter_map(Region::new).for_each(|region| self.check(region));
                0
            }
            Request::NoteStop { holds } => {
                self.laws.clean_exit.check(holds);
                0
            }
            Request::Law { number, breaches } => self.laws.count(number, breaches).ok_or(EINVAL)?,
        })
    }
}

impl Ask for Host {
    fn ask(&self, request: Request) -> i64 {
        match self.answer(request) {
            Ok(answer) => i64::try_from(answer).unwrap_or(i64::MAX),
            Err(error) => i64::from(error.to_errno()),
        }
    }
}

/// A host after reset. On its own, so that it passes over the stack of no one else.
#[inline(never)]
fn silicon(gib: u32, cores: u16, config: UnitConfig) -> Result<KBox<Silicon>> {
    let coverage = Coverage::segmented(SEGMENT_SHIFT).ok_or(EINVAL)?.with_regions(gib);
    let place = KBox::new_uninit(GFP_KERNEL)?;
    let (rmp, unit) = (KernelRmp::new(gib)?, KernelUnit::new(gib, cores)?);
    let machine = Machine::new(rmp, coverage, unit, config, UpdateOrder::default());
    Ok(KBox::write(place, machine))
}
