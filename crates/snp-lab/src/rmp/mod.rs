//! The RMP of the emulated host, in one of two fidelities behind one trait.
//!
//! * [`Pages`] is the model of the hardware: every 4 KiB entry.
//! * [`Extents`] keeps 2 MiB blocks with a count of assigned 4 KiB pages (and which they are, where
//!   a block is partly assigned).
//!
//! Both use the same RMPOPT unit, so that tables, generations and cached scans are the hardware
//! model's in either case. A property test holds the two to the same verdicts, counters and times.

mod extents;
mod pages;

pub use self::extents::Extents;
pub use self::pages::Pages;

use snp_defs::{PageSize, RmpStatus, Spa};
use snp_model::{Begun, CoreId, HeapUnitStorage, Outcome, RmpoptUnit, Scan, Verdict};
use thiserror::Error;

use crate::boot::BootLayout;
use crate::memory::Extent;

/// Whom pages are given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The hypervisor: pages become shared.
    Hypervisor,
    /// The SNP guest with this ASID: pages become private. Guest addresses equal system addresses:
    /// the lab has no nested page tables that they would have to match.
    Guest(u32),
}

/// What an ordinary write met, with RMPOPT and without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteVerdicts {
    /// As the core sees it.
    pub with_rmpopt: Verdict,
    /// As the RMP alone says.
    pub rmp_alone: Verdict,
}

/// An RMP operation of the lab that the host's own bookkeeping should have made impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RmpError {
    /// RMPUPDATE refused.
    #[error("RMPUPDATE of {pages} pages from {first} failed: {status}")]
    Update {
        /// First page's address.
        first: Spa,
        /// Pages.
        pages: u64,
        /// EAX.
        status: RmpStatus,
    },
    /// SNP_INIT refused.
    #[error("SNP_INIT failed: {0}")]
    Init(snp_model::InitError),
    /// No memory for entries.
    #[error("no memory left for RMP entries")]
    OutOfMemory,
    /// The instruction raised an exception.
    #[error("RMPUPDATE raised {0}")]
    Exception(snp_model::Exception),
}

/// An RMP and the RMPOPT unit beside it.
pub trait HostRmp {
    /// Name of the fidelity.
    fn fidelity(&self) -> &'static str;
    /// The RMPOPT unit.
    fn unit(&self) -> &RmpoptUnit<HeapUnitStorage>;
    /// SNP is turned on and the firmware builds the RMP.
    fn snp_init(&mut self, boot: &BootLayout) -> Result<(), RmpError>;
    /// The firmware shuts SNP down, and the host clears the RMP.
    fn snp_shutdown(&mut self, boot: &BootLayout) -> Result<(), RmpError>;
    /// Gives every page of `run` to `owner`, by RMPUPDATEs of `size`. Returns how many.
    fn update(&mut self, run: Extent, size: PageSize, owner: Owner) -> Result<u64, RmpError>;
    /// RMPOPT's scan, at its start.
    fn look(&self, begun: &mut Begun) -> Option<Scan>;
    /// RMPOPT's end.
    fn finish(&self, begun: Begun) -> Outcome;
    /// A 4 KiB write by the host's kernel on `core`.
    fn write(&self, core: CoreId, spa: Spa) -> WriteVerdicts;
}
