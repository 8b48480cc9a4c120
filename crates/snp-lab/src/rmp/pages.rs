//! Every 4 KiB entry: the hardware model itself, with its firmware.

use std::collections::HashMap;

use snp_defs::{
    FirmwareStatus, Gpa, NestedFaultCode, PageSize, Pfn, RmpOperand, RmpStatus, Spa, Syscfg,
    VmHsavePa,
};
use snp_model::{
    Access, Accessor, Answer, Begun, CoreId, Coverage, FirmwareChoices, FirmwareStorage as _,
    GuestCpu, GuestPolicy, GuestStop, HeapUnitStorage, InitEx, InitLayout, LaunchPage, Outcome,
    PageType, PfnRange, RmpoptUnit, Running, SaveArea, Scan, ShutdownEx, StdFirmware, StdMachine,
    Stop, UnitConfig, Verdict, VmrunPages, Walk,
};

use super::{
    ASIDS, BlockState, Command, HostRmp, LaunchType, Owner, RmpError, Unvalidated, Updated,
    Validated, Vcpu, WriteVerdicts,
};
use crate::boot::{AssignedRange, BootLayout, Purpose, RmpLayout};
use crate::memory::Extent;

/// `VM_HSAVE_PA` of every core while guests run: a page of the host kernel's own memory. The model
/// asks no more of it here than that it is not 0.
const HSAVE: VmHsavePa = VmHsavePa(0x1000);

/// The model of the hardware.
#[derive(Debug)]
pub struct Pages {
    machine: StdMachine,
    firmware: StdFirmware,
    /// vCPUs that run, by save area.
    running: HashMap<Pfn, Running>,
}

impl Pages {
    /// A host of so many cores and regions, with SNP off.
    pub fn new(cores: u32, regions: u32, boot: &BootLayout, config: UnitConfig) -> Self {
        Self {
            machine: StdMachine::on_heap(cores, regions, coverage(boot, regions), config),
            firmware: StdFirmware::on_heap(cores, ASIDS + 1, FirmwareChoices::DEFAULT),
            running: HashMap::new(),
        }
    }

    /// One PVALIDATE; what stopped it.
    fn pvalidate_one(
        &self,
        asid: u32,
        page: Pfn,
        size: PageSize,
        on: bool,
    ) -> Result<Option<Unvalidated>, RmpError> {
        let (cpu, spa) = (GuestCpu { asid, vmpl: 0 }, page.spa());
        let walk = Walk { gva: spa.get(), gpa: gpa(spa), spa, nested: size, private: true };
        let result = self.machine.pvalidate(CoreId(0), cpu, &walk, size.bit(), u64::from(on));
        Ok(match result {
            Ok(result) if !result.status.is_success() => Some(Unvalidated::Code(result.status)),
            Ok(result) if result.carry => Some(Unvalidated::Unchanged),
            Ok(_) => None,
            Err(GuestStop::NestedFault(code)) if code.0 & NestedFaultCode::SIZE_MISMATCH != 0 => {
                Some(Unvalidated::SizeMismatch)
            }
            Err(GuestStop::NestedFault(_) | GuestStop::Vc(_)) => Some(Unvalidated::Fault),
            Err(GuestStop::Exception(exception)) => return Err(RmpError::Exception(exception)),
            Err(GuestStop::NotReserved(_)) => return Err(RmpError::OutOfMemory),
        })
    }

    /// The entry that speaks for a page: its own, or the head's of a 2 MiB page.
    fn governing(&self, page: Pfn) -> Pfn {
        if self.block(page).large { page.head() } else { page }
    }
}

/// What has an RMP entry.
pub(super) fn coverage(boot: &BootLayout, regions: u32) -> Coverage {
    let contiguous = || {
        let pages = boot.covered.last().map_or(0, Extent::end);
        Coverage::contiguous(pages)
    };
    match &boot.rmp {
        RmpLayout::Contiguous(_) | RmpLayout::Unset { .. } => contiguous(),
        RmpLayout::Segmented { shift, .. } => Coverage::segmented(*shift)
            .map_or_else(contiguous, |coverage| coverage.with_regions(regions)),
    }
}

fn range(extent: Extent) -> PfnRange {
    PfnRange::new(extent.first, extent.pages)
}

fn ranges(extents: impl IntoIterator<Item = Extent>) -> Vec<PfnRange> {
    extents.into_iter().map(range).collect()
}

/// Boot's assigned pages that serve something like `is`.
fn assigned(boot: &BootLayout, is: impl Fn(Purpose) -> bool) -> Vec<PfnRange> {
    ranges(boot.assigned.iter().filter(|range| is(range.purpose)).map(AssignedRange::extent))
}

fn of_rmp(purpose: Purpose) -> bool {
    use Purpose::{RmpBookkeeping, RmpSegment, RmpTable};
    matches!(purpose, RmpBookkeeping | RmpSegment(_) | RmpTable)
}

fn of_iommu(purpose: Purpose) -> bool {
    purpose == Purpose::IommuBuffers
}

/// No event of the hardware.
fn stopped(stop: Stop) -> RmpError {
    match stop {
        Stop::Exception(exception) => RmpError::Exception(exception),
        Stop::NotReserved(_) => RmpError::OutOfMemory,
    }
}

/// Guest addresses equal system addresses.
fn gpa(spa: Spa) -> Gpa {
    Gpa::new(spa.get()).unwrap_or_default()
}

impl HostRmp for Pages {
    fn fidelity(&self) -> &'static str {
        "pages"
    }

    fn unit(&self) -> &RmpoptUnit<HeapUnitStorage> {
        self.machine.unit()
    }

    fn snp_init(&mut self, boot: &BootLayout) -> Result<(), RmpError> {
        self.machine.enable_snp();
        for core in self.firmware.storage().cores() {
            core.set_syscfg(Syscfg(core.syscfg().0 | Syscfg::SNP_EN));
        }
        let (rmp, iommu) = (assigned(boot, of_rmp), assigned(boot, of_iommu));
        let dram = ranges(boot.dram.iter().copied());
        let hv_fixed = ranges(boot.hv_fixed.iter().copied());
        let layout = InitLayout { dram: &dram, hv_fixed: &hv_fixed, rmp: &rmp, iommu: &iommu };
        let init = InitEx { init_rmp: true, list_paddr_en: true, layout, ..InitEx::default() };
        self.firmware.snp_init_ex(&self.machine, &init).map_err(RmpError::Init)?;
        for given in boot.assigned.iter().filter(|a| !of_rmp(a.purpose) && !of_iommu(a.purpose)) {
            let updated = self.update(given.extent(), PageSize::Size4K, Owner::Firmware)?;
            if !updated.status.is_success() {
                let (first, status) = (given.first.spa(), updated.status);
                return Err(RmpError::Update { first, pages: given.pages, status });
            }
        }
        Ok(())
    }

    fn snp_shutdown(&mut self, boot: &BootLayout) -> Result<Answer, RmpError> {
        let iommu = assigned(boot, of_iommu);
        let shutdown = ShutdownEx {
            iommu_snp_shutdown: true,
            x86_snp_shutdown: true,
            reserved: 0,
            iommu: &iommu,
        };
        let answer = self.firmware.snp_shutdown_ex(&self.machine, &shutdown);
        if answer.is_ok() {
            self.machine.clear_rmp().map_err(|_| RmpError::OutOfMemory)?;
        }
        Ok(answer)
    }

    fn update(&mut self, run: Extent, size: PageSize, to: Owner) -> Result<Updated, RmpError> {
        let first = run.first.spa();
        let operand = match to {
            Owner::Hypervisor => RmpOperand::shared(size),
            Owner::Guest(asid) => RmpOperand::private(gpa(first), size, asid, false),
            Owner::PreGuest(asid) => RmpOperand::private(gpa(first), size, asid, true),
            Owner::Firmware => RmpOperand::firmware(),
        };
        if to.assigns() {
            self.machine.reserve_pages(range(run)).map_err(|_| RmpError::OutOfMemory)?;
        }
        let count = run.pages / size.pages();
        // RMPUPDATE does the same from every core.
        let updated = self.machine.rmpupdate_range(CoreId(0), first, count, &operand);
        let updated = updated.map_err(stopped)?;
        Ok(Updated { done: updated.done, status: updated.status })
    }

    fn psmash(&mut self, head: Pfn) -> Result<RmpStatus, RmpError> {
        Ok(self.machine.psmash(CoreId(0), head.spa()).map_err(stopped)?.status)
    }

    fn block(&self, page: Pfn) -> BlockState {
        let head = self.machine.rmp().entry(page.head()).unwrap_or_default();
        let large = head.assigned() && head.page_size() == PageSize::Size2M;
        let all = PageSize::Size2M.pages() as u16;
        let small = head.subpage_count() + u16::from(head.assigned());
        BlockState { assigned: if large { all } else { small }, large }
    }

    fn pvalidate(
        &mut self,
        asid: u32,
        run: Extent,
        size: PageSize,
        on: bool,
    ) -> Result<Validated, RmpError> {
        let mut sum = Validated::default();
        while let Some(page) = run.first.checked_add(sum.pages).filter(|_| sum.pages < run.pages) {
            sum.instructions += 1;
            match self.pvalidate_one(asid, page, size, on)? {
                None => sum.pages += size.pages(),
                Some(Unvalidated::Code(RmpStatus::FAIL_SIZEMISMATCH)) => {
                    sum.mismatches += 1;
                    let block = Extent { first: page, pages: size.pages() };
                    let small = self.pvalidate(asid, block, PageSize::Size4K, on)?;
                    sum.pages += small.pages;
                    sum.instructions += small.instructions;
                    sum.stop = small.stop;
                }
                stop => sum.stop = stop,
            }
            if sum.stop.is_some() {
                break;
            }
        }
        Ok(sum)
    }

    fn command(&mut self, command: Command) -> Answer {
        let (firmware, machine) = (&self.firmware, &self.machine);
        match command {
            Command::GctxCreate(context) => firmware.gctx_create(machine, context.spa()),
            Command::LaunchStart(context) => {
                firmware.launch_start(machine, context.spa(), GuestPolicy::default())
            }
            Command::Activate(context, asid) => firmware.activate(machine, context.spa(), asid),
            Command::LaunchFinish(context) => {
                firmware.launch_finish(machine, context.spa(), false, None)
            }
            Command::Decommission(context) => firmware.decommission(machine, context.spa()),
            Command::PageReclaim(page) => firmware.page_reclaim(machine, page.spa().get()),
            Command::DfFlush => firmware.df_flush(machine),
        }
    }

    fn launch_update(
        &mut self,
        context: Pfn,
        run: Extent,
        what: LaunchType,
    ) -> (u64, Result<(), FirmwareStatus>) {
        let page_type = match what {
            LaunchType::Normal => PageType::Normal,
            LaunchType::Vmsa => PageType::Vmsa,
        };
        let mut done = 0;
        while let Some(page) = run.first.checked_add(done).filter(|_| done < run.pages) {
            let operand = LaunchPage { page_type, ..LaunchPage::normal(page.spa()) };
            let answer = self.firmware.launch_update(&self.machine, context.spa(), &operand);
            if answer.is_err() {
                return (done, answer);
            }
            done += 1;
        }
        (done, Ok(()))
    }

    fn wbinvd(&mut self) {
        for core in 0..self.machine.unit().cores() {
            self.firmware.wbinvd(CoreId(core));
        }
    }

    fn vmrun(&mut self, core: CoreId, vcpu: Vcpu) -> bool {
        let Vcpu { asid, vmcb, vmsa } = vcpu;
        let page = PfnRange::new(vmcb, 1);
        if self.machine.reserve_pages(page).is_err() {
            return false;
        }
        let save_area = SaveArea::Snp { vmsa: vmsa.spa(), gpa: gpa(vmsa.spa()), asid };
        let pages = VmrunPages { hsave: HSAVE, vmcb: vmcb.spa(), avic: None, save_area };
        match self.machine.vmrun(core, &pages) {
            Ok(running) => {
                self.running.insert(vmsa, running);
                true
            }
            Err(_) => false,
        }
    }

    fn vmexit(&mut self, vmsa: Pfn) {
        if let Some(running) = self.running.remove(&vmsa) {
            self.machine.vmexit(running);
        }
    }

    fn jam(&mut self, page: Pfn) -> Result<(), RmpError> {
        let page = self.governing(page);
        self.machine.edit_entry(page, |entry| entry.with_lock(true)).map_err(stopped)?;
        Ok(())
    }

    fn look(&self, begun: &mut Begun) -> Option<Scan> {
        self.machine.unit().look(begun, self.machine.rmp())
    }

    fn finish(&self, begun: Begun) -> Outcome {
        self.machine.unit().finish(begun, self.machine.rmp())
    }

    fn write(&self, core: CoreId, spa: Spa) -> WriteVerdicts {
        let accessor = Accessor::HostKernel;
        let Access { verdict, .. } =
            self.machine.check_write(core, accessor, spa, PageSize::Size4K);
        let (owned, _) = self.machine.rmp().hv_owned(spa.pfn(), PageSize::Size4K);
        let checked = self.machine.unit().snp_en(core) && !owned;
        let rmp_alone = if checked { accessor.refusal() } else { Verdict::Allowed };
        WriteVerdicts { with_rmpopt: verdict, rmp_alone }
    }
}
