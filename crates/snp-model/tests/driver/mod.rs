//! Random operations on a small host, run by the model and by the oracle at once.
//!
//! Everything follows from one seed. A difference is returned with the seed, the operation's number
//! and the last operations.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps, clippy::needless_pass_by_value)]

use std::collections::VecDeque;
use std::fmt::{self, Debug};

use snp_defs::{Gpa, PageSize, Pfn, Region, RmpOperand, RmpoptFunction, Spa, PAGES_PER_REGION};
use snp_model::oracle::{Oracle, Pending};
use snp_model::{
    AccessKind, Accessor, BaseWrite, Begun, CoreId, Coverage, EnableToggle, Fault, GuestAccess,
    GuestCpu, GuestStop, InitLayout, Issuer, OutsideWindow, PfnRange, ScanCache, StdMachine, Stop,
    UnitConfig, Walk,
};

/// Splitmix64.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// How `RMPOPT_BASE` is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BaseWrites {
    /// At any time, anything.
    Wild,
    /// Once per core and `SNP_INIT`, as the project's driver does.
    OncePerInit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) operations: u64,
    pub(crate) segmented: bool,
    pub(crate) config: UnitConfig,
    pub(crate) base_writes: BaseWrites,
    /// Check laws 1 and 2 as well.
    pub(crate) laws: bool,
    /// Differences from the oracle do not count, only breaches of the laws.
    pub(crate) only_laws: bool,
    /// This defect strikes again and again.
    pub(crate) fault: Option<Fault>,
}

/// Every combination of the unit's switches.
pub(crate) fn all_configs() -> Vec<UnitConfig> {
    let mut all = Vec::new();
    for base_write in [BaseWrite::Clears, BaseWrite::KeepsByIndex, BaseWrite::Gp] {
        for en_toggle in
            [EnableToggle::Clears, EnableToggle::Keeps, EnableToggle::KeepsAndMissesRmpupdate]
        {
            for (enabled, negative) in [(true, false), (true, true), (false, false)] {
                let outside_window =
                    if negative { OutsideWindow::Gp } else { OutsideWindow::CarryClear };
                all.push(UnitConfig {
                    segmented: true,
                    base_write,
                    en_toggle,
                    outside_window,
                    scan_cache: ScanCache { enabled, negative },
                });
            }
        }
    }
    all
}

/// What was done, to see that nothing was left out.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) optimised: u64,
    pub(crate) cached: u64,
    pub(crate) raced: u64,
    pub(crate) skipped: u64,
    pub(crate) refused: u64,
    pub(crate) codes: [u64; 8],
    pub(crate) guest_codes: [u64; 8],
    pub(crate) carries: u64,
    pub(crate) guest_allowed: u64,
    pub(crate) guest_vc: u64,
    pub(crate) guest_faults: u64,
    pub(crate) inits: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.optimised += other.optimised;
        self.cached += other.cached;
        self.raced += other.raced;
        self.skipped += other.skipped;
        self.refused += other.refused;
        self.inits += other.inits;
        self.carries += other.carries;
        self.guest_allowed += other.guest_allowed;
        self.guest_vc += other.guest_vc;
        self.guest_faults += other.guest_faults;
        for (sum, code) in self.guest_codes.iter_mut().zip(other.guest_codes) {
            *sum += code;
        }
        for (sum, code) in self.codes.iter_mut().zip(other.codes) {
            *sum += code;
        }
    }
}

pub(crate) struct Difference {
    plan: Plan,
    operation: u64,
    what: String,
    last: Vec<String>,
}

impl Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "operation {} of {:#?}\n{}", self.operation, self.plan, self.what)?;
        writeln!(f, "last operations, the newest at the end:")?;
        self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

const CORES: u32 = 3;
const REGIONS: u32 = 6;

fn pfn(region: u64, page: u64) -> Pfn {
    Pfn::new(region * PAGES_PER_REGION + page).unwrap()
}

fn range(region: u64, page: u64, pages: u64) -> PfnRange {
    PfnRange::new(pfn(region, page), pages)
}

struct Memory {
    dram: Vec<PfnRange>,
    hv_fixed: Vec<PfnRange>,
    rmp: Vec<PfnRange>,
    iommu: Vec<PfnRange>,
}

impl Memory {
    fn layout(&self) -> InitLayout<'_> {
        InitLayout {
            dram: &self.dram,
            hv_fixed: &self.hv_fixed,
            rmp: &self.rmp,
            iommu: &self.iommu,
        }
    }
}

/// Regions 0 to 5: 1 holds the RMP and IOMMU buffers, 3 has no RMP entries, 4 is partly no RAM.
fn memory() -> Memory {
    Memory {
        dram: vec![
            range(0, 0, 3 * PAGES_PER_REGION),
            range(4, 512, 512 * 300 + 100),
            range(5, 0, PAGES_PER_REGION),
        ],
        hv_fixed: vec![range(0, 0xA0, 0x60), range(2, 7 * 512 + 4, 1), range(5, 512 * 511, 512)],
        rmp: vec![range(1, 512 * 3 + 200, 512 * 2 + 55)],
        iommu: vec![range(1, 512 * 100 + 3, 5)],
    }
}

struct Pair {
    plan: Plan,
    rng: Rng,
    machine: StdMachine,
    oracle: Oracle,
    memory: Memory,
    pending: Vec<(Begun, Pending)>,
    written: [bool; CORES as usize],
    logging: bool,
    log: VecDeque<String>,
    tally: Tally,
}

/// Runs the plan. After a difference it runs once more, to write down the last operations.
pub(crate) fn run(plan: &Plan) -> Result<Tally, Box<Difference>> {
    run_logged(plan, false).or_else(|_| run_logged(plan, true))
}

fn run_logged(plan: &Plan, logging: bool) -> Result<Tally, Box<Difference>> {
    let mut pair = Pair::new(plan, logging);
    for operation in 0..plan.operations {
        if let Some(fault) = plan.fault {
            if pair.rng.one_in(50) {
                pair.machine.unit().faults().seed(fault, 1);
            }
        }
        let checked = pair.step().and_then(|()| {
            let last = operation + 1 == plan.operations;
            if last || operation % 512 == 0 {
                pair.compare_all(last)
            } else {
                Ok(())
            }
        });
        if checked.as_ref().is_err_and(|what| plan.only_laws && !what.starts_with("law")) {
            continue;
        }
        checked.map_err(|what| {
            let last = pair.log.iter().cloned().collect();
            Box::new(Difference { plan: *plan, operation, what, last })
        })?;
    }
    Ok(pair.tally)
}

/// Both results if they differ.
fn same<T: PartialEq + Debug>(what: impl Debug, model: T, oracle: T) -> Result<T, String> {
    if model == oracle {
        Ok(model)
    } else {
        Err(format!("{what:?}\n  model:  {model:?}\n  oracle: {oracle:?}"))
    }
}

impl Pair {
    fn new(plan: &Plan, logging: bool) -> Self {
        let (coverage, covered) = if plan.segmented {
            // Segments of 2 GiB; the second covers only 1, the third more than it has room for.
            let coverage = Coverage::segmented(31).unwrap();
            (
                coverage.with_segment(0, 2).with_segment(1, 1).with_segment(2, 7),
                vec![range(0, 0, 3 * PAGES_PER_REGION), range(4, 0, 2 * PAGES_PER_REGION)],
            )
        } else {
            let pages = 2 * PAGES_PER_REGION + 512 * 8;
            (Coverage::contiguous(pages), vec![range(0, 0, pages)])
        };
        let config = UnitConfig { segmented: plan.segmented, ..plan.config };
        let machine = StdMachine::on_heap(CORES, REGIONS, coverage, config);
        let mut pair = Self {
            plan: *plan,
            rng: Rng::new(plan.seed),
            machine,
            oracle: Oracle::new(CORES, REGIONS, covered, config),
            memory: memory(),
            pending: Vec::new(),
            written: [false; CORES as usize],
            logging,
            log: VecDeque::new(),
            tally: Tally::default(),
        };
        pair.reserve();
        pair
    }

    fn reserve(&mut self) {
        for region in 0..u64::from(REGIONS) {
            for block in Self::BLOCKS {
                self.machine.reserve_pages(range(region, block * 512, 512)).unwrap();
            }
        }
    }

    const INDICES: [u64; 8] = [0, 1, 3, 4, 199, 200, 255, 511];
    const BLOCKS: [u64; 7] = [0, 3, 5, 7, 100, 300, 511];

    fn note(&mut self, operation: impl Debug) {
        if !self.logging {
            return;
        }
        if self.log.len() == 24 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{operation:?}"));
    }

    fn core(&mut self) -> CoreId {
        CoreId(self.rng.below(u64::from(CORES)) as u32)
    }

    fn region(&mut self) -> Region {
        Region::new(self.rng.below(u64::from(REGIONS) + 1) as u32).unwrap()
    }

    /// A page out of few, so that operations meet.
    fn page(&mut self) -> Pfn {
        let region = self.rng.pick(&[0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4, 5, 6]);
        let block = self.rng.pick(&Self::BLOCKS);
        let index = self.rng.pick(&Self::INDICES);
        pfn(region, block * 512 + index)
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.below(1000) {
            0..=299 => self.rmpupdate_4k(),
            300..=339 => self.rmpupdate_2m(),
            340..=354 => self.rmpupdate_odd(),
            355..=369 => self.psmash(),
            370..=389 => self.edit(),
            390..=409 => self.guest_instruction(),
            410..=419 => self.free_region(),
            420..=469 => self.rmpread(),
            470..=689 => self.rmpopt(),
            690..=734 => self.begin(),
            735..=784 => self.finish(),
            785..=794 => self.wrmsr(),
            795..=914 => self.access(),
            915..=954 => self.guest_access(),
            955..=974 => self.drop_cache(),
            975..=977 => self.platform(),
            _ => self.repair(),
        }
    }

    /// The hypervisor takes back every page of a region that it can.
    fn free_region(&mut self) -> Result<(), String> {
        let region = self.region();
        for page in self.oracle.assigned_pages(region) {
            // Freed with its head, or the firmware's for good.
            let Some(now) = self.oracle.page(page.get()).filter(|now| now.assigned) else {
                continue;
            };
            if now.lock && region.get() == 1 {
                continue;
            }
            let size = if now.large { PageSize::Size2M } else { PageSize::Size4K };
            self.edit_page(page, 4);
            self.update(Issuer::HOST, page.spa(), &RmpOperand::shared(size))?;
        }
        Ok(())
    }

    fn update(&mut self, issuer: Issuer, spa: Spa, operand: &RmpOperand) -> Result<(), String> {
        let core = self.core();
        self.note(("RMPUPDATE", issuer, core, spa, operand));
        let model = self.machine.rmpupdate_by(issuer, core, spa, operand);
        let oracle = self.oracle.rmpupdate(issuer, core, spa, operand).map_err(Stop::from);
        if let Ok(update) = same("RMPUPDATE", model, oracle)? {
            self.tally.codes[update.status.0 as usize] += 1;
        }
        self.law_1(spa.region())
    }

    fn rmpupdate_4k(&mut self) -> Result<(), String> {
        let page = self.page();
        let operand = if self.rng.one_in(2) {
            RmpOperand::shared(PageSize::Size4K)
        } else {
            let asid = self.rng.pick(&[1, 2, 2, 2, 0, 1023]);
            let gpa = Gpa::new(self.rng.below(3) * 4096).unwrap();
            RmpOperand::private(gpa, PageSize::Size4K, asid, self.rng.0 % 16 == 0)
        };
        self.update(Issuer::HOST, page.spa(), &operand)
    }

    fn rmpupdate_2m(&mut self) -> Result<(), String> {
        let page = self.page();
        let spa = if self.rng.one_in(20) { page } else { page.head() }.spa();
        let operand = if self.rng.one_in(2) {
            RmpOperand::shared(PageSize::Size2M)
        } else {
            let asid = self.rng.pick(&[1, 2, 2, 1023]);
            let gpa = Gpa::new(self.rng.below(3) << 21).unwrap();
            RmpOperand::private(gpa, PageSize::Size2M, asid, self.rng.one_in(16))
        };
        self.update(Issuer::HOST, spa, &operand)
    }

    /// Operands that the host should not write, and guests that should not try.
    fn rmpupdate_odd(&mut self) -> Result<(), String> {
        let spa = self.page().spa();
        let spa = if self.rng.one_in(4) { spa.checked_add(8).unwrap() } else { spa };
        let issuer = Issuer { asid: u32::from(self.rng.one_in(2)) };
        let mut operand = RmpOperand {
            assigned: u8::from(self.rng.one_in(2)),
            page_size: u8::from(self.rng.one_in(4)),
            ..RmpOperand::default()
        };
        match self.rng.below(7) {
            0 => operand.immutable = 1,
            1 => operand.asid = 5,
            2 => operand.asid = 1024,
            3 => operand.gpa = 1 << 51,
            4 => operand.gpa = 512,
            5 => operand.reserved = 1,
            _ => operand.page_size |= 2,
        }
        self.update(issuer, spa, &operand)
    }

    fn psmash(&mut self) -> Result<(), String> {
        let page = self.page();
        let spa = if self.rng.one_in(20) { page } else { page.head() }.spa();
        let (issuer, core) = (Issuer { asid: u32::from(self.rng.one_in(20)) }, self.core());
        self.note(("PSMASH", issuer, core, spa));
        let model = self.machine.psmash_by(issuer, core, spa);
        let oracle = self.oracle.psmash(issuer, core, spa).map_err(Stop::from);
        if let Ok(update) = same("PSMASH", model, oracle)? {
            self.tally.codes[update.status.0 as usize] += 1;
        }
        self.law_1(spa.region())
    }

    fn edit(&mut self) -> Result<(), String> {
        let page = self.page();
        let which = self.rng.below(8);
        self.edit_page(page, which);
        Ok(())
    }

    fn edit_page(&mut self, page: Pfn, which: u64) {
        self.note(("edit", page, which));
        let done = self.machine.edit_entry(page, |entry| match which {
            0 => entry.with_validated(entry.assigned()),
            1 => entry.with_lock(true),
            2 | 3 => entry.with_lock(false),
            4 | 5 => entry.with_immutable(false).with_lock(false),
            6 => entry.with_vmsa(entry.assigned()),
            _ => entry.with_vmsa(false),
        });
        if done == Ok(true) {
            self.oracle.edit(page.get(), |page| match which {
                0 => page.validated = page.assigned,
                1 => page.lock = true,
                2 | 3 => page.lock = false,
                4 | 5 => (page.immutable, page.lock) = (false, false),
                6 => page.vmsa = page.assigned,
                _ => page.vmsa = false,
            });
        }
    }

    fn rmpread(&mut self) -> Result<(), String> {
        let spa = self.page().spa();
        let spa = if self.rng.one_in(30) { spa.checked_add(4).unwrap() } else { spa };
        let core = self.core();
        self.note(("RMPREAD", core, spa));
        let model = self.machine.rmpread(core, spa);
        same("RMPREAD", model, self.oracle.rmpread(core, spa))?.ok();
        let state = self.machine.page_state(spa.pfn());
        same("state", state, self.oracle.page_state(spa.pfn())).map(|_| ())
    }

    fn rax_and_function(&mut self) -> (u64, RmpoptFunction) {
        let rax = match self.rng.below(40) {
            0 => self.rng.next(),
            1 => 2048 << 30,
            _ => self.region().base().get() + self.rng.below(2) * 0x1234,
        };
        let function =
            if self.rng.one_in(4) { RmpoptFunction::Report } else { RmpoptFunction::Verify };
        (rax, function)
    }

    fn rmpopt(&mut self) -> Result<(), String> {
        let ((rax, function), core) = (self.rax_and_function(), self.core());
        self.note(("RMPOPT", core, rax, function));
        let model = self.machine.rmpopt(core, rax, function);
        let oracle =
            self.oracle.begin(core, rax, function).map(|pending| self.oracle.finish(&pending));
        if let Ok(outcome) = same("RMPOPT", model, oracle)? {
            self.tally.optimised += u64::from(outcome.cf);
            self.tally.cached += u64::from(outcome.cached);
        }
        self.law_1_everywhere()
    }

    fn begin(&mut self) -> Result<(), String> {
        let ((rax, function), core) = (self.rax_and_function(), self.core());
        self.note(("RMPOPT begins", core, rax, function));
        let model = self.machine.unit().begin(core, rax, function);
        match (model, self.oracle.begin(core, rax, function)) {
            (Ok(model), Ok(oracle)) => self.pending.push((model, oracle)),
            (Err(model), Err(oracle)) => drop(same("RMPOPT", model, oracle)?),
            (model, oracle) => {
                return Err(format!("RMPOPT begins\n  model: {model:?}\n  oracle: {oracle:?}"))
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (model, oracle) = self.pending.swap_remove(self.rng.0 as usize % self.pending.len());
        self.note(("RMPOPT ends", &model));
        let model = self.machine.unit().finish(model, self.machine.rmp());
        let outcome = same("RMPOPT ends", model, self.oracle.finish(&oracle))?;
        self.tally.raced += u64::from(outcome.raced);
        self.law_1_everywhere()
    }

    fn wrmsr(&mut self) -> Result<(), String> {
        let core = self.core();
        let base = self.rng.pick(&[0, 0, 0, 1, 2, 4, 6, (1 << 22) - 1]);
        let stray = if self.rng.one_in(10) { 1 << self.rng.below(64) } else { 0 };
        let enable = u64::from(!self.rng.one_in(5));
        self.write_base(core, (base << 30) | stray | enable)
    }

    fn write_base(&mut self, core: CoreId, raw: u64) -> Result<(), String> {
        if self.plan.base_writes == BaseWrites::OncePerInit {
            let written = &mut self.written[core.0 as usize];
            let off = !(self.machine.is_initialised() && self.machine.unit().snp_en(core));
            if *written || (off && raw != 0) {
                return Ok(());
            }
            *written = true;
        }
        self.note(("WRMSR", core, raw));
        let model = self.machine.wrmsr_rmpopt_base(core, raw);
        same("WRMSR", model, self.oracle.wrmsr(core, raw))?.ok();
        let read = self.machine.rdmsr_rmpopt_base(core);
        same("RDMSR", read, self.oracle.rdmsr(core))?;
        self.law_1_everywhere()
    }

    fn access(&mut self) -> Result<(), String> {
        let (core, page) = (self.core(), self.page());
        let accessor = self.rng.pick(&[
            Accessor::HostKernel,
            Accessor::HostUser,
            Accessor::Guest,
            Accessor::GuestWalk,
            Accessor::HostWalk,
        ]);
        let kind = match self.rng.below(10) {
            0 => AccessKind::Read,
            1 => AccessKind::Fetch,
            _ => AccessKind::Write,
        };
        let size = self.rng.pick(&[PageSize::Size4K, PageSize::Size2M]);
        self.note(("access", core, accessor, kind, page, size));
        let model = self.machine.check_access(core, accessor, kind, page.spa(), size);
        let oracle = self.oracle.check_access(core, accessor, kind, page.spa(), size);
        self.tally.skipped += u64::from(model.skipped_by_rmpopt);
        if self.plan.laws {
            // Law 2: RMPOPT changes no outcome.
            let (verdict, _) = self.oracle.rmp_verdict(core, accessor, kind, page.spa(), size);
            if model.verdict != verdict {
                return Err(format!("law 2: {:?} for {verdict:?}", model.verdict));
            }
            self.tally.refused += u64::from(verdict != snp_model::Verdict::Allowed);
        }
        same("access", model, oracle).map(|_| ())
    }

    /// A guest's translation, more often right than wrong.
    fn guest(&mut self) -> (GuestCpu, Walk) {
        let mut page = self.page();
        for _ in 0..12 {
            if self.oracle.governing(page.get()).is_some_and(|(entry, _)| entry.asid != 0) {
                break;
            }
            page = self.page();
        }
        let (entry, gpa) = self.oracle.governing(page.get()).unwrap_or_default();
        let mut asid = entry.asid;
        let mut gpa = gpa;
        let mut nested = if entry.large { PageSize::Size2M } else { PageSize::Size4K };
        let mut private = true;
        let vmpl = self.rng.pick(&[0, 0, 0, 1, 2, 3]);
        match self.rng.below(12) {
            0 => asid = self.rng.pick(&[0, 1, 2, 1023]),
            1 => gpa = self.rng.below(3) * 4096,
            2 => nested = self.rng.pick(&[PageSize::Size4K, PageSize::Size2M]),
            3 => private = false,
            _ => {}
        }
        // A guest may map a page anywhere: 2M instructions need a 2M virtual address.
        let gva = if self.rng.one_in(2) { 0 } else { gpa };
        let gpa = Gpa::new(gpa).unwrap();
        (GuestCpu { asid, vmpl }, Walk { gva, gpa, spa: page.spa(), nested, private })
    }

    fn guest_instruction(&mut self) -> Result<(), String> {
        let core = self.core();
        let (cpu, walk) = self.guest();
        let size = match (walk.nested, self.rng.below(10)) {
            (_, 0) => self.rng.below(3),
            (nested, _) => nested.bit(),
        };
        // Now and then a vCPU runs with this page.
        let in_use = self.rng.one_in(25);
        if in_use {
            self.edit_page(walk.spa.pfn(), 1);
        }
        let result = if self.rng.one_in(2) {
            let validate = u64::from(!self.rng.one_in(4));
            self.note(("PVALIDATE", core, cpu, walk, size, validate));
            let model = self.machine.pvalidate(core, cpu, &walk, size, validate);
            same("PVALIDATE", model, self.oracle.pvalidate(core, cpu, &walk, size, validate))?
        } else {
            let rights = self.rng.pick(&[0, 1, 3, 0x1F, 0x1F, 0x20]);
            let rdx = self.rng.below(5) | rights << 8 | self.rng.below(2) << 16;
            self.note(("RMPADJUST", core, cpu, walk, size, rdx));
            let model = self.machine.rmpadjust(core, cpu, &walk, size, rdx);
            same("RMPADJUST", model, self.oracle.rmpadjust(core, cpu, &walk, size, rdx))?
        };
        if in_use {
            self.edit_page(walk.spa.pfn(), 2);
        }
        if let Ok(result) = result {
            self.tally.guest_codes[result.status.0 as usize] += 1;
            self.tally.carries += u64::from(result.carry);
        }
        let state = self.machine.page_state(walk.spa.pfn());
        same("state", state, self.oracle.page_state(walk.spa.pfn())).map(|_| ())
    }

    fn guest_access(&mut self) -> Result<(), String> {
        let core = self.core();
        let (cpu, walk) = self.guest();
        let write = self.rng.one_in(2);
        self.note(("guest", core, cpu, walk, write));
        let access = if write { GuestAccess::Write } else { GuestAccess::Read };
        let model = self.machine.check_guest(core, cpu, access, &walk).verdict;
        let verdict = same("guest", model, self.oracle.guest_data(core, cpu, write, &walk))?;
        match verdict {
            Ok(()) => self.tally.guest_allowed += 1,
            Err(GuestStop::Vc(_)) => self.tally.guest_vc += 1,
            Err(_) => self.tally.guest_faults += 1,
        }
        Ok(())
    }

    fn drop_cache(&mut self) -> Result<(), String> {
        if self.rng.one_in(8) {
            self.note("drop all caches");
            self.machine.unit().drop_all_caches();
            self.oracle.drop_all_caches();
        } else {
            let region = self.region();
            self.note(("drop cache", region));
            self.machine.unit().drop_cache(region);
            self.oracle.drop_cache(region);
        }
        Ok(())
    }

    fn platform(&mut self) -> Result<(), String> {
        match self.rng.below(4) {
            0 => {
                let core = self.core();
                self.note(("reset", core));
                self.machine.reset_core(core);
                self.oracle.reset_core(core);
            }
            1 => {
                let x86 = self.rng.one_in(2);
                if self.plan.base_writes == BaseWrites::OncePerInit {
                    // The driver leaves before SNP does.
                    for core in (0..CORES).map(CoreId) {
                        self.written[core.0 as usize] = false;
                        self.write_base(core, 0)?;
                    }
                }
                self.note(("SHUTDOWN_EX", x86));
                self.machine.snp_shutdown(x86, &self.memory.iommu);
                self.oracle.snp_shutdown(x86, &self.memory.iommu);
            }
            2 => {
                self.note("clear RMP");
                let model = self.machine.clear_rmp().unwrap();
                same("clear RMP", model, self.oracle.clear_rmp())?;
            }
            _ => self.init()?,
        }
        self.law_1_everywhere()
    }

    fn init(&mut self) -> Result<(), String> {
        self.note("SNP_INIT");
        let model = self.machine.snp_init(&self.memory.layout()).is_ok();
        if same("SNP_INIT", model, self.oracle.snp_init(&self.memory.layout()))? {
            self.tally.inits += 1;
            self.written = [false; CORES as usize];
        }
        Ok(())
    }

    /// Back to a host where RMPOPT can work.
    fn repair(&mut self) -> Result<(), String> {
        let core = self.core();
        if !self.machine.unit().snp_en(core) {
            self.note(("SNP_EN", core));
            self.machine.enable_snp_on(core);
            self.oracle.set_snp_en(core, true);
        } else if !self.machine.is_initialised() {
            self.init()?;
        } else if self.machine.rdmsr_rmpopt_base(core) & 1 == 0 {
            self.write_base(core, 1)?;
        }
        Ok(())
    }

    /// Law 1: where a page is assigned, no core's bit is set.
    fn law_1(&self, region: Region) -> Result<(), String> {
        if self.plan.laws && self.oracle.region_has_assigned(region) {
            for core in (0..CORES).map(CoreId) {
                if self.machine.unit().is_optimised(core, region) {
                    return Err(format!("law 1: core {core}, region {region}"));
                }
            }
        }
        Ok(())
    }

    fn law_1_everywhere(&self) -> Result<(), String> {
        if !self.plan.laws {
            return Ok(());
        }
        (0..REGIONS).filter_map(Region::new).try_for_each(|region| self.law_1(region))
    }

    /// All bits and the pages that operations address, or every page of their blocks.
    fn compare_all(&mut self, every: bool) -> Result<(), String> {
        for core in (0..CORES).map(CoreId) {
            for region in (0..=REGIONS).filter_map(Region::new) {
                let model = self.machine.unit().is_optimised(core, region);
                same(("bit", core, region), model, self.oracle.is_optimised(core, region))?;
            }
        }
        for region in 0..u64::from(REGIONS) {
            for block in Self::BLOCKS {
                for index in (0..512).filter(|index| every || Self::INDICES.contains(index)) {
                    let page = pfn(region, block * 512 + index);
                    let model = self.machine.page_state(page);
                    same(("state", page), model, self.oracle.page_state(page))?;
                }
            }
        }
        for asid in [1, 2, 1023] {
            let model = self.machine.rmp().assigned_to(asid);
            same(("ASID counter", asid), model, self.oracle.assigned_to(asid))?;
        }
        Ok(())
    }
}
