//! Ctrl-C: a long command ends early and keeps what it has done.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::{Failure, INTERRUPTED};

/// Set once Ctrl-C was pressed, from now on. A second Ctrl-C ends the process at once.
pub(super) fn catch() -> Result<&'static AtomicBool, Failure> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
    })
    .map_err(|error| Failure::Unsupported(format!("Ctrl-C cannot be caught: {error}")))?;
    Ok(&STOP)
}
