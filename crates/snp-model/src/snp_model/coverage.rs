//! Which pages have an RMP entry.

use crate::snp_defs::{
    Pfn, Region, RmpGeometry, SpaRange, PAGES_PER_LARGE_PAGE, PAGES_PER_REGION, PAGE_BYTES,
    REGION_SHIFT, RST_ENTRIES,
};

/// Consecutive pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PfnRange {
    /// The first page.
    pub first: Pfn,
    /// How many.
    pub pages: u64,
}

impl PfnRange {
    /// `pages` pages from `first` on.
    pub const fn new(first: Pfn, pages: u64) -> Self {
        Self { first, pages }
    }

    /// The pages that a range of bytes touches.
    pub const fn touching(range: SpaRange) -> Self {
        let first = range.start.pfn();
        Self { first, pages: range.end().div_ceil(PAGE_BYTES).saturating_sub(first.get()) }
    }

    /// The number one past the last page.
    pub const fn end(self) -> u64 {
        self.first.get().saturating_add(self.pages)
    }

    /// Whether the page is one of them.
    pub const fn contains(self, pfn: Pfn) -> bool {
        pfn.get() >= self.first.get() && pfn.get() < self.end()
    }
}

/// The pages with an RMP entry: a contiguous RMP covers them from address 0 up to a limit, a
/// segmented one covers the start of each segment, in whole GiB. What is not covered is
/// hypervisor-owned for ever.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// log2 of a segment's bytes; `None` for a contiguous RMP.
    segment_shift: Option<u32>,
    /// Contiguous: pages covered from 0 on.
    pages: u64,
    /// Segmented: GiB covered from each segment's start on.
    covered_gib: [u32; RST_ENTRIES],
    /// Every page below this is covered: the quick answer for most of them.
    whole: u64,
}

impl Coverage {
    /// What an RMP of this geometry covers. `None` for segments below 1 GiB.
    pub fn of(geometry: &RmpGeometry<'_>) -> Option<Self> {
        match geometry {
            RmpGeometry::Contiguous(rmp) => Some(Self::contiguous(rmp.covered_pages())),
            RmpGeometry::Segmented(rmp) => {
                let mut coverage = Self::segmented(rmp.segment_shift())?;
                for (index, _, _) in rmp.segments() {
                    let gib = rmp.covered_bytes_at(index) >> REGION_SHIFT;
                    coverage = coverage.with_segment(index, u32::try_from(gib).ok()?);
                }
                Some(coverage)
            }
        }
    }

    /// A contiguous RMP that covers the pages below `pages`, rounded down to whole 2M blocks (base and
    /// end of the table are 8 KiB aligned, which is 512 entries).
    pub const fn contiguous(pages: u64) -> Self {
        let pages = pages - pages % PAGES_PER_LARGE_PAGE;
        Self { segment_shift: None, pages, covered_gib: [0; RST_ENTRIES], whole: pages }
    }

    /// A segmented RMP of segments of `1 << segment_shift` bytes, none of them present yet. `None` for
    /// segments below 1 GiB or above the physical address space.
    pub const fn segmented(segment_shift: u32) -> Option<Self> {
        if segment_shift < REGION_SHIFT || segment_shift > 52 {
            return None;
        }
        Some(Self {
            segment_shift: Some(segment_shift),
            pages: 0,
            covered_gib: [0; RST_ENTRIES],
            whole: 0,
        })
    }

    /// With one more segment, covering `gib` from its start on (clamped to the segment's size).
    /// Nothing changes for an index of 512 or more and for a contiguous RMP.
    pub fn with_segment(mut self, index: usize, gib: u32) -> Self {
        if let (Some(shift), Some(covered)) = (self.segment_shift, self.covered_gib.get_mut(index))
        {
            *covered = gib.min(1 << (shift - REGION_SHIFT));
        }
        self.with_whole()
    }

    /// With the segments that cover all memory below `regions` GiB.
    pub fn with_regions(mut self, regions: u32) -> Self {
        let Some(shift) = self.segment_shift else { return self };
        let per_segment = 1 << (shift - REGION_SHIFT);
        let mut left = regions;
        for covered in &mut self.covered_gib {
            *covered = left.min(per_segment);
            left -= *covered;
        }
        self.with_whole()
    }

    /// Counts anew what is covered without a gap.
    fn with_whole(mut self) -> Self {
        let Some(shift) = self.segment_shift else { return self };
        let full = 1 << (shift - REGION_SHIFT);
        let gapless = self.covered_gib.iter().take_while(|&&covered| covered == full).count();
        let rest = self.covered_gib.get(gapless).copied().unwrap_or(0);
        let gib = (gapless as u64).saturating_mul(u64::from(full));
        self.whole = gib.saturating_add(u64::from(rest)).saturating_mul(PAGES_PER_REGION);
        self
    }

    /// Whether the RMP is segmented: RMPOPT needs that.
    pub const fn is_segmented(&self) -> bool {
        self.segment_shift.is_some()
    }

    /// How many of a region's pages are covered; they are its first ones.
    #[inline]
    pub fn covered_pages(&self, region: Region) -> u64 {
        let Some(shift) = self.segment_shift else {
            return self.pages.saturating_sub(region.first_pfn().get()).min(PAGES_PER_REGION);
        };
        let gib_shift = shift - REGION_SHIFT;
        let index = (region.get() >> gib_shift) as usize;
        let offset = region.get() & ((1 << gib_shift) - 1);
        match self.covered_gib.get(index) {
            Some(&covered) if offset < covered => PAGES_PER_REGION,
            _ => 0,
        }
    }

    /// Whether the page has an RMP entry.
    #[inline]
    pub fn covers(&self, pfn: Pfn) -> bool {
        pfn.get() < self.whole
            || u64::from(pfn.index_in_region()) < self.covered_pages(pfn.region())
    }
}
