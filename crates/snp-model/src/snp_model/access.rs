//! RMP checks on memory accesses of the host and of ordinary guests (plain, SEV, SEV-ES).
//!
//! Writes and page-table walks are checked: the hypervisor must own the page (spec/snp-arch.md 5.1,
//! 5.2, 5.4). An SNP guest's own accesses have other rules: `guest_access.rs`.

use crate::snp_defs::{NestedFaultCode, PageFaultCode, PageSize};

/// Who accesses memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Accessor {
    /// The host's kernel.
    HostKernel,
    /// A host process.
    HostUser,
    /// An ordinary guest's data access.
    Guest,
    /// An ordinary guest's page-table walk, with or without A/D update.
    GuestWalk,
    /// The host's page-table walk (nested page tables included), with or without A/D update.
    HostWalk,
}

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AccessKind {
    /// Data read: never checked, gives ciphertext of private memory.
    Read,
    /// Instruction fetch: never checked.
    Fetch,
    /// Write.
    Write,
}

/// How an access ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It went through.
    Allowed,
    /// `#PF` with this error code.
    PageFault(PageFaultCode),
    /// `#VMEXIT(NPF)` with this EXITINFO1.
    NestedPageFault(NestedFaultCode),
}

/// What an access met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// How it ended.
    pub verdict: Verdict,
    /// An RMP check was due and RMPOPT saved it.
    pub skipped_by_rmpopt: bool,
    /// RMP cache lines (64 bytes) read.
    pub lines: u32,
}

impl Accessor {
    /// A page-table walk: checked whatever it does, and always as an access of 4K.
    pub const fn is_walk(self) -> bool {
        matches!(self, Self::HostWalk | Self::GuestWalk)
    }

    /// What of an access is checked, and at which size; `None` if nothing is.
    pub const fn checked_size(self, kind: AccessKind, size: PageSize) -> Option<PageSize> {
        match (self.is_walk(), kind) {
            (true, _) => Some(PageSize::Size4K),
            (false, AccessKind::Write) => Some(size),
            (false, _) => None,
        }
    }

    /// How a write fails that the RMP forbids (spec/snp-arch.md 5.3). Nested paging counts every
    /// guest access as one from user mode.
    pub const fn refusal(self) -> Verdict {
        const HOST: u64 = PageFaultCode::PRESENT | PageFaultCode::WRITE | PageFaultCode::RMP;
        const GUEST: u64 = NestedFaultCode::PRESENT
            | NestedFaultCode::WRITE
            | NestedFaultCode::USER
            | NestedFaultCode::RMP;
        match self {
            Self::HostKernel | Self::HostWalk => Verdict::PageFault(PageFaultCode(HOST)),
            Self::HostUser => Verdict::PageFault(PageFaultCode(HOST | PageFaultCode::USER)),
            Self::Guest => {
                Verdict::NestedPageFault(NestedFaultCode(GUEST | NestedFaultCode::FINAL_ADDRESS))
            }
            Self::GuestWalk => {
                Verdict::NestedPageFault(NestedFaultCode(GUEST | NestedFaultCode::TABLE_WALK))
            }
        }
    }
}
