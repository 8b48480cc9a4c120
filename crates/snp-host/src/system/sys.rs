//! The CPUID instruction, the only `unsafe` of this crate.
#![allow(
    unsafe_code,
    unused_unsafe,
    clippy::unnecessary_wraps,
    reason = "None is for other architectures; the intrinsic is unsafe before Rust 1.94 and safe since"
)]

use snp_defs::CpuidRegs;

/// What this CPU says; `None` where the program was built for another architecture.
#[cfg(target_arch = "x86_64")]
pub(super) fn cpuid(leaf: u32, subleaf: u32) -> Option<CpuidRegs> {
    // SAFETY: every x86-64 CPU has CPUID; it reads no memory and changes nothing.
    let regs = unsafe { std::arch::x86_64::__cpuid_count(leaf, subleaf) };
    Some(CpuidRegs { eax: regs.eax, ebx: regs.ebx, ecx: regs.ecx, edx: regs.edx })
}

/// What this CPU says; `None` where the program was built for another architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn cpuid(_: u32, _: u32) -> Option<CpuidRegs> {
    None
}
