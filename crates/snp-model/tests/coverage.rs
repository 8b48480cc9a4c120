//! Which pages have an entry: every form of RMP, every edge.

use snp_defs::{
    ContiguousRmp, Fn80000025, Pfn, Region, RmpCfg, RmpGeometry, RstEntry, SegmentedRmp, Spa,
    SpaRange, PAGES_PER_REGION,
};
use snp_model::{Coverage, PfnRange};

fn covered(coverage: &Coverage, regions: u32) -> Vec<u64> {
    (0..regions).filter_map(Region::new).map(|region| coverage.covered_pages(region)).collect()
}

const ALL: u64 = PAGES_PER_REGION;

#[test]
fn a_contiguous_rmp_ends_in_whole_blocks() {
    for (pages, expected) in [
        (0, [0, 0, 0]),
        (511, [0, 0, 0]),
        (512, [512, 0, 0]),
        (1023, [512, 0, 0]),
        (ALL, [ALL, 0, 0]),
        (ALL + 1024, [ALL, 1024, 0]),
        (ALL * 9, [ALL, ALL, ALL]),
    ] {
        let coverage = Coverage::contiguous(pages);
        assert_eq!(covered(&coverage, 3), expected, "{pages}");
        assert!(!coverage.is_segmented());
    }
    let coverage = Coverage::contiguous(ALL + 1024);
    let last = Pfn::new(ALL + 1023).unwrap();
    assert!(coverage.covers(last) && !coverage.covers(last.checked_add(1).unwrap()));
    // A segment means nothing to it.
    assert_eq!(covered(&coverage.with_segment(0, 9).with_regions(9), 3), [ALL, 1024, 0]);
}

#[test]
fn segments_are_of_a_gibibyte_at_least() {
    for (shift, possible) in
        [(0, false), (29, false), (30, true), (36, true), (52, true), (53, false)]
    {
        assert_eq!(Coverage::segmented(shift).is_some(), possible, "2^{shift}");
    }
    let coverage = Coverage::segmented(32).unwrap();
    assert!(coverage.is_segmented());
    assert_eq!(covered(&coverage, 12), [0; 12], "no segment yet");
    let coverage = coverage.with_segment(0, 3).with_segment(2, 100).with_segment(512, 4);
    assert_eq!(covered(&coverage, 13), [ALL, ALL, ALL, 0, 0, 0, 0, 0, ALL, ALL, ALL, ALL, 0]);
    assert_eq!(covered(&coverage.with_segment(0, 1), 3), [ALL, 0, 0], "the last word counts");
    let six = Coverage::segmented(32).unwrap().with_regions(6);
    assert_eq!(covered(&six, 8), [ALL, ALL, ALL, ALL, ALL, ALL, 0, 0]);
    let past = Region::new(512 * 4).unwrap();
    assert_eq!(Coverage::segmented(32).unwrap().with_regions(u32::MAX).covered_pages(past), 0);
}

#[test]
fn it_is_that_of_a_real_layout() {
    let flat = ContiguousRmp::covering(0x10_0000, 3 << 30).unwrap();
    let coverage = Coverage::of(&RmpGeometry::Contiguous(flat)).unwrap();
    assert_eq!(covered(&coverage, 4), [ALL, ALL, ALL, 0]);
    let limits = Fn80000025 { eax: 0xAA4, ebx: 0, ecx: 0, edx: 0 };
    let base = Spa::new(1 << 30).unwrap();
    let table = [RstEntry::new(base, 5), RstEntry::ABSENT, RstEntry::new(base, 64)];
    let rmp = SegmentedRmp::new(0x10_0000, RmpCfg::segmented(36), limits, &table).unwrap();
    let coverage = Coverage::of(&RmpGeometry::Segmented(rmp)).unwrap();
    let geometry = RmpGeometry::Segmented(rmp);
    for gib in (0..200).filter_map(Region::new) {
        let page = gib.first_pfn();
        assert_eq!(coverage.covers(page), geometry.covers(page), "{gib}");
    }
    assert_eq!(covered(&coverage, 6), [ALL, ALL, ALL, ALL, ALL, 0]);
}

#[test]
fn ranges_of_pages() {
    let range = PfnRange::new(Pfn::new(5).unwrap(), 3);
    let holds: Vec<u64> = (0..10).filter(|&n| range.contains(Pfn::new(n).unwrap())).collect();
    assert_eq!((holds, range.end()), (vec![5, 6, 7], 8));
    for (start, bytes, first, pages) in
        [(0x1000, 0x1000, 1, 1), (0x1FFF, 2, 1, 2), (0x1001, 0xFFF, 1, 1), (0x3000, 0, 3, 0)]
    {
        let touched = PfnRange::touching(SpaRange { start: Spa::new(start).unwrap(), bytes });
        assert_eq!((touched.first.get(), touched.pages), (first, pages), "{start:#x} {bytes:#x}");
    }
}

#[test]
fn what_is_covered_without_a_gap_ends_at_the_first_gap() {
    let gib = |number: u32| Region::new(number).unwrap().first_pfn();
    let segments = |covered: &[u32]| {
        let none = Coverage::segmented(32).unwrap();
        covered.iter().enumerate().fold(none, |all, (index, &gib)| all.with_segment(index, gib))
    };
    for (covered, expected) in [
        (&[0, 4][..], [4, 5, 6, 7].as_slice()),
        (&[2, 4], &[0, 1, 4, 5, 6, 7]),
        (&[2, 2], &[0, 1, 4, 5]),
        (&[4, 1, 4], &[0, 1, 2, 3, 4, 8, 9, 10, 11]),
    ] {
        let coverage = segments(covered);
        let found: Vec<u32> = (0..16).filter(|&number| coverage.covers(gib(number))).collect();
        assert_eq!(found, expected, "{covered:?}");
    }
}
