// SPDX-License-Identifier: MIT OR GPL-2.0
//! The emulated host's memory, in kernel vectors.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::prelude::*;

use crate::rmpopt_core::{self, Host};
use crate::snp_defs::{Region, Window};
use crate::snp_model::{
    Block, BlockView, CoreId, Coverage, Fill, Machine, OutOfMemory, Storage, UnitConfig,
    UnitStorage, UpdateOrder, ASIDS, BLOCKS_PER_REGION, WORDS_PER_BLOCK,
};

/// Physical cores of the emulated host.
pub(crate) const CORES: u16 = 4;
/// GiB of its memory: more than one word of a bitmap.
pub(crate) const REGIONS: u32 = 70;
/// Blocks that can hold assigned pages.
const DENSE_BLOCKS: usize = 4;
/// log2 of the bytes of an RMP segment.
const SEGMENT_SHIFT: u32 = 36;

/// A vector of words, all zero.
#[derive(Debug)]
pub(crate) struct Words(KVVec<AtomicU64>);

impl Words {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let mut words = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            words.push(AtomicU64::new(0), GFP_KERNEL)?;
        }
        Ok(Self(words))
    }

    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl core::borrow::Borrow<[AtomicU64]> for Words {
    fn borrow(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// RMP entries: a fill or a dense block for each 2 MiB. Only one thread changes what is dense.
#[derive(Debug)]
pub(crate) struct KernelRmp {
    /// A fill below [`Self::FIRST_DENSE`], else that plus the index of a dense block.
    blocks: KVVec<AtomicU32>,
    dense: Words,
    used: AtomicU32,
    counters: Words,
}

impl KernelRmp {
    const FIRST_DENSE: u32 = 16;

    fn new() -> Result<Self> {
        let count = (REGIONS * BLOCKS_PER_REGION) as usize;
        let mut blocks = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            blocks.push(AtomicU32::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            blocks,
            dense: Words::new(DENSE_BLOCKS * WORDS_PER_BLOCK)?,
            used: AtomicU32::new(0),
            counters: Words::new(ASIDS)?,
        })
    }

    fn cell(&self, block: Block) -> Option<&AtomicU32> {
        let first = block.region().index().checked_mul(BLOCKS_PER_REGION as usize)?;
        self.blocks.get(first.checked_add(block.index_in_region() as usize)?)
    }

    fn dense_words(&self, stored: u32) -> Option<&[AtomicU64]> {
        let index = stored.checked_sub(Self::FIRST_DENSE)?;
        self.dense.words().chunks_exact(WORDS_PER_BLOCK).nth(index as usize)
    }

    fn write(words: &[AtomicU64], fill: Fill) {
        for (position, word) in words.iter().enumerate() {
            word.store(fill.word(position), Ordering::Release);
        }
    }
}

impl Storage for KernelRmp {
    fn regions(&self) -> u32 {
        REGIONS
    }

    fn block(&self, block: Block) -> BlockView<'_> {
        let stored = self.cell(block).map_or(0, |cell| cell.load(Ordering::Acquire));
        match self.dense_words(stored) {
            Some(words) => BlockView::Dense(words),
            None => BlockView::Uniform(Fill::from_byte(stored as u8)),
        }
    }

    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        let Some(cell) = self.cell(block) else { return Ok(()) };
        let stored = cell.load(Ordering::Acquire);
        if stored >= Self::FIRST_DENSE {
            return Ok(());
        }
        let index = self.used.fetch_add(1, Ordering::Relaxed).saturating_add(Self::FIRST_DENSE);
        let words = self.dense_words(index).ok_or(OutOfMemory)?;
        Self::write(words, Fill::from_byte(stored as u8));
        cell.store(index, Ordering::Release);
        Ok(())
    }

    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        let Some(cell) = self.cell(block) else { return Ok(()) };
        match self.dense_words(cell.load(Ordering::Acquire)) {
            Some(words) => Self::write(words, fill),
            None => cell.store(fill as u32, Ordering::Release),
        }
        Ok(())
    }

    fn asid_counters(&self) -> &[AtomicU64] {
        self.counters.words()
    }
}

/// Words of the RMPOPT unit.
#[derive(Debug)]
pub(crate) struct KernelUnit {
    regions: Words,
    caches: Words,
    cores: Words,
    tables: Words,
}

impl KernelUnit {
    fn new() -> Result<Self> {
        Ok(Self {
            regions: Words::new(REGIONS as usize)?,
            caches: Words::new(REGIONS as usize)?,
            cores: Words::new(usize::from(CORES))?,
            tables: Words::new(usize::from(CORES) * Window::REGIONS as usize)?,
        })
    }
}

impl UnitStorage for KernelUnit {
    fn regions(&self) -> &[AtomicU64] {
        self.regions.words()
    }
    fn caches(&self) -> &[AtomicU64] {
        self.caches.words()
    }
    fn cores(&self) -> &[AtomicU64] {
        self.cores.words()
    }
    fn table(&self, core: CoreId) -> &[AtomicU64] {
        let mut tables = self.tables.words().chunks_exact(Window::REGIONS as usize);
        tables.nth(core.0 as usize).unwrap_or(&[])
    }
}

/// The emulated host.
pub(crate) type Silicon = Machine<KernelRmp, KernelUnit>;

/// A host after reset. On its own, so that it passes over the stack of no one else.
#[inline(never)]
pub(crate) fn silicon() -> Result<KBox<Silicon>> {
    let coverage = Coverage::segmented(SEGMENT_SHIFT).ok_or(EINVAL)?.with_regions(REGIONS);
    let place = KBox::new_uninit(GFP_KERNEL)?;
    let machine = Machine::new(
        KernelRmp::new()?,
        coverage,
        KernelUnit::new()?,
        UnitConfig::default(),
        UpdateOrder::default(),
    );
    Ok(KBox::write(place, machine))
}

/// Where its cores and memory lie: one node, no holes.
pub(crate) struct Layout;

impl Host for Layout {
    fn cores(&self) -> u16 {
        CORES
    }
    fn participates(&self, _core: rmpopt_core::CoreId) -> bool {
        true
    }
    fn node(&self, _core: rmpopt_core::CoreId) -> u16 {
        0
    }
    fn socket(&self, _core: rmpopt_core::CoreId) -> u16 {
        0
    }
    fn spanned_regions(&self) -> u32 {
        REGIONS
    }
    fn ram_mib(&self, _region: Region) -> u32 {
        1024
    }
    fn region_node(&self, _region: Region) -> u16 {
        0
    }
    fn node_socket(&self, _node: u16) -> u16 {
        0
    }
}
