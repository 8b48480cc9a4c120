//! Cases 27 to 40: PVALIDATE, RMPADJUST, RMPQUERY.

use snp_defs::{PageState, RmpStatus};
use snp_model::{
    Exception, GuestAccess, GuestOrder, GuestStop, PvalidateVmpl, Query, QueryOwn, SharedMapping,
};

use super::support::*;

const GUEST: u32 = 4;

#[test]
pub(super) fn case_027_pvalidate() {
    let host = host();
    host.give(0, &private(0x4000, GUEST));
    let result = host.pvalidate(cpu(GUEST, 0), &walk(0, 0x4000), K4, true).unwrap();
    assert_eq!((result.status, result.carry), (RmpStatus::SUCCESS, false));
    assert_eq!(host.state(0), PageState::GuestValid);
}

#[test]
pub(super) fn case_028_pvalidate_twice() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    let before = host.entry(0);
    let again = host.pvalidate(cpu(GUEST, 0), &walk, K4, true).unwrap();
    assert_eq!((again.status, again.carry), (RmpStatus::SUCCESS, true));
    assert_eq!(host.entry(0), before);
    let back = host.pvalidate(cpu(GUEST, 0), &walk, K4, false).unwrap();
    assert_eq!((back.status, back.carry), (RmpStatus::SUCCESS, false));
    assert_eq!(host.state(0), PageState::GuestInvalid);
}

#[test]
pub(super) fn case_029_large_pvalidate_of_small_pages() {
    let host = host();
    for page in 0..512 {
        host.give(page * 4096, &private(page * 4096, GUEST));
    }
    let result = host.pvalidate(cpu(GUEST, 0), &walk(0, 0), M2, true).unwrap();
    assert_eq!(result.status, RmpStatus::FAIL_SIZEMISMATCH);
    for page in 0..512 {
        assert_eq!(host.state(page * 4096), PageState::GuestInvalid);
    }
}

#[test]
pub(super) fn case_030_small_pvalidate_in_a_large_page() {
    for order in [GuestOrder::PVALIDATE, GuestOrder::PVALIDATE_SIZE_FIRST] {
        let host = Setup::choices(|choices| choices.pvalidate = order).host();
        host.give(0, &private_2m(0, GUEST));
        let walk = nested_2m(walk(0x5000, 0x5000));
        let code = fault(host.pvalidate(cpu(GUEST, 0), &walk, K4, true));
        assert!(code.size_mismatch() && code.encrypted() && code.final_address());
        assert_eq!(host.smash(0), RmpStatus::SUCCESS);
        let again = host.pvalidate(cpu(GUEST, 0), &walk, K4, true).unwrap();
        assert_eq!(again.status, RmpStatus::SUCCESS);
        assert_eq!(host.state(0x5000), PageState::GuestValid);
        assert_eq!(host.state(0x4000), PageState::GuestInvalid);
    }
}

#[test]
pub(super) fn case_031_pvalidate_of_the_hypervisors_page() {
    let host = host();
    for at in [0, FIXED - BLOCK, UNCOVERED] {
        let code = fault(host.pvalidate(cpu(GUEST, 0), &walk(at, 0x4000), K4, true));
        assert!(!code.size_mismatch() && !code.vmpl());
    }
    // Two rules fail at once: whose page it is, and its size.
    for (order, mismatch) in
        [(GuestOrder::PVALIDATE, false), (GuestOrder::PVALIDATE_SIZE_FIRST, true)]
    {
        let host = Setup::choices(|choices| choices.pvalidate = order).host();
        let result = host.pvalidate(cpu(GUEST, 0), &walk(0, 0), M2, true);
        if mismatch {
            assert_eq!(result.unwrap().status, RmpStatus::FAIL_SIZEMISMATCH);
        } else {
            fault(result);
        }
    }
}

#[test]
pub(super) fn case_032_pvalidate_with_another_guest_address() {
    let host = host();
    host.give(0, &private(0x4000, GUEST));
    fault(host.pvalidate(cpu(GUEST, 0), &walk(0, 0x5000), K4, true));
    fault(host.pvalidate(cpu(GUEST + 1, 0), &walk(0, 0x4000), K4, true));
    assert_eq!(host.state(0), PageState::GuestInvalid);
}

#[test]
pub(super) fn case_033_pvalidate_of_an_immutable_page() {
    let host = host();
    host.give(0, &pre_guest(0x4000, GUEST));
    fault(host.pvalidate(cpu(GUEST, 0), &walk(0, 0x4000), K4, true));
    assert_eq!(host.state(0), PageState::PreGuest);
}

#[test]
pub(super) fn case_034_pvalidate_at_vmpl_1() {
    for choice in [PvalidateVmpl::FailPermission, PvalidateVmpl::Gp] {
        let host = Setup::choices(|choices| choices.pvalidate_vmpl = choice).host();
        host.give(0, &private(0x4000, GUEST));
        let result = host.pvalidate(cpu(GUEST, 1), &walk(0, 0x4000), K4, true);
        match choice {
            PvalidateVmpl::FailPermission => {
                assert_eq!(result.unwrap().status, RmpStatus::FAIL_PERMISSION);
            }
            PvalidateVmpl::Gp => {
                assert_eq!(result, Err(GuestStop::Exception(Exception::GeneralProtection)));
            }
        }
        assert_eq!(host.state(0), PageState::GuestInvalid);
    }
}

#[test]
pub(super) fn case_035_rmpadjust_of_ones_own_level() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    let before = host.entry(0);
    assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 0, 0), Ok(RmpStatus::FAIL_PERMISSION));
    assert_eq!(host.adjust(cpu(GUEST, 2), &walk, 1, 0), Ok(RmpStatus::FAIL_PERMISSION));
    assert_eq!(host.entry(0), before);
}

#[test]
pub(super) fn case_036_rmpadjust_grants_what_the_caller_lacks() {
    for order in [GuestOrder::RMPADJUST, GuestOrder::RMPADJUST_RIGHTS_FIRST] {
        let host = Setup::choices(|choices| choices.rmpadjust = order).host();
        let walk = host.valid(0, 0x4000, GUEST);
        assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, 0b0001), Ok(RmpStatus::SUCCESS));
        let before = host.entry(0);
        let refused = host.adjust(cpu(GUEST, 1), &walk, 2, 0b0011);
        assert_eq!(refused, Ok(RmpStatus::FAIL_PERMISSION));
        assert_eq!(host.entry(0), before);
        assert_eq!(host.adjust(cpu(GUEST, 1), &walk, 2, 0b0001), Ok(RmpStatus::SUCCESS));
        assert_eq!(host.entry(0).vmpl_permissions(2), 1);
        assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 4, 0), Ok(RmpStatus::FAIL_INPUT));
        assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, 0x20), Ok(RmpStatus::FAIL_INPUT));
    }
}

#[test]
pub(super) fn case_037_rmpadjust_of_another_size() {
    let host = host();
    let small = host.valid(0, 0, GUEST);
    let large = host.machine.rmpadjust(CORE, cpu(GUEST, 0), &small, 1, 1).unwrap();
    assert_eq!(large.status, RmpStatus::FAIL_SIZEMISMATCH);
    host.give(BLOCK, &private_2m(BLOCK, GUEST));
    host.accept(BLOCK, BLOCK, GUEST, M2);
    let inside = nested_2m(walk(BLOCK + 0x3000, BLOCK + 0x3000));
    assert!(fault(host.adjust(cpu(GUEST, 0), &inside, 1, 1)).size_mismatch());
    // Rights and size wrong at once: the tables differ.
    for (order, code) in [
        (GuestOrder::RMPADJUST, RmpStatus::FAIL_SIZEMISMATCH),
        (GuestOrder::RMPADJUST_RIGHTS_FIRST, RmpStatus::FAIL_PERMISSION),
    ] {
        let host = Setup::choices(|choices| choices.rmpadjust = order).host();
        let walk = host.valid(0, 0, GUEST);
        let result = host.machine.rmpadjust(CORE, cpu(GUEST, 1), &walk, 1, 2 | 1 << 8).unwrap();
        assert_eq!(result.status, code);
    }
}

#[test]
pub(super) fn case_038_rmpadjust_of_a_page_not_validated() {
    let host = host();
    host.give(0, &private(0x4000, GUEST));
    let before = host.entry(0);
    let result = host.adjust(cpu(GUEST, 0), &walk(0, 0x4000), 1, 1);
    assert_eq!(result, Err(NOT_VALIDATED));
    assert_eq!(host.entry(0), before);
}

#[test]
pub(super) fn case_039_the_vmsa_bit_above_vmpl_0() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, ALL), Ok(RmpStatus::SUCCESS));
    let with_vmsa = |vmpl, rdx: u64| {
        host.machine.rmpadjust(CORE, cpu(GUEST, vmpl), &walk, 0, rdx | 1 << 16).unwrap().status
    };
    assert_eq!(with_vmsa(1, 2), RmpStatus::SUCCESS);
    assert!(!host.entry(0).vmsa(), "ignored");
    assert_eq!(with_vmsa(0, 1), RmpStatus::SUCCESS);
    assert!(host.entry(0).vmsa());
    assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, 0), Ok(RmpStatus::SUCCESS));
    assert!(!host.entry(0).vmsa());
}

#[test]
pub(super) fn case_040_write_without_read() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, 0b0010), Ok(RmpStatus::SUCCESS));
    for access in [GuestAccess::Read, GuestAccess::Write, GuestAccess::Fetch { user: true }] {
        assert!(fault(host.access(cpu(GUEST, 1), access, &walk)).vmpl());
    }
}

#[test]
fn a_page_mapped_shared() {
    for choice in [SharedMapping::FailInput, SharedMapping::Ignored] {
        let host = Setup::choices(|choices| choices.shared_mapping = choice).host();
        host.give(0, &private(0x4000, GUEST));
        let walk = unencrypted(walk(0, 0x4000));
        let status = host.pvalidate(cpu(GUEST, 0), &walk, K4, true).unwrap().status;
        let expected = match choice {
            SharedMapping::FailInput => RmpStatus::FAIL_INPUT,
            SharedMapping::Ignored => RmpStatus::SUCCESS,
        };
        assert_eq!(status, expected);
        assert_eq!(host.entry(0).validated(), expected == RmpStatus::SUCCESS);
    }
}

#[test]
fn operands_that_pvalidate_refuses() {
    let host = host();
    host.give(0, &private(0x4000, GUEST));
    let good = walk(0, 0x4000);
    let pvalidate = |walk: &snp_model::Walk, size, validate| {
        host.machine.pvalidate(CORE, cpu(GUEST, 0), walk, size, validate).unwrap().status
    };
    let unaligned = snp_model::Walk { gva: 0x4008, ..good };
    assert_eq!(pvalidate(&good, 2, 1), RmpStatus::FAIL_INPUT);
    assert_eq!(pvalidate(&good, 0, 2), RmpStatus::FAIL_INPUT);
    assert_eq!(pvalidate(&unaligned, 0, 1), RmpStatus::FAIL_INPUT);
    assert_eq!(pvalidate(&good, 1, 1), RmpStatus::FAIL_INPUT, "2M at 4K alignment");
    let undefined = Err(GuestStop::Exception(Exception::UndefinedOpcode));
    assert_eq!(host.machine.pvalidate(CORE, cpu(0, 0), &good, 0, 1), undefined);
    host.machine.reset_core(CORE);
    assert_eq!(host.machine.pvalidate(CORE, cpu(GUEST, 0), &good, 0, 1), undefined);
}

#[test]
fn a_save_area_in_use_answers_so() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    host.edit(0, |entry| entry.with_lock(true));
    let result = host.pvalidate(cpu(GUEST, 0), &walk, K4, false).unwrap();
    assert_eq!(result.status, RmpStatus::FAIL_INUSE);
    assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, 1), Ok(RmpStatus::FAIL_INUSE));
}

#[test]
fn rmpquery_tells_rights_and_size() {
    for choice in [QueryOwn::Refused, QueryOwn::Answered] {
        let host = Setup::choices(|choices| choices.query_own = choice).host();
        host.give(0, &private_2m(0, GUEST));
        let walk = host.accept(0, 0, GUEST, M2);
        let rdx = 2 | 0b0101 << 8;
        host.machine.rmpadjust(CORE, cpu(GUEST, 0), &walk, 1, rdx).unwrap();
        let query = |vmpl, target| host.machine.rmpquery(CORE, cpu(GUEST, vmpl), &walk, target);
        let answer = Query {
            status: RmpStatus::SUCCESS,
            permissions: 0b0101,
            vmsa: false,
            size: M2,
            lines: 1,
        };
        assert_eq!(query(0, 2), Ok(answer));
        assert_eq!(query(1, 2), Ok(answer));
        assert_eq!(query(3, 2).unwrap().status, RmpStatus::FAIL_PERMISSION);
        let own = match choice {
            QueryOwn::Refused => RmpStatus::FAIL_PERMISSION,
            QueryOwn::Answered => RmpStatus::SUCCESS,
        };
        assert_eq!(query(2, 2).unwrap().status, own);
        assert_eq!(query(0, 4).unwrap().status, RmpStatus::FAIL_INPUT);
    }
}

#[test]
fn a_table_may_hold_a_check_more() {
    const STRICT: GuestOrder = GuestOrder(&[
        snp_model::GuestCheck::Input,
        snp_model::GuestCheck::Owner,
        snp_model::GuestCheck::NestedSize,
    ]);
    for (order, refused) in [(GuestOrder::PVALIDATE, false), (STRICT, true)] {
        let host = Setup::choices(|choices| choices.pvalidate = order).host();
        host.give(0, &private(0x4000, GUEST));
        let walk = nested_2m(walk(0, 0x4000));
        let result = host.pvalidate(cpu(GUEST, 0), &walk, K4, true);
        assert_eq!(result.is_err(), refused);
    }
}
