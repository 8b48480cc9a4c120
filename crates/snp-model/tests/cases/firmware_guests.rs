//! Cases 66 to 78: a guest's context, launch and ASID.

use snp_defs::{FirmwareStatus as Status, PageFaultCode, PageState, RmpEntry, RmpOperand};
use snp_model::{
    Answer, FirmwareChoices, GuestPolicy, GuestState, IdBlock, LaunchOrder, LaunchPage, PageType,
    Verdict,
};

use super::support::*;

#[test]
pub(super) fn case_066_context_from_a_hypervisors_page() {
    let host = host();
    let create = |at| host.firmware.gctx_create(&host.machine, spa(at));
    assert_eq!(create(0), INVALID_STATE);
    assert_eq!(create(0x1008), Err(Status::INVALID_ADDRESS));
    assert_eq!(create(FIXED), INVALID_CONFIG, "no RAM");
    assert_eq!(host.state(0), PageState::Hypervisor);
}

#[test]
pub(super) fn case_067_context_from_a_large_page() {
    let host = host();
    host.give(BLOCK, &RmpOperand::private(gpa(0), M2, 0, true));
    assert_eq!(host.state(BLOCK), PageState::Firmware);
    assert_eq!(host.firmware.gctx_create(&host.machine, spa(BLOCK)), INVALID_SIZE);
}

#[test]
pub(super) fn case_068_context_twice() {
    let host = host();
    let gctx = host.context(0x1000);
    assert_eq!(host.firmware.gctx_create(&host.machine, gctx), INVALID_STATE);
    assert_eq!(host.state(0x1000), PageState::Context);
    assert_eq!(host.firmware.guest_state(&host.machine, gctx), Some((GuestState::Init, 0)));
}

#[test]
pub(super) fn case_069_launch_without_a_context() {
    let host = host();
    host.give(0x1000, &RmpOperand::firmware());
    let start = |gctx, policy| host.firmware.launch_start(&host.machine, gctx, policy);
    let policy = GuestPolicy::default();
    assert_eq!(start(spa(0x1000), policy), Err(Status::INVALID_GUEST));
    let gctx = host.context(0x2000);
    assert_eq!(start(gctx, GuestPolicy(0xFF << 8)), Err(Status::POLICY_FAILURE));
    assert_eq!(start(gctx, policy), Ok(()));
    assert_eq!(start(gctx, policy), Err(Status::INVALID_GUEST_STATE));
}

const ORDERS: [LaunchOrder; 2] = [LaunchOrder::SIZE_FIRST, LaunchOrder::GUEST_FIRST];

fn ordered(launch_update: LaunchOrder) -> Host {
    let firmware = FirmwareChoices { launch_update, ..FirmwareChoices::DEFAULT };
    Setup { firmware, ..Setup::default() }.host()
}

fn launch(host: &Host, gctx: snp_defs::Spa, page: &LaunchPage) -> Answer {
    host.firmware.launch_update(&host.machine, gctx, page)
}

#[test]
pub(super) fn case_070_launch_update_of_a_mutable_page() {
    for order in ORDERS {
        let host = ordered(order);
        let gctx = host.launching(0x1000, 3);
        host.give(0x2000, &private(0x2000, 3));
        assert_eq!(launch(&host, gctx, &LaunchPage::normal(spa(0x2000))), INVALID_STATE);
        assert_eq!(host.state(0x2000), PageState::GuestInvalid);
        assert_eq!(launch(&host, gctx, &LaunchPage::normal(spa(UNCOVERED))), INVALID_STATE);
    }
}

#[test]
fn launch_update_of_a_pre_guest_page() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    host.give(0x2000, &pre_guest(0x7000, 3));
    let page = LaunchPage {
        page_type: PageType::Vmsa,
        rights: [0b11, 0b1, 0],
        ..LaunchPage::normal(spa(0x2000))
    };
    let reserved = LaunchPage { reserved: 1, ..page };
    assert_eq!(launch(&host, gctx, &reserved), Err(Status::INVALID_PARAM));
    assert_eq!(launch(&host, gctx, &page), Ok(()));
    let entry = host.entry(0x2000);
    assert_eq!(host.state(0x2000), PageState::GuestValid);
    assert!(entry.vmsa() && !entry.lock());
    assert_eq!((entry.hi, entry.gpa_page()), (0x1_031F, 7));
    host.give(BLOCK, &RmpOperand::private(gpa(BLOCK), M2, 3, true));
    let large = LaunchPage { size: M2, ..LaunchPage::normal(spa(BLOCK)) };
    let small = LaunchPage::normal(spa(BLOCK));
    assert_eq!(launch(&host, gctx, &small), INVALID_SIZE);
    assert_eq!(launch(&host, gctx, &large), Ok(()));
    assert_eq!(host.state(BLOCK + 0x5000), PageState::GuestValid);
}

#[test]
pub(super) fn case_071_launch_update_of_another_guests_page() {
    for order in ORDERS {
        let host = ordered(order);
        let gctx = host.launching(0x1000, 3);
        host.give(0x2000, &pre_guest(0x2000, 4));
        let answer = launch(&host, gctx, &LaunchPage::normal(spa(0x2000)));
        assert_eq!(answer, Err(Status::INVALID_PAGE_OWNER));
        assert_eq!(host.state(0x2000), PageState::PreGuest);
    }
}

fn finish(host: &Host, gctx: snp_defs::Spa) -> Answer {
    host.firmware.launch_finish(&host.machine, gctx, false, None)
}

#[test]
pub(super) fn case_072_launch_update_after_the_end() {
    for order in ORDERS {
        let host = ordered(order);
        let gctx = host.launching(0x1000, 3);
        assert_eq!(finish(&host, gctx), Ok(()));
        host.give(0x2000, &pre_guest(0x2000, 3));
        let answer = launch(&host, gctx, &LaunchPage::normal(spa(0x2000)));
        assert_eq!(answer, Err(Status::INVALID_GUEST_STATE));
        assert_eq!(host.state(0x2000), PageState::PreGuest);
    }
}

#[test]
pub(super) fn case_073_large_save_area() {
    for order in ORDERS {
        let host = ordered(order);
        let gctx = host.launching(0x1000, 3);
        host.give(BLOCK, &RmpOperand::private(gpa(0), M2, 3, true));
        for page_type in [PageType::Vmsa, PageType::Secrets, PageType::Cpuid { allowed: true }] {
            let page = LaunchPage { size: M2, page_type, ..LaunchPage::normal(spa(BLOCK)) };
            assert_eq!(launch(&host, gctx, &page), INVALID_SIZE);
        }
        assert_eq!(host.state(BLOCK), PageState::PreGuest);
        // Size and state wrong at once: the tables differ.
        host.give(2 * BLOCK, &private_2m(0, 4));
        let page = LaunchPage::normal(spa(2 * BLOCK));
        let expected = if order == LaunchOrder::SIZE_FIRST { INVALID_SIZE } else { INVALID_STATE };
        assert_eq!(launch(&host, gctx, &page), expected);
    }
}

#[test]
pub(super) fn case_074_cpuid_page_that_is_not_allowed() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    host.give(0x2000, &pre_guest(0x2000, 3));
    let page = |allowed| LaunchPage {
        page_type: PageType::Cpuid { allowed },
        ..LaunchPage::normal(spa(0x2000))
    };
    assert_eq!(launch(&host, gctx, &page(false)), Err(Status::INVALID_PARAM));
    assert_eq!(host.state(0x2000), PageState::PreGuest);
    assert_eq!(launch(&host, gctx, &page(true)), Ok(()));
}

#[test]
pub(super) fn case_075_launch_finish_twice() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    host.give(0x2000, &pre_guest(0xFFFF_FFFF_F000, 3));
    let vmsa = LaunchPage { page_type: PageType::Vmsa, ..LaunchPage::normal(spa(0x2000)) };
    assert_eq!(launch(&host, gctx, &vmsa), Ok(()));
    assert_eq!(finish(&host, gctx), Ok(()));
    assert_eq!(finish(&host, gctx), Err(Status::INVALID_GUEST_STATE));
    let entry = host.entry(0x2000);
    assert_eq!(entry, RmpEntry { lo: 0x6018_ffff_ffff_f001, hi: 0x1f }, "as dumped, but its ASID");
    let resync = host.host_write(0x2000, K4);
    assert_eq!(resync, Verdict::PageFault(PageFaultCode(0x8000_0003)));
}

#[test]
fn launch_finish_with_an_id_block() {
    let host = host();
    let good = IdBlock {
        digest_matches: true,
        policy: GuestPolicy::default(),
        algorithm_known: true,
        signature_good: true,
    };
    let inactive = host.context(0x3000);
    let policy = GuestPolicy::default();
    let end = |gctx, imi, block| host.firmware.launch_finish(&host.machine, gctx, imi, block);
    assert_eq!(end(inactive, false, None), Err(Status::INVALID_GUEST_STATE));
    assert_eq!(host.firmware.launch_start(&host.machine, inactive, policy), Ok(()));
    assert_eq!(end(inactive, false, None), Err(Status::INACTIVE));
    assert_eq!(end(spa(0x9000), false, None), Err(Status::INVALID_GUEST));
    let gctx = host.launching(0x1000, 3);
    assert_eq!(end(gctx, true, None), Err(Status::INVALID_GUEST_STATE));
    // Each line spoils one thing more that is looked at earlier.
    let signature = IdBlock { signature_good: false, ..good };
    let algorithm = IdBlock { algorithm_known: false, ..signature };
    let other = IdBlock { policy: GuestPolicy(1), ..algorithm };
    let digest = IdBlock { digest_matches: false, ..other };
    for (block, code) in [
        (signature, Status::BAD_SIGNATURE),
        (algorithm, Status::INVALID_PARAM),
        (other, Status::POLICY_FAILURE),
        (digest, Status::BAD_MEASUREMENT),
    ] {
        assert_eq!(end(gctx, false, Some(block)), Err(code));
    }
    assert_eq!(end(gctx, false, Some(good)), Ok(()));
    assert_eq!(host.firmware.guest_state(&host.machine, gctx), Some((GuestState::Running, 3)));
}

fn activate(host: &Host, gctx: snp_defs::Spa, asid: u32) -> Answer {
    host.firmware.activate(&host.machine, gctx, asid)
}

fn started(host: &Host, at: u64) -> snp_defs::Spa {
    let gctx = host.context(at);
    let policy = GuestPolicy::default();
    assert_eq!(host.firmware.launch_start(&host.machine, gctx, policy), Ok(()));
    gctx
}

#[test]
pub(super) fn case_076_activate_an_asid_with_pages() {
    let host = host();
    let gctx = started(&host, 0x1000);
    host.give(0x2000, &private(0, 3));
    assert_eq!(activate(&host, gctx, 3), INVALID_CONFIG);
    host.give(0x2000, &SHARED);
    assert_eq!(activate(&host, gctx, 3), Ok(()));
}

#[test]
pub(super) fn case_077_activate_an_asid_of_another_guest() {
    let host = host();
    host.launching(0x1000, 3);
    let gctx = started(&host, 0x2000);
    assert_eq!(activate(&host, gctx, 3), Err(Status::ASID_OWNED));
    assert_eq!(activate(&host, gctx, 0), Err(Status::INVALID_ASID));
    assert_eq!(activate(&host, gctx, 16), Err(Status::INVALID_ASID));
    assert_eq!(activate(&host, gctx, 4), Ok(()));
    assert_eq!(activate(&host, gctx, 5), Err(Status::ACTIVE));
    let early = host.context(0x3000);
    assert_eq!(activate(&host, early, 6), Err(Status::INVALID_GUEST_STATE));
    assert_eq!(activate(&host, spa(0x9000), 6), Err(Status::INVALID_GUEST));
}

#[test]
pub(super) fn case_078_activate_a_dirty_asid() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    let next = started(&host, 0x2000);
    assert_eq!(host.firmware.decommission(&host.machine, gctx), Ok(()));
    assert_eq!(host.state(0x1000), PageState::Firmware);
    let again = host.firmware.decommission(&host.machine, gctx);
    assert_eq!(again, Err(Status::INVALID_GUEST));
    assert_eq!(activate(&host, next, 3), Err(Status::DFFLUSH_REQUIRED));
    let flush = || host.firmware.df_flush(&host.machine);
    assert_eq!(flush(), Err(Status::WBINVD_REQUIRED));
    host.firmware.wbinvd(CORE);
    assert_eq!(flush(), Err(Status::WBINVD_REQUIRED), "on all cores");
    host.wbinvd_everywhere();
    assert_eq!(activate(&host, next, 3), Err(Status::DFFLUSH_REQUIRED));
    assert_eq!(flush(), Ok(()));
    assert_eq!(activate(&host, next, 3), Ok(()));
}
