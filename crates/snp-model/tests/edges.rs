//! Edges that the numbered cases leave out: registers, ranges, uniform memory, borrowed storage.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use snp_defs::{
    msr, Gpa, PageSize, PageState, Pfn, Region, RmpOperand, RmpStatus, RmpoptFunction, Spa, Syscfg,
    PAGES_PER_REGION,
};
use snp_model::{
    CoreId, Coverage, Exception, Fault, Fill, FirmwareStorage, HeapFirmwareStorage, HeapStorage,
    HeapUnitStorage, InitLayout, Machine, MsrWrite, PfnRange, RegionScan, Rmp, RmpoptUnit, Scan,
    StdMachine, Storage, UnitConfig, UnitStorage, UpdateOrder,
};

const CORE: CoreId = CoreId(0);
const OTHER: CoreId = CoreId(1);

fn machine(regions: u32) -> StdMachine {
    let coverage = Coverage::segmented(30).unwrap().with_regions(regions);
    StdMachine::on_heap(2, regions, coverage, UnitConfig::default())
}

fn up(regions: u32) -> StdMachine {
    let host = machine(regions);
    host.enable_snp();
    let dram = [PfnRange::new(Pfn::default(), u64::from(regions) * PAGES_PER_REGION)];
    host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }).unwrap();
    host
}

fn spa(at: u64) -> Spa {
    Spa::new(at).unwrap()
}

fn private(gpa: u64, asid: u32) -> RmpOperand {
    RmpOperand::private(Gpa::new(gpa).unwrap(), PageSize::Size4K, asid, false)
}

#[test]
fn registers_before_and_after_snp() {
    let host = machine(1);
    // Off: the memory map is software's, and only SNP_EN means something to the model.
    for register in [0x250, msr::RMP_CFG, 0xC001_001A, 0x10] {
        assert_eq!(host.wrmsr(CORE, register, 7), Ok(MsrWrite::NotModelled), "{register:#x}");
    }
    assert_eq!(host.wrmsr(CORE, msr::SYSCFG, 0), Ok(MsrWrite::Done));
    assert!(!host.unit().snp_en(CORE));
    assert_eq!(host.wrmsr(CORE, msr::SYSCFG, Syscfg::SNP_EN), Ok(MsrWrite::Done));
    assert!(host.unit().snp_en(CORE) && !host.unit().snp_en(OTHER), "on this core alone");
    // On: frozen.
    assert_eq!(host.wrmsr(CORE, msr::SYSCFG, 0), Ok(MsrWrite::Ignored));
    assert!(host.unit().snp_en(CORE));
    assert_eq!(host.wrmsr(CORE, msr::RMP_CFG, 7), Err(Exception::GeneralProtection));
    assert_eq!(host.wrmsr(OTHER, msr::RMP_CFG, 7), Ok(MsrWrite::NotModelled), "off there");
    assert_eq!(host.wrmsr(CORE, 0x10, 7), Ok(MsrWrite::NotModelled));
    assert_eq!(host.wrmsr(CORE, msr::RMPOPT_BASE, 1), Ok(MsrWrite::Done));
    assert_eq!(host.rdmsr_rmpopt_base(CORE), 1);
    assert_eq!(host.wrmsr(CORE, msr::RMPOPT_BASE, 2), Err(Exception::GeneralProtection));
    assert_eq!(host.wrmsr(OTHER, msr::RMPOPT_BASE, 1), Err(Exception::GeneralProtection));
}

#[test]
fn a_shutdown_takes_what_it_is_told() {
    for (x86, again) in [(false, true), (true, false)] {
        let host = up(1);
        assert!(host.iommu_snp() && host.is_initialised());
        host.snp_shutdown(x86, &[]);
        assert!(!host.iommu_snp() && !host.is_initialised());
        assert_eq!((host.unit().snp_en(CORE), host.unit().snp_en(OTHER)), (again, again));
        // A second one finds nothing.
        host.snp_shutdown(true, &[]);
        assert_eq!(host.unit().snp_en(CORE), again);
    }
}

#[test]
fn a_range_of_updates_counts_what_it_did() {
    let host = up(1);
    host.reserve(Region::ZERO).unwrap();
    let done = host.rmpupdate_range(CORE, spa(0x5000), 600, &private(0x9000, 3)).unwrap();
    assert_eq!((done.done, done.status, done.clearing), (600, RmpStatus::SUCCESS, 600));
    assert!(done.lines >= 600);
    for page in [0, 1, 599] {
        let entry = host.rmp().entry(Pfn::new(5 + page).unwrap()).unwrap();
        assert_eq!((entry.asid(), entry.gpa_page()), (3, 9 + page), "the guest address grows");
    }
    assert_eq!(host.rmp().assigned_to(3), 600);
    // The firmware's pages have no guest address that could grow.
    let firmware = host.rmpupdate_range(CORE, spa(0x40_0000), 3, &RmpOperand::firmware()).unwrap();
    assert_eq!(firmware.done, 3);
    assert_eq!(host.page_state(Pfn::new(0x402).unwrap()), PageState::Firmware);
    // It stops at the first that fails: page 0x400 is immutable.
    let cut = host.rmpupdate_range(CORE, spa(0x3F_E000), 9, &private(0, 3)).unwrap();
    assert_eq!((cut.done, cut.status), (2, RmpStatus::FAIL_PERMISSION));
    let shared = RmpOperand::shared(PageSize::Size4K);
    let free = host.rmpupdate_range(CORE, spa(0x80_0000), 2, &shared).unwrap();
    assert_eq!((free.done, free.clearing), (2, 0), "free before and after");
    // Past the end of memory there is no address.
    let last = spa((1 << 52) - 4096);
    assert_eq!(host.rmpupdate_range(CORE, last, 2, &shared).unwrap().done, 0);
    assert_eq!(host.rmpupdate_range(CORE, spa(0), 0, &shared).unwrap().done, 0);
}

#[test]
fn storage_may_be_borrowed() {
    let (rmp, unit) = (HeapStorage::new(2), HeapUnitStorage::new(2, 2));
    let coverage = Coverage::segmented(30).unwrap().with_regions(2);
    let order = UpdateOrder::SUGGESTED;
    let host = Machine::new(&rmp, coverage, &unit, UnitConfig::default(), order);
    host.enable_snp();
    let dram = [PfnRange::new(Pfn::default(), 2 * PAGES_PER_REGION)];
    host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }).unwrap();
    host.wrmsr_rmpopt_base(CORE, 1).unwrap();
    assert!(host.rmpopt(CORE, 0, RmpoptFunction::Verify).unwrap().cf);
    host.reserve_pages(PfnRange::new(Pfn::new(7).unwrap(), 1)).unwrap();
    host.rmpupdate(CORE, spa(0x7000), &private(0, 5)).unwrap();
    assert!(!host.rmpopt(CORE, 0, RmpoptFunction::Verify).unwrap().cf);
    let again = host.rmpopt(CORE, 1 << 30, RmpoptFunction::Verify).unwrap();
    assert!(again.cf && !again.cached);
    assert_eq!((host.unit().cores(), host.unit().regions()), (2, 2));
    assert_eq!(host.rmp().assigned_to(5), 1);
    let cached = host.rmpopt(CORE, 1 << 30, RmpoptFunction::Verify).unwrap();
    assert!(cached.cached, "the borrowed caches are used");
    fills_a_region(&rmp, Region::new(1).unwrap());
    assert!(
        Rmp::new(&rmp, Coverage::contiguous(2 * PAGES_PER_REGION), order)
            .scan(Region::new(1).unwrap())
            .assigned
    );
    assert_eq!(lengths(&unit), [2, 2, 2, 2048, 0]);
}

/// By value, so that a borrowed storage answers itself.
fn fills_a_region(storage: impl Storage, region: Region) {
    assert_eq!(storage.region_fill(region), Some(Fill::Hypervisor));
    storage.fill_region(region, Fill::Firmware).unwrap();
    assert_eq!(storage.region_fill(region), Some(Fill::Firmware));
}

fn lengths(unit: impl UnitStorage) -> [usize; 5] {
    let tables = [unit.table(CORE).len(), unit.table(CoreId(2)).len()];
    [unit.regions().len(), unit.caches().len(), unit.cores().len(), tables[0], tables[1]]
}

fn firmware_lengths(firmware: impl FirmwareStorage) -> [usize; 4] {
    let (cores, guests) = (firmware.cores().len(), firmware.guests().len());
    [cores, guests, firmware.asids().len(), firmware.memory().len()]
}

#[test]
fn a_firmwares_storage_may_be_borrowed() {
    let storage = HeapFirmwareStorage::new(2, 3, 16);
    assert_eq!(firmware_lengths(&storage), [2, 3, 16, 1024]);
}

#[test]
fn uniform_regions_are_scanned_without_memory() {
    let storage = HeapStorage::new(3);
    let region = |number| Region::new(number).unwrap();
    storage.fill_region(region(1), Fill::Firmware).unwrap();
    storage.fill_region(region(2), Fill::HvFixed).unwrap();
    let rmp = Rmp::new(
        storage,
        Coverage::contiguous(2 * PAGES_PER_REGION + 1024),
        UpdateOrder::SUGGESTED,
    );
    for (number, assigned, lines) in [(0, false, 512), (1, true, 1), (2, false, 2), (3, false, 0)] {
        assert_eq!(rmp.scan(region(number)), Scan { assigned, lines }, "region {number}");
    }
    // Firmware where nothing is covered is nothing.
    let storage = HeapStorage::new(3);
    storage.fill_region(region(2), Fill::Firmware).unwrap();
    let rmp = Rmp::new(storage, Coverage::contiguous(PAGES_PER_REGION), UpdateOrder::SUGGESTED);
    assert_eq!(rmp.scan(region(2)), Scan { assigned: false, lines: 0 });
    assert_eq!(rmp.entry(region(2).first_pfn()), None);
    assert_eq!(rmp.entry(region(3).first_pfn()), None);
}

#[test]
fn a_layout_lies_where_it_is_put() {
    let host = machine(3);
    host.enable_snp();
    let range = |first, pages| [PfnRange::new(Pfn::new(first).unwrap(), pages)];
    // Whole region, whole blocks and single pages; what no list names is HV-fixed.
    let (dram, rmp) = (range(0, PAGES_PER_REGION + 1024 + 3), range(512, 512 + 1));
    let fixed = range(PAGES_PER_REGION + 5, 1);
    let layout = InitLayout { dram: &dram, rmp: &rmp, hv_fixed: &fixed, ..InitLayout::default() };
    host.snp_init(&layout).unwrap();
    let state = |page| host.page_state(Pfn::new(page).unwrap());
    for (page, expected) in [
        (511, PageState::Hypervisor),
        (512, PageState::Firmware),
        (1023, PageState::Firmware),
        (1024, PageState::Firmware),
        (1025, PageState::Hypervisor),
        (PAGES_PER_REGION + 4, PageState::Hypervisor),
        (PAGES_PER_REGION + 5, PageState::HvFixed),
        (PAGES_PER_REGION + 6, PageState::Hypervisor),
        (PAGES_PER_REGION + 1026, PageState::Hypervisor),
        (PAGES_PER_REGION + 1027, PageState::HvFixed),
        (2 * PAGES_PER_REGION, PageState::HvFixed),
        (3 * PAGES_PER_REGION, PageState::Default),
    ] {
        assert_eq!(state(page), expected, "page {page}");
    }
    let head = |page| host.rmp().entry(Pfn::new(page).unwrap()).unwrap();
    assert_eq!((head(512).subpage_count(), head(1024).subpage_count()), (511, 0));
    assert_eq!(host.rmp().scan(Region::ZERO), Scan { assigned: true, lines: 2 });
}

#[test]
fn seeded_faults_are_used_up_one_by_one() {
    let unit = RmpoptUnit::new(HeapUnitStorage::new(1, 1), UnitConfig::default());
    unit.faults().seed(Fault::DropClear, 2);
    assert_eq!(unit.faults().left(Fault::DropClear), 2);
    assert_eq!(unit.faults().left(Fault::StaleCache), 0);
    for left in [1, 0, 0] {
        let token = unit.begin_update(Region::ZERO);
        unit.end_update(token, true);
        assert_eq!(unit.faults().left(Fault::DropClear), left);
    }
    // An update that clears nothing is no occasion.
    unit.faults().seed(Fault::DropClear, 1);
    let token = unit.begin_update(Region::ZERO);
    unit.end_update(token, false);
    assert_eq!(unit.faults().left(Fault::DropClear), 1);
    // Nor is a verify that finds nothing cached.
    let host = up(1);
    host.wrmsr_rmpopt_base(CORE, 1).unwrap();
    host.reserve(Region::ZERO).unwrap();
    host.rmpupdate(CORE, spa(0x7000), &private(0, 5)).unwrap();
    host.unit().faults().seed(Fault::StaleCache, 1);
    assert!(!host.rmpopt(CORE, 0, RmpoptFunction::Verify).unwrap().cf);
    assert_eq!(host.unit().faults().left(Fault::StaleCache), 1);
}

#[test]
fn a_bit_does_not_come_back_after_many_updates() {
    let host = up(1);
    host.wrmsr_rmpopt_base(CORE, 1).unwrap();
    assert!(host.rmpopt(CORE, 0, RmpoptFunction::Verify).unwrap().cf);
    for update in 1..=1 << 17 {
        let token = host.unit().begin_update(Region::ZERO);
        host.unit().end_update(token, true);
        assert!(!host.unit().is_optimised(CORE, Region::ZERO), "after {update} updates");
    }
}

#[test]
fn the_head_counts_the_others_alone() {
    let host = up(1);
    host.reserve(Region::ZERO).unwrap();
    let count = || host.rmp().entry(Pfn::new(512).unwrap()).unwrap().subpage_count();
    let give = |page: u64| host.rmpupdate(CORE, spa(page << 12), &private(0, 1)).unwrap().status;
    let take = |page: u64| {
        let shared = RmpOperand::shared(PageSize::Size4K);
        host.rmpupdate(CORE, spa(page << 12), &shared).unwrap().status
    };
    for (step, expected) in [(512, 0), (513, 1), (1023, 2), (513, 2)] {
        assert_eq!(give(step), RmpStatus::SUCCESS);
        assert_eq!(count(), expected, "after page {step}");
    }
    for (step, expected) in [(512, 2), (512, 2), (1023, 1), (513, 0), (513, 0)] {
        assert_eq!(take(step), RmpStatus::SUCCESS);
        assert_eq!(count(), expected, "without page {step}");
    }
    assert_eq!(host.rmp().assigned_to(1), 0);
}

#[test]
fn a_core_counts_its_regions() {
    let host = up(4);
    assert_eq!(host.unit().optimised_regions(CORE), 0);
    // The window begins at region 1.
    host.wrmsr_rmpopt_base(CORE, 1 << 30 | 1).unwrap();
    host.wrmsr_rmpopt_base(OTHER, 1).unwrap();
    for (number, counted) in [(1, 1), (3, 2), (3, 2), (0, 2), (2, 3)] {
        let _ = host.rmpopt(CORE, number << 30, RmpoptFunction::Verify).unwrap();
        assert_eq!(host.unit().optimised_regions(CORE), counted, "after region {number}");
        assert_eq!(host.unit().optimised_regions(OTHER), 0);
    }
}

#[test]
fn an_rmpopt_under_way_says_what_it_is_about() {
    let host = up(2);
    host.wrmsr_rmpopt_base(CORE, 1).unwrap();
    let begin = |at: u64, function| host.unit().begin(CORE, at, function).unwrap();
    let region = Region::new(1).unwrap();
    let first = begin(1 << 30 | 5, RmpoptFunction::Verify);
    assert_eq!((first.core(), first.region()), (CORE, Some(region)));
    assert_eq!((first.is_inside(), first.is_cached(), first.needs_scan()), (true, false, true));
    let text = format!("{first:?}");
    for part in ["Begun", "core: CoreId(0)", "function: Verify", "region: Some", "cached: false"] {
        assert!(text.contains(part), "{text}: {part}");
    }
    assert!(host.unit().finish(first, host.rmp()).cf);
    let second = begin(1 << 30, RmpoptFunction::Verify);
    assert_eq!((second.is_cached(), second.needs_scan()), (true, false));
    // Past the host's memory, but a region; past all addresses, none.
    let outside = begin(5 << 30, RmpoptFunction::Verify);
    assert_eq!((outside.region(), outside.is_inside()), (Region::new(5), false));
    assert!(!outside.needs_scan());
    let nowhere = begin(u64::MAX, RmpoptFunction::Verify);
    assert_eq!((nowhere.region(), nowhere.is_inside()), (None, false));
    for begun in [second, outside, nowhere] {
        let _ = host.unit().finish(begun, host.rmp());
    }
}
