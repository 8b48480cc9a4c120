//! PAGE_RECLAIM, PAGE_UNSMASH, PAGE_SET_STATE.

use crate::snp_defs::{
    FirmwareStatus, PageSize, PageState, Pfn, RmpEntry, Spa, PAGES_PER_LARGE_PAGE,
};
use crate::snp_model::firmware::state::MemoryKind;
use crate::snp_model::firmware::{
    lock_page, require, split_size, state_of, written, Answer, Firmware, FirmwareStorage,
    RmpAddress,
};
use crate::snp_model::page_lock::LockedPage;
use crate::snp_model::{Defect, Machine, PfnRange, Storage, UnitStorage};

/// GPA bits that hold a firmware page's substate (38:36 of the page number).
const SUBSTATE: u64 = 7 << 36;

impl<F: FirmwareStorage> Firmware<F> {
    /// No command takes a page of the RMP itself.
    pub(super) fn check_outside_rmp(&self, pfn: Pfn) -> Answer {
        let code = match self.choices.rmp_address {
            RmpAddress::InvalidParam => FirmwareStatus::INVALID_PARAM,
            RmpAddress::InvalidAddress => FirmwareStatus::INVALID_ADDRESS,
        };
        require(!self.is_in(MemoryKind::Rmp, pfn), code)
    }

    /// SNP_PAGE_RECLAIM: `address` has the page's size in bit 0, other low bits are reserved.
    /// Metadata and Firmware become Reclaim, Pre-guest Guest-invalid, Pre-swap Guest-valid.
    pub fn page_reclaim<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        address: u64,
    ) -> Answer {
        let _command = self.command();
        let (bytes, size) = split_size(address);
        require(bytes % PageSize::Size4K.bytes() == 0, FirmwareStatus::INVALID_PARAM)?;
        require(host.is_initialised(), FirmwareStatus::INVALID_PLATFORM_STATE)?;
        let spa = Spa::new(bytes).ok_or(FirmwareStatus::INVALID_ADDRESS)?;
        self.check_outside_rmp(spa.pfn())?;
        let Some(page) = lock_page(host, spa.pfn())? else {
            return Err(FirmwareStatus::INVALID_PAGE_STATE);
        };
        let (state, governing) = state_of(Some(&page));
        let entry = governing.entry;
        let size_last = host.rmp().choices().has(Defect::ReclaimSizeLast);
        if size_last && !entry.immutable() {
            return Ok(());
        }
        require(governing.size() == size, FirmwareStatus::INVALID_PAGE_SIZE)?;
        require(spa.is_aligned(size), FirmwareStatus::INVALID_ADDRESS)?;
        if !entry.immutable() {
            return Ok(());
        }
        let mutable = entry.with_immutable(false);
        let new = match state {
            PageState::Metadata => mutable.with_gpa_page(mutable.gpa_page() & !SUBSTATE),
            PageState::Firmware | PageState::PreGuest | PageState::PreSwap => mutable,
            _ => return Err(FirmwareStatus::INVALID_PAGE_STATE),
        };
        page.put_governing(written(new));
        Ok(())
    }

    /// SNP_PAGE_UNSMASH: 512 immutable 4K pages of one guest become one 2M page, still immutable.
    pub fn page_unsmash<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        spa: Spa,
    ) -> Answer {
        let _command = self.begin(host)?;
        require(spa.is_aligned(PageSize::Size2M), FirmwareStatus::INVALID_PARAM)?;
        let pfn = spa.pfn();
        require(!self.is_in(MemoryKind::Rmp, pfn), FirmwareStatus::INVALID_PARAM)?;
        let overlaps = (1..PAGES_PER_LARGE_PAGE)
            .filter_map(|offset| pfn.checked_add(offset))
            .any(|page| self.is_in(MemoryKind::Rmp, page));
        require(!overlaps, FirmwareStatus::INVALID_ADDRESS)?;
        let token = host.unit().begin_update(pfn.region());
        let answer = Self::unsmash_block(host, pfn);
        // "Large pages are split and collapsed": both clear the region's RMPOPT bits.
        host.unit().end_update(token, answer.is_ok());
        answer
    }

    fn unsmash_block<S: Storage, U: UnitStorage>(host: &Machine<S, U>, pfn: Pfn) -> Answer {
        let Some(page) = lock_page(host, pfn)? else {
            return Err(FirmwareStatus::INVALID_PAGE_STATE);
        };
        let any_rights = host.rmp().choices().has(Defect::UnsmashPermissionsIgnored);
        // All 512 are looked at before any is written.
        require(can_join(&page, any_rights), FirmwareStatus::INVALID_PAGE_STATE)?;
        for index in 1..PAGES_PER_LARGE_PAGE {
            let stale = page.at(index).with_assigned(true).with_asid(0).with_immutable(false);
            page.put(index, written(stale));
        }
        let head = page.at(0).with_page_size(PageSize::Size2M).with_subpage_count(0);
        page.put(0, written(head));
        Ok(())
    }

    /// SNP_PAGE_SET_STATE: ranges of Firmware pages, 2M aligned, become HV-fixed. All are looked at
    /// before any is changed.
    pub fn page_set_state<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        ranges: &[PfnRange],
    ) -> Answer {
        let _command = self.begin(host)?;
        let blocks = |range: &PfnRange| {
            let (first, end) = (range.first.get(), range.end());
            (first..end).step_by(PAGES_PER_LARGE_PAGE as usize).filter_map(Pfn::new)
        };
        for range in ranges {
            let whole = range.first.is_head() && range.pages % PAGES_PER_LARGE_PAGE == 0;
            require(whole, FirmwareStatus::INVALID_PARAM)?;
        }
        for pfn in ranges.iter().flat_map(blocks) {
            // The RMP may begin or end inside the block, and its pages are Firmware too.
            for page in (0..PAGES_PER_LARGE_PAGE).filter_map(|offset| pfn.checked_add(offset)) {
                self.check_outside_rmp(page)?;
            }
            let page = lock_page(host, pfn)?;
            let firmware = page.is_some_and(|page| is_firmware(&page));
            require(firmware, FirmwareStatus::INVALID_PAGE_STATE)?;
        }
        for pfn in ranges.iter().flat_map(blocks) {
            let token = host.unit().begin_update(pfn.region());
            let page = lock_page(host, pfn);
            if let Ok(Some(page)) = &page {
                for index in 0..PAGES_PER_LARGE_PAGE {
                    page.put(index, RmpEntry::HV_FIXED);
                }
            }
            host.unit().end_update(token, true);
            drop(page?);
        }
        Ok(())
    }
}

/// Every page of the block is a Firmware page.
fn is_firmware(page: &LockedPage<'_>) -> bool {
    let firmware = |index| PageState::of(page.at(index)) == PageState::Firmware;
    firmware(0)
        && (page.at(0).page_size() == PageSize::Size2M || (1..PAGES_PER_LARGE_PAGE).all(firmware))
}

/// The rules of PAGE_UNSMASH.
fn can_join(page: &LockedPage<'_>, any_rights: bool) -> bool {
    let head = page.at(0);
    let state = PageState::of(head);
    let fits = |index: u64| {
        let entry = page.at(index);
        entry.immutable()
            && !entry.vmsa()
            && entry.asid() != 0
            && entry.asid() == head.asid()
            && entry.page_size() == PageSize::Size4K
            && PageState::of(entry) == state
            && (entry.hi == head.hi || any_rights)
            && entry.gpa_page() == head.gpa_page().wrapping_add(index)
    };
    head.gpa_page() % PAGES_PER_LARGE_PAGE == 0 && (0..PAGES_PER_LARGE_PAGE).all(fits)
}
