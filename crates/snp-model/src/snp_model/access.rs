//! RMP checks on memory accesses of the host and of ordinary guests (plain, SEV, SEV-ES).
//!
//! Only writes are checked: the hypervisor must own the page (spec/snp-arch.md 5.1, 5.2, 5.4). An
//! SNP guest's own accesses have other rules and never skip them; they are not here.

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
    PageFault(u32),
    /// `#VMEXIT(NPF)` with this EXITINFO1.
    NestedPageFault(u64),
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

/// Bits of `#PF` error codes and of EXITINFO1 (spec/snp-arch.md 5.3).
const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const RMP: u64 = 1 << 31;
const FINAL_TRANSLATION: u64 = 1 << 32;
const TABLE_WALK: u64 = 1 << 33;

impl Accessor {
    /// How a write fails that the RMP forbids. Nested walks count as user accesses.
    pub const fn refusal(self) -> Verdict {
        let base = PRESENT | WRITE | RMP;
        match self {
            Self::HostKernel => Verdict::PageFault(base as u32),
            Self::HostUser => Verdict::PageFault((base | USER) as u32),
            Self::Guest => Verdict::NestedPageFault(base | USER | FINAL_TRANSLATION),
            Self::GuestWalk => Verdict::NestedPageFault(base | USER | TABLE_WALK),
        }
    }
}
