#![forbid(unsafe_code)]
//! The SEV-SNP and RMPOPT architecture as data. No behaviour, no dependencies, no allocation.

mod addr;
mod counters;
mod cpuid;
mod entry;
mod fault;
mod firmware;
mod geometry;
pub mod insn;
pub mod msr;
mod operand;
mod page_state;
mod rmpopt;
mod status;

pub use self::{
    addr::*,
    counters::{Counter, Counters},
    cpuid::*,
    entry::RmpEntry,
    fault::{
        NestedFaultCode, PageFaultCode, IOMMU_EVENT_RMP_FAULT, IOMMU_EVENT_RMP_HW_ERROR,
        VC_PAGE_NOT_VALIDATED,
    },
    firmware::{FirmwareCommand, FirmwareStatus},
    geometry::*,
    msr::{Hwcr, RmpBase, RmpCfg, RmpCfgFault, RmpEnd, SevStatus, Syscfg, VmHsavePa},
    operand::RmpOperand,
    page_state::PageState,
    rmpopt::{RmpoptBase, RmpoptFunction, Window},
    status::RmpStatus,
};
