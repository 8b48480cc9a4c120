//! CPUID and MSR values: edges, refusals, and what they say.

use std::error::Error;

use snp_defs::{
    insn, CpuidError, CpuidRegs, ExtendedLeaves, Fn80000025, Region, RmpBase, RmpCfg, RmpCfgFault,
    RmpOperand, RmpStatus, RmpoptBase, RmpoptFunction, Syscfg, Window,
};

fn amd(eax: u32) -> CpuidRegs {
    CpuidRegs { eax, ebx: 0x6874_7541, ecx: 0x444D_4163, edx: 0x6974_6E65 }
}

/// A CPU whose leaves all read `(leaf, subleaf)` back, up to `max`.
fn echo(max: u32) -> impl Fn(u32, u32) -> CpuidRegs {
    move |leaf, subleaf| match leaf {
        0 | 0x8000_0000 => amd(max),
        _ => CpuidRegs { eax: leaf, ebx: subleaf, ecx: 0, edx: 0 },
    }
}

#[test]
fn leaves_end_at_the_maximum() {
    let leaves = ExtendedLeaves::probe(echo(0x8000_0008)).unwrap();
    assert_eq!(leaves.max(), 0x8000_0008);
    assert_eq!(format!("{leaves:?}"), "ExtendedLeaves(max 0x80000008)");
    assert_eq!(leaves.leaf(0x8000_0008, 3).unwrap().ebx, 3);
    assert_eq!(leaves.leaf(0x8000_0000, 0), Some(amd(0x8000_0008)));
    assert_eq!((leaves.leaf(0x8000_0009, 0), leaves.leaf(0x7FFF_FFFF, 0)), (None, None));
    assert!(!leaves.has_clzero(), "EBX[0] is clear");
    // Just the first leaf is enough to be there, one less is not.
    assert!(ExtendedLeaves::probe(echo(0x8000_0000)).is_ok());
    let none = ExtendedLeaves::probe(echo(0x7FFF_FFFF)).unwrap_err();
    assert_eq!(none.to_string(), "CPUID Fn8000_0000 EAX 0x7fffffff, expected 0x80000000 or more");
    let below = ExtendedLeaves::probe(echo(0x8000_0007)).unwrap();
    assert!(!below.has_clzero() && below.fn8000_001f().is_none() && below.fn8000_0025().is_none());
}

#[test]
fn clzero_is_one_bit() {
    for ebx in [0, 1, 2, 3, u32::MAX, u32::MAX - 1] {
        let cpu = move |leaf, _| match leaf {
            0 | 0x8000_0000 => amd(0x8000_0008),
            _ => CpuidRegs { ebx, ..CpuidRegs::default() },
        };
        assert_eq!(ExtendedLeaves::probe(cpu).unwrap().has_clzero(), ebx % 2 == 1, "{ebx:#x}");
    }
}

#[test]
fn a_proof_keeps_the_leaves_it_came_from() {
    let cpu = |leaf, _| match leaf {
        0 | 0x8000_0000 => amd(0x8000_0028),
        0x8000_001F => CpuidRegs { eax: 1 << 4 | 1 << 23, ebx: 51, ecx: 5, edx: 4 },
        _ => CpuidRegs { eax: 0xAA4, ebx: 0x410, ecx: 0, edx: 1 },
    };
    let proof = ExtendedLeaves::probe(cpu).unwrap().prove_rmpopt().unwrap();
    assert_eq!((proof.encryption().c_bit(), proof.encryption().asids()), (51, 5));
    assert_eq!((proof.segments().cached_segments(), proof.segments().edx), (16, 1));
}

#[test]
fn cpuid_errors_say_what_was_expected() {
    for (error, shown) in [
        (
            CpuidError::Vendor { vendor: *b"Who\n Knows\0\xFF" },
            "CPUID vendor \"Who..Knows..\", expected \"AuthenticAMD\"",
        ),
        (CpuidError::NoSnp { eax: 0xF }, "CPUID Fn8000_001F EAX 0xf, expected bit 4 (SEV-SNP) set"),
        (
            CpuidError::NoSegmentedRmp { eax: 0x1F },
            "CPUID Fn8000_001F EAX 0x1f, expected bit 23 (segmented RMP) set",
        ),
        (CpuidError::NoRmpopt { edx: 2 }, "CPUID Fn8000_0025 EDX 0x2, expected bit 0 (RMPOPT) set"),
    ] {
        assert_eq!(error.to_string(), shown);
        assert!(error.source().is_none());
    }
}

#[test]
fn rmp_cfg_faults_say_what_was_expected() {
    for (fault, shown) in [
        (
            RmpCfgFault::SnpEnabled { syscfg: 0x100_0000 },
            "RMP_CFG is frozen: SYSCFG 0x1000000 has SNP_EN set, expected clear",
        ),
        (
            RmpCfgFault::ReservedBits { value: 2 },
            "RMP_CFG 0x2 sets reserved bits, expected 0xffffffffffffc0fe clear",
        ),
        (
            RmpCfgFault::SegmentSize { shift: 35, min: 36, max: 42 },
            "RMP_CFG segment size 2^35, expected 2^36 to 2^42 (CPUID Fn8000_0025)",
        ),
    ] {
        assert_eq!(fault.to_string(), shown);
    }
    let limits = Some(Fn80000025 { eax: 0xAA4, ebx: 0, ecx: 0, edx: 0 });
    for shift in [36, 42] {
        assert_eq!(RmpCfg::segmented(shift).check_write(Syscfg(0), limits), Ok(()), "the edges");
    }
    let odd = RmpBase(0x18_0000);
    assert!(RmpCfg::segmented(36).check_snp_enable(odd).is_err(), "half a MiB");
    assert_eq!(RmpCfg(36 << 8).check_snp_enable(odd), Ok(()), "contiguous");
}

#[test]
fn rmpopt_base_and_window() {
    assert_eq!((RmpoptFunction::Verify.rcx(), RmpoptFunction::Report.rcx()), (0, 1));
    let last = Region::new(Region::LIMIT - 1).unwrap();
    let base = RmpoptBase::enabled_at(last);
    assert_eq!(base.raw(), (1 << 52) - (1 << 30) + 1);
    assert_eq!(RmpoptBase::from_raw(base.raw()), Ok(base));
    assert_eq!(format!("{base:?}"), "RmpoptBase(0xfffffc0000001)");
    for stray in [2, 1 << 29, 1 << 52, 1 << 63] {
        assert_eq!(RmpoptBase::from_raw(1 << 30 | stray), Err(1 << 30 | stray));
    }
    let off = RmpoptBase::from_raw(5 << 30).unwrap();
    assert!(!off.is_enabled() && off.window().base.get() == 5);
    // The last window is cut off at the end of the address space.
    let window = base.window();
    assert_eq!(
        (window.end(), window.region(0), window.region(1)),
        (Region::LIMIT, Some(last), None)
    );
    let inner = Window { base: Region::new(100).unwrap() };
    assert_eq!((inner.end(), inner.region(2047).unwrap().get()), (2148, 2147));
    assert_eq!(inner.region(2048), None);
    assert!(inner.covers(Region::new(100).unwrap()) && inner.covers(Region::new(2147).unwrap()));
    assert!(!inner.covers(Region::new(99).unwrap()) && !inner.covers(Region::new(2148).unwrap()));
    let edge = Window { base: Region::new(Region::LIMIT - 2048).unwrap() };
    assert_eq!(edge.end(), Region::LIMIT);
}

#[test]
fn result_codes_have_names() {
    for (code, name) in [
        (RmpStatus::SUCCESS, "SUCCESS(0)"),
        (RmpStatus::FAIL_INPUT, "FAIL_INPUT(1)"),
        (RmpStatus::FAIL_PERMISSION, "FAIL_PERMISSION(2)"),
        (RmpStatus::FAIL_INUSE, "FAIL_INUSE(3)"),
        (RmpStatus::FAIL_OVERLAP, "FAIL_OVERLAP(4)"),
        (RmpStatus::FAIL_SIZEMISMATCH, "FAIL_SIZEMISMATCH(6)"),
        (RmpStatus::FAIL_BADADDR, "FAIL_BADADDR(7)"),
        (RmpStatus(8), "RmpStatus(8)"),
    ] {
        assert_eq!((format!("{code}"), format!("{code:?}")), (name.into(), name.into()));
        assert_eq!(code.is_success(), code == RmpStatus::SUCCESS);
    }
}

#[test]
fn operands_read_their_lowest_bits() {
    for value in 0..=255u8 {
        let operand = RmpOperand {
            assigned: value,
            page_size: value,
            immutable: value,
            ..RmpOperand::default()
        };
        let odd = value % 2 == 1;
        assert_eq!((operand.is_assigned(), operand.is_immutable()), (odd, odd));
        assert_eq!(operand.size().bit(), u64::from(odd));
        assert_eq!(operand.has_reserved_bits(), value > 1, "{value}");
    }
    let firmware = RmpOperand::firmware();
    assert!(firmware.is_assigned() && firmware.is_immutable());
    assert_eq!((firmware.asid, firmware.gpa, firmware.size().bit()), (0, 0, 0));
    let bytes: [u8; 16] = core::array::from_fn(|index| index as u8 + 1);
    let operand = RmpOperand::from_bytes(bytes);
    assert_eq!((operand.gpa, operand.asid), (0x0807_0605_0403_0201, 0x100F_0E0D));
    assert_eq!((operand.assigned, operand.page_size), (9, 10));
    assert_eq!((operand.immutable, operand.reserved), (11, 12));
    assert_eq!(operand.to_bytes(), bytes);
}

#[test]
fn longer_code_decodes_by_its_beginning() {
    let mut code = insn::PVALIDATE.to_vec();
    code.push(0xC3);
    assert_eq!(insn::decode(&code).unwrap().name, "PVALIDATE");
    assert_eq!(insn::decode(&code[1..]), None);
    assert_eq!(insn::decode(&[]), None);
}
