//! What the firmware remembers: guests, ASIDs, the memory map, and the cores' registers that it reads.

use crate::snp_defs::{Hwcr, Pfn, Syscfg, VmHsavePa};
use crate::snp_model::sync::{const_constructor, AtomicU64, Ordering};
use crate::snp_model::PfnRange;

/// Memory of a [`Firmware`](crate::snp_model::Firmware). Slices that are too short limit what fits.
pub trait FirmwareStorage {
    /// One per physical core.
    fn cores(&self) -> &[CoreRegs];
    /// Guest contexts; as many guests can exist at once.
    fn guests(&self) -> &[GuestSlot];
    /// One word per ASID, 0 first; ASIDs past the end do not exist.
    fn asids(&self) -> &[AtomicU64];
    /// The memory map that `SNP_INIT` was given.
    fn memory(&self) -> &[MemoryRange];
}

impl<T: FirmwareStorage + ?Sized> FirmwareStorage for &T {
    fn cores(&self) -> &[CoreRegs] {
        (**self).cores()
    }
    fn guests(&self) -> &[GuestSlot] {
        (**self).guests()
    }
    fn asids(&self) -> &[AtomicU64] {
        (**self).asids()
    }
    fn memory(&self) -> &[MemoryRange] {
        (**self).memory()
    }
}

/// A core's registers that `SNP_INIT` looks at.
#[derive(Debug, Default)]
pub struct CoreRegs {
    syscfg: AtomicU64,
    hwcr: AtomicU64,
    hsave: AtomicU64,
    /// Stands for the other listed registers: any value, the same on all cores.
    others: AtomicU64,
    /// WBINVD is due since the last DECOMMISSION.
    wbinvd_due: AtomicU64,
}

impl CoreRegs {
    const_constructor! {
        /// As Linux leaves them before `SNP_INIT`.
        pub const fn ready() -> Self {
            Self {
                syscfg: AtomicU64::new(Syscfg::SNP_INIT_NEEDS),
                hwcr: AtomicU64::new(Hwcr::SMM_LOCK),
                hsave: AtomicU64::new(0),
                others: AtomicU64::new(0),
                wbinvd_due: AtomicU64::new(0),
            }
        }
    }

    /// SYSCFG; whether SNP is on for the model's machine is the machine's to say.
    pub fn syscfg(&self) -> Syscfg {
        Syscfg(self.syscfg.load(Ordering::Acquire))
    }
    /// Sets SYSCFG.
    pub fn set_syscfg(&self, value: Syscfg) {
        self.syscfg.store(value.0, Ordering::Release);
    }
    /// HWCR.
    pub fn hwcr(&self) -> Hwcr {
        Hwcr(self.hwcr.load(Ordering::Acquire))
    }
    /// Sets HWCR.
    pub fn set_hwcr(&self, value: Hwcr) {
        self.hwcr.store(value.0, Ordering::Release);
    }
    /// `VM_HSAVE_PA`.
    pub fn hsave(&self) -> VmHsavePa {
        VmHsavePa(self.hsave.load(Ordering::Acquire))
    }
    /// Sets `VM_HSAVE_PA`, after [`Machine::check_hsave`](crate::snp_model::Machine::check_hsave).
    pub fn set_hsave(&self, value: VmHsavePa) {
        self.hsave.store(value.0, Ordering::Release);
    }
    /// What stands for the other registers.
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Acquire)
    }
    /// Sets what stands for the other registers.
    pub fn set_others(&self, value: u64) {
        self.others.store(value, Ordering::Release);
    }

    pub(super) fn wbinvd_is_due(&self) -> bool {
        self.wbinvd_due.load(Ordering::Acquire) != 0
    }
    pub(super) fn set_wbinvd_due(&self, due: bool) {
        self.wbinvd_due.store(u64::from(due), Ordering::Release);
    }

    /// What must be the same on all cores.
    pub(super) fn compared(&self) -> (Syscfg, Hwcr, u64) {
        (self.syscfg(), self.hwcr(), self.others())
    }
}

/// A guest's state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GuestState {
    /// Its context page exists.
    Init,
    /// Its launch began.
    Launch,
    /// Its launch ended.
    Running,
}

/// A guest context: the model's copy of what a real one has in its context page.
#[derive(Debug, Default)]
pub struct GuestSlot {
    /// The context page's number plus one; 0 for a free slot.
    page: AtomicU64,
    /// State (0 to 2), ASID above bit 8; 0 for none.
    state: AtomicU64,
    policy: AtomicU64,
}

impl GuestSlot {
    pub(super) fn page(&self) -> Option<Pfn> {
        self.page.load(Ordering::Acquire).checked_sub(1).and_then(Pfn::new)
    }

    pub(super) fn is_free(&self) -> bool {
        self.page.load(Ordering::Acquire) == 0
    }

    pub(super) fn take(&self, page: Pfn) {
        self.state.store(0, Ordering::Release);
        self.policy.store(0, Ordering::Release);
        self.page.store(page.get() + 1, Ordering::Release);
    }

    pub(super) fn free(&self) {
        self.page.store(0, Ordering::Release);
    }

    /// The guest's state.
    pub fn state(&self) -> GuestState {
        match self.state.load(Ordering::Acquire) & 0xFF {
            0 => GuestState::Init,
            1 => GuestState::Launch,
            _ => GuestState::Running,
        }
    }

    /// The guest's ASID, 0 while it is not active.
    pub fn asid(&self) -> u32 {
        (self.state.load(Ordering::Acquire) >> 8) as u32
    }

    /// The guest's policy.
    pub fn policy(&self) -> u64 {
        self.policy.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, state: GuestState, asid: u32) {
        let state = match state {
            GuestState::Init => 0,
            GuestState::Launch => 1,
            GuestState::Running => 2,
        };
        self.state.store(state | u64::from(asid) << 8, Ordering::Release);
    }

    pub(super) fn set_policy(&self, policy: u64) {
        self.policy.store(policy, Ordering::Release);
    }
}

/// What a range of memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemoryKind {
    Dram,
    Rmp,
}

/// A range of the memory map; free while it has no pages.
#[derive(Debug, Default)]
pub struct MemoryRange {
    first: AtomicU64,
    pages: AtomicU64,
    rmp: AtomicU64,
}

impl MemoryRange {
    pub(super) fn set(&self, range: PfnRange, kind: MemoryKind) {
        self.first.store(range.first.get(), Ordering::Release);
        self.rmp.store(u64::from(kind == MemoryKind::Rmp), Ordering::Release);
        self.pages.store(range.pages, Ordering::Release);
    }

    pub(super) fn get(&self, kind: MemoryKind) -> Option<PfnRange> {
        let is_rmp = self.rmp.load(Ordering::Acquire) != 0;
        let first = Pfn::new(self.first.load(Ordering::Acquire))?;
        (is_rmp == (kind == MemoryKind::Rmp))
            .then(|| PfnRange::new(first, self.pages.load(Ordering::Acquire)))
    }
}

/// An ASID's word: its guest's context page plus one, and whether it is dirty.
pub(super) mod asid {
    /// A guest that had the ASID was decommissioned and no data fabric flush was made since.
    pub(in super::super) const DIRTY: u64 = 1 << 63;
    /// The context page's number plus one.
    pub(in super::super) const OWNER: u64 = !DIRTY;
}
