//! One page's way through a small host.

use snp_defs::{Gpa, PageFaultCode, PageSize, Pfn, Region, RmpOperand, RmpoptBase, RmpoptFunction};
use snp_model::{
    Accessor, CoreId, Coverage, Exception, InitLayout, PfnRange, StdMachine, Stop, UnitConfig,
    Verdict,
};

const CORE: CoreId = CoreId(0);

#[test]
fn an_assigned_page_takes_the_bit_and_its_return_gives_it_back() {
    let coverage = Coverage::segmented(36).unwrap().with_regions(4);
    let host = StdMachine::on_heap(2, 4, coverage, UnitConfig::default());
    let region = Region::new(1).unwrap();
    let rax = region.base().get();
    assert_eq!(host.rmpopt(CORE, rax, RmpoptFunction::Verify), Err(Exception::UndefinedOpcode));
    host.enable_snp();
    let dram = [PfnRange::new(Pfn::new(0).unwrap(), 4 << 18)];
    host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }).unwrap();
    let base = RmpoptBase::enabled_at(Region::ZERO).raw();
    host.wrmsr_rmpopt_base(CORE, base).unwrap();

    let clean = host.rmpopt(CORE, rax, RmpoptFunction::Verify).unwrap();
    assert!(clean.cf && clean.lines == 512);
    let page = region.base();
    let write = |size| host.check_write(CORE, Accessor::HostKernel, page, size);
    assert!(write(PageSize::Size4K).skipped_by_rmpopt);

    let private = RmpOperand::private(Gpa::ZERO, PageSize::Size4K, 5, false);
    assert_eq!(host.rmpupdate(CORE, page, &private), Err(Stop::NotReserved(region)));
    assert!(write(PageSize::Size4K).skipped_by_rmpopt);
    host.reserve_pages(PfnRange::new(page.pfn(), 1)).unwrap();
    assert!(host.rmpupdate(CORE, page, &private).unwrap().status.is_success());
    assert_eq!(write(PageSize::Size4K).verdict, Verdict::PageFault(PageFaultCode(0x8000_0003)));
    let dirty = host.rmpopt(CORE, rax, RmpoptFunction::Verify).unwrap();
    assert!(!dirty.cf && dirty.lines == 1 && !dirty.cached);

    let shared = RmpOperand::shared(PageSize::Size4K);
    assert!(host.rmpupdate(CORE, page, &shared).unwrap().status.is_success());
    assert!(!host.rmpopt(CORE, rax, RmpoptFunction::Report).unwrap().cf);
    assert!(host.rmpopt(CORE, rax, RmpoptFunction::Verify).unwrap().cf);
    host.wrmsr_rmpopt_base(CoreId(1), base).unwrap();
    let follower = host.rmpopt(CoreId(1), rax, RmpoptFunction::Verify).unwrap();
    assert!(follower.cf && follower.cached && follower.lines == 0);
}
