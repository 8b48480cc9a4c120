//! RMPOPT that reads every entry and RMPOPT that reads the heads say the same of every region.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use snp_defs::{Gpa, PageSize, Pfn, Region, RmpOperand, RmpStatus, PAGES_PER_REGION};
use snp_model::{
    Choices, CoreId, Coverage, HeapStorage, HeapUnitStorage, InitLayout, Machine, PfnRange,
    RegionScan, Rmp, Scan, ScanDepth, UnitConfig, UpdateOrder,
};

const REGIONS: u32 = 2;

/// Pages of few blocks, so that updates meet each other.
fn page() -> impl Strategy<Value = u64> {
    let page = prop_oneof![Just(0_u64), 1..8_u64, 508..512_u64];
    let block = prop_oneof![0..3_u64, 510..512_u64];
    (0..u64::from(REGIONS), block, page)
        .prop_map(|(region, block, page)| region * PAGES_PER_REGION + block * 512 + page)
}

#[derive(Clone, Debug)]
enum Operation {
    Assign { page: u64, large: bool },
    Free { page: u64, large: bool },
    Smash { page: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (page(), any::<bool>()).prop_map(|(page, large)| Operation::Assign { page, large }),
        3 => (page(), any::<bool>()).prop_map(|(page, large)| Operation::Free { page, large }),
        1 => page().prop_map(|page| Operation::Smash { page }),
    ]
}

fn pfn(page: u64) -> Pfn {
    Pfn::new(page).unwrap()
}

/// A host whose firmware owns 700 pages from `firmware` on.
fn host(storage: &HeapStorage, firmware: Option<u64>) -> Machine<&HeapStorage, HeapUnitStorage> {
    let coverage = Coverage::segmented(30).unwrap().with_regions(REGIONS);
    let unit = HeapUnitStorage::new(1, REGIONS);
    let host = Machine::new(storage, coverage, unit, UnitConfig::default(), UpdateOrder::default());
    host.enable_snp();
    let dram = [PfnRange::new(pfn(0), u64::from(REGIONS) * PAGES_PER_REGION)];
    let rmp: Vec<_> = firmware.iter().map(|&page| PfnRange::new(pfn(page), 700)).collect();
    host.snp_init(&InitLayout { dram: &dram, rmp: &rmp, ..InitLayout::default() }).unwrap();
    host
}

fn scans(host: &Machine<&HeapStorage, HeapUnitStorage>, depth: ScanDepth) -> Vec<Scan> {
    let coverage = host.rmp().coverage().clone();
    let rmp = Rmp::new(*host.rmp().storage(), coverage, UpdateOrder::default())
        .with_choices(Choices { scan_depth: depth, ..Choices::DEFAULT });
    (0..REGIONS).map(|region| rmp.scan(Region::new(region).unwrap())).collect()
}

/// The first assigned page of a region, looked for in the plainest way.
fn first_assigned(host: &Machine<&HeapStorage, HeapUnitStorage>, region: u32) -> Option<u32> {
    let first = Region::new(region).unwrap().first_pfn().get();
    (0..PAGES_PER_REGION)
        .position(|page| host.rmp().entry(pfn(first + page)).unwrap().assigned())
        .map(|page| page as u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_depths_give_one_verdict(
        slabs in any::<bool>(),
        firmware in proptest::option::of(0..PAGES_PER_REGION),
        operations in proptest::collection::vec(operation(), 0..40),
    ) {
        let storage = HeapStorage::new(REGIONS);
        let host = host(&storage, firmware);
        if slabs {
            host.reserve(Region::ZERO).unwrap();
        }
        for operation in operations {
            let (page, large, operand) = match operation {
                Operation::Smash { page } => {
                    host.psmash(CoreId(0), pfn(page).head().spa()).unwrap();
                    continue;
                }
                Operation::Assign { page, large } => {
                    let size = if large { PageSize::Size2M } else { PageSize::Size4K };
                    let gpa = Gpa::new(pfn(page).head().spa().get()).unwrap();
                    (page, large, RmpOperand::private(gpa, size, 3, false))
                }
                Operation::Free { page, large } => {
                    let size = if large { PageSize::Size2M } else { PageSize::Size4K };
                    (page, large, RmpOperand::shared(size))
                }
            };
            let at = if large { pfn(page).head() } else { pfn(page) };
            host.reserve_pages(PfnRange::new(at, 1)).unwrap();
            host.rmpupdate(CoreId(0), at.spa(), &operand).unwrap();
        }
        let (heads, entries) = (scans(&host, ScanDepth::Heads), scans(&host, ScanDepth::Entries));
        for region in 0..REGIONS {
            let at = region as usize;
            prop_assert_eq!(heads[at].assigned, entries[at].assigned);
            let first = first_assigned(&host, region);
            prop_assert_eq!(entries[at].assigned, first.is_some());
            // Four entries a line; the head of the first block with an assigned page.
            prop_assert_eq!(entries[at].lines, first.map_or(65_536, |page| page / 4 + 1));
            prop_assert_eq!(heads[at].lines, first.map_or(512, |page| page / 512 + 1));
        }
    }
}

#[test]
fn each_depth_counts_its_lines() {
    let storage = HeapStorage::new(REGIONS);
    let host = host(&storage, None);
    let both = |region: usize| {
        [ScanDepth::Heads, ScanDepth::Entries].map(|depth| scans(&host, depth)[region])
    };
    let clean = [512, 65_536].map(|lines| Scan { assigned: false, lines });
    assert_eq!(both(0), clean, "uniform");
    host.reserve(Region::ZERO).unwrap();
    assert_eq!(both(0), clean, "dense");
    // Page 9 of block 511: line 2 of its block.
    let page = pfn(511 * 512 + 9);
    let private = RmpOperand::private(Gpa::ZERO, PageSize::Size4K, 3, false);
    let update = host.rmpupdate(CoreId(0), page.spa(), &private).unwrap();
    assert_eq!(update.status, RmpStatus::SUCCESS);
    assert_eq!(both(0), [512, 511 * 128 + 3].map(|lines| Scan { assigned: true, lines }));
    assert_eq!(both(1), clean);
}
