//! Switches of the RMP side: choices where sources are silent, errata by name, seeded defects.

use crate::snp_model::{GuestOrder, NeighbourRace, NotLarge, SmashOrder};

/// What PVALIDATE does at VMPL 1 to 3: sources disagree (spec/snp-arch.md 3.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PvalidateVmpl {
    /// `FAIL_PERMISSION`.
    #[default]
    FailPermission,
    /// `#GP(0)`.
    Gp,
}

/// What PVALIDATE, RMPADJUST and RMPQUERY do with a page that the guest maps with C = 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SharedMapping {
    /// `FAIL_INPUT`.
    #[default]
    FailInput,
    /// Nothing: the RMP entry decides.
    Ignored,
}

/// Whether RMPQUERY answers for the VMPL that asks, as for less privileged ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum QueryOwn {
    /// `FAIL_PERMISSION`, as RMPADJUST has it.
    #[default]
    Refused,
    /// It does.
    Answered,
}

/// The code of an RMPUPDATE that frees a page and names an owner or immutability (spec/snp-arch.md
/// cases 5 and 6: sources disagree).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FreeWithOwner {
    /// `FAIL_INPUT`.
    #[default]
    FailInput,
    /// `FAIL_PERMISSION`.
    FailPermission,
}

/// What RMPOPT reads of a region that it scans.
///
/// AMD's author says that hardware reads the heads (spec/performance.md 0.2). The heads count the
/// assigned pages of their blocks, so both give one verdict; they differ in what they cost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ScanDepth {
    /// The heads of the 2M blocks: 512 entries, 512 lines.
    #[default]
    Heads,
    /// Every entry, the truth that the heads sum up: 262,144 entries, 65,536 lines.
    Entries,
}

/// Errata, off unless named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Errata {
    /// A 2M-aligned page in use by a running vCPU locks its block's base entry for 2M-sized writes:
    /// an unrelated write through a 2M translation faults (spec/snp-arch.md case 57).
    pub head_in_use_faults: bool,
    /// The part lacks `HvInUseWrAllowed` (CPUID `Fn8000_001F` EAX bit 30): the host's own write to a
    /// page in use by a running vCPU faults. With the bit it does not.
    pub in_use_writes_fault: bool,
}

/// A defect of the RMP's rules that can be seeded, to show that the cases would see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Defect {
    /// RMPUPDATE of a 4K page forgets the head's count of assigned pages.
    CountLost,
    /// RMPUPDATE keeps `validated` when owner or address change.
    ValidatedKept,
    /// RMPUPDATE and PSMASH do not look at the lock.
    LockIgnored,
    /// PSMASH gives every page the head's guest address.
    SmashSameGpa,
    /// An SNP guest's access is not held against the entry's ASID.
    OwnerIgnored,
    /// An SNP guest's access is not held against the entry's guest address.
    ReverseMapIgnored,
    /// An SNP guest may use a page that it has not validated.
    ValidatedIgnored,
    /// RMPADJUST grants what the caller lacks.
    SubsetIgnored,
    /// PVALIDATE never says that the page had the state already.
    CarryLost,
    /// VMRUN marks no page as in use.
    InUseNotMarked,
    /// DECOMMISSION leaves the ASID clean.
    AsidStaysClean,
    /// PAGE_RECLAIM looks at `immutable` before it compares sizes.
    ReclaimSizeLast,
    /// PAGE_UNSMASH does not compare the entries' permissions.
    UnsmashPermissionsIgnored,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::CountLost,
        Self::ValidatedKept,
        Self::LockIgnored,
        Self::SmashSameGpa,
        Self::OwnerIgnored,
        Self::ReverseMapIgnored,
        Self::ValidatedIgnored,
        Self::SubsetIgnored,
        Self::CarryLost,
        Self::InUseNotMarked,
        Self::AsidStaysClean,
        Self::ReclaimSizeLast,
        Self::UnsmashPermissionsIgnored,
    ];
}

/// The switches of an RMP. `Default` is the model's best guess, without errata and defects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choices {
    /// Two instructions in one block.
    pub neighbour_race: NeighbourRace,
    /// RMPUPDATE to an unassigned page with owner.
    pub free_with_owner: FreeWithOwner,
    /// PSMASH's checks in order.
    pub psmash: SmashOrder,
    /// PSMASH of what is no 2M page.
    pub not_large: NotLarge,
    /// PVALIDATE above VMPL 0.
    pub pvalidate_vmpl: PvalidateVmpl,
    /// A guest's instruction on a page mapped with C = 0.
    pub shared_mapping: SharedMapping,
    /// RMPQUERY for the VMPL that asks.
    pub query_own: QueryOwn,
    /// PVALIDATE's checks in order.
    pub pvalidate: GuestOrder,
    /// RMPADJUST's checks in order.
    pub rmpadjust: GuestOrder,
    /// RMPQUERY's checks in order.
    pub rmpquery: GuestOrder,
    /// How much of a region RMPOPT reads.
    pub scan_depth: ScanDepth,
    /// Errata.
    pub errata: Errata,
    /// A seeded defect.
    pub defect: Option<Defect>,
}

impl Choices {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        neighbour_race: NeighbourRace::Spin,
        free_with_owner: FreeWithOwner::FailInput,
        psmash: SmashOrder::SUGGESTED,
        not_large: NotLarge::FailBadaddr,
        pvalidate_vmpl: PvalidateVmpl::FailPermission,
        shared_mapping: SharedMapping::FailInput,
        query_own: QueryOwn::Refused,
        pvalidate: GuestOrder::PVALIDATE,
        rmpadjust: GuestOrder::RMPADJUST,
        rmpquery: GuestOrder::RMPQUERY,
        scan_depth: ScanDepth::Heads,
        errata: Errata { head_in_use_faults: false, in_use_writes_fault: false },
        defect: None,
    };

    /// Whether this defect is seeded.
    pub fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

impl Default for Choices {
    fn default() -> Self {
        Self::DEFAULT
    }
}
