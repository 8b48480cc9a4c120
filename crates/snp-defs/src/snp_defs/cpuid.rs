//! CPUID: whether SNP, segmented RMP and RMPOPT are there, and their limits.
//!
//! Above the maximum extended leaf a CPU returns other data, at times plausible: QEMU answers leaf
//! `8000_0025` with its highest basic leaf, and AMD's RMPOPT bit may then read 1. So the maximum is
//! read *first*: [`ExtendedLeaves`] is the proof of it, and the only way to the leaves. On a CPU with
//! CLZERO and without RMPOPT the instruction's bytes zero memory, see [`crate::snp_defs::insn`].
//!
//! Source: spec/snp-arch.md 1.2, 1.3 (APM App. E, Linux `cpufeatures.h`); spec/rmpopt.md 2.

use core::fmt;

/// What CPUID returns for one leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CpuidRegs {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl CpuidRegs {
    /// The vendor string of leaf 0 or `8000_0000`: EBX, EDX, ECX in this order.
    pub fn vendor(self) -> [u8; 12] {
        let mut name = [0; 12];
        let words = [self.ebx, self.edx, self.ecx];
        for (part, word) in name.chunks_exact_mut(4).zip(words) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        name
    }
}

/// The vendor string of the only CPUs with these instructions.
pub const VENDOR_AMD: [u8; 12] = *b"AuthenticAMD";

/// Leaf of the vendor string and the basic maximum.
pub const LEAF_VENDOR: u32 = 0;
/// Leaf of the extended maximum (EAX).
pub const LEAF_EXTENDED_MAX: u32 = 0x8000_0000;
/// Leaf of address sizes and small features; EBX\[0\] is CLZERO.
pub const LEAF_SIZES: u32 = 0x8000_0008;
/// Leaf of the encryption features.
pub const LEAF_ENCRYPTION: u32 = 0x8000_001F;
/// Leaf of the segmented RMP and RMPOPT.
pub const LEAF_SEGMENTED_RMP: u32 = 0x8000_0025;

/// Proof that this CPU is AMD's and how far its extended leaves go; reads them through `R`.
///
/// `R` is the CPUID instruction on one CPU, a recorded dump, or a model: `Fn(leaf, subleaf)`.
#[derive(Clone, Copy)]
pub struct ExtendedLeaves<R> {
    read: R,
    max: u32,
}

impl<R: Fn(u32, u32) -> CpuidRegs> ExtendedLeaves<R> {
    /// Reads the vendor, then the extended maximum.
    pub fn probe(read: R) -> Result<Self, CpuidError> {
        let vendor = read(LEAF_VENDOR, 0).vendor();
        if vendor != VENDOR_AMD {
            return Err(CpuidError::Vendor { vendor });
        }
        let max = read(LEAF_EXTENDED_MAX, 0).eax;
        if max < LEAF_EXTENDED_MAX {
            return Err(CpuidError::NoExtendedLeaves { max });
        }
        Ok(Self { read, max })
    }

    /// The highest extended leaf.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// An extended leaf, `None` if the CPU does not have it.
    pub fn leaf(&self, leaf: u32, subleaf: u32) -> Option<CpuidRegs> {
        (leaf >= LEAF_EXTENDED_MAX && leaf <= self.max).then(|| (self.read)(leaf, subleaf))
    }

    /// Encryption features, `None` if the CPU has no such leaf.
    pub fn fn8000_001f(&self) -> Option<Fn8000001f> {
        let CpuidRegs { eax, ebx, ecx, edx } = self.leaf(LEAF_ENCRYPTION, 0)?;
        Some(Fn8000001f { eax, ebx, ecx, edx })
    }

    /// Segmented RMP and RMPOPT, `None` if the CPU has no such leaf.
    pub fn fn8000_0025(&self) -> Option<Fn80000025> {
        let CpuidRegs { eax, ebx, ecx, edx } = self.leaf(LEAF_SEGMENTED_RMP, 0)?;
        Some(Fn80000025 { eax, ebx, ecx, edx })
    }

    /// Whether the CPU has CLZERO, whose bytes RMPOPT's encoding contains.
    pub fn has_clzero(&self) -> bool {
        self.leaf(LEAF_SIZES, 0).is_some_and(|regs| regs.ebx & 1 != 0)
    }

    /// Proves that this CPU has RMPOPT and all it stands on.
    pub fn prove_rmpopt(&self) -> Result<RmpoptProof, CpuidError> {
        let absent = |leaf| CpuidError::NoLeaf { leaf, max: self.max };
        let encryption = self.fn8000_001f().ok_or(absent(LEAF_ENCRYPTION))?;
        if !encryption.sev_snp() {
            return Err(CpuidError::NoSnp { eax: encryption.eax });
        }
        if !encryption.segmented_rmp() {
            return Err(CpuidError::NoSegmentedRmp { eax: encryption.eax });
        }
        let segments = self.fn8000_0025().ok_or(absent(LEAF_SEGMENTED_RMP))?;
        if !segments.rmpopt() {
            return Err(CpuidError::NoRmpopt { edx: segments.edx });
        }
        Ok(RmpoptProof { encryption, segments })
    }
}

impl<R> fmt::Debug for ExtendedLeaves<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtendedLeaves(max {:#x})", self.max)
    }
}

/// Proof that the CPU it was made on has SNP, segmented RMP and RMPOPT. Only CPUID makes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RmpoptProof {
    encryption: Fn8000001f,
    segments: Fn80000025,
}

impl RmpoptProof {
    /// The encryption leaf of that CPU.
    pub const fn encryption(&self) -> Fn8000001f {
        self.encryption
    }

    /// The segmented RMP leaf of that CPU.
    pub const fn segments(&self) -> Fn80000025 {
        self.segments
    }
}

/// What CPUID lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuidError {
    /// Not an AMD CPU.
    Vendor {
        /// The vendor string found.
        vendor: [u8; 12],
    },
    /// The CPU has no extended leaves.
    NoExtendedLeaves {
        /// EAX of leaf `8000_0000`.
        max: u32,
    },
    /// A leaf is above the maximum.
    NoLeaf {
        /// The leaf wanted.
        leaf: u32,
        /// The highest there is.
        max: u32,
    },
    /// `Fn8000_001F` EAX\[4\] is clear: no SNP, or the firmware setup switched it off.
    NoSnp {
        /// EAX found.
        eax: u32,
    },
    /// `Fn8000_001F` EAX\[23\] is clear.
    NoSegmentedRmp {
        /// EAX found.
        eax: u32,
    },
    /// `Fn8000_0025` EDX\[0\] is clear.
    NoRmpopt {
        /// EDX found.
        edx: u32,
    },
}

impl fmt::Display for CpuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Vendor { vendor } => {
                f.write_str("CPUID vendor \"")?;
                for byte in vendor {
                    let shown = if byte.is_ascii_graphic() { byte as char } else { '.' };
                    fmt::Write::write_char(f, shown)?;
                }
                f.write_str("\", expected \"AuthenticAMD\"")
            }
            Self::NoExtendedLeaves { max } => {
                write!(f, "CPUID Fn8000_0000 EAX {max:#x}, expected 0x80000000 or more")
            }
            Self::NoLeaf { leaf, max } => {
                write!(f, "CPUID maximum extended leaf {max:#x}, expected {leaf:#x} or more")
            }
            Self::NoSnp { eax } => {
                write!(f, "CPUID Fn8000_001F EAX {eax:#x}, expected bit 4 (SEV-SNP) set")
            }
            Self::NoSegmentedRmp { eax } => {
                write!(f, "CPUID Fn8000_001F EAX {eax:#x}, expected bit 23 (segmented RMP) set")
            }
            Self::NoRmpopt { edx } => {
                write!(f, "CPUID Fn8000_0025 EDX {edx:#x}, expected bit 0 (RMPOPT) set")
            }
        }
    }
}

impl core::error::Error for CpuidError {}

/// `Fn8000_001F`: encryption features. Fields hold the registers as read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Fn8000001f {
    /// Feature bits.
    pub eax: u32,
    /// C-bit, address reduction, number of VMPLs.
    pub ebx: u32,
    /// Encrypted guests at once.
    pub ecx: u32,
    /// First ASID of plain SEV.
    pub edx: u32,
}

macro_rules! features {
    ($($(#[$doc:meta])* $get:ident = $bit:literal;)*) => {
        impl Fn8000001f {
            /// Bit and accessor name of every feature named here, in order of bits.
            pub const FEATURES: &'static [(u32, &'static str)] =
                &[$(($bit, stringify!($get))),*];
            $(
                $(#[$doc])*
                #[doc = concat!("\n\nEAX\\[", stringify!($bit), "\\].")]
                pub const fn $get(self) -> bool {
                    self.eax & (1 << $bit) != 0
                }
            )*
        }
    };
}

features! {
    /// Secure memory encryption.
    sme = 0;
    /// Secure encrypted virtualization.
    sev = 1;
    /// The page flush MSR.
    page_flush_msr = 2;
    /// SEV-ES.
    sev_es = 3;
    /// SEV-SNP.
    sev_snp = 4;
    /// VM permission levels.
    vmpl = 5;
    /// The RMPQUERY instruction.
    rmpquery = 6;
    /// Supervisor shadow stack per VMPL.
    vmpl_sss = 7;
    /// Secure TSC.
    secure_tsc = 8;
    /// `TSC_AUX` virtualization.
    tsc_aux = 9;
    /// Caches are coherent over encryption domains.
    coherent_encryption = 10;
    /// SEV guests need a 64-bit host.
    host_64_bit_only = 11;
    /// Restricted injection.
    restricted_injection = 12;
    /// Alternate injection.
    alternate_injection = 13;
    /// Debug register swap.
    debug_swap = 14;
    /// The host's IBS can be kept off a guest.
    prevent_host_ibs = 15;
    /// Virtual transparent encryption.
    vte = 16;
    /// VMGEXIT parameter.
    vmgexit_parameter = 17;
    /// Virtual top of memory MSR.
    virtual_tom_msr = 18;
    /// IBS for guests.
    ibs_virt_guest = 19;
    /// The RMPREAD instruction.
    rmpread = 21;
    /// Guest intercept control.
    guest_intercept_ctl = 22;
    /// The RMP may be in segments.
    segmented_rmp = 23;
    /// VMSA register protection.
    vmsa_reg_prot = 24;
    /// SMT protection.
    smt_protection = 25;
    /// Secure AVIC.
    secure_avic = 26;
    /// Allowed SEV features.
    allowed_sev_features = 27;
    /// SVSM communication page MSR.
    svsm_comm_page_msr = 28;
    /// `VIRT_RMPUPDATE` and `VIRT_PSMASH`.
    nested_virt_snp_msr = 29;
    /// Writes beside an in-use page are allowed: the 2M false fault is mended.
    hv_in_use_wr_allowed = 30;
    /// IBPB on entry.
    ibpb_on_entry = 31;
}

impl Fn8000001f {
    /// Position of the C-bit, EBX\[5:0\].
    pub const fn c_bit(self) -> u32 {
        self.ebx & 0x3F
    }

    /// Physical address bits lost to encryption, EBX\[11:6\].
    pub const fn address_reduction(self) -> u32 {
        self.ebx >> 6 & 0x3F
    }

    /// Number of VM permission levels, EBX\[15:12\].
    pub const fn vmpls(self) -> u32 {
        self.ebx >> 12 & 0xF
    }

    /// Encrypted guests at once, that is the highest ASID, ECX.
    pub const fn asids(self) -> u32 {
        self.ecx
    }

    /// First ASID for plain SEV, EDX; those below are for SEV-ES and SNP.
    pub const fn min_sev_asid(self) -> u32 {
        self.edx
    }

    /// ASIDs that SNP guests can have: 1 to one below plain SEV's first.
    pub const fn snp_asids(self) -> u32 {
        self.edx.saturating_sub(1)
    }
}

/// `Fn8000_0025`: segmented RMP and RMPOPT. Fields hold the registers as read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Fn80000025 {
    /// Segment sizes.
    pub eax: u32,
    /// Cached segment definitions.
    pub ebx: u32,
    /// Reserved.
    pub ecx: u32,
    /// RMPOPT.
    pub edx: u32,
}

impl Fn80000025 {
    /// Smallest segment, as log2 of bytes, EAX\[5:0\].
    ///
    /// The manual's prose gives another unit; Linux compares the field with `RMP_CFG`'s size
    /// directly, and so does this crate (spec/snp-arch.md 1.3).
    pub const fn min_segment_shift(self) -> u32 {
        self.eax & 0x3F
    }

    /// Largest segment, as log2 of bytes, EAX\[11:6\].
    pub const fn max_segment_shift(self) -> u32 {
        self.eax >> 6 & 0x3F
    }

    /// Segment definitions that the CPU caches, EBX\[9:0\].
    pub const fn cached_segments(self) -> u32 {
        self.ebx & 0x3FF
    }

    /// Whether [`Self::cached_segments`] is a hard limit, EBX\[10\].
    pub const fn is_hard_limit(self) -> bool {
        self.ebx & 1 << 10 != 0
    }

    /// Whether the CPU has RMPOPT, EDX\[0\].
    pub const fn rmpopt(self) -> bool {
        self.edx & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd(eax: u32) -> CpuidRegs {
        CpuidRegs { eax, ebx: 0x6874_7541, ecx: 0x444D_4163, edx: 0x6974_6E65 }
    }

    /// A CPU as recorded, that answers leaves above its maximum with rubbish, as real ones do.
    fn cpu(max: u32, enc: [u32; 4], seg: [u32; 4]) -> impl Fn(u32, u32) -> CpuidRegs {
        move |leaf, _| {
            let [eax, ebx, ecx, edx] = match leaf {
                0 => return amd(0x10),
                0x8000_0000 => return amd(max),
                _ if leaf > max => [0x207, 0xa88, 0xa88, u32::MAX],
                0x8000_0008 => [0, 0x3, 0, 0],
                0x8000_001F => enc,
                0x8000_0025 => seg,
                _ => [0; 4],
            };
            CpuidRegs { eax, ebx, ecx, edx }
        }
    }

    const TURIN: [[u32; 4]; 2] =
        [[0xcfff_fffb, 0x41b3, 0x3ee, 1], [0x0000_0aa4, 0x0000_0410, 0, 0]];

    /// Public dumps of real machines: `InstLatx64`, hwloc (Milan with newer microcode), an issue report.
    #[test]
    fn dumps_of_real_machines() {
        struct Row {
            name: &'static str,
            max: u32,
            enc: [u32; 4],
            snp: bool,
            segmented: bool,
            rmpread: bool,
            c_bit: u32,
            reduction: u32,
            vmpls: u32,
            asids: u32,
        }
        let row = |name, max, enc, (snp, segmented, rmpread), (c_bit, reduction, vmpls), asids| {
            Row { name, max, enc, snp, segmented, rmpread, c_bit, reduction, vmpls, asids }
        };
        let (yes, no, none) = ((true, true, true), (true, false, false), (false, false, false));
        for row in [
            row("Rome", 0x8000_0020, [0x1_000f, 0x16f, 509, 1], none, (47, 5, 0), 509),
            row("Milan", 0x8000_0023, [0x1_fc3f, 0x4173, 509, 1], no, (51, 5, 4), 509),
            row("Milan SP", 0x8000_0023, [0x101_fd3f, 0x4173, 509, 1], no, (51, 5, 4), 509),
            row("Genoa_01", 0x8000_0028, [0x30f_ffeb, 0x41b3, 1006, 1], none, (51, 6, 4), 1006),
            row("Genoa_02", 0x8000_0028, [0x30f_fffb, 0x41b3, 1006, 1], no, (51, 6, 4), 1006),
            row("Turin", 0x8000_0028, TURIN[0], yes, (51, 6, 4), 1006),
            row("DL385", 0x8000_0023, [0x101_fd3f, 0x4133, 253, 15], no, (51, 4, 4), 253),
        ] {
            let leaves = ExtendedLeaves::probe(cpu(row.max, row.enc, [0; 4])).unwrap();
            let leaf = leaves.fn8000_001f().unwrap();
            assert_eq!(leaf.sev_snp(), row.snp, "{}", row.name);
            assert_eq!(leaf.segmented_rmp(), row.segmented, "{}", row.name);
            assert_eq!(leaf.rmpread(), row.rmpread, "{}", row.name);
            assert_eq!(
                (leaf.c_bit(), leaf.address_reduction(), leaf.vmpls(), leaf.asids()),
                (row.c_bit, row.reduction, row.vmpls, row.asids),
                "{}",
                row.name
            );
            assert_eq!(leaves.fn8000_0025().is_some(), row.max >= 0x8000_0025, "{}", row.name);
            assert!(leaves.has_clzero(), "{}", row.name);
        }
        let dl385 = Fn8000001f { eax: 0, ebx: 0x4133, ecx: 0xfd, edx: 15 };
        assert_eq!((dl385.min_sev_asid(), dl385.snp_asids()), (15, 14));
    }

    #[test]
    fn segments_of_turin() {
        let leaves = ExtendedLeaves::probe(cpu(0x8000_0028, TURIN[0], TURIN[1])).unwrap();
        let leaf = leaves.fn8000_0025().unwrap();
        assert_eq!((leaf.min_segment_shift(), leaf.max_segment_shift()), (36, 42));
        assert_eq!((leaf.cached_segments(), leaf.is_hard_limit()), (16, true));
        assert!(leaves.fn8000_001f().unwrap().hv_in_use_wr_allowed());
        assert_eq!(leaves.prove_rmpopt(), Err(CpuidError::NoRmpopt { edx: 0 }));
    }

    #[test]
    fn rmpopt_needs_a_proof() {
        let with = |max, enc, seg| ExtendedLeaves::probe(cpu(max, enc, seg))?.prove_rmpopt();
        let seg = [0xaa4, 0x410, 0, 1];
        assert!(with(0x8000_0028, TURIN[0], seg).is_ok());
        // The leaf's data would say RMPOPT, but the leaf is not there.
        let error = with(0x8000_0023, TURIN[0], seg).unwrap_err();
        assert_eq!(error, CpuidError::NoLeaf { leaf: 0x8000_0025, max: 0x8000_0023 });
        assert_eq!(
            error.to_string(),
            "CPUID maximum extended leaf 0x80000023, expected 0x80000025 or more"
        );
        let bare = with(0x8000_0028, [0x30f_ffeb, 0, 0, 0], seg);
        assert_eq!(bare, Err(CpuidError::NoSnp { eax: 0x30f_ffeb }));
        let contiguous = with(0x8000_0028, [0x30f_fffb, 0, 0, 0], seg);
        assert_eq!(contiguous, Err(CpuidError::NoSegmentedRmp { eax: 0x30f_fffb }));
    }

    #[test]
    fn other_vendors_and_old_cpus_are_refused() {
        let intel =
            |_, _| CpuidRegs { eax: 0x1b, ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e };
        let error = ExtendedLeaves::probe(intel).unwrap_err();
        assert_eq!(error.to_string(), "CPUID vendor \"GenuineIntel\", expected \"AuthenticAMD\"");
        let old = |_, _| amd(1);
        assert_eq!(
            ExtendedLeaves::probe(old).unwrap_err(),
            CpuidError::NoExtendedLeaves { max: 1 }
        );
        let odd = |_, _| amd(u32::MAX);
        assert_eq!(
            ExtendedLeaves::probe(odd).unwrap().leaf(1, 0),
            None,
            "basic leaves are not here"
        );
    }

    #[test]
    fn features_are_in_order_of_bits() {
        assert!(Fn8000001f::FEATURES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
