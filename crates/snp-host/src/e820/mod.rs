//! The firmware's memory map (e820), as a kernel log shows it.
//!
//! The map wanted is the firmware's own, printed as `BIOS-e820:`. A log may hold others:
//!
//! * lines `e820: update [mem ...] usable ==> reserved` and `e820: remove [mem ...]` are changes,
//!   not a map, and are never read;
//! * `user:` is the map after `mem=` or `memmap=` on the kernel's command line, `modified:` the one
//!   after the kernel's own changes, and `E820 memmap:` what kexec hands to the next kernel. A log
//!   without `BIOS-e820:` is read from the first of these it has, in this order, and
//!   [`MemoryMap::source`] and a note say so. Beside `BIOS-e820:` they are ignored.
//!
//! A journal of several boots gives the last one, with a note. Errors in an earlier boot's table
//! are then of no account.

mod error;
pub(crate) mod line;
mod map;
mod table;

pub use self::error::LogError;
pub use self::map::{Entry, Kind, MapSource, MemoryMap, Span};

/// The most ranges one map can have: the kernel's `E820_MAX_ENTRIES`, 128 + 3 x 1024 nodes.
pub const MAX_ENTRIES: usize = 3200;
