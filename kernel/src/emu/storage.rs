// SPDX-License-Identifier: MIT OR GPL-2.0
//! The emulated host's memory, in kernel vectors. What instructions write to was reserved before.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::prelude::*;
use kernel::sync::SetOnce;

use crate::snp_defs::{Region, Window};
use crate::snp_model::{
    Block, BlockView, CoreId, Fill, OutOfMemory, Storage, UnitStorage, ASIDS, BLOCKS_PER_REGION,
    WORDS_PER_BLOCK,
};
use crate::words::Words;

/// Dense blocks that are allocated together: 512 KiB.
const BLOCKS_PER_CHUNK: u32 = 64;
/// Chunks at most: 256 MiB.
const CHUNKS: u32 = 512;

/// RMP entries: a fill or a dense block for each 2 MiB.
///
/// Reservations come one at a time (the host sees to it), instructions at any time.
pub(crate) struct KernelRmp {
    regions: u32,
    /// A fill below [`Self::FIRST_DENSE`], else that plus the number of a dense block.
    blocks: KVVec<AtomicU32>,
    /// Fill of a region that has neither dense blocks nor different fills; [`MIXED`] otherwise.
    fills: KVVec<AtomicU32>,
    chunks: KVVec<SetOnce<Words>>,
    used: AtomicU32,
    counters: Words,
}

/// A region of which only its blocks tell.
const MIXED: u32 = u32::MAX;

impl KernelRmp {
    const FIRST_DENSE: u32 = 16;

    pub(super) fn new(regions: u32) -> Result<Self> {
        let mut chunks = KVVec::with_capacity(CHUNKS as usize, GFP_KERNEL)?;
        for _ in 0..CHUNKS {
            chunks.push(SetOnce::new(), GFP_KERNEL)?;
        }
        let count = regions.checked_mul(BLOCKS_PER_REGION).ok_or(EOVERFLOW)?;
        Ok(Self {
            regions,
            blocks: cells(count)?,
            fills: cells(regions)?,
            chunks,
            used: AtomicU32::new(0),
            counters: Words::new(ASIDS)?,
        })
    }

    fn cell(&self, block: Block) -> Option<&AtomicU32> {
        let first = block.region().index().checked_mul(BLOCKS_PER_REGION as usize)?;
        self.blocks.get(first.checked_add(block.index_in_region() as usize)?)
    }

    fn dense(&self, stored: u32) -> Option<&[AtomicU64]> {
        let number = stored.checked_sub(Self::FIRST_DENSE)?;
        let chunk = self.chunks.get((number / BLOCKS_PER_CHUNK) as usize)?.as_ref()?;
        let mut blocks = chunk.all().chunks_exact(WORDS_PER_BLOCK);
        blocks.nth((number % BLOCKS_PER_CHUNK) as usize)
    }

    fn mix(&self, region: Region) {
        if let Some(fill) = self.fills.get(region.index()) {
            fill.store(MIXED, Ordering::Release);
        }
    }

    fn write(words: &[AtomicU64], fill: Fill) {
        for (position, word) in words.iter().enumerate() {
            word.store(fill.word(position), Ordering::Release);
        }
    }
}

fn cells(count: u32) -> Result<KVVec<AtomicU32>> {
    let mut cells = KVVec::with_capacity(count as usize, GFP_KERNEL)?;
    for _ in 0..count {
        cells.push(AtomicU32::new(0), GFP_KERNEL)?;
    }
    Ok(cells)
}

impl Storage for KernelRmp {
    fn regions(&self) -> u32 {
        self.regions
    }

    fn block(&self, block: Block) -> BlockView<'_> {
        let stored = self.cell(block).map_or(0, |cell| cell.load(Ordering::Acquire));
        match self.dense(stored) {
            Some(words) => BlockView::Dense(words),
            None => BlockView::Uniform(Fill::from_byte(stored as u8)),
        }
    }

    fn region_fill(&self, region: Region) -> Option<Fill> {
        let stored = self.fills.get(region.index())?.load(Ordering::Acquire);
        (stored != MIXED).then(|| Fill::from_byte(stored as u8))
    }

    fn reserve(&self, block: Block) -> core::result::Result<(), OutOfMemory> {
        let Some(cell) = self.cell(block) else { return Ok(()) };
        let stored = cell.load(Ordering::Acquire);
        if stored >= Self::FIRST_DENSE {
            return Ok(());
        }
        let number = self.used.load(Ordering::Relaxed);
        let chunk = self.chunks.get((number / BLOCKS_PER_CHUNK) as usize).ok_or(OutOfMemory)?;
        if chunk.as_ref().is_none() {
            let words = Words::new(BLOCKS_PER_CHUNK as usize * WORDS_PER_BLOCK);
            chunk.populate(words.map_err(|_| OutOfMemory)?);
        }
        let dense = number.saturating_add(Self::FIRST_DENSE);
        Self::write(self.dense(dense).ok_or(OutOfMemory)?, Fill::from_byte(stored as u8));
        self.used.store(number.saturating_add(1), Ordering::Relaxed);
        self.mix(block.region());
        cell.store(dense, Ordering::Release);
        Ok(())
    }

    fn fill_block(&self, block: Block, fill: Fill) -> core::result::Result<(), OutOfMemory> {
        let Some(cell) = self.cell(block) else { return Ok(()) };
        self.mix(block.region());
        match self.dense(cell.load(Ordering::Acquire)) {
            Some(words) => Self::write(words, fill),
            None => cell.store(fill as u32, Ordering::Release),
        }
        Ok(())
    }

    fn fill_region(&self, region: Region, fill: Fill) -> core::result::Result<(), OutOfMemory> {
        let mut dense = false;
        for block in (0..BLOCKS_PER_REGION).map(|index| Block::in_region(region, index)) {
            dense |= matches!(self.block(block), BlockView::Dense(_));
            self.fill_block(block, fill)?;
        }
        if let (false, Some(known)) = (dense, self.fills.get(region.index())) {
            known.store(fill as u32, Ordering::Release);
        }
        Ok(())
    }

    fn asid_counters(&self) -> &[AtomicU64] {
        self.counters.all()
    }
}

/// Words of the RMPOPT unit.
pub(crate) struct KernelUnit {
    regions: Words,
    caches: Words,
    cores: Words,
    tables: Words,
}

impl KernelUnit {
    pub(super) fn new(regions: u32, cores: u16) -> Result<Self> {
        let table = Window::REGIONS as usize;
        Ok(Self {
            regions: Words::new(regions as usize)?,
            caches: Words::new(regions as usize)?,
            cores: Words::new(usize::from(cores))?,
            tables: Words::new(usize::from(cores).checked_mul(table).ok_or(EOVERFLOW)?)?,
        })
    }
}

impl UnitStorage for KernelUnit {
    fn regions(&self) -> &[AtomicU64] {
        self.regions.all()
    }
    fn caches(&self) -> &[AtomicU64] {
        self.caches.all()
    }
    fn cores(&self) -> &[AtomicU64] {
        self.cores.all()
    }
    fn table(&self, core: CoreId) -> &[AtomicU64] {
        let mut tables = self.tables.all().chunks_exact(Window::REGIONS as usize);
        tables.nth(core.0 as usize).unwrap_or(&[])
    }
}
