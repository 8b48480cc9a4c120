//! RMPUPDATE, PSMASH and RMPREAD.

use ::snp_defs::{Region, RmpOperand, RmpStatus, Spa};

use super::{Oracle, Page, BLOCK};
use crate::snp_model::{
    Check, CoreId, EnableToggle, Exception, FreeWithOwner, Issuer, NotLarge, RangeUpdate, RmpRead,
    SmashCheck, Update,
};

impl Oracle {
    /// An update that concerned an assigned page: no core's bit stays.
    pub(super) fn clear_region(&mut self, region: Region) {
        self.cache.remove(&region.get());
        self.clears[region.index()] += 1;
        let misses = self.config.en_toggle == EnableToggle::KeepsAndMissesRmpupdate;
        for core in &mut self.cores {
            if misses && !core.base.is_enabled() {
                continue;
            }
            if let Some(slot) = core.base.window().slot(region) {
                core.bits[slot as usize] = false;
            }
        }
    }

    /// RMPUPDATE.
    pub fn rmpupdate(
        &mut self,
        issuer: Issuer,
        core: CoreId,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Result<Update, Exception> {
        if !self.core(core).snp_en {
            return Err(Exception::UndefinedOpcode);
        }
        let large = operand.page_size & 1 == 1;
        let bytes = if large { 2 << 20 } else { 4096 };
        let pfn = spa.get() / 4096;
        let head = pfn - pfn % BLOCK;
        let assigned = operand.assigned == 1;
        let unsound = spa.get() % bytes != 0
            || operand.gpa % bytes != 0
            || operand.gpa >= 1 << 51
            || operand.assigned > 1
            || operand.page_size > 1
            || operand.immutable > 1
            || operand.reserved != 0
            || operand.asid > 1023;
        // A shared page has no owner.
        let odd = operand.assigned & 1 == 0 && (operand.immutable & 1 == 1 || operand.asid != 0);
        let page = self.page(pfn);
        let old = page.unwrap_or_default();
        let block = self.page(head).unwrap_or_default();
        let in_block = self.first_assigned(head, head + BLOCK).is_some();
        let others = |test: fn(Page) -> bool| {
            let mut pages = (head + 1..head + BLOCK).filter_map(|pfn| self.page(pfn));
            large && !block.large && pages.any(test)
        };
        // Four entries to a line; a 2M update reads all 512, a 4K update the entry and its head.
        let mut lines = 0;
        for check in self.order.0 {
            if !matches!(check, Check::Input | Check::Issuer) {
                lines = match (large, pfn % BLOCK < 4) {
                    (true, _) => 128,
                    (false, true) => 1,
                    (false, false) => 2,
                };
            }
            let failure = match check {
                Check::Input if unsound || page.is_none() => Some(RmpStatus::FAIL_INPUT),
                Check::Input if odd => Some(match self.choices.free_with_owner {
                    FreeWithOwner::FailInput => RmpStatus::FAIL_INPUT,
                    FreeWithOwner::FailPermission => RmpStatus::FAIL_PERMISSION,
                }),
                Check::Issuer if issuer.asid != 0 => Some(RmpStatus::FAIL_PERMISSION),
                Check::Lock if old.lock => Some(RmpStatus::FAIL_INUSE),
                Check::Immutable if old.immutable => Some(RmpStatus::FAIL_PERMISSION),
                Check::Overlap if block.large != large && in_block => Some(RmpStatus::FAIL_OVERLAP),
                Check::SubpageLock if others(|page| page.lock) => Some(RmpStatus::FAIL_INUSE),
                Check::SubpageImmutable if others(|page| page.immutable) => {
                    Some(RmpStatus::FAIL_PERMISSION)
                }
                _ => None,
            };
            if let Some(status) = failure {
                return Ok(Update {
                    status,
                    lines,
                    was_assigned: false,
                    is_assigned: false,
                    resized: false,
                });
            }
        }

        let mut new = Page::HYPERVISOR;
        if assigned {
            new.assigned = true;
            new.large = large;
            new.immutable = operand.immutable == 1;
            new.asid = operand.asid;
            new.gpa = operand.gpa;
            new.rights = [0x1F, 0, 0, 0];
            if old.assigned && old.asid == new.asid && old.gpa == new.gpa && old.large == new.large
            {
                new.validated = old.validated;
                new.vmsa = old.vmsa;
                new.rights = old.rights;
            }
        }
        // Inside a 2M page only "assigned" counts; what else is there stays until that changes.
        if large && block.assigned != assigned {
            for pfn in head + 1..head + BLOCK {
                self.set(pfn, Page { assigned, ..Page::HYPERVISOR });
            }
        }
        self.set(pfn, new);
        if old.assigned || new.assigned {
            self.clear_region(spa.region());
        }
        Ok(Update {
            status: RmpStatus::SUCCESS,
            lines,
            was_assigned: old.assigned,
            is_assigned: new.assigned,
            resized: old.assigned && new.assigned && old.large != new.large,
        })
    }

    /// RMPUPDATEs of consecutive pages, one after the other, up to the first that fails.
    pub fn rmpupdate_range(
        &mut self,
        core: CoreId,
        first: Spa,
        count: u64,
        operand: &RmpOperand,
    ) -> Result<RangeUpdate, Exception> {
        let bytes = if operand.page_size & 1 == 1 { 2 << 20 } else { 4096 };
        let owned = operand.assigned & 1 == 1 && operand.asid != 0;
        let mut sum = RangeUpdate { done: 0, status: RmpStatus::SUCCESS, lines: 0, clearing: 0 };
        for index in 0..count {
            let Some(spa) = Spa::new(first.get() + index * bytes) else {
                sum.status = RmpStatus::FAIL_INPUT;
                break;
            };
            let gpa = if owned { operand.gpa.saturating_add(index * bytes) } else { operand.gpa };
            let update =
                self.rmpupdate(Issuer::HOST, core, spa, &RmpOperand { gpa, ..*operand })?;
            sum.status = update.status;
            sum.lines += u64::from(update.lines);
            if update.status != RmpStatus::SUCCESS {
                break;
            }
            sum.done += 1;
            sum.clearing += u64::from(update.was_assigned || update.is_assigned);
        }
        Ok(sum)
    }

    /// PSMASH.
    pub fn psmash(&mut self, issuer: Issuer, core: CoreId, spa: Spa) -> Result<Update, Exception> {
        if !self.core(core).snp_en {
            return Err(Exception::UndefinedOpcode);
        }
        let result = |status, lines, done| {
            Ok(Update { status, lines, was_assigned: done, is_assigned: done, resized: done })
        };
        let pfn = spa.get() / 4096;
        let head = pfn - pfn % BLOCK;
        let page = self.page(head);
        let old = page.unwrap_or_default();
        let mut lines = 0;
        for check in self.choices.psmash.0 {
            if !matches!(check, SmashCheck::Input | SmashCheck::Issuer) {
                lines = 1;
            }
            let failure = match check {
                SmashCheck::Input if page.is_none() || spa.get() % (2 << 20) != 0 => {
                    Some(RmpStatus::FAIL_INPUT)
                }
                SmashCheck::Issuer if issuer.asid != 0 => Some(RmpStatus::FAIL_PERMISSION),
                SmashCheck::Lock if old.lock => Some(RmpStatus::FAIL_INUSE),
                SmashCheck::Immutable if old.immutable => Some(RmpStatus::FAIL_PERMISSION),
                SmashCheck::Large if !old.large => Some(match self.choices.not_large {
                    NotLarge::FailBadaddr => RmpStatus::FAIL_BADADDR,
                    NotLarge::FailOverlap => RmpStatus::FAIL_OVERLAP,
                }),
                _ => None,
            };
            if let Some(status) = failure {
                return result(status, lines, false);
            }
        }
        for i in 0..BLOCK {
            let gpa = (old.gpa + i * 4096) % (1 << 51);
            self.set(head + i, Page { large: false, gpa, ..old });
        }
        self.clear_region(spa.region());
        result(RmpStatus::SUCCESS, 128, true)
    }

    /// RMPREAD by the host.
    pub fn rmpread(&mut self, core: CoreId, spa: Spa) -> Result<RmpRead, Exception> {
        if !self.core(core).snp_en {
            return Err(Exception::UndefinedOpcode);
        }
        let pfn = spa.get() / 4096;
        let head = pfn - pfn % BLOCK;
        let Some(page) = self.page(pfn).filter(|_| spa.get() % 4096 == 0) else {
            return Ok(RmpRead {
                status: RmpStatus::FAIL_INPUT,
                operand: RmpOperand::default(),
                lines: 0,
            });
        };
        let in_block = self.first_assigned(head, head + BLOCK).is_some();
        Ok(RmpRead {
            status: RmpStatus::SUCCESS,
            operand: RmpOperand {
                gpa: page.gpa,
                assigned: u8::from(page.assigned),
                page_size: u8::from(page.large) + 2 * u8::from(in_block),
                immutable: u8::from(page.immutable),
                reserved: 0,
                asid: page.asid,
            },
            lines: if pfn - head < 4 { 1 } else { 2 },
        })
    }
}
