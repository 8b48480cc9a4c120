//! Namespaces: the only `unsafe` of this crate.
#![allow(unsafe_code, reason = "unshare has no safe form: it may take file descriptors apart")]

use rustix::io;
use rustix::thread::UnshareFlags;

/// This thread, and what it starts from now on, gets a mount namespace of its own, and with `user` a
/// user namespace too, which needs a process of one thread.
pub(crate) fn unshare_mounts(user: bool) -> io::Result<()> {
    let mut flags = UnshareFlags::NEWNS;
    flags.set(UnshareFlags::NEWUSER, user);
    // SAFETY: only CLONE_FILES could take descriptors from under their owners, and it is not set.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
