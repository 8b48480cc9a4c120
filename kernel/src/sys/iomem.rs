// SPDX-License-Identifier: MIT OR GPL-2.0
//! The kernel's map of system RAM.

use core::ffi::c_void;

use kernel::{bindings, error::to_result, prelude::*};

/// A range of RAM, `last` being its last byte.
#[derive(Clone, Copy)]
pub(crate) struct Ram {
    pub(crate) start: u64,
    pub(crate) last: u64,
}

/// Calls `each` with every range of RAM, ascending, until it fails.
pub(crate) fn ram<F: FnMut(Ram) -> Result>(mut each: F) -> Result {
    let flags = (bindings::IORESOURCE_SYSTEM_RAM | bindings::IORESOURCE_BUSY) as usize;
    let none = bindings::IORES_DESC_NONE as usize;
    let info = (&raw mut each).cast::<c_void>();
    // SAFETY: `call` gets what it expects, during the call only.
    to_result(unsafe {
        bindings::walk_iomem_res_desc(none, flags, 0, u64::MAX, info, Some(call::<F>))
    })
}

/// # Safety
///
/// `resource` must be valid, `info` point at an `F` that nobody else uses.
unsafe extern "C" fn call<F: FnMut(Ram) -> Result>(
    resource: *mut bindings::resource,
    info: *mut c_void,
) -> kernel::ffi::c_int {
    // SAFETY: By the contract.
    let (ram, each) = unsafe {
        let range = Ram { start: (*resource).start, last: (*resource).end };
        (range, &mut *info.cast::<F>())
    };
    match each(ram) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
