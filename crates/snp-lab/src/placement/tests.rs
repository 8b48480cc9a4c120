//! What the allocator gives, in which order, and what it refuses.

use super::*;
use crate::boot::boot;
use crate::memory::{MapEntry, NodeMemory, RangeKind};
use crate::scenario::RmpKind;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeSet;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn host(bytes: u64, nodes: u32) -> Allocator {
    let memory = PhysicalMemory::from_size(bytes, nodes).unwrap();
    let layout = boot(&memory, nodes.min(2), RmpKind::Segmented).unwrap();
    Allocator::new(&memory, &layout)
}

fn rng(seed: u64) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(seed)
}

fn ask(bytes: u64, placement: Placement) -> Request {
    Request { bytes, placement, node: None }
}

fn bytes(extents: &[Extent]) -> u64 {
    extents.iter().map(Extent::bytes).sum()
}

#[test]
fn what_boot_took_is_not_given() {
    let memory = PhysicalMemory::from_size(64 * GIB, 2).unwrap();
    let layout = boot(&memory, 2, RmpKind::Segmented).unwrap();
    let mut all = Allocator::new(&memory, &layout);
    let reserved = bytes(&layout.reserved_from_allocation);
    assert_eq!(all.total_bytes(), 64 * GIB - reserved);
    let request = ask(all.free_bytes(), Placement::Pages2M);
    let everything = all.allocate(request, &mut rng(1)).unwrap();
    assert_eq!(all.free_bytes(), 0);
    for taken in &layout.reserved_from_allocation {
        assert!(
            everything.iter().all(|e| e.end() <= taken.first.get() || taken.end() <= e.first.get())
        );
    }
    let full = PlacementError::Full { wanted: 1, free: 0, node: None };
    assert_eq!(all.allocate(ask(1, Placement::Pages4K), &mut rng(1)), Err(full));
    assert_eq!(full.to_string(), "1 blocks of 2 MiB wanted, 0 free");
    all.free(&everything).unwrap();
    assert_eq!(all.free_bytes(), all.total_bytes());
}

#[test]
fn pages_are_rounded_and_the_last_block_is_partly_used() {
    let mut all = host(64 * GIB, 1);
    let before = all.free_bytes();
    let got = all.allocate(ask(3 * MIB + 1, Placement::Pages4K), &mut rng(1)).unwrap();
    assert_eq!((got.len(), bytes(&got)), (1, 3 * MIB + 4096));
    assert_eq!(all.free_bytes(), before - 4 * MIB);
    let two = all.allocate(ask(3 * MIB + 1, Placement::Pages2M), &mut rng(1)).unwrap();
    assert_eq!(bytes(&two), 4 * MIB);
    // Address order: right behind.
    assert_eq!(two[0].start_byte(), got[0].start_byte() + 4 * MIB);
    all.free(&got).unwrap();
    let again = all.allocate(ask(MIB, Placement::Pages4K), &mut rng(1)).unwrap();
    assert_eq!(again[0].first, got[0].first);
}

#[test]
fn whole_regions_or_none() {
    let mut all = host(16 * GIB, 1);
    let got = all.allocate(ask(2 * GIB + 1, Placement::Pages1G), &mut rng(1)).unwrap();
    assert_eq!(bytes(&got), 3 * GIB);
    assert!(got.iter().all(|e| e.start_byte() % GIB == 0));
    // Region 0 holds firmware pages, 1 the TMR, 2 and 3 are MMIO, 4 the RMP's bookkeeping.
    assert_eq!(got[0].first.region().get(), 5);
    let before = all.clone();
    let error = all.allocate(ask(14 * GIB, Placement::Pages1G), &mut rng(1)).unwrap_err();
    assert_eq!(error.to_string(), "14 pages of 1 GiB wanted, 9 free");
    assert_eq!(all, before);
    // One block taken in a region is enough to lose it.
    let mut block = got[0];
    all.free(&got).unwrap();
    block.pages = 512;
    let whole = |a: &Allocator| {
        (0..18).filter(|&r| a.free_blocks_in(Region::new(r).unwrap()) == 512).count()
    };
    let regions = whole(&all);
    let (start, end) = blocks_of(&block);
    all.set_taken(start, end, all.span_at(start, 0));
    assert_eq!(whole(&all), regions - 1);
}

#[test]
fn a_node_is_kept_to() {
    let mut all = host(64 * GIB, 4);
    let node = Request { node: Some(2), ..ask(4 * GIB, Placement::Pages2M) };
    let before = all.free_bytes_on(2);
    for placement in [Placement::Pages2M, Placement::Pages1G, Placement::Scattered4K] {
        let got = all.allocate(Request { placement, ..node }, &mut rng(5)).unwrap();
        assert!(got.iter().all(|e| (34 * GIB..50 * GIB).contains(&e.start_byte())));
    }
    assert_eq!(all.free_bytes_on(2), before - 12 * GIB);
    // Full there, though others have room; without a node it goes elsewhere.
    let error = all.allocate(node, &mut rng(5)).unwrap_err();
    assert!(matches!(error, PlacementError::Full { node: Some(2), wanted: 2048, .. }));
    assert!(error.to_string().ends_with(" free on NUMA node 2"));
    assert!(all.allocate(Request { node: None, ..node }, &mut rng(5)).is_ok());
    assert_eq!(
        all.allocate(Request { node: Some(9), ..node }, &mut rng(5)),
        Err(PlacementError::UnknownNode { node: 9 })
    );
}

/// Ranges of regions are looked through in their order, whole pages and blocks alike.
#[test]
fn an_order_is_kept_to() {
    let mut all = host(64 * GIB, 2);
    let regions = |got: &[Extent]| -> Vec<u32> {
        let mut regions: Vec<_> = got.iter().flat_map(Extent::regions).map(Region::get).collect();
        regions.dedup();
        regions
    };
    let before = all.clone();
    // A reversed order of single regions goes from the top down.
    let down: Vec<_> = (20..30).rev().map(|region| region..region + 1).collect();
    let got = all.allocate_in(ask(2 * GIB, Placement::Pages1G), &down, &mut rng(1)).unwrap();
    assert_eq!(regions(&got), [28, 29]);
    let more = all.allocate_in(ask(3 * GIB / 2, Placement::Pages4K), &down, &mut rng(1)).unwrap();
    assert_eq!((regions(&more), bytes(&more)), (vec![26, 27], 3 * GIB / 2));
    // The rest of a region is filled before the next is begun.
    let rest = all.allocate_in(ask(GIB / 2, Placement::Pages2M), &down, &mut rng(1)).unwrap();
    assert_eq!(regions(&rest), [26]);
    // Nothing outside the ranges, and nothing of another node.
    let left = all.clone();
    let error = all.allocate_in(ask(7 * GIB, Placement::Pages2M), &down, &mut rng(1));
    assert_eq!(error, Err(PlacementError::Full { wanted: 3584, free: 3072, node: None }));
    let far = Request { node: Some(1), ..ask(GIB, Placement::Pages1G) };
    let error = all.allocate_in(far, &down, &mut rng(1));
    assert_eq!(error, Err(PlacementError::NoWholeRegion { wanted: 1, free: 0, node: Some(1) }));
    assert_eq!(all, left);
    for extents in [got, more, rest] {
        all.free(&extents).unwrap();
    }
    assert_eq!(all, before);
}

#[test]
fn what_is_not_allocated_cannot_be_freed() {
    let mut all = host(64 * GIB, 1);
    let got = all.allocate(ask(8 * MIB, Placement::Pages2M), &mut rng(1)).unwrap();
    let before = all.clone();
    let pfn = |n| Pfn::new(n).unwrap();
    for bad in [
        Extent { first: pfn(0), pages: 1 },
        Extent { first: pfn(3 << 18), pages: 512 },
        Extent { first: pfn((1 << 40) - 512), pages: 512 },
        Extent { first: pfn(got[0].first.get() + 1), pages: 1 },
        Extent { first: got[0].first, pages: got[0].pages + 1 },
    ] {
        assert!(all.free(&[got[0], bad]).is_err(), "{bad:?}");
        assert_eq!(all, before);
    }
    assert!(all.free(&[got[0], got[0]]).is_err());
    assert_eq!(all, before);
    // A part that begins on a block goes back alone.
    all.free(&[Extent { first: pfn(got[0].first.get() + 512), pages: 512 }]).unwrap();
    assert_eq!(all.free_bytes(), before.free_bytes() + 2 * MIB);
}

/// spec/performance.md 4.3: chunks of 2 MiB at random, share s: 1 - (1 - s)^512 of the regions.
#[test]
fn scatter_dirties_as_the_closed_form_says() {
    for (per_mille, expected) in [(1u64, 0.401), (2, 0.641), (4, 0.872), (10, 0.994)] {
        let mut dirty = 0;
        let mut regions = 0;
        for seed in 0..8 {
            let mut all = host(4 * TIB, 1);
            // Regions of which boot took nothing.
            let whole = |r: &Region| all.free_blocks_in(*r) == 512;
            let whole: BTreeSet<Region> = (0..5000).filter_map(Region::new).filter(whole).collect();
            let share = all.total_bytes() * per_mille / 1000;
            let got = all.allocate(ask(share, Placement::Scattered2M), &mut rng(seed)).unwrap();
            let touched: BTreeSet<Region> = got.iter().flat_map(Extent::regions).collect();
            dirty += touched.intersection(&whole).count();
            regions += whole.len();
        }
        let found = dirty as f64 / regions as f64;
        assert!((found - expected).abs() < 0.01, "{per_mille}: {found}, expected {expected}");
    }
}

/// Both ways of drawing are uniform: each block is drawn about equally often.
#[test]
fn draws_are_uniform() {
    for share in [1, 97] {
        let mut hits = vec![0u32; 8];
        for seed in 0..200 {
            let mut all = host(8 * GIB, 1);
            let part = all.total_bytes() / 100 * share;
            let got = all.allocate(ask(part, Placement::Scattered2M), &mut rng(seed)).unwrap();
            for e in got {
                for block in blocks_of(&e).0..blocks_of(&e).1 {
                    let all_blocks = 10 * BLOCKS_PER_REGION;
                    hits[block * 8 / all_blocks] += 1;
                }
            }
        }
        // Eighths 3 to 6 are plain RAM; the others hold holes and what boot took.
        let (low, high) = (hits[4..7].iter().min().unwrap(), hits[4..7].iter().max().unwrap());
        assert!(high - low <= high / 10, "{share}: {hits:?}");
    }
}

#[test]
fn odd_edges_leave_no_block() {
    let usable = RangeKind::Usable;
    let map = [
        MapEntry { start: 0, end: 3 * GIB, kind: usable },
        MapEntry { start: 4 * GIB + 5, end: 5 * GIB - 5, kind: usable },
    ];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
    let layout = boot(&memory, 1, RmpKind::Segmented).unwrap();
    let mut all = Allocator::new(&memory, &layout);
    let got = all.allocate(ask(all.free_bytes(), Placement::Pages2M), &mut rng(1)).unwrap();
    assert!(got.iter().all(|e| e.end_byte() <= 5 * GIB - 2 * MIB));
}

#[test]
fn twelve_tebibytes_are_served_quickly() {
    let mut all = host(12 * TIB, 2);
    let fill = all.allocate(ask(6 * TIB, Placement::Pages2M), &mut rng(1)).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..100 {
        let got = all.allocate(ask(100 * GIB, Placement::Pages4K), &mut rng(1)).unwrap();
        all.free(&got).unwrap();
    }
    let each = start.elapsed() / 100;
    let start = std::time::Instant::now();
    for seed in 0..10 {
        let got = all.allocate(ask(100 * GIB, Placement::Scattered4K), &mut rng(seed)).unwrap();
        all.free(&got).unwrap();
    }
    let scattered = start.elapsed() / 10;
    println!("100 GiB and back: {each:?} in order, {scattered:?} scattered");
    // Far above what it takes, so that a busy machine does not fail it.
    assert!(each.as_millis() < 20 && scattered.as_millis() < 1000);
    all.free(&fill).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Take(u64, Placement, Option<u32>),
    Give(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = prop::sample::select(Placement::ALL.to_vec());
    prop_oneof![
        3 => (1u64..6 * GIB, kinds, prop::option::of(0u32..3))
            .prop_map(|(bytes, kind, node)| Step::Take(bytes, kind, node)),
        2 => any::<usize>().prop_map(Step::Give),
    ]
}

proptest! {
    #[test]
    fn nothing_overlaps_and_nothing_is_lost(
        steps in prop::collection::vec(step(), 1..40), seed: u64,
    ) {
        let mut all = host(24 * GIB, 2);
        let total = all.total_bytes();
        let mut twin = all.clone();
        let (mut random, mut random_twin) = (rng(seed), rng(seed));
        let mut held: Vec<Vec<Extent>> = Vec::new();
        for step in steps {
            match step {
                Step::Take(bytes, placement, node) => {
                    let request = Request { bytes, placement, node };
                    let before = all.clone();
                    let got = all.allocate(request, &mut random);
                    prop_assert_eq!(&got, &twin.allocate(request, &mut random_twin));
                    let Ok(got) = got else {
                        prop_assert_eq!(&all, &before);
                        continue;
                    };
                    prop_assert_eq!(
                        got.iter().map(Extent::bytes).sum::<u64>(),
                        bytes.next_multiple_of(placement.page_bytes())
                    );
                    prop_assert!(got.windows(2).all(|w| w[0].end() < w[1].first.get()));
                    held.push(got);
                }
                Step::Give(which) if !held.is_empty() => {
                    let gone = held.swap_remove(which % held.len());
                    all.free(&gone).unwrap();
                    twin.free(&gone).unwrap();
                }
                Step::Give(_) => {}
            }
            prop_assert_eq!(&all, &twin);
            let mut runs: Vec<_> = held.iter().flatten().map(blocks_of).collect();
            runs.sort_unstable();
            prop_assert!(runs.windows(2).all(|w| w[0].1 <= w[1].0));
            let taken: u64 = runs.iter().map(|r| (r.1 - r.0) as u64 * 2 * MIB).sum();
            prop_assert_eq!(all.free_bytes() + taken, total);
            let by_region: u64 = all.region_free.iter().map(|&f| u64::from(f)).sum();
            prop_assert_eq!(by_region * 2 * MIB, all.free_bytes());
            prop_assert_eq!(all.free_bytes_on(0) + all.free_bytes_on(1), all.free_bytes());
        }
    }
}
