//! The firmware's commands of a platform's and a guest's life.

use ::snp_defs::{FirmwareStatus, PageSize, PageState, Pfn, Spa};

use super::{Oracle, Page, BLOCK};
use crate::snp_model::{
    Answer, CoreId, FirmwareChoices, GuestPolicy, GuestState, InitLayout, LaunchCheck, LaunchPage,
    PageType, PfnRange, RmpAddress,
};

#[derive(Clone, Copy, Debug)]
struct Guest {
    page: u64,
    state: GuestState,
    asid: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asid {
    /// The context page of the guest that has it.
    owner: Option<u64>,
    dirty: bool,
}

/// What the firmware remembers.
#[derive(Debug)]
pub(super) struct Firmware {
    choices: FirmwareChoices,
    guests: Vec<Option<Guest>>,
    asids: Vec<Asid>,
    dram: Vec<PfnRange>,
    rmp: Vec<PfnRange>,
    /// The RMP was built and not given up since.
    has_rmp: bool,
}

impl Firmware {
    pub(super) fn new(asids: u32, choices: FirmwareChoices) -> Self {
        Self {
            choices,
            guests: vec![None; asids as usize],
            asids: vec![Asid::default(); asids as usize],
            dram: Vec::new(),
            rmp: Vec::new(),
            has_rmp: false,
        }
    }

    fn forget_guests(&mut self) {
        self.guests.fill(None);
        self.asids.fill(Asid::default());
    }
}

fn holds(ranges: &[PfnRange], pfn: u64) -> bool {
    ranges.iter().any(|range| pfn >= range.first.get() && pfn < range.end())
}

fn require(holds: bool, otherwise: FirmwareStatus) -> Answer {
    if holds {
        Ok(())
    } else {
        Err(otherwise)
    }
}

impl Oracle {
    fn require_snp(&self) -> Answer {
        require(self.initialised, FirmwareStatus::INVALID_PLATFORM_STATE)
    }

    fn require_outside_rmp(&self, pfn: u64) -> Answer {
        let code = match self.firmware.choices.rmp_address {
            RmpAddress::InvalidParam => FirmwareStatus::INVALID_PARAM,
            RmpAddress::InvalidAddress => FirmwareStatus::INVALID_ADDRESS,
        };
        require(!holds(&self.firmware.rmp, pfn), code)
    }

    /// State, entry; a page without one is Default and small.
    fn firmware_page(&self, pfn: u64) -> (PageState, Page) {
        match self.governing(pfn) {
            Some((page, _)) => (page.state(), page),
            None => (PageState::Default, Page::HYPERVISOR),
        }
    }

    /// The firmware writes an entry: its lock follows `immutable`.
    fn firmware_writes(&mut self, pfn: u64, page: Page) {
        if self.page(pfn).is_some() {
            self.change_governing(pfn, Page { lock: page.immutable, ..page });
        }
    }

    /// Position of the guest whose context page this is.
    fn guest(&self, gctx: Spa) -> Result<usize, FirmwareStatus> {
        let pfn = gctx.get() / 4096;
        let (state, _) = self.firmware_page(pfn);
        let context = gctx.get() % 4096 == 0 && state == PageState::Context;
        let has_page = |guest: &Option<Guest>| guest.is_some_and(|guest| guest.page == pfn);
        let found = self.firmware.guests.iter().position(has_page);
        found.filter(|_| context).ok_or(FirmwareStatus::INVALID_GUEST)
    }

    fn guest_at(&mut self, at: usize) -> Option<&mut Guest> {
        self.firmware.guests.get_mut(at).and_then(Option::as_mut)
    }

    fn state_and_asid(&self, gctx: Spa) -> Result<(usize, GuestState, u32), FirmwareStatus> {
        let at = self.guest(gctx)?;
        match self.firmware.guests[at] {
            Some(guest) => Ok((at, guest.state, guest.asid)),
            None => Err(FirmwareStatus::INVALID_GUEST),
        }
    }

    // ---- the platform ----

    /// SNP_INIT_EX on a host whose registers other than `SNP_EN` are as they should be.
    pub fn snp_init_ex(&mut self, init_rmp: bool, list: bool, layout: &InitLayout<'_>) -> Answer {
        require(!self.initialised, FirmwareStatus::INVALID_PLATFORM_STATE)?;
        require(init_rmp || !list, FirmwareStatus::INVALID_PARAM)?;
        let snp_on = self.cores.iter().all(|core| core.snp_en);
        require(snp_on, FirmwareStatus::INVALID_CONFIG)?;
        if !init_rmp {
            require(self.firmware.has_rmp, FirmwareStatus::RMP_INIT_REQUIRED)?;
            self.rmp_is_ready();
            return Ok(());
        }
        for rmp in layout.rmp {
            let whole = rmp.first.get() % 256 == 0 && rmp.pages % 256 == 0;
            let in_ram = layout
                .dram
                .iter()
                .any(|dram| dram.first.get() <= rmp.first.get() && rmp.end() <= dram.end());
            require(whole && in_ram, FirmwareStatus::INVALID_CONFIG)?;
        }
        self.firmware.dram = layout.dram.to_vec();
        self.firmware.rmp = layout.rmp.to_vec();
        let hv_fixed = if list { layout.hv_fixed } else { &[] };
        self.build_rmp(&InitLayout { hv_fixed, ..*layout });
        self.forget_guests();
        self.firmware.has_rmp = true;
        self.rmp_is_ready();
        Ok(())
    }

    fn forget_guests(&mut self) {
        self.firmware.forget_guests();
        for core in &mut self.cores {
            core.wbinvd_due = false;
        }
    }

    /// SNP_SHUTDOWN_EX.
    pub fn snp_shutdown_ex(&mut self, iommu: bool, x86: bool, buffers: &[PfnRange]) -> Answer {
        self.require_snp()?;
        require(iommu || !x86, FirmwareStatus::INVALID_PARAM)?;
        let dirty = self.firmware.asids.iter().any(|asid| asid.dirty);
        require(!dirty, FirmwareStatus::DFFLUSH_REQUIRED)?;
        if iommu {
            self.release_iommu_pages(buffers);
            self.firmware.has_rmp = false;
        }
        self.forget_guests();
        self.leave_snp(iommu, x86);
        Ok(())
    }

    /// WBINVD on a core.
    pub fn wbinvd(&mut self, core: CoreId) {
        self.core(core).wbinvd_due = false;
    }

    /// SNP_DF_FLUSH.
    pub fn df_flush(&mut self) -> Answer {
        self.require_snp()?;
        let due = self.cores.iter().any(|core| core.wbinvd_due);
        require(!due, FirmwareStatus::WBINVD_REQUIRED)?;
        for asid in &mut self.firmware.asids {
            asid.dirty = false;
        }
        Ok(())
    }

    // ---- guests ----

    /// SNP_GCTX_CREATE.
    pub fn gctx_create(&mut self, gctx: Spa) -> Answer {
        self.require_snp()?;
        require(gctx.get() % 4096 == 0, FirmwareStatus::INVALID_ADDRESS)?;
        let pfn = gctx.get() / 4096;
        require(holds(&self.firmware.dram, pfn), FirmwareStatus::INVALID_CONFIG)?;
        self.require_outside_rmp(pfn)?;
        let (state, page) = self.firmware_page(pfn);
        require(state == PageState::Firmware, FirmwareStatus::INVALID_PAGE_STATE)?;
        require(!page.large, FirmwareStatus::INVALID_PAGE_SIZE)?;
        let free = self.firmware.guests.iter().position(Option::is_none);
        let at = free.ok_or(FirmwareStatus::RESOURCE_LIMIT)?;
        self.firmware_writes(pfn, Page { vmsa: true, ..page });
        self.firmware.guests[at] = Some(Guest { page: pfn, state: GuestState::Init, asid: 0 });
        Ok(())
    }

    /// SNP_ACTIVATE.
    pub fn activate(&mut self, gctx: Spa, asid: u32) -> Answer {
        self.require_snp()?;
        let (at, state, has) = self.state_and_asid(gctx)?;
        require(state != GuestState::Init, FirmwareStatus::INVALID_GUEST_STATE)?;
        let now = self.firmware.asids.get(asid as usize).filter(|_| asid != 0);
        let now = *now.ok_or(FirmwareStatus::INVALID_ASID)?;
        let own = gctx.get() / 4096;
        require(now.owner.is_none_or(|page| page == own), FirmwareStatus::ASID_OWNED)?;
        require(has == 0, FirmwareStatus::ACTIVE)?;
        require(!now.dirty, FirmwareStatus::DFFLUSH_REQUIRED)?;
        require(self.assigned_to(asid) == 0, FirmwareStatus::INVALID_CONFIG)?;
        self.firmware.asids[asid as usize].owner = Some(own);
        if let Some(guest) = self.guest_at(at) {
            guest.asid = asid;
        }
        Ok(())
    }

    /// SNP_DECOMMISSION.
    pub fn decommission(&mut self, gctx: Spa) -> Answer {
        self.require_snp()?;
        let (at, _, asid) = self.state_and_asid(gctx)?;
        let pfn = gctx.get() / 4096;
        let (_, page) = self.firmware_page(pfn);
        self.firmware_writes(pfn, Page { vmsa: false, ..page });
        if asid != 0 {
            self.firmware.asids[asid as usize] = Asid { owner: None, dirty: true };
            for core in &mut self.cores {
                core.wbinvd_due = true;
            }
        }
        self.firmware.guests[at] = None;
        Ok(())
    }

    /// SNP_LAUNCH_START.
    pub fn launch_start(&mut self, gctx: Spa, policy: GuestPolicy) -> Answer {
        self.require_snp()?;
        let (at, state, _) = self.state_and_asid(gctx)?;
        require(state == GuestState::Init, FirmwareStatus::INVALID_GUEST_STATE)?;
        let version = self.firmware.choices.version;
        let own = u64::from(version.major) << 8 | u64::from(version.minor);
        require(policy.0 & 0xFFFF <= own, FirmwareStatus::POLICY_FAILURE)?;
        if let Some(guest) = self.guest_at(at) {
            guest.state = GuestState::Launch;
        }
        Ok(())
    }

    /// SNP_LAUNCH_UPDATE.
    pub fn launch_update(&mut self, gctx: Spa, operand: &LaunchPage) -> Answer {
        self.require_snp()?;
        require(operand.reserved == 0, FirmwareStatus::INVALID_PARAM)?;
        let bytes = operand.size.bytes();
        require(operand.spa.get() % bytes == 0, FirmwareStatus::INVALID_ADDRESS)?;
        let pfn = operand.spa.get() / 4096;
        self.require_outside_rmp(pfn)?;
        let (_, guest_state, asid) = self.state_and_asid(gctx)?;
        let (state, page) = self.firmware_page(pfn);
        let small_only = matches!(
            operand.page_type,
            PageType::Vmsa | PageType::Secrets | PageType::Cpuid { .. }
        );
        for check in self.firmware.choices.launch_update.0 {
            let (good, code) = match check {
                LaunchCheck::Size => (
                    page.size() == operand.size
                        && !(small_only && operand.size == PageSize::Size2M),
                    FirmwareStatus::INVALID_PAGE_SIZE,
                ),
                LaunchCheck::GuestState => {
                    (guest_state == GuestState::Launch, FirmwareStatus::INVALID_GUEST_STATE)
                }
                LaunchCheck::Active => (asid != 0, FirmwareStatus::INACTIVE),
                LaunchCheck::PageState => {
                    (state == PageState::PreGuest, FirmwareStatus::INVALID_PAGE_STATE)
                }
                LaunchCheck::Owner => (page.asid == asid, FirmwareStatus::INVALID_PAGE_OWNER),
            };
            require(good, code)?;
        }
        let allowed = operand.page_type != PageType::Cpuid { allowed: false };
        require(allowed, FirmwareStatus::INVALID_PARAM)?;
        let [vmpl1, vmpl2, vmpl3] = operand.rights;
        let launched = Page {
            immutable: false,
            validated: true,
            vmsa: operand.page_type == PageType::Vmsa,
            rights: [0x1F, vmpl1, vmpl2, vmpl3],
            ..page
        };
        self.firmware_writes(pfn, launched);
        Ok(())
    }

    /// SNP_LAUNCH_FINISH without id block and migration image.
    pub fn launch_finish(&mut self, gctx: Spa) -> Answer {
        self.require_snp()?;
        let (at, state, asid) = self.state_and_asid(gctx)?;
        require(state == GuestState::Launch, FirmwareStatus::INVALID_GUEST_STATE)?;
        require(asid != 0, FirmwareStatus::INACTIVE)?;
        if let Some(guest) = self.guest_at(at) {
            guest.state = GuestState::Running;
        }
        Ok(())
    }

    // ---- pages ----

    /// SNP_PAGE_RECLAIM.
    pub fn page_reclaim(&mut self, address: u64) -> Answer {
        let (bytes, large) = (address & !1, address & 1 == 1);
        require(bytes % 4096 == 0, FirmwareStatus::INVALID_PARAM)?;
        self.require_snp()?;
        require(bytes < 1 << 52, FirmwareStatus::INVALID_ADDRESS)?;
        let pfn = bytes / 4096;
        self.require_outside_rmp(pfn)?;
        let (state, page) = self.firmware_page(pfn);
        require(state != PageState::Default, FirmwareStatus::INVALID_PAGE_STATE)?;
        require(page.large == large, FirmwareStatus::INVALID_PAGE_SIZE)?;
        require(!large || bytes % (2 << 20) == 0, FirmwareStatus::INVALID_ADDRESS)?;
        if !page.immutable {
            return Ok(());
        }
        let gpa = match state {
            PageState::Metadata => page.gpa & !(7 << 48),
            PageState::Firmware | PageState::PreGuest | PageState::PreSwap => page.gpa,
            _ => return Err(FirmwareStatus::INVALID_PAGE_STATE),
        };
        self.firmware_writes(pfn, Page { immutable: false, gpa, ..page });
        Ok(())
    }

    /// SNP_PAGE_UNSMASH.
    pub fn page_unsmash(&mut self, spa: Spa) -> Answer {
        self.require_snp()?;
        let first = spa.get() / 4096;
        require(spa.get() % (2 << 20) == 0, FirmwareStatus::INVALID_PARAM)?;
        require(!holds(&self.firmware.rmp, first), FirmwareStatus::INVALID_PARAM)?;
        let overlaps = (first + 1..first + BLOCK).any(|pfn| holds(&self.firmware.rmp, pfn));
        require(!overlaps, FirmwareStatus::INVALID_ADDRESS)?;
        let head = self.page(first).ok_or(FirmwareStatus::INVALID_PAGE_STATE)?;
        for index in 0..BLOCK {
            let page = self.page(first + index).unwrap_or_default();
            let fits = page.assigned
                && !page.large
                && page.immutable
                && !page.vmsa
                && page.asid != 0
                && page.asid == head.asid
                && page.validated == head.validated
                && page.rights == head.rights
                && page.gpa == head.gpa + index * 4096
                && head.gpa % (2 << 20) == 0;
            require(fits, FirmwareStatus::INVALID_PAGE_STATE)?;
        }
        for pfn in first + 1..first + BLOCK {
            self.edit(pfn, |page| {
                (page.asid, page.immutable, page.lock) = (0, false, false);
            });
        }
        self.edit(first, |page| (page.large, page.lock) = (true, true));
        self.clear_region(spa.region());
        Ok(())
    }

    /// SNP_PAGE_SET_STATE of one range.
    pub fn page_set_state(&mut self, range: PfnRange) -> Answer {
        self.require_snp()?;
        let whole = range.first.get() % BLOCK == 0 && range.pages % BLOCK == 0;
        require(whole, FirmwareStatus::INVALID_PARAM)?;
        let blocks = || (range.first.get()..range.end()).step_by(BLOCK as usize);
        for first in blocks().filter(|&first| Pfn::new(first).is_some()) {
            (first..first + BLOCK).try_for_each(|pfn| self.require_outside_rmp(pfn))?;
            let is_firmware =
                |pfn| self.page(pfn).is_some_and(|page| page.state() == PageState::Firmware);
            let large = self.page(first).is_some_and(|page| page.large);
            let all = is_firmware(first) && (large || (first + 1..first + BLOCK).all(is_firmware));
            require(all, FirmwareStatus::INVALID_PAGE_STATE)?;
        }
        for first in blocks().filter_map(Pfn::new) {
            for pfn in first.get()..first.get() + BLOCK {
                self.set(pfn, Page::HV_FIXED);
            }
            self.clear_region(first.region());
        }
        Ok(())
    }
}
