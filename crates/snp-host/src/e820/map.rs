//! A memory map and the questions asked of it.

use std::fmt;
use std::path::Path;

use super::error::LogError;
use super::table;
use crate::input::read_text;

/// What the firmware says a range is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// RAM (type 1): `usable`, `System RAM`.
    Usable,
    /// Not RAM for the kernel (type 2): `reserved`, `device reserved`. The RMP table is one of
    /// these, and so is memory-mapped I/O.
    Reserved,
    /// ACPI tables (type 3), reclaimable but not counted as RAM here.
    AcpiData,
    /// Kept across sleep by firmware (type 4).
    AcpiNvs,
    /// RAM with faults (type 5).
    Unusable,
    /// Persistent memory (type 7). Not RAM.
    Persistent,
    /// Persistent memory, the type used before ACPI had one (type 12). Not RAM.
    PersistentLegacy,
    /// Set aside for one purpose (type 0xefffffff), as CXL memory often is. Not RAM.
    SoftReserved,
    /// Any other type, by number. Not RAM.
    Other(u32),
}

impl Kind {
    /// The kind of an e820 type number (`enum e820_type` in the kernel).
    pub fn from_number(number: u32) -> Self {
        match number {
            // 128 is RAM the kernel set aside for itself, printed as usable.
            1 | 128 => Self::Usable,
            2 => Self::Reserved,
            3 => Self::AcpiData,
            4 => Self::AcpiNvs,
            5 => Self::Unusable,
            7 => Self::Persistent,
            12 => Self::PersistentLegacy,
            0xefff_ffff => Self::SoftReserved,
            n => Self::Other(n),
        }
    }
}

impl fmt::Display for Kind {
    /// In the words used before 7.0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("usable"),
            Self::Reserved => f.write_str("reserved"),
            Self::AcpiData => f.write_str("ACPI data"),
            Self::AcpiNvs => f.write_str("ACPI NVS"),
            Self::Unusable => f.write_str("unusable"),
            Self::Persistent => f.write_str("persistent (type 7)"),
            Self::PersistentLegacy => f.write_str("persistent (type 12)"),
            Self::SoftReserved => f.write_str("soft reserved"),
            Self::Other(n) => write!(f, "type {n}"),
        }
    }
}

/// One range of the map, byte addresses below 2^52.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// First byte.
    pub start: u64,
    /// Last byte, `>= start`.
    pub end_inclusive: u64,
    /// What it is.
    pub kind: Kind,
}

impl Entry {
    /// The range alone.
    pub fn span(&self) -> Span {
        Span { start: self.start, end_inclusive: self.end_inclusive }
    }
}

/// A range of bytes, never empty, below 2^52.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Last byte, `>= start`.
    pub end_inclusive: u64,
}

impl Span {
    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.end_inclusive.saturating_sub(self.start).saturating_add(1)
    }

    /// Whether the two share a byte.
    pub fn overlaps(&self, other: &Span) -> bool {
        self.start <= other.end_inclusive && other.start <= self.end_inclusive
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end_inclusive)
    }
}

/// Which of a log's tables was read, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapSource {
    /// `BIOS-e820:`, what firmware handed over.
    Bios,
    /// `user:`, changed by `mem=` or `memmap=`.
    User,
    /// `modified:`, changed by the kernel.
    Modified,
    /// `E820 memmap:`, what kexec hands to the next kernel.
    Kexec,
    /// `/proc/iomem`, what the kernel has in use.
    Iomem,
}

impl fmt::Display for MapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS-e820",
            Self::User => "user",
            Self::Modified => "modified",
            Self::Kexec => "E820 memmap (kexec)",
            Self::Iomem => "/proc/iomem",
        })
    }
}

/// A memory map: ranges sorted by address; usable ranges overlap nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryMap {
    /// The ranges, sorted by first byte.
    pub entries: Vec<Entry>,
    /// The table they come from.
    pub source: MapSource,
    /// What a reader of the results should know: several boots, a log cut at its head, ...
    pub notes: Vec<String>,
}

impl MemoryMap {
    /// Reads the map out of a kernel log; `file` names the text in errors and notes.
    ///
    /// The log may be complete, `grep`ped, cut at its head, unsorted, with any prefix and with
    /// either line ending. See the [module](super) for which table is taken and
    /// [`LogError`] for what is refused.
    pub fn parse(file: &str, log: &str) -> Result<Self, LogError> {
        table::read(file, log)?.ok_or_else(|| LogError::NoMap { file: file.to_owned() })
    }

    /// The same from a file.
    pub fn read(path: &Path) -> Result<Self, LogError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }

    /// Like [`MemoryMap::parse`], for a log that may hold no map.
    pub fn find(file: &str, log: &str) -> Result<Option<Self>, LogError> {
        table::read(file, log)
    }

    /// The usable ranges, by address.
    pub fn usable(&self) -> impl Iterator<Item = Span> + '_ {
        self.entries.iter().filter(|e| e.kind == Kind::Usable).map(Entry::span)
    }

    /// Usable RAM in bytes: persistent, soft-reserved and ACPI memory not counted.
    pub fn usable_bytes(&self) -> u64 {
        self.usable().map(|s| s.bytes()).sum()
    }

    /// Usable RAM in bytes between `start` and `end` (`end` not included).
    pub fn usable_bytes_in(&self, start: u64, end: u64) -> u64 {
        let part = |s: Span| {
            let (from, to) = (s.start.max(start), s.end_inclusive.saturating_add(1).min(end));
            to.saturating_sub(from)
        };
        self.usable().map(part).sum()
    }

    /// The first page frame number (4 KiB pages) above all usable RAM, 0 without any. The kernel
    /// prints it as `last_pfn` and calls it `max_pfn`.
    pub fn max_pfn(&self) -> u64 {
        self.usable().map(|s| s.end_inclusive.saturating_add(1) >> 12).max().unwrap_or(0)
    }

    /// What lies below the end of usable RAM and is not usable RAM, whether the map gives it a type
    /// or leaves it out: by address, adjoining ranges joined.
    pub fn holes(&self) -> Vec<Span> {
        let mut holes = Vec::new();
        let mut next = 0;
        for ram in self.usable() {
            if ram.start > next {
                holes.push(Span { start: next, end_inclusive: ram.start - 1 });
            }
            next = ram.end_inclusive.saturating_add(1);
        }
        holes
    }

    /// Whether two maps say the same, wherever they were read.
    pub fn same_ranges(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> MemoryMap {
        let log = "BIOS-e820: [mem 0x0-0x9ffff] usable\n\
                   BIOS-e820: [mem 0x100000-0x7fffffff] usable\n\
                   BIOS-e820: [mem 0x80000000-0x8fffffff] reserved\n\
                   BIOS-e820: [mem 0x100000000-0x17fffffff] usable\n\
                   BIOS-e820: [mem 0x180000000-0x1ffffffff] soft reserved\n\
                   BIOS-e820: [mem 0x200000000-0x2ffffffff] persistent (type 7)\n";
        MemoryMap::parse("log", log).unwrap()
    }

    #[test]
    fn only_usable_is_ram() {
        let map = map();
        assert_eq!(map.usable_bytes(), 0xa_0000 + 0x7ff0_0000 + 0x8000_0000);
        assert_eq!(map.max_pfn(), 0x18_0000);
    }

    #[test]
    fn holes_join_listed_and_unlisted() {
        assert_eq!(
            map().holes(),
            [
                Span { start: 0xa_0000, end_inclusive: 0xf_ffff },
                Span { start: 0x8000_0000, end_inclusive: 0xffff_ffff }
            ]
        );
    }

    #[test]
    fn bytes_within_a_region() {
        let map = map();
        assert_eq!(map.usable_bytes_in(0, 1 << 30), (1 << 30) - 0x6_0000);
        assert_eq!(map.usable_bytes_in(2 << 30, 4 << 30), 0);
        assert_eq!(map.usable_bytes_in(4 << 30, 5 << 30), 1 << 30);
        assert_eq!(map.usable_bytes_in(u64::MAX, 0), 0);
    }

    #[test]
    fn type_numbers() {
        assert_eq!(Kind::from_number(1), Kind::Usable);
        assert_eq!(Kind::from_number(0xefff_ffff), Kind::SoftReserved);
        assert_eq!(Kind::from_number(20).to_string(), "type 20");
    }
}
