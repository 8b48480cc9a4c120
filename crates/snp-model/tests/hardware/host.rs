//! The running example: a host of 2 TiB and its guest, and pages in every state.

use snp_defs::{
    Gpa, PageSize, PageState, RmpEntry, RmpOperand, RmpStatus, Spa, PAGES_PER_LARGE_PAGE,
    PAGES_PER_REGION,
};
use snp_model::{
    Choices, CoreId, Coverage, FirmwareChoices, GuestCpu, GuestPolicy, HeapStorage,
    HeapUnitStorage, InitEx, InitLayout, LaunchPage, Machine, PfnRange, StdFirmware, StdMachine,
    UnitConfig, UpdateOrder, Walk,
};

pub(crate) const K4: PageSize = PageSize::Size4K;
pub(crate) const M2: PageSize = PageSize::Size2M;
/// Two cores: a leader and a follower.
pub(crate) const CORE: CoreId = CoreId(0);
pub(crate) const OTHER_CORE: CoreId = CoreId(1);
/// GiB of memory, all of it covered by the RMP.
pub(crate) const GIB: u32 = 2048;
/// log2 of a segment: 128 GiB.
pub(crate) const SEGMENT: u32 = 37;
/// Bytes of RMP that a segment takes.
const SEGMENT_RMP: u64 = 512 << 20;
/// Bookkeeping and segment table.
pub(crate) const RMP_BASE: u64 = 4 << 30;
/// The guest's ASID.
pub(crate) const ASID: u32 = 5;
/// Another guest's.
pub(crate) const OTHER_ASID: u32 = 6;
/// The guest's memory begins here, in region 200, with guest address 0.
pub(crate) const MEMORY: u64 = 200 << 30;
/// The page of the examples: 2 MiB and three pages behind that.
pub(crate) const PAGE: u64 = MEMORY + 0x20_3000;
/// The guest's context page, in the host kernel's region 8.
pub(crate) const CONTEXT: u64 = 8 << 30;
/// IOMMU buffers.
const IOMMU: u64 = 9 << 30;
/// HV-fixed on every host.
pub(crate) const FIXED: u64 = 0xFD_0000_0000;
/// Memory without entries.
pub(crate) const UNCOVERED: u64 = (GIB as u64) << 30;

pub(crate) fn spa(bytes: u64) -> Spa {
    Spa::new(bytes).unwrap()
}

pub(crate) fn gpa(bytes: u64) -> Gpa {
    Gpa::new(bytes).unwrap()
}

pub(crate) fn pages(at: u64, count: u64) -> PfnRange {
    PfnRange::new(spa(at).pfn(), count)
}

/// The guest address of a page of the guest's memory.
pub(crate) fn guest_address(at: u64) -> u64 {
    at.saturating_sub(MEMORY)
}

/// Where a segment's part of the RMP lies: at the top of the segment.
pub(crate) fn segment_rmp(index: u64) -> u64 {
    ((index + 1) << SEGMENT) - SEGMENT_RMP
}

/// The guest's page as RMPUPDATE is told of it.
pub(crate) fn private(at: u64, size: PageSize, immutable: bool) -> RmpOperand {
    RmpOperand::private(gpa(guest_address(at)), size, ASID, immutable)
}

pub(crate) fn vmpl(vmpl: u8) -> GuestCpu {
    GuestCpu { asid: ASID, vmpl }
}

/// The guest's private translation of a page.
pub(crate) fn walk(at: u64) -> Walk {
    let guest = guest_address(at);
    Walk { gva: guest, gpa: gpa(guest), spa: spa(at), nested: K4, private: true }
}

pub(crate) struct Host {
    pub(crate) machine: StdMachine,
    pub(crate) firmware: StdFirmware,
}

impl Host {
    /// The host after SNP_INIT_EX, no guest on it.
    pub(crate) fn new() -> Self {
        Self::with(UnitConfig::default(), UpdateOrder::default())
    }

    pub(crate) fn with(unit: UnitConfig, order: UpdateOrder) -> Self {
        let coverage = Coverage::segmented(SEGMENT).unwrap().with_regions(GIB);
        let memory = HeapStorage::new(GIB + 1);
        let machine = Machine::new(memory, coverage, HeapUnitStorage::new(2, GIB + 1), unit, order)
            .with_choices(Choices::DEFAULT);
        machine.enable_snp();
        let host =
            Self { machine, firmware: StdFirmware::on_heap(2, 64, FirmwareChoices::DEFAULT) };
        let dram = [pages(0, u64::from(GIB) * PAGES_PER_REGION)];
        let segments = u64::from(GIB) >> (SEGMENT - 30);
        let mut rmp = vec![pages(RMP_BASE, 256)];
        rmp.extend((0..segments).map(|index| pages(segment_rmp(index), SEGMENT_RMP >> 12)));
        let iommu = [pages(IOMMU, 1)];
        let layout = InitLayout { dram: &dram, rmp: &rmp, iommu: &iommu, ..InitLayout::default() };
        let init = InitEx { init_rmp: true, layout, ..InitEx::default() };
        host.firmware.snp_init_ex(&host.machine, &init).unwrap();
        for at in [MEMORY, MEMORY + (2 << 20), CONTEXT, IOMMU, FIXED, PAGE + (1 << 30)] {
            host.machine.reserve_pages(pages(at, PAGES_PER_LARGE_PAGE)).unwrap();
        }
        host
    }

    pub(crate) fn update(&self, at: u64, operand: &RmpOperand) -> RmpStatus {
        self.machine.rmpupdate(CORE, spa(at), operand).unwrap().status
    }

    /// An update that must succeed.
    pub(crate) fn give(&self, at: u64, operand: &RmpOperand) {
        assert_eq!(self.update(at, operand), RmpStatus::SUCCESS);
    }

    pub(crate) fn state(&self, at: u64) -> PageState {
        self.machine.page_state(spa(at).pfn())
    }

    pub(crate) fn entry(&self, at: u64) -> Option<RmpEntry> {
        self.machine.rmp().entry(spa(at).pfn())
    }

    pub(crate) fn reclaim(&self, at: u64, size: PageSize) {
        self.firmware.page_reclaim(&self.machine, at | size.bit()).unwrap();
    }

    /// The guest accepts one of its pages.
    pub(crate) fn accept(&self, at: u64) {
        let done = self.machine.pvalidate(CORE, vmpl(0), &walk(at), 0, 1).unwrap();
        assert!(done.status.is_success() && !done.carry);
    }

    /// The guest's context, its launch begun, its ASID bound.
    pub(crate) fn launching(&self) -> Spa {
        let Self { machine, firmware } = self;
        self.give(CONTEXT, &RmpOperand::firmware());
        firmware.gctx_create(machine, spa(CONTEXT)).unwrap();
        firmware.launch_start(machine, spa(CONTEXT), GuestPolicy::default()).unwrap();
        firmware.activate(machine, spa(CONTEXT), ASID).unwrap();
        spa(CONTEXT)
    }

    /// Brings a page into the state, by the instructions and commands that lead there, and gives its
    /// address. The guest is in its launch where the state does not forbid it.
    pub(crate) fn page_in(&self, state: PageState) -> u64 {
        let at = match state {
            PageState::Default => UNCOVERED,
            PageState::HvFixed => FIXED,
            PageState::FirmwareIommu => IOMMU,
            PageState::Context => CONTEXT,
            _ => PAGE,
        };
        match state {
            PageState::Default
            | PageState::Hypervisor
            | PageState::HvFixed
            | PageState::FirmwareIommu
            | PageState::Context => {}
            PageState::Firmware => self.give(at, &RmpOperand::firmware()),
            PageState::Reclaim => {
                self.give(at, &RmpOperand::firmware());
                self.reclaim(at, K4);
            }
            PageState::Metadata => {
                // The model has no PAGE_MD_INIT: the entry as that command leaves it.
                self.give(at, &RmpOperand::firmware());
                let entry = RmpEntry::FIRMWARE
                    .with_gpa_page(PageState::SUBSTATE_METADATA << 36 | CONTEXT >> 12);
                self.machine.edit_entry(spa(at).pfn(), |_| entry).unwrap();
            }
            PageState::PreGuest => self.give(at, &private(at, K4, true)),
            PageState::PreSwap => {
                self.give(at, &private(at, K4, false));
                self.accept(at);
                self.give(at, &private(at, K4, true));
            }
            PageState::GuestInvalid => self.give(at, &private(at, K4, false)),
            PageState::GuestValid => {
                self.give(at, &private(at, K4, true));
                let page = LaunchPage::normal(spa(at));
                self.firmware.launch_update(&self.machine, spa(CONTEXT), &page).unwrap();
            }
            PageState::Invalid => panic!("no page is meant to be {state}"),
        }
        assert_eq!(self.state(at), state);
        at
    }
}

/// Every state of a page, by owner.
pub(crate) const STATES: [PageState; 12] = [
    PageState::Default,
    PageState::Hypervisor,
    PageState::HvFixed,
    PageState::Firmware,
    PageState::Context,
    PageState::Metadata,
    PageState::FirmwareIommu,
    PageState::Reclaim,
    PageState::PreGuest,
    PageState::GuestInvalid,
    PageState::GuestValid,
    PageState::PreSwap,
];
