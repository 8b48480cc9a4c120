//! What the lab's own bookkeeping should have made impossible.

use snp_defs::{FirmwareStatus, RmpStatus, Spa};
use thiserror::Error;

use super::Unvalidated;

/// An RMP operation that cannot be where the lab's books are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RmpError {
    /// RMPUPDATE refused to assign pages.
    #[error("RMPUPDATE of {pages} pages from {first} failed: {status}")]
    Update {
        /// First page's address.
        first: Spa,
        /// Pages.
        pages: u64,
        /// EAX.
        status: RmpStatus,
    },
    /// PVALIDATE did not succeed, and not for a reason that host and guest deal with.
    #[error("PVALIDATE of the page at {page} failed: {stop:?}")]
    Validate {
        /// Page's address.
        page: Spa,
        /// What stopped it.
        stop: Unvalidated,
    },
    /// VMRUN did not enter the guest.
    #[error("VMRUN with the save area at {vmsa} failed")]
    Vmrun {
        /// The save area.
        vmsa: Spa,
    },
    /// The allocator gave out memory that somebody still owns.
    #[error("memory was given out whose 2 MiB block at {block} holds assigned pages")]
    GivenOut {
        /// The block's address.
        block: Spa,
    },
    /// `SNP_INIT_EX` refused.
    #[error("SNP_INIT_EX failed: {0}")]
    Init(FirmwareStatus),
    /// No memory for entries.
    #[error("no memory left for RMP entries")]
    OutOfMemory,
    /// The instruction raised an exception.
    #[error("an RMP instruction raised {0}")]
    Exception(snp_model::Exception),
}
