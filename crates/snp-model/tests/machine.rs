//! What is the model's own: reservation, ranges of updates, races with a verify. The numbered cases
//! are in `conformance`.

#![allow(clippy::unwrap_used)] // Helpers unwrap what the tests state.

use snp_defs::{
    Gpa, PageSize, Pfn, Region, RmpOperand, RmpStatus, RmpoptBase, RmpoptFunction, Spa,
    PAGES_PER_REGION,
};
use snp_model::{
    Accessor, CoreId, Coverage, Exception, Fault, InitError, InitLayout, PfnRange, StdMachine,
    Stop, UnitConfig,
};

const CORE: CoreId = CoreId(0);
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

const SHARED: RmpOperand = RmpOperand::shared(PageSize::Size4K);

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
}

impl Instructions for StdMachine {
    fn update(&self, at: u64, operand: &RmpOperand) -> RmpStatus {
        self.rmpupdate(CORE, spa(at), operand).unwrap().status
    }
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
