//! What the model asks of the memory behind it, and what a storage need not write itself.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;

use snp_defs::{
    Gpa, PageSize, Pfn, Region, RmpEntry, RmpOperand, RmpStatus, Spa, PAGES_PER_LARGE_PAGE,
    PAGES_PER_REGION,
};
use snp_model::{
    Block, BlockView, Coverage, Fill, HeapStorage, Issuer, OutOfMemory, PfnRange, Rmp, Storage,
    UpdateOrder, BLOCKS_PER_REGION,
};

/// A storage that has only what every storage must have, and writes down what it is asked.
struct Least {
    inner: HeapStorage,
    asked: RefCell<Vec<String>>,
}

impl Least {
    fn new(regions: u32) -> Self {
        Self { inner: HeapStorage::new(regions), asked: RefCell::default() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.take()
    }
}

impl Storage for Least {
    fn regions(&self) -> u32 {
        self.inner.regions()
    }
    fn block(&self, block: Block) -> BlockView<'_> {
        self.inner.block(block)
    }
    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        self.asked.borrow_mut().push(format!("reserve {}", block.index()));
        self.inner.reserve(block)
    }
    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        self.asked.borrow_mut().push(format!("fill {} {fill:?}", block.index()));
        self.inner.fill_block(block, fill)
    }
    fn asid_counters(&self) -> &[AtomicU64] {
        self.inner.asid_counters()
    }
}

/// The same with a quicker form for regions.
struct Regions(Least);

impl Storage for Regions {
    fn regions(&self) -> u32 {
        self.0.regions()
    }
    fn block(&self, block: Block) -> BlockView<'_> {
        self.0.block(block)
    }
    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        self.0.reserve(block)
    }
    fn reserve_region(&self, region: Region) -> Result<(), OutOfMemory> {
        self.0.asked.borrow_mut().push(format!("reserve region {}", region.get()));
        self.0.inner.reserve_region(region)
    }
    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        self.0.fill_block(block, fill)
    }
    fn asid_counters(&self) -> &[AtomicU64] {
        self.0.asid_counters()
    }
}

/// A storage whose host has eight ASIDs.
struct FewAsids(HeapStorage);

impl Storage for FewAsids {
    fn regions(&self) -> u32 {
        self.0.regions()
    }
    fn block(&self, block: Block) -> BlockView<'_> {
        self.0.block(block)
    }
    fn reserve(&self, block: Block) -> Result<(), OutOfMemory> {
        self.0.reserve(block)
    }
    fn fill_block(&self, block: Block, fill: Fill) -> Result<(), OutOfMemory> {
        self.0.fill_block(block, fill)
    }
    fn asid_counters(&self) -> &[AtomicU64] {
        &self.0.asid_counters()[..8]
    }
}

fn pfn(page: u64) -> Pfn {
    Pfn::new(page).unwrap()
}

fn region(number: u32) -> Region {
    Region::new(number).unwrap()
}

fn rmp<S: Storage>(storage: S, regions: u32) -> Rmp<S> {
    let coverage = Coverage::segmented(30).unwrap().with_regions(regions);
    Rmp::new(storage, coverage, UpdateOrder::SUGGESTED)
}

/// By value, so that a borrowed storage answers itself.
fn fill_one(storage: impl Storage, block: Block) {
    storage.fill_block(block, Fill::HvFixed).unwrap();
}

#[test]
fn blocks_are_named_by_their_address() {
    let block = Block::of(pfn(3 * PAGES_PER_REGION + 5 * PAGES_PER_LARGE_PAGE + 7));
    assert_eq!(block, Block::in_region(region(3), 5));
    assert_eq!((block.region(), block.index_in_region()), (region(3), 5));
    assert_eq!(block.index(), 3 * 512 + 5);
    assert_eq!(block.head(), pfn(3 * PAGES_PER_REGION + 5 * PAGES_PER_LARGE_PAGE));
    assert_eq!(Block::in_region(region(3), 512 + 5), block, "counted inside the region");
}

#[test]
fn the_words_of_a_fill_are_those_of_its_entries() {
    for fill in [Fill::Hypervisor, Fill::HvFixed, Fill::Firmware] {
        for index in [0, 1, 511] {
            let RmpEntry { lo, hi } = fill.entry(index);
            let at = index as usize * 2;
            assert_eq!((fill.word(at), fill.word(at + 1)), (lo, hi), "{fill:?} {index}");
        }
    }
    assert_ne!(Fill::Firmware.word(0), Fill::Firmware.word(1));
    assert_ne!(Fill::Firmware.word(0), Fill::Firmware.word(2), "the head counts the others");
}

#[test]
fn the_least_storage_is_asked_block_by_block() {
    let storage = Least::new(2);
    assert_eq!(storage.region_fill(Region::ZERO), None, "not cheap to tell");
    storage.reserve_region(region(1)).unwrap();
    let expected: Vec<_> = (512..1024).map(|block| format!("reserve {block}")).collect();
    assert_eq!(storage.asked(), expected);
    storage.fill_region(region(1), Fill::Firmware).unwrap();
    let expected: Vec<_> = (512..1024).map(|block| format!("fill {block} Firmware")).collect();
    assert_eq!(storage.asked(), expected);
    assert_eq!(expected.len(), BLOCKS_PER_REGION as usize);
    fill_one(&storage, Block::in_region(Region::ZERO, 4));
    assert_eq!(storage.asked(), ["fill 4 HvFixed"]);
    assert!(matches!(
        storage.block(Block::in_region(Region::ZERO, 4)),
        BlockView::Uniform(Fill::HvFixed)
    ));
}

#[test]
fn whole_regions_are_reserved_as_such() {
    // Region 2 is not covered, and the storage ends after region 2.
    let rmp = rmp(Regions(Least::new(3)), 2);
    let reserve = |first, pages| {
        rmp.reserve(PfnRange::new(pfn(first), pages)).unwrap();
        rmp.storage().0.asked()
    };
    assert_eq!(reserve(0, PAGES_PER_REGION), ["reserve region 0"]);
    assert_eq!(reserve(0, 4 * PAGES_PER_REGION), ["reserve region 0", "reserve region 1"]);
    assert_eq!(reserve(PAGES_PER_REGION - 1, 2), ["reserve 511", "reserve 512"]);
    assert_eq!(reserve(512, 1024), ["reserve 1", "reserve 2"]);
    let nearly = reserve(0, PAGES_PER_REGION - 1);
    assert_eq!((nearly.len(), nearly[511].as_str()), (512, "reserve 511"));
    let shifted = reserve(512, PAGES_PER_REGION);
    assert_eq!((shifted.len(), shifted[0].as_str()), (512, "reserve 1"));
    assert!(reserve(0, 0).is_empty());
    assert!(reserve(2 * PAGES_PER_REGION, PAGES_PER_REGION).is_empty(), "no entries there");
}

#[test]
fn pages_past_the_storage_have_no_entry() {
    let rmp = rmp(HeapStorage::new(1), 2);
    assert!(rmp.entry(pfn(PAGES_PER_REGION - 1)).is_some());
    assert_eq!(rmp.entry(pfn(PAGES_PER_REGION)), None);
    assert_eq!(rmp.entry(pfn(2 * PAGES_PER_REGION)), None);
}

#[test]
fn a_new_rmp_takes_memory_only_where_pages_differ() {
    let regions = 2;
    let coverage = Coverage::segmented(30).unwrap().with_regions(regions);
    let host =
        snp_model::StdMachine::on_heap(1, regions, coverage, snp_model::UnitConfig::default());
    host.enable_snp();
    let dram = [PfnRange::new(pfn(0), 2 * PAGES_PER_REGION)];
    let firmware = [PfnRange::new(pfn(16 * 512), 16 * 512 + 1)];
    let layout = snp_model::InitLayout { dram: &dram, rmp: &firmware, ..Default::default() };
    host.snp_init(&layout).unwrap();
    let view = |block| host.rmp().storage().block(Block::in_region(Region::ZERO, block));
    assert!(matches!(view(15), BlockView::Uniform(Fill::Hypervisor)));
    assert!(matches!(view(16), BlockView::Uniform(Fill::Firmware)));
    assert!(matches!(view(31), BlockView::Uniform(Fill::Firmware)));
    assert!(matches!(view(32), BlockView::Dense(_)), "its first page alone");
    assert!(matches!(view(300), BlockView::Uniform(Fill::Hypervisor)));
    assert_eq!(host.rmp().storage().region_fill(region(1)), Some(Fill::Hypervisor));
}

#[test]
fn asids_end_where_their_counters_end() {
    let rmp = rmp(FewAsids(HeapStorage::new(1)), 1);
    rmp.reserve(PfnRange::new(pfn(0), PAGES_PER_REGION)).unwrap();
    let mut at = 0;
    for size in [PageSize::Size4K, PageSize::Size2M] {
        for (asid, expected) in [(7, RmpStatus::SUCCESS), (8, RmpStatus::FAIL_INPUT)] {
            at += 2 << 20;
            let operand = RmpOperand::private(Gpa::default(), size, asid, false);
            let spa = Spa::new(at).unwrap();
            let update = rmp.rmpupdate(Issuer::HOST, spa, &operand).unwrap();
            assert_eq!(update.status, expected, "{size:?}, ASID {asid}");
        }
    }
    assert_eq!(rmp.assigned_to(7), 513);
}
