//! Every named bit, one at a time: a bit set shows in its own name and in no other.

use snp_defs::{
    Fn8000001f, Fn80000025, Hwcr, NestedFaultCode, PageFaultCode, RmpBase, RmpCfg, RmpEnd,
    RmpEntry, SevStatus, Syscfg, VmHsavePa,
};

/// A name, the bit that it should be, and its reader.
type Named<T> = (&'static str, u32, fn(T) -> bool);

fn hold<T: Copy>(make: fn(u64) -> T, width: u32, names: &[Named<T>]) {
    for bit in 0..width {
        for (raw, inverted) in [(1u64 << bit, false), (!(1u64 << bit), true)] {
            for (name, place, read) in names {
                assert_eq!(read(make(raw)), (bit == *place) != inverted, "{name} in {raw:#x}");
            }
        }
    }
}

#[test]
fn syscfg() {
    hold(
        Syscfg,
        64,
        &[
            ("MtrrFixDramEn", 18, Syscfg::mtrr_fix_dram_en),
            ("MtrrFixDramModEn", 19, Syscfg::mtrr_fix_dram_mod_en),
            ("MtrrVarDramEn", 20, Syscfg::mtrr_var_dram_en),
            ("MtrrTom2En", 21, Syscfg::mtrr_tom2_en),
            ("Tom2ForceMemTypeWB", 22, Syscfg::tom2_force_wb),
            ("MemEncryptionModEn", 23, Syscfg::mem_encryption_mod_en),
            ("SecureNestedPagingEn", 24, Syscfg::snp_en),
            ("VMPLEn", 25, Syscfg::vmpl_en),
        ],
    );
    // SMEE, SNP_EN, VMPL_EN, MFDM.
    assert_eq!(Syscfg::SNP_INIT_NEEDS, 1 << 23 | 1 << 24 | 1 << 25 | 1 << 19);
    for bit in [19, 23, 24, 25] {
        let lacks = Syscfg(Syscfg::SNP_INIT_NEEDS & !(1 << bit));
        assert_eq!(lacks.missing_for_snp_init(), 1 << bit);
    }
    assert_eq!(Syscfg(u64::MAX).missing_for_snp_init(), 0);
}

#[test]
fn the_small_registers() {
    hold(Hwcr, 64, &[("SmmLock", 0, Hwcr::smm_lock)]);
    hold(
        SevStatus,
        64,
        &[
            ("SEV", 0, SevStatus::sev),
            ("SEV-ES", 1, SevStatus::sev_es),
            ("SNP", 2, SevStatus::sev_snp),
        ],
    );
    hold(RmpCfg, 64, &[("SegmentedRmpEn", 0, RmpCfg::is_segmented)]);
    for bit in 0..64 {
        let raw = 1u64 << bit;
        let shift = if (8..14).contains(&bit) { 1 << (bit - 8) } else { 0 };
        assert_eq!(RmpCfg(raw).segment_shift(), shift, "{raw:#x}");
        assert_eq!(RmpCfg::MUST_BE_ZERO & raw != 0, bit != 0 && shift == 0, "{raw:#x}");
        assert_eq!(
            (VmHsavePa(raw).allows_vmrun(), VmHsavePa(raw).allows_rmp_init()),
            (true, false)
        );
    }
    assert_eq!(RmpCfg::segmented(0x7F).raw(), 0x3F01, "six bits of size");
    assert_eq!(format!("{:?} {:?}", RmpBase(0x10), RmpEnd(0x1f)), "RmpBase(0x10) RmpEnd(0x1f)");
    assert_eq!((RmpBase(7).raw(), RmpEnd(9).raw()), (7, 9));
}

#[test]
fn encryption_leaf() {
    let leaf = |raw: u64| Fn8000001f { eax: raw as u32, ..Fn8000001f::default() };
    let sample: [Named<Fn8000001f>; 6] = [
        ("SEV-SNP", 4, Fn8000001f::sev_snp),
        ("RMPQUERY", 6, Fn8000001f::rmpquery),
        ("RMPREAD", 21, Fn8000001f::rmpread),
        ("SegmentedRmp", 23, Fn8000001f::segmented_rmp),
        ("NestedVirtSnpMsr", 29, Fn8000001f::nested_virt_snp_msr),
        ("HvInUseWrAllowed", 30, Fn8000001f::hv_in_use_wr_allowed),
    ];
    hold(leaf, 32, &sample);
    for (position, _, value) in [(0, 6, 0x3F), (6, 6, 0x3F), (12, 4, 0xF)] {
        let leaf = Fn8000001f { ebx: value << position, ecx: 77, edx: 9, eax: 0 };
        let read = (leaf.c_bit(), leaf.address_reduction(), leaf.vmpls());
        let expected = (
            if position == 0 { value } else { 0 },
            if position == 6 { value } else { 0 },
            if position == 12 { value } else { 0 },
        );
        assert_eq!(read, expected);
        assert_eq!((leaf.asids(), leaf.min_sev_asid(), leaf.snp_asids()), (77, 9, 8));
    }
    assert_eq!(Fn8000001f { ebx: u32::MAX, ..Fn8000001f::default() }.vmpls(), 0xF);
    assert_eq!(Fn8000001f::default().snp_asids(), 0, "no ASIDs at all");
}

#[test]
fn segment_leaf() {
    let leaf = |eax, ebx, edx| Fn80000025 { eax, ebx, ecx: 0, edx };
    for bit in 0..32 {
        let raw = 1u32 << bit;
        let low = if bit < 6 { raw } else { 0 };
        let high = if (6..12).contains(&bit) { raw >> 6 } else { 0 };
        let sizes = leaf(raw, 0, 0);
        assert_eq!((sizes.min_segment_shift(), sizes.max_segment_shift()), (low, high));
        let cached = if bit < 10 { raw } else { 0 };
        let ebx = leaf(0, raw, 0);
        assert_eq!((ebx.cached_segments(), ebx.is_hard_limit()), (cached, bit == 10));
        assert_eq!(leaf(0, 0, raw).rmpopt(), bit == 0);
    }
    let all = leaf(u32::MAX, u32::MAX, u32::MAX);
    assert_eq!((all.min_segment_shift(), all.max_segment_shift()), (63, 63));
    assert_eq!(all.cached_segments(), 1023);
}

#[test]
fn rmp_entry() {
    let low = |lo| RmpEntry { lo, hi: 0 };
    hold(
        low,
        64,
        &[
            ("assigned", 0, RmpEntry::assigned),
            ("page size", 1, |entry| entry.page_size().bit() == 1),
            ("immutable", 2, RmpEntry::immutable),
            ("vmsa", 61, RmpEntry::vmsa),
            ("validated", 62, RmpEntry::validated),
            ("lock", 63, RmpEntry::lock),
        ],
    );
    for bit in 0..64 {
        let entry = low(1u64 << bit);
        let part =
            |from: u32, to: u32| if (from..=to).contains(&bit) { 1u64 << (bit - from) } else { 0 };
        assert_eq!(u64::from(entry.subpage_count()), part(3, 11), "bit {bit}");
        assert_eq!(entry.gpa_page(), part(12, 50), "bit {bit}");
        assert_eq!(u64::from(entry.asid()), part(51, 60), "bit {bit}");
        let high = RmpEntry { lo: 0, hi: 1u64 << bit };
        for vmpl in 0..6 {
            let rights = if vmpl < 4 && bit / 8 == vmpl { 1u8 << (bit % 8) } else { 0 };
            assert_eq!(high.vmpl_permissions(vmpl), rights, "bit {bit}, VMPL {vmpl}");
        }
    }
}

#[test]
fn rmp_entry_is_written_field_by_field() {
    let zero = RmpEntry::default();
    for on in [true, false] {
        let bit = u64::from(on);
        assert_eq!(zero.with_assigned(on).lo, bit);
        assert_eq!(zero.with_immutable(on).lo, bit << 2);
        assert_eq!(zero.with_vmsa(on).lo, bit << 61);
        assert_eq!(zero.with_validated(on).lo, bit << 62);
        assert_eq!(zero.with_lock(on).lo, bit << 63);
        let all = RmpEntry { lo: u64::MAX, hi: 7 };
        assert_eq!(all.with_lock(on), RmpEntry { lo: u64::MAX >> 1 | bit << 63, hi: 7 });
    }
    assert_eq!(zero.with_subpage_count(0x3FF).lo, 0x1FF << 3, "nine bits");
    assert_eq!(zero.with_gpa_page(u64::MAX).lo, 0x7F_FFFF_FFFF << 12);
    assert_eq!(zero.with_asid(0x7FF).lo, 0x3FF << 51, "ten bits");
    assert_eq!((RmpEntry::MAX_ASID, RmpEntry::MAX_GPA_PAGE), (1023, 0x7F_FFFF_FFFF));
    assert_eq!((RmpEntry::SUBPAGE_COUNT_MASK, RmpEntry::SUBPAGE_COUNT_ONE), (0xFF8, 8));
    assert_eq!((RmpEntry::ASSIGNED_BIT, RmpEntry::PAGE_SIZE_BIT), (1, 2));
    assert_eq!(RmpEntry::FIRMWARE_IOMMU.gpa_page(), 0x20_0000_0001);
    assert_eq!(
        format!("{:?}", RmpEntry { lo: 0x6010_ffff_ffff_f001, hi: 0x1f }),
        "[0x6010fffffffff001 - 0x000000000000001f]"
    );
}

#[test]
fn fault_codes() {
    hold(
        PageFaultCode,
        64,
        &[
            ("P", 0, PageFaultCode::present),
            ("W", 1, PageFaultCode::write),
            ("U", 2, PageFaultCode::user),
            ("RSVD", 3, PageFaultCode::reserved),
            ("I", 4, PageFaultCode::fetch),
            ("PK", 5, PageFaultCode::protection_key),
            ("SS", 6, PageFaultCode::shadow_stack),
            ("RMP", 31, PageFaultCode::rmp),
        ],
    );
    hold(
        NestedFaultCode,
        64,
        &[
            ("P", 0, NestedFaultCode::present),
            ("W", 1, NestedFaultCode::write),
            ("U", 2, NestedFaultCode::user),
            ("RSVD", 3, NestedFaultCode::reserved),
            ("I", 4, NestedFaultCode::fetch),
            ("SS", 6, NestedFaultCode::shadow_stack),
            ("RMP", 31, NestedFaultCode::rmp),
            ("FINAL", 32, NestedFaultCode::final_address),
            ("WALK", 33, NestedFaultCode::table_walk),
            ("ENC", 34, NestedFaultCode::encrypted),
            ("SIZEM", 35, NestedFaultCode::size_mismatch),
            ("VMPL", 36, NestedFaultCode::vmpl),
            ("SSS", 37, NestedFaultCode::supervisor_shadow_stack),
        ],
    );
    assert_eq!(NestedFaultCode(1 << 40 | 1).to_string(), "0x10000000001 P +0x10000000000");
}
