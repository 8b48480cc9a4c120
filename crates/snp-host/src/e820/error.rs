//! Errors of the kernel-log readers.

use crate::input::InputError;
use crate::place::At;

/// Why a kernel log could not be read. Addresses are byte addresses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file could not be taken as text.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The log holds no memory map.
    #[error(
        "{file}: no e820 memory map, expected lines such as \
         `BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable` (from `dmesg` or \
         `journalctl -k`, since boot)"
    )]
    NoMap {
        /// The file.
        file: String,
    },
    /// A line begins like one of ours and does not go on like one, most often because it was cut.
    #[error("{at}: {field}: `{value}`, expected {expected}")]
    Malformed {
        /// Where.
        at: At,
        /// Which part of the line.
        field: &'static str,
        /// The text found.
        value: String,
        /// What stands there in a good line.
        expected: &'static str,
    },
    /// A range that ends before it starts, or has no bytes.
    #[error("{at}: {field}: ends before it starts: {start:#x} to {end:#x}, expected end >= start")]
    Reversed {
        /// Where.
        at: At,
        /// Which range.
        field: &'static str,
        /// First byte as printed.
        start: u64,
        /// End as printed.
        end: u64,
    },
    /// An address no x86 CPU has.
    #[error("{at}: {field}: {value:#x}, expected an address below 2^52 (0x10000000000000)")]
    TooHigh {
        /// Where.
        at: At,
        /// Which range.
        field: &'static str,
        /// The address.
        value: u64,
    },
    /// A memory type no kernel prints.
    #[error(
        "{at}: memory type: `{value}`, expected one the kernel prints, such as `usable`, \
         `System RAM`, `reserved`, `ACPI data`, `soft reserved` or `type 20`"
    )]
    UnknownKind {
        /// Where.
        at: At,
        /// The text found.
        value: String,
    },
    /// Two ranges share bytes.
    #[error("{at}: {field}: overlaps line {other} from {start:#x} on, expected disjoint ranges")]
    Overlap {
        /// The later range's place.
        at: At,
        /// Which ranges.
        field: &'static str,
        /// The other range's line.
        other: usize,
        /// First shared byte.
        start: u64,
    },
    /// The same range of the same type twice in one table.
    #[error("{at}: memory map: repeats line {first}, expected each range once")]
    Duplicate {
        /// The second occurrence.
        at: At,
        /// Line of the first.
        first: usize,
    },
    /// More lines than a kernel can print.
    #[error("{at}: {field}: more than {limit} lines, expected at most that many in one boot")]
    TooMany {
        /// The first line too many.
        at: At,
        /// Which lines.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
}
