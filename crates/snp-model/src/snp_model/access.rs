//! RMP checks on memory accesses of the host and of ordinary guests (plain, SEV, SEV-ES).
//!
//! Only writes are checked: the hypervisor must own the page (spec/snp-arch.md 5.1, 5.2, 5.4). An
//! SNP guest's own accesses have other rules and never skip them; they are not here.

use crate::snp_defs::{NestedFaultCode, PageFaultCode};

/// Who accesses memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Accessor {
    /// The host's kernel, page-table walks with A/D updates included.
    HostKernel,
    /// A host process.
    HostUser,
    /// An ordinary guest's data access.
    Guest,
    /// An ordinary guest's page-table walk with A/D update.
    GuestWalk,
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
    /// How a write fails that the RMP forbids (spec/snp-arch.md 5.3). Nested paging counts every
    /// guest access as one from user mode.
    pub const fn refusal(self) -> Verdict {
        const HOST: u64 = PageFaultCode::PRESENT | PageFaultCode::WRITE | PageFaultCode::RMP;
        const GUEST: u64 = NestedFaultCode::PRESENT
            | NestedFaultCode::WRITE
            | NestedFaultCode::USER
            | NestedFaultCode::RMP;
        match self {
            Self::HostKernel => Verdict::PageFault(PageFaultCode(HOST)),
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
