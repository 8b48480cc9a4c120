//! An SNP guest as the RMP's rules see it: its virtual CPU, its translations, and how it is stopped.

use core::fmt;

use crate::snp_defs::{Gpa, NestedFaultCode, PageSize, Region, Spa, PAGE_SHIFT};
use crate::snp_model::Exception;

/// A virtual CPU of an SNP guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GuestCpu {
    /// The guest's ASID.
    pub asid: u32,
    /// The privilege level it runs at, 0 to 3.
    pub vmpl: u8,
}

/// What the walk of the guest's and the host's page tables gave for one address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Walk {
    /// Virtual address.
    pub gva: u64,
    /// Guest physical address.
    pub gpa: Gpa,
    /// System physical address.
    pub spa: Spa,
    /// Size of the nested page table's leaf; 1 GiB counts as 2M.
    pub nested: PageSize,
    /// The guest's page table has the C-bit set: the page is used as private.
    pub private: bool,
}

impl Walk {
    /// Guest page number.
    pub(super) const fn gpa_page(&self) -> u64 {
        self.gpa.get() >> PAGE_SHIFT
    }

    /// EXITINFO1 of a nested page fault on the final address, with more bits.
    pub(super) const fn fault(&self, bits: u64) -> NestedFaultCode {
        let private = if self.private { NestedFaultCode::ENCRYPTED } else { 0 };
        NestedFaultCode(
            NestedFaultCode::PRESENT
                | NestedFaultCode::USER
                | NestedFaultCode::RMP
                | NestedFaultCode::FINAL_ADDRESS
                | private
                | bits,
        )
    }
}

/// What stops a guest's access or instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GuestStop {
    /// `#VMEXIT(NPF)` with this EXITINFO1: the host's business.
    NestedFault(NestedFaultCode),
    /// `#VC` with this error code, CR2 is the address: the guest's business.
    Vc(u64),
    /// An exception in the guest.
    Exception(Exception),
    /// No hardware event: the model has no memory to write the entry to.
    NotReserved(Region),
}

impl From<Exception> for GuestStop {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

impl fmt::Display for GuestStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NestedFault(code) => write!(f, "#VMEXIT(NPF) {code}"),
            Self::Vc(code) => write!(f, "#VC({code:#x})"),
            Self::Exception(exception) => exception.fmt(f),
            Self::NotReserved(region) => write!(f, "region {region} has no memory in the model"),
        }
    }
}
