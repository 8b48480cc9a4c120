//! Storage on the heap, grown 8 KiB at a time.

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

type DenseBlock = OnceLock<Box<[AtomicU64; WORDS_PER_BLOCK]>>;

/// A region that is not uniform: a fill and perhaps words for each block.
#[derive(Debug)]
struct Blocks {
    fills: Box<[AtomicU8]>,
    dense: Box<[DenseBlock]>,
}

impl Blocks {
    fn uniform(fill: u8) -> Self {
        let count = BLOCKS_PER_REGION as usize;
        Self {
            fills: std::iter::repeat_with(|| AtomicU8::new(fill)).take(count).collect(),
            dense: std::iter::repeat_with(OnceLock::new).take(count).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Slab {
    /// The fill while `blocks` is unset.
    fill: AtomicU8,
    blocks: OnceLock<Box<Blocks>>,
}

/// RMP storage on the heap. A uniform region takes 24 bytes, one with blocks of its own 9 KiB, and
/// each dense block 8 KiB more.
#[derive(Debug)]
pub struct HeapStorage {
    slabs: Box<[Slab]>,
    counters: Box<[AtomicU64]>,
    /// Held by whatever changes what is dense or filled.
    change: Mutex<()>,
}

impl HeapStorage {
    /// Storage for the regions below `regions`.
    #[must_use]
    pub fn new(regions: u32) -> Self {
        Self {
            slabs: std::iter::repeat_with(Slab::default).take(regions as usize).collect(),
            counters: zeroes(ASIDS),
            change: Mutex::new(()),
        }
    }

    fn blocks(slab: &Slab) -> &Blocks {
        slab.blocks.get_or_init(|| Box::new(Blocks::uniform(slab.fill.load(Ordering::Acquire))))
    }

    fn fill_in(blocks: &Blocks, index: usize, fill: Fill) {
        if let Some(words) = blocks.dense.get(index).and_then(OnceLock::get) {
            for (position, word) in words.iter().enumerate() {
                word.store(fill.word(position), Ordering::Release);
            }
        } else if let Some(byte) = blocks.fills.get(index) {
            byte.store(fill as u8, Ordering::Release);
        }
    }
}

impl Storage for HeapStorage {
    fn regions(&self) -> u32 {
        self.slabs.len() as u32
    }

    fn block(&self, block: Block) -> BlockView<'_> {
        let Some(slab) = self.slabs.get(block.region().index()) else {
            return BlockView::Uniform(Fill::Hypervisor);
        };
        let Some(blocks) = slab.blocks.get() else {
            return BlockView::Uniform(Fill::from_byte(slab.fill.load(Ordering::Acquire)));
        };
        let index = block.index_in_region() as usize;
        match blocks.dense.get(index).and_then(OnceLock::get) {
            Some(words) => BlockView::Dense(words.as_slice()),
            None => BlockView::Uniform(Fill::from_byte(
                blocks.fills.get(index).map_or(0, |fill| fill.load(Ordering::Acquire)),
            )),
        }
    }

    fn region_fill(&self, region: Region) -> Option<Fill> {
        let slab = self.slabs.get(region.index())?;
        match slab.blocks.get() {
            None => Some(Fill::from_byte(slab.fill.load(Ordering::Acquire))),
            Some(_) => None,
        }
    }

    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        let Some(slab) = self.slabs.get(block.region().index()) else { return Ok(()) };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks = Self::blocks(slab);
        let index = block.index_in_region() as usize;
        if let (Some(dense), Some(fill)) = (blocks.dense.get(index), blocks.fills.get(index)) {
            let fill = Fill::from_byte(fill.load(Ordering::Acquire));
            dense.get_or_init(|| {
                Box::new(std::array::from_fn(|position| AtomicU64::new(fill.word(position))))
            });
        }
        Ok(())
    }

    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        let Some(slab) = self.slabs.get(block.region().index()) else { return Ok(()) };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        Self::fill_in(Self::blocks(slab), block.index_in_region() as usize, fill);
        Ok(())
    }

    fn fill_region(&self, region: Region, fill: Fill) -> Result<(), OutOfMemory> {
        let Some(slab) = self.slabs.get(region.index()) else { return Ok(()) };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        match slab.blocks.get() {
            None => slab.fill.store(fill as u8, Ordering::Release),
            Some(blocks) => {
                (0..blocks.dense.len()).for_each(|index| Self::fill_in(blocks, index, fill));
            }
        }
        Ok(())
    }

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
    fn regions(&self) -> &[AtomicU64] {
        &self.regions
    }
    fn caches(&self) -> &[AtomicU64] {
        &self.caches
    }
    fn cores(&self) -> &[AtomicU64] {
        &self.cores
    }
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
