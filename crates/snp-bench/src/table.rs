//! An RMP with memory for every entry, hosts over it, and pages of it in random order.

use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result, bail, ensure};
use snp_defs::{Gpa, PAGES_PER_REGION, PageSize, Pfn, Region, RmpOperand, RmpoptBase};
use snp_model::{
    BLOCKS_PER_REGION, Block, BlockView, Choices, CoreId, Coverage, HeapStorage, HeapUnitStorage,
    InitLayout, Machine, PfnRange, ScanCache, Storage as _, UnitConfig, UpdateOrder,
};

/// The guest that owns the assigned pages.
pub(crate) const ASID: u32 = 1;

/// A host over a [`Table`].
pub(crate) type Host<'a> = Machine<&'a HeapStorage, HeapUnitStorage>;

/// RMP entries for `regions` GiB, all dense and written, hypervisor-owned at first.
#[derive(Debug)]
pub(crate) struct Table {
    storage: HeapStorage,
    regions: u32,
}

impl Table {
    /// `regions` is a power of two of at most 2,048 (one window).
    pub(crate) fn new(regions: u32) -> Result<Self> {
        ensure!(regions.is_power_of_two() && regions <= 2048, "{regions} regions");
        let table = Self { storage: HeapStorage::new(regions), regions };
        for region in (0..regions).filter_map(Region::new) {
            if let Err(error) = table.storage.reserve_region(region) {
                bail!("{error}");
            }
        }
        // Writes every word: a page that was never written would be read from one shared page.
        let host = table.host(1, true, Choices::DEFAULT)?;
        ensure!(host.unit().snp_en(CoreId(0)), "SNP is off");
        Ok(table)
    }

    pub(crate) const fn regions(&self) -> u32 {
        self.regions
    }

    fn pages(&self) -> u64 {
        u64::from(self.regions) * PAGES_PER_REGION
    }

    /// A host with `cores` cores whose windows hold the table's regions. Makes every page the
    /// hypervisor's.
    pub(crate) fn host(&self, cores: u32, cache: bool, choices: Choices) -> Result<Host<'_>> {
        let coverage = Coverage::segmented(36).context("segment size")?.with_regions(self.regions);
        let scan_cache = ScanCache { enabled: cache, negative: false };
        let config = UnitConfig { scan_cache, ..UnitConfig::default() };
        let unit = HeapUnitStorage::new(cores, self.regions);
        let host = Machine::new(&self.storage, coverage, unit, config, UpdateOrder::default())
            .with_choices(choices);
        host.enable_snp();
        let dram = [PfnRange::new(Region::ZERO.first_pfn(), self.pages())];
        if let Err(error) = host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }) {
            bail!("SNP_INIT: {error}");
        }
        let base = RmpoptBase::enabled_at(Region::ZERO).raw();
        for core in (0..cores).map(CoreId) {
            if let Err(exception) = host.wrmsr_rmpopt_base(core, base) {
                bail!("WRMSR RMPOPT_BASE: {exception}");
            }
        }
        Ok(host)
    }

    fn block_numbers(&self) -> impl Iterator<Item = Block> {
        (0..self.regions).filter_map(Region::new).flat_map(|region| {
            (0..BLOCKS_PER_REGION).map(move |index| Block::in_region(region, index))
        })
    }

    /// The words of every block, in order.
    pub(crate) fn blocks(&self) -> Result<Vec<&[AtomicU64]>> {
        self.block_numbers()
            .map(|block| match self.storage.block(block) {
                BlockView::Dense(words) => Ok(words),
                BlockView::Uniform(_) => bail!("block {block:?} has no memory"),
            })
            .collect()
    }

    /// The words of every region, in order: the address of an entry is one look-up and an addition.
    pub(crate) fn region_words(&self) -> Result<Vec<&[AtomicU64]>> {
        let words = (0..self.regions).filter_map(Region::new).map(|region| {
            self.storage
                .region_words(region)
                .with_context(|| format!("region {region} is not dense"))
        });
        words.collect()
    }

    /// Assigns all pages of every second block, as pages of 4K.
    pub(crate) fn populate(&self, host: &Host<'_>) -> Result<()> {
        for block in self.block_numbers().step_by(2) {
            let spa = block.head().spa();
            let gpa = Gpa::new(spa.get()).context("guest address")?;
            let private = RmpOperand::private(gpa, PageSize::Size2M, ASID, false);
            let done = [host.rmpupdate(CoreId(0), spa, &private), host.psmash(CoreId(0), spa)];
            ensure!(done.iter().all(|u| u.is_ok_and(|u| u.status.is_success())), "{done:?}");
        }
        Ok(())
    }

    /// All pages in an order without pattern, each once; starts again at the end.
    pub(crate) fn shuffled_pages(&self) -> impl Iterator<Item = Pfn> + use<> {
        let bits = self.pages().trailing_zeros();
        (0..self.pages()).cycle().filter_map(move |n| Pfn::new(scatter(n, bits)))
    }
}

/// A permutation of the numbers below `1 << bits`.
fn scatter(n: u64, bits: u32) -> u64 {
    let mask = (1 << bits) - 1;
    let mut n = n & mask;
    for odd in [0x9E37_79B9_7F4A_7C15_u64, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        n = n.wrapping_mul(odd) & mask;
        n ^= n >> (bits / 2);
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattering_loses_no_page() {
        let mut seen = vec![false; 1 << 12];
        for n in 0..1 << 12 {
            let at = scatter(n, 12) as usize;
            assert!(!std::mem::replace(&mut seen[at], true));
        }
        let near = (1..1000_u64).filter(|&n| scatter(n, 26).abs_diff(scatter(n - 1, 26)) < 1024);
        assert!(near.count() < 5);
    }

    #[test]
    fn every_second_block_is_populated() {
        let table = Table::new(1).unwrap();
        let host = table.host(1, true, Choices::DEFAULT).unwrap();
        table.populate(&host).unwrap();
        assert_eq!(host.rmp().assigned_to(ASID), PAGES_PER_REGION / 2);
        assert_eq!(table.blocks().unwrap().len(), 512);
    }
}
