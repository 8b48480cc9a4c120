use super::plan::*;
use super::*;
use crate::memory::{MapEntry, NodeMemory, RangeKind};
use proptest::prelude::*;

const TIB: u64 = 1 << 40;

fn never(layout: &BootLayout) -> Vec<(u32, &str)> {
    layout.never_optimized.iter().map(|n| (n.region.get(), n.reason.as_str())).collect()
}

#[test]
fn two_tebibytes_lose_what_upstreams_sample_lost() {
    let memory = PhysicalMemory::from_size(2 * TIB, 2).unwrap();
    let layout = boot(&memory, 2, RmpKind::Segmented).unwrap();
    let never = never(&layout);
    assert_eq!(
        never[..4],
        [
            (0, "INIT_EX area, command buffers, status page, IOMMU buffers"),
            (1, "TMR"),
            (4, "RMP bookkeeping"),
            (63, "RMP segment 0"),
        ]
    );
    // 33 segments hold RAM; segment 15 ends at 1,012 GiB, segment 32 has 14 GiB.
    assert_eq!(never.len(), 3 + 33);
    assert!(never.contains(&(1011, "RMP segment 15")));
    assert_eq!(never.last(), Some(&(2061, "RMP segment 32")));
    assert!(layout.rmpopt_possible());
    // 4 MiB per GiB covered: 2,062 slots less the 12 of HyperTransport, and 20 KiB.
    assert_eq!(layout.rmp_bytes(), 2050 * 4 * MIB + 20 * 1024);
    // 1/64 of 2 TiB is the host's.
    assert_eq!(layout.host_bytes, 2 * TIB / 64 + HOST_LOW_BYTES);
    let RmpLayout::Segmented { base, shift, rst } = &layout.rmp else { panic!() };
    assert_eq!((base.get(), *shift), (4 * GIB, 36));
    assert_eq!(rst[15].covered_gib(), 52);
    assert_eq!(rst.iter().filter(|e| e.is_present()).count(), 33);
}

#[test]
fn holes_and_smm_are_fixed() {
    let memory = PhysicalMemory::from_size(8 * GIB, 1).unwrap();
    let layout = boot(&memory, 1, RmpKind::Segmented).unwrap();
    let fixed: Vec<_> = layout.hv_fixed.iter().map(|e| (e.start_byte(), e.end_byte())).collect();
    assert_eq!(fixed, [(ASEG_START, ASEG_END), (2 * GIB - TSEG_BYTES, 4 * GIB)]);
    assert_eq!(layout.covered, [Extent::inside(0, 10 * GIB).unwrap()]);
}

#[test]
fn contiguous_table_is_at_the_top() {
    let memory = PhysicalMemory::from_size(512 * GIB, 2).unwrap();
    let layout = boot(&memory, 2, RmpKind::Contiguous).unwrap();
    assert!(!layout.rmpopt_possible());
    let RmpLayout::Contiguous(rmp) = layout.rmp else { panic!() };
    // 514 GiB of addresses: 2,056 MiB and 16 KiB, in whole MiB.
    assert_eq!(rmp.bytes(), 2057 * MIB);
    assert_eq!(rmp.end().get() + 1, 514 * GIB);
    let max_pfn = Pfn::new(memory.top() / PAGE_BYTES).unwrap();
    assert_eq!(rmp.linux_check(max_pfn), Ok(()));
    assert_eq!(rmp.firmware_check(), Ok(()));
    let tops: Vec<_> = never(&layout).into_iter().filter(|n| n.1 == "RMP").collect();
    assert_eq!(tops, [(511, "RMP"), (512, "RMP"), (513, "RMP")]);
}

/// The map of a host with two EPYC Genoa and 512 GiB; its own contiguous RMP is the reserved range
/// below `0x80_7f10_0000`. Origin: A. Kalra's mail on Linux commit 400fea4b9651.
#[test]
fn a_real_map() {
    let usable = |start, end: u64| MapEntry { start, end: end + 1, kind: RangeKind::Usable };
    let other = |start, end: u64| MapEntry { start, end: end + 1, kind: RangeKind::Reserved };
    let map = [
        usable(0, 0x8efff),
        other(0x8f000, 0x8ffff),
        usable(0x90000, 0x9ffff),
        usable(0x100000, 0x5a14afff),
        other(0x5a14b000, 0x5a34afff),
        usable(0x5a34b000, 0x67acefff),
        other(0x67acf000, 0x6effefff),
        usable(0x6efff000, 0x6effffff),
        other(0x6f000000, 0x6f00afff),
        usable(0x6f00b000, 0x6fffffff),
        other(0x70000000, 0x8fffffff),
        other(0xfd000000, 0xffffffff),
        usable(0x100000000, 0x407fcfffff),
        other(0x407fd00000, 0x407fffffff),
        usable(0x4080000000, 0x7ffe7fffff),
        other(0x7ffe800000, 0x807f0fffff),
        usable(0x807f100000, 0x807f1fefff),
    ];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(2)).unwrap();
    assert_eq!(memory.memory_bytes(), 547_187_208_192);
    assert_eq!((memory.regions(), memory.spanned_regions()), (511, 514));
    let layout = boot(&memory, 2, RmpKind::Segmented).unwrap();
    // The last segment has not 1 MiB of RAM: its table lies in the segment below.
    assert_eq!(never(&layout).last(), Some(&(511, "RMP segment 7, RMP segment 8")));
    let max_pfn = Pfn::new(0x807f1ff).unwrap();
    assert_eq!(layout.rmp.geometry().unwrap().linux_check(max_pfn), Ok(()));
}

#[test]
fn smallest_host_boots() {
    let memory = PhysicalMemory::from_size(2 * GIB, 1).unwrap();
    for kind in RmpKind::ALL {
        let layout = boot(&memory, 1, kind).unwrap();
        let last = layout.assigned.last().map(AssignedRange::extent);
        assert!(last.is_none_or(|last| last.end_byte() <= 2 * GIB));
        assert_eq!((last.is_none(), layout.linux_refuses().is_some()), {
            let unset = kind == RmpKind::Unset;
            (unset, unset)
        });
    }
}

#[test]
fn too_little_ram_is_refused() {
    // A map with a single RAM range of 1 MiB far up: its segment's table has no room.
    let usable = RangeKind::Usable;
    let map = [MapEntry { start: 64 * GIB, end: 64 * GIB + MIB, kind: usable }];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
    assert_eq!(
        boot(&memory, 1, RmpKind::Segmented).unwrap_err().to_string(),
        "no room in RAM for RMP segment 1 (4194304 bytes in one piece)"
    );
}

#[test]
fn a_sliver_in_a_segment_takes_its_table_below() {
    let usable = RangeKind::Usable;
    let map = [
        MapEntry { start: 0x10_0000, end: 3 * GIB, kind: usable },
        MapEntry { start: 64 * GIB, end: 64 * GIB + MIB + 5, kind: usable },
    ];
    let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
    let layout = boot(&memory, 1, RmpKind::Segmented).unwrap();
    assert!(never(&layout).contains(&(2, "RMP segment 0, RMP segment 1")));
}

fn sorted_apart(extents: &[Extent]) -> bool {
    extents.windows(2).all(|w| w[0].end() < w[1].first.get())
}

proptest! {
    #[test]
    fn layouts_are_sound(
        cuts in prop::collection::btree_set(0u64..200 * GIB, 2..16), sockets in 1u32..=2,
        segmented: bool,
    ) {
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let map: Vec<MapEntry> = cuts
            .chunks_exact(2)
            .map(|c| MapEntry { start: c[0], end: c[1], kind: RangeKind::Usable })
            .collect();
        let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
        let kind = if segmented { RmpKind::Segmented } else { RmpKind::Contiguous };
        let Ok(layout) = boot(&memory, sockets, kind) else { return Ok(()) };
        let assigned: Vec<Extent> = layout.assigned.iter().map(AssignedRange::extent).collect();
        prop_assert!(assigned.windows(2).all(|w| w[0].end() <= w[1].first.get()));
        let assigned = merge(assigned);
        // Assigned pages are RAM, covered, and kept from guests; HV-fixed ones are not assigned.
        for within in [&layout.dram, &layout.covered, &layout.reserved_from_allocation] {
            prop_assert_eq!(intersect(&assigned, within), assigned.clone());
            prop_assert!(sorted_apart(within));
        }
        prop_assert!(intersect(&assigned, &layout.hv_fixed).is_empty());
        // All RAM is covered; reserved memory is RAM.
        prop_assert_eq!(intersect(&layout.dram, &layout.covered), layout.dram.clone());
        prop_assert!(subtract(&layout.reserved_from_allocation, &layout.dram).is_empty());
        // The architecture sees the same RMP, and Linux would run SNP with it.
        let geometry = layout.rmp.geometry().unwrap();
        let own = geometry.own_ranges().filter_map(|r| Extent::inside(r.start.get(), r.end()));
        let own = merge(own.collect());
        prop_assert_eq!(intersect(&own, &assigned), own.clone());
        prop_assert_eq!(own.iter().map(Extent::bytes).sum::<u64>(), layout.rmp_bytes());
        let max_pfn = Pfn::new(layout.dram.last().unwrap().end()).unwrap();
        prop_assert_eq!(geometry.linux_check(max_pfn), Ok(()));
        for extent in &layout.covered {
            let last = Pfn::new(extent.end() - 1).unwrap();
            prop_assert!(geometry.covers(extent.first) && geometry.covers(last));
        }
        // The regions are exactly those that hold assigned pages.
        let regions: std::collections::BTreeSet<Region> =
            assigned.iter().flat_map(Extent::regions).collect();
        let told: Vec<Region> = layout.never_optimized.iter().map(|n| n.region).collect();
        prop_assert_eq!(told, regions.into_iter().collect::<Vec<_>>());
    }
}
