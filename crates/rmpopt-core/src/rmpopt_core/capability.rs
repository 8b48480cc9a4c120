//! May RMPOPT be used on this host? Each "no" has its reason.
//!
//! The proof matters for memory safety, not only for function: on a CPU with CLZERO and without
//! RMPOPT the same bytes write 64 zero bytes to memory (spec/rmpopt.md 7). So nothing tries the
//! instruction to see; and [`Capable`], which an executor must hold to create a policy, can be had
//! from [`Facts::check`] only.

use core::fmt;

/// What the executor has read of the host, on every CPU where it says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent facts, each with a reason of its own.
pub struct Facts {
    /// CPUID vendor is `AuthenticAMD` (or `HygonGenuine`: not claimed, so not accepted).
    pub vendor_amd: bool,
    /// CPUID `Fn0000_0001` ECX\[31\]: we run as a guest.
    pub hypervisor_present: bool,
    /// CPUID `Fn8000_0000` EAX, the smallest over all CPUs: the highest extended leaf.
    pub max_extended_leaf: u32,
    /// CPUID `Fn8000_001F` EAX\[4\] on every CPU: SEV-SNP. Read only if the leaf exists.
    pub snp: bool,
    /// CPUID `Fn8000_001F` EAX\[23\] on every CPU: segmented RMP supported.
    pub segmented_rmp: bool,
    /// MSR `RMP_CFG` bit 0: the firmware has set up a segmented RMP.
    pub segmented_rmp_enabled: bool,
    /// CPUID `Fn8000_0025` EDX\[0\] on every CPU: RMPOPT. Read only if the leaf exists.
    pub rmpopt: bool,
    /// CPUs whose CPUID shows RMPOPT, of all present CPUs.
    pub cpus_with_rmpopt: u32,
    /// CPUs present.
    pub cpus: u32,
    /// The kernel drives RMPOPT itself.
    pub kernel_owns_rmpopt: bool,
}

/// CPUID leaf that enumerates RMPOPT.
pub const RMPOPT_LEAF: u32 = 0x8000_0025;
/// CPUID leaf that enumerates SEV-SNP.
pub const SNP_LEAF: u32 = 0x8000_001F;

/// Proof that every CPU enumerates RMPOPT and that the RMP is segmented.
///
/// It does not prove that SNP is on or that a core's enable bit is set: those are read back on the
/// core itself before each use (law 4).
///
/// Nobody can make one up:
/// ```compile_fail
/// let proof = rmpopt_core::Capable(());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Capable(());

/// Why RMPOPT cannot be used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The CPU is not AMD's.
    NotAmd,
    /// This is a guest: the RMP belongs to the host.
    Guest,
    /// The highest extended CPUID leaf lies below the one that is needed. Beyond the maximum, other
    /// leaves' data comes back, so it is not read.
    LeafMissing {
        /// The leaf that is needed.
        leaf: u32,
        /// The highest there is.
        max: u32,
    },
    /// CPUID does not show SEV-SNP.
    NoSnp,
    /// CPUID shows no RMPOPT on any CPU.
    NoRmpopt,
    /// Some CPUs show RMPOPT and others do not.
    CpusDisagree {
        /// CPUs that show it.
        with: u32,
        /// CPUs present.
        of: u32,
    },
    /// CPUID shows no segmented RMP, which RMPOPT needs.
    NoSegmentedRmp,
    /// The firmware has set up a contiguous RMP.
    ContiguousRmp,
    /// The kernel has RMPOPT support of its own.
    KernelOwnsRmpopt,
}

impl Facts {
    /// The rules, in the order in which an operator would look: platform, CPU, firmware, kernel.
    pub const fn check(&self) -> Result<Capable, Refusal> {
        if !self.vendor_amd {
            return Err(Refusal::NotAmd);
        }
        if self.hypervisor_present {
            return Err(Refusal::Guest);
        }
        if self.max_extended_leaf < SNP_LEAF {
            return Err(Refusal::LeafMissing { leaf: SNP_LEAF, max: self.max_extended_leaf });
        }
        if !self.snp {
            return Err(Refusal::NoSnp);
        }
        if self.max_extended_leaf < RMPOPT_LEAF {
            return Err(Refusal::LeafMissing { leaf: RMPOPT_LEAF, max: self.max_extended_leaf });
        }
        if !self.rmpopt || self.cpus_with_rmpopt != self.cpus || self.cpus == 0 {
            return Err(match self.cpus_with_rmpopt {
                0 => Refusal::NoRmpopt,
                with => Refusal::CpusDisagree { with, of: self.cpus },
            });
        }
        if !self.segmented_rmp {
            return Err(Refusal::NoSegmentedRmp);
        }
        if !self.segmented_rmp_enabled {
            return Err(Refusal::ContiguousRmp);
        }
        if self.kernel_owns_rmpopt {
            return Err(Refusal::KernelOwnsRmpopt);
        }
        Ok(Capable(()))
    }

    /// A host on which every rule holds: what the emulated host presents with a segmented RMP.
    pub const fn venice(cpus: u32) -> Self {
        Self {
            vendor_amd: true,
            hypervisor_present: false,
            max_extended_leaf: 0x8000_0028,
            snp: true,
            segmented_rmp: true,
            segmented_rmp_enabled: true,
            rmpopt: true,
            cpus_with_rmpopt: cpus,
            cpus,
            kernel_owns_rmpopt: false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAmd => f.write_str("the CPU is not an AMD CPU"),
            Self::Guest => f.write_str("this is a guest: the RMP belongs to its host"),
            Self::LeafMissing { leaf, max } => write!(
                f,
                "CPUID leaf {leaf:#010x} does not exist here (highest extended leaf {max:#010x})"
            ),
            Self::NoSnp => f.write_str("CPUID Fn8000_001F EAX[4]: no SEV-SNP"),
            Self::NoRmpopt => f.write_str("CPUID Fn8000_0025 EDX[0]: no RMPOPT"),
            Self::CpusDisagree { with, of } => {
                write!(f, "CPUID Fn8000_0025 EDX[0]: RMPOPT on {with} of {of} CPUs only")
            }
            Self::NoSegmentedRmp => {
                f.write_str("CPUID Fn8000_001F EAX[23]: no segmented RMP, which RMPOPT needs")
            }
            Self::ContiguousRmp => f.write_str(
                "MSR RMP_CFG bit 0 is clear: the firmware set up a contiguous RMP, RMPOPT needs a segmented one",
            ),
            Self::KernelOwnsRmpopt => f.write_str("the kernel drives RMPOPT itself"),
        }
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_no_has_its_reason() {
        let good = Facts::venice(1024);
        assert!(good.check().is_ok());
        let turin =
            Facts { rmpopt: false, cpus_with_rmpopt: 0, max_extended_leaf: 0x8000_0028, ..good };
        let rome = Facts { max_extended_leaf: 0x8000_0020, snp: false, ..good };
        let milan = Facts { max_extended_leaf: 0x8000_0023, ..good };
        for (facts, refusal) in [
            (Facts { vendor_amd: false, ..good }, Refusal::NotAmd),
            (Facts { hypervisor_present: true, ..good }, Refusal::Guest),
            (
                Facts { max_extended_leaf: 0x8000_001E, ..good },
                Refusal::LeafMissing { leaf: 0x8000_001F, max: 0x8000_001E },
            ),
            (rome, Refusal::NoSnp),
            (milan, Refusal::LeafMissing { leaf: 0x8000_0025, max: 0x8000_0023 }),
            (turin, Refusal::NoRmpopt),
            (
                Facts { cpus_with_rmpopt: 1023, ..good },
                Refusal::CpusDisagree { with: 1023, of: 1024 },
            ),
            (Facts { segmented_rmp: false, ..good }, Refusal::NoSegmentedRmp),
            (Facts { segmented_rmp_enabled: false, ..good }, Refusal::ContiguousRmp),
            (Facts { kernel_owns_rmpopt: true, ..good }, Refusal::KernelOwnsRmpopt),
        ] {
            assert_eq!(facts.check().unwrap_err(), refusal);
            assert!(!refusal.to_string().is_empty());
        }
    }
}
