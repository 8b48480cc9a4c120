//! The scheduler's system calls, by the C library that std links anyway.

use std::io;

/// `SCHED_FIFO` of Linux.
const SCHED_FIFO: i32 = 1;

unsafe extern "C" {
    fn sched_setscheduler(pid: i32, policy: i32, parameter: *const i32) -> i32;
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
