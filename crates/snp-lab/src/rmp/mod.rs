//! The RMP of the emulated host, in one of two fidelities behind one trait.
//!
//! * [`Pages`] is the model of the hardware and of its firmware: every 4 KiB entry, every instruction.
//! * [`Extents`] keeps 2 MiB blocks with a count of assigned 4 KiB pages (and which they are, where
//!   a block is partly assigned), and a firmware of its own over them.
//!
//! Both use the same RMPOPT unit, so that tables, generations and cached scans are the hardware
//! model's in either case. A property test holds the two to the same verdicts, counters and times.

mod blocks;
mod error;
mod extents;
mod masks;
mod pages;
mod psp;

pub use self::error::RmpError;
pub use self::extents::Extents;
pub use self::pages::Pages;

use snp_defs::{FirmwareStatus, PageSize, Pfn, RmpStatus, Spa};
use snp_model::{Answer, Begun, CoreId, HeapUnitStorage, Outcome, RmpoptUnit, Scan, Verdict};

use crate::boot::BootLayout;
use crate::memory::Extent;

/// Usable ASIDs of SNP guests, 1 to this: the ten bits of a raw entry, less 0 and the firmware's own
/// 0x3FF (spec/snp-arch.md 2.3, 2.5).
pub const ASIDS: u32 = 1022;

/// Whom pages are given to. Guest addresses equal system addresses: the lab has no nested page tables
/// that they would have to match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The hypervisor: pages become shared.
    Hypervisor,
    /// The SNP guest with this ASID: Guest-invalid.
    Guest(u32),
    /// The same guest before its launch: Pre-guest, immutable.
    PreGuest(u32),
    /// The firmware: immutable, 4 KiB only.
    Firmware,
}

impl Owner {
    /// The pages are assigned then.
    pub const fn assigns(self) -> bool {
        !matches!(self, Self::Hypervisor)
    }
}

/// What a run of RMPUPDATEs did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Updated {
    /// Entries changed, in order, up to the first that was refused.
    pub done: u64,
    /// The last instruction's code.
    pub status: RmpStatus,
}

/// What a guest's PVALIDATEs of a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Validated {
    /// 4 KiB pages that took the asked state, in order, up to the first that did not.
    pub pages: u64,
    /// Instructions, the one that was stopped too.
    pub instructions: u64,
    /// Of them, 2 MiB asked of a 4 KiB entry.
    pub mismatches: u64,
    /// What stopped the last one.
    pub stop: Option<Unvalidated>,
}

/// What stops a PVALIDATE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unvalidated {
    /// This code in EAX.
    Code(RmpStatus),
    /// 4 KiB asked of a 2 MiB entry: nested page fault with SIZEM.
    SizeMismatch,
    /// Any other nested page fault.
    Fault,
    /// The page had the state already (CF = 1): a guest takes that for an attack.
    Unchanged,
}

/// What the head of a 2 MiB block says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockState {
    /// Assigned 4 KiB pages, 0 to 512.
    pub assigned: u16,
    /// They are one 2 MiB entry.
    pub large: bool,
}

/// A firmware command of a guest's life. Guests are named by their context page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// `SNP_GCTX_CREATE`.
    GctxCreate(Pfn),
    /// `SNP_LAUNCH_START`.
    LaunchStart(Pfn),
    /// `SNP_ACTIVATE` with an ASID.
    Activate(Pfn, u32),
    /// `SNP_LAUNCH_FINISH`.
    LaunchFinish(Pfn),
    /// `SNP_DECOMMISSION`.
    Decommission(Pfn),
    /// `SNP_PAGE_RECLAIM` of a 4 KiB page.
    PageReclaim(Pfn),
    /// `SNP_DF_FLUSH`.
    DfFlush,
}

impl Command {
    /// The command's name in AMD's interface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GctxCreate(_) => "SNP_GCTX_CREATE",
            Self::LaunchStart(_) => "SNP_LAUNCH_START",
            Self::Activate(..) => "SNP_ACTIVATE",
            Self::LaunchFinish(_) => "SNP_LAUNCH_FINISH",
            Self::Decommission(_) => "SNP_DECOMMISSION",
            Self::PageReclaim(_) => "SNP_PAGE_RECLAIM",
            Self::DfFlush => "SNP_DF_FLUSH",
        }
    }
}

/// What `SNP_LAUNCH_UPDATE` makes of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaunchType {
    /// Encrypted and measured.
    Normal,
    /// A vCPU's save area.
    Vmsa,
}

/// A vCPU as VMRUN needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vcpu {
    /// Its guest's ASID.
    pub asid: u32,
    /// Its VMCB, a page of the hypervisor's.
    pub vmcb: Pfn,
    /// Its save area.
    pub vmsa: Pfn,
}

/// What an ordinary write met, with RMPOPT and without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteVerdicts {
    /// As the core sees it.
    pub with_rmpopt: Verdict,
    /// As the RMP alone says.
    pub rmp_alone: Verdict,
}

/// An RMP, the RMPOPT unit beside it, and the firmware. `Err(RmpError)` is never an answer of the
/// hardware, but what the lab should have made impossible.
pub trait HostRmp {
    /// Name of the fidelity.
    fn fidelity(&self) -> &'static str;
    /// The RMPOPT unit.
    fn unit(&self) -> &RmpoptUnit<HeapUnitStorage>;
    /// SNP is turned on and the firmware builds the RMP; then the host gives the firmware its pages.
    fn snp_init(&mut self, boot: &BootLayout) -> Result<(), RmpError>;
    /// `SNP_SHUTDOWN_EX`; if the firmware agrees, the host clears the RMP.
    fn snp_shutdown(&mut self, boot: &BootLayout) -> Result<Answer, RmpError>;

    /// RMPUPDATEs of `size` over all of `run`, to the first that is refused.
    fn update(&mut self, run: Extent, size: PageSize, to: Owner) -> Result<Updated, RmpError>;
    /// PSMASH of the block that begins at `head`.
    fn psmash(&mut self, head: Pfn) -> Result<RmpStatus, RmpError>;
    /// The state of the page's block.
    fn block(&self, page: Pfn) -> BlockState;
    /// PVALIDATEs of `size` at VMPL 0 over all of `run`, as a guest does them: where 2 MiB meets a
    /// 4 KiB entry (`FAIL_SIZEMISMATCH`) it goes on with 512 times 4 KiB. `on` is EDX: accept or
    /// rescind.
    fn pvalidate(
        &mut self,
        asid: u32,
        run: Extent,
        size: PageSize,
        on: bool,
    ) -> Result<Validated, RmpError>;

    /// A command of the firmware.
    fn command(&mut self, command: Command) -> Answer;
    /// `SNP_LAUNCH_UPDATE` of each 4 KiB page of `run`, to the first that is refused. Returns how many
    /// succeeded.
    fn launch_update(
        &mut self,
        context: Pfn,
        run: Extent,
        what: LaunchType,
    ) -> (u64, Result<(), FirmwareStatus>);
    /// WBINVD on every core.
    fn wbinvd(&mut self);

    /// VMRUN: the vCPU's pages are in use from now on. False if it does not enter the guest.
    fn vmrun(&mut self, core: CoreId, vcpu: Vcpu) -> bool;
    /// `#VMEXIT` of the vCPU with this save area.
    fn vmexit(&mut self, vmsa: Pfn);
    /// Bit 63 of the page's entry is set and nobody clears it: an injected failure of the hardware.
    fn jam(&mut self, page: Pfn) -> Result<(), RmpError>;

    /// RMPOPT's scan, at its start.
    fn look(&self, begun: &mut Begun) -> Option<Scan>;
    /// RMPOPT's end.
    fn finish(&self, begun: Begun) -> Outcome;
    /// A 4 KiB write by the host's kernel on `core`.
    fn write(&self, core: CoreId, spa: Spa) -> WriteVerdicts;
}
