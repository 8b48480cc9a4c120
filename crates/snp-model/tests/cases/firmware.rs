//! Cases 61 to 86: the firmware's commands.

use snp_defs::{
    FirmwareCommand, FirmwareStatus as Status, Hwcr, PageFaultCode, PageState, Region, RmpEntry,
    RmpOperand, RmpStatus, RmpoptBase, RmpoptFunction, Syscfg, VmHsavePa,
};
use snp_model::{
    Answer, ApiVersion, CoreId, FirmwareChoices, FirmwareStorage, GuestPolicy, GuestState, IdBlock,
    LaunchOrder, LaunchPage, PageType, PfnRange, RmpAddress, ScanCache, ShutdownEx, UnitConfig,
    Verdict,
};

use super::support::*;

const OTHER: usize = 1;
const INVALID_CONFIG: Answer = Err(Status::INVALID_CONFIG);
const INVALID_STATE: Answer = Err(Status::INVALID_PAGE_STATE);
const INVALID_SIZE: Answer = Err(Status::INVALID_PAGE_SIZE);

#[test]
pub(super) fn case_061_one_core_without_snp() {
    let host = Setup::default().cold();
    let regs = &host.firmware.storage().cores()[OTHER];
    for bit in [
        Syscfg::SNP_EN,
        Syscfg::VMPL_EN,
        Syscfg::MEM_ENCRYPTION_MOD_EN,
        Syscfg::MTRR_FIX_DRAM_MOD_EN,
    ] {
        regs.set_syscfg(Syscfg(Syscfg::SNP_INIT_NEEDS & !bit));
        assert_eq!(host.init(&|_| {}), INVALID_CONFIG);
    }
    regs.set_syscfg(Syscfg(Syscfg::SNP_INIT_NEEDS));
    regs.set_hwcr(Hwcr(0));
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG, "SMM is not locked");
    regs.set_hwcr(Hwcr(1));
    regs.set_others(7);
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG, "cores differ");
    regs.set_others(0);
    host.machine.reset_core(CoreId(1));
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG, "the machine's own core");
    host.machine.enable_snp_on(CoreId(1));
    assert_eq!(host.init(&|_| {}), Ok(()));
}

#[test]
pub(super) fn case_062_hsave_on_one_core() {
    let host = Setup::default().cold();
    let regs = &host.firmware.storage().cores()[OTHER];
    regs.set_hsave(VmHsavePa(0x9000));
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG);
    regs.set_hsave(VmHsavePa(0));
    assert_eq!(host.init(&|_| {}), Ok(()));
}

#[test]
fn an_rmp_that_does_not_fit() {
    let host = Setup::default().cold();
    for rmp in [pages(RMP + 0x1000, 256), pages(RMP, 255), pages(FIXED - (1 << 20), 512)] {
        let bounds = [rmp];
        let dram = [pages(0, 2 << 18)];
        let mut init = snp_model::InitEx { init_rmp: true, ..snp_model::InitEx::default() };
        (init.layout.dram, init.layout.rmp) = (&dram, &bounds);
        assert_eq!(host.firmware.snp_init_ex(&host.machine, &init), INVALID_CONFIG);
    }
    assert_eq!(host.init(&|init| init.reserved = 1), Err(Status::INVALID_PARAM));
}

#[test]
fn what_a_new_rmp_says() {
    let host = Setup::default().cold();
    let fixed = [pages(BLOCK, 3)];
    let listed: &[PfnRange] = Box::leak(Box::new(fixed));
    let init = host.init(&|init| {
        init.list_paddr_en = true;
        init.layout.hv_fixed = listed;
    });
    assert_eq!(init, Ok(()));
    for (at, state) in [
        (0, PageState::Hypervisor),
        (BLOCK, PageState::HvFixed),
        (BLOCK + 0x3000, PageState::Hypervisor),
        (RMP, PageState::Firmware),
        (RMP_TAIL, PageState::Hypervisor),
        (IOMMU, PageState::FirmwareIommu),
        (FIXED, PageState::HvFixed),
        (UNCOVERED, PageState::Default),
    ] {
        assert_eq!(host.state(at), state, "{at:#x}");
    }
}

#[test]
pub(super) fn case_064_no_new_rmp_the_first_time() {
    let host = Setup::default().cold();
    let keep = |host: &Host| host.init(&|init| init.init_rmp = false);
    assert_eq!(keep(&host), Err(Status::RMP_INIT_REQUIRED));
    let listed = host.init(&|init| (init.init_rmp, init.list_paddr_en) = (false, true));
    assert_eq!(listed, Err(Status::INVALID_PARAM));
    let host = Setup::default().host();
    host.valid(0, 0x4000, 1);
    let end = |iommu_snp_shutdown| {
        let end = ShutdownEx { iommu_snp_shutdown, ..ShutdownEx::default() };
        host.firmware.snp_shutdown_ex(&host.machine, &end)
    };
    assert_eq!(end(false), Ok(()));
    assert_eq!(keep(&host), Ok(()));
    assert_eq!(host.state(0), PageState::GuestValid, "the RMP was kept");
    assert_eq!(end(true), Ok(()));
    assert_eq!(keep(&host), Err(Status::RMP_INIT_REQUIRED));
}

#[test]
pub(super) fn case_065_init_twice() {
    let host = host();
    assert_eq!(host.init(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
    let cold = Setup::default().cold();
    cold.firmware.set_sev_initialised(true);
    assert_eq!(cold.init(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
    let early = cold.firmware.gctx_create(&cold.machine, spa(0));
    assert_eq!(early, Err(Status::INVALID_PLATFORM_STATE));
    assert_eq!(cold.reclaim(0, K4), Err(Status::INVALID_PLATFORM_STATE));
}

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
pub(super) fn case_083_shutdown_with_a_dirty_asid() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    assert_eq!(host.firmware.decommission(&host.machine, gctx), Ok(()));
    let shutdown = |change: &dyn Fn(&mut ShutdownEx<'_>)| {
        let mut operand = ShutdownEx::default();
        change(&mut operand);
        host.firmware.snp_shutdown_ex(&host.machine, &operand)
    };
    assert_eq!(shutdown(&|_| {}), Err(Status::DFFLUSH_REQUIRED));
    host.wbinvd_everywhere();
    assert_eq!(host.firmware.df_flush(&host.machine), Ok(()));
    host.firmware.set_sev_initialised(true);
    assert_eq!(shutdown(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
    host.firmware.set_sev_initialised(false);
    assert_eq!(shutdown(&|end| end.reserved = 1), Err(Status::INVALID_PARAM));
    assert_eq!(shutdown(&|end| end.x86_snp_shutdown = true), Err(Status::INVALID_PARAM));
    assert_eq!(shutdown(&|end| end.iommu_snp_shutdown = true), Ok(()));
    assert_eq!(shutdown(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
}

#[test]
pub(super) fn case_084_iommu_pages_after_a_shutdown() {
    for (minor, reclaim) in [(55, true), (53, true), (52, false)] {
        let version = ApiVersion { major: 1, minor };
        let firmware = FirmwareChoices { version, ..FirmwareChoices::DEFAULT };
        let host = Setup { firmware, ..Setup::default() }.host();
        let iommu = [pages(IOMMU, 3)];
        let end = ShutdownEx { iommu_snp_shutdown: true, iommu: &iommu, ..ShutdownEx::default() };
        assert_eq!(host.firmware.snp_shutdown_ex(&host.machine, &end), Ok(()));
        let expected = if reclaim { PageState::Reclaim } else { PageState::Hypervisor };
        for page in 0..3 {
            assert_eq!(host.state(IOMMU + page * 4096), expected);
            assert_eq!(host.update(IOMMU + page * 4096, &SHARED), RmpStatus::SUCCESS);
        }
        let large = host.host_write(IOMMU, M2);
        assert_eq!(large == Verdict::Allowed, reclaim, "the head's stale count faults");
        assert_eq!(host.host_write(IOMMU, K4), Verdict::Allowed);
        let device = host.machine.check_device_write(spa(RMP));
        assert_eq!(device, snp_model::DeviceVerdict::Allowed, "IOMMU checks are off");
    }
}

#[test]
fn shutdown_takes_snp_off_where_asked() {
    let host = host();
    let end =
        ShutdownEx { iommu_snp_shutdown: true, x86_snp_shutdown: true, ..ShutdownEx::default() };
    assert_eq!(host.firmware.snp_shutdown_ex(&host.machine, &end), Ok(()));
    assert!(host.machine.rmpread(CORE, spa(0)).is_err());
    assert!(!host.firmware.storage().cores()[OTHER].syscfg().snp_en());
}

#[test]
pub(super) fn case_085_status_into_a_page() {
    let host = host();
    let gctx = host.context(0x1000);
    host.give(0x2000, &RmpOperand::firmware());
    let platform = |at| host.firmware.platform_status(&host.machine, spa(at));
    let guest = |at| host.firmware.guest_status(&host.machine, gctx, spa(at));
    assert_eq!((platform(0x3000), guest(0x3000)), (INVALID_STATE, INVALID_STATE));
    assert_eq!((platform(0x2000), guest(0x2000)), (Ok(()), Ok(())));
    assert_eq!((platform(UNCOVERED), guest(UNCOVERED)), (Ok(()), Ok(())));
    let none = host.firmware.guest_status(&host.machine, spa(0x2000), spa(0x2000));
    assert_eq!(none, Err(Status::INVALID_GUEST));
    let cold = Setup::default().cold();
    assert_eq!(cold.firmware.platform_status(&cold.machine, spa(0x3000)), Ok(()));
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

#[test]
fn commands_that_are_not_modelled_say_so() {
    let host = host();
    for command in [
        FirmwareCommand::SNP_DBG_DECRYPT,
        FirmwareCommand::SNP_DBG_ENCRYPT,
        FirmwareCommand::SNP_PAGE_MOVE,
        FirmwareCommand::SNP_PAGE_SWAP_IN,
        FirmwareCommand::SNP_PAGE_SWAP_OUT,
        FirmwareCommand::SNP_PAGE_MD_INIT,
        FirmwareCommand::SNP_GUEST_REQUEST,
    ] {
        assert_eq!(host.firmware.not_modelled(command), Status::UNSUPPORTED);
    }
    assert_eq!(host.firmware.not_modelled(FirmwareCommand(0x77)), Status::INVALID_COMMAND);
}
