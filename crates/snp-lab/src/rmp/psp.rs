//! The firmware over blocks: guests, ASIDs, flushes (spec/snp-arch.md 4.3). What a command asks of a
//! page, [`Extents`](super::Extents) looks up.

use std::collections::HashMap;

use snp_defs::{FirmwareStatus, Pfn};
use snp_model::{Answer, GuestState};

use super::ASIDS;

/// A guest's context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) state: GuestState,
    /// 0 while it is not active.
    pub(super) asid: u32,
}

/// An ASID.
#[derive(Clone, Copy, Debug, Default)]
struct Asid {
    owner: Option<Pfn>,
    dirty: bool,
    /// 4 KiB pages assigned to it.
    pages: u64,
}

#[derive(Debug)]
pub(super) struct Psp {
    contexts: HashMap<Pfn, Context>,
    /// By number; 0 is the hypervisor's.
    asids: Vec<Asid>,
    wbinvd_due: bool,
}

fn require(holds: bool, otherwise: FirmwareStatus) -> Answer {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Psp {
    pub(super) fn new() -> Self {
        Self {
            contexts: HashMap::new(),
            asids: vec![Asid::default(); ASIDS as usize + 1],
            wbinvd_due: false,
        }
    }

    pub(super) fn context(&self, page: Pfn) -> Result<Context, FirmwareStatus> {
        self.contexts.get(&page).copied().ok_or(FirmwareStatus::INVALID_GUEST)
    }

    pub(super) fn is_context(&self, page: Pfn) -> bool {
        self.contexts.contains_key(&page)
    }

    /// Pages of an ASID came and went.
    pub(super) fn count(&mut self, asid: u32, more: u64, fewer: u64) {
        if let Some(asid) = self.asids.get_mut(asid as usize) {
            asid.pages = (asid.pages + more).saturating_sub(fewer);
        }
    }

    /// The page is a Firmware page.
    pub(super) fn create(&mut self, page: Pfn) {
        self.contexts.insert(page, Context { state: GuestState::Init, asid: 0 });
    }

    pub(super) fn launch_start(&mut self, page: Pfn) -> Answer {
        let context = self.context(page)?;
        require(context.state == GuestState::Init, FirmwareStatus::INVALID_GUEST_STATE)?;
        self.contexts.insert(page, Context { state: GuestState::Launch, ..context });
        Ok(())
    }

    pub(super) fn activate(&mut self, page: Pfn, number: u32) -> Answer {
        let context = self.context(page)?;
        require(context.state != GuestState::Init, FirmwareStatus::INVALID_GUEST_STATE)?;
        let asid = self.asids.get_mut(number as usize).filter(|_| number != 0);
        let asid = asid.ok_or(FirmwareStatus::INVALID_ASID)?;
        require(asid.owner.is_none_or(|owner| owner == page), FirmwareStatus::ASID_OWNED)?;
        require(context.asid == 0, FirmwareStatus::ACTIVE)?;
        require(!asid.dirty, FirmwareStatus::DFFLUSH_REQUIRED)?;
        require(asid.pages == 0, FirmwareStatus::INVALID_CONFIG)?;
        asid.owner = Some(page);
        self.contexts.insert(page, Context { asid: number, ..context });
        Ok(())
    }

    pub(super) fn launch_finish(&mut self, page: Pfn) -> Answer {
        let context = self.context(page)?;
        require(context.state == GuestState::Launch, FirmwareStatus::INVALID_GUEST_STATE)?;
        require(context.asid != 0, FirmwareStatus::INACTIVE)?;
        self.contexts.insert(page, Context { state: GuestState::Running, ..context });
        Ok(())
    }

    pub(super) fn decommission(&mut self, page: Pfn) -> Answer {
        let context = self.context(page)?;
        self.contexts.remove(&page);
        if let Some(asid) = self.asids.get_mut(context.asid as usize).filter(|_| context.asid != 0)
        {
            (asid.owner, asid.dirty) = (None, true);
            self.wbinvd_due = true;
        }
        Ok(())
    }

    pub(super) fn wbinvd(&mut self) {
        self.wbinvd_due = false;
    }

    pub(super) fn df_flush(&mut self) -> Answer {
        require(!self.wbinvd_due, FirmwareStatus::WBINVD_REQUIRED)?;
        for asid in &mut self.asids {
            asid.dirty = false;
        }
        Ok(())
    }

    /// `SNP_SHUTDOWN_EX`: everything is forgotten.
    pub(super) fn shutdown(&mut self) -> Answer {
        let dirty = self.asids.iter().any(|asid| asid.dirty);
        require(!dirty, FirmwareStatus::DFFLUSH_REQUIRED)?;
        *self = Self::new();
        Ok(())
    }
}
