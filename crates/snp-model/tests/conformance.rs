//! The numbered cases of spec/snp-arch.md section 7 that this part of the model answers for:
//! RMPUPDATE and PSMASH (1-26), host and ordinary-guest accesses (41-45), registers (87-89).

#![allow(clippy::unwrap_used)] // Helpers unwrap what the tests state.

use snp_defs::{
    msr, Gpa, NestedFaultCode, PageFaultCode, PageSize, PageState, Pfn, Region, RmpEntry,
    RmpOperand, RmpStatus, RmpoptBase, RmpoptFunction, Spa, PAGES_PER_REGION,
};
use snp_model::{
    Access, AccessKind, Accessor, CoreId, Coverage, Exception, Fault, InitError, InitLayout,
    Issuer, MsrWrite, PfnRange, StdMachine, Stop, UnitConfig, Verdict,
};

const CORE: CoreId = CoreId(0);
const BLOCK: u64 = 2 << 20;
/// First page of the RMP's tail block in the host below: the RMP ends in the middle of it.
const RMP_TAIL: u64 = 1 << 30;

fn spa(bytes: u64) -> Spa {
    Spa::new(bytes).unwrap()
}

fn gpa(bytes: u64) -> Gpa {
    Gpa::new(bytes).unwrap()
}

fn small(at: u64, asid: u32) -> RmpOperand {
    RmpOperand::private(gpa(at), PageSize::Size4K, asid, false)
}

fn large(at: u64, asid: u32) -> RmpOperand {
    RmpOperand::private(gpa(at), PageSize::Size2M, asid, false)
}

const SHARED: RmpOperand = RmpOperand::shared(PageSize::Size4K);
const SHARED_2M: RmpOperand = RmpOperand::shared(PageSize::Size2M);

/// 3 GiB of RAM covered, region 2 HV-fixed, an RMP of one block and a half from 1 GiB on.
fn host() -> StdMachine {
    let coverage = Coverage::segmented(30).unwrap().with_regions(3);
    let host = StdMachine::on_heap(2, 4, coverage, UnitConfig::default());
    host.enable_snp();
    let pages = |at: u64, count| PfnRange::new(spa(at).pfn(), count);
    let layout = InitLayout {
        dram: &[pages(0, 2 * PAGES_PER_REGION)],
        rmp: &[pages(RMP_TAIL, 256)],
        ..InitLayout::default()
    };
    host.snp_init(&layout).unwrap();
    host.reserve_pages(pages(0, 512 * 8)).unwrap();
    host.reserve_pages(pages(RMP_TAIL, 512 * 2)).unwrap();
    host
}

trait Instructions {
    fn update(&self, at: u64, operand: &RmpOperand) -> RmpStatus;
    fn smash(&self, at: u64) -> RmpStatus;
    fn state(&self, at: u64) -> PageState;
    fn count(&self, at: u64) -> u16;
    fn write(&self, accessor: Accessor, at: u64, size: PageSize) -> Verdict;
}

impl Instructions for StdMachine {
    fn update(&self, at: u64, operand: &RmpOperand) -> RmpStatus {
        self.rmpupdate(CORE, spa(at), operand).unwrap().status
    }
    fn smash(&self, at: u64) -> RmpStatus {
        self.psmash(CORE, spa(at)).unwrap().status
    }
    fn state(&self, at: u64) -> PageState {
        self.page_state(spa(at).pfn())
    }
    fn count(&self, at: u64) -> u16 {
        self.rmp().entry(spa(at).pfn()).unwrap().subpage_count()
    }
    fn write(&self, accessor: Accessor, at: u64, size: PageSize) -> Verdict {
        self.check_write(CORE, accessor, spa(at), size).verdict
    }
}

/// PVALIDATE and what the firmware wrote, as bits.
fn validate(host: &StdMachine, at: u64) {
    let edit = |entry: RmpEntry| RmpEntry { hi: 0x1F1F, ..entry.with_validated(true) };
    assert_eq!(host.edit_entry(spa(at).pfn(), edit), Ok(true));
}

#[test]
fn cases_1_to_6_bad_input() {
    let host = host();
    assert_eq!(host.update(0x800, &small(0, 1)), RmpStatus::FAIL_INPUT, "case 1");
    let beyond = 3 << 30;
    assert_eq!(host.update(beyond, &small(0, 1)), RmpStatus::FAIL_INPUT, "case 2");
    assert_eq!(host.state(beyond), PageState::Default, "case 2");
    assert_eq!(host.write(Accessor::HostKernel, beyond, PageSize::Size2M), Verdict::Allowed);
    assert_eq!(host.update(0x1000, &large(0, 1)), RmpStatus::FAIL_INPUT, "case 3");
    assert_eq!(host.update(BLOCK, &large(0x1000, 1)), RmpStatus::FAIL_INPUT, "case 4");
    let immutable = RmpOperand { immutable: 1, ..SHARED };
    assert_eq!(host.update(BLOCK, &immutable), RmpStatus::FAIL_INPUT, "case 5");
    let owned = RmpOperand { asid: 5, ..SHARED };
    assert_eq!(host.update(BLOCK, &owned), RmpStatus::FAIL_INPUT, "case 6");
    assert_eq!(host.state(BLOCK), PageState::Hypervisor);
}

#[test]
fn cases_7_to_10_pages_that_are_not_the_hypervisors_to_change() {
    let host = host();
    let fixed = 2 << 30;
    assert_eq!(host.state(fixed), PageState::HvFixed);
    assert_eq!(host.update(fixed, &small(0, 1)), RmpStatus::FAIL_PERMISSION, "case 7");
    assert_eq!(host.update(BLOCK, &RmpOperand::firmware()), RmpStatus::SUCCESS);
    assert_eq!(host.state(BLOCK), PageState::Firmware);
    assert_eq!(host.update(BLOCK, &SHARED), RmpStatus::FAIL_PERMISSION, "case 8, unlocked");
    for state in [
        RmpEntry::FIRMWARE,
        RmpEntry::FIRMWARE_IOMMU,
        RmpEntry::FIRMWARE.with_vmsa(true),
        RmpEntry::FIRMWARE.with_gpa_page(1 << 36 | 9),
    ] {
        host.edit_entry(spa(BLOCK).pfn(), |_| state).unwrap();
        let before = host.state(BLOCK);
        assert_eq!(host.update(BLOCK, &SHARED), RmpStatus::FAIL_INUSE, "case 8, {before}");
        assert_eq!(host.state(BLOCK), before);
    }
    let guest = Issuer { asid: 7 };
    let update = host.rmpupdate_by(guest, CORE, spa(0), &small(0, 7)).unwrap();
    assert_eq!(update.status, RmpStatus::FAIL_PERMISSION, "case 9");
    assert_eq!(host.update(0, &small(0, 7)), RmpStatus::SUCCESS);
    host.edit_entry(Pfn::new(0).unwrap(), |e| e.with_vmsa(true).with_lock(true)).unwrap();
    assert_eq!(host.update(0, &SHARED), RmpStatus::FAIL_INUSE, "case 10");
}

#[test]
fn cases_11_to_14_overlaps() {
    let host = host();
    assert_eq!(host.update(0, &large(0, 1)), RmpStatus::SUCCESS);
    assert_eq!(host.update(0x5000, &small(0, 1)), RmpStatus::FAIL_OVERLAP, "case 11");
    for _ in 0..100 {
        assert_eq!(host.update(0x5000, &SHARED), RmpStatus::FAIL_OVERLAP, "case 14");
    }
    assert_eq!(host.update(BLOCK + 0x3000, &small(0, 1)), RmpStatus::SUCCESS);
    assert_eq!(host.count(BLOCK), 1);
    assert_eq!(host.update(BLOCK, &large(0, 1)), RmpStatus::FAIL_OVERLAP, "case 12");
    assert_eq!(host.update(BLOCK + 0x3000, &SHARED), RmpStatus::SUCCESS);
    assert_eq!(host.count(BLOCK), 0);
    assert_eq!(host.update(BLOCK, &large(0, 1)), RmpStatus::SUCCESS, "case 13");
    assert_eq!(host.rmp().assigned_to(1), 1024);
}

#[test]
fn cases_15_to_18_what_a_change_of_ownership_resets() {
    let host = host();
    let entry = |at| host.rmp().entry(spa(at).pfn()).unwrap();
    assert_eq!(host.update(0, &small(0x4000, 1)), RmpStatus::SUCCESS);
    validate(&host, 0);
    assert_eq!(host.state(0), PageState::GuestValid);
    assert_eq!(host.update(0, &small(0x5000, 1)), RmpStatus::SUCCESS);
    assert_eq!((host.state(0), entry(0).hi), (PageState::GuestInvalid, 0x1F), "case 15");
    validate(&host, 0);
    host.edit_entry(spa(0).pfn(), |e| e.with_vmsa(true)).unwrap();
    assert_eq!(host.update(0, &small(0x5000, 2)), RmpStatus::SUCCESS);
    assert!(!entry(0).validated() && !entry(0).vmsa() && entry(0).hi == 0x1F, "case 16");
    assert_eq!((host.rmp().assigned_to(1), host.rmp().assigned_to(2)), (0, 1));

    assert_eq!(host.update(BLOCK, &large(0, 1)), RmpStatus::SUCCESS);
    validate(&host, BLOCK);
    assert_eq!(host.state(BLOCK + 0x7000), PageState::GuestValid);
    assert_eq!(host.update(BLOCK, &SHARED_2M), RmpStatus::SUCCESS);
    for page in 0..512 {
        assert_eq!(host.state(BLOCK + page * 4096), PageState::Hypervisor, "case 17");
    }
    validate(&host, 0);
    let pre_swap = RmpOperand { immutable: 1, ..small(0x5000, 2) };
    assert_eq!(host.update(0, &pre_swap), RmpStatus::SUCCESS);
    assert_eq!((host.state(0), entry(0).hi), (PageState::PreSwap, 0x1F1F), "case 18");
}

#[test]
fn cases_19_and_20_the_rmp_itself_and_its_tail() {
    let host = host();
    assert_eq!(host.rmp().entry(spa(RMP_TAIL).pfn()).unwrap().lo, 0x8000_0000_0000_07fd);
    for operand in [SHARED, small(0, 1), SHARED_2M, large(0, 1)] {
        assert_eq!(host.update(RMP_TAIL, &operand), RmpStatus::FAIL_INUSE, "case 19");
    }
    let behind = RMP_TAIL + 256 * 4096;
    assert_eq!(host.state(behind), PageState::Hypervisor);
    assert_eq!(host.update(behind, &small(0, 1)), RmpStatus::SUCCESS, "case 20");
    assert_eq!(host.count(RMP_TAIL), 256);
}

#[test]
fn cases_21_to_25_psmash() {
    let host = host();
    assert_eq!(host.smash(0x1000), RmpStatus::FAIL_INPUT, "case 21");
    assert_eq!(host.update(BLOCK, &small(0, 3)), RmpStatus::SUCCESS);
    assert_eq!(host.smash(BLOCK), RmpStatus::FAIL_BADADDR, "case 22");
    assert_eq!(host.update(0, &large(BLOCK, 3)), RmpStatus::SUCCESS);
    host.edit_entry(spa(0).pfn(), |e| e.with_lock(true)).unwrap();
    assert_eq!(host.smash(0), RmpStatus::FAIL_INUSE, "case 23");
    host.edit_entry(spa(0).pfn(), |e| e.with_lock(false)).unwrap();
    validate(&host, 0);
    assert_eq!(host.smash(0), RmpStatus::SUCCESS, "case 24");
    for page in 0..512 {
        let entry = host.rmp().entry(spa(page * 4096).pfn()).unwrap();
        assert_eq!(entry.gpa_page(), 512 + page, "case 24");
        assert_eq!((entry.asid(), entry.hi), (3, 0x1F1F), "case 24");
        assert_eq!(PageState::of(entry), PageState::GuestValid, "case 24");
    }
    assert_eq!(host.count(0), 511);
    assert_eq!(host.update(0x9000, &SHARED), RmpStatus::SUCCESS, "case 25");
    assert_eq!((host.count(0), host.rmp().assigned_to(3)), (510, 512), "case 25");
}

#[test]
fn case_26_the_edge_of_coverage() {
    let host = StdMachine::on_heap(1, 4, Coverage::contiguous(1024), UnitConfig::default());
    host.enable_snp();
    host.reserve(Region::ZERO).unwrap();
    assert_eq!(host.update(1023 * 4096, &small(0, 1)), RmpStatus::SUCCESS);
    assert_eq!(host.update(1024 * 4096, &small(0, 1)), RmpStatus::FAIL_INPUT);
    let base = RmpoptBase::enabled_at(Region::ZERO).raw();
    assert_eq!(host.wrmsr_rmpopt_base(CORE, base), Err(Exception::GeneralProtection));
}

#[test]
fn cases_41_to_45_accesses() {
    let host = host();
    assert_eq!(host.update(0x3000, &small(0, 1)), RmpStatus::SUCCESS);
    validate(&host, 0x3000);
    let refused = Verdict::PageFault(PageFaultCode(0x8000_0003));
    assert_eq!(host.write(Accessor::HostKernel, 0x3000, PageSize::Size4K), refused, "case 41");
    for kind in [AccessKind::Read, AccessKind::Fetch] {
        let free = Access { verdict: Verdict::Allowed, skipped_by_rmpopt: false, lines: 0 };
        let access =
            host.check_access(CORE, Accessor::HostKernel, kind, spa(0x3000), PageSize::Size2M);
        assert_eq!(access, free, "case 42");
    }
    assert_eq!(host.write(Accessor::HostKernel, 0x9000, PageSize::Size2M), refused, "case 43");
    let allowed = host.write(Accessor::HostKernel, 0x9000, PageSize::Size4K);
    assert_eq!(allowed, Verdict::Allowed, "case 43");
    let walk = host.write(Accessor::HostKernel, RMP_TAIL, PageSize::Size4K);
    assert_eq!(walk, refused, "case 44");
    let Verdict::NestedPageFault(code) = host.write(Accessor::Guest, 0x3000, PageSize::Size4K)
    else {
        panic!("case 45");
    };
    assert!(code.rmp() && code.write() && code.final_address() && !code.table_walk(), "case 45");
    assert_eq!(code.0 & NestedFaultCode::RMP, 1 << 31);
    host.reset_core(CoreId(1));
    let other = host.check_write(CoreId(1), Accessor::HostKernel, spa(0x3000), PageSize::Size4K);
    assert_eq!(other.verdict, Verdict::Allowed, "a core without SNP checks nothing");
}

#[test]
fn cases_87_to_89_registers_and_coverage() {
    let host = host();
    assert_eq!(host.wrmsr(CORE, msr::RMP_CFG, 0), Err(Exception::GeneralProtection));
    assert_eq!(host.wrmsr(CORE, msr::SYSCFG, 0), Ok(MsrWrite::Ignored));
    assert_eq!(host.wrmsr(CORE, 0x250, 0), Err(Exception::GeneralProtection));
    assert!(host.unit().snp_en(CORE));
    let segments = Coverage::segmented(31).unwrap().with_segment(0, 9).with_segment(2, 1);
    let covered = |gib: u64| segments.covers(spa(gib << 30).pfn());
    assert!(covered(0) && covered(1) && covered(4), "case 88");
    assert!(!covered(2) && !covered(5), "cases 88 and 89: clamped to the segment");
}

#[test]
fn snp_init_needs_snp_everywhere_and_once() {
    let host = host();
    let again = host.snp_init(&InitLayout::default());
    assert_eq!(again, Err(InitError::AlreadyInitialised));
    host.snp_shutdown(true, &[]);
    assert_eq!(host.rmpread(CORE, spa(0)), Err(Exception::UndefinedOpcode));
    host.enable_snp_on(CoreId(1));
    assert_eq!(host.snp_init(&InitLayout::default()), Err(InitError::SnpOff(CORE)));
}

#[test]
fn instructions_never_allocate() {
    let host = host();
    let at = spa(600 << 20);
    let region = Region::ZERO;
    assert_eq!(host.rmpupdate(CORE, at, &small(0, 1)), Err(Stop::NotReserved(region)));
    assert_eq!(host.rmpupdate(CORE, at, &SHARED).unwrap().status, RmpStatus::SUCCESS);
    host.reserve(region).unwrap();
    assert_eq!(host.rmpupdate(CORE, at, &small(0, 1)).unwrap().status, RmpStatus::SUCCESS);
}

#[test]
fn a_range_is_so_many_instructions() {
    let host = host();
    let done = host.rmpupdate_range(CORE, spa(0), 700, &small(0x10_0000, 4)).unwrap();
    assert_eq!((done.done, done.clearing, done.status), (700, 700, RmpStatus::SUCCESS));
    let last = host.rmp().entry(Pfn::new(699).unwrap()).unwrap();
    assert_eq!(last.gpa_page(), 0x100 + 699);
    assert_eq!(host.rmp().assigned_to(4), 700);
    let end = host.rmpupdate_range(CORE, spa((3 << 30) - 4096), 9, &SHARED).unwrap();
    assert_eq!((end.done, end.status), (0, RmpStatus::FAIL_PERMISSION));
}

#[test]
fn an_update_between_the_halves_of_a_verify_wins() {
    let host = host();
    host.wrmsr_rmpopt_base(CORE, RmpoptBase::enabled_at(Region::ZERO).raw()).unwrap();
    let (unit, rmp) = (host.unit(), host.rmp());
    let begin = || unit.begin(CORE, 0, RmpoptFunction::Verify).unwrap();

    let mut begun = begin();
    assert_eq!(unit.look(&mut begun, rmp).map(|scan| scan.assigned), Some(false));
    assert_eq!(host.update(0, &small(0, 1)), RmpStatus::SUCCESS);
    let outcome = unit.finish(begun, rmp);
    assert!(!outcome.cf && outcome.raced);
    assert_eq!(host.update(0, &SHARED), RmpStatus::SUCCESS);

    // An update under way when the verify starts, and one that ends before it does.
    let token = unit.begin_update(Region::ZERO);
    let begun = begin();
    unit.end_update(token, false);
    assert!(unit.finish(begun, rmp).raced);
    assert!(host.rmpopt(CORE, 0, RmpoptFunction::Verify).unwrap().cf);
    let token = unit.begin_update(Region::ZERO);
    assert!(!unit.is_optimised(CORE, Region::ZERO), "not while an update is under way");
    unit.end_update(token, false);
    assert!(unit.is_optimised(CORE, Region::ZERO), "an update that failed changes nothing");

    // The same race with the defect seeded.
    unit.faults().seed(Fault::BlindPublish, 1);
    let mut begun = begin();
    unit.look(&mut begun, rmp);
    let cached = begun.is_cached();
    assert_eq!(host.update(0, &small(0, 1)), RmpStatus::SUCCESS);
    assert!(unit.finish(begun, rmp).cf && cached);
    assert!(
        host.check_write(CORE, Accessor::HostKernel, spa(0), PageSize::Size4K).skipped_by_rmpopt
    );
}
