//! Law 1 with real threads: an updater, verifying cores and a writer of one core's MSR.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use snp_defs::{Gpa, PageSize, Pfn, Region, RmpOperand, RmpoptBase, RmpoptFunction};
use snp_model::{
    Accessor, BaseWrite, CoreId, Coverage, InitLayout, PfnRange, StdMachine, UnitConfig, Verdict,
};

const ROUNDS: u64 = 20_000;

#[test]
fn a_completed_assignment_is_never_skipped() {
    let coverage = Coverage::segmented(30).unwrap().with_regions(2);
    let config = UnitConfig { base_write: BaseWrite::Clears, ..UnitConfig::default() };
    let host = StdMachine::on_heap(3, 2, coverage, config);
    host.enable_snp();
    let dram = [PfnRange::new(Pfn::new(0).unwrap(), 2 << 18)];
    host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }).unwrap();
    let page = Pfn::new(511 * 512 + 77).unwrap();
    host.reserve_pages(PfnRange::new(page, 1)).unwrap();
    let base = RmpoptBase::enabled_at(Region::ZERO).raw();
    let (stop, optimised) = (AtomicBool::new(false), AtomicU64::new(0));
    for core in 0..3 {
        host.wrmsr_rmpopt_base(CoreId(core), base).unwrap();
    }
    std::thread::scope(|scope| {
        for core in [CoreId(0), CoreId(1)] {
            let (host, stop, optimised) = (&host, &stop, &optimised);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let outcome = host.rmpopt(core, 0, RmpoptFunction::Verify).unwrap();
                    optimised.fetch_add(u64::from(outcome.cf), Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            // Sibling threads of core 2: one moves the window, the other verifies (below).
            while !stop.load(Ordering::Relaxed) {
                host.wrmsr_rmpopt_base(CoreId(2), base | 1 << 30).unwrap();
                host.wrmsr_rmpopt_base(CoreId(2), base).unwrap();
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                host.rmpopt(CoreId(2), 0, RmpoptFunction::Verify).unwrap();
            }
        });
        let private = RmpOperand::private(Gpa::ZERO, PageSize::Size4K, 1, false);
        for _ in 0..ROUNDS {
            assert!(host.rmpupdate(CoreId(0), page.spa(), &private).unwrap().status.is_success());
            for core in (0..3).map(CoreId) {
                let write =
                    host.check_write(core, Accessor::HostKernel, page.spa(), PageSize::Size4K);
                let report = host.rmpopt(core, 0, RmpoptFunction::Report);
                if write.verdict == Verdict::Allowed || report.is_ok_and(|outcome| outcome.cf) {
                    stop.store(true, Ordering::Relaxed);
                    panic!("core {core} skips a check on an assigned page");
                }
            }
            let shared = RmpOperand::shared(PageSize::Size4K);
            assert!(host.rmpupdate(CoreId(0), page.spa(), &shared).unwrap().status.is_success());
            std::hint::black_box(host.unit().is_optimised(CoreId(0), Region::ZERO));
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} verifies found the region clean", optimised.load(Ordering::Relaxed));
    assert!(host.rmpopt(CoreId(0), 0, RmpoptFunction::Verify).unwrap().cf);
    assert_eq!(host.rmp().assigned_to(1), 0);
}
