//! What CPUID says of SNP and RMPOPT, on every CPU that was asked.

use serde::Serialize;
use snp_defs::{
    Fn8000001f, Fn80000025, LEAF_ENCRYPTION, LEAF_EXTENDED_MAX, LEAF_SEGMENTED_RMP, LEAF_VENDOR,
    VENDOR_AMD,
};

use crate::system::{Cpuid, Leaves, System};

/// May RMPOPT be used here, by CPUID alone?
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Whether all CPUs asked have SNP, a segmented RMP and RMPOPT; `None` if not known.
    pub rmpopt_capable: Option<bool>,
    /// Why not, or why it is not known.
    pub reasons: Vec<String>,
    /// How many CPUs were asked.
    pub cpus_asked: u32,
    /// Whether they all say the same; `None` if fewer than two were asked.
    pub cpus_agree: Option<bool>,
    /// The first CPU that differs from the first one asked.
    pub differs: Option<u32>,
    /// The features of the first CPU asked.
    #[serde(flatten)]
    pub first: Features,
}

/// One CPU's features; `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Features {
    /// The vendor string.
    pub vendor: Option<String>,
    /// SEV-SNP.
    pub snp: Option<bool>,
    /// RMPREAD.
    pub rmpread: Option<bool>,
    /// The RMP may be in segments.
    pub segmented_rmp: Option<bool>,
    /// RMPOPT.
    pub rmpopt: Option<bool>,
    /// Position of the C-bit.
    pub c_bit: Option<u32>,
    /// Physical address bits lost to encryption.
    pub address_reduction: Option<u32>,
    /// VM permission levels.
    pub vmpls: Option<u32>,
    /// Encrypted guests at once.
    pub asids: Option<u32>,
    /// First ASID of plain SEV.
    pub min_sev_asid: Option<u32>,
    /// Smallest and largest RMP segment, log2 of bytes.
    pub segment_shift: Option<(u32, u32)>,
    /// Segment definitions that the CPU caches, and whether that is a hard limit.
    pub cached_segments: Option<(u32, bool)>,
}

/// A dump may hold one leaf alone: what it does not hold is not known. A leaf above the maximum is
/// not there whatever was dumped for it.
fn features(leaves: &Leaves) -> Features {
    let get = |leaf| leaves.get(&(leaf, 0)).copied();
    let vendor = get(LEAF_VENDOR).map(snp_defs::CpuidRegs::vendor);
    let mut features = Features {
        vendor: vendor.map(|v| String::from_utf8_lossy(&v).escape_debug().to_string()),
        ..Features::default()
    };
    let max = get(LEAF_EXTENDED_MAX).map(|regs| regs.eax);
    let foreign = vendor.is_some_and(|v| v != VENDOR_AMD);
    let leaf = |leaf| match (get(leaf), max) {
        _ if foreign => Some(None),
        (_, Some(max)) if max < leaf => Some(None),
        (Some(regs), _) => Some(Some(regs)),
        (None, _) => None,
    };
    if let Some(found) = leaf(LEAF_ENCRYPTION) {
        let regs = found.unwrap_or_default();
        let f = Fn8000001f { eax: regs.eax, ebx: regs.ebx, ecx: regs.ecx, edx: regs.edx };
        features.snp = Some(f.sev_snp());
        features.rmpread = Some(f.rmpread());
        features.segmented_rmp = Some(f.segmented_rmp());
        if found.is_some() {
            features.c_bit = Some(f.c_bit());
            features.address_reduction = Some(f.address_reduction());
            features.vmpls = Some(f.vmpls());
            features.asids = Some(f.asids());
            features.min_sev_asid = Some(f.min_sev_asid());
        }
    }
    if let Some(found) = leaf(LEAF_SEGMENTED_RMP) {
        let regs = found.unwrap_or_default();
        let f = Fn80000025 { eax: regs.eax, ebx: regs.ebx, ecx: regs.ecx, edx: regs.edx };
        features.rmpopt = Some(f.rmpopt());
        if found.is_some() && f.eax != 0 {
            features.segment_shift = Some((f.min_segment_shift(), f.max_segment_shift()));
            features.cached_segments = Some((f.cached_segments(), f.is_hard_limit()));
        }
    }
    features
}

impl Capability {
    pub(super) fn of(system: &System) -> Self {
        match &system.cpuid {
            Ok(cpuid) => Self::of_cpuid(cpuid),
            Err(error) => Self { reasons: vec![error.to_string()], ..Self::default() },
        }
    }

    fn of_cpuid(cpuid: &Cpuid) -> Self {
        let all: Vec<_> = cpuid.cpus.iter().map(|(cpu, leaves)| (*cpu, features(leaves))).collect();
        let Some((_, first)) = all.first().cloned() else { return Self::default() };
        let differs = all.iter().find(|(_, other)| *other != first).and_then(|(cpu, _)| *cpu);
        let mut reasons = Vec::new();
        if first.vendor.as_deref().is_some_and(|v| v.as_bytes() != VENDOR_AMD) {
            reasons.push("the CPU is not AMD's".to_owned());
        } else {
            for (has, name) in [
                (first.snp, "SEV-SNP (Fn8000_001F EAX[4])"),
                (first.segmented_rmp, "a segmented RMP (Fn8000_001F EAX[23])"),
                (first.rmpopt, "RMPOPT (Fn8000_0025 EDX[0])"),
            ] {
                match has {
                    Some(true) => {}
                    Some(false) => reasons.push(format!("CPUID does not show {name}")),
                    None => reasons.push(format!("not known whether the CPU has {name}")),
                }
            }
        }
        let needs = |f: &Features| [f.snp, f.segmented_rmp, f.rmpopt];
        let rmpopt_capable = if all.iter().any(|(_, f)| needs(f).contains(&Some(false))) {
            Some(false)
        } else {
            let proved = |f: &Features| f.vendor.is_some() && needs(f) == [Some(true); 3];
            all.iter().all(|(_, f)| proved(f)).then_some(true)
        };
        if let Some(cpu) = differs {
            reasons.push(format!("CPU {cpu} says otherwise than the first CPU"));
        }
        Self {
            rmpopt_capable,
            reasons,
            cpus_asked: all.len() as u32,
            cpus_agree: (all.len() > 1).then_some(differs.is_none()),
            differs,
            first,
        }
    }
}
