//! Address types: units, edges, and what is shown.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use snp_defs::{
    Gpa, PageSize, Pfn, Region, Spa, LARGE_PAGES_PER_REGION, LARGE_PAGE_BYTES,
    PAGES_PER_LARGE_PAGE, PAGES_PER_REGION, PAGE_BYTES, REGION_BYTES,
};

const LIMIT: u64 = 1 << 52;

fn spa(bytes: u64) -> Spa {
    Spa::new(bytes).unwrap()
}

fn gpa(bytes: u64) -> Gpa {
    Gpa::new(bytes).unwrap()
}

#[test]
fn units_are_those_of_the_manual() {
    assert_eq!([PAGE_BYTES, LARGE_PAGE_BYTES, REGION_BYTES], [0x1000, 0x20_0000, 0x4000_0000]);
    assert_eq!(
        [PAGES_PER_LARGE_PAGE, PAGES_PER_REGION, LARGE_PAGES_PER_REGION],
        [512, 262_144, 512]
    );
    for (size, pages, bytes, bit, name) in
        [(PageSize::Size4K, 1, 4096, 0, "4K"), (PageSize::Size2M, 512, 2 << 20, 1, "2M")]
    {
        assert_eq!((size.pages(), size.bytes(), size.bit()), (pages, bytes, bit));
        assert_eq!((PageSize::from_bit(bit), size.to_string().as_str()), (size, name));
    }
    assert_eq!(PageSize::from_bit(2), PageSize::Size2M, "any nonzero value");
}

#[test]
fn alignment_is_that_of_the_size() {
    for (bytes, small, large) in [
        (0, true, true),
        (1, false, false),
        (0xFFF, false, false),
        (0x1000, true, false),
        (0x1F_F000, true, false),
        (0x20_0000, true, true),
        (0x20_0800, false, false),
        (0x20_1000, true, false),
        (0x40_0000, true, true),
        (LIMIT - 0x1000, true, false),
        (LIMIT - 0x20_0000, true, true),
    ] {
        for (size, aligned) in [(PageSize::Size4K, small), (PageSize::Size2M, large)] {
            assert_eq!(spa(bytes).is_aligned(size), aligned, "{bytes:#x} {size}");
            assert_eq!(gpa(bytes).is_aligned(size), aligned, "{bytes:#x} {size}");
        }
    }
}

#[test]
fn the_c_bit_is_stripped_wherever_it_is() {
    for c_bit in [47, 51, 52, 63] {
        assert_eq!(Spa::from_register(1 << c_bit | 0x7000, c_bit), Some(spa(0x7000)));
        assert_eq!(Spa::from_register(0x7000, c_bit), Some(spa(0x7000)));
    }
    assert_eq!(Spa::from_register(1 << 47, 51), Some(spa(1 << 47)), "another bit stays");
    assert_eq!(Spa::from_register(0x7000, 64), Some(spa(0x7000)), "no such bit");
    assert_eq!(Spa::from_register(u64::MAX, 64), None);
}

#[test]
fn sums_end_at_the_last_address() {
    assert_eq!(spa(0x1000).checked_add(0x234), Some(spa(0x1234)));
    assert_eq!(gpa(0x1000).checked_add(0x234), Some(gpa(0x1234)));
    assert_eq!(spa(LIMIT - 2).checked_add(1), Some(spa(LIMIT - 1)));
    assert_eq!(spa(LIMIT - 1).checked_add(1), None);
    assert_eq!(gpa(LIMIT - 1).checked_add(1), None);
    assert_eq!(spa(1).checked_add(u64::MAX), None);
    assert_eq!(gpa(1).checked_add(u64::MAX), None);
    let last = Pfn::new((1 << 40) - 1).unwrap();
    assert_eq!(Pfn::new(3).unwrap().checked_add(4), Pfn::new(7));
    assert_eq!((last.checked_add(1), last.checked_add(u64::MAX)), (None, None));
    let last = Region::new(Region::LIMIT - 1).unwrap();
    assert_eq!(Region::new(3).unwrap().checked_add(4), Region::new(7));
    assert_eq!((last.checked_add(1), last.checked_add(u32::MAX)), (None, None));
    assert_eq!(Gpa::new(LIMIT), None);
    assert_eq!((Spa::ZERO.get(), Gpa::ZERO.get(), Region::ZERO.get()), (0, 0, 0));
    assert_eq!(Gpa::VMSA.get(), (1 << 48) - 4096);
}

#[test]
fn one_address_is_one_page_and_one_region() {
    let address = spa(7 * REGION_BYTES + 5 * LARGE_PAGE_BYTES + 3 * PAGE_BYTES + 1);
    let pfn = address.pfn();
    assert_eq!(pfn.get(), 7 * 262_144 + 5 * 512 + 3);
    assert_eq!(pfn.spa().get(), address.get() - 1);
    assert_eq!((pfn.head().get(), pfn.is_head()), (7 * 262_144 + 5 * 512, false));
    assert!(pfn.head().is_head());
    assert_eq!(pfn.index_in_region(), 5 * 512 + 3);
    let region = address.region();
    assert_eq!((region.get(), region.index(), pfn.region()), (7, 7, region));
    assert_eq!(region.base().get(), 7 << 30);
    assert_eq!(region.first_pfn().get(), 7 << 18);
    let top = spa(LIMIT - 1);
    assert_eq!((top.pfn().get(), top.region().get()), ((1 << 40) - 1, Region::LIMIT - 1));
}

#[test]
fn shown_as_people_write_them() {
    assert_eq!(format!("{} {:?}", spa(0x1f), spa(0x1f)), "0x1f Spa(0x1f)");
    assert_eq!(format!("{} {:?}", gpa(0x1f), gpa(0x1f)), "0x1f Gpa(0x1f)");
    let (pfn, region) = (Pfn::new(31).unwrap(), Region::new(31).unwrap());
    assert_eq!(format!("{pfn} {pfn:?}"), "0x1f Pfn(0x1f)");
    assert_eq!(format!("{region} {region:?}"), "31 Region(31)");
}
