// SPDX-License-Identifier: MIT OR GPL-2.0
//! Whether the kernel has a symbol that modules may use.

use kernel::{bindings, prelude::*};

/// Whether the running kernel or a loaded module exports `name`.
pub(crate) fn exists(name: &CStr) -> bool {
    // SAFETY: The name ends in NUL; the reference that was taken is given back at once, and the
    // address is not used.
    unsafe {
        let found = !bindings::__symbol_get(name.as_char_ptr()).is_null();
        if found {
            bindings::__symbol_put(name.as_char_ptr());
        }
        found
    }
}

/// Calls the kernel's `rmp_make_shared` for a page of 4K, if this kernel has it and the CPU is a
/// guest's: there it can only fail.
#[cfg(emulate)]
pub(crate) fn rmp_make_shared(page: u64) -> Option<i32> {
    const NAME: &CStr = c"rmp_make_shared";
    type Function = unsafe extern "C" fn(u64, u32) -> i32;
    if super::cpu::cpuid(1, 0).ecx >> 31 == 0 {
        return None;
    }
    // SAFETY: The name ends in NUL. A symbol of this name is that function, with this signature;
    // while we hold the reference it stays. In a guest SNP is off, so that it changes nothing.
    unsafe {
        let function = bindings::__symbol_get(NAME.as_char_ptr());
        if function.is_null() {
            return None;
        }
        let result = core::mem::transmute::<*mut core::ffi::c_void, Function>(function)(page, 1);
        bindings::__symbol_put(NAME.as_char_ptr());
        Some(result)
    }
}
