//! The CPUID instruction and the SEV firmware's ioctl: all `unsafe` of this crate.
#![allow(
    unsafe_code,
    unused_unsafe,
    clippy::unnecessary_wraps,
    reason = "None is for other architectures; the intrinsic is unsafe before Rust 1.94 and safe since"
)]

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
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

/// `struct sev_issue_cmd` of Linux `include/uapi/linux/psp-sev.h`.
#[repr(C, packed)]
struct IssueCommand {
    command: u32,
    data: u64,
    error: u32,
}

/// `SEV_ISSUE_CMD`.
const ISSUE_COMMAND: Opcode = opcode::read_write::<IssueCommand>(b'S', 0);
/// `SNP_PLATFORM_STATUS` among the commands of this ioctl, which are not the firmware's ids.
const SNP_PLATFORM_STATUS: u32 = 9;
/// What stands in `error` while the firmware was not called (`SEV_RET_NO_FW_CALL`).
pub(super) const NOT_CALLED: u32 = u32::MAX;
/// Room for an answer: far more than the kernel writes.
const ROOM: usize = 4096;

/// Asks for the platform's status. An error is the system's, with the firmware's code or
/// [`NOT_CALLED`].
pub(super) fn snp_platform_status(device: BorrowedFd<'_>) -> Result<[u8; 32], (Errno, u32)> {
    let mut answer = Box::new([0u8; ROOM]);
    let mut command = IssueCommand {
        command: SNP_PLATFORM_STATUS,
        data: answer.as_mut_ptr().expose_provenance() as u64,
        error: NOT_CALLED,
    };
    // SAFETY: the ioctl reads and writes the 16 bytes of `command` and writes 32 bytes to `data`, where
    // there is room for 4096 that nobody else uses until it returns. A file that is no secure processor's
    // refuses it; the caller lets no other device through but those of the misc driver.
    let done = unsafe { ioctl(device, Updater::<ISSUE_COMMAND, _>::new(&mut command)) };
    done.map_err(|errno| (errno, command.error))?;
    Ok(answer.first_chunk().copied().unwrap_or([0; 32]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_kernels_numbers() {
        assert_eq!(size_of::<IssueCommand>(), 16);
        // _IOWR('S', 0, struct sev_issue_cmd)
        assert_eq!(ISSUE_COMMAND, 0xc010_5300);
    }
}
