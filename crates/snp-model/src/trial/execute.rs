//! Runs operations on the model and on the oracle at once.

use core::fmt::Debug;

use ::snp_defs::{PageState, Pfn, Region, Spa, Syscfg, VmHsavePa};

use super::command::{last_of_block, small_firmware, SmallFirmware, FIRMWARE_ASIDS};
use super::plan::{pfn, Memory, CORES, REGIONS};
use super::{Command, Edit, Effect, Guest, Operation, Plan, Script};
use crate::oracle::{Oracle, Page, Pending};
use crate::snp_model::{
    Begun, CoreId, Errata, FirmwareStorage, PfnRange, Running, SaveArea, Stop, Verdict, VmrunPages,
};
use crate::{HeapStorage, HeapUnitStorage, StdMachine};

/// Where model and oracle part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What was compared: a keyword, and what of it. Shrinking keeps this.
    pub what: String,
    /// The model's.
    pub model: String,
    /// The oracle's, or what the law says.
    pub oracle: String,
}

impl Difference {
    /// A law was broken (whatever the oracle says).
    #[must_use]
    pub fn is_of_law(&self) -> bool {
        self.what.starts_with("law")
    }
}

/// A pair of hosts, model and oracle.
#[derive(Debug)]
pub struct Trial {
    plan: Plan,
    machine: StdMachine,
    firmware: SmallFirmware,
    oracle: Oracle,
    memory: Memory,
    pending: Vec<(u64, Begun, Pending)>,
    /// Guests that run, and the pages that the oracle has in use for them.
    running: Vec<(u64, Running, Vec<u64>)>,
    /// Blocks in which the model has memory for entries.
    reserved: Vec<bool>,
}

/// What a command of the firmware works on.
pub(super) struct Hosts<'a> {
    pub(super) machine: &'a StdMachine,
    pub(super) firmware: &'a SmallFirmware,
    pub(super) oracle: &'a mut Oracle,
    pub(super) memory: &'a Memory,
}

/// Both values if they differ, named by the operation's keyword and what of it was compared.
fn same<T: PartialEq + Debug>(
    keyword: &str,
    part: &str,
    model: T,
    oracle: &T,
) -> Result<T, Difference> {
    if model == *oracle {
        return Ok(model);
    }
    Err(Difference {
        what: format!("{keyword}: {part}"),
        model: format!("{model:?}"),
        oracle: format!("{oracle:?}"),
    })
}

impl Trial {
    /// Two hosts after reset.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let (coverage, covered) = plan.coverage();
        let (rmp, unit) = (HeapStorage::new(REGIONS), HeapUnitStorage::new(CORES, REGIONS));
        let machine = StdMachine::new(rmp, coverage, unit, plan.unit, plan.order);
        let machine = machine.with_choices(plan.choices);
        if let Some(fault) = plan.fault {
            machine.unit().faults().seed(fault, u32::MAX);
        }
        Self {
            plan: *plan,
            machine,
            firmware: small_firmware(plan.firmware),
            oracle: Oracle::new(CORES, REGIONS, covered, plan.unit, plan.choices, plan.order)
                .with_firmware(FIRMWARE_ASIDS, plan.firmware),
            memory: Memory::new(),
            pending: Vec::new(),
            running: Vec::new(),
            reserved: vec![false; REGIONS as usize * 512],
        }
    }

    /// Runs a script to its end or its first difference, whose operation's number (from 0) comes with
    /// it. `see` is told what each operation did.
    pub fn replay(
        script: &Script,
        mut see: impl FnMut(usize, &Operation, Effect),
    ) -> Result<(), (usize, Difference)> {
        let mut trial = Self::new(&script.plan);
        for (number, operation) in script.operations.iter().enumerate() {
            let effect = trial.run(operation).map_err(|difference| (number, difference))?;
            see(number, operation, effect);
        }
        let last = script.operations.len().saturating_sub(1);
        trial.compare_all().map_err(|difference| (last, difference))
    }

    /// The oracle, to choose what to do next.
    pub(super) const fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// The model.
    pub(super) const fn machine(&self) -> &StdMachine {
        &self.machine
    }

    /// Numbers of the RMPOPTs between their halves.
    pub(super) fn under_way(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(|(id, ..)| *id)
    }

    /// The model never allocates in an instruction.
    fn reserve(&mut self, spa: Spa) {
        let block = (spa.pfn().get() / 512) as usize;
        if self.reserved.get(block) == Some(&false) {
            self.reserved[block] = true;
            // On the heap there is memory, or the process ends.
            let _ = self.machine.reserve_pages(PfnRange::new(spa.pfn(), 1));
        }
    }

    /// Runs one operation and compares all that it may have touched.
    pub fn run(&mut self, operation: &Operation) -> Result<Effect, Difference> {
        match *operation {
            Operation::Rmpupdate { core, by, spa, operand } => {
                self.reserve(spa);
                let model = self.machine.rmpupdate_by(by, core, spa, &operand);
                let oracle = self.oracle.rmpupdate(by, core, spa, &operand).map_err(Stop::from);
                let update = same("rmpupdate", "result", model, &oracle)?;
                self.compare_page("rmpupdate", spa)?;
                self.compare_bits("rmpupdate", spa.region())?;
                self.law_1(spa.region())?;
                Ok(Effect::Update(update))
            }
            Operation::RmpupdateRange { core, spa, count, operand } => {
                let bytes = operand.size().bytes();
                let pages = (0..count).filter_map(|index| spa.checked_add(index * bytes));
                pages.clone().for_each(|page| self.reserve(page));
                let model = self.machine.rmpupdate_range(core, spa, count, &operand);
                let oracle = self.oracle.rmpupdate_range(core, spa, count, &operand);
                let sum = same("rmpupdate-range", "result", model, &oracle.map_err(Stop::from))?;
                for page in [Some(spa), pages.into_iter().next_back()].into_iter().flatten() {
                    self.compare_page("rmpupdate-range", page)?;
                    self.compare_bits("rmpupdate-range", page.region())?;
                    self.law_1(page.region())?;
                }
                Ok(Effect::Range(sum))
            }
            Operation::Psmash { core, by, spa } => {
                self.reserve(spa);
                let model = self.machine.psmash_by(by, core, spa);
                let oracle = self.oracle.psmash(by, core, spa).map_err(Stop::from);
                let update = same("psmash", "result", model, &oracle)?;
                self.compare_page("psmash", spa)?;
                self.compare_page("psmash", other_page(spa))?;
                self.compare_bits("psmash", spa.region())?;
                self.law_1(spa.region())?;
                Ok(Effect::Update(update))
            }
            Operation::Rmpread { core, spa } => {
                let model = self.machine.rmpread(core, spa);
                same("rmpread", "result", model, &self.oracle.rmpread(core, spa)).map(Effect::Read)
            }
            Operation::Rmpopt { core, rax, function } => {
                let model = self.machine.rmpopt(core, rax, function);
                let begun = self.oracle.begin(core, rax, function);
                let oracle = begun.map(|pending| self.oracle.finish(&pending));
                let outcome = same("rmpopt", "result", model, &oracle)?;
                self.after_rmpopt("rmpopt", rax)?;
                Ok(Effect::Rmpopt(outcome))
            }
            Operation::Begin { id, core, rax, function } => {
                let model = self.machine.unit().begin(core, rax, function);
                let oracle = self.oracle.begin(core, rax, function);
                let (results, begun) = match (model, oracle) {
                    (Ok(model), Ok(oracle)) => ((Ok(()), Ok(())), Some((model, oracle))),
                    (model, oracle) => ((model.map(drop), oracle.map(drop)), None),
                };
                let result = same("begin", "result", results.0, &results.1)?;
                self.pending.retain(|(known, ..)| *known != id);
                self.pending.extend(begun.map(|(model, oracle)| (id, model, oracle)));
                Ok(Effect::Begun(result))
            }
            Operation::Finish { id } => {
                let at = self.pending.iter().position(|(known, ..)| *known == id);
                let Some(at) = at else { return Ok(Effect::Nothing) };
                let (_, model, oracle) = self.pending.swap_remove(at);
                let region = model.region();
                let model = self.machine.unit().finish(model, self.machine.rmp());
                let outcome = same("finish", "result", model, &self.oracle.finish(&oracle))?;
                if let Some(region) = region {
                    self.after_rmpopt("finish", region.base().get())?;
                }
                Ok(Effect::Finished(outcome))
            }
            Operation::WriteBase { core, value } => {
                let model = self.machine.wrmsr_rmpopt_base(core, value);
                let written = same("write-base", "result", model, &self.oracle.wrmsr(core, value))?;
                let read = self.machine.rdmsr_rmpopt_base(core);
                same("write-base", "register", read, &self.oracle.rdmsr(core))?;
                self.compare_all_bits("write-base")?;
                self.law_1_everywhere()?;
                Ok(Effect::Written(written))
            }
            Operation::Access { .. } => self.access(operation),
            Operation::DeviceWrite { spa } => {
                let model = self.machine.check_device_write(spa);
                same("device-write", "result", model, &self.oracle.device_write(spa))
                    .map(Effect::Device)
            }
            Operation::Pvalidate { .. }
            | Operation::Rmpadjust { .. }
            | Operation::Rmpquery { .. }
            | Operation::GuestAccess { .. } => self.guest(operation),
            Operation::Vmrun { .. } | Operation::Vmexit { .. } => self.vmrun(operation),
            Operation::Firmware(command) => self.command(command),
            Operation::Edit { spa, edit } => self.edit(spa, edit),
            _ => self.platform(operation),
        }
    }

    fn access(&self, operation: &Operation) -> Result<Effect, Difference> {
        let Operation::Access { core, accessor, kind, spa, size } = *operation else {
            return Ok(Effect::Nothing);
        };
        let model = self.machine.check_access(core, accessor, kind, spa, size);
        // Law 2: RMPOPT changes no outcome, but that an erratum may not strike.
        if self.plan.laws && self.plan.choices.errata == Errata::default() {
            let (verdict, _) = self.oracle.rmp_verdict(core, accessor, kind, spa, size);
            same::<Verdict>("law 2", "outcome", model.verdict, &verdict)?;
        }
        let oracle = self.oracle.check_access(core, accessor, kind, spa, size);
        same("access", "result", model, &oracle).map(Effect::Access)
    }

    fn guest(&mut self, operation: &Operation) -> Result<Effect, Difference> {
        let (effect, spa) = match *operation {
            Operation::Pvalidate { core, guest: Guest { cpu, walk }, size, validate } => {
                self.reserve(walk.spa);
                let model = self.machine.pvalidate(core, cpu, &walk, size, validate);
                let oracle = self.oracle.pvalidate(core, cpu, &walk, size, validate);
                (Effect::Guest(same("pvalidate", "result", model, &oracle)?), walk.spa)
            }
            Operation::Rmpadjust { core, guest: Guest { cpu, walk }, size, rdx } => {
                self.reserve(walk.spa);
                let model = self.machine.rmpadjust(core, cpu, &walk, size, rdx);
                let oracle = self.oracle.rmpadjust(core, cpu, &walk, size, rdx);
                (Effect::Guest(same("rmpadjust", "result", model, &oracle)?), walk.spa)
            }
            Operation::Rmpquery { core, guest: Guest { cpu, walk }, target } => {
                let model = self.machine.rmpquery(core, cpu, &walk, target);
                let oracle = self.oracle.rmpquery(core, cpu, &walk, target);
                (Effect::Query(same("rmpquery", "result", model, &oracle)?), walk.spa)
            }
            Operation::GuestAccess { core, guest: Guest { cpu, walk }, access } => {
                let model = self.machine.check_guest(core, cpu, access, &walk);
                let oracle = self.oracle.check_guest(core, cpu, access, &walk);
                return same("guest", "result", model, &oracle).map(Effect::GuestAccess);
            }
            _ => return Ok(Effect::Nothing),
        };
        self.compare_page(operation.keyword(), spa)?;
        Ok(effect)
    }

    fn vmrun(&mut self, operation: &Operation) -> Result<Effect, Difference> {
        match *operation {
            Operation::Vmrun { id, core, hsave, vmcb, avic, save } => {
                self.vmexit(id);
                let own = match save {
                    SaveArea::InVmcb => None,
                    SaveArea::Encrypted(page) | SaveArea::Snp { vmsa: page, .. } => Some(page),
                };
                let used = [Some(vmcb), avic, own];
                used.iter().flatten().for_each(|page| self.reserve(*page));
                let pages = VmrunPages { hsave: VmHsavePa(hsave), vmcb, avic, save_area: save };
                let model = self.machine.vmrun(core, &pages);
                let oracle = self.oracle.vmrun(core, &pages);
                let (running, model) = match model {
                    Ok(running) => (Some(running), Ok(())),
                    Err(stop) => (None, Err(stop)),
                };
                let (in_use, oracle) = match oracle {
                    Ok(in_use) => (Some(in_use), Ok(())),
                    Err(stop) => (None, Err(stop)),
                };
                let result = same("vmrun", "result", model, &oracle)?;
                let both = running.zip(in_use);
                self.running.extend(both.map(|(running, in_use)| (id, running, in_use)));
                for page in used.into_iter().flatten() {
                    self.compare_page("vmrun", page)?;
                }
                Ok(Effect::Vmrun(result))
            }
            Operation::Vmexit { id } => {
                self.vmexit(id);
                Ok(Effect::Nothing)
            }
            _ => Ok(Effect::Nothing),
        }
    }

    fn vmexit(&mut self, id: u64) {
        if let Some(at) = self.running.iter().position(|(known, ..)| *known == id) {
            let (_, model, oracle) = self.running.swap_remove(at);
            self.machine.vmexit(model);
            self.oracle.vmexit(&oracle);
        }
    }

    fn command(&mut self, command: Command) -> Result<Effect, Difference> {
        let keyword = command.keyword();
        command.pages().for_each(|page| self.reserve(page));
        let (machine, firmware) = (&self.machine, &self.firmware);
        let (oracle, memory) = (&mut self.oracle, &self.memory);
        let answers = command.run(&mut Hosts { machine, firmware, oracle, memory });
        let Some((model, oracle)) = answers else { return Ok(Effect::Nothing) };
        let answer = same(keyword, "result", model, &oracle)?;
        for page in command.pages() {
            self.compare_page(keyword, page)?;
            self.compare_page(keyword, last_of_block(page))?;
            self.compare_bits(keyword, page.region())?;
            self.law_1(page.region())?;
        }
        if matches!(command, Command::SnpInitEx { .. } | Command::SnpShutdownEx { .. }) {
            self.compare_all_bits(keyword)?;
            self.law_1_everywhere()?;
        }
        Ok(Effect::Answer(answer))
    }

    fn edit(&mut self, spa: Spa, edit: Edit) -> Result<Effect, Difference> {
        self.reserve(spa);
        let done = self.machine.edit_entry(spa.pfn(), |entry| match edit {
            Edit::Validate => entry.with_validated(entry.assigned()),
            Edit::Lock => entry.with_lock(true),
            Edit::Unlock => entry.with_lock(false),
            Edit::Release => entry.with_immutable(false).with_lock(false),
            Edit::Vmsa => entry.with_vmsa(entry.assigned()),
            Edit::NoVmsa => entry.with_vmsa(false),
        });
        let done = done == Ok(true);
        if done {
            self.oracle.edit(spa.pfn().get(), |page| match edit {
                Edit::Validate => page.validated = page.assigned,
                Edit::Lock => page.lock = true,
                Edit::Unlock => page.lock = false,
                Edit::Release => (page.immutable, page.lock) = (false, false),
                Edit::Vmsa => page.vmsa = page.assigned,
                Edit::NoVmsa => page.vmsa = false,
            });
        }
        self.compare_page("edit", spa)?;
        Ok(Effect::Done(done))
    }

    fn platform(&mut self, operation: &Operation) -> Result<Effect, Difference> {
        let keyword = operation.keyword();
        let effect = match *operation {
            Operation::DropCache { region } => {
                self.machine.unit().drop_cache(region);
                self.oracle.drop_cache(region);
                return Ok(Effect::Nothing);
            }
            Operation::DropCaches => {
                self.machine.unit().drop_all_caches();
                self.oracle.drop_all_caches();
                return Ok(Effect::Nothing);
            }
            Operation::EnableSnp { core } => {
                self.machine.enable_snp_on(core);
                if let Some(registers) = self.firmware.storage().cores().get(core.0 as usize) {
                    registers.set_syscfg(Syscfg(Syscfg::SNP_INIT_NEEDS));
                }
                self.oracle.set_snp_en(core, true);
                Effect::Nothing
            }
            Operation::Reset { core } => {
                self.machine.reset_core(core);
                self.oracle.reset_core(core);
                Effect::Nothing
            }
            Operation::SnpInit => {
                let model = self.machine.snp_init(&self.memory.layout()).is_ok();
                let oracle = self.oracle.snp_init(&self.memory.layout());
                Effect::Done(same("snp-init", "result", model, &oracle)?)
            }
            Operation::SnpShutdown { x86 } => {
                self.machine.snp_shutdown(x86, &self.memory.iommu);
                self.oracle.snp_shutdown(x86, &self.memory.iommu);
                Effect::Nothing
            }
            Operation::ClearRmp => {
                let model = self.machine.clear_rmp() == Ok(true);
                Effect::Done(same("clear-rmp", "result", model, &self.oracle.clear_rmp())?)
            }
            _ => Effect::Nothing,
        };
        self.compare_all_bits(keyword)?;
        self.law_1_everywhere()?;
        Ok(effect)
    }

    // ---- comparing ----

    fn after_rmpopt(&self, keyword: &str, rax: u64) -> Result<(), Difference> {
        match u32::try_from(rax >> 30).ok().and_then(Region::new) {
            Some(region) => {
                self.compare_bits(keyword, region)?;
                self.law_1(region)
            }
            None => Ok(()),
        }
    }

    /// A page's own entry, its head's, and its state.
    fn compare_page(&self, keyword: &str, spa: Spa) -> Result<(), Difference> {
        for page in [spa.pfn(), spa.pfn().head()] {
            let model = self.machine.rmp().entry(page).map(Page::of);
            same(keyword, "entry", model, &self.oracle.page(page.get()))?;
        }
        let model = self.machine.page_state(spa.pfn());
        same::<PageState>(keyword, "state", model, &self.oracle.page_state(spa.pfn())).map(drop)
    }

    /// The bits of one region.
    fn compare_bits(&self, keyword: &str, region: Region) -> Result<(), Difference> {
        for core in (0..CORES).map(CoreId) {
            let model = self.machine.unit().is_optimised(core, region);
            if model != self.oracle.is_optimised(core, region) {
                return Err(Difference {
                    what: format!("{keyword}: bit"),
                    model: format!("core {core}, region {region}: {model}"),
                    oracle: format!("{}", !model),
                });
            }
        }
        Ok(())
    }

    fn compare_all_bits(&self, keyword: &str) -> Result<(), Difference> {
        (0..=REGIONS)
            .filter_map(Region::new)
            .try_for_each(|region| self.compare_bits(keyword, region))
    }

    /// Law 1: where a page is assigned, no core's bit is set.
    fn law_1(&self, region: Region) -> Result<(), Difference> {
        let bits = (0..CORES).map(CoreId);
        let set = |core: &CoreId| self.machine.unit().is_optimised(*core, region);
        match bits.clone().find(set) {
            Some(core) if self.plan.laws && self.oracle.region_has_assigned(region) => {
                Err(Difference {
                    what: "law 1".into(),
                    model: format!("core {core} has region {region} optimised"),
                    oracle: "a page of the region is assigned".into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Law 1 in every region.
    pub(super) fn law_1_everywhere(&self) -> Result<(), Difference> {
        (0..REGIONS).filter_map(Region::new).try_for_each(|region| self.law_1(region))
    }

    /// All that model and oracle know: bits, entries, counts of sub-pages, ASID counters.
    pub fn compare_all(&self) -> Result<(), Difference> {
        self.compare_all_bits("all")?;
        for (block, _) in self.reserved.iter().enumerate().filter(|(_, reserved)| **reserved) {
            let first = block as u64 * 512;
            for page in (first..first + 512).filter_map(Pfn::new) {
                let model = self.machine.rmp().entry(page).map(Page::of);
                same("all", "entry", model, &self.oracle.page(page.get()))?;
            }
            let head = pfn(0, first);
            if let Some(entry) = self.machine.rmp().entry(head) {
                let large = entry.assigned() && Page::of(entry).large;
                let count = if large { 0 } else { self.oracle.assigned_beside_head(first) };
                same("all", "count", u64::from(entry.subpage_count()), &count)?;
            }
        }
        for asid in [1, 2, 5, 1023] {
            let model = self.machine.rmp().assigned_to(asid);
            same("all", "ASID counter", model, &self.oracle.assigned_to(asid))?;
        }
        Ok(())
    }
}

/// Another page of the same block.
fn other_page(spa: Spa) -> Spa {
    let head = spa.pfn().head();
    head.checked_add(255).unwrap_or(head).spa()
}
