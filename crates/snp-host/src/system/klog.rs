//! The kernel's log: from the kernel, or from the file where a distribution keeps it.

use super::error::{Got, ReadError, Why};
use super::root::Root;

/// Where it is looked for, in this order. The last is for trees put together by hand.
pub const LOG_PATHS: [&str; 4] = ["/dev/kmsg", "/var/log/kern.log", "/var/log/dmesg", "/dmesg.txt"];

/// The log and where it came from.
pub(super) fn read(root: &Root) -> Got<(String, String)> {
    let mut error = None;
    for path in LOG_PATHS {
        match root.text(path) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => return Ok((path.to_owned(), text)),
            Err(e) if e.why == Why::Absent => {}
            // A text file where the device would be, or a device that is no log.
            Err(e) => {
                error.get_or_insert(e);
            }
        }
    }
    Err(error.unwrap_or_else(|| ReadError::new("kernel log", Why::Absent)))
}
