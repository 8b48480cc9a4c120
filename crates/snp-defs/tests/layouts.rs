//! Edges of the RMP's layouts, and of what is counted.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use snp_defs::{
    ContiguousRmp, Counter, Counters, Fn80000025, Pfn, RmpCfg, RmpGeometry, RmpOperand, RstEntry,
    SegmentedRmp, Spa, SpaRange, BOOKKEEPING_BYTES, RST_BYTES,
};

const TURIN: Fn80000025 = Fn80000025 { eax: 0xAA4, ebx: 0x410, ecx: 0, edx: 0 };

fn spa(bytes: u64) -> Spa {
    Spa::new(bytes).unwrap()
}

fn segmented(limits: Fn80000025, table: &[RstEntry]) -> SegmentedRmp<'_> {
    SegmentedRmp::new(0x10_0000, RmpCfg::segmented(36), limits, table).unwrap()
}

#[test]
fn either_layout_answers_through_the_common_type() {
    let flat = ContiguousRmp::covering(0x10_0000, 4 << 30).unwrap();
    let table = [RstEntry::new(spa(1 << 30), 64)];
    let segments = segmented(TURIN, &table);
    for (geometry, first, covered) in [
        (RmpGeometry::Contiguous(flat), 0x10_4000, 1 << 20),
        (RmpGeometry::Segmented(segments), 1 << 30, 64 << 18),
    ] {
        let (last, past) = (Pfn::new(covered - 1).unwrap(), Pfn::new(covered).unwrap());
        assert_eq!(geometry.entry_spa(Pfn::default()), Some(spa(first)));
        assert_eq!(geometry.entry_spa(last), Some(spa(first + (covered - 1) * 16)));
        assert_eq!(geometry.entry_spa(past), None);
        assert!(geometry.covers(last) && !geometry.covers(past));
        assert_eq!(geometry.linux_check(past), Ok(()));
        assert!(geometry.linux_check(past.checked_add(1).unwrap()).is_err());
    }
}

#[test]
fn linux_wants_one_entry_more_for_one_frame_more() {
    let rmp = ContiguousRmp::covering(0x10_0000, 4 << 30).unwrap();
    assert_eq!(rmp.linux_required_bytes(Pfn::new(1 << 20).unwrap()), rmp.bytes());
    assert_eq!(rmp.linux_check(Pfn::new(1 << 20).unwrap()), Ok(()));
    let refusal = rmp.linux_check(Pfn::new((1 << 20) + 1).unwrap()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "RMP size 0x1004000 does not cover RAM, expected 0x1004010 or more"
    );
}

#[test]
fn a_segments_rmp_ends_where_the_address_space_does() {
    let table = [RstEntry::new(spa((1 << 46) - (256 << 20)), 64)];
    let rmp = segmented(TURIN, &table);
    assert_eq!(rmp.snp_enable_check(46), Ok(()), "ends just below 2^46");
    let error = rmp.snp_enable_check(45).unwrap_err();
    assert_eq!(error.to_string(), "segment RMP ends at 0x3fffffffffff, expected below 2^45");
    assert_eq!(rmp.snp_enable_check(64), Ok(()), "no limit");
}

#[test]
fn holes_and_ends_of_segments() {
    let table = [RstEntry::new(spa(1 << 30), 64), RstEntry::new(spa(2 << 30), 2)];
    let rmp = segmented(TURIN, &table);
    let frame = |gib: u64| Pfn::new(gib << 18).unwrap();
    assert_eq!(rmp.first_hole(frame(66)), None);
    assert_eq!(rmp.first_hole(frame(67)), Some(frame(66)));
    // A segment that begins just where RAM ends is not asked for.
    assert_eq!(rmp.linux_check(frame(64)), Ok(()));
    assert_eq!(
        rmp.linux_check(frame(67)).unwrap_err().to_string(),
        "RMP segments end at 0x1080000000, expected RAM's end 0x10c0000000 or more"
    );
    // ... nor does it make up for one below that is too short.
    let short = [RstEntry::new(spa(1 << 30), 60), RstEntry::new(spa(2 << 30), 64)];
    assert!(segmented(TURIN, &short).linux_check(frame(64)).is_err());
    let own: Vec<_> = (0..4).map(|n| rmp.own_range(n)).collect();
    let range = |start, bytes| Some(Some(SpaRange { start: spa(start), bytes }));
    assert_eq!(own[0], range(0x10_0000, BOOKKEEPING_BYTES + RST_BYTES));
    assert_eq!(own[1], range(1 << 30, 256 << 20));
    assert_eq!(own[2], range(2 << 30, 8 << 20));
    assert_eq!(own[3], None);
    assert_eq!(segmented(TURIN, &[RstEntry::ABSENT]).own_range(1), Some(None));
    assert_eq!(format!("{:?}", RstEntry(0x4000_0040)), "RstEntry(0x0000000040000040)");
}

#[test]
fn a_hard_limit_of_all_entries_is_none() {
    for (cached, hard, limit) in
        [(511, true, 511), (512, true, 512), (600, true, 512), (3, false, 512)]
    {
        let leaf = Fn80000025 { ebx: cached | u32::from(hard) << 10, ..TURIN };
        assert_eq!(segmented(leaf, &[]).limit(), limit, "{cached} {hard}");
    }
}

#[test]
fn rmpreads_bit_and_the_counters_text() {
    assert_eq!(RmpOperand::BLOCK_HAS_ASSIGNED, 2);
    assert_eq!(format!("{:>6}", Counter::Ipis), "  ipis");
    let (mut one, mut two) = (Counters::default(), Counters::new());
    one.add(Counter::Ipis, 2);
    two.add(Counter::Ipis, 3);
    two.add(Counter::Passes, 5);
    one.merge(&two);
    assert_eq!((one.get(Counter::Ipis), one.get(Counter::Passes)), (5, 5));
    assert_eq!(one.get(Counter::Wakeups), 0);
    assert_eq!(one.to_string().lines().count(), Counter::COUNT);
    assert!(one.to_string().contains("\nipis 5\n"));
}
