//! A host: its cores' SNP state, its RMP and its RMPOPT unit, and the instructions that concern them.

use core::fmt;

use crate::snp_defs::{
    msr, FirmwareStatus, Gpa, PageSize, PageState, Pfn, Region, RmpEntry, RmpOperand, RmpStatus,
    RmpoptFunction, Spa, Syscfg, VmHsavePa, PAGES_PER_REGION,
};
use crate::snp_model::sync::{const_constructor, AtomicBool, Ordering};
use crate::snp_model::{
    Access, AccessKind, Accessor, Choices, CoreId, Coverage, Exception, Fill, Issuer, OutOfMemory,
    Outcome, PfnRange, Rmp, RmpRead, RmpoptUnit, Stop, Storage, UnitConfig, UnitStorage, Update,
    UpdateOrder, UpdateToken, Verdict,
};

/// What `SNP_INIT` is told of the host's memory (spec/snp-arch.md 4.4). Later lists override earlier
/// ones; covered memory in none of them is HV-fixed.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitLayout<'a> {
    /// RAM: hypervisor-owned.
    pub dram: &'a [PfnRange],
    /// Reserved memory: HV-fixed.
    pub hv_fixed: &'a [PfnRange],
    /// The RMP's own pages: the firmware's.
    pub rmp: &'a [PfnRange],
    /// IOMMU log and completion buffers: Firmware-IOMMU.
    pub iommu: &'a [PfnRange],
}

/// Why `SNP_INIT` failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InitError {
    /// A core has SNP off (`INVALID_CONFIG`).
    SnpOff(CoreId),
    /// SNP is initialised already (`INVALID_PLATFORM_STATE`).
    AlreadyInitialised,
    /// The model's storage is exhausted; no event of the architecture.
    OutOfMemory,
}

impl InitError {
    /// The firmware's code; `None` for what is no event of the architecture.
    pub const fn status(self) -> Option<FirmwareStatus> {
        match self {
            Self::SnpOff(_) => Some(FirmwareStatus::INVALID_CONFIG),
            Self::AlreadyInitialised => Some(FirmwareStatus::INVALID_PLATFORM_STATE),
            Self::OutOfMemory => None,
        }
    }
}

impl From<OutOfMemory> for InitError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnpOff(core) => write!(f, "SNP is off on core {core}"),
            Self::AlreadyInitialised => f.pad("SNP is initialised already"),
            Self::OutOfMemory => OutOfMemory.fmt(f),
        }
    }
}

/// What a run of RMPUPDATEs did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RangeUpdate {
    /// Instructions that succeeded before the end or the first failure.
    pub done: u64,
    /// The last instruction's code.
    pub status: RmpStatus,
    /// RMP cache lines touched by all of them.
    pub lines: u64,
    /// How many succeeded and cleared RMPOPT bits of their region.
    pub clearing: u64,
}

/// What became of a WRMSR that raised nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MsrWrite {
    /// It took effect.
    Done,
    /// Hardware ignores it.
    Ignored,
    /// The model has no such register.
    NotModelled,
}

/// Registers whose write raises `#GP(0)` once SNP is on: first and last of each run (AMD64 APM
/// vol. 2 §15.36.2 and appendix A).
const FROZEN: [(u32, u32); 8] = [
    (0x250, 0x250),             // MTRRfix64K
    (0x258, 0x259),             // MTRRfix16K
    (0x268, 0x26F),             // MTRRfix4K
    (0xC001_0016, 0xC001_0019), // IORR base and mask
    (0xC001_001A, 0xC001_001A), // TOP_MEM
    (0xC001_001D, 0xC001_001D), // TOP_MEM2
    (0xC001_0119, 0xC001_0119), // SMM_KEY
    (msr::RMP_CFG, msr::RMP_CFG),
];

/// A host with `S` behind its RMP and `U` behind its RMPOPT unit.
#[derive(Debug)]
pub struct Machine<S, U> {
    rmp: Rmp<S>,
    unit: RmpoptUnit<U>,
    initialised: AtomicBool,
    iommu_snp: AtomicBool,
}

impl<S: Storage, U: UnitStorage> Machine<S, U> {
    const_constructor! {
        /// A host after reset: SNP off, every RMP entry hypervisor-owned. Whether the RMP is segmented
        /// is the coverage's to say, whatever `config` has.
        pub const fn new(
            storage: S,
            coverage: Coverage,
            unit_storage: U,
            config: UnitConfig,
            order: UpdateOrder,
        ) -> Self {
            let config = UnitConfig { segmented: coverage.is_segmented(), ..config };
            Self {
                rmp: Rmp::new(storage, coverage, order),
                unit: RmpoptUnit::new(unit_storage, config),
                initialised: AtomicBool::new(false),
                iommu_snp: AtomicBool::new(false),
            }
        }
    }

    /// With other choices for the RMP's side.
    pub fn with_choices(mut self, choices: Choices) -> Self {
        self.rmp = self.rmp.with_choices(choices);
        self
    }

    /// The RMP.
    pub const fn rmp(&self) -> &Rmp<S> {
        &self.rmp
    }

    /// The RMPOPT unit.
    pub const fn unit(&self) -> &RmpoptUnit<U> {
        &self.unit
    }

    // ---- platform ----

    /// Sets `SYSCFG.SNP_EN` on every core.
    pub fn enable_snp(&self) {
        for core in 0..self.unit.cores() {
            self.unit.set_snp_en(CoreId(core), true);
        }
    }

    /// Sets `SYSCFG.SNP_EN` on one core.
    pub fn enable_snp_on(&self, core: CoreId) {
        self.unit.set_snp_en(core, true);
    }

    /// One core goes through a reset: SNP off there, `RMPOPT_BASE` 0, empty table.
    pub fn reset_core(&self, core: CoreId) {
        self.unit.reset_core(core);
    }

    /// Whether `SNP_INIT` was done and no shutdown since.
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::Acquire)
    }

    /// The firmware's `SNP_INIT` with a new RMP. Clears every core's RMPOPT table. May sleep; no
    /// instruction runs meanwhile (the firmware keeps the RMP from the CPUs).
    pub fn snp_init(&self, layout: &InitLayout<'_>) -> Result<(), InitError> {
        if self.is_initialised() {
            return Err(InitError::AlreadyInitialised);
        }
        let off = (0..self.unit.cores()).map(CoreId).find(|&core| !self.unit.snp_en(core));
        if let Some(core) = off {
            return Err(InitError::SnpOff(core));
        }
        self.build_rmp(layout, &[])?;
        self.rmp_is_ready();
        Ok(())
    }

    /// Writes a whole RMP: the layout, then `fixed` as HV-fixed unless it is the RMP's or an IOMMU's.
    pub(super) fn build_rmp(
        &self,
        layout: &InitLayout<'_>,
        fixed: &[PfnRange],
    ) -> Result<(), OutOfMemory> {
        let rmp = &self.rmp;
        rmp.write_range(self.everything(), RmpEntry::HV_FIXED, Some(Fill::HvFixed))?;
        for &range in layout.dram {
            rmp.write_range(range, RmpEntry::HYPERVISOR, Some(Fill::Hypervisor))?;
        }
        for &range in layout.hv_fixed.iter().chain(fixed) {
            rmp.write_range(range, RmpEntry::HV_FIXED, Some(Fill::HvFixed))?;
        }
        for &range in layout.rmp {
            rmp.write_range(range, RmpEntry::FIRMWARE, Some(Fill::Firmware))?;
        }
        for &range in layout.iommu {
            rmp.write_range(range, RmpEntry::FIRMWARE_IOMMU, None)?;
        }
        rmp.reset_counters();
        Ok(())
    }

    /// The end of `SNP_INIT`, whether the RMP is new or kept.
    pub(super) fn rmp_is_ready(&self) {
        self.unit.snp_init();
        self.iommu_snp.store(true, Ordering::Release);
        self.initialised.store(true, Ordering::Release);
    }

    /// The end of a shutdown: IOMMU checks and SNP itself may go on.
    pub(super) fn leave_snp(&self, iommu: bool, x86: bool) {
        self.initialised.store(false, Ordering::Release);
        if iommu {
            self.iommu_snp.store(false, Ordering::Release);
        }
        if x86 {
            for core in 0..self.unit.cores() {
                self.unit.set_snp_en(CoreId(core), false);
            }
        }
    }

    /// Whether the IOMMUs check devices' writes.
    pub fn iommu_snp(&self) -> bool {
        self.iommu_snp.load(Ordering::Acquire)
    }

    /// The firmware's `SHUTDOWN_EX` with `iommu_snp_shutdown`: those of the given pages that are
    /// Firmware-IOMMU become Reclaim, all others keep their entries. With `x86` it also takes SNP off
    /// on every core. Nothing happens if SNP is not initialised. No instruction runs meanwhile.
    pub fn snp_shutdown(&self, x86: bool, iommu: &[PfnRange]) {
        if !self.is_initialised() {
            return;
        }
        for range in iommu {
            for pfn in (range.first.get()..range.end()).map_while(Pfn::new) {
                // Such a page is dense, and was assigned before and after: RMPOPT sees no change.
                let _ = self.rmp.edit_entry(pfn, |entry| {
                    if PageState::of(entry) == PageState::FirmwareIommu {
                        entry.with_immutable(false).with_lock(false).with_gpa_page(0)
                    } else {
                        entry
                    }
                });
            }
        }
        self.leave_snp(true, x86);
    }

    /// The host writes zeroes over the whole RMP, as Linux does before it turns SNP on and after a
    /// full shutdown. False, and nothing happens, if a core has SNP on.
    pub fn clear_rmp(&self) -> Result<bool, OutOfMemory> {
        if (0..self.unit.cores()).any(|core| self.unit.snp_en(CoreId(core))) {
            return Ok(false);
        }
        self.rmp.write_range(self.everything(), RmpEntry::HYPERVISOR, Some(Fill::Hypervisor))?;
        self.rmp.reset_counters();
        Ok(true)
    }

    fn everything(&self) -> PfnRange {
        let regions = u64::from(self.rmp.storage().regions());
        PfnRange::new(Region::ZERO.first_pfn(), regions.saturating_mul(PAGES_PER_REGION))
    }

    // ---- memory of the model ----

    /// Makes a region's pages writable by instructions. May sleep.
    pub fn reserve(&self, region: Region) -> Result<(), OutOfMemory> {
        self.rmp.reserve(PfnRange::new(region.first_pfn(), PAGES_PER_REGION))
    }

    /// Makes these pages writable by instructions. May sleep.
    pub fn reserve_pages(&self, range: PfnRange) -> Result<(), OutOfMemory> {
        self.rmp.reserve(range)
    }

    /// Changes what the firmware, a guest or a running vCPU may change in a page's own entry: see
    /// [`Rmp::edit_entry`].
    pub fn edit_entry(
        &self,
        pfn: Pfn,
        edit: impl FnOnce(RmpEntry) -> RmpEntry,
    ) -> Result<bool, Stop> {
        self.rmp.edit_entry(pfn, edit)
    }

    // ---- instructions ----

    #[inline]
    fn require_snp(&self, core: CoreId) -> Result<(), Exception> {
        if self.unit.snp_en(core) {
            Ok(())
        } else {
            Err(Exception::UndefinedOpcode)
        }
    }

    /// RMPUPDATE by the host.
    #[inline]
    pub fn rmpupdate(&self, core: CoreId, spa: Spa, operand: &RmpOperand) -> Result<Update, Stop> {
        self.rmpupdate_by(Issuer::HOST, core, spa, operand)
    }

    /// RMPUPDATE by anyone.
    #[inline]
    pub fn rmpupdate_by(
        &self,
        issuer: Issuer,
        core: CoreId,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Result<Update, Stop> {
        self.require_snp(core)?;
        let token = self.unit.begin_update(spa.region());
        match self.rmp.update_4k(issuer, spa, operand) {
            Some(update) => {
                self.unit.end_update(token, true);
                Ok(update)
            }
            None => self.update_by_all_rules(token, issuer, spa, operand),
        }
    }

    /// An RMPUPDATE that has begun and is not of the common kind.
    #[cold]
    fn update_by_all_rules(
        &self,
        token: UpdateToken<'_>,
        issuer: Issuer,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Result<Update, Stop> {
        let result = self.rmp.update_by_all_rules(issuer, spa, operand);
        self.unit.end_update(token, result.is_ok_and(|update| update.clears_rmpopt()));
        result
    }

    /// `count` RMPUPDATEs by the host on consecutive pages of the operand's size, up to the first that
    /// fails. The guest address grows with the page if the operand assigns it to a guest.
    pub fn rmpupdate_range(
        &self,
        core: CoreId,
        first: Spa,
        count: u64,
        operand: &RmpOperand,
    ) -> Result<RangeUpdate, Stop> {
        let mut sum = RangeUpdate { done: 0, status: RmpStatus::SUCCESS, lines: 0, clearing: 0 };
        let step = operand.size().bytes();
        let mut next = *operand;
        let mut spa = Some(first);
        while sum.done < count {
            let Some(at) = spa else {
                sum.status = RmpStatus::FAIL_INPUT;
                break;
            };
            let update = self.rmpupdate(core, at, &next)?;
            sum.status = update.status;
            sum.lines = sum.lines.saturating_add(u64::from(update.lines));
            if !update.status.is_success() {
                break;
            }
            sum.done += 1;
            sum.clearing += u64::from(update.clears_rmpopt());
            spa = at.checked_add(step);
            if operand.is_assigned() && operand.asid != 0 {
                // A guest address past the last stays where no RMPUPDATE takes it.
                next.gpa =
                    Gpa::new(next.gpa).and_then(|g| g.checked_add(step)).map_or(u64::MAX, Gpa::get);
            }
        }
        Ok(sum)
    }

    /// RMPREAD by the host.
    pub fn rmpread(&self, core: CoreId, spa: Spa) -> Result<RmpRead, Exception> {
        self.require_snp(core)?;
        Ok(self.rmp.rmpread(Issuer::HOST, spa))
    }

    /// RMPOPT, both halves; for the halves see [`RmpoptUnit::begin`].
    #[inline]
    pub fn rmpopt(
        &self,
        core: CoreId,
        rax: u64,
        function: RmpoptFunction,
    ) -> Result<Outcome, Exception> {
        self.unit.rmpopt(core, rax, function, &self.rmp)
    }

    /// PSMASH by the host: splits a 2M page into 512 pages of 4K with the same owner and rights.
    pub fn psmash(&self, core: CoreId, spa: Spa) -> Result<Update, Stop> {
        self.psmash_by(Issuer::HOST, core, spa)
    }

    /// PSMASH by anyone.
    pub fn psmash_by(&self, issuer: Issuer, core: CoreId, spa: Spa) -> Result<Update, Stop> {
        self.require_snp(core)?;
        let token = self.unit.begin_update(spa.region());
        let update = self.rmp.psmash(issuer, spa);
        self.unit.end_update(token, update.clears_rmpopt());
        Ok(update)
    }

    /// WRMSR of the registers that concern the RMP. Once SNP is on, the memory map is frozen: writes
    /// of `SYSCFG` are ignored, others give `#GP(0)` (spec/snp-arch.md 1.1).
    pub fn wrmsr(&self, core: CoreId, register: u32, value: u64) -> Result<MsrWrite, Exception> {
        let on = self.unit.snp_en(core);
        match register {
            msr::RMPOPT_BASE => self.unit.wrmsr_base(core, value).map(|()| MsrWrite::Done),
            msr::VM_HSAVE_PA => self.check_hsave(core, VmHsavePa(value)).map(|()| MsrWrite::Done),
            msr::SYSCFG if on => Ok(MsrWrite::Ignored),
            msr::SYSCFG => {
                if Syscfg(value).snp_en() {
                    self.unit.set_snp_en(core, true);
                }
                Ok(MsrWrite::Done)
            }
            _ if on && FROZEN.iter().any(|&(first, last)| (first..=last).contains(&register)) => {
                Err(Exception::GeneralProtection)
            }
            _ => Ok(MsrWrite::NotModelled),
        }
    }

    /// WRMSR of `RMPOPT_BASE`.
    pub fn wrmsr_rmpopt_base(&self, core: CoreId, raw: u64) -> Result<(), Exception> {
        self.unit.wrmsr_base(core, raw)
    }

    /// RDMSR of `RMPOPT_BASE`.
    pub fn rdmsr_rmpopt_base(&self, core: CoreId) -> u64 {
        self.unit.rdmsr_base(core)
    }

    /// The state of a page.
    pub fn page_state(&self, pfn: Pfn) -> PageState {
        self.rmp.page_state(pfn)
    }

    // ---- accesses ----

    /// A write by the host's kernel or an ordinary guest; `size` is that of the translation (1 GiB
    /// counts as 2M).
    #[inline]
    pub fn check_write(
        &self,
        core: CoreId,
        accessor: Accessor,
        spa: Spa,
        size: PageSize,
    ) -> Access {
        self.check_access(core, accessor, AccessKind::Write, spa, size)
    }

    /// What the RMP says to an access by the host or an ordinary guest on this core.
    #[inline]
    pub fn check_access(
        &self,
        core: CoreId,
        accessor: Accessor,
        kind: AccessKind,
        spa: Spa,
        size: PageSize,
    ) -> Access {
        let free = Access { verdict: Verdict::Allowed, skipped_by_rmpopt: false, lines: 0 };
        let Some(size) = accessor.checked_size(kind, size).filter(|_| self.unit.snp_en(core))
        else {
            return free;
        };
        if self.unit.is_optimised(core, spa.region()) {
            return Access { skipped_by_rmpopt: true, ..free };
        }
        let (owned, lines) = self.rmp.hv_owned(spa.pfn(), size);
        let verdict = if owned && !self.erratum_faults(spa.pfn(), size) {
            Verdict::Allowed
        } else {
            accessor.refusal()
        };
        Access { verdict, lines, ..free }
    }

    /// Whether a named erratum stops a write to memory of the hypervisor's.
    fn erratum_faults(&self, pfn: Pfn, size: PageSize) -> bool {
        let errata = self.rmp.choices().errata;
        let (named, pfn) = match size {
            PageSize::Size4K => (errata.in_use_writes_fault, pfn),
            PageSize::Size2M => (errata.head_in_use_faults, pfn.head()),
        };
        named && self.rmp.entry(pfn).is_some_and(RmpEntry::lock)
    }
}
