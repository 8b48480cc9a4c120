//! Cases 87 to 90 and 100: registers, coverage, a second kernel, stale translations.

use snp_defs::{msr, PageState, RmpStatus};
use snp_model::{Coverage, Exception, GuestAccess, MsrWrite, Verdict};

use super::support::*;

#[test]
pub(super) fn case_087_frozen_registers() {
    let host = host();
    let wrmsr = |register| host.machine.wrmsr(CORE, register, 0);
    assert_eq!(wrmsr(msr::RMP_CFG), Err(Exception::GeneralProtection));
    assert_eq!(wrmsr(msr::SYSCFG), Ok(MsrWrite::Ignored));
    assert!(host.machine.unit().snp_en(CORE));
    // Fixed MTRRs, IORRs, TOP_MEM, TOP_MEM2, SMM_KEY.
    let (iorr, top_mem) = (0xC001_0016..=0xC001_0019, [0xC001_001A, 0xC001_001D, 0xC001_0119]);
    let fixed = [0x250, 0x258, 0x259, 0x268, 0x26F];
    for frozen in fixed.into_iter().chain(iorr).chain(top_mem) {
        assert_eq!(wrmsr(frozen), Err(Exception::GeneralProtection), "{frozen:#x}");
    }
    let cold = Setup::default().cold();
    cold.machine.reset_core(CORE);
    assert_eq!(cold.machine.wrmsr(CORE, 0x250, 0), Ok(MsrWrite::NotModelled), "SNP is off");
}

/// Two segments of 2 GiB with a hole between.
fn segments() -> Coverage {
    Coverage::segmented(31).unwrap().with_segment(0, 9).with_segment(2, 1)
}

#[test]
pub(super) fn case_088_a_hole_in_coverage() {
    let covered = |gib: u64| segments().covers(pfn(gib << 30));
    assert!(covered(0) && covered(4) && !covered(2) && !covered(3) && !covered(5));
    let machine =
        snp_model::StdMachine::on_heap(1, 6, segments(), snp_model::UnitConfig::default());
    machine.enable_snp();
    let hole = 2 << 30;
    assert_eq!(machine.page_state(pfn(hole)), PageState::Default);
    let write = machine.check_write(CORE, snp_model::Accessor::HostKernel, spa(hole), M2);
    assert_eq!(write.verdict, Verdict::Allowed);
    let update = machine.rmpupdate(CORE, spa(hole), &private(0, 1)).unwrap();
    assert_eq!(update.status, RmpStatus::FAIL_INPUT);
}

#[test]
pub(super) fn case_089_a_segment_that_covers_too_much() {
    assert!(segments().covers(pfn(1 << 30)));
    assert!(!segments().covers(pfn(2 << 30)), "9 GiB in a segment of 2");
}

#[test]
pub(super) fn case_090_a_second_kernel() {
    let host = host();
    host.valid(0, 0x4000, 1);
    assert_eq!(host.machine.clear_rmp(), Ok(false), "SNP is on");
    assert_eq!(host.state(0), PageState::GuestValid);
}

#[test]
pub(super) fn case_100_nothing_outlives_an_update() {
    let host = host();
    let walk = host.valid(0, 0x4000, 1);
    assert_eq!(host.access(cpu(1, 0), GuestAccess::Write, &walk), Ok(()));
    host.give(0, &private(0x4000, 2));
    fault(host.access(cpu(1, 0), GuestAccess::Write, &walk));
    host.give(0, &SHARED);
    assert_eq!(host.host_write(0, K4), Verdict::Allowed);
    host.give(0, &private(0x4000, 1));
    assert!(matches!(host.host_write(0, K4), Verdict::PageFault(_)));
}
