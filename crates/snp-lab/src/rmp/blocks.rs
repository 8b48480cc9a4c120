//! RMP entries, summed up by 2 MiB block, and what RMPUPDATE and PSMASH do to them.

use std::collections::HashMap;

use snp_defs::{LARGE_PAGES_PER_REGION, PAGES_PER_LARGE_PAGE, PageSize, Pfn, Region, RmpStatus};
use snp_model::{Coverage, RegionScan, Scan};

use super::Owner;
use super::masks::PageMask;
use super::psp::Psp;
use crate::memory::Extent;

/// Pages of a block, as a count fits.
const FULL: u16 = PAGES_PER_LARGE_PAGE as u16;

/// The pages are one 2 MiB entry.
const LARGE: u8 = 1;
/// Some are the firmware's since boot: RMPUPDATE is refused.
const BOOT: u8 = 2;
/// Some differ from the rest: see [`Detail`].
const DETAIL: u8 = 4;

/// A block's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Block {
    /// Assigned 4 KiB pages, 0 to 512.
    pub(super) assigned: u16,
    /// The guest whose pages they are, but for the firmware's.
    pub(super) asid: u16,
    flags: u8,
}

impl Block {
    pub(super) const fn is_large(self) -> bool {
        self.flags & LARGE != 0
    }
}

/// Pages of a block that differ from the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Detail {
    pub(super) immutable: PageMask,
    /// Bit 63: in use.
    pub(super) locked: PageMask,
    /// Assigned, with ASID 0.
    pub(super) firmware: PageMask,
    /// Save areas.
    pub(super) vmsa: PageMask,
}

/// The blocks of a host.
#[derive(Debug)]
pub(super) struct Blocks {
    states: Vec<Block>,
    /// Masks of blocks that are neither empty nor full.
    partial: HashMap<usize, PageMask>,
    details: HashMap<usize, Detail>,
    /// Assigned pages in each region.
    by_region: Vec<u32>,
    coverage: Coverage,
}

/// A page's block, and its place there.
pub(super) fn split(pfn: u64) -> (usize, u64) {
    ((pfn / PAGES_PER_LARGE_PAGE) as usize, pfn % PAGES_PER_LARGE_PAGE)
}

/// The parts of a run by block: (block, from, to).
pub(super) fn by_block(run: Extent) -> impl Iterator<Item = (usize, u64, u64)> {
    let mut at = run.first.get();
    let end = run.end();
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (index, from) = split(at);
        let to = (from + end - at).min(PAGES_PER_LARGE_PAGE);
        at += to - from;
        Some((index, from, to))
    })
}

impl Blocks {
    pub(super) fn new(regions: u32, coverage: Coverage) -> Self {
        let blocks = regions as usize * LARGE_PAGES_PER_REGION as usize;
        Self {
            states: vec![Block::default(); blocks],
            partial: HashMap::new(),
            details: HashMap::new(),
            by_region: vec![0; regions as usize],
            coverage,
        }
    }

    /// Nothing is assigned.
    pub(super) fn clear(&mut self) {
        self.states.fill(Block::default());
        self.partial.clear();
        self.details.clear();
        self.by_region.fill(0);
    }

    /// Boot's pages.
    pub(super) fn boot(&mut self, ranges: impl Iterator<Item = Extent>) {
        for (index, from, to) in ranges.flat_map(by_block) {
            let mask = self.mask(index).or(PageMask::of(from, to));
            self.store(index, mask, false);
            if let Some(block) = self.states.get_mut(index) {
                block.flags |= BOOT;
            }
        }
    }

    pub(super) fn state(&self, index: usize) -> Block {
        self.states.get(index).copied().unwrap_or_default()
    }

    /// The block's assigned pages.
    pub(super) fn mask(&self, index: usize) -> PageMask {
        match self.state(index).assigned {
            0 => PageMask::NONE,
            FULL => PageMask::ALL,
            _ => self.partial.get(&index).copied().unwrap_or_default(),
        }
    }

    /// The block's pages that are this guest's and not immutable.
    pub(super) fn mutable_pages_of(&self, index: usize, asid: u32) -> PageMask {
        let block = self.state(index);
        if u32::from(block.asid) != asid {
            return PageMask::NONE;
        }
        let all = self.mask(index);
        if block.flags & DETAIL == 0 {
            return all;
        }
        let detail = self.detail(index);
        all.without(detail.firmware).without(detail.immutable)
    }

    pub(super) fn is_assigned(&self, pfn: Pfn) -> bool {
        let (index, page) = split(pfn.get());
        self.mask(index).has(page)
    }

    pub(super) fn detail(&self, index: usize) -> Detail {
        if self.state(index).flags & DETAIL == 0 {
            return Detail::default();
        }
        self.details.get(&index).copied().unwrap_or_default()
    }

    pub(super) fn edit_detail(&mut self, index: usize, edit: impl FnOnce(&mut Detail)) {
        let Some(block) = self.states.get_mut(index) else { return };
        let detail = self.details.entry(index).or_default();
        edit(detail);
        if *detail == Detail::default() {
            self.details.remove(&index);
            block.flags &= !DETAIL;
        } else {
            block.flags |= DETAIL;
        }
    }

    /// Sets or clears bit 63 of one entry.
    pub(super) fn lock(&mut self, pfn: Pfn, on: bool) {
        let (index, page) = split(pfn.get());
        let own = PageMask::of(page, page + 1);
        self.edit_detail(index, |detail| detail.locked = detail.locked.set(own, on));
    }

    fn store(&mut self, index: usize, mask: PageMask, large: bool) {
        let Some(block) = self.states.get_mut(index) else { return };
        let assigned = mask.count();
        let was_partial = !matches!(block.assigned, 0 | FULL);
        let region = index / LARGE_PAGES_PER_REGION as usize;
        if let Some(count) = self.by_region.get_mut(region) {
            *count = *count + assigned - u32::from(block.assigned);
        }
        block.assigned = assigned as u16;
        block.flags = if large { block.flags | LARGE } else { block.flags & !LARGE };
        if !matches!(block.assigned, 0 | FULL) {
            self.partial.insert(index, mask);
        } else if was_partial {
            self.partial.remove(&index);
        }
    }

    /// RMPUPDATEs of `from..to` of one block, to the first that is refused: pages done, and the code.
    pub(super) fn update(
        &mut self,
        psp: &mut Psp,
        index: usize,
        (from, to): (u64, u64),
        size: PageSize,
        owner: Owner,
    ) -> (u64, RmpStatus) {
        let Some(block) = self.states.get(index).copied() else {
            return (0, RmpStatus::FAIL_INPUT);
        };
        if block.flags & BOOT != 0 {
            return (0, RmpStatus::FAIL_PERMISSION);
        }
        let whole = from == 0 && to == PAGES_PER_LARGE_PAGE;
        if whole
            && block.flags & DETAIL == 0
            && matches!(owner, Owner::Guest(_) | Owner::Hypervisor)
        {
            return self.update_plain(psp, index, block, size, owner);
        }
        let detail = self.detail(index);
        // What stops each page: bit 63 first, then immutable, then the size.
        let (looked_at, overlaps) = match size {
            PageSize::Size4K => (PageMask::of(from, to), block.is_large()),
            PageSize::Size2M if !whole => return (0, RmpStatus::FAIL_INPUT),
            PageSize::Size2M => (PageMask::of(0, 1), !block.is_large() && block.assigned > 0),
        };
        let (locked, immutable) = (looked_at.and(detail.locked), looked_at.and(detail.immutable));
        let first = if overlaps { from } else { to };
        let end = locked.or(immutable).first().unwrap_or(to).min(first);
        let status = if locked.has(end) {
            RmpStatus::FAIL_INUSE
        } else if immutable.has(end) {
            RmpStatus::FAIL_PERMISSION
        } else if overlaps {
            RmpStatus::FAIL_OVERLAP
        } else {
            RmpStatus::SUCCESS
        };
        if end > from {
            self.commit(psp, index, PageMask::of(from, end), size, owner);
        }
        (end - from, status)
    }

    /// The usual case: a whole block, all of whose pages are alike but that some may be assigned.
    fn update_plain(
        &mut self,
        psp: &mut Psp,
        index: usize,
        old: Block,
        size: PageSize,
        owner: Owner,
    ) -> (u64, RmpStatus) {
        let overlaps = match size {
            PageSize::Size4K => old.is_large(),
            PageSize::Size2M => !old.is_large() && old.assigned > 0,
        };
        if overlaps {
            return (0, RmpStatus::FAIL_OVERLAP);
        }
        psp.count(u32::from(old.asid), 0, u64::from(old.assigned));
        let large = owner.assigns() && size == PageSize::Size2M;
        let asid = match owner {
            Owner::Guest(asid) => asid as u16,
            _ => old.asid,
        };
        let mask = if owner.assigns() { PageMask::ALL } else { PageMask::NONE };
        self.store(index, mask, large);
        if let Some(block) = self.states.get_mut(index) {
            block.asid = asid;
            psp.count(u32::from(asid), u64::from(block.assigned), 0);
        }
        (PAGES_PER_LARGE_PAGE, RmpStatus::SUCCESS)
    }

    fn commit(
        &mut self,
        psp: &mut Psp,
        index: usize,
        pages: PageMask,
        size: PageSize,
        owner: Owner,
    ) {
        let (old, detail) = (self.state(index), self.detail(index));
        let before = self.mask(index);
        let after = before.set(pages, owner.assigns());
        let guests = u64::from(before.without(detail.firmware).count());
        let asid = match owner {
            Owner::Guest(asid) | Owner::PreGuest(asid) => asid as u16,
            Owner::Hypervisor | Owner::Firmware => old.asid,
        };
        let changed = Detail {
            immutable: detail
                .immutable
                .set(pages, matches!(owner, Owner::PreGuest(_) | Owner::Firmware)),
            locked: detail.locked.without(pages),
            firmware: detail.firmware.set(pages, owner == Owner::Firmware),
            vmsa: detail.vmsa.without(pages),
        };
        if changed != detail {
            self.edit_detail(index, |detail| *detail = changed);
        }
        let now = u64::from(after.without(changed.firmware).count());
        psp.count(u32::from(old.asid), 0, guests);
        psp.count(u32::from(asid), now, 0);
        self.store(index, after, owner.assigns() && size == PageSize::Size2M);
        if let Some(block) = self.states.get_mut(index) {
            block.asid = asid;
        }
    }

    pub(super) fn psmash(&mut self, head: Pfn) -> RmpStatus {
        let (index, _) = split(head.get());
        let (block, detail) = (self.state(index), self.detail(index));
        if !head.is_head() {
            RmpStatus::FAIL_INPUT
        } else if detail.locked.has(0) {
            RmpStatus::FAIL_INUSE
        } else if detail.immutable.has(0) || block.flags & BOOT != 0 {
            RmpStatus::FAIL_PERMISSION
        } else if block.is_large() {
            self.store(index, PageMask::ALL, false);
            RmpStatus::SUCCESS
        } else {
            RmpStatus::FAIL_BADADDR
        }
    }
}

impl RegionScan for Blocks {
    fn scan(&self, region: Region) -> Scan {
        let heads = self.coverage.covered_pages(region).div_ceil(PAGES_PER_LARGE_PAGE);
        let clean = Scan { assigned: false, lines: heads as u32 };
        if self.by_region.get(region.index()).is_none_or(|&assigned| assigned == 0) {
            return clean;
        }
        let first = region.index() * LARGE_PAGES_PER_REGION as usize;
        let blocks = self.states.iter().skip(first).take(heads as usize);
        match blocks.enumerate().find(|(_, block)| block.assigned > 0) {
            Some((index, _)) => Scan { assigned: true, lines: index as u32 + 1 },
            None => clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_blocks() {
        let run = Extent { first: Pfn::new(510).unwrap(), pages: 516 };
        let parts: Vec<_> = by_block(run).collect();
        assert_eq!(parts, [(0, 510, 512), (1, 0, 512), (2, 0, 2)]);
    }

    #[test]
    fn an_update_stops_at_the_first_page_that_refuses() {
        let mut psp = Psp::new();
        let mut blocks = Blocks::new(1, Coverage::contiguous(1 << 18));
        let all = (0, PAGES_PER_LARGE_PAGE);
        let large = PageSize::Size2M;
        let done = (PAGES_PER_LARGE_PAGE, RmpStatus::SUCCESS);
        assert_eq!(blocks.update(&mut psp, 3, all, large, Owner::Guest(1)), done);
        let inside = blocks.update(&mut psp, 3, (5, 9), PageSize::Size4K, Owner::Hypervisor);
        assert_eq!(inside, (0, RmpStatus::FAIL_OVERLAP));
        let head = Pfn::new(3 * PAGES_PER_LARGE_PAGE).unwrap();
        assert_eq!(blocks.psmash(head), RmpStatus::SUCCESS);
        assert_eq!(blocks.psmash(head), RmpStatus::FAIL_BADADDR);
        blocks.lock(head.checked_add(7).unwrap(), true);
        let inside = blocks.update(&mut psp, 3, (5, 9), PageSize::Size4K, Owner::Hypervisor);
        assert_eq!(inside, (2, RmpStatus::FAIL_INUSE));
        assert_eq!(blocks.state(3).assigned, 510);
        let over = blocks.update(&mut psp, 3, all, large, Owner::Guest(1));
        assert_eq!(over, (0, RmpStatus::FAIL_OVERLAP));
    }
}
