//! PVALIDATE, RMPADJUST and RMPQUERY: what an SNP guest may do to the RMP.
//!
//! They change or read the page's own rights; who owns a page stays, so that RMPOPT sees nothing.

use crate::snp_defs::{PageSize, RmpEntry, RmpStatus};
use crate::snp_model::guest_checks::{AdjustOperand, Ask, GuestRequest, Refusal};
use crate::snp_model::page_lock::{LockFailure, LockedPage};
use crate::snp_model::{
    CoreId, Defect, Exception, GuestCpu, GuestStop, Machine, Rmp, Storage, UnitStorage, Walk,
};

/// What PVALIDATE or RMPADJUST returned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GuestResult {
    /// EAX.
    pub status: RmpStatus,
    /// PVALIDATE's CF: the page had the asked state already, nothing changed.
    pub carry: bool,
    /// RMP cache lines (64 bytes) touched.
    pub lines: u32,
}

/// What RMPQUERY returned; all but `status` and `lines` are zero if it failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Query {
    /// EAX.
    pub status: RmpStatus,
    /// The target VMPL's permission byte.
    pub permissions: u8,
    /// The page is a vCPU's save area.
    pub vmsa: bool,
    /// The RMP page's size.
    pub size: PageSize,
    /// RMP cache lines (64 bytes) touched.
    pub lines: u32,
}

impl<S: Storage> Rmp<S> {
    /// Runs the checks with the page's block locked; `done` then works on the page.
    fn guest_instruction<T>(
        &self,
        cpu: GuestCpu,
        walk: &Walk,
        ask: Ask,
        done: impl FnOnce(&LockedPage<'_>, RmpEntry, u32) -> Result<T, GuestStop>,
        failed: impl FnOnce(RmpStatus, u32) -> T,
    ) -> Result<T, GuestStop> {
        let page = match self.lock(walk.spa.pfn()) {
            Ok(page) => Some(page),
            Err(LockFailure::NotCovered) => None,
            // Another CPU changes the entry: a spurious fault, which the host repeats for.
            Err(LockFailure::Busy) => return Err(GuestStop::NestedFault(walk.fault(0))),
        };
        let governing = page.as_ref().map(LockedPage::governing);
        let lines = governing.map_or(0, |page| page.lines);
        let request = GuestRequest { choices: self.choices(), cpu, walk, ask, page: governing };
        match request.check() {
            Err(Refusal::Code(status)) => Ok(failed(status, lines)),
            Err(Refusal::Stop(stop)) => Err(stop),
            Ok(()) => match (&page, governing) {
                (Some(page), Some(governing)) => done(page, governing.entry, lines),
                _ => Err(GuestStop::NestedFault(walk.fault(0))),
            },
        }
    }

    fn guest_change(
        &self,
        cpu: GuestCpu,
        walk: &Walk,
        ask: Ask,
        change: impl FnOnce(RmpEntry) -> RmpEntry,
        carry: impl FnOnce(bool) -> bool,
    ) -> Result<GuestResult, GuestStop> {
        let done = |page: &LockedPage<'_>, old, lines| {
            let new = change(old);
            if new != old {
                if !page.is_writable() {
                    return Err(GuestStop::NotReserved(walk.spa.region()));
                }
                page.put_governing(new);
            }
            Ok(GuestResult { status: RmpStatus::SUCCESS, carry: carry(new == old), lines })
        };
        let failed = |status, lines| GuestResult { status, carry: false, lines };
        self.guest_instruction(cpu, walk, ask, done, failed)
    }
}

impl<S: Storage, U: UnitStorage> Machine<S, U> {
    fn require_guest(&self, core: CoreId, cpu: GuestCpu) -> Result<(), GuestStop> {
        if self.unit().snp_en(core) && cpu.asid != 0 {
            Ok(())
        } else {
            Err(Exception::UndefinedOpcode.into())
        }
    }

    /// PVALIDATE by a guest on this core: `size` is ECX (0 for 4K, 1 for 2M), `validate` EDX.
    pub fn pvalidate(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        size: u64,
        validate: u64,
    ) -> Result<GuestResult, GuestStop> {
        self.require_guest(core, cpu)?;
        let ask = Ask::Validate { size, validate };
        let lost = self.rmp().choices().has(Defect::CarryLost);
        let change = |entry: RmpEntry| entry.with_validated(validate == 1);
        self.rmp().guest_change(cpu, walk, ask, change, |same| same && !lost)
    }

    /// RMPADJUST by a guest on this core: `size` is RCX, `rdx` has the target VMPL (bits 7:0), its new
    /// rights (15:8) and the VMSA bit (16), which counts at VMPL 0 alone.
    pub fn rmpadjust(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        size: u64,
        rdx: u64,
    ) -> Result<GuestResult, GuestStop> {
        self.require_guest(core, cpu)?;
        let operand = AdjustOperand(rdx);
        let shift = (operand.target() & 3) * 8;
        let change = |entry: RmpEntry| {
            let hi = (entry.hi & !(0xFF << shift)) | (operand.rights() << shift);
            let new = RmpEntry { hi, ..entry };
            if cpu.vmpl == 0 {
                new.with_vmsa(operand.vmsa())
            } else {
                new
            }
        };
        self.rmp().guest_change(cpu, walk, Ask::Adjust { size, rdx }, change, |_| false)
    }

    /// RMPQUERY by a guest on this core: `rdx` is the target VMPL.
    pub fn rmpquery(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        rdx: u64,
    ) -> Result<Query, GuestStop> {
        self.require_guest(core, cpu)?;
        let done = |_: &LockedPage<'_>, entry: RmpEntry, lines| {
            Ok(Query {
                status: RmpStatus::SUCCESS,
                permissions: entry.vmpl_permissions(rdx as u32),
                vmsa: entry.vmsa(),
                size: entry.page_size(),
                lines,
            })
        };
        let failed = |status, lines| Query {
            status,
            permissions: 0,
            vmsa: false,
            size: PageSize::Size4K,
            lines,
        };
        self.rmp().guest_instruction(cpu, walk, Ask::Query { rdx }, done, failed)
    }
}
