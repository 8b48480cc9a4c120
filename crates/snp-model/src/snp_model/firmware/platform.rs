//! SNP_INIT_EX, SNP_SHUTDOWN_EX, flushes and PLATFORM_STATUS (spec/snp-arch.md 4.4).

use crate::snp_defs::{
    FirmwareStatus, PageState, Pfn, RmpEntry, Spa, BOOKKEEPING_BYTES, PAGE_BYTES, RST_BYTES,
};
use crate::snp_model::firmware::state::{asid, MemoryKind};
use crate::snp_model::firmware::{
    check_output, lock_page, require, state_of, written, Answer, CoreRegs, Firmware,
    FirmwareChoices, FirmwareStorage,
};
use crate::snp_model::sync::Ordering;
use crate::snp_model::{CoreId, InitLayout, Machine, PfnRange, Storage, UnitStorage};

/// Operand of SNP_INIT_EX.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitEx<'a> {
    /// Build a new RMP.
    pub init_rmp: bool,
    /// `layout.hv_fixed` is given; without it that list is not looked at.
    pub list_paddr_en: bool,
    /// Reserved bits: must be 0.
    pub reserved: u64,
    /// The memory map, which real firmware finds out by itself but for `hv_fixed`.
    pub layout: InitLayout<'a>,
}

/// Operand of SNP_SHUTDOWN_EX.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShutdownEx<'a> {
    /// Take the IOMMUs' RMP checks off; the RMP is given up.
    pub iommu_snp_shutdown: bool,
    /// Take SNP off on every core.
    pub x86_snp_shutdown: bool,
    /// Reserved bits and a wrong length: must be 0.
    pub reserved: u64,
    /// The IOMMUs' buffers, which real firmware knows.
    pub iommu: &'a [PfnRange],
}

/// Pages below the 1 MiB that the firmware wants the RMP's base and size to be a multiple of.
const MIB_PAGES: u64 = 256;
/// A segmented RMP's bookkeeping and segment table: no whole MiB, unlike any other part.
const BASE_PAGES: u64 = (BOOKKEEPING_BYTES + RST_BYTES) / PAGE_BYTES;
/// Memory that is HV-fixed on every host: 0xFD_0000_0000 to 0xFD_FFFF_FFFF.
const RESERVED_FIRST: u64 = 0xFD_0000_0000 >> 12;
const RESERVED_PAGES: u64 = 1 << 20;

impl<F: FirmwareStorage> Firmware<F> {
    /// Legacy SEV is initialised or no longer is.
    pub fn set_sev_initialised(&self, on: bool) {
        self.sev_initialised.store(on, Ordering::Release);
    }

    /// SNP_INIT_EX. `host` must have SNP on where the registers say so. May sleep; no instruction
    /// runs meanwhile.
    pub fn snp_init_ex<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        init: &InitEx<'_>,
    ) -> Answer {
        let _command = self.command();
        let fresh = !host.is_initialised() && !self.sev_initialised.load(Ordering::Acquire);
        require(fresh, FirmwareStatus::INVALID_PLATFORM_STATE)?;
        let listed_without_rmp = init.list_paddr_en && !init.init_rmp;
        require(init.reserved == 0 && !listed_without_rmp, FirmwareStatus::INVALID_PARAM)?;
        require(self.registers_fit(host), FirmwareStatus::INVALID_CONFIG)?;
        if !init.init_rmp {
            let kept = self.rmp_initialised.load(Ordering::Acquire);
            require(kept, FirmwareStatus::RMP_INIT_REQUIRED)?;
            host.rmp_is_ready();
            return Ok(());
        }
        let segmented = host.rmp().coverage().is_segmented();
        require(Self::rmp_fits(&init.layout, segmented), FirmwareStatus::INVALID_CONFIG)?;
        let no_hsave = self.storage.cores().iter().all(|core| core.hsave().allows_rmp_init());
        require(no_hsave, FirmwareStatus::INVALID_CONFIG)?;
        self.remember_memory(&init.layout)?;

        let hv_fixed = if init.list_paddr_en { init.layout.hv_fixed } else { &[] };
        let layout = InitLayout { hv_fixed, ..init.layout };
        let reserved = Pfn::new(RESERVED_FIRST).map(|pfn| PfnRange::new(pfn, RESERVED_PAGES));
        host.build_rmp(&layout, reserved.as_slice())
            .map_err(|_| FirmwareStatus::RMP_INITIALIZATION_FAILED)?;
        self.forget_guests();
        self.rmp_initialised.store(true, Ordering::Release);
        host.rmp_is_ready();
        Ok(())
    }

    /// SMEE, SNP, VMPL and MFDM on, SMM locked, and all listed registers alike on every core.
    fn registers_fit<S: Storage, U: UnitStorage>(&self, host: &Machine<S, U>) -> bool {
        let cores = self.storage.cores();
        let first = cores.first().map(CoreRegs::compared);
        let enough = cores.len() >= host.unit().cores() as usize;
        let snp_on = (0..host.unit().cores()).all(|core| host.unit().snp_en(CoreId(core)));
        enough
            && snp_on
            && cores.iter().all(|core| {
                core.syscfg().missing_for_snp_init() == 0
                    && core.hwcr().smm_lock()
                    && Some(core.compared()) == first
            })
    }

    /// Each part of the RMP is 1 MiB aligned and inside one range of RAM.
    fn rmp_fits(layout: &InitLayout<'_>, segmented: bool) -> bool {
        layout.rmp.iter().all(|rmp| {
            rmp.first.get() % MIB_PAGES == 0
                && (rmp.pages % MIB_PAGES == 0 || (segmented && rmp.pages == BASE_PAGES))
                && layout.dram.iter().any(|dram| dram.first <= rmp.first && rmp.end() <= dram.end())
        })
    }

    fn remember_memory(&self, layout: &InitLayout<'_>) -> Answer {
        let cells = self.storage.memory();
        let given = layout.dram.len().saturating_add(layout.rmp.len());
        require(given <= cells.len(), FirmwareStatus::RESOURCE_LIMIT)?;
        let dram = layout.dram.iter().map(|&range| (range, MemoryKind::Dram));
        let rmp = layout.rmp.iter().map(|&range| (range, MemoryKind::Rmp));
        let none = core::iter::repeat((PfnRange::default(), MemoryKind::Dram));
        for (cell, (range, kind)) in cells.iter().zip(dram.chain(rmp).chain(none)) {
            cell.set(range, kind);
        }
        Ok(())
    }

    pub(super) fn is_in(&self, kind: MemoryKind, pfn: Pfn) -> bool {
        self.storage
            .memory()
            .iter()
            .any(|cell| cell.get(kind).is_some_and(|range| range.contains(pfn)))
    }

    fn forget_guests(&self) {
        for guest in self.storage.guests() {
            guest.free();
        }
        for word in self.storage.asids() {
            word.store(0, Ordering::Release);
        }
        for core in self.storage.cores() {
            core.set_wbinvd_due(false);
        }
    }

    /// SNP_SHUTDOWN_EX. Guests are forgotten; pages keep their entries, but for the IOMMUs'.
    pub fn snp_shutdown_ex<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        shutdown: &ShutdownEx<'_>,
    ) -> Answer {
        let _command = self.begin(host)?;
        let sev = self.sev_initialised.load(Ordering::Acquire);
        require(!sev, FirmwareStatus::INVALID_PLATFORM_STATE)?;
        let x86_alone = shutdown.x86_snp_shutdown && !shutdown.iommu_snp_shutdown;
        require(shutdown.reserved == 0 && !x86_alone, FirmwareStatus::INVALID_PARAM)?;
        require(!self.any_dirty(), FirmwareStatus::DFFLUSH_REQUIRED)?;
        if shutdown.iommu_snp_shutdown {
            for range in shutdown.iommu {
                for pfn in (range.first.get()..range.end()).map_while(Pfn::new) {
                    self.release_iommu_page(host, pfn)?;
                }
            }
            self.rmp_initialised.store(false, Ordering::Release);
        }
        self.forget_guests();
        host.leave_snp(shutdown.iommu_snp_shutdown, shutdown.x86_snp_shutdown);
        if shutdown.x86_snp_shutdown {
            for core in self.storage.cores() {
                let off = core.syscfg().0 & !crate::snp_defs::Syscfg::SNP_EN;
                core.set_syscfg(crate::snp_defs::Syscfg(off));
            }
        }
        Ok(())
    }

    fn release_iommu_page<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        pfn: Pfn,
    ) -> Answer {
        let Some(page) = lock_page(host, pfn)? else { return Ok(()) };
        let (state, governing) = state_of(Some(&page));
        if state != PageState::FirmwareIommu {
            return Ok(());
        }
        let kept = governing.entry.subpage_count();
        page.put_governing(if self.choices.version >= FirmwareChoices::IOMMU_RECLAIM {
            written(governing.entry.with_immutable(false).with_gpa_page(0))
        } else {
            // The head's count of assigned pages stays as it was: stale.
            RmpEntry::HYPERVISOR.with_subpage_count(kept)
        });
        Ok(())
    }

    /// PLATFORM_STATUS, SNP's or the legacy one: `output` is the page it writes to.
    pub fn platform_status<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        output: Spa,
    ) -> Answer {
        let _command = self.command();
        check_output(host, output)
    }

    /// WBINVD on a core: no command, but what SNP_DF_FLUSH asks for.
    pub fn wbinvd(&self, core: CoreId) {
        if let Some(core) = self.storage.cores().get(core.0 as usize) {
            core.set_wbinvd_due(false);
        }
    }

    /// SNP_DF_FLUSH: makes dirty ASIDs usable again, once every core did WBINVD.
    pub fn df_flush<S: Storage, U: UnitStorage>(&self, host: &Machine<S, U>) -> Answer {
        let _command = self.begin(host)?;
        let due = self.storage.cores().iter().any(CoreRegs::wbinvd_is_due);
        require(!due, FirmwareStatus::WBINVD_REQUIRED)?;
        for word in self.storage.asids() {
            word.fetch_and(asid::OWNER, Ordering::AcqRel);
        }
        Ok(())
    }

    fn any_dirty(&self) -> bool {
        self.storage.asids().iter().any(|word| word.load(Ordering::Acquire) & asid::DIRTY != 0)
    }
}
