//! The host on which the cases run, and short ways to say what happens on it.

use std::cell::Cell;

use snp_defs::{
    FirmwareStatus, Gpa, NestedFaultCode, PageSize, PageState, Pfn, RmpEntry, RmpOperand,
    RmpStatus, Spa, PAGES_PER_REGION, VC_PAGE_NOT_VALIDATED,
};
use snp_model::{
    Accessor, Answer, Choices, CoreId, Coverage, Defect, FirmwareChoices, GuestAccess, GuestCpu,
    GuestPolicy, GuestResult, GuestStop, HeapStorage, HeapUnitStorage, InitEx, InitLayout, Machine,
    PfnRange, StdFirmware, StdMachine, UnitConfig, UpdateOrder, Verdict, Walk,
};

pub(super) const CORE: CoreId = CoreId(0);
pub(super) const CORES: u32 = 2;
pub(super) const K4: PageSize = PageSize::Size4K;
pub(super) const M2: PageSize = PageSize::Size2M;
/// One block.
pub(super) const BLOCK: u64 = 2 << 20;
/// Where the RMP is: half a block.
pub(super) const RMP: u64 = 1 << 30;
/// Where the RMP's last block goes on as RAM.
pub(super) const RMP_TAIL: u64 = RMP + (1 << 20);
/// Where the IOMMU's buffers are: three pages inside a block.
pub(super) const IOMMU: u64 = RMP + 2 * BLOCK + 0x3000;
/// HV-fixed memory: all of region 2.
pub(super) const FIXED: u64 = 2 << 30;
/// Memory without entries.
pub(super) const UNCOVERED: u64 = 3 << 30;
pub(super) const SHARED: RmpOperand = RmpOperand::shared(K4);
pub(super) const SHARED_2M: RmpOperand = RmpOperand::shared(M2);
pub(super) const INVALID_CONFIG: Answer = Err(FirmwareStatus::INVALID_CONFIG);
pub(super) const INVALID_STATE: Answer = Err(FirmwareStatus::INVALID_PAGE_STATE);
pub(super) const INVALID_SIZE: Answer = Err(FirmwareStatus::INVALID_PAGE_SIZE);
/// Every right.
pub(super) const ALL: u64 = 0x1F;

thread_local! {
    static DEFECT: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Runs a case on hosts with this defect.
pub(super) fn with_defect(defect: Option<Defect>, case: fn()) {
    DEFECT.set(defect);
    case();
    DEFECT.set(None);
}

pub(super) fn spa(bytes: u64) -> Spa {
    Spa::new(bytes).unwrap()
}

pub(super) fn gpa(bytes: u64) -> Gpa {
    Gpa::new(bytes).unwrap()
}

pub(super) fn pages(at: u64, count: u64) -> PfnRange {
    PfnRange::new(spa(at).pfn(), count)
}

pub(super) fn private(at: u64, asid: u32) -> RmpOperand {
    RmpOperand::private(gpa(at), K4, asid, false)
}

pub(super) fn private_2m(at: u64, asid: u32) -> RmpOperand {
    RmpOperand::private(gpa(at), M2, asid, false)
}

pub(super) fn pre_guest(at: u64, asid: u32) -> RmpOperand {
    RmpOperand::private(gpa(at), K4, asid, true)
}

pub(super) fn cpu(asid: u32, vmpl: u8) -> GuestCpu {
    GuestCpu { asid, vmpl }
}

/// A private 4K translation.
pub(super) fn walk(at: u64, guest: u64) -> Walk {
    Walk { gva: guest, gpa: gpa(guest), spa: spa(at), nested: K4, private: true }
}

pub(super) fn nested_2m(walk: Walk) -> Walk {
    Walk { nested: M2, ..walk }
}

pub(super) fn unencrypted(walk: Walk) -> Walk {
    Walk { private: false, ..walk }
}

pub(super) const NOT_VALIDATED: GuestStop = GuestStop::Vc(VC_PAGE_NOT_VALIDATED);

/// EXITINFO1 of a nested page fault from an RMP check; fails the test for anything else.
pub(super) fn fault<T: std::fmt::Debug>(result: Result<T, GuestStop>) -> NestedFaultCode {
    match result {
        Err(GuestStop::NestedFault(code)) if code.rmp() && code.present() => code,
        other => panic!("no RMP fault but {other:?}"),
    }
}

pub(super) struct Host {
    pub(super) machine: StdMachine,
    pub(super) firmware: StdFirmware,
}

pub(super) struct Setup {
    pub(super) order: UpdateOrder,
    pub(super) choices: Choices,
    pub(super) firmware: FirmwareChoices,
    pub(super) unit: UnitConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            order: UpdateOrder::SUGGESTED,
            choices: Choices::DEFAULT,
            firmware: FirmwareChoices::DEFAULT,
            unit: UnitConfig::default(),
        }
    }
}

impl Setup {
    pub(super) fn choices(change: impl FnOnce(&mut Choices)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.choices);
        setup
    }

    /// A host with SNP on, not initialised yet.
    pub(super) fn cold(self) -> Host {
        let choices = Choices { defect: DEFECT.get(), ..self.choices };
        let coverage = Coverage::segmented(30).unwrap().with_regions(3);
        let machine = Machine::new(
            HeapStorage::new(4),
            coverage,
            HeapUnitStorage::new(CORES, 4),
            self.unit,
            self.order,
        );
        let machine = machine.with_choices(choices);
        machine.enable_snp();
        Host { machine, firmware: StdFirmware::on_heap(CORES, 16, self.firmware) }
    }

    /// The same after SNP_INIT_EX.
    pub(super) fn host(self) -> Host {
        let host = self.cold();
        assert_eq!(host.init(&|_| {}), Ok(()));
        for at in [0, RMP] {
            host.machine.reserve_pages(pages(at, 512 * 8)).unwrap();
        }
        host.machine.reserve_pages(pages(FIXED - BLOCK, 512)).unwrap();
        host.machine.reserve_pages(pages(UNCOVERED - BLOCK, 512)).unwrap();
        host
    }
}

pub(super) fn host() -> Host {
    Setup::default().host()
}

impl Host {
    /// SNP_INIT_EX with a changed operand.
    pub(super) fn init(&self, change: &dyn Fn(&mut InitEx<'_>)) -> Answer {
        let (dram, rmp) = ([pages(0, 2 * PAGES_PER_REGION)], [pages(RMP, 256)]);
        let iommu = [pages(IOMMU, 3)];
        let layout = InitLayout { dram: &dram, rmp: &rmp, iommu: &iommu, ..InitLayout::default() };
        let mut init = InitEx { init_rmp: true, layout, ..InitEx::default() };
        change(&mut init);
        self.firmware.snp_init_ex(&self.machine, &init)
    }

    pub(super) fn update(&self, at: u64, operand: &RmpOperand) -> RmpStatus {
        self.machine.rmpupdate(CORE, spa(at), operand).unwrap().status
    }

    /// An update that must succeed.
    pub(super) fn give(&self, at: u64, operand: &RmpOperand) {
        assert_eq!(self.update(at, operand), RmpStatus::SUCCESS);
    }

    pub(super) fn smash(&self, at: u64) -> RmpStatus {
        self.machine.psmash(CORE, spa(at)).unwrap().status
    }

    pub(super) fn state(&self, at: u64) -> PageState {
        self.machine.page_state(spa(at).pfn())
    }

    pub(super) fn entry(&self, at: u64) -> RmpEntry {
        self.machine.rmp().entry(spa(at).pfn()).unwrap()
    }

    pub(super) fn count(&self, at: u64) -> u16 {
        self.entry(at).subpage_count()
    }

    pub(super) fn edit(&self, at: u64, edit: impl FnOnce(RmpEntry) -> RmpEntry) {
        assert_eq!(self.machine.edit_entry(spa(at).pfn(), edit), Ok(true));
    }

    pub(super) fn host_write(&self, at: u64, size: PageSize) -> Verdict {
        self.machine.check_write(CORE, Accessor::HostKernel, spa(at), size).verdict
    }

    pub(super) fn pvalidate(
        &self,
        cpu: GuestCpu,
        walk: &Walk,
        size: PageSize,
        on: bool,
    ) -> Result<GuestResult, GuestStop> {
        self.machine.pvalidate(CORE, cpu, walk, size.bit(), u64::from(on))
    }

    /// RMPADJUST of a 4K page.
    pub(super) fn adjust(
        &self,
        cpu: GuestCpu,
        walk: &Walk,
        target: u64,
        rights: u64,
    ) -> Result<RmpStatus, GuestStop> {
        let rdx = target | rights << 8;
        self.machine.rmpadjust(CORE, cpu, walk, 0, rdx).map(|result| result.status)
    }

    /// A guest's 4K page, accepted by it. Returns the translation that its VMPL 0 uses.
    pub(super) fn valid(&self, at: u64, guest: u64, asid: u32) -> Walk {
        self.give(at, &private(guest, asid));
        self.accept(at, guest, asid, K4)
    }

    /// PVALIDATE of a page that is the guest's.
    pub(super) fn accept(&self, at: u64, guest: u64, asid: u32, size: PageSize) -> Walk {
        let walk = Walk { nested: size, ..walk(at, guest) };
        let result = self.pvalidate(cpu(asid, 0), &walk, size, true).unwrap();
        assert_eq!((result.status, result.carry), (RmpStatus::SUCCESS, false));
        assert_eq!(self.state(at), PageState::GuestValid);
        walk
    }

    /// A guest's access.
    pub(super) fn access(
        &self,
        cpu: GuestCpu,
        access: GuestAccess,
        walk: &Walk,
    ) -> Result<(), GuestStop> {
        self.machine.check_guest(CORE, cpu, access, walk).verdict
    }

    /// A context page.
    pub(super) fn context(&self, at: u64) -> Spa {
        self.give(at, &RmpOperand::firmware());
        assert_eq!(self.firmware.gctx_create(&self.machine, spa(at)), Ok(()));
        assert_eq!(self.state(at), PageState::Context);
        spa(at)
    }

    /// A guest whose launch began, with an ASID.
    pub(super) fn launching(&self, at: u64, asid: u32) -> Spa {
        let gctx = self.context(at);
        let policy = GuestPolicy::default();
        assert_eq!(self.firmware.launch_start(&self.machine, gctx, policy), Ok(()));
        assert_eq!(self.firmware.activate(&self.machine, gctx, asid), Ok(()));
        gctx
    }

    pub(super) fn reclaim(&self, at: u64, size: PageSize) -> Answer {
        self.firmware.page_reclaim(&self.machine, at | size.bit())
    }

    pub(super) fn wbinvd_everywhere(&self) {
        (0..CORES).map(CoreId).for_each(|core| self.firmware.wbinvd(core));
    }
}

/// The page of an address.
pub(super) fn pfn(at: u64) -> Pfn {
    spa(at).pfn()
}
