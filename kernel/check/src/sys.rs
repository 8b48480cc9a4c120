//! The scheduler's system calls, by the C library that std links anyway.

pub(crate) mod load;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `KVM_CREATE_VM` of Linux.
const KVM_CREATE_VM: u64 = 0xAE01;
/// `SCHED_FIFO` of Linux.
const SCHED_FIFO: i32 = 1;

unsafe extern "C" {
    fn sched_setscheduler(pid: i32, policy: i32, parameter: *const i32) -> i32;
    fn ioctl(file: i32, request: u64, argument: u64) -> i32;
    fn sched_setaffinity(pid: i32, bytes: usize, mask: *const u64) -> i32;
}

fn result(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes this process a real-time one that nobody but the kernel's own stops, on one CPU (0 to 63).
pub(crate) fn take(cpu: u32) -> io::Result<()> {
    let (mask, priority) = (1u64.checked_shl(cpu).unwrap_or(0), 50);
    // SAFETY: The mask lives for the call and has the length given; `struct sched_param` is an int.
    unsafe {
        result(sched_setaffinity(0, size_of_val(&mask), &raw const mask))?;
        result(sched_setscheduler(0, SCHED_FIFO, &raw const priority))
    }
}

/// Creates a virtual machine without CPUs and closes it.
pub(crate) fn vm() -> io::Result<()> {
    let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
    // SAFETY: The request takes a number, and gives a new file descriptor that is nobody else's.
    unsafe {
        let machine = ioctl(kvm.as_raw_fd(), KVM_CREATE_VM, 0);
        result(machine.min(0))?;
        drop(OwnedFd::from_raw_fd(machine));
    }
    Ok(())
}
