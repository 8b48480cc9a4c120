//! Where the RMP lies in memory and which pages it covers: contiguous or segmented.
//!
//! Both layouts begin with 16 KiB of processor bookkeeping and hold 16 bytes per 4 KiB page. A page
//! without an entry is hypervisor-owned for ever: it can never be assigned.
//!
//! Source: spec/snp-arch.md 2.1 and 2.2 (APM vol. 2 §15.36.2, §15.36.22; AMD's firmware
//! `get_rmp_bounds`; Linux `arch/x86/virt/svm/sev.c`).

mod contiguous;
mod error;
mod segmented;

use core::fmt;

pub use self::{
    contiguous::ContiguousRmp,
    error::{GeometryError, LinuxRefusal},
    segmented::{RstEntry, SegmentedRmp},
};
use crate::snp_defs::{Pfn, Spa};

/// Processor bookkeeping at the start of either layout: 2,048 counters of 8 bytes, one per ASID.
pub const BOOKKEEPING_BYTES: u64 = 0x4000;
/// Entries of the segment table.
pub const RST_ENTRIES: usize = 512;
/// Bytes of the segment table.
pub const RST_BYTES: u64 = 0x1000;
/// Alignment of `RMP_BASE` and of `RMP_END` + 1 for the CPU.
pub const CPU_ALIGNMENT: u64 = 8 << 10;
/// Alignment of base and size that AMD's firmware wants, and of every segment's base.
pub const FIRMWARE_ALIGNMENT: u64 = 1 << 20;

const _: () = assert!(RST_ENTRIES as u64 * 8 == RST_BYTES && BOOKKEEPING_BYTES == 2048 * 8);

/// A range of system physical memory: first byte and length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpaRange {
    /// First byte.
    pub start: Spa,
    /// Length in bytes.
    pub bytes: u64,
}

impl SpaRange {
    /// Whether the range holds this byte.
    pub const fn contains(self, spa: Spa) -> bool {
        match spa.get().checked_sub(self.start.get()) {
            Some(offset) => offset < self.bytes,
            None => false,
        }
    }

    /// Address after the last byte.
    pub const fn end(self) -> u64 {
        self.start.get().saturating_add(self.bytes)
    }
}

/// The RMP's layout, of either kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RmpGeometry<'a> {
    /// One table, indexed from address 0.
    Contiguous(ContiguousRmp),
    /// A table of segments.
    Segmented(SegmentedRmp<'a>),
}

impl<'a> RmpGeometry<'a> {
    /// Address of a page's RMP entry, `None` if no entry covers the page.
    pub fn entry_spa(&self, pfn: Pfn) -> Option<Spa> {
        match self {
            Self::Contiguous(rmp) => rmp.entry_spa(pfn),
            Self::Segmented(rmp) => rmp.entry_spa(pfn),
        }
    }

    /// Whether an entry covers the page.
    pub fn covers(&self, pfn: Pfn) -> bool {
        match self {
            Self::Contiguous(rmp) => rmp.covers(pfn),
            Self::Segmented(rmp) => rmp.covers(pfn),
        }
    }

    /// The memory that the RMP itself takes: pages of it belong to the firmware once SNP is up, so
    /// that no region holding one of them can be optimised.
    pub fn own_ranges(&self) -> impl Iterator<Item = SpaRange> + 'a {
        let geometry = *self;
        (0..)
            .map_while(move |position| match geometry {
                Self::Contiguous(rmp) => (position == 0).then(|| Some(rmp.own_range())),
                Self::Segmented(rmp) => rmp.own_range(position),
            })
            .flatten()
    }

    /// Whether the byte lies in the RMP itself.
    pub fn is_rmp_memory(&self, spa: Spa) -> bool {
        self.own_ranges().any(|range| range.contains(spa))
    }

    /// Whether Linux would run SNP with this layout and RAM up to `max_pfn` (first frame past RAM).
    pub fn linux_check(&self, max_pfn: Pfn) -> Result<(), LinuxRefusal> {
        match self {
            Self::Contiguous(rmp) => rmp.linux_check(max_pfn),
            Self::Segmented(rmp) => rmp.linux_check(max_pfn),
        }
    }
}

/// Bytes shown as GiB with four decimals, rounded to the nearest: `257.4961 GiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Gib(pub u64);

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ONE: u64 = 1 << 30;
        let parts = ((self.0 % ONE) * 10_000 + ONE / 2) / ONE;
        write!(f, "{}.{:04} GiB", self.0 / ONE + parts / 10_000, parts % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gib_rounds_to_four_decimals() {
        assert_eq!(Gib(0).to_string(), "0.0000 GiB");
        assert_eq!(Gib((1 << 30) - 1).to_string(), "1.0000 GiB");
        assert_eq!(Gib(3 << 29).to_string(), "1.5000 GiB");
        assert_eq!(Gib(u64::MAX).to_string(), "17179869184.0000 GiB");
    }

    #[test]
    fn both_kinds_tell_their_own_memory() {
        let flat = RmpGeometry::Contiguous(ContiguousRmp::new(0x10_0000, 0x110_3FFF).unwrap());
        let own: Vec<_> = flat.own_ranges().collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].start.get(), own[0].end()), (0x10_0000, 0x110_4000));
        assert!(flat.is_rmp_memory(Spa::new(0x110_3FFF).unwrap()));
        assert!(!flat.is_rmp_memory(Spa::new(0x110_4000).unwrap()));
        assert!(!flat.is_rmp_memory(Spa::new(0xF_FFFF).unwrap()));
    }
}
