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

mod runs;

use std::ops::Range;

use rand::Rng;
use snp_defs::{LARGE_PAGES_PER_REGION, PAGE_BYTES, PAGES_PER_LARGE_PAGE, Pfn, Region};
use thiserror::Error;

use self::runs::{Runs, for_bits, mask, words};
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
        self.allocate_in(request, &[], rng)
    }

    /// The same, looking through ranges of regions in the order given; memory in none of them is not
    /// taken. Without ranges the order is that of addresses. Scattered pages come from anywhere.
    pub fn allocate_in<R: Rng + ?Sized>(
        &mut self,
        request: Request,
        order: &[Range<u32>],
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
            let taken = self.take_regions(wanted, only, order);
            return taken.map_err(|free| PlacementError::NoWholeRegion { wanted, free, node });
        }
        let free = self.free_on(only);
        let full = |free| PlacementError::Full { wanted: blocks, free, node };
        if blocks > free {
            return Err(full(free));
        }
        let mut extents = match placement {
            Placement::Scattered4K | Placement::Scattered2M => self.scatter(blocks, only, rng),
            _ => self.first_fit(blocks, only, order).map_err(full)?,
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

    /// The same in the order of ranges of regions, cut to them; in address order without any.
    fn spans_in(&self, only: Option<usize>, order: &[Range<u32>]) -> Vec<Span> {
        if order.is_empty() {
            return self.spans_of(only).collect();
        }
        let mut cut = Vec::new();
        for range in order {
            let first = range.start as usize * BLOCKS_PER_REGION;
            let end = range.end as usize * BLOCKS_PER_REGION;
            let spans = &self.spans[self.spans.partition_point(|span| span.end <= first)..];
            let inside = spans.iter().take_while(|span| span.first < end);
            cut.extend(inside.filter(|span| only.is_none_or(|node| node == span.node)).map(
                |span| Span {
                    first: span.first.max(first),
                    end: span.end.min(end),
                    node: span.node,
                },
            ));
        }
        cut
    }

    /// The first free blocks in the order of the ranges; how many there are if they are too few.
    fn first_fit(
        &mut self,
        blocks: u64,
        only: Option<usize>,
        order: &[Range<u32>],
    ) -> Result<Vec<Extent>, u64> {
        let mut left = blocks as usize;
        let mut runs = Runs::default();
        for span in self.spans_in(only, order) {
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
        if left != 0 {
            return Err(blocks - left as u64);
        }
        let runs = runs.in_order();
        self.take(&runs);
        Ok(runs.extents())
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

    /// The first regions of which nothing is taken, all of one node each, in the order of the ranges;
    /// how many there are if they are too few.
    fn take_regions(
        &mut self,
        wanted: u64,
        only: Option<usize>,
        order: &[Range<u32>],
    ) -> Result<Vec<Extent>, u64> {
        let mut runs = Runs::default();
        let mut free = 0;
        for span in self.spans_in(only, order) {
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
        let runs = runs.in_order();
        self.take(&runs);
        Ok(runs.extents())
    }

    /// Takes ascending runs of free blocks.
    fn take(&mut self, runs: &Runs) {
        let mut span = 0;
        for (start, end) in runs.iter() {
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
mod tests;
