//! Storage on the heap, in slabs of 4 MiB and chunks of 64 KiB.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ::snp_defs::{Region, Window};

use crate::snp_model::{
    Block, BlockView, CoreId, CoreRegs, Coverage, Fill, Firmware, FirmwareChoices, FirmwareStorage,
    GuestSlot, Machine, MemoryRange, OutOfMemory, Storage, UnitConfig, UnitStorage, UpdateOrder,
    ASIDS, BLOCKS_PER_REGION, WORDS_PER_BLOCK,
};

fn zeroes(words: usize) -> Box<[AtomicU64]> {
    std::iter::repeat_with(AtomicU64::default).take(words).collect()
}

/// Blocks of a chunk: 64 KiB.
const BLOCKS_PER_CHUNK: usize = 8;
const CHUNKS_PER_REGION: usize = BLOCKS_PER_REGION as usize / BLOCKS_PER_CHUNK;

/// The entries of consecutive blocks, once they have memory.
type Words<const BLOCKS: usize> = OnceLock<Box<[[AtomicU64; WORDS_PER_BLOCK]; BLOCKS]>>;

/// A region that got memory as a whole: 4 MiB.
type Slab = Words<{ BLOCKS_PER_REGION as usize }>;

/// A region whose blocks differ: some have memory, some a fill of their own.
#[derive(Debug)]
struct Mixed {
    chunks: [Words<BLOCKS_PER_CHUNK>; CHUNKS_PER_REGION],
    /// Of each block the [`Fill`], good while its chunk has no memory.
    fills: [AtomicU8; BLOCKS_PER_REGION as usize],
}

impl Mixed {
    fn uniform(fill: u8) -> Self {
        Self {
            chunks: std::array::from_fn(|_| OnceLock::new()),
            fills: std::array::from_fn(|_| AtomicU8::new(fill)),
        }
    }

    fn words(&self, index: usize) -> Option<&[AtomicU64; WORDS_PER_BLOCK]> {
        self.chunks.get(index / BLOCKS_PER_CHUNK)?.get()?.get(index % BLOCKS_PER_CHUNK)
    }

    fn fill(&self, index: usize) -> Fill {
        Fill::from_byte(self.fills.get(index).map_or(0, |fill| fill.load(Ordering::Acquire)))
    }
}

/// What a region without a slab is.
#[derive(Debug, Default)]
struct Sparse {
    /// The [`Fill`] while `mixed` is unset.
    fill: AtomicU8,
    mixed: OnceLock<Box<Mixed>>,
}

/// RMP storage on the heap. A region takes 40 bytes; made dense as a whole 4 MiB more, and an entry is
/// then one look-up away; made dense in part 2 KiB more, and 64 KiB for each 16 MiB of memory with a
/// dense block (docs/decisions/0011-rmp-in-slabs-and-chunks.md).
#[derive(Debug)]
pub struct HeapStorage {
    slabs: Box<[Slab]>,
    sparse: Box<[Sparse]>,
    counters: Box<[AtomicU64]>,
    /// Held by whatever changes what is dense or filled.
    change: Mutex<()>,
}

/// Memory for consecutive blocks, with what they read as.
fn words<const BLOCKS: usize>(
    fill: impl Fn(usize) -> Fill,
) -> Result<Box<[[AtomicU64; WORDS_PER_BLOCK]; BLOCKS]>, OutOfMemory> {
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(BLOCKS).map_err(|_| OutOfMemory)?;
    blocks.extend((0..BLOCKS).map(|index| {
        let fill = fill(index);
        std::array::from_fn(|position| AtomicU64::new(fill.word(position)))
    }));
    blocks.into_boxed_slice().try_into().map_err(|_| OutOfMemory)
}

fn write(words: &[AtomicU64], fill: Fill) {
    for (position, word) in words.iter().enumerate() {
        word.store(fill.word(position), Ordering::Release);
    }
}

impl HeapStorage {
    /// Storage for the regions below `regions`.
    #[must_use]
    pub fn new(regions: u32) -> Self {
        let regions = regions as usize;
        Self {
            slabs: std::iter::repeat_with(OnceLock::new).take(regions).collect(),
            sparse: std::iter::repeat_with(Sparse::default).take(regions).collect(),
            counters: zeroes(ASIDS),
            change: Mutex::new(()),
        }
    }

    /// All words of a region that has a slab: `lo`, `hi` of 262,144 entries.
    #[must_use]
    pub fn region_words(&self, region: Region) -> Option<&[AtomicU64]> {
        Some(self.slabs.get(region.index())?.get()?.as_flattened())
    }

    /// The words of a block in a slab.
    #[inline]
    fn slab_words(&self, block: Block) -> Option<&[AtomicU64; WORDS_PER_BLOCK]> {
        let slab = self.slabs.get(block.index() / BLOCKS_PER_REGION as usize)?.get()?;
        slab.get(block.index_in_region() as usize)
    }

    /// A block outside slabs. Not rare, but no update of a slab shall save registers for it.
    #[cold]
    fn sparse_block(&self, block: Block) -> BlockView<'_> {
        let Some(sparse) = self.sparse.get(block.region().index()) else {
            return BlockView::Uniform(Fill::Hypervisor);
        };
        let Some(mixed) = sparse.mixed.get() else {
            return BlockView::Uniform(Fill::from_byte(sparse.fill.load(Ordering::Acquire)));
        };
        let index = block.index_in_region() as usize;
        match mixed.words(index) {
            Some(words) => BlockView::Dense(words),
            None => BlockView::Uniform(mixed.fill(index)),
        }
    }

    /// The region's blocks apart, for whoever changes one of them. Under the lock.
    fn mixed(sparse: &Sparse) -> &Mixed {
        let fill = || sparse.fill.load(Ordering::Acquire);
        sparse.mixed.get_or_init(|| Box::new(Mixed::uniform(fill())))
    }

    /// Fills a block of a region that is not uniform. Under the lock.
    fn fill_in(&self, block: Block, fill: Fill) {
        let Some(sparse) = self.sparse.get(block.region().index()) else { return };
        let index = block.index_in_region() as usize;
        if let Some(words) = self.slab_words(block) {
            write(words, fill);
            return;
        }
        let mixed = Self::mixed(sparse);
        if let Some(words) = mixed.words(index) {
            write(words, fill);
        } else if let Some(cell) = mixed.fills.get(index) {
            cell.store(fill as u8, Ordering::Release);
        }
    }

    fn is_uniform(&self, region: Region) -> bool {
        let slab = self.slabs.get(region.index()).and_then(OnceLock::get);
        slab.is_none() && self.sparse.get(region.index()).is_some_and(|s| s.mixed.get().is_none())
    }
}

impl Storage for HeapStorage {
    #[inline]
    fn regions(&self) -> u32 {
        self.slabs.len() as u32
    }

    #[inline]
    fn block(&self, block: Block) -> BlockView<'_> {
        match self.slab_words(block) {
            Some(words) => BlockView::Dense(words),
            None => self.sparse_block(block),
        }
    }

    fn region_fill(&self, region: Region) -> Option<Fill> {
        let sparse = self.sparse.get(region.index())?;
        self.is_uniform(region).then(|| Fill::from_byte(sparse.fill.load(Ordering::Acquire)))
    }

    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        let Some(sparse) = self.sparse.get(block.region().index()) else { return Ok(()) };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if self.slab_words(block).is_some() {
            return Ok(());
        }
        let mixed = Self::mixed(sparse);
        let chunk = block.index_in_region() as usize / BLOCKS_PER_CHUNK;
        if let Some(cell) = mixed.chunks.get(chunk).filter(|cell| cell.get().is_none()) {
            let words = words(|index| mixed.fill(chunk * BLOCKS_PER_CHUNK + index))?;
            cell.get_or_init(|| words);
        }
        Ok(())
    }

    fn reserve_region(&self, region: Region) -> Result<(), OutOfMemory> {
        {
            let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_uniform(region) {
                if let (Some(slab), Some(sparse)) =
                    (self.slabs.get(region.index()), self.sparse.get(region.index()))
                {
                    let fill = Fill::from_byte(sparse.fill.load(Ordering::Acquire));
                    let words = words(|_| fill)?;
                    slab.get_or_init(|| words);
                    return Ok(());
                }
            }
        }
        // A view of a block stays good, so what has chunks keeps them.
        (0..BLOCKS_PER_REGION).try_for_each(|index| self.reserve(Block::in_region(region, index)))
    }

    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill_in(block, fill);
        Ok(())
    }

    fn fill_region(&self, region: Region, fill: Fill) -> Result<(), OutOfMemory> {
        let Some(sparse) = self.sparse.get(region.index()) else { return Ok(()) };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_uniform(region) {
            sparse.fill.store(fill as u8, Ordering::Release);
        } else {
            (0..BLOCKS_PER_REGION)
                .for_each(|index| self.fill_in(Block::in_region(region, index), fill));
        }
        Ok(())
    }

    #[inline]
    fn asid_counters(&self) -> &[AtomicU64] {
        &self.counters
    }
}

/// Storage of an RMPOPT unit on the heap: 16 KiB per core, 16 bytes per region.
#[derive(Debug)]
pub struct HeapUnitStorage {
    regions: Box<[AtomicU64]>,
    caches: Box<[AtomicU64]>,
    cores: Box<[AtomicU64]>,
    tables: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl HeapUnitStorage {
    /// For a host of `cores` physical cores whose memory lies below `regions` GiB.
    #[must_use]
    pub fn new(cores: u32, regions: u32) -> Self {
        Self {
            regions: zeroes(regions as usize),
            caches: zeroes(regions as usize),
            cores: zeroes(cores as usize),
            tables: std::iter::repeat_with(OnceLock::new).take(cores as usize).collect(),
        }
    }
}

impl UnitStorage for HeapUnitStorage {
    #[inline]
    fn regions(&self) -> &[AtomicU64] {
        &self.regions
    }
    #[inline]
    fn caches(&self) -> &[AtomicU64] {
        &self.caches
    }
    #[inline]
    fn cores(&self) -> &[AtomicU64] {
        &self.cores
    }
    #[inline]
    fn table(&self, core: CoreId) -> &[AtomicU64] {
        self.tables
            .get(core.0 as usize)
            .map_or(&[], |table| table.get_or_init(|| zeroes(Window::REGIONS as usize)))
    }
}

/// A host with everything on the heap.
pub type StdMachine = Machine<HeapStorage, HeapUnitStorage>;

impl StdMachine {
    /// A host after reset with `cores` physical cores and memory below `regions` GiB.
    #[must_use]
    pub fn on_heap(cores: u32, regions: u32, coverage: Coverage, config: UnitConfig) -> Self {
        Self::new(
            HeapStorage::new(regions),
            coverage,
            HeapUnitStorage::new(cores, regions),
            config,
            UpdateOrder::default(),
        )
    }
}

/// Memory of a firmware on the heap.
#[derive(Debug)]
pub struct HeapFirmwareStorage {
    cores: Box<[CoreRegs]>,
    guests: Box<[GuestSlot]>,
    asids: Box<[AtomicU64]>,
    memory: Box<[MemoryRange]>,
}

impl HeapFirmwareStorage {
    /// Ranges of the memory map: RAM, and the RMP's segments.
    const RANGES: usize = 1024;

    /// For `cores` cores, ready for `SNP_INIT`, at most `guests` guests and ASIDs below `asids`.
    #[must_use]
    pub fn new(cores: u32, guests: u32, asids: u32) -> Self {
        let count = |count: u32| count as usize;
        Self {
            cores: std::iter::repeat_with(CoreRegs::ready).take(count(cores)).collect(),
            guests: std::iter::repeat_with(GuestSlot::default).take(count(guests)).collect(),
            asids: zeroes(count(asids).min(ASIDS)),
            memory: std::iter::repeat_with(MemoryRange::default).take(Self::RANGES).collect(),
        }
    }
}

impl FirmwareStorage for HeapFirmwareStorage {
    fn cores(&self) -> &[CoreRegs] {
        &self.cores
    }
    fn guests(&self) -> &[GuestSlot] {
        &self.guests
    }
    fn asids(&self) -> &[AtomicU64] {
        &self.asids
    }
    fn memory(&self) -> &[MemoryRange] {
        &self.memory
    }
}

/// A firmware with everything on the heap.
pub type StdFirmware = Firmware<HeapFirmwareStorage>;

impl StdFirmware {
    /// Firmware after power-on for a host of `cores` cores, with as many guests as ASIDs.
    #[must_use]
    pub fn on_heap(cores: u32, asids: u32, choices: FirmwareChoices) -> Self {
        Self::new(HeapFirmwareStorage::new(cores, asids, asids), choices)
    }
}
