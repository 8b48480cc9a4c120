//! Physical memory for guests: who gets which 2 MiB blocks.
//!
//! The unit is a 2 MiB block of usable RAM that boot left whole. Linux keeps the unmovable 4 KiB pages
//! of `guest_memfd` together in 2 MiB pageblocks, and knows nothing of 1 GiB (spec/performance.md 4.1,
//! 4.2): so 4 KiB pages take block after block here too, and only the last block is partly used; its
//! rest stays with the allocation. 1 GiB pages are hugetlb's: whole regions of which nothing is taken.
//!
//! An allocation is all or nothing. What it yields depends on the state, the request and the generator
//! alone, and on the generator only for scattered placement.
//!
//! One bit per block and one count per region: 12 TiB are 6.3 million blocks in under 1 MiB.

use rand::Rng;
use snp_defs::{LARGE_PAGES_PER_REGION, PAGE_BYTES, PAGES_PER_LARGE_PAGE, Pfn, Region};
use thiserror::Error;

use crate::boot::BootLayout;
pub use crate::memory::Extent;
use crate::memory::PhysicalMemory;
pub use crate::scenario::Placement;

/// Words of the bitmap in each region.
const WORDS_PER_REGION: usize = (LARGE_PAGES_PER_REGION / 64) as usize;
/// Blocks in each region.
const BLOCKS_PER_REGION: usize = LARGE_PAGES_PER_REGION as usize;
/// Random picks are drawn again while at least one block in so many is free.
const SPARSE: u64 = 16;

/// What a guest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Bytes; rounded up to whole pages of the placement's size.
    pub bytes: u64,
    /// Size of pages, and whether they lie together.
    pub placement: Placement,
    /// The NUMA node that all of it must come from; `None` for any, in address order.
    pub node: Option<u32>,
}

/// Why memory cannot be had or given back. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlacementError {
    /// Nothing was asked for.
    #[error("an allocation of 0 bytes")]
    Empty,
    /// No such node has memory for guests.
    #[error("NUMA node {node} has no memory for guests")]
    UnknownNode {
        /// The node.
        node: u32,
    },
    /// Too few free blocks.
    #[error("{wanted} blocks of 2 MiB wanted, {free} free{}", on_node(*node))]
    Full {
        /// 2 MiB blocks wanted.
        wanted: u64,
        /// Free ones.
        free: u64,
        /// On which node.
        node: Option<u32>,
    },
    /// Too few regions of which nothing is taken.
    #[error("{wanted} pages of 1 GiB wanted, {free} free{}", on_node(*node))]
    NoWholeRegion {
        /// 1 GiB pages wanted.
        wanted: u64,
        /// Free regions.
        free: u64,
        /// On which node.
        node: Option<u32>,
    },
    /// Pages given back that are not allocated, or that begin inside a 2 MiB block.
    #[error(
        "pages from {first} ({pages} of them) are not allocated, or begin inside a 2 MiB block"
    )]
    NotAllocated {
        /// First page.
        first: Pfn,
        /// Pages.
        pages: u64,
    },
}

fn on_node(node: Option<u32>) -> String {
    node.map(|n| format!(" on NUMA node {n}")).unwrap_or_default()
}

/// A run of blocks of one node, all of them for guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: usize,
    end: usize,
    /// Position in [`Allocator::nodes`].
    node: usize,
}

/// Blocks of one node, for guests in all and free now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodeCount {
    node: u32,
    all: u64,
    free: u64,
}

/// Memory for guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocator {
    /// One bit per block: set if free.
    free: Vec<u64>,
    /// Blocks free in each region.
    region_free: Vec<u16>,
    /// Ascending, not overlapping.
    spans: Vec<Span>,
    /// By node number.
    nodes: Vec<NodeCount>,
}

impl Allocator {
    /// Over what `boot` left of `memory`.
    pub fn new(memory: &PhysicalMemory, boot: &BootLayout) -> Self {
        let regions = memory.spanned_regions() as usize;
        let mut this = Self {
            free: vec![0; regions * WORDS_PER_REGION],
            region_free: vec![0; regions],
            spans: Vec::new(),
            nodes: Vec::new(),
        };
        let nodes = memory.nodes();
        this.nodes = nodes.iter().map(|&node| NodeCount { node, all: 0, free: 0 }).collect();
        let mut taken = boot.reserved_from_allocation.iter().peekable();
        for range in memory.ram() {
            let (Some(extent), Ok(node)) = (range.extent(), nodes.binary_search(&range.node))
            else {
                continue;
            };
            let mut at = extent.first.get();
            while taken.next_if(|t| t.end() <= at).is_some() {}
            let mut inside = taken.clone();
            while let Some(hole) = inside.next_if(|t| t.first.get() < extent.end()) {
                this.add_span(at, hole.first.get(), node);
                at = at.max(hole.end());
            }
            this.add_span(at, extent.end(), node);
        }
        for at in 0..this.spans.len() {
            let Span { first, end, .. } = this.spans[at];
            this.set_free(first, end, at);
        }
        for count in &mut this.nodes {
            count.all = count.free;
        }
        this
    }

    /// Notes the whole blocks among pages `[start, end)`.
    fn add_span(&mut self, start: u64, end: u64, node: usize) {
        let first = start.div_ceil(PAGES_PER_LARGE_PAGE) as usize;
        let end = (end / PAGES_PER_LARGE_PAGE) as usize;
        if first < end {
            self.spans.push(Span { first, end, node });
        }
    }

    /// Bytes for guests, taken or not.
    pub fn total_bytes(&self) -> u64 {
        self.nodes.iter().map(|n| n.all).sum::<u64>() * PAGES_PER_LARGE_PAGE * PAGE_BYTES
    }

    /// Bytes in free blocks.
    pub fn free_bytes(&self) -> u64 {
        self.nodes.iter().map(|n| n.free).sum::<u64>() * PAGES_PER_LARGE_PAGE * PAGE_BYTES
    }

    /// Bytes in free blocks of a node.
    pub fn free_bytes_on(&self, node: u32) -> u64 {
        let counts = self.nodes.iter().filter(|n| n.node == node);
        counts.map(|n| n.free).sum::<u64>() * PAGES_PER_LARGE_PAGE * PAGE_BYTES
    }

    /// Free 2 MiB blocks in a region: 0 to 512.
    pub fn free_blocks_in(&self, region: Region) -> u32 {
        self.region_free.get(region.index()).copied().unwrap_or(0).into()
    }

    /// Memory for a guest: extents in ascending order, joined where they touch.
    ///
    /// Without a node, blocks of all nodes are taken in address order (or at random from all). With one,
    /// all comes from it or nothing does.
    pub fn allocate<R: Rng + ?Sized>(
        &mut self,
        request: Request,
        rng: &mut R,
    ) -> Result<Vec<Extent>, PlacementError> {
        let Request { bytes, placement, node } = request;
        if bytes == 0 {
            return Err(PlacementError::Empty);
        }
        let only = match node {
            Some(node) => Some(self.node_at(node).ok_or(PlacementError::UnknownNode { node })?),
            None => None,
        };
        let page_bytes = placement.page_bytes();
        let pages = bytes.div_ceil(page_bytes) * (page_bytes / PAGE_BYTES);
        let blocks = pages.div_ceil(PAGES_PER_LARGE_PAGE);
        if placement == Placement::Pages1G {
            let wanted = blocks / LARGE_PAGES_PER_REGION;
            return self.take_regions(wanted, only).map_err(|free| PlacementError::NoWholeRegion {
                wanted,
                free,
                node,
            });
        }
        let free = self.free_on(only);
        if blocks > free {
            return Err(PlacementError::Full { wanted: blocks, free, node });
        }
        let mut extents = match placement {
            Placement::Scattered4K | Placement::Scattered2M => self.scatter(blocks, only, rng),
            _ => self.first_fit(blocks, only),
        };
        // The last block is only partly used.
        if let Some(last) = extents.last_mut() {
            last.pages -= blocks * PAGES_PER_LARGE_PAGE - pages;
        }
        Ok(extents)
    }

    /// Gives back extents that [`Self::allocate`] yielded, or parts of them that begin on a 2 MiB block.
    /// A block goes back whole, also if the extent ends inside it.
    pub fn free(&mut self, extents: &[Extent]) -> Result<(), PlacementError> {
        let mut span = 0;
        for (done, extent) in extents.iter().enumerate() {
            let Extent { first, pages } = *extent;
            let (start, end) = blocks_of(extent);
            span = self.span_at(start, span);
            if pages != 0 && (!first.is_head() || !self.all_taken(start, end, span)) {
                for undo in &extents[..done] {
                    let (start, end) = blocks_of(undo);
                    self.set_taken(start, end, self.span_at(start, 0));
                }
                return Err(PlacementError::NotAllocated { first, pages });
            }
            self.set_free(start, end, span);
        }
        Ok(())
    }

    /// Position of a node that has memory for guests.
    fn node_at(&self, node: u32) -> Option<usize> {
        let at = self.nodes.binary_search_by_key(&node, |n| n.node).ok()?;
        (self.nodes[at].all != 0).then_some(at)
    }

    /// Free blocks of the node at a position, or of all.
    fn free_on(&self, only: Option<usize>) -> u64 {
        match only {
            Some(at) => self.nodes[at].free,
            None => self.nodes.iter().map(|n| n.free).sum(),
        }
    }

    /// Position of the first span that ends above a block. Quick if it is `hint` or the next one.
    fn span_at(&self, block: usize, hint: usize) -> usize {
        let is = |at: usize| {
            self.spans.get(at).is_none_or(|s| block < s.end)
                && at.checked_sub(1).is_none_or(|low| self.spans[low].end <= block)
        };
        match (hint..hint + 2).find(|&at| at <= self.spans.len() && is(at)) {
            Some(at) => at,
            None => self.spans.partition_point(|s| s.end <= block),
        }
    }

    /// Whether every block of `[start, end)` is for guests and taken. `span` is the start's.
    fn all_taken(&self, start: usize, end: usize, span: usize) -> bool {
        let mut at = start;
        for span in &self.spans[span..] {
            if at >= end || span.first > at {
                break;
            }
            at = span.end;
        }
        at >= end && words(start, end).all(|(word, mask)| self.free[word] & mask == 0)
    }

    /// Marks taken blocks `[start, end)` of the spans free. `span` is the start's.
    fn set_free(&mut self, start: usize, end: usize, span: usize) {
        for (word, mask) in words(start, end) {
            self.free[word] |= mask;
            self.region_free[word / WORDS_PER_REGION] += mask.count_ones() as u16;
        }
        for (node, blocks) in shares(&self.spans[span..], start, end) {
            self.nodes[node].free += blocks;
        }
    }

    /// Marks free blocks `[start, end)` of the spans taken. `span` is the start's.
    fn set_taken(&mut self, start: usize, end: usize, span: usize) {
        for (word, mask) in words(start, end) {
            self.free[word] &= !mask;
            self.region_free[word / WORDS_PER_REGION] -= mask.count_ones() as u16;
        }
        for (node, blocks) in shares(&self.spans[span..], start, end) {
            self.nodes[node].free -= blocks;
        }
    }

    /// The spans of a node, or all.
    fn spans_of(&self, only: Option<usize>) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().copied().filter(move |s| only.is_none_or(|n| n == s.node))
    }

    /// The lowest free blocks. There are enough.
    fn first_fit(&mut self, blocks: u64, only: Option<usize>) -> Vec<Extent> {
        let mut left = blocks as usize;
        let mut runs = Runs::default();
        for span in self.spans_of(only) {
            let mut block = span.first;
            while left != 0 && block < span.end {
                let region = block / BLOCKS_PER_REGION;
                let region_end = (region + 1) * BLOCKS_PER_REGION;
                if self.region_free[region] == 0 {
                    block = region_end;
                    continue;
                }
                // One word at a time: its free bits inside the span, as many of them as are wanted.
                let word = block / 64;
                let end = span.end.min((word + 1) * 64);
                let mut bits = self.free[word] & mask(block % 64, end - word * 64);
                while bits.count_ones() as usize > left {
                    // Drop the highest until it fits; happens in the last word only.
                    bits &= !(1 << bits.ilog2());
                }
                left -= bits.count_ones() as usize;
                runs.add_word(word, bits);
                block = end;
            }
            if left == 0 {
                break;
            }
        }
        self.take(&runs);
        runs.extents()
    }

    /// Blocks drawn uniformly at random from the free ones. There are enough.
    fn scatter<R: Rng + ?Sized>(
        &mut self,
        blocks: u64,
        only: Option<usize>,
        rng: &mut R,
    ) -> Vec<Extent> {
        let spans: Vec<Span> = self.spans_of(only).collect();
        let mut all = 0;
        let ends: Vec<u64> = spans
            .iter()
            .map(|s| {
                all += (s.end - s.first) as u64;
                all
            })
            .collect();
        let free = self.free_on(only);
        let mut chosen = vec![0u64; self.free.len()];
        if (free - blocks) * SPARSE >= all {
            // Most draws hit: draw from all blocks, again if the block is taken.
            let mut left = blocks;
            while left != 0 {
                let draw = below(rng, all);
                let at = ends.partition_point(|&end| end <= draw);
                let block = spans[at].end - (ends[at] - draw) as usize;
                let (word, bit) = (block / 64, 1u64 << (block % 64));
                if self.free[word] & bit != 0 {
                    self.free[word] &= !bit;
                    self.region_free[block / BLOCKS_PER_REGION] -= 1;
                    self.nodes[spans[at].node].free -= 1;
                    chosen[word] |= bit;
                    left -= 1;
                }
            }
            return Runs::of(&chosen).extents();
        }
        // Few are free: list them, and shuffle as many to the front as are wanted.
        let mut list = Vec::with_capacity(free as usize);
        for span in &spans {
            for (word, mask) in words(span.first, span.end) {
                for_bits(self.free[word] & mask, |bit| list.push((word * 64 + bit) as u32));
            }
        }
        for at in 0..blocks as usize {
            let other = at + below(rng, (list.len() - at) as u64) as usize;
            list.swap(at, other);
            let block = list[at] as usize;
            chosen[block / 64] |= 1 << (block % 64);
        }
        let runs = Runs::of(&chosen);
        self.take(&runs);
        runs.extents()
    }

    /// The lowest regions of which nothing is taken, all of one node each; how many there are if they
    /// are too few.
    fn take_regions(&mut self, wanted: u64, only: Option<usize>) -> Result<Vec<Extent>, u64> {
        let mut runs = Runs::default();
        let mut free = 0;
        for span in self.spans_of(only) {
            let first = span.first.div_ceil(BLOCKS_PER_REGION);
            for region in first..span.end / BLOCKS_PER_REGION {
                if usize::from(self.region_free[region]) == BLOCKS_PER_REGION {
                    if free < wanted {
                        runs.add(region * BLOCKS_PER_REGION, (region + 1) * BLOCKS_PER_REGION);
                    }
                    free += 1;
                }
            }
        }
        if free < wanted {
            return Err(free);
        }
        self.take(&runs);
        Ok(runs.extents())
    }

    /// Takes ascending runs of free blocks.
    fn take(&mut self, runs: &Runs) {
        let mut span = 0;
        for &(start, end) in &runs.0 {
            span = self.span_at(start, span);
            self.set_taken(start, end, span);
        }
    }
}

/// How many of the blocks `[start, end)` each span has: `(node's position, blocks)`.
fn shares(spans: &[Span], start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    let inside = spans.iter().take_while(move |s| s.first < end);
    inside.map(move |s| (s.node, (s.end.min(end) - s.first.max(start)) as u64))
}

/// The blocks that an extent touches.
fn blocks_of(extent: &Extent) -> (usize, usize) {
    let start = extent.first.get() / PAGES_PER_LARGE_PAGE;
    (start as usize, extent.end().div_ceil(PAGES_PER_LARGE_PAGE) as usize)
}

/// Runs of blocks in ascending order; those that touch are joined.
#[derive(Default)]
struct Runs(Vec<(usize, usize)>);

impl Runs {
    /// The set bits of a bitmap.
    fn of(bitmap: &[u64]) -> Self {
        let mut runs = Self::default();
        for (word, &bits) in bitmap.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            runs.add_word(word, bits);
        }
        runs
    }

    fn extents(&self) -> Vec<Extent> {
        let extent = |&(start, end): &(usize, usize)| {
            let first = Pfn::new(start as u64 * PAGES_PER_LARGE_PAGE)?;
            Some(Extent { first, pages: (end - start) as u64 * PAGES_PER_LARGE_PAGE })
        };
        self.0.iter().filter_map(extent).collect()
    }

    fn add(&mut self, start: usize, end: usize) {
        match self.0.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.0.push((start, end)),
        }
    }

    /// Every set bit of a word.
    fn add_word(&mut self, word: usize, mut bits: u64) {
        let mut at = word * 64;
        while bits != 0 {
            let skip = bits.trailing_zeros();
            let run = (bits >> skip).trailing_ones();
            let start = at + skip as usize;
            self.add(start, start + run as usize);
            let used = skip + run;
            bits = bits.checked_shr(used).unwrap_or(0);
            at += used as usize;
        }
    }
}

/// Bits `[from, to)` of a word, `to` at most 64.
const fn mask(from: usize, to: usize) -> u64 {
    let upto = if to >= 64 { u64::MAX } else { (1 << to) - 1 };
    if from >= 64 { 0 } else { upto & (u64::MAX << from) }
}

/// The words that hold blocks `[start, end)`, each with the bits that are meant.
fn words(start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    (start / 64..end.div_ceil(64)).map(move |word| {
        let base = word * 64;
        (word, mask(start.saturating_sub(base), end - base))
    })
}

fn for_bits(mut bits: u64, mut each: impl FnMut(usize)) {
    while bits != 0 {
        each(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// A number below `limit`, each as likely as the next (multiplication with rejection, Lemire 2019).
/// Written here so that a seed keeps its meaning whatever version of `rand` is used. `limit` is not 0.
fn below<R: Rng + ?Sized>(rng: &mut R, limit: u64) -> u64 {
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(limit);
        let low = product as u64;
        if low >= limit || low >= limit.wrapping_neg() % limit {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::boot;
    use crate::memory::{MapEntry, NodeMemory, RangeKind};
    use crate::scenario::RmpKind;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;
    use std::collections::BTreeSet;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    fn host(bytes: u64, nodes: u32) -> Allocator {
        let memory = PhysicalMemory::from_size(bytes, nodes).unwrap();
        let layout = boot(&memory, nodes.min(2), RmpKind::Segmented).unwrap();
        Allocator::new(&memory, &layout)
    }

    fn rng(seed: u64) -> Pcg64Mcg {
        Pcg64Mcg::seed_from_u64(seed)
    }

    fn ask(bytes: u64, placement: Placement) -> Request {
        Request { bytes, placement, node: None }
    }

    fn bytes(extents: &[Extent]) -> u64 {
        extents.iter().map(Extent::bytes).sum()
    }

    #[test]
    fn what_boot_took_is_not_given() {
        let memory = PhysicalMemory::from_size(64 * GIB, 2).unwrap();
        let layout = boot(&memory, 2, RmpKind::Segmented).unwrap();
        let mut all = Allocator::new(&memory, &layout);
        let reserved = bytes(&layout.reserved_from_allocation);
        assert_eq!(all.total_bytes(), 64 * GIB - reserved);
        let request = ask(all.free_bytes(), Placement::Pages2M);
        let everything = all.allocate(request, &mut rng(1)).unwrap();
        assert_eq!(all.free_bytes(), 0);
        for taken in &layout.reserved_from_allocation {
            assert!(
                everything
                    .iter()
                    .all(|e| e.end() <= taken.first.get() || taken.end() <= e.first.get())
            );
        }
        let full = PlacementError::Full { wanted: 1, free: 0, node: None };
        assert_eq!(all.allocate(ask(1, Placement::Pages4K), &mut rng(1)), Err(full));
        assert_eq!(full.to_string(), "1 blocks of 2 MiB wanted, 0 free");
        all.free(&everything).unwrap();
        assert_eq!(all.free_bytes(), all.total_bytes());
    }

    #[test]
    fn pages_are_rounded_and_the_last_block_is_partly_used() {
        let mut all = host(64 * GIB, 1);
        let before = all.free_bytes();
        let got = all.allocate(ask(3 * MIB + 1, Placement::Pages4K), &mut rng(1)).unwrap();
        assert_eq!((got.len(), bytes(&got)), (1, 3 * MIB + 4096));
        assert_eq!(all.free_bytes(), before - 4 * MIB);
        let two = all.allocate(ask(3 * MIB + 1, Placement::Pages2M), &mut rng(1)).unwrap();
        assert_eq!(bytes(&two), 4 * MIB);
        // Address order: right behind.
        assert_eq!(two[0].start_byte(), got[0].start_byte() + 4 * MIB);
        all.free(&got).unwrap();
        let again = all.allocate(ask(MIB, Placement::Pages4K), &mut rng(1)).unwrap();
        assert_eq!(again[0].first, got[0].first);
    }

    #[test]
    fn whole_regions_or_none() {
        let mut all = host(16 * GIB, 1);
        let got = all.allocate(ask(2 * GIB + 1, Placement::Pages1G), &mut rng(1)).unwrap();
        assert_eq!(bytes(&got), 3 * GIB);
        assert!(got.iter().all(|e| e.start_byte() % GIB == 0));
        // Region 0 holds firmware pages, 1 the TMR, 2 and 3 are MMIO, 4 the RMP's bookkeeping.
        assert_eq!(got[0].first.region().get(), 5);
        let before = all.clone();
        let error = all.allocate(ask(14 * GIB, Placement::Pages1G), &mut rng(1)).unwrap_err();
        assert_eq!(error.to_string(), "14 pages of 1 GiB wanted, 9 free");
        assert_eq!(all, before);
        // One block taken in a region is enough to lose it.
        let mut block = got[0];
        all.free(&got).unwrap();
        block.pages = 512;
        let whole = |a: &Allocator| {
            (0..18).filter(|&r| a.free_blocks_in(Region::new(r).unwrap()) == 512).count()
        };
        let regions = whole(&all);
        let (start, end) = blocks_of(&block);
        all.set_taken(start, end, all.span_at(start, 0));
        assert_eq!(whole(&all), regions - 1);
    }

    #[test]
    fn a_node_is_kept_to() {
        let mut all = host(64 * GIB, 4);
        let node = Request { node: Some(2), ..ask(4 * GIB, Placement::Pages2M) };
        let before = all.free_bytes_on(2);
        for placement in [Placement::Pages2M, Placement::Pages1G, Placement::Scattered4K] {
            let got = all.allocate(Request { placement, ..node }, &mut rng(5)).unwrap();
            assert!(got.iter().all(|e| (34 * GIB..50 * GIB).contains(&e.start_byte())));
        }
        assert_eq!(all.free_bytes_on(2), before - 12 * GIB);
        // Full there, though others have room; without a node it goes elsewhere.
        let error = all.allocate(node, &mut rng(5)).unwrap_err();
        assert!(matches!(error, PlacementError::Full { node: Some(2), wanted: 2048, .. }));
        assert!(error.to_string().ends_with(" free on NUMA node 2"));
        assert!(all.allocate(Request { node: None, ..node }, &mut rng(5)).is_ok());
        assert_eq!(
            all.allocate(Request { node: Some(9), ..node }, &mut rng(5)),
            Err(PlacementError::UnknownNode { node: 9 })
        );
    }

    #[test]
    fn what_is_not_allocated_cannot_be_freed() {
        let mut all = host(64 * GIB, 1);
        let got = all.allocate(ask(8 * MIB, Placement::Pages2M), &mut rng(1)).unwrap();
        let before = all.clone();
        let pfn = |n| Pfn::new(n).unwrap();
        for bad in [
            Extent { first: pfn(0), pages: 1 },
            Extent { first: pfn(3 << 18), pages: 512 },
            Extent { first: pfn((1 << 40) - 512), pages: 512 },
            Extent { first: pfn(got[0].first.get() + 1), pages: 1 },
            Extent { first: got[0].first, pages: got[0].pages + 1 },
        ] {
            assert!(all.free(&[got[0], bad]).is_err(), "{bad:?}");
            assert_eq!(all, before);
        }
        assert!(all.free(&[got[0], got[0]]).is_err());
        assert_eq!(all, before);
        // A part that begins on a block goes back alone.
        all.free(&[Extent { first: pfn(got[0].first.get() + 512), pages: 512 }]).unwrap();
        assert_eq!(all.free_bytes(), before.free_bytes() + 2 * MIB);
    }

    /// spec/performance.md 4.3: chunks of 2 MiB at random, share s: 1 - (1 - s)^512 of the regions.
    #[test]
    fn scatter_dirties_as_the_closed_form_says() {
        for (per_mille, expected) in [(1u64, 0.401), (2, 0.641), (4, 0.872), (10, 0.994)] {
            let mut dirty = 0;
            let mut regions = 0;
            for seed in 0..8 {
                let mut all = host(4 * TIB, 1);
                // Regions of which boot took nothing.
                let whole = |r: &Region| all.free_blocks_in(*r) == 512;
                let whole: BTreeSet<Region> =
                    (0..5000).filter_map(Region::new).filter(whole).collect();
                let share = all.total_bytes() * per_mille / 1000;
                let got = all.allocate(ask(share, Placement::Scattered2M), &mut rng(seed)).unwrap();
                let touched: BTreeSet<Region> = got.iter().flat_map(Extent::regions).collect();
                dirty += touched.intersection(&whole).count();
                regions += whole.len();
            }
            let found = dirty as f64 / regions as f64;
            assert!((found - expected).abs() < 0.01, "{per_mille}: {found}, expected {expected}");
        }
    }

    /// Both ways of drawing are uniform: each block is drawn about equally often.
    #[test]
    fn draws_are_uniform() {
        for share in [1, 97] {
            let mut hits = vec![0u32; 8];
            for seed in 0..200 {
                let mut all = host(8 * GIB, 1);
                let part = all.total_bytes() / 100 * share;
                let got = all.allocate(ask(part, Placement::Scattered2M), &mut rng(seed)).unwrap();
                for e in got {
                    for block in blocks_of(&e).0..blocks_of(&e).1 {
                        let all_blocks = 10 * BLOCKS_PER_REGION;
                        hits[block * 8 / all_blocks] += 1;
                    }
                }
            }
            // Eighths 3 to 6 are plain RAM; the others hold holes and what boot took.
            let (low, high) = (hits[4..7].iter().min().unwrap(), hits[4..7].iter().max().unwrap());
            assert!(high - low <= high / 10, "{share}: {hits:?}");
        }
    }

    #[test]
    fn odd_edges_leave_no_block() {
        let usable = RangeKind::Usable;
        let map = [
            MapEntry { start: 0, end: 3 * GIB, kind: usable },
            MapEntry { start: 4 * GIB + 5, end: 5 * GIB - 5, kind: usable },
        ];
        let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
        let layout = boot(&memory, 1, RmpKind::Segmented).unwrap();
        let mut all = Allocator::new(&memory, &layout);
        let got = all.allocate(ask(all.free_bytes(), Placement::Pages2M), &mut rng(1)).unwrap();
        assert!(got.iter().all(|e| e.end_byte() <= 5 * GIB - 2 * MIB));
    }

    #[test]
    fn twelve_tebibytes_are_served_quickly() {
        let mut all = host(12 * TIB, 2);
        let fill = all.allocate(ask(6 * TIB, Placement::Pages2M), &mut rng(1)).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            let got = all.allocate(ask(100 * GIB, Placement::Pages4K), &mut rng(1)).unwrap();
            all.free(&got).unwrap();
        }
        let each = start.elapsed() / 100;
        let start = std::time::Instant::now();
        for seed in 0..10 {
            let got = all.allocate(ask(100 * GIB, Placement::Scattered4K), &mut rng(seed)).unwrap();
            all.free(&got).unwrap();
        }
        let scattered = start.elapsed() / 10;
        println!("100 GiB and back: {each:?} in order, {scattered:?} scattered");
        // Far above what it takes, so that a busy machine does not fail it.
        assert!(each.as_millis() < 20 && scattered.as_millis() < 1000);
        all.free(&fill).unwrap();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64, Placement, Option<u32>),
        Give(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let kinds = prop::sample::select(Placement::ALL.to_vec());
        prop_oneof![
            3 => (1u64..6 * GIB, kinds, prop::option::of(0u32..3))
                .prop_map(|(bytes, kind, node)| Step::Take(bytes, kind, node)),
            2 => any::<usize>().prop_map(Step::Give),
        ]
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_nothing_is_lost(
            steps in prop::collection::vec(step(), 1..40), seed: u64,
        ) {
            let mut all = host(24 * GIB, 2);
            let total = all.total_bytes();
            let mut twin = all.clone();
            let (mut random, mut random_twin) = (rng(seed), rng(seed));
            let mut held: Vec<Vec<Extent>> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(bytes, placement, node) => {
                        let request = Request { bytes, placement, node };
                        let before = all.clone();
                        let got = all.allocate(request, &mut random);
                        prop_assert_eq!(&got, &twin.allocate(request, &mut random_twin));
                        let Ok(got) = got else {
                            prop_assert_eq!(&all, &before);
                            continue;
                        };
                        prop_assert_eq!(
                            got.iter().map(Extent::bytes).sum::<u64>(),
                            bytes.next_multiple_of(placement.page_bytes())
                        );
                        prop_assert!(got.windows(2).all(|w| w[0].end() < w[1].first.get()));
                        held.push(got);
                    }
                    Step::Give(which) if !held.is_empty() => {
                        let gone = held.swap_remove(which % held.len());
                        all.free(&gone).unwrap();
                        twin.free(&gone).unwrap();
                    }
                    Step::Give(_) => {}
                }
                prop_assert_eq!(&all, &twin);
                let mut runs: Vec<_> = held.iter().flatten().map(blocks_of).collect();
                runs.sort_unstable();
                prop_assert!(runs.windows(2).all(|w| w[0].1 <= w[1].0));
                let taken: u64 = runs.iter().map(|r| (r.1 - r.0) as u64 * 2 * MIB).sum();
                prop_assert_eq!(all.free_bytes() + taken, total);
                let by_region: u64 = all.region_free.iter().map(|&f| u64::from(f)).sum();
                prop_assert_eq!(by_region * 2 * MIB, all.free_bytes());
                prop_assert_eq!(all.free_bytes_on(0) + all.free_bytes_on(1), all.free_bytes());
            }
        }
    }
}
