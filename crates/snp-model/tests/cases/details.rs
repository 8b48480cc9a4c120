//! What the numbered cases leave open: constants, single fields of a wrong operand, empty memory.

use snp_defs::{Gpa, PageState, Region, RmpOperand, RmpStatus, Spa, VmHsavePa, PAGES_PER_REGION};
use snp_model::{
    Defect, Exception, GuestPolicy, GuestStop, IdBlock, InitEx, InitLayout, LaunchPage,
    NeighbourRace, PageType, SaveArea, StdFirmware, StdMachine, UnitConfig, VmrunPages, VmrunStop,
};

use super::support::*;

#[test]
fn constants_of_the_interface() {
    assert_eq!(GuestPolicy::DEBUG, 0x8_0000, "bit 19 (SEV-SNP firmware ABI, guest policy)");
    assert_eq!(NeighbourRace::SPIN_LIMIT, 16_777_216);
}

#[test]
fn a_policy_is_kept_as_it_was_given() {
    let given = GuestPolicy(0x003F_0000 | GuestPolicy::DEBUG);
    for (policy, expected) in [
        (given, Ok(())),
        (GuestPolicy(given.0 | 1 << 40), Err(snp_defs::FirmwareStatus::POLICY_FAILURE)),
        (GuestPolicy(1), Err(snp_defs::FirmwareStatus::POLICY_FAILURE)),
    ] {
        let host = host();
        let gctx = host.context(0x1000);
        assert_eq!(host.firmware.launch_start(&host.machine, gctx, given), Ok(()));
        assert_eq!(host.firmware.activate(&host.machine, gctx, 3), Ok(()));
        let block =
            IdBlock { digest_matches: true, policy, algorithm_known: true, signature_good: true };
        let finish = host.firmware.launch_finish(&host.machine, gctx, false, Some(block));
        assert_eq!(finish, expected, "{policy:?}");
        // Another guest in the same slot begins without one.
        assert_eq!(host.firmware.decommission(&host.machine, gctx), Ok(()));
        let none = IdBlock { policy: GuestPolicy::default(), ..block };
        let next = host.context(0x2000);
        assert_eq!(host.firmware.launch_start(&host.machine, next, GuestPolicy::default()), Ok(()));
        assert_eq!(host.firmware.activate(&host.machine, next, 4), Ok(()));
        assert_eq!(host.firmware.launch_finish(&host.machine, next, false, Some(none)), Ok(()));
    }
}

#[test]
fn rights_of_a_launch_go_to_their_vmpl() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    host.give(0x5000, &pre_guest(0x7000, 3));
    let page = LaunchPage { rights: [0x01, 0x12, 0x07], ..LaunchPage::normal(spa(0x5000)) };
    assert_eq!(page.page_type, PageType::Normal);
    assert_eq!(host.firmware.launch_update(&host.machine, gctx, &page), Ok(()));
    let rights = host.entry(0x5000).hi;
    let of_vmpl = [0, 1, 2, 3].map(|vmpl| rights >> (8 * vmpl) & 0xFF);
    assert_eq!(of_vmpl, [ALL, 0x01, 0x12, 0x07].map(|right| right & 0xFF));
}

#[test]
fn a_context_at_address_zero_owns_its_asid() {
    let host = host();
    let first = host.launching(0, 3);
    let second = host.context(0x1000);
    let policy = GuestPolicy::default();
    assert_eq!(host.firmware.launch_start(&host.machine, second, policy), Ok(()));
    let activate = |gctx, asid| host.firmware.activate(&host.machine, gctx, asid);
    assert_eq!(activate(second, 3), Err(snp_defs::FirmwareStatus::ASID_OWNED));
    assert_eq!(activate(first, 3), Err(snp_defs::FirmwareStatus::ACTIVE), "its own");
}

#[test]
fn a_segmented_rmp_begins_with_its_tables() {
    // 16 KiB of bookkeeping and the segment table of 4 KiB (spec/snp-arch.md 2.3).
    for (pages_of_base, expected) in [(5, Ok(())), (4, INVALID_CONFIG), (6, INVALID_CONFIG)] {
        let host = Setup::default().cold();
        let rmp: &'static [_] = Box::leak(Box::new([pages(RMP, pages_of_base)]));
        assert_eq!(host.init(&|init| init.layout.rmp = rmp), expected, "{pages_of_base} pages");
    }
}

#[test]
fn addresses_reserved_on_every_host_are_hv_fixed() {
    const FIRST: u64 = 0xFD_0000_0000;
    let regions = 1020;
    let coverage = snp_model::Coverage::segmented(36).unwrap().with_regions(regions);
    let machine = StdMachine::on_heap(1, regions, coverage, UnitConfig::default());
    machine.enable_snp();
    let firmware = StdFirmware::on_heap(1, 4, snp_model::FirmwareChoices::DEFAULT);
    let dram = [pages(0, u64::from(regions) * PAGES_PER_REGION)];
    let layout = InitLayout { dram: &dram, ..InitLayout::default() };
    let init = InitEx { init_rmp: true, layout, ..InitEx::default() };
    assert_eq!(firmware.snp_init_ex(&machine, &init), Ok(()));
    for (at, expected) in [
        (FIRST - 0x1000, PageState::Hypervisor),
        (FIRST, PageState::HvFixed),
        (0xFD_FFFF_F000, PageState::HvFixed),
        (0xFE_0000_0000, PageState::Hypervisor),
    ] {
        assert_eq!(machine.page_state(pfn(at)), expected, "{at:#x}");
    }
}

#[test]
fn a_block_of_which_one_page_is_not_the_firmwares_stays() {
    for odd in [0, 1, 511] {
        let host = host();
        for page in (0..512).filter(|&page| page != odd) {
            host.give(BLOCK + page * 0x1000, &RmpOperand::firmware());
        }
        let set = || host.firmware.page_set_state(&host.machine, &[pages(BLOCK, 512)]);
        assert_eq!(set(), INVALID_STATE, "page {odd}");
        host.give(BLOCK + odd * 0x1000, &RmpOperand::firmware());
        assert_eq!(set(), Ok(()));
    }
}

#[test]
fn reclaim_by_the_defect_still_reclaims() {
    with_defect(Some(Defect::ReclaimSizeLast), || {
        let host = Setup::default().host();
        host.give(0x5000, &RmpOperand::firmware());
        assert_eq!(host.reclaim(0x5000, K4), Ok(()));
        assert_eq!(host.state(0x5000), PageState::Reclaim);
    });
}

#[test]
fn vmsave_faults_where_it_runs() {
    let host = host();
    host.give(0x5000, &private(0, 3));
    let check = |virtualised| host.machine.check_vmsave(CORE, spa(0x5000), virtualised);
    assert_eq!(check(false), Err(GuestStop::from(Exception::GeneralProtection)));
    assert!(fault(check(true)).rmp());
    assert_eq!(host.machine.check_vmsave(CORE, spa(0x6000), false), Ok(()));
}

#[test]
fn a_page_without_memory_cannot_be_marked() {
    let host = host();
    let far = RMP - BLOCK;
    let pages = VmrunPages {
        hsave: VmHsavePa(0x9000),
        vmcb: spa(far),
        avic: None,
        save_area: SaveArea::InVmcb,
    };
    let stop = host.machine.vmrun(CORE, &pages).unwrap_err();
    assert_eq!(stop, VmrunStop::NotReserved(Region::ZERO));
}

#[test]
fn each_wrong_field_of_an_operand_is_enough() {
    let host = host();
    let good = private(0x7000, 3);
    let top: Spa = spa((1 << 52) - 0x1000);
    let past_top = Gpa::new((1 << 51) + 0x1000).unwrap();
    for (what, at, operand) in [
        ("an address inside a page", spa(0x5008), good),
        ("a guest address inside a page", spa(0x5000), RmpOperand { gpa: 0x7008, ..good }),
        ("no guest address", spa(0x5000), RmpOperand { gpa: 1 << 52, ..good }),
        ("a guest address too high", spa(0x5000), RmpOperand { gpa: past_top.get(), ..good }),
        ("reserved bits", spa(0x5000), RmpOperand { reserved: 1, ..good }),
        ("an ASID without counter", spa(0x5000), RmpOperand { asid: 1024, ..good }),
        ("a free page with an owner", spa(0x5000), RmpOperand { assigned: 0, ..good }),
        ("a page without entry", top, good),
    ] {
        let status = host.machine.rmpupdate(CORE, at, &operand).unwrap().status;
        assert_eq!(status, RmpStatus::FAIL_INPUT, "{what}");
    }
    host.give(0x5000, &good);
    host.give(0x6000, &RmpOperand { asid: 1023, ..good });
}

#[test]
fn the_firmwares_pages_are_counted_for_nobody() {
    let host = host();
    host.give(0x5000, &RmpOperand::firmware());
    host.give(BLOCK, &RmpOperand { page_size: 1, ..RmpOperand::firmware() });
    host.give(2 * BLOCK, &private_2m(0, 3));
    let counts = [0, 3, 4].map(|asid| host.machine.rmp().assigned_to(asid));
    assert_eq!(counts, [0, 512, 0]);
}
