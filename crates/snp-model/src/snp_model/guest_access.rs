//! RMP checks on an SNP guest's accesses (spec/snp-arch.md 5.1 to 5.3). RMPOPT never saves them.

use crate::snp_defs::{NestedFaultCode, PageSize, VC_PAGE_NOT_VALIDATED};
use crate::snp_model::page_lock::LockFailure;
use crate::snp_model::{CoreId, Defect, GuestCpu, GuestStop, Machine, Storage, UnitStorage, Walk};

/// What an SNP guest does with memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GuestAccess {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Supervisor shadow stack.
    ShadowStack,
    /// Instruction fetch: always private, whatever the C-bit says.
    Fetch {
        /// In user mode.
        user: bool,
    },
    /// The walk of the guest's own page table: always private.
    TableWalk {
        /// It sets an accessed or dirty bit.
        update: bool,
    },
}

/// The right bits of a permission byte (spec/snp-arch.md 2.3).
mod right {
    pub(super) const READ: u8 = 1;
    pub(super) const WRITE: u8 = 1 << 1;
    pub(super) const FETCH_USER: u8 = 1 << 2;
    pub(super) const FETCH_SUPERVISOR: u8 = 1 << 3;
    pub(super) const SHADOW_STACK: u8 = 1 << 4;
}

impl GuestAccess {
    const fn is_always_private(self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::TableWalk { .. })
    }

    const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ShadowStack | Self::TableWalk { update: true })
    }

    const fn needs(self) -> u8 {
        match self {
            Self::Read | Self::TableWalk { update: false } => right::READ,
            Self::Write | Self::TableWalk { update: true } => right::READ | right::WRITE,
            Self::ShadowStack => right::READ | right::WRITE | right::SHADOW_STACK,
            Self::Fetch { user: true } => right::FETCH_USER,
            Self::Fetch { user: false } => right::FETCH_SUPERVISOR,
        }
    }

    /// The byte allows it. Write without read is illegal: then nothing is allowed.
    const fn is_allowed_by(self, permissions: u8) -> bool {
        let illegal = permissions & (right::READ | right::WRITE) == right::WRITE;
        !illegal && permissions & self.needs() == self.needs()
    }

    /// EXITINFO1 of a fault, with more bits. `private`: used with C = 1.
    const fn fault(self, private: bool, more: u64) -> GuestStop {
        const COMMON: u64 = NestedFaultCode::PRESENT | NestedFaultCode::USER | NestedFaultCode::RMP;
        let kind = match self {
            Self::Fetch { .. } => NestedFaultCode::FETCH,
            Self::ShadowStack => NestedFaultCode::WRITE | NestedFaultCode::SHADOW_STACK,
            _ if self.writes() => NestedFaultCode::WRITE,
            _ => 0,
        };
        let step = match self {
            Self::TableWalk { .. } => NestedFaultCode::TABLE_WALK,
            _ => NestedFaultCode::FINAL_ADDRESS,
        };
        let private = if private { NestedFaultCode::ENCRYPTED } else { 0 };
        GuestStop::NestedFault(NestedFaultCode(COMMON | kind | step | private | more))
    }
}

/// What an SNP guest's access met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GuestAccessResult {
    /// `Err` if it was stopped.
    pub verdict: Result<(), GuestStop>,
    /// RMP cache lines (64 bytes) read.
    pub lines: u32,
}

/// The checks of a private access in order of priority; the first that fails decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Check {
    Covered,
    GuestOwned,
    ReverseMap,
    Mutable,
    PageSize,
    Validated,
    Vmpl,
}

const PRIVATE: [Check; 7] = [
    Check::Covered,
    Check::GuestOwned,
    Check::ReverseMap,
    Check::Mutable,
    Check::PageSize,
    Check::Validated,
    Check::Vmpl,
];

impl<S: Storage, U: UnitStorage> Machine<S, U> {
    /// What the RMP says to an access by an SNP guest on this core.
    pub fn check_guest(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        access: GuestAccess,
        walk: &Walk,
    ) -> GuestAccessResult {
        let result = |verdict, lines| GuestAccessResult { verdict, lines };
        if !self.unit().snp_en(core) {
            return result(Ok(()), 0);
        }
        if walk.private || access.is_always_private() {
            return self.check_private(cpu, access, walk);
        }
        if !access.writes() {
            return result(Ok(()), 0);
        }
        let (owned, lines) = self.rmp().hv_owned(walk.spa.pfn(), walk.nested);
        result(if owned { Ok(()) } else { Err(access.fault(false, 0)) }, lines)
    }

    fn check_private(&self, cpu: GuestCpu, access: GuestAccess, walk: &Walk) -> GuestAccessResult {
        // Under the block's lock, so that both words of the entry are of one moment.
        let page = match self.rmp().lock(walk.spa.pfn()) {
            Ok(page) => Some(page.governing()),
            Err(LockFailure::NotCovered) => None,
            // A spurious fault: another CPU changes the entry, and the host repeats.
            Err(LockFailure::Busy) => {
                return GuestAccessResult { verdict: Err(access.fault(true, 0)), lines: 1 };
            }
        };
        let lines = page.map_or(0, |page| page.lines);
        let entry = page.map(|page| page.entry).unwrap_or_default();
        let choices = self.rmp().choices();
        let mut verdict = Ok(());
        for check in PRIVATE {
            let (holds, bits) = match check {
                Check::Covered => (page.is_some(), 0),
                Check::GuestOwned => (
                    entry.assigned()
                        && (entry.asid() == cpu.asid || choices.has(Defect::OwnerIgnored)),
                    0,
                ),
                Check::ReverseMap => (
                    page.is_some_and(|page| page.gpa_page == walk.gpa_page())
                        || choices.has(Defect::ReverseMapIgnored),
                    0,
                ),
                Check::Mutable => (!entry.immutable(), 0),
                Check::PageSize => (
                    page.map_or(PageSize::Size4K, |page| page.size()) == walk.nested,
                    NestedFaultCode::SIZE_MISMATCH,
                ),
                Check::Validated => {
                    if !entry.validated() && !choices.has(Defect::ValidatedIgnored) {
                        verdict = Err(GuestStop::Vc(VC_PAGE_NOT_VALIDATED));
                        break;
                    }
                    continue;
                }
                Check::Vmpl => (
                    access.is_allowed_by(entry.vmpl_permissions(u32::from(cpu.vmpl))),
                    match access {
                        GuestAccess::ShadowStack => {
                            NestedFaultCode::VMPL | NestedFaultCode::SUPERVISOR_SHADOW_STACK
                        }
                        _ => NestedFaultCode::VMPL,
                    },
                ),
            };
            if !holds {
                verdict = Err(access.fault(true, bits));
                break;
            }
        }
        GuestAccessResult { verdict, lines }
    }
}
