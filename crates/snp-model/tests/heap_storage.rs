//! Storage on the heap: what is dense, what it reads as, and what it takes.

#![allow(clippy::unwrap_used, clippy::panic)]

use snp_defs::{Region, RmpEntry};
use snp_model::{Block, BlockView, Fill, HeapStorage, Storage, BLOCKS_PER_REGION};

fn region(number: u32) -> Region {
    Region::new(number).unwrap()
}

fn is_dense(storage: &HeapStorage, block: Block) -> bool {
    matches!(storage.block(block), BlockView::Dense(_))
}

/// The `lo` word of an entry, whatever form its block has.
fn lo(storage: &HeapStorage, block: Block, index: u32) -> u64 {
    match storage.block(block) {
        BlockView::Uniform(fill) => fill.entry(index).lo,
        BlockView::Dense(words) => {
            words[2 * index as usize].load(std::sync::atomic::Ordering::Acquire)
        }
    }
}

#[test]
fn making_dense_changes_nothing_that_is_read() {
    for whole in [false, true] {
        let storage = HeapStorage::new(3);
        storage.fill_region(region(1), Fill::Firmware).unwrap();
        storage.fill_block(Block::in_region(region(2), 5), Fill::HvFixed).unwrap();
        let read = || -> Vec<u64> {
            (0..3)
                .flat_map(|r| (0..BLOCKS_PER_REGION).map(move |b| Block::in_region(region(r), b)))
                .flat_map(|block| [lo(&storage, block, 0), lo(&storage, block, 511)])
                .collect()
        };
        let before = read();
        assert_eq!(before[2 * 512], Fill::Firmware.entry(0).lo);
        assert_eq!(before[2 * (1024 + 5)], RmpEntry::HV_FIXED.lo);
        for number in 0..3 {
            if whole {
                storage.reserve_region(region(number)).unwrap();
            } else {
                storage.reserve(Block::in_region(region(number), 6)).unwrap();
            }
            assert!(is_dense(&storage, Block::in_region(region(number), 6)));
            assert_eq!(is_dense(&storage, Block::in_region(region(number), 300)), whole);
            assert_eq!(storage.region_fill(region(number)), None);
        }
        assert_eq!(read(), before);
        assert_eq!(storage.region_words(region(0)).is_some(), whole);
    }
}

#[test]
fn a_block_once_dense_stays_where_it_is() {
    let storage = HeapStorage::new(1);
    let block = Block::in_region(Region::ZERO, 77);
    storage.reserve(block).unwrap();
    let BlockView::Dense(words) = storage.block(block) else { panic!("not dense") };
    storage.reserve_region(Region::ZERO).unwrap();
    let BlockView::Dense(same) = storage.block(block) else { panic!("not dense") };
    assert!(std::ptr::eq(words, same));
    assert!((0..BLOCKS_PER_REGION).all(|b| is_dense(&storage, Block::in_region(Region::ZERO, b))));
}

#[test]
fn a_fill_of_a_dense_region_writes_every_entry() {
    for whole in [false, true] {
        let storage = HeapStorage::new(1);
        if whole {
            storage.reserve_region(Region::ZERO).unwrap();
        } else {
            storage.reserve(Block::in_region(Region::ZERO, 0)).unwrap();
        }
        storage.fill_region(Region::ZERO, Fill::HvFixed).unwrap();
        for index in [0, 1, 8, 511] {
            let block = Block::in_region(Region::ZERO, index);
            assert_eq!((lo(&storage, block, 0), lo(&storage, block, 511)), (4, 4));
        }
    }
}

#[test]
fn past_the_end_all_is_the_hypervisors() {
    let storage = HeapStorage::new(1);
    let block = Block::in_region(region(1), 0);
    storage.reserve(block).unwrap();
    storage.reserve_region(region(1)).unwrap();
    storage.fill_region(region(1), Fill::Firmware).unwrap();
    storage.fill_block(block, Fill::Firmware).unwrap();
    assert!(matches!(storage.block(block), BlockView::Uniform(Fill::Hypervisor)));
}
