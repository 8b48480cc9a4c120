//! What an SNP guest does: PVALIDATE, RMPADJUST, RMPQUERY, its accesses.

use ::snp_defs::{NestedFaultCode, PageSize, RmpStatus};

use super::{Oracle, Page, BLOCK};
use crate::snp_model::{
    CoreId, Exception, GuestAccess, GuestAccessResult, GuestCheck, GuestCpu, GuestOrder,
    GuestResult, GuestStop, PvalidateVmpl, Query, QueryOwn, SharedMapping, Walk,
};

/// A guest's instruction with its registers.
#[derive(Clone, Copy)]
enum Asked {
    Pvalidate { size: u64, validate: u64 },
    Rmpadjust { size: u64, rdx: u64 },
    Rmpquery { rdx: u64 },
}

enum Refused {
    Code(RmpStatus),
    Stop(GuestStop),
}

/// Bits 0 (present), 2 (user), 31 (RMP), 34 (C = 1), and more.
fn nested_fault(private: bool, bits: u64) -> GuestStop {
    let private = u64::from(private) << 34;
    GuestStop::NestedFault(NestedFaultCode(1 | 1 << 2 | 1 << 31 | private | bits))
}

const FINAL: u64 = 1 << 32;

impl Oracle {
    pub(super) fn change_governing(&mut self, pfn: u64, page: Page) {
        let head = pfn - pfn % BLOCK;
        let large = self.page(head).is_some_and(|page| page.large);
        self.set(if large { head } else { pfn }, page);
    }

    fn guest_lines(&self, walk: &Walk) -> u32 {
        let pfn = walk.spa.get() / 4096;
        match self.page(pfn) {
            None => 0,
            Some(_) if pfn % BLOCK < 4 => 1,
            Some(_) => 2,
        }
    }

    fn is_guest(&self, core: CoreId, cpu: GuestCpu) -> Result<(), GuestStop> {
        if self.snp_en(core) && cpu.asid != 0 {
            Ok(())
        } else {
            Err(GuestStop::Exception(Exception::UndefinedOpcode))
        }
    }

    fn refuse(
        &self,
        check: GuestCheck,
        asked: Asked,
        cpu: GuestCpu,
        walk: &Walk,
    ) -> Option<Refused> {
        let found = self.governing(walk.spa.get() / 4096);
        let (page, gpa) = found.unwrap_or_default();
        let fault = |bits| Refused::Stop(nested_fault(walk.private, FINAL | bits));
        let code = Refused::Code;
        let (size, target) = match asked {
            Asked::Pvalidate { size, .. } => (Some(size), None),
            Asked::Rmpadjust { size, rdx } => (Some(size), Some(rdx & 0xFF)),
            Asked::Rmpquery { rdx } => (None, Some(rdx)),
        };
        match check {
            GuestCheck::Input => {
                let aligned = walk.gva % if size == Some(1) { 2 << 20 } else { 4096 } == 0;
                let registers = match asked {
                    Asked::Pvalidate { validate, .. } => validate <= 1,
                    Asked::Rmpadjust { rdx, .. } => {
                        rdx >> 17 == 0 && rdx & 0xFF <= 3 && rdx >> 8 & 0xFF <= 0x1F
                    }
                    Asked::Rmpquery { rdx } => rdx <= 3,
                };
                let good = aligned && registers && size.is_none_or(|size| size <= 1);
                (!good).then_some(code(RmpStatus::FAIL_INPUT))
            }
            GuestCheck::Vmpl => {
                let refused = matches!(asked, Asked::Pvalidate { .. }) && cpu.vmpl != 0;
                refused.then_some(match self.choices.pvalidate_vmpl {
                    PvalidateVmpl::FailPermission => code(RmpStatus::FAIL_PERMISSION),
                    PvalidateVmpl::Gp => {
                        Refused::Stop(GuestStop::Exception(Exception::GeneralProtection))
                    }
                })
            }
            GuestCheck::Target => {
                let own_is_fine = matches!(asked, Asked::Rmpquery { .. })
                    && self.choices.query_own == QueryOwn::Answered;
                let lowest = u64::from(cpu.vmpl) + u64::from(!own_is_fine);
                target
                    .is_some_and(|target| target < lowest)
                    .then_some(code(RmpStatus::FAIL_PERMISSION))
            }
            GuestCheck::PrivateMapping => (!walk.private
                && self.choices.shared_mapping == SharedMapping::FailInput)
                .then_some(code(RmpStatus::FAIL_INPUT)),
            GuestCheck::Owner => (!page.assigned || page.asid != cpu.asid).then_some(fault(0)),
            GuestCheck::ReverseMap => {
                (found.is_none() || gpa / 4096 != walk.gpa.get() / 4096).then_some(fault(0))
            }
            GuestCheck::Mutable => page.immutable.then_some(fault(0)),
            GuestCheck::PageSize => match (size, page.large) {
                (Some(1), false) => Some(code(RmpStatus::FAIL_SIZEMISMATCH)),
                (Some(0), true) => Some(fault(1 << 35)),
                _ => None,
            },
            GuestCheck::NestedSize => (page.size() != walk.nested).then_some(fault(1 << 35)),
            GuestCheck::InUse => page.lock.then_some(code(RmpStatus::FAIL_INUSE)),
            GuestCheck::Validated => (!matches!(asked, Asked::Pvalidate { .. }) && !page.validated)
                .then_some(Refused::Stop(GuestStop::Vc(0x404))),
            GuestCheck::Subset => match asked {
                Asked::Rmpadjust { rdx, .. } => {
                    let own = page.rights.get(usize::from(cpu.vmpl)).copied().unwrap_or(0);
                    ((rdx >> 8) as u8 & !own != 0).then_some(code(RmpStatus::FAIL_PERMISSION))
                }
                _ => None,
            },
        }
    }

    /// The first check in order that fails, or the page.
    fn check_guest_page(
        &self,
        order: GuestOrder,
        asked: Asked,
        cpu: GuestCpu,
        walk: &Walk,
    ) -> Result<Page, Refused> {
        for &check in order.0 {
            if let Some(refused) = self.refuse(check, asked, cpu, walk) {
                return Err(refused);
            }
        }
        match self.governing(walk.spa.get() / 4096) {
            Some((page, _)) => Ok(page),
            None => Err(Refused::Stop(nested_fault(walk.private, FINAL))),
        }
    }

    /// PVALIDATE.
    pub fn pvalidate(
        &mut self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        size: u64,
        validate: u64,
    ) -> Result<GuestResult, GuestStop> {
        self.is_guest(core, cpu)?;
        let lines = self.guest_lines(walk);
        let result = |status, carry| Ok(GuestResult { status, carry, lines });
        let asked = Asked::Pvalidate { size, validate };
        match self.check_guest_page(self.choices.pvalidate, asked, cpu, walk) {
            Err(Refused::Stop(stop)) => Err(stop),
            Err(Refused::Code(status)) => result(status, false),
            Ok(page) if page.validated == (validate == 1) => result(RmpStatus::SUCCESS, true),
            Ok(page) => {
                let pfn = walk.spa.get() / 4096;
                self.change_governing(pfn, Page { validated: validate == 1, ..page });
                result(RmpStatus::SUCCESS, false)
            }
        }
    }

    /// RMPADJUST.
    pub fn rmpadjust(
        &mut self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        size: u64,
        rdx: u64,
    ) -> Result<GuestResult, GuestStop> {
        self.is_guest(core, cpu)?;
        let lines = self.guest_lines(walk);
        let result = |status| Ok(GuestResult { status, carry: false, lines });
        let asked = Asked::Rmpadjust { size, rdx };
        let mut page = match self.check_guest_page(self.choices.rmpadjust, asked, cpu, walk) {
            Err(Refused::Stop(stop)) => return Err(stop),
            Err(Refused::Code(status)) => return result(status),
            Ok(page) => page,
        };
        page.rights[(rdx & 3) as usize] = (rdx >> 8) as u8;
        if cpu.vmpl == 0 {
            page.vmsa = rdx >> 16 & 1 == 1;
        }
        self.change_governing(walk.spa.get() / 4096, page);
        result(RmpStatus::SUCCESS)
    }

    /// RMPQUERY.
    pub fn rmpquery(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        rdx: u64,
    ) -> Result<Query, GuestStop> {
        self.is_guest(core, cpu)?;
        let lines = self.guest_lines(walk);
        match self.check_guest_page(self.choices.rmpquery, Asked::Rmpquery { rdx }, cpu, walk) {
            Err(Refused::Stop(stop)) => Err(stop),
            Err(Refused::Code(status)) => {
                Ok(Query { status, permissions: 0, vmsa: false, size: PageSize::Size4K, lines })
            }
            Ok(page) => Ok(Query {
                status: RmpStatus::SUCCESS,
                permissions: page.rights.get(rdx as usize).copied().unwrap_or(0),
                vmsa: page.vmsa,
                size: page.size(),
                lines,
            }),
        }
    }

    /// An SNP guest's access.
    #[must_use]
    pub fn check_guest(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        access: GuestAccess,
        walk: &Walk,
    ) -> GuestAccessResult {
        let result = |verdict, lines| GuestAccessResult { verdict, lines };
        if !self.snp_en(core) {
            return result(Ok(()), 0);
        }
        // Rights needed, the fault's bits, whether memory is changed.
        let (needed, bits, writes) = match access {
            GuestAccess::Read => (0b00001, FINAL, false),
            GuestAccess::Write => (0b00011, FINAL | 1 << 1, true),
            GuestAccess::ShadowStack => (0b10011, FINAL | 1 << 1 | 1 << 6, true),
            GuestAccess::Fetch { user: true } => (0b00100, FINAL | 1 << 4, false),
            GuestAccess::Fetch { user: false } => (0b01000, FINAL | 1 << 4, false),
            GuestAccess::TableWalk { update: false } => (0b00001, 1 << 33, false),
            GuestAccess::TableWalk { update: true } => (0b00011, 1 << 33 | 1 << 1, true),
        };
        let private = matches!(access, GuestAccess::Fetch { .. } | GuestAccess::TableWalk { .. })
            || walk.private;
        let pfn = walk.spa.get() / 4096;
        if !private {
            if !writes {
                return result(Ok(()), 0);
            }
            let first = pfn - pfn % walk.nested.pages();
            if !self.is_covered(first) {
                return result(Ok(()), 0);
            }
            let taken = self.first_assigned(first, first + walk.nested.pages()).is_some();
            return result(if taken { Err(nested_fault(false, bits)) } else { Ok(()) }, 1);
        }
        let lines = self.guest_lines(walk);
        let refused = |more| result(Err(nested_fault(true, bits | more)), lines);
        let Some((page, gpa)) = self.governing(pfn) else { return refused(0) };
        if !page.assigned
            || page.asid != cpu.asid
            || gpa / 4096 != walk.gpa.get() / 4096
            || page.immutable
        {
            return refused(0);
        }
        if page.size() != walk.nested {
            return refused(1 << 35);
        }
        if !page.validated {
            return result(Err(GuestStop::Vc(0x404)), lines);
        }
        let rights = page.rights.get(usize::from(cpu.vmpl)).copied().unwrap_or(0);
        // Write without read is no combination: it allows nothing.
        if rights & 0b11 != 0b10 && rights & needed == needed {
            result(Ok(()), lines)
        } else if access == GuestAccess::ShadowStack {
            refused(1 << 36 | 1 << 37)
        } else {
            refused(1 << 36)
        }
    }
}
