//! GCTX_CREATE, ACTIVATE, DECOMMISSION, GUEST_STATUS: a guest's context and its ASID.

use crate::snp_defs::{FirmwareStatus, PageSize, PageState, Spa};
use crate::snp_model::firmware::state::{asid, MemoryKind};
use crate::snp_model::firmware::{
    check_output, lock_page, require, state_of, written, Answer, Firmware, FirmwareStorage,
    GuestSlot, GuestState,
};
use crate::snp_model::sync::Ordering;
use crate::snp_model::{Defect, Machine, Storage, UnitStorage};

impl<F: FirmwareStorage> Firmware<F> {
    /// The guest whose context page this is; `INVALID_GUEST` if it is none.
    pub(super) fn guest<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
    ) -> Result<&GuestSlot, FirmwareStatus> {
        let context =
            gctx.is_aligned(PageSize::Size4K) && host.page_state(gctx.pfn()) == PageState::Context;
        let slot = self.storage.guests().iter().find(|slot| slot.page() == Some(gctx.pfn()));
        slot.filter(|_| context).ok_or(FirmwareStatus::INVALID_GUEST)
    }

    /// A guest's state and ASID, as GUEST_STATUS would tell; `None` if the page is no context.
    pub fn guest_state<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
    ) -> Option<(GuestState, u32)> {
        self.guest(host, gctx).ok().map(|guest| (guest.state(), guest.asid()))
    }

    /// SNP_GCTX_CREATE: Firmware becomes Context.
    pub fn gctx_create<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
    ) -> Answer {
        let _command = self.begin(host)?;
        require(gctx.is_aligned(PageSize::Size4K), FirmwareStatus::INVALID_ADDRESS)?;
        let pfn = gctx.pfn();
        require(self.is_in(MemoryKind::Dram, pfn), FirmwareStatus::INVALID_CONFIG)?;
        self.check_outside_rmp(pfn)?;
        let page = lock_page(host, pfn)?;
        let (state, governing) = state_of(page.as_ref());
        require(state == PageState::Firmware, FirmwareStatus::INVALID_PAGE_STATE)?;
        require(governing.size() == PageSize::Size4K, FirmwareStatus::INVALID_PAGE_SIZE)?;
        let slot = self.storage.guests().iter().find(|slot| slot.is_free());
        let slot = slot.ok_or(FirmwareStatus::RESOURCE_LIMIT)?;
        if let Some(page) = page {
            page.put_governing(written(governing.entry.with_vmsa(true)));
        }
        slot.take(pfn);
        Ok(())
    }

    /// SNP_ACTIVATE: binds the guest to an ASID.
    pub fn activate<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
        asid: u32,
    ) -> Answer {
        let _command = self.begin(host)?;
        let guest = self.guest(host, gctx)?;
        require(guest.state() != GuestState::Init, FirmwareStatus::INVALID_GUEST_STATE)?;
        let word = self.storage.asids().get(asid as usize).filter(|_| asid != 0);
        let word = word.ok_or(FirmwareStatus::INVALID_ASID)?;
        let now = word.load(Ordering::Acquire);
        let own = gctx.pfn().get() + 1;
        let owner = now & asid::OWNER;
        require(owner == 0 || owner == own, FirmwareStatus::ASID_OWNED)?;
        require(guest.asid() == 0, FirmwareStatus::ACTIVE)?;
        require(now & asid::DIRTY == 0, FirmwareStatus::DFFLUSH_REQUIRED)?;
        require(host.rmp().assigned_to(asid) == 0, FirmwareStatus::INVALID_CONFIG)?;
        word.store(own, Ordering::Release);
        guest.set(guest.state(), asid);
        Ok(())
    }

    /// SNP_DECOMMISSION: Context becomes Firmware, the ASID is dirty, WBINVD is due on every core.
    pub fn decommission<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
    ) -> Answer {
        let _command = self.begin(host)?;
        let guest = self.guest(host, gctx)?;
        let page = lock_page(host, gctx.pfn())?;
        let (state, governing) = state_of(page.as_ref());
        require(state == PageState::Context, FirmwareStatus::INVALID_GUEST)?;
        if let Some(page) = page {
            page.put_governing(written(governing.entry.with_vmsa(false)));
        }
        if let Some(word) = self.storage.asids().get(guest.asid() as usize) {
            let stays_clean = host.rmp().choices().has(Defect::AsidStaysClean);
            if guest.asid() != 0 {
                word.store(if stays_clean { 0 } else { asid::DIRTY }, Ordering::Release);
                for core in self.storage.cores() {
                    core.set_wbinvd_due(true);
                }
            }
        }
        guest.free();
        Ok(())
    }

    /// SNP_GUEST_STATUS: `output` is the page it writes to.
    pub fn guest_status<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
        output: Spa,
    ) -> Answer {
        let _command = self.begin(host)?;
        self.guest(host, gctx)?;
        check_output(host, output)
    }
}
