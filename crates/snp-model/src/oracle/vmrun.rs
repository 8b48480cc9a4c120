//! VMRUN: which pages it wants and marks as in use, and #VMEXIT.

use ::snp_defs::Spa;

use super::{Oracle, Page};
use crate::snp_model::{CoreId, Exception, SaveArea, VmrunPages, VmrunStop};

impl Oracle {
    /// VMRUN; the pages that are in use from now on.
    pub fn vmrun(&mut self, core: CoreId, pages: &VmrunPages) -> Result<Vec<u64>, VmrunStop> {
        let gp = VmrunStop::Exception(Exception::GeneralProtection);
        if pages.hsave.0 == 0 {
            return Err(gp);
        }
        if !self.snp_en(core) {
            return match pages.save_area {
                SaveArea::Snp { .. } => Err(VmrunStop::ExitInvalid),
                _ => Ok(Vec::new()),
            };
        }
        let mut wanted = vec![(pages.vmcb, gp)];
        wanted.extend(pages.avic.map(|page| (page, VmrunStop::ExitInvalid)));
        if let SaveArea::Encrypted(page) = pages.save_area {
            wanted.push((page, VmrunStop::ExitInvalid));
        }
        let mut in_use = Vec::new();
        for (spa, stop) in wanted {
            let taken = self.governing(spa.get() / 4096).is_some_and(|(page, _)| page.assigned);
            if taken || !self.use_page(spa, &mut in_use) {
                self.vmexit(&in_use);
                return Err(stop);
            }
        }
        if let SaveArea::Snp { vmsa, gpa, asid } = pages.save_area {
            let good = self.governing(vmsa.get() / 4096).is_some_and(|(page, at)| {
                page.assigned
                    && asid != 0
                    && page.asid == asid
                    && at / 4096 == gpa.get() / 4096
                    && !page.immutable
                    && page.vmsa
            });
            if !good || !self.use_page(vmsa, &mut in_use) {
                self.vmexit(&in_use);
                return Err(VmrunStop::ExitInvalid);
            }
        }
        Ok(in_use)
    }

    /// False for a page in use already and for one that is none. A page without entry is not marked.
    fn use_page(&mut self, spa: Spa, in_use: &mut Vec<u64>) -> bool {
        let pfn = spa.get() / 4096;
        if spa.get() % 4096 != 0 {
            return false;
        }
        match self.governing(pfn) {
            None => true,
            Some((page, _)) if page.lock => false,
            Some((page, _)) => {
                self.change_governing(pfn, Page { lock: true, ..page });
                in_use.push(pfn);
                true
            }
        }
    }

    /// `#VMEXIT`.
    pub fn vmexit(&mut self, in_use: &[u64]) {
        for &pfn in in_use {
            if let Some((page, _)) = self.governing(pfn) {
                self.change_governing(pfn, Page { lock: false, ..page });
            }
        }
    }
}
