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
