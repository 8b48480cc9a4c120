// SPDX-License-Identifier: MIT OR GPL-2.0
//! The instruction RMPOPT on real CPUs.
//!
//! On a CPU with CLZERO and without RMPOPT the same bytes write 64 zero bytes to the *linear*
//! address in RAX (see `snp_defs::insn`). So the call needs [`Capable`], which only a reading of
//! CPUID on every CPU gives; and interrupts off, so that the CPU is the one that was looked at.

use core::arch::asm;
#[cfg(emulate)]
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::interrupt::LocalInterruptDisabled;

use crate::rmpopt_core::Capable;
use crate::snp_defs::{Region, RmpoptFunction};

/// The instruction raised `#UD` or `#GP`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault;

/// Runs RMPOPT on this CPU. Returns the carry flag: the region is optimised on this core.
pub(crate) fn rmpopt(
    _proof: &Capable,
    _here: &LocalInterruptDisabled,
    region: Region,
    function: RmpoptFunction,
) -> Result<bool, Fault> {
    // SAFETY: The proof says that this CPU has the instruction, which writes no memory of ours.
    unsafe { execute(region.base().get(), function.rcx()) }
}

/// Runs RMPOPT's bytes on this CPU if it must raise `#UD` for them, for [`super::trap`] to answer.
/// Without an answer, and on any other CPU, it is a [`Fault`].
#[cfg(emulate)]
pub(crate) fn trapping(
    here: &LocalInterruptDisabled,
    region: Region,
    function: RmpoptFunction,
) -> Result<bool, Fault> {
    if !knows_neither(here) {
        return Err(Fault);
    }
    // SAFETY: This CPU knows neither instruction, and interrupts are off: it stays this one.
    unsafe { execute(region.base().get(), function.rcx()) }
}

/// Whether CPUID of this CPU shows neither RMPOPT nor CLZERO, so that the bytes must raise `#UD`.
#[cfg(emulate)]
pub(crate) fn knows_neither(_here: &LocalInterruptDisabled) -> bool {
    use crate::snp_defs::{CpuidError, ExtendedLeaves};

    let Ok(leaves) = ExtendedLeaves::probe(crate::sys::cpu::cpuid) else { return false };
    let lacks_rmpopt = matches!(
        leaves.prove_rmpopt(),
        Err(CpuidError::NoLeaf { .. } | CpuidError::NoSnp { .. } | CpuidError::NoRmpopt { .. })
    );
    let shown = leaves.fn8000_0025().is_some_and(|leaf| leaf.rmpopt());
    lacks_rmpopt && !leaves.has_clzero() && !shown
}

/// Shows that an exception in the instruction comes back as [`Fault`]. `#UD`: runs its bytes where
/// CPUID shows neither RMPOPT nor CLZERO, so that they must raise it; `None` where it cannot be shown.
/// `#GP`: as no bytes of it raise one here, another instruction that does, with the same table entry.
#[cfg(emulate)]
pub(crate) fn prove_fixup(here: &LocalInterruptDisabled) -> Option<bool> {
    if !knows_neither(here) {
        return None;
    }
    let mut line = [u64::MAX; 16];
    // SAFETY: This CPU knows neither instruction. And were it CLZERO all the same, the 64-byte line
    // that holds the middle of `line` lies in it.
    let result = unsafe { execute(&raw mut line as u64 + 64, NO_FUNCTION) };
    let undefined = result == Err(Fault) && line == [u64::MAX; 16];
    Some(undefined && protection_fault() == Err(Fault))
}

/// A value of RCX that names no function: nobody answers for it.
#[cfg(emulate)]
const NO_FUNCTION: u64 = u64::MAX;

/// Bytes of the instruction.
#[cfg(emulate)]
pub(crate) const LENGTH: u64 = 4;

/// Address of the instruction in [`execute`], which notes it before it is run.
#[cfg(emulate)]
static SITE: AtomicU64 = AtomicU64::new(0);

/// Whether this is the address of the instruction.
#[cfg(emulate)]
pub(crate) fn is_site(address: u64) -> bool {
    // Who is asked on the CPU that runs it sees what that CPU wrote.
    address != 0 && address == SITE.load(Ordering::Relaxed)
}

/// An instruction (`$instruction`, assembly text) with a table entry for its exceptions, after which
/// the kernel goes on behind it. Its carry flag, or the exception.
///
/// The entry's form is `_ASM_EXTABLE` of arch/x86/include/asm/asm.h: three 32-bit words, of which the
/// last, 1, is `EX_TYPE_DEFAULT`.
macro_rules! guarded {
    ($instruction:literal, $rax:expr, $rcx:expr, [$($before:literal),*] $($operand:tt)*) => {{
        let carry: u8;
        let fault: u32;
        asm!(
            $($before,)*
            "mov $1, {fault:e}",
            concat!("2: ", $instruction),
            "setc {carry}",
            "xor {fault:e}, {fault:e}",
            "3:",
            ".pushsection __ex_table, \"a\"",
            ".balign 4",
            ".long 2b - .",
            ".long 3b - .",
            ".long 1",
            ".popsection",
            $($operand)*
            fault = out(reg) fault,
            carry = out(reg_byte) carry,
            in("rax") $rax,
            in("rcx") $rcx,
            options(att_syntax, nostack),
        );
        // After a fault `carry` was not written by us and means nothing.
        if fault == 0 { Ok(carry != 0) } else { Err(Fault) }
    }};
}

/// # Safety
///
/// The CPU must have RMPOPT; or it must have neither RMPOPT nor CLZERO.
// Never inlined: there is one such instruction, at one address.
#[cfg(not(emulate))]
#[inline(never)]
unsafe fn execute(rax: u64, rcx: u64) -> Result<bool, Fault> {
    // SAFETY: By the contract the bytes do what RMPOPT does, which changes no memory and of the
    // registers only the flags, or raise an exception, for which there is a table entry.
    unsafe { guarded!(".byte 0xf2, 0x0f, 0x01, 0xfc", rax, rcx, []) }
}

/// The same, which notes the instruction's address before it is run.
///
/// # Safety
///
/// The CPU must have RMPOPT; or it must have neither RMPOPT nor CLZERO.
#[cfg(emulate)]
#[inline(never)]
unsafe fn execute(rax: u64, rcx: u64) -> Result<bool, Fault> {
    // SAFETY: By the contract the bytes do what RMPOPT does, which changes no memory and of the
    // registers only the flags, or raise an exception, for which there is a table entry. The address
    // is written to a static of its size.
    unsafe {
        guarded!(
            ".byte 0xf2, 0x0f, 0x01, 0xfc",
            rax,
            rcx,
            ["lea 2f(%rip), {fault:r}", "mov {fault:r}, {site}(%rip)"] site = sym SITE,
        )
    }
}

/// An instruction that raises `#GP`, in RMPOPT's place: reads from an address that none can be.
#[cfg(emulate)]
#[inline(never)]
fn protection_fault() -> Result<bool, Fault> {
    // SAFETY: The address is not canonical: nothing is read, `#GP` is raised, and for that there is a
    // table entry. BT would change only the flags.
    unsafe { guarded!("btl $0, (%rax)", 1u64 << 63, 0u64, []) }
}
