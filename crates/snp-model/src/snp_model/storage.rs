//! Where RMP entries live: what the model asks of the memory behind it.
//!
//! The unit of storage is the *block*: the 512 entries of one 2 MiB of memory, 8 KiB. A block is
//! either dense (1,024 words of its own) or uniform (every page in one of the states of [`Fill`], no
//! memory at all). A fresh storage is uniformly [`Fill::Hypervisor`], as a zeroed RMP reads.
//! Instructions never allocate: whoever may sleep calls [`Storage::reserve`] first.

use core::fmt;

use crate::snp_defs::{Pfn, Region, RmpEntry, LARGE_PAGES_PER_REGION, PAGES_PER_LARGE_PAGE};
use crate::snp_model::sync::AtomicU64;

/// Words of a dense block: `lo`, `hi` of 512 entries.
pub const WORDS_PER_BLOCK: usize = 2 * PAGES_PER_LARGE_PAGE as usize;
/// Blocks in a region: a fully dense region takes 4 MiB.
pub const BLOCKS_PER_REGION: u32 = LARGE_PAGES_PER_REGION as u32;
/// ASID counters: as many as ASIDs fit in a raw entry.
pub const ASIDS: usize = 1024;

/// A 2 MiB block of system memory: `Spa >> 21`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Block(u32);

impl Block {
    /// The block that holds a page.
    pub const fn of(pfn: Pfn) -> Self {
        Self((pfn.get() / PAGES_PER_LARGE_PAGE) as u32)
    }

    /// A region's block, counted inside the region (taken modulo 512).
    pub const fn in_region(region: Region, index: u32) -> Self {
        Self(region.get() * BLOCKS_PER_REGION + index % BLOCKS_PER_REGION)
    }

    /// Its number: `Spa >> 21`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The region it lies in.
    pub const fn region(self) -> Region {
        match Region::new(self.0 / BLOCKS_PER_REGION) {
            Some(region) => region,
            None => Region::ZERO,
        }
    }

    /// Position inside its region: 0 to 511.
    pub const fn index_in_region(self) -> u32 {
        self.0 % BLOCKS_PER_REGION
    }

    /// Its first page, whose entry is the block's head.
    pub const fn head(self) -> Pfn {
        match Pfn::new(self.0 as u64 * PAGES_PER_LARGE_PAGE) {
            Some(pfn) => pfn,
            None => self.region().first_pfn(),
        }
    }
}

/// The states in which all pages of a block can be without memory of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Fill {
    /// Hypervisor-owned.
    #[default]
    Hypervisor = 0,
    /// Hypervisor-owned for ever.
    HvFixed = 1,
    /// The firmware's.
    Firmware = 2,
}

impl Fill {
    /// The fill of a stored byte; unknown bytes read as hypervisor-owned.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::HvFixed,
            2 => Self::Firmware,
            _ => Self::Hypervisor,
        }
    }

    /// The entry at a position (0 to 511) of such a block. The head counts the assigned others.
    pub const fn entry(self, index: u32) -> RmpEntry {
        match (self, index) {
            (Self::Hypervisor, _) => RmpEntry::HYPERVISOR,
            (Self::HvFixed, _) => RmpEntry::HV_FIXED,
            (Self::Firmware, 0) => {
                RmpEntry::FIRMWARE.with_subpage_count(PAGES_PER_LARGE_PAGE as u16 - 1)
            }
            (Self::Firmware, _) => RmpEntry::FIRMWARE,
        }
    }

    /// The word at a position (0 to 1,023) of such a block.
    pub const fn word(self, position: usize) -> u64 {
        let entry = self.entry((position / 2) as u32);
        if position % 2 == 0 {
            entry.lo
        } else {
            entry.hi
        }
    }

    /// Whether its pages are assigned.
    pub const fn is_assigned(self) -> bool {
        matches!(self, Self::Firmware)
    }
}

/// A block as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum BlockView<'a> {
    /// All pages alike, no memory.
    Uniform(Fill),
    /// [`WORDS_PER_BLOCK`] words: `lo`, `hi` of each entry in turn.
    Dense(&'a [AtomicU64]),
}

/// The storage has no memory left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("no memory for RMP entries")
    }
}

/// Memory of an RMP.
///
/// A block once dense stays dense, so that a view stays good. [`Self::reserve`] and the fills may
/// sleep; [`Self::block`] and [`Self::region_fill`] may not, and run inside instructions.
pub trait Storage {
    /// Regions it can hold; a block past them reads as uniformly hypervisor-owned.
    fn regions(&self) -> u32;

    /// The block as it is now.
    fn block(&self, block: Block) -> BlockView<'_>;

    /// The fill of a region without any dense block and with one fill throughout, if that is cheap to
    /// tell. `None` is always right.
    fn region_fill(&self, region: Region) -> Option<Fill> {
        let _ = region;
        None
    }

    /// Makes a block dense without changing what it reads as. Rounding up to more is allowed.
    fn reserve(&self, block: Block) -> Result<(), OutOfMemory>;

    /// [`Self::reserve`] of all blocks of a region, for which a storage may have a quicker form.
    fn reserve_region(&self, region: Region) -> Result<(), OutOfMemory> {
        (0..BLOCKS_PER_REGION).try_for_each(|index| self.reserve(Block::in_region(region, index)))
    }

    /// Makes all entries of a block those of `fill`. No instruction runs meanwhile.
    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory>;

    /// Makes all entries of a region those of `fill`. No instruction runs meanwhile.
    fn fill_region(&self, region: Region, fill: Fill) -> Result<(), OutOfMemory> {
        (0..BLOCKS_PER_REGION)
            .try_for_each(|index| self.fill_block(Block::in_region(region, index), fill))
    }

    /// Assigned 4K pages per ASID; [`ASIDS`] counters.
    fn asid_counters(&self) -> &[AtomicU64];
}

impl<T: Storage + ?Sized> Storage for &T {
    #[inline]
    fn regions(&self) -> u32 {
        (**self).regions()
    }
    #[inline]
    fn block(&self, block: Block) -> BlockView<'_> {
        (**self).block(block)
    }
    fn region_fill(&self, region: Region) -> Option<Fill> {
        (**self).region_fill(region)
    }
    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        (**self).reserve(block)
    }
    fn reserve_region(&self, region: Region) -> Result<(), OutOfMemory> {
        (**self).reserve_region(region)
    }
    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        (**self).fill_block(block, fill)
    }
    fn fill_region(&self, region: Region, fill: Fill) -> Result<(), OutOfMemory> {
        (**self).fill_region(region, fill)
    }
    #[inline]
    fn asid_counters(&self) -> &[AtomicU64] {
        (**self).asid_counters()
    }
}
