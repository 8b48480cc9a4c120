//! Every 4 KiB entry: the hardware model itself.

use snp_defs::{Gpa, PageSize, RmpOperand, Spa};
use snp_model::{
    Access, Accessor, Begun, CoreId, Coverage, HeapUnitStorage, InitLayout, Outcome, PfnRange,
    RmpoptUnit, Scan, StdMachine, Stop, UnitConfig, Verdict,
};

use super::{HostRmp, Owner, RmpError, WriteVerdicts};
use crate::boot::{AssignedRange, BootLayout, RmpLayout};
use crate::memory::Extent;

/// The model of the hardware.
#[derive(Debug)]
pub struct Pages {
    machine: StdMachine,
}

impl Pages {
    /// A host of so many cores and regions, with SNP off.
    pub fn new(cores: u32, regions: u32, boot: &BootLayout, config: UnitConfig) -> Self {
        Self { machine: StdMachine::on_heap(cores, regions, coverage(boot, regions), config) }
    }
}

/// What has an RMP entry.
pub(super) fn coverage(boot: &BootLayout, regions: u32) -> Coverage {
    let contiguous = || {
        let pages = boot.covered.last().map_or(0, Extent::end);
        Coverage::contiguous(pages)
    };
    match &boot.rmp {
        RmpLayout::Contiguous(_) => contiguous(),
        RmpLayout::Segmented { shift, .. } => Coverage::segmented(*shift)
            .map_or_else(contiguous, |coverage| coverage.with_regions(regions)),
    }
}

fn ranges(extents: impl IntoIterator<Item = Extent>) -> Vec<PfnRange> {
    extents.into_iter().map(|extent| PfnRange::new(extent.first, extent.pages)).collect()
}

/// Boot's assigned pages: (firmware's, IOMMU's).
fn assigned(boot: &BootLayout) -> (Vec<PfnRange>, Vec<PfnRange>) {
    let (iommu, firmware): (Vec<&AssignedRange>, Vec<_>) =
        boot.assigned.iter().partition(|range| range.state == snp_defs::PageState::FirmwareIommu);
    (ranges(firmware.iter().map(|r| r.extent())), ranges(iommu.iter().map(|r| r.extent())))
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
        let (rmp, iommu) = assigned(boot);
        let dram = ranges(boot.dram.iter().copied());
        let hv_fixed = ranges(boot.hv_fixed.iter().copied());
        let layout = InitLayout { dram: &dram, hv_fixed: &hv_fixed, rmp: &rmp, iommu: &iommu };
        self.machine.snp_init(&layout).map_err(RmpError::Init)
    }

    fn snp_shutdown(&mut self, boot: &BootLayout) -> Result<(), RmpError> {
        let (_, iommu) = assigned(boot);
        self.machine.snp_shutdown(true, &iommu);
        self.machine.clear_rmp().map_err(|_| RmpError::OutOfMemory)?;
        Ok(())
    }

    fn update(&mut self, run: Extent, size: PageSize, owner: Owner) -> Result<u64, RmpError> {
        let first = run.first.spa();
        let operand = match owner {
            Owner::Hypervisor => RmpOperand::shared(size),
            Owner::Guest(asid) => {
                let gpa = Gpa::new(first.get()).unwrap_or_default();
                RmpOperand::private(gpa, size, asid, false)
            }
        };
        if owner != Owner::Hypervisor {
            let range = PfnRange::new(run.first, run.pages);
            self.machine.reserve_pages(range).map_err(|_| RmpError::OutOfMemory)?;
        }
        let count = run.pages / size.pages();
        // RMPUPDATE does the same from every core.
        let updated = self.machine.rmpupdate_range(CoreId(0), first, count, &operand);
        let updated = updated.map_err(|stop| match stop {
            Stop::Exception(exception) => RmpError::Exception(exception),
            Stop::NotReserved(_) => RmpError::OutOfMemory,
        })?;
        if updated.status.is_success() {
            Ok(updated.done)
        } else {
            Err(RmpError::Update { first, pages: run.pages, status: updated.status })
        }
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
