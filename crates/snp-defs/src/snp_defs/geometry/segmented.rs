//! The segmented RMP: a table of up to 512 segments, each with an RMP of its own.
//!
//! ```text
//! RMP_BASE + 0x0000: bookkeeping
//! RMP_BASE + 0x4000: segment table (RST), 512 entries of 8 bytes
//! entry(spa) = segment base of RST[spa >> shift] + ((spa mod 2^shift) >> 12) * 16
//! ```
//! RMPOPT needs this layout. Source: spec/snp-arch.md 2.2.

use core::fmt;

use super::{
    GeometryError, LinuxRefusal, SpaRange, BOOKKEEPING_BYTES, FIRMWARE_ALIGNMENT, RST_BYTES,
    RST_ENTRIES,
};
use crate::snp_defs::{Fn80000025, Pfn, RmpCfg, RmpEntry, Spa, PAGE_SHIFT, PHYSICAL_ADDRESS_BITS};

/// One entry of the segment table. Raw: reserved bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct RstEntry(pub u64);

impl RstEntry {
    /// No segment.
    pub const ABSENT: Self = Self(0);
    /// Bits 19:0, covered size in GiB.
    pub const COVERED_GIB: u64 = (1 << 20) - 1;
    /// Bits 51:20, base of the segment's RMP.
    pub const BASE: u64 = (1 << 52) - (1 << 20);
    /// Bits 63:52.
    pub const RESERVED: u64 = !((1 << 52) - 1);

    /// A segment of `gib` GiB with its RMP at `base` (1 MiB aligned; lower bits are dropped).
    pub const fn new(base: Spa, gib: u32) -> Self {
        Self(base.get() & Self::BASE | gib as u64 & Self::COVERED_GIB)
    }

    /// Covered size in GiB as written, before any clamp; 0 if there is no segment.
    pub const fn covered_gib(self) -> u64 {
        self.0 & Self::COVERED_GIB
    }

    /// Whether there is a segment.
    pub const fn is_present(self) -> bool {
        self.covered_gib() != 0
    }

    /// Base of the segment's RMP.
    pub const fn base(self) -> Spa {
        match Spa::new(self.0 & Self::BASE) {
            Some(spa) => spa,
            None => Spa::ZERO,
        }
    }

    /// Reserved bits 63:52 in place; 0 if the entry is sound.
    pub const fn reserved(self) -> u64 {
        self.0 & Self::RESERVED
    }
}

impl fmt::Debug for RstEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RstEntry({:#018x})", self.0)
    }
}

/// A segmented RMP that the CPU takes. The segment table is borrowed: it has 512 entries in memory,
/// a shorter slice reads as absent beyond its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentedRmp<'a> {
    base: Spa,
    shift: u32,
    limit: usize,
    rst: &'a [RstEntry],
}

impl<'a> SegmentedRmp<'a> {
    /// From the raw value of `RMP_BASE`, `RMP_CFG`, CPUID and the segment table.
    pub const fn new(
        base: u64,
        cfg: RmpCfg,
        limits: Fn80000025,
        rst: &'a [RstEntry],
    ) -> Result<Self, GeometryError> {
        if !cfg.is_segmented() {
            return Err(GeometryError::NotSegmented { value: cfg.raw() });
        }
        if base == 0 {
            return Err(GeometryError::NotReserved { field: "RMP_BASE", value: base });
        }
        if base % FIRMWARE_ALIGNMENT != 0 {
            return Err(GeometryError::Misaligned {
                field: "RMP_BASE",
                value: base,
                alignment: FIRMWARE_ALIGNMENT,
            });
        }
        let Some(first) = Spa::new(base) else {
            return Err(GeometryError::BeyondPhysical {
                field: "RMP_BASE",
                value: base,
                bits: PHYSICAL_ADDRESS_BITS,
            });
        };
        let shift = cfg.segment_shift();
        let (min, max) = (limits.min_segment_shift(), limits.max_segment_shift());
        if shift < min || shift > max {
            return Err(GeometryError::SegmentSize { shift, min, max });
        }
        Ok(Self { base: first, shift, limit: segment_limit(limits), rst })
    }

    /// First byte of bookkeeping.
    pub const fn base(&self) -> Spa {
        self.base
    }

    /// Address of the segment table, `None` past 2^52.
    pub const fn rst_spa(&self) -> Option<Spa> {
        self.base.checked_add(BOOKKEEPING_BYTES)
    }

    /// log2 of a segment's size in bytes.
    pub const fn segment_shift(&self) -> u32 {
        self.shift
    }

    /// Bytes of memory that a whole segment covers.
    pub const fn segment_bytes(&self) -> u64 {
        1 << self.shift
    }

    /// Bytes of RMP that a whole segment takes.
    pub const fn segment_rmp_bytes(&self) -> u64 {
        rmp_bytes(self.segment_bytes())
    }

    /// Usable entries of the segment table: 512, or CPUID's hard limit.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Usable entries that the slice holds; the rest reads as absent.
    fn entries(&self) -> &'a [RstEntry] {
        self.rst.get(..self.limit).unwrap_or(self.rst)
    }

    /// The entry at a position, [`RstEntry::ABSENT`] past the usable ones.
    pub fn entry(&self, index: usize) -> RstEntry {
        self.entries().get(index).copied().unwrap_or(RstEntry::ABSENT)
    }

    /// Bytes of memory that the segment at a position covers: its covered size, clamped to the
    /// segment size.
    pub fn covered_bytes_at(&self, index: usize) -> u64 {
        let covered = self.entry(index).covered_gib() << 30;
        covered.min(self.segment_bytes())
    }

    /// Bytes of RMP of the segment at a position: 4 MiB per GiB covered.
    pub fn rmp_bytes_at(&self, index: usize) -> u64 {
        rmp_bytes(self.covered_bytes_at(index))
    }

    /// Segments present: position, memory covered, memory of its RMP.
    pub fn segments(&self) -> impl Iterator<Item = (usize, SpaRange, SpaRange)> + 'a {
        let rmp = *self;
        (0..rmp.entries().len()).filter_map(move |index| {
            let start = Spa::new((index as u64).checked_shl(rmp.shift)?)?;
            let bytes = rmp.covered_bytes_at(index);
            let own = SpaRange { start: rmp.entry(index).base(), bytes: rmp_bytes(bytes) };
            (bytes != 0).then_some((index, SpaRange { start, bytes }, own))
        })
    }

    /// Position in the segment table and index inside the segment's RMP.
    pub const fn locate(&self, pfn: Pfn) -> (usize, u64) {
        let spa = pfn.spa().get();
        ((spa >> self.shift) as usize, (spa & (self.segment_bytes() - 1)) >> PAGE_SHIFT)
    }

    /// Whether an entry covers the page.
    pub fn covers(&self, pfn: Pfn) -> bool {
        let (index, offset) = self.locate(pfn);
        offset < self.covered_bytes_at(index) >> PAGE_SHIFT
    }

    /// Address of a page's entry, `None` if no entry covers the page.
    ///
    /// Reserved bits of the segment table are masked, as Linux does; what the CPU does with them is
    /// told by [`Self::use_check`].
    pub fn entry_spa(&self, pfn: Pfn) -> Option<Spa> {
        let (index, offset) = self.locate(pfn);
        if self.covers(pfn) {
            self.entry(index).base().checked_add(offset * RmpEntry::BYTES)
        } else {
            None
        }
    }

    /// Whether the CPU could use the page's segment: reserved bits raise #PF (or a nested fault)
    /// with the reserved-bit error, on a CPU without `NumSegReduction`.
    pub fn use_check(&self, pfn: Pfn) -> Result<(), GeometryError> {
        let (index, _) = self.locate(pfn);
        let entry = self.entry(index);
        if entry.is_present() && entry.reserved() != 0 {
            return Err(GeometryError::ReservedBits { index, value: entry.0 });
        }
        Ok(())
    }

    /// What setting `SNP_EN` does on a CPU with `NumSegReduction`: #GP(0) if a segment's RMP ends
    /// past the CPU's `bits` of physical address.
    pub fn snp_enable_check(&self, bits: u32) -> Result<(), GeometryError> {
        let limit = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        match self.segments().find(|(_, _, own)| own.end() > limit) {
            Some((_, _, own)) => Err(GeometryError::BeyondPhysical {
                field: "segment RMP",
                value: own.end().saturating_sub(1),
                bits,
            }),
            None => Ok(()),
        }
    }

    /// First page below `end` that no entry covers: a hole, hypervisor-owned for ever.
    pub fn first_hole(&self, end: Pfn) -> Option<Pfn> {
        let mut next = Pfn::default();
        while next < end {
            let (index, offset) = self.locate(next);
            let covered = self.covered_bytes_at(index) >> PAGE_SHIFT;
            if offset >= covered {
                return Some(next);
            }
            next = next.checked_add(covered - offset)?;
        }
        None
    }

    /// The `n`th piece of memory that the RMP itself takes: bookkeeping with the segment table
    /// first, then segment by segment. Outer `None` past the end, inner for an absent segment.
    pub fn own_range(&self, n: usize) -> Option<Option<SpaRange>> {
        let Some(index) = n.checked_sub(1) else {
            return Some(Some(SpaRange { start: self.base, bytes: BOOKKEEPING_BYTES + RST_BYTES }));
        };
        let entry = self.entries().get(index)?;
        Some(
            entry
                .is_present()
                .then(|| SpaRange { start: entry.base(), bytes: self.rmp_bytes_at(index) }),
        )
    }

    /// Whether Linux would run SNP with RAM up to `max_pfn` (first frame past RAM).
    ///
    /// Linux looks at the end of the last segment that begins below RAM's end: a hole between two
    /// segments passes this check, see [`Self::first_hole`].
    pub fn linux_check(&self, max_pfn: Pfn) -> Result<(), LinuxRefusal> {
        let expected = max_pfn.spa().get();
        let mut got = 0;
        for (_, covered, own) in self.segments() {
            if covered.start.get() < expected {
                got = covered.end();
            }
            self.linux_segment(covered.start, own.bytes, false)?;
        }
        if expected > got {
            return Err(LinuxRefusal::RamNotCovered { expected, got });
        }
        Ok(())
    }

    /// Linux' check of one segment before it maps its RMP: covering `start` on, with `bytes` of
    /// RMP, `taken` if the position has a segment already. Returns the position.
    pub const fn linux_segment(
        &self,
        start: Spa,
        bytes: u64,
        taken: bool,
    ) -> Result<usize, LinuxRefusal> {
        let limit = self.segment_rmp_bytes();
        if bytes > limit {
            return Err(LinuxRefusal::SegmentTooLarge { start: start.get(), bytes, limit });
        }
        let index = (start.get() >> self.shift) as usize;
        if index >= self.limit {
            return Err(LinuxRefusal::IndexOutOfRange { index, limit: self.limit });
        }
        if taken {
            return Err(LinuxRefusal::IndexTaken { index });
        }
        Ok(index)
    }

    /// Whether `RMP_END` reads as it should in this layout: 0. Linux only warns.
    pub const fn end_is_expected(end: u64) -> bool {
        end == 0
    }
}

/// Bytes of RMP for bytes of memory.
const fn rmp_bytes(memory: u64) -> u64 {
    (memory >> PAGE_SHIFT) * RmpEntry::BYTES
}

const fn segment_limit(limits: Fn80000025) -> usize {
    let cached = limits.cached_segments() as usize;
    if limits.is_hard_limit() && cached < RST_ENTRIES {
        cached
    } else {
        RST_ENTRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp_defs::RmpGeometry;

    const TURIN: Fn80000025 = Fn80000025 { eax: 0xaa4, ebx: 0x410, ecx: 0, edx: 0 };
    const BASE: u64 = 0x10_0000;

    fn pfn(spa: u64) -> Pfn {
        Spa::new(spa).unwrap().pfn()
    }

    fn rst(index: usize, gib: u32) -> RstEntry {
        RstEntry::new(Spa::new((index as u64 + 1) << 30).unwrap(), gib)
    }

    fn segmented(table: &[RstEntry]) -> SegmentedRmp<'_> {
        SegmentedRmp::new(BASE, RmpCfg::segmented(36), TURIN, table).unwrap()
    }

    #[test]
    fn the_worked_example() {
        let table: Vec<_> = (0..16).map(|index| rst(index, 64)).collect();
        let rmp = segmented(&table);
        assert_eq!(rmp.locate(pfn(0x90_0080_0000)), (9, 0x800));
        assert_eq!(rmp.entry_spa(pfn(0x90_0080_0000)).unwrap().get(), (10 << 30) + 0x8000);
        assert_eq!(rmp.segment_rmp_bytes(), 256 << 20);
        assert_eq!(rmp.rmp_bytes_at(9), 256 << 20);
        assert_eq!(rmp.rst_spa().unwrap().get(), BASE + 0x4000);
        assert_eq!((rmp.base().get(), rmp.segment_shift()), (BASE, 36));
        assert_eq!(rmp.linux_check(pfn(1 << 40)), Ok(()));
        assert_eq!(rmp.first_hole(pfn(1 << 40)), None);
    }

    #[test]
    fn covered_size_is_clamped_and_segments_may_be_short() {
        let table = [rst(0, 1000), rst(1, 3)];
        let rmp = segmented(&table);
        assert_eq!(rmp.entry(0).covered_gib(), 1000);
        assert_eq!(rmp.covered_bytes_at(0), 64 << 30);
        assert_eq!(rmp.rmp_bytes_at(1), 3 * (4 << 20));
        assert!(rmp.covers(pfn((67 << 30) - 1)) && !rmp.covers(pfn(67 << 30)));
        assert!(!rmp.covers(pfn(128 << 30)), "past the slice");
        assert_eq!(rmp.first_hole(pfn(68 << 30)), Some(pfn(67 << 30)));
        assert_eq!(
            rmp.linux_check(pfn(68 << 30)),
            Err(LinuxRefusal::RamNotCovered { expected: 68 << 30, got: 67 << 30 })
        );
    }

    #[test]
    fn holes_are_hypervisor_owned() {
        let table = [rst(0, 64), RstEntry::ABSENT, rst(2, 64)];
        let rmp = segmented(&table);
        assert_eq!(rmp.entry_spa(pfn(64 << 30)), None);
        assert!(rmp.covers(pfn((64 << 30) - 1)) && rmp.covers(pfn(128 << 30)));
        assert_eq!(rmp.first_hole(pfn(192 << 30)), Some(pfn(64 << 30)));
        assert_eq!(rmp.linux_check(pfn(192 << 30)), Ok(()), "Linux looks at the end only");
    }

    #[test]
    fn segments_wholly_above_ram_are_allowed() {
        let table = [rst(0, 64), RstEntry::ABSENT, rst(2, 64)];
        assert_eq!(segmented(&table).linux_check(pfn(64 << 30)), Ok(()));
        assert!(segmented(&table).linux_check(pfn(65 << 30)).is_err());
    }

    #[test]
    fn the_hard_limit_cuts_the_table() {
        let table: Vec<_> = (0..512).map(|index| rst(index, 64)).collect();
        let hard = segmented(&table);
        assert_eq!(hard.limit(), 16);
        assert!(hard.covers(pfn((1 << 40) - 1)) && !hard.covers(pfn(1 << 40)));
        let soft = Fn80000025 { ebx: 0x10, ..TURIN };
        let soft = SegmentedRmp::new(BASE, RmpCfg::segmented(36), soft, &table).unwrap();
        assert_eq!(soft.limit(), RST_ENTRIES);
        assert!(soft.covers(pfn((32 << 40) - 1)) && !soft.covers(pfn(32 << 40)));
    }

    #[test]
    fn linux_refuses_a_segment() {
        let table = [rst(0, 64)];
        let rmp = segmented(&table);
        let start = Spa::new(64 << 30).unwrap();
        let whole = rmp.segment_rmp_bytes();
        assert_eq!(rmp.linux_segment(start, whole, false), Ok(1));
        for (refusal, shown) in [
            (
                rmp.linux_segment(start, whole + 16, false),
                "RMP of segment 0x1000000000 has 0x10000010 bytes, expected 0x10000000 or less",
            ),
            (
                rmp.linux_segment(Spa::new(1 << 40).unwrap(), whole, false),
                "RMP segment index 16, expected below 16",
            ),
            (
                rmp.linux_segment(start, whole, true),
                "RMP segment index 1 is used twice, expected once",
            ),
        ] {
            assert_eq!(refusal.unwrap_err().to_string(), shown);
        }
    }

    #[test]
    fn what_the_cpu_refuses() {
        let new = |base, cfg| SegmentedRmp::new(base, cfg, TURIN, &[]);
        let cfg = RmpCfg::segmented(36);
        assert_eq!(new(BASE, RmpCfg(0)), Err(GeometryError::NotSegmented { value: 0 }));
        assert!(matches!(new(0, cfg), Err(GeometryError::NotReserved { .. })));
        assert!(matches!(new(0x8_2000, cfg), Err(GeometryError::Misaligned { .. })));
        assert!(matches!(new(1 << 52, cfg), Err(GeometryError::BeyondPhysical { .. })));
        for shift in [35, 43] {
            assert_eq!(
                new(BASE, RmpCfg::segmented(shift)),
                Err(GeometryError::SegmentSize { shift, min: 36, max: 42 })
            );
        }
        assert!(SegmentedRmp::end_is_expected(0) && !SegmentedRmp::end_is_expected(0x1fff));
    }

    #[test]
    fn bad_contents_of_the_table() {
        let bad = RstEntry(rst(0, 64).0 | 1 << 63);
        let high = RstEntry::new(Spa::new((1 << 52) - (1 << 20)).unwrap(), 64);
        let table = [bad, high];
        let rmp = segmented(&table);
        assert_eq!(bad.reserved(), 1 << 63);
        assert!(rmp.use_check(pfn(0)).is_err() && rmp.use_check(pfn(64 << 30)).is_ok());
        assert_eq!(rmp.entry_spa(pfn(0)), segmented(&[rst(0, 64)]).entry_spa(pfn(0)));
        assert!(rmp.snp_enable_check(46).is_err());
        assert!(segmented(&[rst(0, 64)]).snp_enable_check(46).is_ok());
    }

    #[test]
    fn own_memory_is_header_and_segments() {
        let table = [rst(0, 64), RstEntry::ABSENT, rst(2, 1)];
        let geometry = RmpGeometry::Segmented(segmented(&table));
        let own: Vec<_> = geometry.own_ranges().map(|r| (r.start.get(), r.bytes)).collect();
        assert_eq!(own, [(BASE, 0x5000), (1 << 30, 256 << 20), (3 << 30, 4 << 20)]);
        assert!(geometry.is_rmp_memory(Spa::new(BASE + 0x4FFF).unwrap()));
        assert!(!geometry.is_rmp_memory(Spa::new(BASE + 0x5000).unwrap()));
        assert!(geometry.covers(pfn(0)) && geometry.entry_spa(pfn(0)).is_some());
        assert!(geometry.linux_check(pfn(1 << 40)).is_err());
    }
}
