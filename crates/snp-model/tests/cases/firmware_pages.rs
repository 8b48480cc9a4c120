//! Cases 79 to 82: pages that the firmware gives back, joins or fixes.

use snp_defs::{
    FirmwareStatus as Status, PageState, Region, RmpEntry, RmpOperand, RmpStatus, RmpoptBase,
    RmpoptFunction,
};
use snp_model::{
    FirmwareChoices, PfnRange, RmpAddress, ScanCache, ShutdownEx, UnitConfig, Verdict,
};

use super::support::*;

#[test]
pub(super) fn case_079_reclaim_a_context() {
    let host = host();
    host.context(0x1000);
    assert_eq!(host.reclaim(0x1000, K4), INVALID_STATE);
    for at in [IOMMU, UNCOVERED, UNCOVERED - BLOCK] {
        assert_eq!(host.reclaim(at, K4), INVALID_STATE);
    }
    host.valid(0x2000, 0x2000, 3);
    let before = host.entry(0x2000);
    assert_eq!(host.reclaim(0x2000, K4), Ok(()));
    assert_eq!(host.entry(0x2000), before);
    assert_eq!(host.reclaim(0x5000, K4), Ok(()), "a page that is the hypervisor's");
}

#[test]
fn what_reclaim_makes_of_a_page() {
    let host = host();
    host.give(0x1000, &RmpOperand::firmware());
    host.give(0x2000, &pre_guest(0x2000, 3));
    host.valid(0x3000, 0x3000, 3);
    host.give(0x3000, &pre_guest(0x3000, 3));
    host.give(0x4000, &RmpOperand::firmware());
    host.edit(0x4000, |_| RmpEntry::FIRMWARE.with_gpa_page(1 << 36 | 9));
    for (at, from, to) in [
        (0x1000, PageState::Firmware, PageState::Reclaim),
        (0x2000, PageState::PreGuest, PageState::GuestInvalid),
        (0x3000, PageState::PreSwap, PageState::GuestValid),
        (0x4000, PageState::Metadata, PageState::Reclaim),
    ] {
        assert_eq!(host.state(at), from);
        assert_eq!(host.reclaim(at, K4), Ok(()));
        assert_eq!((host.state(at), host.entry(at).lock()), (to, false));
        assert_eq!(host.update(at, &SHARED), RmpStatus::SUCCESS);
    }
    host.give(0x4000, &RmpOperand::firmware());
    host.edit(0x4000, |_| RmpEntry::FIRMWARE.with_gpa_page(1 << 36 | 9));
    assert_eq!(host.reclaim(0x4000, K4), Ok(()));
    assert_eq!(host.entry(0x4000).gpa_page(), 9, "only the substate goes");
}

#[test]
pub(super) fn case_080_reclaim_with_another_size() {
    let host = host();
    host.give(BLOCK, &RmpOperand::private(gpa(0), M2, 0, true));
    assert_eq!(host.reclaim(BLOCK, K4), INVALID_SIZE);
    assert_eq!(host.reclaim(0, M2), INVALID_SIZE, "even a page that is mutable");
    assert_eq!(host.reclaim(BLOCK + 0x1000, M2), Err(Status::INVALID_ADDRESS));
    let odd = host.firmware.page_reclaim(&host.machine, BLOCK | 8);
    assert_eq!(odd, Err(Status::INVALID_PARAM));
    assert_eq!(host.state(BLOCK), PageState::Firmware);
    assert_eq!(host.reclaim(BLOCK, M2), Ok(()));
    assert_eq!(host.state(BLOCK), PageState::Reclaim);
}

#[test]
pub(super) fn case_081_reclaim_inside_the_rmp() {
    for (rmp_address, code) in [
        (RmpAddress::InvalidParam, Status::INVALID_PARAM),
        (RmpAddress::InvalidAddress, Status::INVALID_ADDRESS),
    ] {
        let firmware = FirmwareChoices { rmp_address, ..FirmwareChoices::DEFAULT };
        let host = Setup { firmware, ..Setup::default() }.host();
        let before = host.entry(RMP);
        assert_eq!(host.reclaim(RMP, K4), Err(code));
        assert_eq!(host.firmware.gctx_create(&host.machine, spa(RMP)), Err(code));
        assert_eq!(host.entry(RMP), before);
    }
}

/// 512 Pre-guest pages of guest 3 that can become one.
fn joinable(host: &Host, at: u64) {
    for page in 0..512 {
        host.give(at + page * 4096, &pre_guest(BLOCK + page * 4096, 3));
    }
}

#[test]
pub(super) fn case_082_unsmash() {
    let host = host();
    let unsmash = |at| host.firmware.page_unsmash(&host.machine, spa(at));
    joinable(&host, BLOCK);
    let odd = BLOCK + 200 * 4096;
    let small = host.entry(odd);
    for spoil in [
        RmpEntry { hi: 0x1F1F, ..small },
        small.with_gpa_page(7),
        small.with_validated(true),
        small.with_vmsa(true),
        small.with_immutable(false),
    ] {
        host.edit(odd, |_| spoil);
        assert_eq!(unsmash(BLOCK), INVALID_STATE, "{spoil:?}");
        assert_eq!((host.entry(odd), host.count(BLOCK)), (spoil, 511));
    }
    host.edit(odd, |_| small);
    assert_eq!(unsmash(BLOCK), Ok(()));
    let head = host.entry(BLOCK);
    assert_eq!((head.page_size(), head.subpage_count()), (M2, 0));
    assert_eq!((host.state(BLOCK), host.state(odd)), (PageState::PreGuest, PageState::PreGuest));
    let sub = host.entry(odd);
    assert!(sub.assigned() && sub.asid() == 0 && !sub.immutable() && !sub.lock());
    assert_eq!((sub.gpa_page(), sub.hi), (small.gpa_page(), small.hi), "stale");
    assert_eq!(host.machine.rmp().assigned_to(3), 512);
    assert_eq!(host.reclaim(BLOCK, M2), Ok(()));
    assert_eq!(host.smash(BLOCK), RmpStatus::SUCCESS);
    assert_eq!(host.entry(odd).gpa_page(), small.gpa_page());
}

#[test]
fn unsmash_where_it_cannot_be() {
    let host = host();
    let unsmash = |at| host.firmware.page_unsmash(&host.machine, spa(at));
    assert_eq!(unsmash(0x1000), Err(Status::INVALID_PARAM));
    assert_eq!(unsmash(RMP), Err(Status::INVALID_PARAM), "it starts in the RMP");
    assert_eq!(unsmash(UNCOVERED), INVALID_STATE);
    assert_eq!(unsmash(0), INVALID_STATE);
    // Guest address not 2M aligned.
    for page in 0..512 {
        host.give(BLOCK + page * 4096, &pre_guest(0x1000 + page * 4096, 3));
    }
    assert_eq!(unsmash(BLOCK), INVALID_STATE);
    // An RMP that starts inside the block.
    let cold = Setup::default().cold();
    let (dram, rmp) = ([pages(0, 2 << 18)], [pages(RMP + (1 << 20), 256)]);
    let mut init = snp_model::InitEx { init_rmp: true, ..snp_model::InitEx::default() };
    (init.layout.dram, init.layout.rmp) = (&dram, &rmp);
    assert_eq!(cold.firmware.snp_init_ex(&cold.machine, &init), Ok(()));
    let overlap = cold.firmware.page_unsmash(&cold.machine, spa(RMP));
    assert_eq!(overlap, Err(Status::INVALID_ADDRESS));
}

#[test]
fn set_state_makes_firmware_pages_hv_fixed() {
    let host = host();
    let set = |ranges: &[PfnRange]| host.firmware.page_set_state(&host.machine, ranges);
    assert_eq!(set(&[pages(BLOCK, 511)]), Err(Status::INVALID_PARAM));
    assert_eq!(set(&[pages(0x1000, 512)]), Err(Status::INVALID_PARAM));
    host.give(BLOCK, &RmpOperand::private(gpa(0), M2, 0, true));
    assert_eq!(set(&[pages(BLOCK, 1024)]), INVALID_STATE);
    assert_eq!(host.state(BLOCK), PageState::Firmware, "all are looked at first");
    for page in 0..512 {
        host.give(2 * BLOCK + page * 4096, &RmpOperand::firmware());
    }
    assert_eq!(set(&[pages(BLOCK, 512), pages(2 * BLOCK, 512)]), Ok(()));
    for at in [BLOCK, BLOCK + 0x3000, 2 * BLOCK, 3 * BLOCK - 4096] {
        assert_eq!(host.state(at), PageState::HvFixed);
        assert_eq!(host.update(at, &SHARED), RmpStatus::FAIL_PERMISSION);
    }
    assert_eq!(host.host_write(2 * BLOCK, M2), Verdict::Allowed);
}

/// An RMP that begins or ends inside a block whose other half is the firmware's too.
#[test]
fn set_state_leaves_the_rmp_alone() {
    for half in [0, 256] {
        let host = Setup::default().cold();
        let (dram, rmp) = ([pages(0, 2 << 18)], [pages(RMP + half * 4096, 256)]);
        let mut init = snp_model::InitEx { init_rmp: true, ..snp_model::InitEx::default() };
        (init.layout.dram, init.layout.rmp) = (&dram, &rmp);
        assert_eq!(host.firmware.snp_init_ex(&host.machine, &init), Ok(()));
        host.machine.reserve_pages(pages(RMP, 512)).unwrap();
        for page in 256 - half..512 - half {
            host.give(RMP + page * 4096, &RmpOperand::firmware());
        }
        let answer = host.firmware.page_set_state(&host.machine, &[pages(RMP, 512)]);
        assert_eq!(answer, Err(Status::INVALID_PARAM));
        for page in [0, 255, 256, 511] {
            assert_eq!(host.state(RMP + page * 4096), PageState::Firmware);
        }
    }
}

/// What the firmware changes of assignment or size, RMPOPT sees.
#[test]
fn rmpopt_follows_the_firmware() {
    let scan_cache = ScanCache { enabled: true, negative: true };
    let unit = UnitConfig { scan_cache, ..UnitConfig::default() };
    let host = Setup { unit, ..Setup::default() }.host();
    let base = RmpoptBase::enabled_at(Region::ZERO).raw();
    host.machine.wrmsr_rmpopt_base(CORE, base).unwrap();
    let verify = || host.machine.rmpopt(CORE, 0, RmpoptFunction::Verify).unwrap();
    assert!(verify().cf);
    host.give(BLOCK, &RmpOperand::private(gpa(0), M2, 0, true));
    assert!(!verify().cf && verify().cached);
    assert_eq!(host.firmware.page_set_state(&host.machine, &[pages(BLOCK, 512)]), Ok(()));
    assert!(verify().cf);
    joinable(&host, 2 * BLOCK);
    assert!(!verify().cf && verify().cached);
    assert_eq!(host.firmware.page_unsmash(&host.machine, spa(2 * BLOCK)), Ok(()));
    let again = verify();
    assert!(!again.cf && !again.cached, "a collapse clears what was known");
    // A new RMP, and a kept one, clear the tables.
    assert_eq!(host.reclaim(2 * BLOCK, M2), Ok(()));
    host.give(2 * BLOCK, &SHARED_2M);
    assert!(verify().cf);
    let end = ShutdownEx::default();
    assert_eq!(host.firmware.snp_shutdown_ex(&host.machine, &end), Ok(()));
    assert!(host.machine.unit().is_optimised(CORE, Region::ZERO));
    assert_eq!(host.init(&|init| init.init_rmp = false), Ok(()));
    assert!(!host.machine.unit().is_optimised(CORE, Region::ZERO));
}
