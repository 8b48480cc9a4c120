//! RMPOPT and its register: one plain bit per core and slot.

use ::snp_defs::{Region, RmpoptBase, RmpoptFunction, PAGES_PER_REGION};

use super::{Oracle, BLOCK};
use crate::snp_model::{BaseWrite, CoreId, EnableToggle, Exception, Outcome, OutsideWindow};

/// An RMPOPT between its halves.
#[derive(Clone, Debug)]
pub struct Pending {
    core: CoreId,
    function: RmpoptFunction,
    region: Option<u32>,
    slot: Option<usize>,
    cached: Option<bool>,
    /// Core and region as they were at the start.
    core_before: (bool, u64, u64),
    region_before: u64,
}

impl Oracle {
    /// WRMSR of `RMPOPT_BASE`.
    pub fn wrmsr(&mut self, core: CoreId, raw: u64) -> Result<(), Exception> {
        let config = self.config;
        let core = self.core(core);
        let Ok(new) = RmpoptBase::from_raw(raw) else {
            return Err(Exception::GeneralProtection);
        };
        if new.is_enabled() && !(core.snp_en && config.segmented) {
            return Err(Exception::GeneralProtection);
        }
        let old = core.base;
        let moved = old.window().base != new.window().base;
        let toggled = old.is_enabled() != new.is_enabled();
        if moved && config.base_write == BaseWrite::Gp && old.is_enabled() && new.is_enabled() {
            return Err(Exception::GeneralProtection);
        }
        core.base = new;
        if (moved && config.base_write != BaseWrite::KeepsByIndex)
            || (toggled && config.en_toggle == EnableToggle::Clears)
        {
            core.clear();
        } else if moved || (toggled && config.en_toggle == EnableToggle::KeepsAndMissesRmpupdate) {
            core.changes += 1;
        }
        Ok(())
    }

    /// RDMSR of `RMPOPT_BASE`.
    #[must_use]
    pub fn rdmsr(&self, core: CoreId) -> u64 {
        self.cores[core.0 as usize].base.raw()
    }

    fn core_now(&self, core: CoreId) -> (bool, u64, u64) {
        let core = &self.cores[core.0 as usize];
        (core.snp_en, core.base.raw(), core.changes)
    }

    fn clears_of(&self, region: u32) -> u64 {
        self.clears.get(region as usize).copied().unwrap_or(0)
    }

    /// First half.
    pub fn begin(
        &mut self,
        core: CoreId,
        rax: u64,
        function: RmpoptFunction,
    ) -> Result<Pending, Exception> {
        let regions = self.regions;
        let config = self.config;
        let this = self.core(core);
        if !this.snp_en || !config.segmented || !this.base.is_enabled() {
            return Err(Exception::UndefinedOpcode);
        }
        let base = u64::from(this.base.window().base.get());
        let number = rax >> 30;
        let inside = number < 1 << 22 && number >= base && number < base + 2048;
        if !inside && config.outside_window == OutsideWindow::Gp {
            return Err(Exception::GeneralProtection);
        }
        let region = (inside && number < u64::from(regions)).then_some(number as u32);
        let cached = match (region, function) {
            (Some(region), RmpoptFunction::Verify) => self.cache.get(&region).copied(),
            _ => None,
        };
        Ok(Pending {
            core,
            function,
            region,
            slot: region.map(|_| (number - base) as usize),
            cached,
            core_before: self.core_now(core),
            region_before: region.map_or(0, |region| self.clears_of(region)),
        })
    }

    /// Second half.
    pub fn finish(&mut self, pending: &Pending) -> Outcome {
        let mut outcome = Outcome { cf: false, lines: 0, cached: false, raced: false };
        let (Some(number), Some(slot)) = (pending.region, pending.slot) else { return outcome };
        let same_core = self.core_now(pending.core) == pending.core_before;
        let same_region = self.clears_of(number) == pending.region_before;
        if pending.function == RmpoptFunction::Report {
            outcome.cf = same_core && self.core(pending.core).bits[slot];
            return outcome;
        }
        let assigned = if let Some(assigned) = pending.cached {
            outcome.cached = true;
            assigned
        } else {
            let first = u64::from(number) * PAGES_PER_REGION;
            let found = self.first_assigned(first, first + PAGES_PER_REGION);
            let heads = (0..512).filter(|i| self.is_covered(first + i * BLOCK)).count();
            outcome.lines = found.map_or(heads as u32, |pfn| ((pfn - first) / BLOCK) as u32 + 1);
            let cache = self.config.scan_cache;
            if same_region && cache.enabled && (cache.negative || found.is_none()) {
                self.cache.insert(number, found.is_some());
            }
            found.is_some()
        };
        outcome.cf = !assigned && same_region && same_core;
        outcome.raced = !assigned && !outcome.cf;
        if same_core {
            self.core(pending.core).bits[slot] = outcome.cf;
        }
        outcome
    }

    /// The cached scan result of a region is forgotten.
    pub fn drop_cache(&mut self, region: Region) {
        self.cache.remove(&region.get());
    }

    /// All are.
    pub fn drop_all_caches(&mut self) {
        self.cache.clear();
    }

    /// Whether the core skips RMP checks in the region.
    #[must_use]
    pub fn is_optimised(&self, core: CoreId, region: Region) -> bool {
        let core = &self.cores[core.0 as usize];
        let slot = core.base.window().slot(region).filter(|_| region.get() < self.regions);
        core.snp_en && core.base.is_enabled() && slot.is_some_and(|slot| core.bits[slot as usize])
    }
}
