//! Cases 41 to 60: what may touch what, and VMRUN.

use snp_defs::{
    msr, NestedFaultCode, PageFaultCode, PageState, RmpStatus, Spa, VmHsavePa,
    IOMMU_EVENT_RMP_FAULT,
};
use snp_model::{
    AccessKind, Accessor, CoreId, DeviceVerdict, Exception, GuestAccess, MsrWrite, SaveArea,
    Verdict, VmrunPages, VmrunStop,
};

use super::support::*;

const GUEST: u32 = 4;
const REFUSED: Verdict = Verdict::PageFault(PageFaultCode(0x8000_0003));
const READ: GuestAccess = GuestAccess::Read;
const WRITE: GuestAccess = GuestAccess::Write;

#[test]
pub(super) fn case_041_host_write_to_a_guests_page() {
    let host = host();
    host.valid(0x3000, 0, GUEST);
    assert_eq!(host.host_write(0x3000, K4), REFUSED);
    let user = host.machine.check_write(CORE, Accessor::HostUser, spa(0x3000), K4).verdict;
    assert_eq!(user, Verdict::PageFault(PageFaultCode(0x8000_0007)));
}

#[test]
pub(super) fn case_042_host_read_of_a_guests_page() {
    let host = host();
    host.valid(0x3000, 0, GUEST);
    for kind in [AccessKind::Read, AccessKind::Fetch] {
        for size in [K4, M2] {
            let access =
                host.machine.check_access(CORE, Accessor::HostKernel, kind, spa(0x3000), size);
            assert_eq!((access.verdict, access.lines), (Verdict::Allowed, 0));
        }
    }
}

#[test]
pub(super) fn case_043_large_mapping_with_one_private_page() {
    let host = host();
    host.valid(0x3000, 0, GUEST);
    assert_eq!(host.host_write(0x9000, M2), REFUSED);
    assert_eq!(host.host_write(0x9000, K4), Verdict::Allowed);
    assert_eq!(host.host_write(BLOCK, M2), Verdict::Allowed);
}

#[test]
pub(super) fn case_044_page_table_in_a_page_not_the_hypervisors() {
    let host = host();
    host.valid(0x3000, 0, GUEST);
    for at in [RMP, 0x3000] {
        for kind in [AccessKind::Read, AccessKind::Write] {
            let walk = host.machine.check_access(CORE, Accessor::HostWalk, kind, spa(at), M2);
            assert_eq!(walk.verdict, REFUSED);
        }
    }
    // Accessed and dirty bits are written with 4K, whatever maps the page.
    let beside =
        host.machine.check_access(CORE, Accessor::HostWalk, AccessKind::Write, spa(0x4000), M2);
    assert_eq!(beside.verdict, Verdict::Allowed);
}

#[test]
pub(super) fn case_045_ordinary_guest_write_to_a_private_page() {
    let host = host();
    host.valid(0x3000, 0, GUEST);
    let check = |accessor| match host.machine.check_write(CORE, accessor, spa(0x3000), K4).verdict {
        Verdict::NestedPageFault(code) => code,
        other => panic!("{other:?}"),
    };
    let data = check(Accessor::Guest);
    assert!(data.rmp() && data.write() && data.final_address() && !data.table_walk());
    assert!(!data.encrypted() && !data.size_mismatch() && !data.vmpl());
    let walk = check(Accessor::GuestWalk);
    assert!(walk.rmp() && walk.table_walk() && !walk.final_address());
    assert_eq!(data.0 & NestedFaultCode::RMP, 1 << 31);
}

#[test]
pub(super) fn case_046_own_private_page_with_c_clear() {
    let host = host();
    let walk = unencrypted(host.valid(0, 0x4000, GUEST));
    let code = fault(host.access(cpu(GUEST, 0), WRITE, &walk));
    assert!(code.write() && !code.encrypted());
    assert_eq!(host.access(cpu(GUEST, 0), READ, &walk), Ok(()));
    let beside = nested_2m(unencrypted(super::support::walk(0x9000, 0x9000)));
    fault(host.access(cpu(GUEST, 0), WRITE, &beside));
    let small = unencrypted(super::support::walk(0x9000, 0x9000));
    assert_eq!(host.access(cpu(GUEST, 0), WRITE, &small), Ok(()), "shared memory");
}

#[test]
pub(super) fn case_047_shared_page_with_c_set() {
    let host = host();
    for at in [0, UNCOVERED] {
        for access in [READ, WRITE] {
            let code = fault(host.access(cpu(GUEST, 0), access, &walk(at, 0x4000)));
            assert!(code.encrypted() && code.final_address());
        }
    }
}

#[test]
pub(super) fn case_048_another_guests_page() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    assert_eq!(host.access(cpu(GUEST, 0), READ, &walk), Ok(()));
    let code = fault(host.access(cpu(GUEST + 1, 0), READ, &walk));
    assert!(code.encrypted() && !code.vmpl());
}

#[test]
pub(super) fn case_049_two_pages_exchanged() {
    let host = host();
    host.valid(0x1000, 0x4000, GUEST);
    host.valid(0x2000, 0x5000, GUEST);
    for (at, guest) in [(0x1000, 0x5000), (0x2000, 0x4000)] {
        fault(host.access(cpu(GUEST, 0), READ, &walk(at, guest)));
    }
}

#[test]
pub(super) fn case_050_nested_leaf_of_another_size() {
    let host = host();
    let small = host.valid(0, 0, GUEST);
    assert!(fault(host.access(cpu(GUEST, 0), READ, &nested_2m(small))).size_mismatch());
    host.give(BLOCK, &private_2m(BLOCK, GUEST));
    let large = host.accept(BLOCK, BLOCK, GUEST, M2);
    assert_eq!(host.access(cpu(GUEST, 0), WRITE, &large), Ok(()));
    let inside = walk(BLOCK + 0x3000, BLOCK + 0x3000);
    assert!(fault(host.access(cpu(GUEST, 0), READ, &inside)).size_mismatch());
    assert_eq!(host.access(cpu(GUEST, 0), READ, &nested_2m(inside)), Ok(()));
    assert_eq!(host.smash(BLOCK), RmpStatus::SUCCESS);
    assert_eq!(host.access(cpu(GUEST, 0), READ, &inside), Ok(()));
}

#[test]
pub(super) fn case_051_not_validated() {
    let host = host();
    host.give(0, &private(0x4000, GUEST));
    for access in [READ, WRITE, GuestAccess::Fetch { user: false }] {
        assert_eq!(host.access(cpu(GUEST, 0), access, &walk(0, 0x4000)), Err(NOT_VALIDATED));
    }
    // Below ownership and size, above rights.
    fault(host.access(cpu(GUEST, 0), READ, &walk(0, 0x5000)));
    assert!(fault(host.access(cpu(GUEST, 0), READ, &nested_2m(walk(0, 0x4000)))).size_mismatch());
    assert_eq!(host.access(cpu(GUEST, 1), READ, &walk(0, 0x4000)), Err(NOT_VALIDATED));
}

#[test]
pub(super) fn case_052_rights_of_a_vmpl() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    let code = fault(host.access(cpu(GUEST, 1), READ, &walk));
    assert!(code.vmpl() && code.encrypted() && !code.supervisor_shadow_stack());
    let accesses = [
        (0b00001, READ),
        (0b00011, WRITE),
        (0b00101, GuestAccess::Fetch { user: true }),
        (0b01001, GuestAccess::Fetch { user: false }),
        (0b10011, GuestAccess::ShadowStack),
        (0b00001, GuestAccess::TableWalk { update: false }),
        (0b00011, GuestAccess::TableWalk { update: true }),
    ];
    for (rights, access) in accesses {
        assert_eq!(host.adjust(cpu(GUEST, 0), &walk, 1, rights), Ok(RmpStatus::SUCCESS));
        assert_eq!(host.access(cpu(GUEST, 1), access, &walk), Ok(()), "{access:?}");
        for other in accesses.iter().filter(|other| other.0 & !rights != 0) {
            let code = fault(host.access(cpu(GUEST, 1), other.1, &walk));
            let shadow = other.1 == GuestAccess::ShadowStack;
            assert!(code.vmpl() && code.supervisor_shadow_stack() == shadow);
        }
    }
    fault(host.access(cpu(GUEST, 9), READ, &walk));
}

#[test]
pub(super) fn case_053_immutable_page() {
    let host = host();
    let walk = host.valid(0, 0x4000, GUEST);
    host.give(0, &pre_guest(0x4000, GUEST));
    assert_eq!(host.state(0), PageState::PreSwap);
    let code = fault(host.access(cpu(GUEST, 0), READ, &walk));
    assert!(!code.vmpl() && !code.size_mismatch());
    host.give(0x1000, &pre_guest(0x5000, GUEST));
    fault(host.access(cpu(GUEST, 0), READ, &super::support::walk(0x1000, 0x5000)));
}

#[test]
pub(super) fn case_054_page_table_in_shared_memory() {
    let host = host();
    let shared = unencrypted(walk(0, 0x4000));
    for update in [false, true] {
        let code = fault(host.access(cpu(GUEST, 0), GuestAccess::TableWalk { update }, &shared));
        assert!(code.table_walk() && code.encrypted() && !code.final_address());
        assert_eq!(code.write(), update);
    }
    let fetch = fault(host.access(cpu(GUEST, 0), GuestAccess::Fetch { user: true }, &shared));
    assert!(fetch.fetch() && fetch.encrypted());
    assert_eq!(host.access(cpu(GUEST, 0), READ, &shared), Ok(()));
}

const ABORTED: DeviceVerdict = DeviceVerdict::Aborted { event: IOMMU_EVENT_RMP_FAULT };

#[test]
pub(super) fn case_055_device_write() {
    let host = host();
    host.valid(0, 0x4000, GUEST);
    for at in [0, RMP, IOMMU] {
        assert_eq!(host.machine.check_device_write(spa(at)), ABORTED);
    }
    for at in [0x1000, FIXED, UNCOVERED] {
        assert_eq!(host.machine.check_device_write(spa(at)), DeviceVerdict::Allowed);
    }
}

#[test]
pub(super) fn case_056_device_write_to_a_page_that_becomes_private() {
    let host = host();
    assert_eq!(host.machine.check_device_write(spa(0)), DeviceVerdict::Allowed);
    host.give(0, &private(0x4000, GUEST));
    assert_eq!(host.machine.check_device_write(spa(0)), ABORTED);
    host.give(0, &SHARED);
    assert_eq!(host.machine.check_device_write(spa(0)), DeviceVerdict::Allowed);
}

fn plain(vmcb: Spa) -> VmrunPages {
    VmrunPages { hsave: VmHsavePa(0x9000), vmcb, avic: None, save_area: SaveArea::InVmcb }
}

#[test]
pub(super) fn case_057_vmcb_at_a_blocks_start() {
    for faults in [true, false] {
        let host = Setup::choices(|choices| choices.errata.head_in_use_faults = faults).host();
        let running = host.machine.vmrun(CORE, &plain(spa(BLOCK))).unwrap();
        let expected = if faults { REFUSED } else { Verdict::Allowed };
        assert_eq!(host.host_write(BLOCK + 0x5000, M2), expected);
        assert_eq!(host.host_write(BLOCK + 0x5000, K4), Verdict::Allowed);
        host.machine.vmexit(running);
        assert_eq!(host.host_write(BLOCK + 0x5000, M2), Verdict::Allowed);
        let aside = host.machine.vmrun(CORE, &plain(spa(BLOCK + 0x1000))).unwrap();
        assert_eq!(host.host_write(BLOCK + 0x5000, M2), Verdict::Allowed, "the workaround");
        host.machine.vmexit(aside);
    }
}

#[test]
fn host_write_to_a_page_in_use() {
    for faults in [true, false] {
        let host = Setup::choices(|choices| choices.errata.in_use_writes_fault = faults).host();
        let pages = VmrunPages { avic: Some(spa(0x2000)), ..plain(spa(0x1000)) };
        let running = host.machine.vmrun(CORE, &pages).unwrap();
        let expected = if faults { REFUSED } else { Verdict::Allowed };
        assert_eq!(host.host_write(0x2000, K4), expected, "without HvInUseWrAllowed");
        assert_eq!(host.update(0x2000, &private(0, 1)), RmpStatus::FAIL_INUSE);
        host.machine.vmexit(running);
        assert_eq!(host.host_write(0x2000, K4), Verdict::Allowed);
    }
}

const GP: VmrunStop = VmrunStop::Exception(Exception::GeneralProtection);

#[test]
pub(super) fn case_058_vmcb_not_the_hypervisors() {
    let host = host();
    host.give(0x1000, &private(0, 1));
    assert_eq!(host.machine.vmrun(CORE, &plain(spa(0x1000))).unwrap_err(), GP);
    assert!(!host.entry(0x1000).lock());
    let outside = host.machine.vmrun(CORE, &plain(spa(UNCOVERED))).unwrap();
    host.machine.vmexit(outside);
    let no_hsave = VmrunPages { hsave: VmHsavePa(0), ..plain(spa(0x2000)) };
    assert_eq!(host.machine.vmrun(CORE, &no_hsave).unwrap_err(), GP);
    let avic = VmrunPages { avic: Some(spa(0x1000)), ..plain(spa(0x2000)) };
    assert_eq!(host.machine.vmrun(CORE, &avic).unwrap_err(), VmrunStop::ExitInvalid);
    let es = VmrunPages { save_area: SaveArea::Encrypted(spa(0x1000)), ..plain(spa(0x2000)) };
    assert_eq!(host.machine.vmrun(CORE, &es).unwrap_err(), VmrunStop::ExitInvalid);
    assert!(!host.entry(0x2000).lock(), "what was marked is free again");
    assert!(host.machine.check_vmsave(CORE, spa(0x1000), false).is_err());
    assert!(fault(host.machine.check_vmsave(CORE, spa(0x1000), true)).write());
    assert_eq!(host.machine.check_vmsave(CORE, spa(0x2000), false), Ok(()));
}

#[test]
pub(super) fn case_059_save_area_that_does_not_fit() {
    let host = host();
    host.valid(0x7000, 0xF000, GUEST);
    let vmrun = |at, guest, asid| {
        let save_area = SaveArea::Snp { vmsa: spa(at), gpa: gpa(guest), asid };
        let pages = VmrunPages { save_area, ..plain(spa(0x8000)) };
        host.machine.vmrun(CORE, &pages).map(|running| host.machine.vmexit(running))
    };
    let invalid = Err(VmrunStop::ExitInvalid);
    assert_eq!(vmrun(0x7000, 0xF000, GUEST), invalid, "no VMSA bit");
    host.edit(0x7000, |entry| entry.with_vmsa(true));
    assert_eq!(vmrun(0x7000, 0xF000, GUEST), Ok(()));
    assert_eq!(vmrun(0x7000, 0xE000, GUEST), invalid, "guest address");
    assert_eq!(vmrun(0x7000, 0xF000, GUEST + 1), invalid, "ASID");
    assert_eq!(vmrun(UNCOVERED, 0xF000, GUEST), invalid, "covered");
    host.edit(0x7000, |entry| entry.with_immutable(true));
    assert_eq!(vmrun(0x7000, 0xF000, GUEST), invalid, "immutable");
    host.edit(0x7000, |entry| entry.with_immutable(false));
    host.machine.reset_core(CoreId(1));
    let save_area = SaveArea::Snp { vmsa: spa(0x7000), gpa: gpa(0xF000), asid: GUEST };
    let without_snp =
        host.machine.vmrun(CoreId(1), &VmrunPages { save_area, ..plain(spa(0x8000)) });
    assert_eq!(without_snp.unwrap_err(), VmrunStop::ExitInvalid);
}

#[test]
pub(super) fn case_060_hsave_in_a_guests_page() {
    let host = host();
    host.give(0x1000, &private(0, 1));
    let wrmsr = |value| host.machine.wrmsr(CORE, msr::VM_HSAVE_PA, value);
    assert_eq!(wrmsr(0x1000), Err(Exception::GeneralProtection));
    assert_eq!(wrmsr(RMP), Err(Exception::GeneralProtection));
    assert_eq!(wrmsr(0x2001), Err(Exception::GeneralProtection));
    for value in [0, 0x2000, UNCOVERED] {
        assert_eq!(wrmsr(value), Ok(MsrWrite::Done));
    }
}
