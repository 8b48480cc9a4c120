// SPDX-License-Identifier: MIT OR GPL-2.0
//! The emulated host as other modules reach it: one exported function.

use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::prelude::*;

use crate::emu::ask::{Ask, Request};
use crate::emu::host::Host;

/// The host, while there is one.
static HOST: AtomicPtr<Host> = AtomicPtr::new(core::ptr::null_mut());

/// From here on the host answers. It must stay until [`close`].
pub(crate) fn open(host: &Host) {
    HOST.store(core::ptr::from_ref(host).cast_mut(), Ordering::Release);
}

/// Nobody asks any more: whoever has the function has a reference to this module, which therefore
/// could not be on its way out.
pub(crate) fn close(host: &Host) {
    let ours = core::ptr::from_ref(host).cast_mut();
    let _ = HOST.compare_exchange(ours, core::ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
}

/// Answers for the host.
///
/// # Safety
///
/// `request` must be valid, and the caller hold a reference to this module.
#[no_mangle]
unsafe extern "C" fn rmpopt_emu_ask(request: *const Request) -> i64 {
    // SAFETY: The pointer is null or came from `open`; the host stays until `close`, which is not
    // called while somebody has a reference. The request is valid by the contract.
    let (host, request) = unsafe { (HOST.load(Ordering::Acquire).as_ref(), *request) };
    host.map_or(i64::from(ENODEV.to_errno()), |host| host.ask(request))
}

// What `EXPORT_SYMBOL_GPL` makes of a function (include/linux/export.h): modpost reads it.
core::arch::global_asm!(
    ".section \".export_symbol\",\"a\"",
    "__export_symbol_rmpopt_emu_ask:",
    ".asciz \"GPL\"",
    ".ascii \"\\0\"",
    ".balign 8",
    ".quad rmpopt_emu_ask",
    ".previous",
);
