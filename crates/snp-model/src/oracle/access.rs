//! Checks on accesses by the host, by ordinary guests and by devices.

use ::snp_defs::{PageSize, Spa};

use super::{Oracle, BLOCK};
use crate::snp_model::{Access, AccessKind, Accessor, CoreId, DeviceVerdict, Verdict};

impl Oracle {
    /// The RMP's verdict alone, as if there were no RMPOPT.
    #[must_use]
    pub fn rmp_verdict(
        &self,
        core: CoreId,
        accessor: Accessor,
        kind: AccessKind,
        spa: Spa,
        size: PageSize,
    ) -> (Verdict, u32) {
        let pfn = spa.get() / 4096;
        let walk = matches!(accessor, Accessor::HostWalk | Accessor::GuestWalk);
        let size = if walk { PageSize::Size4K } else { size };
        let first = match size {
            PageSize::Size4K => pfn,
            PageSize::Size2M => pfn - pfn % BLOCK,
        };
        let checked = walk || kind == AccessKind::Write;
        if !checked || !self.cores[core.0 as usize].snp_en {
            return (Verdict::Allowed, 0);
        }
        if !self.is_covered(first) {
            return (Verdict::Allowed, 0);
        }
        match self.first_assigned(first, first + size.pages()) {
            Some(_) => (accessor.refusal(), 1),
            None if self.stopped_by_erratum(first, size) => (accessor.refusal(), 1),
            None => (Verdict::Allowed, 1),
        }
    }

    /// The errata: a page in use stops the host's own write to it, or, at the head of a block, a
    /// write to the whole block.
    fn stopped_by_erratum(&self, pfn: u64, size: PageSize) -> bool {
        let errata = self.choices.errata;
        let named = match size {
            PageSize::Size4K => errata.in_use_writes_fault,
            PageSize::Size2M => errata.head_in_use_faults,
        };
        named && self.page(pfn).is_some_and(|page| page.lock)
    }

    /// A device's write.
    #[must_use]
    pub fn device_write(&self, spa: Spa) -> DeviceVerdict {
        let pfn = spa.get() / 4096;
        let taken = self.is_covered(pfn) && self.first_assigned(pfn, pfn + 1).is_some();
        if taken && self.iommu {
            DeviceVerdict::Aborted { event: 0xD }
        } else {
            DeviceVerdict::Allowed
        }
    }

    /// The access as the host sees it.
    #[must_use]
    pub fn check_access(
        &self,
        core: CoreId,
        accessor: Accessor,
        kind: AccessKind,
        spa: Spa,
        size: PageSize,
    ) -> Access {
        let walk = matches!(accessor, Accessor::HostWalk | Accessor::GuestWalk);
        let checked = (walk || kind == AccessKind::Write) && self.cores[core.0 as usize].snp_en;
        if checked && self.is_optimised(core, spa.region()) {
            return Access { verdict: Verdict::Allowed, skipped_by_rmpopt: true, lines: 0 };
        }
        let (verdict, lines) = self.rmp_verdict(core, accessor, kind, spa, size);
        Access { verdict, skipped_by_rmpopt: false, lines }
    }
}
