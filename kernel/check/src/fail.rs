//! The module is loaded again and again, each time with the next of its allocations failing.
//!
//! The kernel counts the allocations of a task and lets the N-th fail (`fail-nth`). A load must then
//! fail with `ENOMEM`, or succeed without what could not be had; and a module that was loaded can be
//! unloaded. It ends with the load that needs fewer than N allocations.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use crate::sys::load::{load, unload};

/// Which allocation of this thread fails; there only in a kernel with fault injection.
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";
const NAME: &CStr = c"rmpopt";
/// More than any load needs.
const NEVER: u32 = 1_000_000;
/// `ENOMEM`.
const NO_MEMORY: i32 = 12;
/// `EINVAL`.
const INVALID: i32 = 22;

/// A module's file, the parameters of a load, and what lets an allocation fail.
struct Loader {
    image: Vec<u8>,
    parameters: CString,
    /// Opened once: opening it needs allocations itself.
    fail_nth: File,
}

/// Lets each allocation of the module's own start fail in turn; what was seen. Every `step`-th is
/// tried. Of the loader's own, before the module runs, only the last is.
pub(crate) fn each(file: &str, step: u32, parameters: &[&str]) -> Result<String, String> {
    let open = || File::options().read(true).write(true).open(FAIL_NTH);
    let mut loader = Loader {
        image: fs::read(file).map_err(|error| format!("{file}: {error}"))?,
        // The module refuses this first of all: what was counted then is the loader's.
        parameters: c"emulate=none".to_owned(),
        fail_nth: open().map_err(|error| format!("{FAIL_NTH}: {error}"))?,
    };
    // The first load of all makes more than later ones.
    let mut loaders = NEVER;
    for _ in 0..3 {
        let (refused, used) = loader.failing(NEVER)?;
        if refused.as_ref().map_err(io::Error::raw_os_error) != Err(Some(INVALID)) {
            return Err(format!("emulate=none gives {refused:?}, expected EINVAL"));
        }
        loaders = loaders.min(used);
    }
    loader.parameters = CString::new(parameters.join(" ")).map_err(|error| error.to_string())?;
    let (mut failed, mut without) = (0u32, 0u32);
    let mut nth = loaders.max(1);
    loop {
        let (loaded, used) = loader.failing(nth)?;
        let injected = used >= nth;
        match loaded {
            Ok(()) => {
                unload(NAME).map_err(|error| format!("allocation {nth}: unloading: {error}"))?;
                without += u32::from(injected);
            }
            Err(error) if injected && error.raw_os_error() == Some(NO_MEMORY) => failed += 1,
            Err(error) => return Err(format!("allocation {nth} fails: the load gives {error}")),
        }
        if fs::exists("/sys/module/rmpopt").unwrap_or(true) {
            return Err(format!("allocation {nth} fails: something is left of the module"));
        }
        if !injected {
            return Ok(format!(
                "allocations {loaders} to {nth}: {failed} loads failed with ENOMEM, {without} did \
                 without"
            ));
        }
        nth += step;
    }
}

impl Loader {
    /// Loads the module with the `nth` allocation failing; and how many were made.
    fn failing(&self, nth: u32) -> Result<(io::Result<()>, u32), String> {
        let told = |error: io::Error| format!("{FAIL_NTH}: {error}");
        let mut text = [0; 16];
        self.fail_nth.write_at(nth.to_string().as_bytes(), 0).map_err(told)?;
        let loaded = load(&self.image, &self.parameters);
        let length = self.fail_nth.read_at(&mut text, 0).map_err(told)?;
        self.fail_nth.write_at(b"0", 0).map_err(told)?;
        let left = std::str::from_utf8(&text[..length]).unwrap_or_default().trim();
        let left: u32 = left.parse().map_err(|_| format!("{FAIL_NTH} says {left:?}"))?;
        Ok((loaded, nth - left.min(nth)))
    }
}
