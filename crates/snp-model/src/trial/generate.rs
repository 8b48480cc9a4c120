//! Random operations from a seed, chosen so that they meet.

mod firmware;

use ::snp_defs::{Gpa, PageSize, Pfn, Region, RmpOperand, RmpoptFunction, Spa};

use super::plan::{pfn, CORES, REGIONS};
use super::{Difference, Edit, Effect, Guest, Operation, Plan, Script, Trial};
use crate::snp_model::{AccessKind, Accessor, CoreId, GuestAccess, GuestCpu, Issuer, Walk};

/// Splitmix64.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// How `RMPOPT_BASE` is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BaseWrites {
    /// At any time, anything.
    Wild,
    /// Once per core and `SNP_INIT`, as the project's driver does.
    OncePerInit,
}

/// What a run of random operations is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Random {
    /// Where every choice starts.
    pub seed: u64,
    /// How many operations.
    pub operations: u64,
    /// The host's switches.
    pub plan: Plan,
    /// How the base is written.
    pub base_writes: BaseWrites,
    /// SNP comes and goes through the firmware, and its commands are used.
    pub firmware: bool,
    /// Differences from the oracle do not count, only breaches of laws.
    pub only_laws: bool,
}

impl Random {
    /// Run number `number` of an endless row: its seed is its number, its switches of RMPOPT are those
    /// of its place in [`Plan::all_units`], the others are drawn.
    #[must_use]
    pub fn numbered(number: u64, operations: u64) -> Self {
        let mut rng = Rng(!number);
        let mut plan = Plan::default();
        plan.draw(|values| rng.below(values as u64) as usize);
        let units = Plan::all_units();
        plan.unit = units[(number % units.len() as u64) as usize];
        let once = rng.one_in(2);
        plan.laws = once || plan.is_safe();
        plan.unit.segmented = !rng.one_in(50);
        let base_writes = if once { BaseWrites::OncePerInit } else { BaseWrites::Wild };
        let firmware = rng.one_in(2);
        Self { seed: number, operations, plan, base_writes, firmware, only_laws: false }
    }
}

/// A difference, and all that led to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The operations up to the one that showed it.
    pub script: Script,
    /// Where model and oracle part.
    pub difference: Difference,
}

/// Operations after which everything is compared, beside what each touched.
const COMPARE_EVERY: usize = 4096;

/// Runs random operations to their end or their first difference. `see` is told what each did.
pub fn random(random: &Random, mut see: impl FnMut(&Operation, Effect)) -> Result<(), Box<Found>> {
    let mut generator = Generator::new(random);
    let mut done = Vec::with_capacity(random.operations as usize);
    let mut next = Vec::new();
    let limit = random.operations as usize;
    while done.len() < limit {
        generator.choose(&mut next);
        next.truncate(limit - done.len());
        for operation in next.drain(..) {
            let result = generator.trial.run(&operation);
            done.push(operation);
            let result = result.and_then(|effect| {
                see(&operation, effect);
                if done.len() % COMPARE_EVERY == 0 || done.len() == limit {
                    generator.trial.compare_all()
                } else {
                    Ok(())
                }
            });
            let result = match result {
                // Model and oracle have parted; the laws go on holding.
                Err(difference) if random.only_laws && !difference.is_of_law() => {
                    generator.trial.law_1_everywhere()
                }
                result => result,
            };
            if let Err(difference) = result {
                let script = Script { plan: random.plan, operations: done };
                return Err(Box::new(Found { script, difference }));
            }
        }
    }
    Ok(())
}

struct Generator {
    rng: Rng,
    trial: Trial,
    base_writes: BaseWrites,
    firmware: bool,
    /// Cores whose base was written since `SNP_INIT`.
    written: [bool; CORES as usize],
    next_id: u64,
}

const INDICES: [u64; 8] = [0, 1, 3, 4, 199, 200, 255, 511];
const BLOCKS: [u64; 7] = [0, 3, 5, 7, 100, 300, 511];

impl Generator {
    fn new(random: &Random) -> Self {
        Self {
            rng: Rng(random.seed),
            trial: Trial::new(&random.plan),
            base_writes: random.base_writes,
            firmware: random.firmware,
            written: [false; CORES as usize],
            next_id: 0,
        }
    }

    fn core(&mut self) -> CoreId {
        CoreId(self.rng.below(u64::from(CORES)) as u32)
    }

    fn region(&mut self) -> Region {
        Region::new(self.rng.below(u64::from(REGIONS) + 1) as u32).unwrap_or_default()
    }

    /// A page out of few, so that operations meet.
    fn page(&mut self) -> Pfn {
        let region = self.rng.pick(&[0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4, 5, 6]);
        let (block, index) = (self.rng.pick(&BLOCKS), self.rng.pick(&INDICES));
        pfn(region, block * 512 + index)
    }

    /// A page, or now and then what is no page's address.
    fn unaligned(&mut self, one_in: u64, by: u64) -> Spa {
        let spa = self.page().spa();
        if self.rng.one_in(one_in) {
            spa.checked_add(by).unwrap_or(spa)
        } else {
            spa
        }
    }

    /// The next operations; several where one alone would do little.
    fn choose(&mut self, next: &mut Vec<Operation>) {
        let operation = match self.rng.below(1000) {
            240..=259 => return self.vmrun(next),
            260..=299 if self.firmware => return self.command(next),
            0..=299 => self.update_4k(),
            300..=339 => self.update_2m(),
            340..=354 => self.update_odd(),
            355..=369 => self.psmash(),
            370..=389 => Operation::Edit { spa: self.page().spa(), edit: self.edit() },
            390..=414 => return self.guest_instruction(next),
            415..=419 => return self.free_region(next),
            420..=469 => Operation::Rmpread { core: self.core(), spa: self.unaligned(30, 4) },
            470..=689 => {
                let (rax, function) = self.rax_and_function();
                Operation::Rmpopt { core: self.core(), rax, function }
            }
            690..=734 => {
                let (rax, function) = self.rax_and_function();
                self.next_id += 1;
                Operation::Begin { id: self.next_id, core: self.core(), rax, function }
            }
            735..=784 => {
                let under_way: Vec<u64> = self.trial.under_way().collect();
                match under_way.as_slice() {
                    [] => return,
                    ids => Operation::Finish { id: self.rng.pick(ids) },
                }
            }
            785..=794 => {
                let core = self.core();
                let base = self.rng.pick(&[0, 0, 0, 1, 2, 4, 6, (1 << 22) - 1]);
                let stray = if self.rng.one_in(10) { 1 << self.rng.below(64) } else { 0 };
                let enable = u64::from(!self.rng.one_in(5));
                return next.extend(self.write_base(core, (base << 30) | stray | enable));
            }
            795..=904 => self.access(),
            905..=914 => Operation::DeviceWrite { spa: self.page().spa() },
            915..=954 => {
                let (core, guest) = (self.core(), self.guest());
                Operation::GuestAccess { core, guest, access: self.guest_access() }
            }
            955..=974 if self.rng.one_in(8) => Operation::DropCaches,
            955..=974 => Operation::DropCache { region: self.region() },
            975..=977 => return self.platform(next),
            _ => return next.extend(self.repair()),
        };
        next.push(operation);
    }

    fn update(&mut self, spa: Spa, operand: RmpOperand) -> Operation {
        Operation::Rmpupdate { core: self.core(), by: Issuer::HOST, spa, operand }
    }

    fn update_4k(&mut self) -> Operation {
        let page = self.page();
        let operand = if self.rng.one_in(2) {
            RmpOperand::shared(PageSize::Size4K)
        } else {
            let asid = self.rng.pick(&[1, 2, 2, 2, 0, 1023]);
            let gpa = Gpa::new(self.rng.below(3) * 4096).unwrap_or(Gpa::ZERO);
            RmpOperand::private(gpa, PageSize::Size4K, asid, self.rng.one_in(16))
        };
        self.update(page.spa(), operand)
    }

    fn update_2m(&mut self) -> Operation {
        let page = self.page();
        let spa = if self.rng.one_in(20) { page } else { page.head() }.spa();
        let operand = if self.rng.one_in(2) {
            RmpOperand::shared(PageSize::Size2M)
        } else {
            let asid = self.rng.pick(&[1, 2, 2, 1023]);
            // The last block below 2^51: guest addresses that a split must not carry over.
            let block = self.rng.pick(&[0, 1, 2, (1 << 30) - 1]);
            let gpa = Gpa::new(block << 21).unwrap_or(Gpa::ZERO);
            RmpOperand::private(gpa, PageSize::Size2M, asid, self.rng.one_in(16))
        };
        self.update(spa, operand)
    }

    /// Operands that the host should not write, and guests that should not try.
    fn update_odd(&mut self) -> Operation {
        let spa = self.unaligned(4, 8);
        let by = Issuer { asid: u32::from(self.rng.one_in(2)) };
        let mut operand = RmpOperand {
            assigned: u8::from(self.rng.one_in(2)),
            page_size: u8::from(self.rng.one_in(4)),
            ..RmpOperand::default()
        };
        match self.rng.below(8) {
            0 => operand.immutable = 1,
            1 => operand.asid = 5,
            2 => operand.asid = 1024,
            3 => operand.gpa = 1 << 51,
            4 => operand.gpa = 512,
            5 => operand.reserved = 1,
            // What a metadata page has.
            6 => (operand.assigned, operand.immutable, operand.gpa) = (1, 1, 1 << 48 | 0x7000),
            _ => operand.page_size |= 2,
        }
        Operation::Rmpupdate { core: self.core(), by, spa, operand }
    }

    fn psmash(&mut self) -> Operation {
        let page = self.page();
        let spa = if self.rng.one_in(20) { page } else { page.head() }.spa();
        let by = Issuer { asid: u32::from(self.rng.one_in(20)) };
        Operation::Psmash { core: self.core(), by, spa }
    }

    fn edit(&mut self) -> Edit {
        self.rng.pick(&[
            Edit::Validate,
            Edit::Lock,
            Edit::Unlock,
            Edit::Unlock,
            Edit::Release,
            Edit::Release,
            Edit::Vmsa,
            Edit::NoVmsa,
        ])
    }

    /// The hypervisor takes back every page of a region that it can.
    fn free_region(&mut self, next: &mut Vec<Operation>) {
        let region = self.region();
        let mut inside = None;
        for page in self.trial.oracle().assigned_pages(region) {
            // Freed with its head, or the firmware's for good.
            let Some(now) = self.trial.oracle().page(page.get()) else { continue };
            if inside == Some(page.head()) || (now.lock && region.get() == 1) {
                continue;
            }
            inside = now.large.then_some(page);
            let size = if now.large { PageSize::Size2M } else { PageSize::Size4K };
            if now.lock || now.immutable {
                next.push(Operation::Edit { spa: page.spa(), edit: Edit::Release });
            }
            next.push(self.update(page.spa(), RmpOperand::shared(size)));
        }
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

    fn write_base(&mut self, core: CoreId, value: u64) -> Option<Operation> {
        if self.base_writes == BaseWrites::OncePerInit {
            let machine = self.trial.machine();
            let off = !(machine.is_initialised() && machine.unit().snp_en(core));
            let written = &mut self.written[core.0 as usize];
            if *written || (off && value != 0) {
                return None;
            }
            *written = true;
        }
        Some(Operation::WriteBase { core, value })
    }

    fn access(&mut self) -> Operation {
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
        Operation::Access { core: self.core(), accessor, kind, spa: self.page().spa(), size }
    }

    fn guest_access(&mut self) -> GuestAccess {
        self.rng.pick(&[
            GuestAccess::Read,
            GuestAccess::Read,
            GuestAccess::Write,
            GuestAccess::Write,
            GuestAccess::ShadowStack,
            GuestAccess::Fetch { user: true },
            GuestAccess::Fetch { user: false },
            GuestAccess::TableWalk { update: true },
            GuestAccess::TableWalk { update: false },
        ])
    }

    /// A guest's translation, more often right than wrong.
    fn guest(&mut self) -> Guest {
        let mut page = self.page();
        for _ in 0..12 {
            let governing = self.trial.oracle().governing(page.get());
            if governing.is_some_and(|(entry, _)| entry.asid != 0) {
                break;
            }
            page = self.page();
        }
        let (entry, gpa) = self.trial.oracle().governing(page.get()).unwrap_or_default();
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
        let gpa = Gpa::new(gpa).unwrap_or(Gpa::ZERO);
        Guest {
            cpu: GuestCpu { asid, vmpl },
            walk: Walk { gva, gpa, spa: page.spa(), nested, private },
        }
    }

    fn guest_instruction(&mut self, next: &mut Vec<Operation>) {
        let (core, guest) = (self.core(), self.guest());
        let size = match (guest.walk.nested, self.rng.below(10)) {
            (_, 0) => self.rng.below(3),
            (nested, _) => nested.bit(),
        };
        let spa = guest.walk.spa;
        // Now and then a vCPU runs with this page.
        let in_use = self.rng.one_in(25);
        if in_use {
            next.push(Operation::Edit { spa, edit: Edit::Lock });
        }
        next.push(match self.rng.below(5) {
            0 | 1 => {
                let validate = u64::from(!self.rng.one_in(4));
                Operation::Pvalidate { core, guest, size, validate }
            }
            2 | 3 => {
                let rights = self.rng.pick(&[0, 1, 2, 3, 7, 0x1F, 0x1F, 0x20]);
                let rdx = self.rng.below(5) | rights << 8 | self.rng.below(2) << 16;
                Operation::Rmpadjust { core, guest, size, rdx }
            }
            _ => Operation::Rmpquery { core, guest, target: self.rng.below(5) },
        });
        if in_use {
            next.push(Operation::Edit { spa, edit: Edit::Unlock });
        }
    }

    fn platform(&mut self, next: &mut Vec<Operation>) {
        match self.rng.below(4) {
            0 => next.push(Operation::Reset { core: self.core() }),
            1 => {
                if self.base_writes == BaseWrites::OncePerInit {
                    // The driver leaves before SNP does.
                    for core in (0..CORES).map(CoreId) {
                        self.written[core.0 as usize] = false;
                        next.extend(self.write_base(core, 0));
                    }
                }
                if self.firmware {
                    self.shutdown_ex(next);
                } else {
                    next.push(Operation::SnpShutdown { x86: self.rng.one_in(2) });
                }
            }
            2 => next.push(Operation::ClearRmp),
            _ => next.push(self.init()),
        }
    }

    fn init(&mut self) -> Operation {
        let machine = self.trial.machine();
        let works = !machine.is_initialised()
            && (0..CORES).map(CoreId).all(|core| machine.unit().snp_en(core));
        if works {
            self.written = [false; CORES as usize];
        }
        if self.firmware {
            Operation::Firmware(self.init_ex())
        } else {
            Operation::SnpInit
        }
    }

    /// Back to a host where RMPOPT can work.
    fn repair(&mut self) -> Option<Operation> {
        let core = self.core();
        let machine = self.trial.machine();
        if !machine.unit().snp_en(core) {
            Some(Operation::EnableSnp { core })
        } else if !machine.is_initialised() {
            Some(self.init())
        } else if machine.rdmsr_rmpopt_base(core) & 1 == 0 {
            self.write_base(core, 1)
        } else {
            None
        }
    }
}
