//! Defects that can be seeded, to show that the laws' checks, the firmware or the books see them.

use snp_model::Fault;

use crate::scenario::Nanos;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// An RMPUPDATE that should clear a region's RMPOPT bits does not (breaks law 1).
    DropClear,
    /// A verify believes a cached scan result although the region changed (breaks law 1).
    StaleCache,
    /// The executor never runs a batch that a follower was offered (breaks law 3).
    SkipFollower,
    /// A follower does not look at the clock: it holds its CPU until its batch is done (breaks law 5).
    Overstay,
    /// The host does not PSMASH: neither for a nested fault that asks for it nor before it makes a
    /// part of a 2 MiB entry shared (the pages cannot be given back).
    NoPsmash,
    /// The host gives leaked pages back to the allocator (the next guest gets assigned memory).
    LeakFreed,
    /// The host uses an ASID again without WBINVD and `SNP_DF_FLUSH` (`SNP_ACTIVATE` refuses).
    NoFlush,
    /// A guest's end begins while its vCPUs run (its save areas cannot be given back).
    NoVmexit,
    /// The host leaves out `immutable` for a launch page (`SNP_LAUNCH_UPDATE` refuses).
    LaunchMutable,
    /// The firmware answers `SNP_PAGE_RECLAIM` with `HWERROR_PLATFORM` (the page leaks).
    ReclaimFails,
    /// The firmware answers `SNP_DECOMMISSION` with `HWERROR_PLATFORM` (context and ASID leak).
    DecommissionFails,
}

/// A defect, when, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeded {
    /// From this simulated time on.
    pub at: Nanos,
    /// What.
    pub defect: Defect,
    /// How many times.
    pub times: u32,
}

impl Defect {
    /// The hardware model's name for it; `None` for a defect of the host or its firmware.
    pub(crate) const fn model_fault(self) -> Option<Fault> {
        match self {
            Self::DropClear => Some(Fault::DropClear),
            Self::StaleCache => Some(Fault::StaleCache),
            _ => None,
        }
    }
}
