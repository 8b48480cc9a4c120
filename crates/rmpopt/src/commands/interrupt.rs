//! Ctrl-C and SIGTERM: a long command ends early and keeps what it has done.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::{Failure, INTERRUPTED};

/// Set once Ctrl-C was pressed, from now on. A second Ctrl-C ends the process at once.
pub(super) fn catch() -> Result<&'static AtomicBool, Failure> {
    static STOP: AtomicBool = AtomicBool::new(false);
    on_signal(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    Ok(&STOP)
}

/// Calls this at Ctrl-C, SIGTERM and SIGHUP, on a thread of its own.
pub(super) fn on_signal(told: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(told)
        .map_err(|error| Failure::Unsupported(format!("signals cannot be caught: {error}")))
}
