//! Random commands of the firmware, VMRUN, and stories that lead to rare states.

use ::snp_defs::{Gpa, PageSize, Pfn, RmpOperand, Spa};

use super::{Generator, INDICES};
use crate::snp_model::{CoreId, GuestCpu, Issuer, PageType, SaveArea, Walk};
use crate::trial::plan::{pfn, CORES};
use crate::trial::{BaseWrites, Command, Edit, Guest, Operation};

impl Generator {
    pub(super) fn vmrun(&mut self, next: &mut Vec<Operation>) {
        let id = self.rng.below(4);
        if self.rng.one_in(2) {
            return next.push(Operation::Vmexit { id });
        }
        let (core, vmcb, other) = (self.core(), self.page().spa(), self.page().spa());
        let avic = if self.rng.one_in(4) { Some(self.page().spa()) } else { None };
        let save = match self.rng.below(4) {
            0 => SaveArea::InVmcb,
            1 => SaveArea::Encrypted(other),
            _ => {
                let Guest { cpu, walk } = self.guest();
                if !self.rng.one_in(4) {
                    next.push(Operation::Edit { spa: walk.spa, edit: Edit::Vmsa });
                }
                SaveArea::Snp { vmsa: walk.spa, gpa: walk.gpa, asid: cpu.asid }
            }
        };
        let hsave = if self.rng.one_in(30) { 0 } else { 0x1000 };
        next.push(Operation::Vmrun { id, core, hsave, vmcb, avic, save });
    }

    pub(super) fn init_ex(&mut self) -> Command {
        // An RMP that is kept may not be there: then the base would be written once more.
        let init_rmp = self.base_writes == BaseWrites::OncePerInit || !self.rng.one_in(8);
        Command::SnpInitEx { init_rmp, list: init_rmp && !self.rng.one_in(4) }
    }

    pub(super) fn shutdown_ex(&mut self, next: &mut Vec<Operation>) {
        if !self.rng.one_in(4) {
            self.flush(next);
        }
        let iommu = !self.rng.one_in(3);
        let x86 = self.rng.one_in(2);
        next.push(Operation::Firmware(Command::SnpShutdownEx { iommu, x86 }));
    }

    fn flush(&mut self, next: &mut Vec<Operation>) {
        for core in (0..CORES).map(CoreId) {
            if !self.rng.one_in(8) {
                next.push(Operation::Firmware(Command::Wbinvd { core }));
            }
        }
        next.push(Operation::Firmware(Command::DfFlush));
    }

    pub(super) fn command(&mut self, next: &mut Vec<Operation>) {
        let index = self.rng.pick(&[1, 3, 4]);
        let gctx = pfn(0, 100 * 512 + index).spa();
        let asid = self.rng.pick(&[1, 2, 3, 3, 4, 5, 0, 20]);
        let command = match self.rng.below(14) {
            0 => return self.launch(next, gctx, asid),
            1 => Command::GctxCreate { gctx },
            2 => Command::LaunchStart { gctx, policy: self.rng.pick(&[0, 0x0137, 0x0138]) },
            3 => Command::Activate { gctx, asid },
            4 => self.launch_update(gctx),
            5 => Command::LaunchFinish { gctx },
            6 => Command::Decommission { gctx },
            7 => return self.flush(next),
            8 if self.rng.one_in(8) => return self.unsmash(next),
            9 if self.rng.one_in(4) => Command::PageUnsmash { spa: self.block() },
            10 if self.rng.one_in(4) => return self.set_state(next),
            _ => self.reclaim(),
        };
        next.push(Operation::Firmware(command));
    }

    /// The first page of a block, now and then another one.
    fn block(&mut self) -> Spa {
        let page = self.page();
        if self.rng.one_in(20) { page } else { page.head() }.spa()
    }

    /// A guest's launch, in which now and then a step is missing.
    fn launch(&mut self, next: &mut Vec<Operation>, gctx: Spa, asid: u32) {
        let (spa, core) = (self.page().spa(), self.core());
        let gpa = Gpa::new(self.rng.below(3) * 4096).unwrap_or(Gpa::ZERO);
        let update = |spa, operand| Operation::Rmpupdate { core, by: Issuer::HOST, spa, operand };
        let (size, page, rights) = (PageSize::Size4K, self.page_type(), [1, 3, 0]);
        for step in [
            Operation::Edit { spa: gctx, edit: Edit::Release },
            update(gctx, RmpOperand::firmware()),
            Operation::Firmware(Command::GctxCreate { gctx }),
            Operation::Firmware(Command::LaunchStart { gctx, policy: 0 }),
            Operation::Firmware(Command::Activate { gctx, asid }),
            update(spa, RmpOperand::private(gpa, size, asid, true)),
            Operation::Firmware(Command::LaunchUpdate { gctx, spa, size, page, rights }),
            Operation::Firmware(Command::LaunchFinish { gctx }),
        ] {
            if !self.rng.one_in(12) {
                next.push(step);
            }
        }
    }

    fn page_type(&mut self) -> PageType {
        self.rng.pick(&[
            PageType::Normal,
            PageType::Normal,
            PageType::Vmsa,
            PageType::Zero,
            PageType::Unmeasured,
            PageType::Secrets,
            PageType::Cpuid { allowed: true },
            PageType::Cpuid { allowed: false },
        ])
    }

    /// An immutable page, if one is quickly found, and whether it is a 2M page; both now and then
    /// wrong.
    fn immutable_page(&mut self) -> (Pfn, bool) {
        let mut page = self.page();
        let mut large = false;
        for _ in 0..6 {
            if let Some((entry, _)) = self.trial.oracle().governing(page.get()) {
                large = entry.large;
                if entry.immutable {
                    break;
                }
            }
            page = self.page();
        }
        let large = large != self.rng.one_in(10);
        (if large && !self.rng.one_in(10) { page.head() } else { page }, large)
    }

    fn launch_update(&mut self, gctx: Spa) -> Command {
        let (page, large) = self.immutable_page();
        let size = if large { PageSize::Size2M } else { PageSize::Size4K };
        let rights = [1, 0x1F, 7].map(|right| if self.rng.one_in(2) { right } else { 0 });
        Command::LaunchUpdate { gctx, spa: page.spa(), size, page: self.page_type(), rights }
    }

    fn reclaim(&mut self) -> Command {
        let (page, large) = self.immutable_page();
        let stray = if self.rng.one_in(40) { 8 } else { 0 };
        Command::PageReclaim { address: page.spa().get() | stray | u64::from(large) }
    }

    /// 512 pages that PAGE_UNSMASH takes, or would but for one with other rights.
    fn unsmash(&mut self, next: &mut Vec<Operation>) {
        let (core, spa) = (self.core(), self.page().head().spa());
        let gpa = Gpa::new(self.rng.below(3) << 21).unwrap_or(Gpa::ZERO);
        let range = |immutable| Operation::RmpupdateRange {
            core,
            spa,
            count: 512,
            operand: RmpOperand::private(gpa, PageSize::Size4K, 2, immutable),
        };
        if self.rng.one_in(2) {
            next.push(range(false));
            let offset = self.rng.pick(&INDICES) * 4096;
            let walk = Walk {
                gva: 0,
                gpa: gpa.checked_add(offset).unwrap_or(gpa),
                spa: spa.checked_add(offset).unwrap_or(spa),
                nested: PageSize::Size4K,
                private: true,
            };
            let guest = Guest { cpu: GuestCpu { asid: 2, vmpl: 0 }, walk };
            next.push(Operation::Pvalidate { core, guest, size: 0, validate: 1 });
            next.push(Operation::Rmpadjust { core, guest, size: 0, rdx: 0x101 });
            next.push(Operation::Pvalidate { core, guest, size: 0, validate: 0 });
        }
        next.push(range(true));
        next.push(Operation::Firmware(Command::PageUnsmash { spa }));
        // Given back again, so that blocks do not fill up.
        next.push(Operation::Firmware(Command::PageReclaim { address: spa.get() | 1 }));
        let operand = RmpOperand::shared(PageSize::Size2M);
        next.push(Operation::Rmpupdate { core, by: Issuer::HOST, spa, operand });
    }

    fn set_state(&mut self, next: &mut Vec<Operation>) {
        let spa = self.block();
        if self.rng.one_in(2) {
            let operand = RmpOperand { page_size: 1, ..RmpOperand::firmware() };
            next.push(self.update(spa, operand));
        }
        let blocks = if self.rng.one_in(10) { 2 } else { 1 };
        next.push(Operation::Firmware(Command::PageSetState { spa, blocks }));
    }
}
