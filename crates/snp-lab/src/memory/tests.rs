//! Where RAM and its holes lie, and what a map must not say.

use super::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn usable(start: u64, end: u64) -> MapEntry {
    MapEntry { start, end, kind: RangeKind::Usable }
}

fn reserved(start: u64, end: u64) -> MapEntry {
    MapEntry { start, end, kind: RangeKind::Reserved }
}

fn region(number: u32) -> Region {
    Region::new(number).unwrap()
}

#[test]
fn two_tebibytes_are_not_2048_slots() {
    let memory = PhysicalMemory::from_size(2 * TIB, 2).unwrap();
    assert_eq!(memory.memory_bytes(), 2 * TIB);
    assert_eq!(memory.regions(), 2048);
    // 2 GiB of MMIO and 12 GiB of HyperTransport lie between.
    assert_eq!(memory.spanned_regions(), 2062);
    assert_eq!(memory.node_bytes(0), TIB);
    assert_eq!(memory.node_bytes(1), TIB);
    for (number, node) in [(0, Some(0)), (1, Some(0)), (2, None), (3, None), (4, Some(0))] {
        assert_eq!(memory.region_node(region(number)), node, "{number}");
    }
    assert_eq!(memory.region_node(region(1012)), None);
    assert_eq!(memory.region_node(region(1024)), Some(0));
    assert_eq!(memory.region_node(region(1037)), Some(0));
    assert_eq!(memory.region_node(region(1038)), Some(1));
    assert_eq!(memory.ram_bitmap()[0], !0b1100);
    assert_eq!(memory.iter_regions().count(), 2048);
}

#[test]
fn sizes_are_checked() {
    assert!(PhysicalMemory::from_size(2 * GIB, 1).is_ok());
    assert!(PhysicalMemory::from_size(12 * TIB, 8).is_ok());
    for (bytes, nodes, message) in [
        (0, 1, "memory is 0 bytes, must be from"),
        (u64::MAX, 1, "memory is 18446744073709551615 bytes, must be from"),
        (2 * GIB + 4096, 1, "memory is 2147487744 bytes, must be a multiple of 2 MiB"),
        (2 * GIB, 0, "0 NUMA nodes"),
        (2 * GIB, 1025, "1025 NUMA nodes"),
    ] {
        let error = PhysicalMemory::from_size(bytes, nodes).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn odd_edges_count_and_are_trimmed() {
    // The low entries of a real map: usable up to 0x9fbff, then from 1 MiB.
    let map =
        [usable(0x10_0000, 3 * GIB + 0x123), usable(0, 0x9fc00), reserved(0xf_0000, 0x10_0000)];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
    assert_eq!(memory.memory_bytes(), 0x9fc00 + 3 * GIB + 0x123 - 0x10_0000);
    assert_eq!(memory.regions(), 4);
    assert_eq!(memory.region_ram_bytes(region(3)), 0x123);
    let dram = memory.dram();
    assert_eq!((dram[0].pages, dram[1].end()), (0x9f, (3 * GIB) >> 12));
    assert_eq!(memory.others().len(), 1);
}

#[test]
fn touching_entries_share_their_page() {
    let map = [usable(0, 0x1800), usable(0x1800, 0x4000)];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
    assert_eq!(memory.dram(), [Extent { first: Pfn::new(0).unwrap(), pages: 4 }]);
}

#[test]
fn reserved_space_far_above_is_no_ram() {
    let map = [usable(0, 4 * GIB), reserved(0x3ffc_0000_0000, 0x3ffd_0000_0000)];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
    assert_eq!((memory.spanned_regions(), memory.memory_bytes()), (4, 4 * GIB));
}

#[test]
fn contradictions_are_named() {
    let one = NodeMemory::Equal(1);
    for (map, message) in [
        (vec![], "the memory map has no usable RAM"),
        (vec![reserved(0, 9)], "the memory map has no usable RAM"),
        (vec![usable(5, 5)], "range 0x5-0x5 is empty or reversed"),
        (vec![usable(9, 5)], "range 0x9-0x5 is empty or reversed"),
        (vec![usable(0, 9), usable(8, 20)], "ranges 0x0-0x9 and 0x8-0x14 overlap"),
        (vec![reserved(0, 30), reserved(1, 2), usable(8, 20)], "ranges 0x0-0x1e and 0x8-0x14"),
        (vec![usable(0, 30), reserved(1, 2)], "ranges 0x0-0x1e and 0x1-0x2 overlap"),
        (vec![usable(0, u64::MAX)], "usable RAM up to 0xffffffffffffffff, supported"),
    ] {
        let error = PhysicalMemory::from_map(&map, &one).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    // Reserved entries may overlap one another: they mean the same.
    let map = [usable(0, 9), reserved(9, 30), reserved(10, 40)];
    assert!(PhysicalMemory::from_map(&map, &one).is_ok());
}

#[test]
fn node_sizes_in_address_order() {
    let map = [usable(0, 2 * GIB), usable(4 * GIB, 10 * GIB)];
    // As numactl tells it: a little less than the map has.
    let sizes = NodeMemory::Sizes(vec![(0, 4 * GIB - 1), (3, 0), (1, 4 * GIB - 300 * 4096)]);
    let memory = PhysicalMemory::from_map(&map, &sizes).unwrap();
    assert!(memory.assumptions().is_empty());
    assert_eq!(memory.nodes(), [0, 1]);
    assert_eq!(memory.node_bytes(0), 4 * GIB - LARGE_PAGE_BYTES);
    assert_eq!(memory.node_bytes(1), 4 * GIB + LARGE_PAGE_BYTES);
    assert_eq!(memory.region_node(region(5)), Some(0));
    assert_eq!(memory.region_node(region(6)), Some(1));
    // Another host's sizes: proportions.
    let sizes = NodeMemory::Sizes(vec![(0, TIB), (1, 3 * TIB)]);
    let memory = PhysicalMemory::from_map(&map, &sizes).unwrap();
    assert_eq!(memory.assumptions().len(), 1);
    assert_eq!((memory.node_bytes(0), memory.node_bytes(1)), (2 * GIB, 6 * GIB));
    for (sizes, message) in [
        (vec![], "no NUMA node has memory"),
        (vec![(0, 0)], "no NUMA node has memory"),
        (vec![(0, 1), (0, 2)], "NUMA node 0 has two sizes"),
        (vec![(1024, 1)], "1025 NUMA nodes"),
    ] {
        let error = PhysicalMemory::from_map(&map, &NodeMemory::Sizes(sizes)).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn node_ranges_in_any_order() {
    let map = [usable(0, 2 * GIB), usable(4 * GIB, 10 * GIB + 77)];
    let ranges = vec![
        NodeRange { start: 7 * GIB, end: 10 * GIB, node: 1 },
        NodeRange { start: 0, end: 7 * GIB, node: 4 },
    ];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Ranges(ranges.clone())).unwrap();
    assert_eq!((memory.node_bytes(4), memory.node_bytes(1)), (5 * GIB, 3 * GIB + 77));
    assert_eq!(memory.assumptions().len(), 1);
    assert_eq!(memory.ram().len(), 3);
    let clash = NodeRange { start: GIB, end: 2 * GIB, node: 0 };
    let ranges = NodeMemory::Ranges([ranges, vec![clash]].concat());
    assert!(matches!(PhysicalMemory::from_map(&map, &ranges), Err(MemoryError::Overlap { .. })));
}

#[test]
fn majority_decides_a_region() {
    let map = [usable(0, GIB)];
    let range = |start: u64, end: u64, node| NodeRange { start: start << 28, end: end << 28, node };
    let ranges = vec![range(0, 1, 7), range(1, 3, 2), range(3, 4, 7)];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Ranges(ranges)).unwrap();
    assert_eq!(memory.region_node(region(0)), Some(2));
}

proptest! {
    #[test]
    fn numbers_are_met_exactly(blocks in 1024u64..8_000_000, nodes in 1u32..=32) {
        let bytes = blocks * LARGE_PAGE_BYTES;
        let memory = PhysicalMemory::from_size(bytes, nodes).unwrap();
        prop_assert_eq!(memory.memory_bytes(), bytes);
        let shares: Vec<u64> = (0..nodes).map(|n| memory.node_bytes(n)).collect();
        prop_assert_eq!(shares.iter().sum::<u64>(), bytes);
        let (low, high) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        prop_assert!(high - low <= LARGE_PAGE_BYTES);
        prop_assert!(memory.ram().is_sorted_by(|a, b| a.end <= b.start && a.node <= b.node));
        let counted: u64 = memory.iter_regions().map(|r| memory.region_ram_bytes(r)).sum();
        prop_assert_eq!(counted, bytes);
        let touches = |start, end| memory.ram().iter().any(|r| r.start < end && start < r.end);
        prop_assert!(!touches(PhysicalMemory::HOLE_START, PhysicalMemory::HOLE_END));
        prop_assert!(!touches(PhysicalMemory::HT_START, PhysicalMemory::HT_END));
    }

    #[test]
    fn any_map_is_counted(cuts in prop::collection::btree_set(0u64..16 * GIB, 2..24)) {
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let map: Vec<MapEntry> = cuts.chunks_exact(2).map(|c| usable(c[0], c[1])).collect();
        let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
        prop_assert_eq!(memory.memory_bytes(), map.iter().map(|e| e.end - e.start).sum::<u64>());
        prop_assert!(memory.dram().iter().map(Extent::bytes).sum::<u64>() <= memory.memory_bytes());
        prop_assert!(memory.regions() <= memory.spanned_regions());
    }
}
