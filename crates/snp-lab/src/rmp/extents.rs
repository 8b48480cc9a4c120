//! 2 MiB blocks with a count of assigned 4 KiB pages.
//!
//! A block that is partly assigned also has a mask of its pages, so that every verdict is exact; such
//! blocks are few (the last of a 4 KiB placement, and where a conversion begins or ends).

use std::collections::HashMap;

use snp_defs::{
    LARGE_PAGES_PER_REGION, PAGES_PER_LARGE_PAGE, PageSize, Pfn, Region, RmpStatus, Spa,
};
use snp_model::{
    Accessor, Begun, CoreId, Coverage, HeapUnitStorage, Outcome, RegionScan, RmpoptUnit, Scan,
    UnitConfig, Verdict,
};

use super::pages::coverage;
use super::{HostRmp, Owner, RmpError, WriteVerdicts};
use crate::boot::BootLayout;
use crate::memory::Extent;

/// A bit for each page of a block.
type PageMask = [u64; 8];

/// Pages of a block, as a count fits.
const FULL: u16 = PAGES_PER_LARGE_PAGE as u16;

/// A block's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Block {
    /// Assigned 4 KiB pages, 0 to 512.
    assigned: u16,
    /// They are one 2 MiB entry.
    large: bool,
    /// Some are the firmware's: RMPUPDATE is refused.
    immutable: bool,
}

/// RMP entries, summed up by block.
#[derive(Debug)]
struct Blocks {
    states: Vec<Block>,
    /// Masks of blocks that are neither empty nor full.
    partial: HashMap<usize, PageMask>,
    /// Assigned pages in each region.
    by_region: Vec<u32>,
    coverage: Coverage,
}

/// The coarse RMP.
#[derive(Debug)]
pub struct Extents {
    rmp: Blocks,
    unit: RmpoptUnit<HeapUnitStorage>,
}

impl Extents {
    /// A host of so many cores and regions, with SNP off.
    pub fn new(cores: u32, regions: u32, boot: &BootLayout, config: UnitConfig) -> Self {
        let coverage = coverage(boot, regions);
        let config = UnitConfig { segmented: coverage.is_segmented(), ..config };
        let blocks = regions as usize * LARGE_PAGES_PER_REGION as usize;
        Self {
            rmp: Blocks {
                states: vec![Block::default(); blocks],
                partial: HashMap::new(),
                by_region: vec![0; regions as usize],
                coverage,
            },
            unit: RmpoptUnit::new(HeapUnitStorage::new(cores, regions), config),
        }
    }
}

/// The pages `from..to` of a block (0 to 512).
fn mask_of(from: u64, to: u64) -> PageMask {
    let mut mask = [0; 8];
    for (index, word) in mask.iter_mut().enumerate() {
        let base = index as u64 * 64;
        let (low, high) = (from.clamp(base, base + 64) - base, to.clamp(base, base + 64) - base);
        let below = |bit: u64| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
        *word = below(high) & !below(low);
    }
    mask
}

impl Blocks {
    fn mask(&self, index: usize) -> PageMask {
        match self.states.get(index).map_or(0, |block| block.assigned) {
            0 => [0; 8],
            FULL => [u64::MAX; 8],
            _ => self.partial.get(&index).copied().unwrap_or([0; 8]),
        }
    }

    fn store(&mut self, index: usize, mask: PageMask, large: bool) {
        let Some(block) = self.states.get_mut(index) else { return };
        let assigned = mask.iter().map(|word| word.count_ones()).sum::<u32>();
        let region = index / LARGE_PAGES_PER_REGION as usize;
        if let Some(count) = self.by_region.get_mut(region) {
            *count = *count + assigned - u32::from(block.assigned);
        }
        block.assigned = assigned as u16;
        block.large = large;
        if matches!(block.assigned, 0 | FULL) {
            self.partial.remove(&index);
        } else {
            self.partial.insert(index, mask);
        }
    }

    /// RMPUPDATE of `from..to` of one block; the status of the first that fails.
    fn update(
        &mut self,
        index: usize,
        (from, to): (u64, u64),
        size: PageSize,
        assign: bool,
    ) -> RmpStatus {
        let Some(block) = self.states.get(index).copied() else { return RmpStatus::FAIL_INPUT };
        if block.immutable {
            return RmpStatus::FAIL_PERMISSION;
        }
        let whole = from == 0 && to == PAGES_PER_LARGE_PAGE;
        let mut mask = self.mask(index);
        match size {
            PageSize::Size4K if block.large => return RmpStatus::FAIL_OVERLAP,
            PageSize::Size2M if !whole => return RmpStatus::FAIL_INPUT,
            PageSize::Size2M if !block.large && block.assigned > 0 => {
                return RmpStatus::FAIL_OVERLAP;
            }
            _ => {}
        }
        for (word, changed) in mask.iter_mut().zip(mask_of(from, to)) {
            *word = if assign { *word | changed } else { *word & !changed };
        }
        self.store(index, mask, assign && size == PageSize::Size2M);
        RmpStatus::SUCCESS
    }

    fn is_assigned(&self, pfn: Pfn) -> bool {
        let (index, page) = split(pfn.get());
        self.mask(index).get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }
}

/// A page's block, and its place there.
fn split(pfn: u64) -> (usize, u64) {
    ((pfn / PAGES_PER_LARGE_PAGE) as usize, pfn % PAGES_PER_LARGE_PAGE)
}

/// The parts of a run by block: (block, from, to).
fn by_block(run: Extent) -> impl Iterator<Item = (usize, u64, u64)> {
    let mut at = run.first.get();
    let end = run.end();
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (index, from) = split(at);
        let to = (from + end - at).min(PAGES_PER_LARGE_PAGE);
        at += to - from;
        Some((index, from, to))
    })
}

impl RegionScan for Blocks {
    fn scan(&self, region: Region) -> Scan {
        let heads = self.coverage.covered_pages(region).div_ceil(PAGES_PER_LARGE_PAGE);
        let clean = Scan { assigned: false, lines: heads as u32 };
        if self.by_region.get(region.index()).is_none_or(|&assigned| assigned == 0) {
            return clean;
        }
        let first = region.index() * LARGE_PAGES_PER_REGION as usize;
        let blocks = self.states.iter().skip(first).take(heads as usize);
        match blocks.enumerate().find(|(_, block)| block.assigned > 0) {
            Some((index, _)) => Scan { assigned: true, lines: index as u32 + 1 },
            None => clean,
        }
    }
}

impl HostRmp for Extents {
    fn fidelity(&self) -> &'static str {
        "extents"
    }

    fn unit(&self) -> &RmpoptUnit<HeapUnitStorage> {
        &self.unit
    }

    fn snp_init(&mut self, boot: &BootLayout) -> Result<(), RmpError> {
        for core in 0..self.unit.cores() {
            self.unit.set_snp_en(CoreId(core), true);
        }
        for range in &boot.assigned {
            for (index, from, to) in by_block(range.extent()) {
                self.rmp.update(index, (from, to), PageSize::Size4K, true);
            }
        }
        // Only now: two of boot's ranges may share a block.
        for range in &boot.assigned {
            for (index, ..) in by_block(range.extent()) {
                if let Some(block) = self.rmp.states.get_mut(index) {
                    block.immutable = true;
                }
            }
        }
        self.unit.snp_init();
        Ok(())
    }

    fn snp_shutdown(&mut self, _: &BootLayout) -> Result<(), RmpError> {
        for core in 0..self.unit.cores() {
            self.unit.set_snp_en(CoreId(core), false);
        }
        self.rmp.states.fill(Block::default());
        self.rmp.partial.clear();
        self.rmp.by_region.fill(0);
        Ok(())
    }

    fn update(&mut self, run: Extent, size: PageSize, owner: Owner) -> Result<u64, RmpError> {
        let assign = owner != Owner::Hypervisor;
        for (index, from, to) in by_block(run) {
            let number = index as u64 / LARGE_PAGES_PER_REGION;
            let Some(region) = u32::try_from(number).ok().and_then(Region::new) else { break };
            let token = self.unit.begin_update(region);
            let status = self.rmp.update(index, (from, to), size, assign);
            self.unit.end_update(token, status.is_success());
            if !status.is_success() {
                return Err(RmpError::Update { first: run.first.spa(), pages: run.pages, status });
            }
        }
        Ok(run.pages / size.pages())
    }

    fn look(&self, begun: &mut Begun) -> Option<Scan> {
        self.unit.look(begun, &self.rmp)
    }

    fn finish(&self, begun: Begun) -> Outcome {
        self.unit.finish(begun, &self.rmp)
    }

    fn write(&self, core: CoreId, spa: Spa) -> WriteVerdicts {
        let checked = self.unit.snp_en(core);
        let refused = checked && self.rmp.is_assigned(spa.pfn());
        let rmp_alone = if refused { Accessor::HostKernel.refusal() } else { Verdict::Allowed };
        let skipped = checked && self.unit.is_optimised(core, spa.region());
        let with_rmpopt = if skipped { Verdict::Allowed } else { rmp_alone };
        WriteVerdicts { with_rmpopt, rmp_alone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cover_what_they_say() {
        for (from, to) in [(0, 512), (0, 0), (511, 512), (63, 65), (1, 511)] {
            let ones: u32 = mask_of(from, to).iter().map(|word| word.count_ones()).sum();
            assert_eq!(u64::from(ones), to - from, "{from}..{to}");
        }
    }

    #[test]
    fn runs_are_cut_at_blocks() {
        let run = Extent { first: Pfn::new(510).unwrap(), pages: 516 };
        let parts: Vec<_> = by_block(run).collect();
        assert_eq!(parts, [(0, 510, 512), (1, 0, 512), (2, 0, 2)]);
    }
}
