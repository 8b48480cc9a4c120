//! What is wrong with a layout: field, value and what was expected.

use core::fmt;

/// A layout that the CPU or the firmware does not take.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GeometryError {
    /// The firmware setup reserved no memory for the RMP.
    NotReserved {
        /// Register.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An address or size is not aligned.
    Misaligned {
        /// Register or quantity.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The alignment in bytes.
        alignment: u64,
    },
    /// An address has the C-bit set.
    EncryptedAddress {
        /// Register.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The end lies below the base.
    EndBelowBase {
        /// `RMP_BASE`.
        base: u64,
        /// `RMP_END`.
        end: u64,
    },
    /// The table has no room for an entry after the bookkeeping area.
    TooSmall {
        /// Size in bytes.
        bytes: u64,
    },
    /// An address is past the physical address space.
    BeyondPhysical {
        /// Register or quantity.
        field: &'static str,
        /// Last byte.
        value: u64,
        /// Bits of a physical address.
        bits: u32,
    },
    /// `RMP_CFG` does not enable segments.
    NotSegmented {
        /// `RMP_CFG`.
        value: u64,
    },
    /// The segment size is outside CPUID's limits.
    SegmentSize {
        /// log2 of bytes.
        shift: u32,
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// A segment table entry has reserved bits set: its use faults with a reserved-bit error.
    ReservedBits {
        /// Position in the segment table.
        index: usize,
        /// The entry.
        value: u64,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotReserved { field, value } => {
                write!(f, "{field} {value:#x}, expected the address of reserved memory")
            }
            Self::Misaligned { field, value, alignment } => {
                write!(f, "{field} {value:#x}, expected a multiple of {alignment:#x}")
            }
            Self::EncryptedAddress { field, value } => {
                write!(f, "{field} {value:#x} has the C-bit set, expected a plain address")
            }
            Self::EndBelowBase { base, end } => {
                write!(f, "RMP_END {end:#x}, expected above RMP_BASE {base:#x}")
            }
            Self::TooSmall { bytes } => {
                write!(f, "RMP size {bytes:#x}, expected more than 0x4000 bytes of bookkeeping")
            }
            Self::BeyondPhysical { field, value, bits } => {
                write!(f, "{field} ends at {value:#x}, expected below 2^{bits}")
            }
            Self::NotSegmented { value } => {
                write!(f, "RMP_CFG {value:#x}, expected bit 0 (segmented RMP) set")
            }
            Self::SegmentSize { shift, min, max } => write!(
                f,
                "RMP_CFG segment size 2^{shift}, expected 2^{min} to 2^{max} (CPUID Fn8000_0025)"
            ),
            Self::ReservedBits { index, value } => {
                write!(f, "segment table entry {index} is {value:#x}, expected bits 63:52 clear")
            }
        }
    }
}

impl core::error::Error for GeometryError {}

/// Why Linux leaves SNP off although the CPU takes the layout.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinuxRefusal {
    /// A contiguous table is smaller than RAM, with the table itself, needs.
    TableTooSmall {
        /// Bytes needed.
        expected: u64,
        /// Bytes there are.
        got: u64,
    },
    /// The segments end below RAM's end.
    RamNotCovered {
        /// RAM's end.
        expected: u64,
        /// End of the last segment that begins below it.
        got: u64,
    },
    /// A segment's RMP is larger than a whole segment needs.
    SegmentTooLarge {
        /// Address of the first byte covered.
        start: u64,
        /// Bytes of its RMP.
        bytes: u64,
        /// Bytes that a whole segment needs.
        limit: u64,
    },
    /// The segment's position is past the table's last usable entry.
    IndexOutOfRange {
        /// Position.
        index: usize,
        /// Usable entries.
        limit: usize,
    },
    /// Two segments claim the same position.
    IndexTaken {
        /// Position.
        index: usize,
    },
}

impl fmt::Display for LinuxRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TableTooSmall { expected, got } => {
                write!(f, "RMP size {got:#x} does not cover RAM, expected {expected:#x} or more")
            }
            Self::RamNotCovered { expected, got } => {
                write!(f, "RMP segments end at {got:#x}, expected RAM's end {expected:#x} or more")
            }
            Self::SegmentTooLarge { start, bytes, limit } => {
                write!(f, "RMP of segment {start:#x} has {bytes:#x} bytes, expected {limit:#x}")?;
                f.write_str(" or less")
            }
            Self::IndexOutOfRange { index, limit } => {
                write!(f, "RMP segment index {index}, expected below {limit}")
            }
            Self::IndexTaken { index } => {
                write!(f, "RMP segment index {index} is used twice, expected once")
            }
        }
    }
}

impl core::error::Error for LinuxRefusal {}
