//! How RMPOPT reads the RMP: a region's heads, or every entry of it.

use crate::snp_defs::{Region, RmpEntry, PAGES_PER_LARGE_PAGE};
use crate::snp_model::rmp::{block_has_assigned, LINES_PER_BLOCK};
use crate::snp_model::sync::{AtomicU64, Ordering};
use crate::snp_model::{
    Block, BlockView, RegionScan, Rmp, Scan, ScanDepth, Storage, BLOCKS_PER_REGION,
};

/// Words of a line: `lo`, `hi` of four entries.
const WORDS_PER_LINE: usize = 8;

/// Lines looked at before the next decision.
const LINES_PER_GROUP: usize = 8;

impl<S: Storage> RegionScan for Rmp<S> {
    /// Reads the covered part of the region, first 2M block first, up to the first line with an
    /// assigned page: of each block its head's line, or all lines ([`ScanDepth`]). Blocks without
    /// entries are free and cost nothing.
    fn scan(&self, region: Region) -> Scan {
        if region.get() >= self.storage().regions() {
            return Scan { assigned: false, lines: 0 };
        }
        let covered = self.coverage().covered_pages(region).div_ceil(PAGES_PER_LARGE_PAGE) as u32;
        let covered = covered.min(BLOCKS_PER_REGION);
        let per_block = match self.choices().scan_depth {
            ScanDepth::Heads => 1,
            ScanDepth::Entries => LINES_PER_BLOCK,
        };
        if let Some(fill) = self.storage().region_fill(region) {
            let assigned = fill.is_assigned() && covered != 0;
            let lines = if assigned { 1 } else { covered.saturating_mul(per_block) };
            return Scan { assigned, lines };
        }
        match self.choices().scan_depth {
            ScanDepth::Heads => self.read(region, covered, per_block, first_assigned_head),
            ScanDepth::Entries => self.read(region, covered, per_block, first_assigned_line),
        }
    }
}

impl<S: Storage> Rmp<S> {
    /// Reads the first `blocks` blocks of a region, `lines` of each.
    fn read(
        &self,
        region: Region,
        blocks: u32,
        lines: u32,
        first_assigned: impl Fn(BlockView<'_>) -> Option<u32>,
    ) -> Scan {
        let mut read = 0_u32;
        for index in 0..blocks {
            let view = self.storage().block(Block::in_region(region, index));
            if let Some(line) = first_assigned(view) {
                let lines = read.saturating_add(line).saturating_add(1);
                return Scan { assigned: true, lines };
            }
            read = read.saturating_add(lines);
        }
        Scan { assigned: false, lines: read }
    }
}

/// `Some(0)` if the block's head tells of an assigned page.
fn first_assigned_head(view: BlockView<'_>) -> Option<u32> {
    block_has_assigned(view.owner(0)).then_some(0)
}

/// The first of the block's lines (0 to 127) that holds an assigned page.
fn first_assigned_line(view: BlockView<'_>) -> Option<u32> {
    let words = match view {
        BlockView::Uniform(fill) => return fill.is_assigned().then_some(0),
        BlockView::Dense(words) => words,
    };
    let groups = words.chunks_exact(LINES_PER_GROUP * WORDS_PER_LINE);
    let group = groups.clone().position(has_assigned)?;
    let mut lines = words.chunks_exact(WORDS_PER_LINE).skip(group.saturating_mul(LINES_PER_GROUP));
    let line = lines.position(has_assigned)?;
    Some(group.saturating_mul(LINES_PER_GROUP).saturating_add(line) as u32)
}

/// Without a branch for each entry: the `lo` words are put together first, in four sums that do not
/// wait for each other.
fn has_assigned(words: &[AtomicU64]) -> bool {
    let mut sums = [0; 4];
    for line in words.chunks_exact(WORDS_PER_LINE) {
        for (sum, word) in sums.iter_mut().zip(line.iter().step_by(2)) {
            *sum |= word.load(Ordering::Acquire);
        }
    }
    let [a, b, c, d] = sums;
    (a | b | c | d) & RmpEntry::ASSIGNED_BIT != 0
}
