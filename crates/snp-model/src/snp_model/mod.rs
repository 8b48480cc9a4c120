#![forbid(unsafe_code)]
//! What SEV-SNP hardware does to memory ownership. No `std`, no allocation, no locks that sleep.
//!
//! Everything is shared through atomics: each instruction takes `&self`.

mod access;
mod block_lock;
mod choices;
mod coverage;
mod device;
mod firmware;
mod guest;
mod guest_access;
mod guest_checks;
mod guest_insn;
mod machine;
mod page_lock;
mod psmash;
mod rmp;
mod rmpopt_unit;
mod scan;
mod storage;
pub mod sync;
mod update_4k;
mod vmrun;

// Where this folder is a module of another crate, what that crate does not use is an unused import.
#[allow(unused_imports)]
pub use self::{
    access::{Access, AccessKind, Accessor, Verdict},
    block_lock::NeighbourRace,
    choices::{
        Choices, Defect, Errata, FreeWithOwner, PvalidateVmpl, QueryOwn, ScanDepth, SharedMapping,
    },
    coverage::{Coverage, PfnRange},
    device::DeviceVerdict,
    firmware::{
        Answer, ApiVersion, CoreRegs, Firmware, FirmwareChoices, FirmwareStorage, GuestPolicy,
        GuestSlot, GuestState, IdBlock, InitEx, LaunchCheck, LaunchOrder, LaunchPage, MemoryRange,
        PageType, RmpAddress, ShutdownEx,
    },
    guest::{GuestCpu, GuestStop, Walk},
    guest_access::{GuestAccess, GuestAccessResult},
    guest_checks::{GuestCheck, GuestOrder},
    guest_insn::{GuestResult, Query},
    machine::{InitError, InitLayout, Machine, MsrWrite, RangeUpdate},
    psmash::{NotLarge, SmashCheck, SmashOrder},
    rmp::{Check, Issuer, Rmp, RmpRead, Update, UpdateOrder},
    rmpopt_unit::{
        BaseWrite, Begun, EnableToggle, Fault, Faults, Outcome, OutsideWindow, RegionScan,
        RmpoptUnit, Scan, ScanCache, UnitConfig, UnitStorage, UpdateToken,
    },
    storage::{
        Block, BlockView, Fill, OutOfMemory, Storage, ASIDS, BLOCKS_PER_REGION, WORDS_PER_BLOCK,
    },
    vmrun::{Running, SaveArea, VmrunPages, VmrunStop},
};

use core::fmt;

use crate::snp_defs::Region;

/// A physical core: RMPOPT's MSR and table are per core, SMT siblings share them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct CoreId(pub u32);

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The exceptions that the modelled instructions raise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exception {
    /// `#UD`.
    UndefinedOpcode,
    /// `#GP(0)`.
    GeneralProtection,
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UndefinedOpcode => "#UD",
            Self::GeneralProtection => "#GP(0)",
        })
    }
}

/// Why an RMP instruction gave no result code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stop {
    /// The instruction raised an exception, as hardware would.
    Exception(Exception),
    /// No hardware event: the update must write where the model has no memory, because nobody called
    /// [`Machine::reserve`] for these pages.
    NotReserved(Region),
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception(exception) => exception.fmt(f),
            Self::NotReserved(region) => write!(f, "region {region} has no memory in the model"),
        }
    }
}
