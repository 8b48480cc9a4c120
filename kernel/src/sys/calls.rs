// SPDX-License-Identifier: MIT OR GPL-2.0
//! Calling functions that `rmpopt` follows, where that changes nothing.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicI32, Ordering};

use kernel::{bindings, prelude::*};

/// All of them, the one with most arguments named: page, guest's address, size, ASID, immutable. Those
/// that take fewer do not look at the others; 1 as the second is a size of 4K.
type Function = unsafe extern "C" fn(u64, u64, u32, u32, bool) -> c_int;

unsafe extern "C" {
    fn rmpopt_stand_in_shared(page: u64, a: u64, b: u32, c: u32, d: bool) -> c_int;
    fn rmpopt_stand_in_private(page: u64, a: u64, b: u32, c: u32, d: bool) -> c_int;
    fn rmpopt_stand_in_psmash(page: u64, a: u64, b: u32, c: u32, d: bool) -> c_int;
}

/// What stand-ins return: `stand_in.c` reads it.
#[no_mangle]
static RMPOPT_STAND_IN_RESULT: AtomicI32 = AtomicI32::new(0);

/// A function that can be called.
pub(crate) struct Callee {
    function: Function,
    /// The kernel's, to be given back.
    name: Option<&'static CStr>,
}

impl Callee {
    /// The function of this name; a stand-in will return `result`.
    pub(crate) fn find(name: &str, result: i32) -> Option<Self> {
        let own: Option<Function> = match name {
            "rmpopt_stand_in_shared" => Some(rmpopt_stand_in_shared),
            "rmpopt_stand_in_private" => Some(rmpopt_stand_in_private),
            "rmpopt_stand_in_psmash" => Some(rmpopt_stand_in_psmash),
            _ => None,
        };
        if let Some(function) = own {
            RMPOPT_STAND_IN_RESULT.store(result, Ordering::Release);
            return Some(Self { function, name: None });
        }
        let name = match name {
            "rmp_make_shared" => c"rmp_make_shared",
            "rmp_make_private" => c"rmp_make_private",
            "psmash" => c"psmash",
            _ => return None,
        };
        // Only in a guest: there SNP is off, and they can only fail.
        // SAFETY: Every CPU that a 64-bit kernel runs on has CPUID.
        let is_guest = unsafe { core::arch::x86_64::__cpuid(1) }.ecx >> 31 == 1;
        if !is_guest {
            return None;
        }
        // SAFETY: The name ends in NUL. A symbol of this name is that function, which takes the first
        // of these arguments and returns an int; the reference is given back by the drop.
        unsafe {
            let found = bindings::__symbol_get(name.as_char_ptr());
            if found.is_null() {
                return None;
            }
            let function = core::mem::transmute::<*mut c_void, Function>(found);
            Some(Self { function, name: Some(name) })
        }
    }

    /// Calls it for a page of 4K.
    pub(crate) fn call(&self, page: u64) -> i32 {
        // SAFETY: The reference keeps the function in place. It changes nothing: the kernel's own fail
        // without SNP, the stand-ins do nothing.
        unsafe { (self.function)(page, 1, 1, 1, false) }
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        if let Some(name) = self.name {
            // SAFETY: Gives back the reference that `find` took.
            unsafe { bindings::__symbol_put(name.as_char_ptr()) };
        }
    }
}
