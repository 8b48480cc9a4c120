// SPDX-License-Identifier: MIT OR GPL-2.0
//! The way to the emulated host: our own, or the one that another module keeps.

use kernel::{bindings, prelude::*};

use crate::emu::ask::{Ask, Request};
use crate::emu::host::Host;

/// What `rmpopt_emu` exports.
type Function = unsafe extern "C" fn(*const Request) -> i64;
const SYMBOL: &CStr = c"rmpopt_emu_ask";

/// Somebody who answers for the host.
pub(crate) enum Link {
    /// The host lives and dies with this module.
    Own(Pin<KBox<Host>>),
    /// It is another module's, which stays while we have this.
    Kept(Kept),
}

/// A reference to the function of another module.
pub(crate) struct Kept(Function);

impl Link {
    /// The host that another module keeps.
    pub(crate) fn find() -> Option<Self> {
        // SAFETY: The name ends in NUL. A symbol of this name is that function: nobody else exports
        // it, and both modules are built together. The reference is given back by `Kept`'s drop.
        unsafe {
            let found = bindings::__symbol_get(SYMBOL.as_char_ptr());
            if found.is_null() {
                return None;
            }
            Some(Self::Kept(Kept(core::mem::transmute::<*mut core::ffi::c_void, Function>(found))))
        }
    }

    /// One of our own.
    pub(crate) fn make(cores: u16) -> Result<Self> {
        let host = KBox::pin_init(Host::new(cores), GFP_KERNEL)?;
        host.bring_up()?;
        Ok(Self::Own(host))
    }
}

impl Ask for Link {
    fn ask(&self, request: Request) -> i64 {
        match self {
            Self::Own(host) => host.ask(request),
            // SAFETY: The reference keeps the function in place; the request lives for the call.
            Self::Kept(Kept(function)) => unsafe { function(&raw const request) },
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference that `find` took.
        unsafe { bindings::__symbol_put(SYMBOL.as_char_ptr()) };
    }
}
