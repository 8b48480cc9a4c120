//! The rules once more, in the simplest way: what the model is compared with.
//!
//! One record per page, one plain bit per core and slot, every rule written out where it applies. No
//! generations, epochs, counts or fills, and only one thread. It shares types with the model (what an
//! operand looks like, how a result is written), and no rule.

mod access;
mod firmware;
mod guest;
mod page;
mod rmpopt;
mod update;
mod vmrun;

use std::collections::BTreeMap;

use ::snp_defs::{PageState, Pfn, Region, RmpoptBase, Window, PAGES_PER_REGION};

pub use self::page::Page;
pub use self::rmpopt::Pending;
use crate::snp_model::{
    Choices, CoreId, FirmwareChoices, InitLayout, PfnRange, UnitConfig, UpdateOrder,
};

/// Pages of a 2M block.
const BLOCK: u64 = 512;

#[derive(Clone, Debug)]
struct Core {
    snp_en: bool,
    base: RmpoptBase,
    bits: Vec<bool>,
    /// How often the table was cleared or rewritten.
    changes: u64,
    /// WBINVD is due since the last DECOMMISSION.
    wbinvd_due: bool,
}

impl Core {
    fn clear(&mut self) {
        self.bits.fill(false);
        self.changes += 1;
    }
}

/// The naive host.
#[derive(Debug)]
pub struct Oracle {
    config: UnitConfig,
    choices: Choices,
    order: UpdateOrder,
    firmware: firmware::Firmware,
    regions: u32,
    covered: Vec<PfnRange>,
    cores: Vec<Core>,
    initialised: bool,
    iommu: bool,
    /// What `SNP_INIT` wrote; later ranges win.
    layout: Vec<(PfnRange, Page)>,
    /// Blocks in which a page was changed since, all their pages.
    blocks: Vec<Option<Box<[Page; BLOCK as usize]>>>,
    /// A bit for each assigned page.
    assigned: Vec<u64>,
    cache: BTreeMap<u32, bool>,
    /// Per region, how often its bits were cleared.
    clears: Vec<u64>,
}

impl Oracle {
    /// A host after reset. `covered` lists the pages with an RMP entry.
    #[must_use]
    pub fn new(
        cores: u32,
        regions: u32,
        covered: Vec<PfnRange>,
        config: UnitConfig,
        choices: Choices,
        order: UpdateOrder,
    ) -> Self {
        let core = Core {
            snp_en: false,
            base: RmpoptBase::OFF,
            bits: vec![false; Window::REGIONS as usize],
            changes: 0,
            wbinvd_due: false,
        };
        let pages = regions as usize * PAGES_PER_REGION as usize;
        Self {
            config,
            choices,
            order,
            firmware: firmware::Firmware::new(0, FirmwareChoices::DEFAULT),
            regions,
            covered,
            cores: vec![core; cores as usize],
            initialised: false,
            iommu: false,
            layout: Vec::new(),
            blocks: vec![None; pages / BLOCK as usize],
            assigned: vec![0; pages / 64],
            cache: BTreeMap::new(),
            clears: vec![0; regions as usize],
        }
    }

    /// With a firmware that knows ASIDs below `asids`, and as many guests.
    #[must_use]
    pub fn with_firmware(mut self, asids: u32, choices: FirmwareChoices) -> Self {
        self.firmware = firmware::Firmware::new(asids, choices);
        self
    }

    fn snp_en(&self, core: CoreId) -> bool {
        self.cores[core.0 as usize].snp_en
    }

    fn core(&mut self, core: CoreId) -> &mut Core {
        &mut self.cores[core.0 as usize]
    }

    fn is_covered(&self, pfn: u64) -> bool {
        pfn / PAGES_PER_REGION < u64::from(self.regions)
            && self.covered.iter().any(|r| pfn >= r.first.get() && pfn < r.end())
    }

    // ---- pages ----

    /// The page's entry, absent if it has none.
    #[must_use]
    pub fn page(&self, pfn: u64) -> Option<Page> {
        if !self.is_covered(pfn) {
            return None;
        }
        Some(match &self.blocks[(pfn / BLOCK) as usize] {
            Some(pages) => pages[(pfn % BLOCK) as usize],
            None => self.as_built(pfn),
        })
    }

    /// The page as `SNP_INIT` left it.
    fn as_built(&self, pfn: u64) -> Page {
        let holds = |range: &PfnRange| pfn >= range.first.get() && pfn < range.end();
        let last = self.layout.iter().rev().find(|(range, _)| holds(range));
        last.map_or(Page::HYPERVISOR, |(_, page)| *page)
    }

    fn set(&mut self, pfn: u64, page: Page) {
        let (block, bit) = ((pfn / BLOCK) as usize, 1 << (pfn % 64));
        if self.blocks[block].is_none() {
            let first = pfn - pfn % BLOCK;
            let pages = std::array::from_fn(|index| self.as_built(first + index as u64));
            self.blocks[block] = Some(Box::new(pages));
        }
        if let Some(pages) = &mut self.blocks[block] {
            pages[(pfn % BLOCK) as usize] = page;
        }
        let word = &mut self.assigned[(pfn / 64) as usize];
        *word = if page.assigned { *word | bit } else { *word & !bit };
    }

    /// The first assigned page of `from..end`.
    fn first_assigned(&self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            let word = self.assigned.get((at / 64) as usize)? >> (at % 64);
            if word != 0 {
                return Some(at + u64::from(word.trailing_zeros())).filter(|&pfn| pfn < end);
            }
            at += 64 - at % 64;
        }
        None
    }

    /// The region's assigned pages, one by one.
    #[must_use]
    pub fn assigned_pages(&self, region: Region) -> Vec<Pfn> {
        let mut at = region.first_pfn().get();
        let end = at + PAGES_PER_REGION;
        let mut pages = Vec::new();
        while let Some(pfn) = self.first_assigned(at, end) {
            pages.extend(Pfn::new(pfn));
            at = pfn + 1;
        }
        pages
    }

    /// Whether some page of the region is assigned.
    #[must_use]
    pub fn region_has_assigned(&self, region: Region) -> bool {
        let first = region.first_pfn().get();
        self.first_assigned(first, first + PAGES_PER_REGION).is_some()
    }

    /// How many of a block's pages are assigned, its head apart.
    #[must_use]
    pub fn assigned_beside_head(&self, head: u64) -> u64 {
        (head + 1..head + BLOCK).filter(|&pfn| self.first_assigned(pfn, pfn + 1).is_some()).count()
            as u64
    }

    /// What the RMP says of a page: the head speaks for a 2M page. The second is this page's own
    /// guest address.
    #[must_use]
    pub fn governing(&self, pfn: u64) -> Option<(Page, u64)> {
        let own = self.page(pfn)?;
        let head = self.page(pfn - pfn % BLOCK)?;
        let inside = (head.gpa + pfn % BLOCK * 4096) % (1 << 51);
        Some(if head.large { (head, inside) } else { (own, own.gpa) })
    }

    /// The state of a page.
    #[must_use]
    pub fn page_state(&self, pfn: Pfn) -> PageState {
        self.governing(pfn.get()).map_or(PageState::Default, |(page, _)| page.state())
    }

    /// Pages assigned to an ASID, counted one by one.
    #[must_use]
    pub fn assigned_to(&self, asid: u32) -> u64 {
        let regions = (0..self.regions).filter_map(Region::new);
        let pages = regions.flat_map(|region| self.assigned_pages(region));
        let owner = |pfn: Pfn| self.governing(pfn.get()).map(|(page, _)| page.asid);
        pages.filter(|&pfn| owner(pfn) == Some(asid)).count() as u64
    }

    /// What the firmware, a guest or a running vCPU changes in an entry.
    pub fn edit(&mut self, pfn: u64, edit: impl FnOnce(&mut Page)) {
        if let Some(mut page) = self.page(pfn) {
            edit(&mut page);
            self.set(pfn, page);
        }
    }

    // ---- platform ----

    /// Sets or clears `SNP_EN` on a core.
    pub fn set_snp_en(&mut self, core: CoreId, on: bool) {
        let core = self.core(core);
        core.snp_en = on;
        if !on {
            core.clear();
        }
    }

    /// Resets a core.
    pub fn reset_core(&mut self, core: CoreId) {
        self.set_snp_en(core, false);
        self.core(core).base = RmpoptBase::OFF;
    }

    /// `SNP_INIT` of the bare machine; whether it succeeded.
    pub fn snp_init(&mut self, layout: &InitLayout<'_>) -> bool {
        if self.initialised || self.cores.iter().any(|core| !core.snp_en) {
            return false;
        }
        self.build_rmp(layout);
        self.rmp_is_ready();
        true
    }

    fn build_rmp(&mut self, layout: &InitLayout<'_>) {
        let all = PfnRange::new(Region::ZERO.first_pfn(), 1 << 40);
        self.layout = vec![(all, Page::HV_FIXED)];
        for (list, page) in [
            (layout.dram, Page::HYPERVISOR),
            (layout.hv_fixed, Page::HV_FIXED),
            (layout.rmp, Page::FIRMWARE),
            (layout.iommu, Page::FIRMWARE_IOMMU),
        ] {
            self.layout.extend(list.iter().map(|range| (*range, page)));
        }
        self.blocks.fill(None);
        self.assigned.fill(0);
        for range in layout.rmp.iter().chain(layout.iommu) {
            for pfn in range.first.get()..range.end() {
                if self.is_covered(pfn) && self.as_built(pfn).assigned {
                    self.assigned[(pfn / 64) as usize] |= 1 << (pfn % 64);
                }
            }
        }
    }

    fn rmp_is_ready(&mut self) {
        self.cache.clear();
        for core in &mut self.cores {
            core.clear();
        }
        for clears in &mut self.clears {
            *clears += 1;
        }
        self.initialised = true;
        self.iommu = true;
    }

    /// The end of SNP on the bare machine, IOMMUs and, with `x86`, CPUs.
    pub fn snp_shutdown(&mut self, x86: bool, iommu: &[PfnRange]) {
        if self.initialised {
            self.release_iommu_pages(iommu);
            self.leave_snp(true, x86);
        }
    }

    fn release_iommu_pages(&mut self, iommu: &[PfnRange]) {
        for range in iommu {
            for pfn in range.first.get()..range.end() {
                let state = Pfn::new(pfn).map(|pfn| self.page_state(pfn));
                if state == Some(PageState::FirmwareIommu) {
                    self.edit(pfn, |page| {
                        (page.immutable, page.lock, page.gpa) = (false, false, 0);
                    });
                }
            }
        }
    }

    fn leave_snp(&mut self, iommu: bool, x86: bool) {
        self.initialised = false;
        if iommu {
            self.iommu = false;
        }
        if x86 {
            for core in 0..self.cores.len() {
                self.set_snp_en(CoreId(core as u32), false);
            }
        }
    }

    /// Zeroes over the whole RMP; whether SNP was off everywhere.
    pub fn clear_rmp(&mut self) -> bool {
        if self.cores.iter().any(|core| core.snp_en) {
            return false;
        }
        self.layout.clear();
        self.blocks.fill(None);
        self.assigned.fill(0);
        true
    }
}
