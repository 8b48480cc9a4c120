//! The checks of PVALIDATE, RMPADJUST and RMPQUERY and their order.
//!
//! Source: spec/snp-arch.md 3.5 to 3.7. No source states an order, hence tables.

use crate::snp_defs::{
    NestedFaultCode, PageSize, RmpStatus, LARGE_PAGE_BYTES, PAGE_BYTES, VC_PAGE_NOT_VALIDATED,
};
use crate::snp_model::page_lock::Governing;
use crate::snp_model::{
    Choices, Defect, Exception, GuestCpu, GuestStop, PvalidateVmpl, QueryOwn, SharedMapping, Walk,
};

/// One check of a guest's RMP instruction. One that does not concern an instruction never fails.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GuestCheck {
    /// `FAIL_INPUT`: size, alignment, reserved bits, no such VMPL.
    Input,
    /// PVALIDATE above VMPL 0: see [`PvalidateVmpl`].
    Vmpl,
    /// RMPADJUST and RMPQUERY: `FAIL_PERMISSION` unless the target VMPL is less privileged.
    Target,
    /// The page is mapped with C = 0: see [`SharedMapping`].
    PrivateMapping,
    /// Nested page fault: the page has no entry or is not this guest's.
    Owner,
    /// Nested page fault: the entry is for another guest address.
    ReverseMap,
    /// Nested page fault: the entry is immutable.
    Mutable,
    /// 2M asked of a 4K entry: `FAIL_SIZEMISMATCH`; 4K of a 2M entry: nested page fault.
    PageSize,
    /// Nested page fault: the nested leaf's size is not the entry's. In no table by default.
    NestedSize,
    /// `FAIL_INUSE`: the entry is locked, as a running vCPU's save area is.
    InUse,
    /// `#VC`: RMPADJUST and RMPQUERY of a page that is not validated.
    Validated,
    /// RMPADJUST: `FAIL_PERMISSION` for rights that the caller lacks.
    Subset,
}

/// The order of a guest instruction's checks: the first that fails decides. One that is missing is
/// not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestOrder(pub &'static [GuestCheck]);

impl GuestOrder {
    /// PVALIDATE.
    pub const PVALIDATE: Self = Self(&[
        GuestCheck::Input,
        GuestCheck::Vmpl,
        GuestCheck::PrivateMapping,
        GuestCheck::Owner,
        GuestCheck::ReverseMap,
        GuestCheck::Mutable,
        GuestCheck::PageSize,
        GuestCheck::InUse,
    ]);
    /// PVALIDATE that compares sizes before it looks whose page it is.
    pub const PVALIDATE_SIZE_FIRST: Self = Self(&[
        GuestCheck::Input,
        GuestCheck::Vmpl,
        GuestCheck::PrivateMapping,
        GuestCheck::PageSize,
        GuestCheck::Owner,
        GuestCheck::ReverseMap,
        GuestCheck::Mutable,
        GuestCheck::InUse,
    ]);
    /// RMPADJUST.
    pub const RMPADJUST: Self = Self(&[
        GuestCheck::Input,
        GuestCheck::Target,
        GuestCheck::PrivateMapping,
        GuestCheck::Owner,
        GuestCheck::ReverseMap,
        GuestCheck::Mutable,
        GuestCheck::PageSize,
        GuestCheck::InUse,
        GuestCheck::Validated,
        GuestCheck::Subset,
    ]);
    /// RMPADJUST that refuses rights before it asks for validation and sizes.
    pub const RMPADJUST_RIGHTS_FIRST: Self = Self(&[
        GuestCheck::Input,
        GuestCheck::PrivateMapping,
        GuestCheck::Owner,
        GuestCheck::ReverseMap,
        GuestCheck::Mutable,
        GuestCheck::Target,
        GuestCheck::Subset,
        GuestCheck::Validated,
        GuestCheck::PageSize,
        GuestCheck::InUse,
    ]);
    /// RMPQUERY: it changes nothing, so that locks and sizes do not matter.
    pub const RMPQUERY: Self = Self(&[
        GuestCheck::Input,
        GuestCheck::Target,
        GuestCheck::PrivateMapping,
        GuestCheck::Owner,
        GuestCheck::ReverseMap,
        GuestCheck::Mutable,
        GuestCheck::Validated,
    ]);
}

/// What a guest's instruction asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// ECX, EDX.
    Validate { size: u64, validate: u64 },
    /// RCX, RDX.
    Adjust { size: u64, rdx: u64 },
    /// RDX.
    Query { rdx: u64 },
}

/// RDX of RMPADJUST.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AdjustOperand(pub(super) u64);

impl AdjustOperand {
    const VMSA: u64 = 1 << 16;
    /// Bits of a permission byte that exist (spec/snp-arch.md 2.3).
    const RIGHTS: u64 = 0x1F;

    pub(super) const fn target(self) -> u64 {
        self.0 & 0xFF
    }
    pub(super) const fn rights(self) -> u64 {
        self.0 >> 8 & 0xFF
    }
    pub(super) const fn vmsa(self) -> bool {
        self.0 & Self::VMSA != 0
    }
    const fn is_valid(self) -> bool {
        self.0 & !(Self::VMSA | 0xFFFF) == 0
            && self.target() <= 3
            && self.rights() & !Self::RIGHTS == 0
    }
}

impl Ask {
    pub(super) const fn size(self) -> Option<PageSize> {
        match self {
            Self::Validate { size, .. } | Self::Adjust { size, .. } => match size {
                0 => Some(PageSize::Size4K),
                1 => Some(PageSize::Size2M),
                _ => None,
            },
            Self::Query { .. } => None,
        }
    }

    fn is_valid(self, gva: u64) -> bool {
        let aligned = match self.size() {
            Some(PageSize::Size2M) => gva % LARGE_PAGE_BYTES == 0,
            _ => gva % PAGE_BYTES == 0,
        };
        aligned
            && match self {
                Self::Validate { validate, .. } => self.size().is_some() && validate <= 1,
                Self::Adjust { rdx, .. } => self.size().is_some() && AdjustOperand(rdx).is_valid(),
                Self::Query { rdx } => rdx <= 3,
            }
    }

    const fn target(self) -> Option<u64> {
        match self {
            Self::Validate { .. } => None,
            Self::Adjust { rdx, .. } => Some(AdjustOperand(rdx).target()),
            Self::Query { rdx } => Some(rdx),
        }
    }
}

/// How a check ends an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Code(RmpStatus),
    Stop(GuestStop),
}

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestRequest<'a> {
    pub(super) choices: &'a Choices,
    pub(super) cpu: GuestCpu,
    pub(super) walk: &'a Walk,
    pub(super) ask: Ask,
    /// `None` if the page has no entry.
    pub(super) page: Option<Governing>,
}

impl GuestRequest<'_> {
    fn fault(&self, bits: u64) -> Refusal {
        Refusal::Stop(GuestStop::NestedFault(self.walk.fault(bits)))
    }

    /// Runs the instruction's checks in order.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let order = match self.ask {
            Ask::Validate { .. } => self.choices.pvalidate,
            Ask::Adjust { .. } => self.choices.rmpadjust,
            Ask::Query { .. } => self.choices.rmpquery,
        };
        order.0.iter().try_for_each(|&check| self.one(check))
    }

    fn one(&self, check: GuestCheck) -> Result<(), Refusal> {
        let Self { choices, cpu, walk, ask, page } = *self;
        let entry = page.map(|page| page.entry).unwrap_or_default();
        let refuse_if = |fails: bool, refusal: Refusal| if fails { Err(refusal) } else { Ok(()) };
        let code = Refusal::Code;
        let validates = matches!(ask, Ask::Validate { .. });
        match check {
            GuestCheck::Input => refuse_if(!ask.is_valid(walk.gva), code(RmpStatus::FAIL_INPUT)),
            GuestCheck::Vmpl => refuse_if(
                validates && cpu.vmpl != 0,
                match choices.pvalidate_vmpl {
                    PvalidateVmpl::FailPermission => code(RmpStatus::FAIL_PERMISSION),
                    PvalidateVmpl::Gp => {
                        Refusal::Stop(GuestStop::Exception(Exception::GeneralProtection))
                    }
                },
            ),
            GuestCheck::Target => {
                let own = u64::from(cpu.vmpl);
                let answers =
                    matches!(ask, Ask::Query { .. }) && choices.query_own == QueryOwn::Answered;
                let refused =
                    ask.target().is_some_and(|target| target < own || (target == own && !answers));
                refuse_if(refused, code(RmpStatus::FAIL_PERMISSION))
            }
            GuestCheck::PrivateMapping => refuse_if(
                !walk.private && choices.shared_mapping == SharedMapping::FailInput,
                code(RmpStatus::FAIL_INPUT),
            ),
            GuestCheck::Owner => {
                refuse_if(!(entry.assigned() && entry.asid() == cpu.asid), self.fault(0))
            }
            GuestCheck::ReverseMap => {
                refuse_if(page.is_none_or(|page| page.gpa_page != walk.gpa_page()), self.fault(0))
            }
            GuestCheck::Mutable => refuse_if(entry.immutable(), self.fault(0)),
            GuestCheck::PageSize => match (ask.size(), entry.page_size()) {
                (Some(PageSize::Size2M), PageSize::Size4K) => {
                    Err(code(RmpStatus::FAIL_SIZEMISMATCH))
                }
                (Some(PageSize::Size4K), PageSize::Size2M) => {
                    Err(self.fault(NestedFaultCode::SIZE_MISMATCH))
                }
                _ => Ok(()),
            },
            GuestCheck::NestedSize => refuse_if(
                walk.nested != entry.page_size(),
                self.fault(NestedFaultCode::SIZE_MISMATCH),
            ),
            GuestCheck::InUse => refuse_if(entry.lock(), code(RmpStatus::FAIL_INUSE)),
            GuestCheck::Validated => refuse_if(
                !validates && !entry.validated(),
                Refusal::Stop(GuestStop::Vc(VC_PAGE_NOT_VALIDATED)),
            ),
            GuestCheck::Subset => {
                let Ask::Adjust { rdx, .. } = ask else { return Ok(()) };
                let own = u64::from(entry.vmpl_permissions(u32::from(cpu.vmpl)));
                let exceeds = AdjustOperand(rdx).rights() & !own != 0;
                refuse_if(
                    exceeds && !choices.has(Defect::SubsetIgnored),
                    code(RmpStatus::FAIL_PERMISSION),
                )
            }
        }
    }
}
