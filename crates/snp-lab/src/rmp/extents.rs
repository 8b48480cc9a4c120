//! 2 MiB blocks with a count of assigned 4 KiB pages.
//!
//! A block that is partly assigned also has a mask of its pages, so that every verdict is exact; such
//! blocks are few (the last of a 4 KiB placement, and where a conversion begins or ends). So do blocks
//! with pages that differ from the rest: immutable, in use, the firmware's, save areas.

use std::collections::HashMap;

use snp_defs::{FirmwareStatus, PageSize, Pfn, RmpStatus, Spa};
use snp_model::{
    Accessor, Answer, Begun, CoreId, GuestState, HeapUnitStorage, Outcome, RmpoptUnit, Scan,
    UnitConfig, Verdict,
};

use super::blocks::{Blocks, by_block, split};
use super::masks::PageMask;
use super::pages::coverage;
use super::psp::Psp;
use super::{
    BlockState, Command, HostRmp, LaunchType, Owner, RmpError, Unvalidated, Updated, Validated,
    Vcpu, WriteVerdicts,
};
use crate::boot::BootLayout;
use crate::memory::Extent;
use crate::runs::by_region;

/// The coarse RMP.
#[derive(Debug)]
pub struct Extents {
    rmp: Blocks,
    psp: Psp,
    /// vCPUs that run, by save area.
    running: HashMap<Pfn, Vcpu>,
    unit: RmpoptUnit<HeapUnitStorage>,
}

impl Extents {
    /// A host of so many cores and regions, with SNP off.
    pub fn new(cores: u32, regions: u32, boot: &BootLayout, config: UnitConfig) -> Self {
        let coverage = coverage(boot, regions);
        let config = UnitConfig { segmented: coverage.is_segmented(), ..config };
        Self {
            rmp: Blocks::new(regions, coverage),
            psp: Psp::new(),
            running: HashMap::new(),
            unit: RmpoptUnit::new(HeapUnitStorage::new(cores, regions), config),
        }
    }

    fn page_reclaim(&mut self, page: Pfn) -> Answer {
        let (index, at) = split(page.get());
        if self.rmp.state(index).is_large() {
            return Err(FirmwareStatus::INVALID_PAGE_SIZE);
        }
        if !self.rmp.detail(index).immutable.has(at) {
            return Ok(());
        }
        if self.psp.is_context(page) {
            return Err(FirmwareStatus::INVALID_PAGE_STATE);
        }
        self.rmp.edit_detail(index, |detail| {
            detail.immutable = detail.immutable.set(PageMask::of(at, at + 1), false);
            detail.locked = detail.locked.set(PageMask::of(at, at + 1), false);
        });
        Ok(())
    }

    fn gctx_create(&mut self, page: Pfn) -> Answer {
        let (index, at) = split(page.get());
        let detail = self.rmp.detail(index);
        let firmware = detail.firmware.has(at) && detail.immutable.has(at);
        if !firmware || self.psp.is_context(page) {
            return Err(FirmwareStatus::INVALID_PAGE_STATE);
        }
        // The firmware locks what it writes as long as it is immutable.
        let own = PageMask::of(at, at + 1);
        self.rmp.edit_detail(index, |detail| detail.locked = detail.locked.set(own, true));
        self.psp.create(page);
        Ok(())
    }
}

impl HostRmp for Extents {
    fn fidelity(&self) -> &'static str {
        "extents"
    }

    fn unit(&self) -> &RmpoptUnit<HeapUnitStorage> {
        &self.unit
    }

    fn snp_init(&mut self, boot: &BootLayout) -> Result<(), RmpError> {
        for core in 0..self.unit.cores() {
            self.unit.set_snp_en(CoreId(core), true);
        }
        self.rmp.boot(boot.assigned.iter().map(crate::boot::AssignedRange::extent));
        self.unit.snp_init();
        Ok(())
    }

    fn snp_shutdown(&mut self, _: &BootLayout) -> Result<Answer, RmpError> {
        let answer = self.psp.shutdown();
        if answer.is_ok() {
            for core in 0..self.unit.cores() {
                self.unit.set_snp_en(CoreId(core), false);
            }
            self.rmp.clear();
        }
        Ok(answer)
    }

    fn update(&mut self, run: Extent, size: PageSize, to: Owner) -> Result<Updated, RmpError> {
        let mut done = 0;
        for (region, part) in by_region(run) {
            // One bracket for all the instructions in a region: nothing looks in between.
            let token = self.unit.begin_update(region);
            let (mut pages, mut status) = (0, RmpStatus::SUCCESS);
            for (index, from, end) in by_block(part) {
                let block = self.rmp.update(&mut self.psp, index, (from, end), size, to);
                pages += block.0;
                status = block.1;
                if !status.is_success() {
                    break;
                }
            }
            self.unit.end_update(token, pages > 0);
            done += pages / size.pages();
            if !status.is_success() {
                return Ok(Updated { done, status });
            }
        }
        Ok(Updated { done, status: RmpStatus::SUCCESS })
    }

    fn psmash(&mut self, head: Pfn) -> Result<RmpStatus, RmpError> {
        let token = self.unit.begin_update(head.region());
        let status = self.rmp.psmash(head);
        self.unit.end_update(token, status.is_success());
        Ok(status)
    }

    fn block(&self, page: Pfn) -> BlockState {
        let state = self.rmp.state(split(page.get()).0);
        BlockState { assigned: state.assigned, large: state.is_large() }
    }

    fn pvalidate(
        &mut self,
        asid: u32,
        run: Extent,
        size: PageSize,
        _: bool,
    ) -> Result<Validated, RmpError> {
        let mut sum = Validated::default();
        for (index, from, to) in by_block(run) {
            let large = self.rmp.state(index).is_large();
            let accepts = self.rmp.mutable_pages_of(index, asid);
            let locked = self.rmp.detail(index).locked;
            let own = accepts.has(from);
            if size == PageSize::Size2M && own {
                sum.instructions += 1;
                if large && locked.has(0) {
                    sum.stop = Some(Unvalidated::Code(RmpStatus::FAIL_INUSE));
                    return Ok(sum);
                }
                if large {
                    sum.pages += to - from;
                    continue;
                }
                sum.mismatches += 1;
            }
            let refused = if large {
                Some(from)
            } else {
                let span = PageMask::of(from, to);
                span.without(accepts).or(span.and(locked)).first()
            };
            let pages = refused.unwrap_or(to) - from;
            sum.pages += pages;
            sum.instructions += pages;
            if let Some(page) = refused {
                sum.instructions += 1;
                sum.stop = Some(match (accepts.has(page), large) {
                    (false, _) => Unvalidated::Fault,
                    (true, true) => Unvalidated::SizeMismatch,
                    (true, false) => Unvalidated::Code(RmpStatus::FAIL_INUSE),
                });
                return Ok(sum);
            }
        }
        Ok(sum)
    }

    fn command(&mut self, command: Command) -> Answer {
        match command {
            Command::GctxCreate(context) => self.gctx_create(context),
            Command::LaunchStart(context) => self.psp.launch_start(context),
            Command::Activate(context, asid) => self.psp.activate(context, asid),
            Command::LaunchFinish(context) => self.psp.launch_finish(context),
            Command::Decommission(context) => self.psp.decommission(context),
            Command::PageReclaim(page) => self.page_reclaim(page),
            Command::DfFlush => self.psp.df_flush(),
        }
    }

    fn launch_update(
        &mut self,
        context: Pfn,
        run: Extent,
        what: LaunchType,
    ) -> (u64, Result<(), FirmwareStatus>) {
        let guest = match self.psp.context(context) {
            Ok(guest) => guest,
            Err(status) => return (0, Err(status)),
        };
        let mut done = 0;
        for (index, from, to) in by_block(run) {
            let (state, detail) = (self.rmp.state(index), self.rmp.detail(index));
            let pre_guest = self.rmp.mask(index).without(detail.firmware).and(detail.immutable);
            let refused = PageMask::of(from, to).without(pre_guest).first();
            let end = refused.unwrap_or(to);
            let status = if state.is_large() {
                Some(FirmwareStatus::INVALID_PAGE_SIZE)
            } else if guest.state != GuestState::Launch {
                Some(FirmwareStatus::INVALID_GUEST_STATE)
            } else if guest.asid == 0 {
                Some(FirmwareStatus::INACTIVE)
            } else if refused == Some(from) {
                Some(FirmwareStatus::INVALID_PAGE_STATE)
            } else if u32::from(state.asid) != guest.asid {
                Some(FirmwareStatus::INVALID_PAGE_OWNER)
            } else {
                None
            };
            if let Some(status) = status {
                return (done, Err(status));
            }
            let pages = PageMask::of(from, end);
            self.rmp.edit_detail(index, |detail| {
                detail.immutable = detail.immutable.set(pages, false);
                if what == LaunchType::Vmsa {
                    detail.vmsa = detail.vmsa.set(pages, true);
                }
            });
            done += end - from;
            if refused.is_some() {
                return (done, Err(FirmwareStatus::INVALID_PAGE_STATE));
            }
        }
        (done, Ok(()))
    }

    fn wbinvd(&mut self) {
        self.psp.wbinvd();
    }

    fn vmrun(&mut self, core: CoreId, vcpu: Vcpu) -> bool {
        let (index, at) = split(vcpu.vmsa.get());
        let (block, detail) = (self.rmp.state(index), self.rmp.detail(index));
        let enters = self.unit.snp_en(core)
            && !self.rmp.is_assigned(vcpu.vmcb)
            && self.rmp.is_assigned(vcpu.vmsa)
            && u32::from(block.asid) == vcpu.asid
            && detail.vmsa.has(at)
            && !detail.immutable.has(at)
            && !detail.locked.has(at);
        if enters {
            self.rmp.lock(vcpu.vmsa, true);
            self.rmp.lock(vcpu.vmcb, true);
            self.running.insert(vcpu.vmsa, vcpu);
        }
        enters
    }

    fn vmexit(&mut self, vmsa: Pfn) {
        if let Some(vcpu) = self.running.remove(&vmsa) {
            self.rmp.lock(vcpu.vmsa, false);
            self.rmp.lock(vcpu.vmcb, false);
        }
    }

    fn jam(&mut self, page: Pfn) -> Result<(), RmpError> {
        let large = self.block(page).large;
        self.rmp.lock(if large { page.head() } else { page }, true);
        Ok(())
    }

    fn look(&self, begun: &mut Begun) -> Option<Scan> {
        self.unit.look(begun, &self.rmp)
    }

    fn finish(&self, begun: Begun) -> Outcome {
        self.unit.finish(begun, &self.rmp)
    }

    fn write(&self, core: CoreId, spa: Spa) -> WriteVerdicts {
        let checked = self.unit.snp_en(core);
        let refused = checked && self.rmp.is_assigned(spa.pfn());
        let rmp_alone = if refused { Accessor::HostKernel.refusal() } else { Verdict::Allowed };
        let skipped = checked && self.unit.is_optimised(core, spa.region());
        let with_rmpopt = if skipped { Verdict::Allowed } else { rmp_alone };
        WriteVerdicts { with_rmpopt, rmp_alone }
    }
}
