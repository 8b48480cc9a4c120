//! What SNP guests do: PVALIDATE, RMPADJUST, RMPQUERY, and their accesses.

use ::snp_defs::{NestedFaultCode, PageSize, RmpStatus};

use super::{Oracle, Page, BLOCK};
use crate::snp_model::{
    CoreId, Exception, GuestCpu, GuestResult, GuestStop, PvalidateVmpl, Query, QueryOwn,
    SharedMapping, Walk,
};

impl Oracle {
    fn change_governing(&mut self, pfn: u64, page: Page) {
        let head = pfn - pfn % BLOCK;
        let large = self.page(head).is_some_and(|page| page.large);
        self.set(if large { head } else { pfn }, page);
    }

    /// Bits 0 (present), 2 (user), 31 (RMP), 32 (final address), 34 (C = 1), and more.
    fn fault(walk: &Walk, bits: u64) -> GuestStop {
        let private = u64::from(walk.private) << 34;
        GuestStop::NestedFault(NestedFaultCode(1 | 1 << 2 | 1 << 31 | 1 << 32 | private | bits))
    }

    /// The checks that PVALIDATE and RMPADJUST share once the operand is good.
    fn guest_page(
        &self,
        cpu: GuestCpu,
        walk: &Walk,
        large: bool,
    ) -> Result<Result<Page, RmpStatus>, GuestStop> {
        let refused = Err(Self::fault(walk, 0));
        let Some((page, gpa)) = self.governing(walk.spa.get() / 4096) else { return refused };
        if !page.assigned || page.asid != cpu.asid || gpa != walk.gpa.get() || page.immutable {
            return refused;
        }
        Ok(match (large, page.large) {
            (true, false) => Err(RmpStatus::FAIL_SIZEMISMATCH),
            (false, true) => return Err(Self::fault(walk, 1 << 35)),
            _ if page.lock => Err(RmpStatus::FAIL_INUSE),
            _ => Ok(page),
        })
    }

    fn guest_lines(&self, walk: &Walk) -> u32 {
        let pfn = walk.spa.get() / 4096;
        match self.page(pfn) {
            None => 0,
            Some(_) if pfn % BLOCK < 4 => 1,
            Some(_) => 2,
        }
    }

    /// A page mapped with C = 0 may be refused for that alone.
    fn refuses_shared(&self, walk: &Walk) -> bool {
        !walk.private && self.choices.shared_mapping == SharedMapping::FailInput
    }

    fn is_guest(&self, core: CoreId, cpu: GuestCpu) -> Result<(), GuestStop> {
        if self.cores[core.0 as usize].snp_en && cpu.asid != 0 {
            Ok(())
        } else {
            Err(GuestStop::Exception(Exception::UndefinedOpcode))
        }
    }

    /// PVALIDATE with its checks in the default order.
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
        let aligned = walk.gva % if size == 1 { 2 << 20 } else { 4096 } == 0;
        if size > 1 || validate > 1 || !aligned {
            return result(RmpStatus::FAIL_INPUT, false);
        }
        if cpu.vmpl != 0 {
            return match self.choices.pvalidate_vmpl {
                PvalidateVmpl::FailPermission => result(RmpStatus::FAIL_PERMISSION, false),
                PvalidateVmpl::Gp => Err(GuestStop::Exception(Exception::GeneralProtection)),
            };
        }
        if self.refuses_shared(walk) {
            return result(RmpStatus::FAIL_INPUT, false);
        }
        match self.guest_page(cpu, walk, size == 1)? {
            Err(status) => result(status, false),
            Ok(page) if page.validated == (validate == 1) => result(RmpStatus::SUCCESS, true),
            Ok(page) => {
                let pfn = walk.spa.get() / 4096;
                self.change_governing(pfn, Page { validated: validate == 1, ..page });
                result(RmpStatus::SUCCESS, false)
            }
        }
    }

    /// RMPADJUST with its checks in the default order.
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
        let aligned = walk.gva % if size == 1 { 2 << 20 } else { 4096 } == 0;
        let (target, rights) = ((rdx & 0xFF) as usize, (rdx >> 8) as u8);
        if size > 1 || !aligned || rdx >> 17 != 0 || target > 3 || rights > 0x1F {
            return result(RmpStatus::FAIL_INPUT);
        }
        if target <= usize::from(cpu.vmpl) {
            return result(RmpStatus::FAIL_PERMISSION);
        }
        if self.refuses_shared(walk) {
            return result(RmpStatus::FAIL_INPUT);
        }
        let mut page = match self.guest_page(cpu, walk, size == 1)? {
            Err(status) => return result(status),
            Ok(page) => page,
        };
        if !page.validated {
            return Err(GuestStop::Vc(0x404));
        }
        if rights & !page.rights[usize::from(cpu.vmpl)] != 0 {
            return result(RmpStatus::FAIL_PERMISSION);
        }
        page.rights[target] = rights;
        if cpu.vmpl == 0 {
            page.vmsa = rdx >> 16 == 1;
        }
        self.change_governing(walk.spa.get() / 4096, page);
        result(RmpStatus::SUCCESS)
    }

    /// RMPQUERY with its checks in the default order.
    pub fn rmpquery(
        &mut self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        target: u64,
    ) -> Result<Query, GuestStop> {
        self.is_guest(core, cpu)?;
        let lines = self.guest_lines(walk);
        let none = PageSize::Size4K;
        let failed = |status| Query { status, permissions: 0, vmsa: false, size: none, lines };
        if walk.gva % 4096 != 0 || target > 3 {
            return Ok(failed(RmpStatus::FAIL_INPUT));
        }
        let own = u64::from(cpu.vmpl);
        if target < own || (target == own && self.choices.query_own == QueryOwn::Refused) {
            return Ok(failed(RmpStatus::FAIL_PERMISSION));
        }
        if self.refuses_shared(walk) {
            return Ok(failed(RmpStatus::FAIL_INPUT));
        }
        let refused = Err(Self::fault(walk, 0));
        let Some((page, gpa)) = self.governing(walk.spa.get() / 4096) else { return refused };
        if !page.assigned || page.asid != cpu.asid || gpa != walk.gpa.get() || page.immutable {
            return refused;
        }
        if !page.validated {
            return Err(GuestStop::Vc(0x404));
        }
        Ok(Query {
            status: RmpStatus::SUCCESS,
            permissions: page.rights[target as usize],
            vmsa: page.vmsa,
            size: if page.large { PageSize::Size2M } else { PageSize::Size4K },
            lines,
        })
    }

    /// An SNP guest's data access.
    pub fn guest_data(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        write: bool,
        walk: &Walk,
    ) -> Result<(), GuestStop> {
        let write_bit = u64::from(write) << 1;
        if !self.cores[core.0 as usize].snp_en || !(write || walk.private) {
            return Ok(());
        }
        let pfn = walk.spa.get() / 4096;
        if !walk.private {
            let first = pfn - pfn % walk.nested.pages();
            let taken = self.first_assigned(first, first + walk.nested.pages()).is_some();
            let stop = Self::fault(walk, write_bit);
            return if taken && self.is_covered(first) { Err(stop) } else { Ok(()) };
        }
        let large = walk.nested == PageSize::Size2M;
        let refused = |bits| Err(Self::fault(walk, write_bit | bits));
        let Some((page, gpa)) = self.governing(pfn) else { return refused(0) };
        if !page.assigned || page.asid != cpu.asid || gpa != walk.gpa.get() || page.immutable {
            return refused(0);
        }
        if page.large != large {
            return refused(1 << 35);
        }
        if !page.validated {
            return Err(GuestStop::Vc(0x404));
        }
        let rights = page.rights[usize::from(cpu.vmpl)];
        let needed = if write { 0b11 } else { 0b01 };
        if rights & needed == needed {
            Ok(())
        } else {
            refused(1 << 36)
        }
    }
}
