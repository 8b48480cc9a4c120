//! Loading a module by the bare system calls, with one of its allocations failing.

use std::ffi::{CStr, c_char, c_long};
use std::io;

/// `init_module` of x86-64.
const INIT_MODULE: c_long = 175;
/// `delete_module` of x86-64.
const DELETE_MODULE: c_long = 176;
/// `O_NONBLOCK`: a module that is in use is an error.
const AT_ONCE: c_long = 0o4000;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

fn result(code: c_long) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Loads a module from its file's bytes.
pub(crate) fn load(image: &[u8], parameters: &CStr) -> io::Result<()> {
    let parameters: *const c_char = parameters.as_ptr();
    // SAFETY: The call reads `image.len()` bytes and a text that ends in NUL, and writes nothing here.
    result(unsafe { syscall(INIT_MODULE, image.as_ptr(), image.len(), parameters) })
}

/// Unloads a module.
pub(crate) fn unload(name: &CStr) -> io::Result<()> {
    let name: *const c_char = name.as_ptr();
    // SAFETY: The call reads a text that ends in NUL.
    result(unsafe { syscall(DELETE_MODULE, name, AT_ONCE) })
}
