//! Every access of an SNP guest against every permission byte and VMPL, and the faults to the letter.

use snp_defs::{NestedFaultCode, PageFaultCode};
use snp_model::{
    AccessKind, Accessor, Exception, GuestAccess, GuestStop, InitError, PvalidateVmpl, Stop,
    Verdict,
};

use super::support::*;

const R: u64 = 1;
const W: u64 = 1 << 1;
const X_USER: u64 = 1 << 2;
const X_SUPERVISOR: u64 = 1 << 3;
const SHADOW: u64 = 1 << 4;

/// P, U and RMP: in every refusal of a guest's access.
const COMMON: u64 = 1 | 1 << 2 | 1 << 31;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
const SHADOW_STACK: u64 = 1 << 6;
const FINAL: u64 = 1 << 32;
const TABLE_WALK: u64 = 1 << 33;
const ENC: u64 = 1 << 34;
const VMPL: u64 = 1 << 36;
const SSS: u64 = 1 << 37;

/// Access, the rights it needs, and what its refusal says of it.
const ACCESSES: [(GuestAccess, u64, u64); 7] = [
    (GuestAccess::Read, R, FINAL),
    (GuestAccess::Write, R | W, FINAL | WRITE),
    (GuestAccess::ShadowStack, R | W | SHADOW, FINAL | WRITE | SHADOW_STACK),
    (GuestAccess::Fetch { user: true }, X_USER, FINAL | FETCH),
    (GuestAccess::Fetch { user: false }, X_SUPERVISOR, FINAL | FETCH),
    (GuestAccess::TableWalk { update: false }, R, TABLE_WALK),
    (GuestAccess::TableWalk { update: true }, R | W, TABLE_WALK | WRITE),
];

#[test]
fn rights_decide_and_nothing_else() {
    let host = host();
    let walk = host.valid(0x1000, 0x5000, 3);
    for rights in 0..=ALL {
        assert_eq!(host.adjust(cpu(3, 0), &walk, 2, rights), Ok(snp_defs::RmpStatus::SUCCESS));
        let entry = host.entry(0x1000);
        assert_eq!(u64::from(entry.vmpl_permissions(2)), rights);
        for (access, needs, says) in ACCESSES {
            let write_alone = rights & (R | W) == W;
            let expected = if rights & needs == needs && !write_alone {
                Ok(())
            } else {
                let shadow = if access == GuestAccess::ShadowStack { SSS } else { 0 };
                let code = COMMON | ENC | VMPL | says | shadow;
                Err(GuestStop::NestedFault(NestedFaultCode(code)))
            };
            assert_eq!(host.access(cpu(3, 2), access, &walk), expected, "{access:?} {rights:#x}");
        }
    }
    // VMPL 0 has them all, 1 and 3 got none.
    for (access, ..) in ACCESSES {
        assert_eq!(host.access(cpu(3, 0), access, &walk), Ok(()));
        for vmpl in [1, 3] {
            assert!(fault(host.access(cpu(3, vmpl), access, &walk)).vmpl());
        }
    }
}

#[test]
fn refusals_to_the_letter() {
    let host = host();
    let walk = host.valid(0x1000, 0x5000, 3);
    for (access, _, says) in ACCESSES {
        // Another guest's page: C = 1.
        let stop = GuestStop::NestedFault(NestedFaultCode(COMMON | ENC | says));
        assert_eq!(host.access(cpu(4, 0), access, &walk), Err(stop), "{access:?}");
        // C = 0: only data accesses are shared ones, and of those only writes are checked.
        let shared = host.access(cpu(3, 0), access, &unencrypted(walk));
        let expected = match access {
            GuestAccess::Write | GuestAccess::ShadowStack => {
                Err(GuestStop::NestedFault(NestedFaultCode(COMMON | says)))
            }
            // Its own page, and always private.
            _ => Ok(()),
        };
        assert_eq!(shared, expected, "{access:?}");
    }
    // PVALIDATE's own fault: never a write.
    let stop = host.pvalidate(cpu(4, 0), &walk, K4, true).unwrap_err();
    assert_eq!(stop, GuestStop::NestedFault(NestedFaultCode(COMMON | FINAL | ENC)));

    let host_fault = |more: u64| Verdict::PageFault(PageFaultCode(0x8000_0003 | more));
    let guest_fault = |more: u64| Verdict::NestedPageFault(NestedFaultCode(COMMON | WRITE | more));
    for (accessor, expected) in [
        (Accessor::HostKernel, host_fault(0)),
        (Accessor::HostWalk, host_fault(0)),
        (Accessor::HostUser, host_fault(1 << 2)),
        (Accessor::Guest, guest_fault(FINAL)),
        (Accessor::GuestWalk, guest_fault(TABLE_WALK)),
    ] {
        let access = host.machine.check_access(CORE, accessor, AccessKind::Write, walk.spa, K4);
        assert_eq!(access.verdict, expected, "{accessor:?}");
        let walks = matches!(accessor, Accessor::HostWalk | Accessor::GuestWalk);
        for kind in [AccessKind::Read, AccessKind::Fetch] {
            let access = host.machine.check_access(CORE, accessor, kind, walk.spa, K4);
            assert_eq!(access.verdict == Verdict::Allowed, !walks, "{accessor:?} {kind:?}");
            assert_eq!(access.lines, u32::from(walks));
        }
    }
}

#[test]
fn stops_say_what_they_are() {
    for (stop, shown) in [
        (NOT_VALIDATED, "#VC(0x404)"),
        (GuestStop::Exception(Exception::GeneralProtection), "#GP(0)"),
        (GuestStop::NestedFault(NestedFaultCode(1 << 31)), "#VMEXIT(NPF) 0x80000000 RMP"),
        (GuestStop::NotReserved(pfn(1 << 30).region()), "region 1 has no memory in the model"),
    ] {
        assert_eq!(stop.to_string(), shown);
    }
    for (stop, shown) in [
        (Stop::from(Exception::UndefinedOpcode), "#UD"),
        (Stop::NotReserved(pfn(2 << 30).region()), "region 2 has no memory in the model"),
    ] {
        assert_eq!(stop.to_string(), shown);
    }
    for (error, shown, status) in [
        (InitError::SnpOff(CORE), "SNP is off on core 0", Some(3)),
        (InitError::AlreadyInitialised, "SNP is initialised already", Some(1)),
        (InitError::OutOfMemory, "no memory for RMP entries", None),
    ] {
        assert_eq!(error.to_string(), shown);
        assert_eq!(error.status().map(|status| status.0), status);
    }
    assert_eq!(format!("{:>4}|{:>6}", CORE, Exception::UndefinedOpcode), "   0|   #UD");
    let other = Setup::choices(|choices| choices.pvalidate_vmpl = PvalidateVmpl::Gp).host();
    let walk = other.valid(0x1000, 0x5000, 3);
    let refused = other.pvalidate(cpu(3, 1), &walk, K4, true);
    assert_eq!(refused, Err(GuestStop::Exception(Exception::GeneralProtection)));
}
