//! Model-specific registers of SEV-SNP: numbers, bits and the rules of their writes.
//!
//! Each register is a newtype over its raw value: bits that no source names are kept. Rules are pure
//! checks that say what the CPU would do; nothing here touches hardware. `RMPOPT_BASE`'s value is
//! [`crate::snp_defs::RmpoptBase`].
//!
//! Source: spec/snp-arch.md 1.1 (APM vol. 2 §15.36.2, §15.36.22; AMD's firmware `sev_plat.h`;
//! Linux `msr-index.h`).

use core::fmt;

use crate::snp_defs::Fn80000025;

/// `SYSCFG`: memory encryption and SNP switches.
pub const SYSCFG: u32 = 0xC001_0010;
/// `HWCR`: bit 0 is `SmmLock`.
pub const HWCR: u32 = 0xC001_0015;
/// `VM_HSAVE_PA`: where VMRUN saves the host's state.
pub const VM_HSAVE_PA: u32 = 0xC001_0117;
/// `GHCB`: guest-hypervisor communication block.
pub const GHCB: u32 = 0xC001_0130;
/// `SEV_STATUS`: what a guest sees of its own protection.
pub const SEV_STATUS: u32 = 0xC001_0131;
/// `RMP_BASE`: address of the RMP's first byte.
pub const RMP_BASE: u32 = 0xC001_0132;
/// `RMP_END`: address of the RMP's last byte; reads 0 with a segmented RMP.
pub const RMP_END: u32 = 0xC001_0133;
/// `RMP_CFG`: contiguous or segmented RMP, segment size.
pub const RMP_CFG: u32 = 0xC001_0136;
/// `HLT_WAKEUP_ICR`.
pub const HLT_WAKEUP_ICR: u32 = 0xC001_0137;
/// `SAVIC_CONTROL`: Secure AVIC (guest).
pub const SAVIC_CONTROL: u32 = 0xC001_0138;
/// `RMPOPT_BASE`: per core, enable bit and base of the 2 TiB window (spec/rmpopt.md 2).
pub const RMPOPT_BASE: u32 = 0xC001_0139;
/// `VIRT_RMPUPDATE`: RMPUPDATE for nested hypervisors (CPUID `Fn8000_001F` EAX\[29\]).
pub const VIRT_RMPUPDATE: u32 = 0xC001_F001;
/// `VIRT_PSMASH`: PSMASH for nested hypervisors.
pub const VIRT_PSMASH: u32 = 0xC001_F002;

macro_rules! bit {
    ($(#[$doc:meta])* $get:ident, $mask:ident, $bit:literal) => {
        #[doc = concat!("Mask of bit ", stringify!($bit), ", see `", stringify!($get), "`.")]
        pub const $mask: u64 = 1 << $bit;
        $(#[$doc])*
        pub const fn $get(self) -> bool {
            self.0 & Self::$mask != 0
        }
    };
}

macro_rules! register {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The raw value, unknown bits and all.
            pub const fn raw(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

register!(
    /// Value of [`SYSCFG`].
    Syscfg
);

impl Syscfg {
    bit!(
        /// `MtrrFixDramEn` (MFDE).
        mtrr_fix_dram_en, MTRR_FIX_DRAM_EN, 18
    );
    bit!(
        /// `MtrrFixDramModEn` (MFDM): set on every core before `SNP_INIT`.
        mtrr_fix_dram_mod_en, MTRR_FIX_DRAM_MOD_EN, 19
    );
    bit!(
        /// `MtrrVarDramEn` (position from memory, not from a source).
        mtrr_var_dram_en, MTRR_VAR_DRAM_EN, 20
    );
    bit!(
        /// `MtrrTom2En`.
        mtrr_tom2_en, MTRR_TOM2_EN, 21
    );
    bit!(
        /// `Tom2ForceMemTypeWB` (position from memory, not from a source).
        tom2_force_wb, TOM2_FORCE_WB, 22
    );
    bit!(
        /// `MemEncryptionModEn` (SMEE).
        mem_encryption_mod_en, MEM_ENCRYPTION_MOD_EN, 23
    );
    bit!(
        /// `SecureNestedPagingEn` (`SNP_EN`): RMP checks are on.
        snp_en, SNP_EN, 24
    );
    bit!(
        /// `VMPLEn` (`VMPL_EN`).
        vmpl_en, VMPL_EN, 25
    );

    /// What `SNP_INIT` wants to find set on every core: SMEE, `SNP_EN`, `VMPL_EN`, MFDM
    /// (spec/snp-arch.md 4.4).
    pub const SNP_INIT_NEEDS: u64 =
        Self::MEM_ENCRYPTION_MOD_EN | Self::SNP_EN | Self::VMPL_EN | Self::MTRR_FIX_DRAM_MOD_EN;

    /// The bits of [`Self::SNP_INIT_NEEDS`] that are missing; 0 if none.
    pub const fn missing_for_snp_init(self) -> u64 {
        Self::SNP_INIT_NEEDS & !self.0
    }

    /// The register after software wrote `new`: once `SNP_EN` is set, writes are silently ignored.
    pub const fn after_write(self, new: Self) -> Self {
        if self.snp_en() {
            self
        } else {
            new
        }
    }
}

register!(
    /// Value of [`HWCR`].
    Hwcr
);

impl Hwcr {
    bit!(
        /// `SmmLock`: must be 1 for `SNP_INIT`.
        smm_lock, SMM_LOCK, 0
    );
}

register!(
    /// Value of [`VM_HSAVE_PA`]: an address, 0 for none.
    VmHsavePa
);

impl VmHsavePa {
    /// Whether `SNP_INIT` may (re)initialise the RMP with this value: 0 on every core, else the
    /// firmware answers `INVALID_CONFIG`.
    pub const fn allows_rmp_init(self) -> bool {
        self.0 == 0
    }

    /// Whether VMRUN may use it: with 0 it raises #GP(0).
    pub const fn allows_vmrun(self) -> bool {
        self.0 != 0
    }
}

register!(
    /// Value of [`SEV_STATUS`].
    SevStatus
);

impl SevStatus {
    bit!(
        /// The guest runs with SEV.
        sev, SEV, 0
    );
    bit!(
        /// The guest runs with SEV-ES.
        sev_es, SEV_ES, 1
    );
    bit!(
        /// The guest runs with SEV-SNP.
        sev_snp, SEV_SNP, 2
    );
}

register!(
    /// Value of [`RMP_BASE`]: the same on all cores, written before `SNP_EN`.
    RmpBase
);

register!(
    /// Value of [`RMP_END`]: address of the last byte, inclusive.
    RmpEnd
);

register!(
    /// Value of [`RMP_CFG`].
    RmpCfg
);

impl RmpCfg {
    bit!(
        /// `SegmentedRmpEn`: the RMP is in segments.
        is_segmented, SEGMENTED_RMP_EN, 0
    );

    /// Bits 13:8, `RmpSegmentSize`.
    pub const SEGMENT_SIZE: u64 = 0x3F << 8;
    /// Every bit that is neither enable nor segment size must be zero.
    pub const MUST_BE_ZERO: u64 = !(Self::SEGMENTED_RMP_EN | Self::SEGMENT_SIZE);

    /// The value for a segmented RMP with segments of 2^`shift` bytes.
    pub const fn segmented(shift: u32) -> Self {
        Self(Self::SEGMENTED_RMP_EN | ((shift as u64) << 8 & Self::SEGMENT_SIZE))
    }

    /// log2 of a segment's size in bytes, as Linux reads it.
    pub const fn segment_shift(self) -> u32 {
        ((self.0 & Self::SEGMENT_SIZE) >> 8) as u32
    }

    /// What a write of this value does: `Err` is #GP(0) and its reason.
    ///
    /// `current` is the core's SYSCFG and `limits` what CPUID `Fn8000_0025` says, `None` if the CPU
    /// lacks that leaf (then every segment size is outside the limits).
    pub const fn check_write(
        self,
        current: Syscfg,
        limits: Option<Fn80000025>,
    ) -> Result<(), RmpCfgFault> {
        if current.snp_en() {
            return Err(RmpCfgFault::SnpEnabled { syscfg: current.0 });
        }
        if self.0 & Self::MUST_BE_ZERO != 0 {
            return Err(RmpCfgFault::ReservedBits { value: self.0 });
        }
        if !self.is_segmented() {
            return Ok(());
        }
        let shift = self.segment_shift();
        let (min, max) = match limits {
            Some(leaf) => (leaf.min_segment_shift(), leaf.max_segment_shift()),
            None => (0, 0),
        };
        if shift < min || shift > max {
            return Err(RmpCfgFault::SegmentSize { shift, min, max });
        }
        Ok(())
    }

    /// What setting `SNP_EN` does with this value: #GP(0) for a segmented RMP whose base is not
    /// 1 MiB aligned.
    pub const fn check_snp_enable(self, base: RmpBase) -> Result<(), RmpCfgFault> {
        if self.is_segmented() && base.0 % (1 << 20) != 0 {
            return Err(RmpCfgFault::BaseMisaligned { base: base.0 });
        }
        Ok(())
    }
}

/// Why the CPU raises #GP(0) for a write of `RMP_CFG`, or of `SNP_EN` with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RmpCfgFault {
    /// SNP is enabled: `RMP_CFG` is frozen.
    SnpEnabled {
        /// SYSCFG as it reads.
        syscfg: u64,
    },
    /// Bits that must be zero are set.
    ReservedBits {
        /// The value written.
        value: u64,
    },
    /// The segment size is outside what CPUID allows.
    SegmentSize {
        /// The size written, as log2 of bytes.
        shift: u32,
        /// CPUID's minimum.
        min: u32,
        /// CPUID's maximum.
        max: u32,
    },
    /// `SNP_EN` is set with a segmented RMP and a base that is not 1 MiB aligned.
    BaseMisaligned {
        /// `RMP_BASE` as it reads.
        base: u64,
    },
}

impl fmt::Display for RmpCfgFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SnpEnabled { syscfg } => {
                write!(f, "RMP_CFG is frozen: SYSCFG {syscfg:#x} has SNP_EN set, expected clear")
            }
            Self::ReservedBits { value } => {
                let zero = RmpCfg::MUST_BE_ZERO;
                write!(f, "RMP_CFG {value:#x} sets reserved bits, expected {zero:#x} clear")
            }
            Self::SegmentSize { shift, min, max } => write!(
                f,
                "RMP_CFG segment size 2^{shift}, expected 2^{min} to 2^{max} (CPUID Fn8000_0025)"
            ),
            Self::BaseMisaligned { base } => {
                write!(f, "RMP_BASE {base:#x}, expected a multiple of 1 MiB for a segmented RMP")
            }
        }
    }
}

impl core::error::Error for RmpCfgFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syscfg_of_a_live_snp_host() {
        let live = Syscfg(0x3fc_0000);
        assert!(live.mtrr_fix_dram_en() && live.mtrr_fix_dram_mod_en() && live.mtrr_var_dram_en());
        assert!(live.mtrr_tom2_en() && live.tom2_force_wb() && live.mem_encryption_mod_en());
        assert!(live.snp_en() && live.vmpl_en());
        assert_eq!(live.missing_for_snp_init(), 0);
        assert_eq!(Syscfg(0).missing_for_snp_init(), Syscfg::SNP_INIT_NEEDS);
        assert_eq!(live.after_write(Syscfg(0)), live, "frozen once SNP_EN is set");
        assert_eq!(Syscfg(0).after_write(live), live);
    }

    #[test]
    fn writes_of_rmp_cfg_fault_as_the_manual_says() {
        let limits = Some(Fn80000025 { eax: 0xaa4, ebx: 0x410, ecx: 0, edx: 0 });
        let (off, on) = (Syscfg(0), Syscfg(Syscfg::SNP_EN));
        let cfg = RmpCfg::segmented(36);
        assert_eq!((cfg.raw(), cfg.segment_shift()), (0x2401, 36));
        assert_eq!(cfg.check_write(off, limits), Ok(()));
        assert_eq!(
            cfg.check_write(on, limits),
            Err(RmpCfgFault::SnpEnabled { syscfg: Syscfg::SNP_EN })
        );
        for shift in [35, 43] {
            assert_eq!(
                RmpCfg::segmented(shift).check_write(off, limits),
                Err(RmpCfgFault::SegmentSize { shift, min: 36, max: 42 })
            );
        }
        assert!(cfg.check_write(off, None).is_err());
        assert_eq!(
            RmpCfg(1 << 14).check_write(off, limits),
            Err(RmpCfgFault::ReservedBits { value: 1 << 14 })
        );
        // Without SegmentedRmpEn the size is not looked at.
        assert_eq!(RmpCfg(5 << 8).check_write(off, limits), Ok(()));
        assert_eq!(
            cfg.check_snp_enable(RmpBase(0x8_2000)).unwrap_err().to_string(),
            "RMP_BASE 0x82000, expected a multiple of 1 MiB for a segmented RMP"
        );
        assert_eq!(cfg.check_snp_enable(RmpBase(0x10_0000)), Ok(()));
        assert_eq!(RmpCfg(0).check_snp_enable(RmpBase(0x8_2000)), Ok(()));
    }

    #[test]
    fn the_other_registers() {
        assert!(Hwcr(1).smm_lock() && !Hwcr(2).smm_lock());
        assert!(VmHsavePa(0).allows_rmp_init() && !VmHsavePa(0).allows_vmrun());
        assert!(!VmHsavePa(0x1000).allows_rmp_init() && VmHsavePa(0x1000).allows_vmrun());
        let guest = SevStatus(0b111 | 1 << 40);
        assert!(guest.sev() && guest.sev_es() && guest.sev_snp());
        assert_eq!(guest.raw() >> 40, 1, "unknown bits are kept");
    }
}
