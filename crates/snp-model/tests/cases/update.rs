//! Cases 1 to 26: RMPUPDATE and PSMASH.

use snp_defs::{PageState, RmpEntry, RmpOperand, RmpStatus};
use snp_model::{
    FreeWithOwner, Issuer, NotLarge, Running, SaveArea, SmashCheck, SmashOrder, StdMachine,
    UpdateOrder, VmrunPages,
};

use super::support::*;

#[test]
pub(super) fn case_001_unaligned_spa() {
    let host = host();
    let before = host.entry(0);
    assert_eq!(host.update(0x800, &private(0, 1)), RmpStatus::FAIL_INPUT);
    assert_eq!(host.entry(0), before);
}

#[test]
pub(super) fn case_002_beyond_coverage() {
    let host = host();
    assert_eq!(host.update(UNCOVERED, &private(0, 1)), RmpStatus::FAIL_INPUT);
    assert_eq!(host.state(UNCOVERED), PageState::Default);
    assert_eq!(host.host_write(UNCOVERED, M2), snp_model::Verdict::Allowed);
}

#[test]
pub(super) fn case_003_large_page_at_a_small_ones_address() {
    let host = host();
    assert_eq!(host.update(0x1000, &private_2m(0, 1)), RmpStatus::FAIL_INPUT);
    assert_eq!(host.state(0x1000), PageState::Hypervisor);
}

#[test]
pub(super) fn case_004_large_page_for_an_unaligned_guest_address() {
    let host = host();
    assert_eq!(host.update(BLOCK, &private_2m(0x1000, 1)), RmpStatus::FAIL_INPUT);
    assert_eq!(host.state(BLOCK), PageState::Hypervisor);
}

fn free_with_owner(operand: &RmpOperand) {
    for (choice, code) in [
        (FreeWithOwner::FailInput, RmpStatus::FAIL_INPUT),
        (FreeWithOwner::FailPermission, RmpStatus::FAIL_PERMISSION),
    ] {
        let host = Setup::choices(|choices| choices.free_with_owner = choice).host();
        assert_eq!(host.update(BLOCK, operand), code);
        assert_eq!(host.state(BLOCK), PageState::Hypervisor);
        assert_eq!(host.update(BLOCK + 8, operand), RmpStatus::FAIL_INPUT);
    }
}

#[test]
pub(super) fn case_005_free_and_immutable() {
    free_with_owner(&RmpOperand { immutable: 1, ..SHARED });
}

#[test]
pub(super) fn case_006_free_and_owned() {
    free_with_owner(&RmpOperand { asid: 5, ..SHARED });
}

#[test]
pub(super) fn case_007_hv_fixed() {
    let host = host();
    let at = UNCOVERED - BLOCK;
    assert_eq!((host.state(at), host.entry(at).lo), (PageState::HvFixed, 4));
    assert_eq!(host.update(at, &private(0, 1)), RmpStatus::FAIL_PERMISSION);
    assert_eq!(host.state(at), PageState::HvFixed);
}

/// A page in every state that only the firmware leaves.
fn immutable_pages(host: &Host) -> Vec<(u64, PageState)> {
    let metadata = |at: u64| {
        host.give(at, &RmpOperand::firmware());
        host.edit(at, |_| RmpEntry::FIRMWARE.with_gpa_page(1 << 36 | 9));
    };
    host.context(0x1000);
    metadata(0x2000);
    host.give(0x3000, &pre_guest(0x3000, 2));
    host.valid(0x4000, 0x4000, 2);
    host.give(0x4000, &pre_guest(0x4000, 2));
    host.give(0x5000, &RmpOperand::firmware());
    vec![
        (0x1000, PageState::Context),
        (0x2000, PageState::Metadata),
        (0x3000, PageState::PreGuest),
        (0x4000, PageState::PreSwap),
        (0x5000, PageState::Firmware),
        (RMP, PageState::Firmware),
        (IOMMU, PageState::FirmwareIommu),
    ]
}

#[test]
pub(super) fn case_008_pages_that_only_the_firmware_changes() {
    for (order, locked) in [
        (UpdateOrder::SUGGESTED, RmpStatus::FAIL_INUSE),
        (UpdateOrder::IMMUTABLE_FIRST, RmpStatus::FAIL_PERMISSION),
    ] {
        let host = Setup { order, ..Setup::default() }.host();
        for (at, state) in immutable_pages(&host) {
            assert_eq!(host.state(at), state);
            let before = host.entry(at);
            let expected = if before.lock() { locked } else { RmpStatus::FAIL_PERMISSION };
            for operand in [SHARED, private(0, 1)] {
                assert_eq!(host.update(at, &operand), expected, "{state}");
            }
            assert_eq!(host.entry(at), before);
        }
    }
}

#[test]
pub(super) fn case_009_inside_a_guest() {
    let host = host();
    let update = |machine: &StdMachine| {
        machine.rmpupdate_by(Issuer { asid: 7 }, CORE, spa(0), &private(0, 7)).unwrap().status
    };
    assert_eq!(update(&host.machine), RmpStatus::FAIL_PERMISSION);
    assert_eq!(host.state(0), PageState::Hypervisor);
}

/// A vCPU of guest 3 runs: its save area is at 0x7000.
fn running(host: &Host) -> Running {
    host.valid(0x7000, 0xF000, 3);
    let walk = walk(0x7000, 0xF000);
    let rdx = 1 | 1 << 16;
    let adjusted = host.machine.rmpadjust(CORE, cpu(3, 0), &walk, 0, rdx).unwrap();
    assert_eq!(adjusted.status, RmpStatus::SUCCESS);
    let pages = VmrunPages {
        hsave: snp_defs::VmHsavePa(0x9000),
        vmcb: spa(0x8000),
        avic: None,
        save_area: SaveArea::Snp { vmsa: spa(0x7000), gpa: gpa(0xF000), asid: 3 },
    };
    host.machine.vmrun(CORE, &pages).unwrap()
}

#[test]
pub(super) fn case_010_save_area_of_a_running_vcpu() {
    let host = host();
    let running = running(&host);
    let before = host.entry(0x7000);
    assert!(before.lock());
    assert_eq!(host.update(0x7000, &SHARED), RmpStatus::FAIL_INUSE);
    assert_eq!(host.update(0x8000, &private(0, 1)), RmpStatus::FAIL_INUSE, "the VMCB too");
    assert_eq!(host.update(0, &private_2m(0, 1)), RmpStatus::FAIL_OVERLAP);
    assert_eq!(host.entry(0x7000), before);
    host.machine.vmexit(running);
    assert_eq!(host.update(0x8000, &private(0, 1)), RmpStatus::SUCCESS);
    assert_eq!(host.update(0x7000, &SHARED), RmpStatus::SUCCESS);
}

#[test]
pub(super) fn case_011_small_update_inside_a_large_page() {
    let host = host();
    host.give(0, &private_2m(0, 1));
    assert_eq!(host.update(0x5000, &private(0, 1)), RmpStatus::FAIL_OVERLAP);
    assert_eq!(host.state(0x5000), PageState::GuestInvalid);
}

#[test]
pub(super) fn case_012_large_update_over_one_small_page() {
    let host = host();
    host.give(BLOCK + 0x3000, &private(0, 1));
    assert_eq!(host.count(BLOCK), 1);
    assert_eq!(host.update(BLOCK, &private_2m(0, 1)), RmpStatus::FAIL_OVERLAP);
    assert_eq!(host.state(BLOCK), PageState::Hypervisor);
}

#[test]
pub(super) fn case_013_the_same_after_it_is_free() {
    let host = host();
    host.give(BLOCK + 0x3000, &private(0, 1));
    host.give(BLOCK + 0x3000, &SHARED);
    assert_eq!(host.count(BLOCK), 0);
    assert_eq!(host.update(BLOCK, &private_2m(0, 1)), RmpStatus::SUCCESS);
    assert_eq!(host.machine.rmp().assigned_to(1), 512);
}

#[test]
pub(super) fn case_014_an_overlap_persists() {
    let host = host();
    host.give(0, &private_2m(0, 1));
    for _ in 0..1000 {
        assert_eq!(host.update(0x5000, &SHARED), RmpStatus::FAIL_OVERLAP);
    }
}

#[test]
pub(super) fn case_015_another_guest_address() {
    let host = host();
    host.valid(0, 0x4000, 1);
    host.give(0, &private(0x5000, 1));
    assert_eq!((host.state(0), host.entry(0).hi), (PageState::GuestInvalid, ALL));
    let access = host.access(cpu(1, 0), snp_model::GuestAccess::Read, &walk(0, 0x5000));
    assert_eq!(access, Err(NOT_VALIDATED));
}

#[test]
pub(super) fn case_016_another_guest() {
    let host = host();
    let translation = host.valid(0, 0x5000, 1);
    host.adjust(cpu(1, 0), &translation, 1, ALL).unwrap();
    host.edit(0, |entry| entry.with_vmsa(true));
    host.give(0, &private(0x5000, 2));
    let entry = host.entry(0);
    assert!(!entry.validated() && !entry.vmsa());
    assert_eq!(entry.hi, ALL, "VMPL 0 alone");
    let rmp = host.machine.rmp();
    assert_eq!((rmp.assigned_to(1), rmp.assigned_to(2)), (0, 1));
}

#[test]
pub(super) fn case_017_a_large_page_given_back() {
    let host = host();
    host.give(BLOCK, &private_2m(0, 1));
    host.accept(BLOCK, 0, 1, M2);
    assert_eq!(host.state(BLOCK + 0x7000), PageState::GuestValid);
    host.give(BLOCK, &SHARED_2M);
    for page in 0..512 {
        assert!(!host.entry(BLOCK + page * 4096).assigned());
        assert_eq!(host.state(BLOCK + page * 4096), PageState::Hypervisor);
    }
}

#[test]
pub(super) fn case_018_only_immutable() {
    let host = host();
    host.valid(0, 0x5000, 2);
    host.give(0, &pre_guest(0x5000, 2));
    assert_eq!(host.state(0), PageState::PreSwap);
    assert!(host.entry(0).validated());
}

#[test]
pub(super) fn case_019_the_rmp_itself() {
    for (order, code) in [
        (UpdateOrder::SUGGESTED, RmpStatus::FAIL_INUSE),
        (UpdateOrder::IMMUTABLE_FIRST, RmpStatus::FAIL_PERMISSION),
    ] {
        let host = Setup { order, ..Setup::default() }.host();
        assert_eq!(host.entry(RMP).lo, 0x8000_0000_0000_07fd, "as in a dump from the field");
        for operand in [SHARED, private(0, 1), SHARED_2M, private_2m(0, 1)] {
            assert_eq!(host.update(RMP, &operand), code);
        }
        assert_eq!(host.entry(RMP).lo, 0x8000_0000_0000_07fd);
    }
}

#[test]
pub(super) fn case_020_the_page_behind_the_rmp() {
    for (order, code) in [
        (UpdateOrder::SUGGESTED, RmpStatus::FAIL_INUSE),
        (UpdateOrder::OVERLAP_FIRST, RmpStatus::FAIL_OVERLAP),
    ] {
        let host = Setup { order, ..Setup::default() }.host();
        assert_eq!(host.state(RMP_TAIL), PageState::Hypervisor);
        assert_eq!(host.update(RMP, &private_2m(0, 1)), code);
        assert_eq!(host.update(RMP_TAIL, &private(0, 1)), RmpStatus::SUCCESS);
        assert_eq!(host.count(RMP), 256);
        host.edit(RMP_TAIL + 0x1000, |_| RmpEntry::HV_FIXED);
        let fixed = host.update(RMP_TAIL + 0x1000, &private(0, 1));
        assert_eq!(fixed, RmpStatus::FAIL_PERMISSION, "left immutable by the firmware");
    }
}

/// Hosts with each order of PSMASH's checks.
fn smash_orders() -> impl Iterator<Item = (SmashOrder, Host)> {
    [SmashOrder::SUGGESTED, SmashOrder::IMMUTABLE_FIRST, SmashOrder::LARGE_FIRST]
        .into_iter()
        .map(|order| (order, Setup::choices(|choices| choices.psmash = order).host()))
}

#[test]
pub(super) fn case_021_smash_unaligned() {
    for (_, host) in smash_orders() {
        host.give(0, &private_2m(0, 3));
        assert_eq!(host.smash(0x1000), RmpStatus::FAIL_INPUT);
        assert_eq!(host.smash(UNCOVERED), RmpStatus::FAIL_INPUT);
        assert_eq!(host.entry(0).page_size(), M2);
    }
}

#[test]
pub(super) fn case_022_smash_a_small_page() {
    for (not_large, code) in [
        (NotLarge::FailBadaddr, RmpStatus::FAIL_BADADDR),
        (NotLarge::FailOverlap, RmpStatus::FAIL_OVERLAP),
    ] {
        let host = Setup::choices(|choices| choices.not_large = not_large).host();
        host.give(BLOCK, &private(0, 3));
        let before = host.entry(BLOCK);
        assert_eq!(host.smash(BLOCK), code);
        assert_eq!(host.smash(0), code);
        assert_eq!(host.entry(BLOCK), before);
    }
}

#[test]
pub(super) fn case_023_smash_a_page_in_use() {
    for (_, host) in smash_orders() {
        host.give(BLOCK, &private_2m(0, 3));
        host.accept(BLOCK, 0, 3, M2);
        host.edit(BLOCK, |entry| entry.with_vmsa(true));
        let pages = VmrunPages {
            hsave: snp_defs::VmHsavePa(0x9000),
            vmcb: spa(0x8000),
            avic: None,
            save_area: SaveArea::Snp { vmsa: spa(BLOCK), gpa: gpa(0), asid: 3 },
        };
        let running = host.machine.vmrun(CORE, &pages).unwrap();
        assert_eq!(host.smash(BLOCK), RmpStatus::FAIL_INUSE);
        assert_eq!(host.entry(BLOCK).page_size(), M2);
        host.machine.vmexit(running);
        assert_eq!(host.smash(BLOCK), RmpStatus::SUCCESS);
    }
}

/// A table that looks at the entry before the address.
#[test]
fn psmash_may_look_at_the_address_last() {
    let last = SmashOrder([
        SmashCheck::Issuer,
        SmashCheck::Lock,
        SmashCheck::Immutable,
        SmashCheck::Large,
        SmashCheck::Input,
    ]);
    let host = Setup::choices(|choices| choices.psmash = last).host();
    assert_eq!(host.smash(0x1000), RmpStatus::FAIL_BADADDR);
    host.give(0, &private_2m(0, 3));
    assert_eq!(host.smash(0x1000), RmpStatus::FAIL_INPUT);
    assert_eq!(host.smash(UNCOVERED), RmpStatus::FAIL_BADADDR);
    assert_eq!(host.smash(0), RmpStatus::SUCCESS);
}

/// Where several of PSMASH's checks fail at once, the tables differ.
#[test]
fn the_order_of_psmash() {
    for (order, host) in smash_orders() {
        let codes = match order {
            SmashOrder::IMMUTABLE_FIRST => (RmpStatus::FAIL_PERMISSION, RmpStatus::FAIL_PERMISSION),
            SmashOrder::LARGE_FIRST => (RmpStatus::FAIL_INUSE, RmpStatus::FAIL_BADADDR),
            _ => (RmpStatus::FAIL_INUSE, RmpStatus::FAIL_INUSE),
        };
        host.give(BLOCK, &RmpOperand::private(gpa(0), M2, 3, true));
        assert_eq!(host.smash(BLOCK), RmpStatus::FAIL_PERMISSION, "immutable");
        host.edit(BLOCK, |entry| entry.with_lock(true));
        assert_eq!(host.smash(BLOCK), codes.0, "a large page, locked and immutable");
        assert_eq!(host.smash(RMP), codes.1, "4K pages, locked and immutable");
        let guest = Issuer { asid: 3 };
        for at in [BLOCK, RMP] {
            let refused = host.machine.psmash_by(guest, CORE, spa(at)).unwrap();
            assert_eq!(refused.status, RmpStatus::FAIL_PERMISSION, "inside a guest");
        }
        assert_eq!(host.entry(BLOCK).page_size(), M2);
    }
}

#[test]
pub(super) fn case_024_smash() {
    let host = host();
    host.give(0, &private_2m(BLOCK, 3));
    let large = host.accept(0, BLOCK, 3, M2);
    let rdx = 1 | ALL << 8;
    assert!(host.machine.rmpadjust(CORE, cpu(3, 0), &large, 1, rdx).unwrap().status.is_success());
    assert_eq!(host.smash(0), RmpStatus::SUCCESS);
    for page in 0..512 {
        let (at, guest) = (page * 4096, BLOCK + page * 4096);
        let entry = host.entry(at);
        assert_eq!((entry.gpa_page(), entry.asid()), (512 + page, 3));
        assert_eq!((entry.hi, host.state(at)), (ALL << 8 | ALL, PageState::GuestValid));
        let access = host.access(cpu(3, 1), snp_model::GuestAccess::Write, &walk(at, guest));
        assert_eq!(access, Ok(()), "no #VC, no fault");
    }
    assert_eq!(host.count(0), 511);
}

#[test]
pub(super) fn case_025_one_page_of_a_smashed_one() {
    let host = host();
    host.give(0, &private_2m(BLOCK, 3));
    assert_eq!(host.smash(0), RmpStatus::SUCCESS);
    assert_eq!(host.count(0), 511);
    host.give(0x9000, &SHARED);
    assert_eq!((host.count(0), host.machine.rmp().assigned_to(3)), (510, 511));
    assert_eq!(host.state(0x8000), PageState::GuestInvalid);
    assert_eq!(host.state(0xA000), PageState::GuestInvalid);
}

#[test]
pub(super) fn case_026_the_edge_of_coverage() {
    let coverage = snp_model::Coverage::contiguous(1024);
    let machine = StdMachine::on_heap(1, 4, coverage, snp_model::UnitConfig::default());
    machine.enable_snp();
    machine.reserve(snp_defs::Region::ZERO).unwrap();
    let update =
        |page: u64| machine.rmpupdate(CORE, spa(page * 4096), &private(0, 1)).unwrap().status;
    assert_eq!(update(1023), RmpStatus::SUCCESS);
    assert_eq!(update(1024), RmpStatus::FAIL_INPUT);
}
