//! What VMRUN, VMSAVE and `VM_HSAVE_PA` ask of the RMP (spec/snp-arch.md 5.5).
//!
//! VMRUN marks the VMCB, the AVIC backing page and the save area as in use, in bit 63 of their
//! entries, until `#VMEXIT`; RMPUPDATE and PSMASH then answer `FAIL_INUSE`.

use crate::snp_defs::{Gpa, PageSize, Pfn, Region, Spa, VmHsavePa, PAGE_SHIFT};
use crate::snp_model::page_lock::{Governing, LockFailure};
use crate::snp_model::{
    sync::spin_loop, Accessor, CoreId, Defect, Exception, GuestStop, Machine, Storage, UnitStorage,
    Verdict,
};

/// Where a virtual CPU's registers are saved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SaveArea {
    /// In the VMCB: a plain or SEV guest.
    InVmcb,
    /// An SEV-ES guest's save area.
    Encrypted(Spa),
    /// An SNP guest's save area.
    Snp {
        /// The page.
        vmsa: Spa,
        /// Its guest physical address.
        gpa: Gpa,
        /// The guest.
        asid: u32,
    },
}

/// The pages that a VMRUN uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VmrunPages {
    /// The core's `VM_HSAVE_PA`.
    pub hsave: VmHsavePa,
    /// The VMCB.
    pub vmcb: Spa,
    /// The AVIC backing page, if AVIC is on.
    pub avic: Option<Spa>,
    /// The save area.
    pub save_area: SaveArea,
}

/// Why a VMRUN did not enter the guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VmrunStop {
    /// The instruction raised an exception.
    Exception(Exception),
    /// `#VMEXIT(INVALID)`.
    ExitInvalid,
    /// No hardware event: the model has no memory to mark the page in.
    NotReserved(Region),
}

/// A guest that runs: its pages are in use until [`Machine::vmexit`].
#[must_use = "pages of a guest that never exits stay in use"]
#[derive(Debug, Default)]
pub struct Running {
    pages: [Option<Pfn>; 3],
}

impl<S: Storage, U: UnitStorage> Machine<S, U> {
    /// Checks a page and marks it as in use, in one step.
    fn mark_in_use(
        &self,
        spa: Spa,
        refusal: VmrunStop,
        fits: impl FnOnce(Option<Governing>) -> bool,
    ) -> Result<Option<Pfn>, VmrunStop> {
        let pfn = spa.pfn();
        if !spa.is_aligned(PageSize::Size4K) {
            return Err(refusal);
        }
        let page = match self.rmp().lock(pfn) {
            Ok(page) => page,
            // A page without entry is the hypervisor's, and there is nothing to mark.
            Err(LockFailure::NotCovered) if fits(None) => return Ok(None),
            Err(_) => return Err(refusal),
        };
        let governing = page.governing();
        if !fits(Some(governing)) || governing.entry.lock() {
            return Err(refusal);
        }
        if !page.is_writable() {
            return Err(VmrunStop::NotReserved(pfn.region()));
        }
        if !self.rmp().choices().has(Defect::InUseNotMarked) {
            page.put_governing(governing.entry.with_lock(true));
        }
        Ok(Some(pfn))
    }

    fn mark_hypervisors(&self, spa: Spa, refusal: VmrunStop) -> Result<Option<Pfn>, VmrunStop> {
        self.mark_in_use(spa, refusal, |page| page.is_none_or(|page| !page.entry.assigned()))
    }

    /// VMRUN by the host on this core. With SNP off on the core nothing is checked but
    /// `VM_HSAVE_PA`, and an SNP guest does not run.
    pub fn vmrun(&self, core: CoreId, pages: &VmrunPages) -> Result<Running, VmrunStop> {
        let gp = VmrunStop::Exception(Exception::GeneralProtection);
        if !pages.hsave.allows_vmrun() {
            return Err(gp);
        }
        if !self.unit().snp_en(core) {
            return match pages.save_area {
                SaveArea::Snp { .. } => Err(VmrunStop::ExitInvalid),
                _ => Ok(Running::default()),
            };
        }
        let mut running = Running::default();
        match self.mark_all(pages, gp, &mut running) {
            Ok(()) => Ok(running),
            Err(stop) => {
                self.vmexit(running);
                Err(stop)
            }
        }
    }

    fn mark_all(
        &self,
        pages: &VmrunPages,
        gp: VmrunStop,
        running: &mut Running,
    ) -> Result<(), VmrunStop> {
        let invalid = VmrunStop::ExitInvalid;
        let [vmcb, avic, save] = &mut running.pages;
        *vmcb = self.mark_hypervisors(pages.vmcb, gp)?;
        if let Some(page) = pages.avic {
            *avic = self.mark_hypervisors(page, invalid)?;
        }
        *save = match pages.save_area {
            SaveArea::InVmcb => None,
            SaveArea::Encrypted(page) => self.mark_hypervisors(page, invalid)?,
            SaveArea::Snp { vmsa, gpa, asid } => self.mark_in_use(vmsa, invalid, |page| {
                page.is_some_and(|Governing { entry, gpa_page, .. }| {
                    entry.assigned()
                        && asid != 0
                        && entry.asid() == asid
                        && gpa_page == gpa.get() >> PAGE_SHIFT
                        && !entry.immutable()
                        && entry.vmsa()
                })
            })?,
        };
        Ok(())
    }

    /// `#VMEXIT`: the guest's pages are no longer in use.
    #[allow(clippy::needless_pass_by_value)] // Consumed on purpose: a guest exits once.
    pub fn vmexit(&self, running: Running) {
        for pfn in running.pages.into_iter().flatten() {
            // A vCPU's exit waits as long as it takes.
            loop {
                match self.rmp().lock_as(pfn, crate::snp_model::NeighbourRace::Spin) {
                    Ok(page) => {
                        page.put_governing(page.governing().entry.with_lock(false));
                        break;
                    }
                    Err(LockFailure::NotCovered) => break,
                    Err(LockFailure::Busy) => spin_loop(),
                }
            }
        }
    }

    /// WRMSR of `VM_HSAVE_PA`: `#GP(0)` unless the hypervisor owns the page; 0 is always accepted. The
    /// caller keeps the value.
    pub fn check_hsave(&self, core: CoreId, value: VmHsavePa) -> Result<(), Exception> {
        if value.0 == 0 {
            return Ok(());
        }
        let page = Spa::new(value.0).filter(|spa| spa.is_aligned(PageSize::Size4K));
        let owned = |spa: Spa| self.rmp().hv_owned(spa.pfn(), PageSize::Size4K).0;
        match page {
            Some(spa) if !self.unit().snp_en(core) || owned(spa) => Ok(()),
            _ => Err(Exception::GeneralProtection),
        }
    }

    /// VMSAVE or VMLOAD with this page: `#GP(0)` for the host unless the hypervisor owns it. When
    /// virtualised in a guest, it is an ordinary guest's access, and a nested page fault.
    pub fn check_vmsave(&self, core: CoreId, spa: Spa, virtualised: bool) -> Result<(), GuestStop> {
        let (owned, _) = self.rmp().hv_owned(spa.pfn(), PageSize::Size4K);
        if owned || !self.unit().snp_en(core) {
            return Ok(());
        }
        match Accessor::Guest.refusal() {
            Verdict::NestedPageFault(code) if virtualised => Err(GuestStop::NestedFault(code)),
            _ => Err(Exception::GeneralProtection.into()),
        }
    }
}
