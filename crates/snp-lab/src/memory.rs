//! Physical memory of the emulated host: which addresses are RAM, and of which NUMA node.
//!
//! All ranges are half-open and in bytes. A map comes from numbers, laid out as on a two-socket EPYC
//! host, or from what a real host's firmware listed (e820). Counting follows DESIGN.md: `memory_bytes`
//! is the sum of usable RAM as listed, before anything is carved out of it; a region is a 1 GiB slot
//! that holds usable RAM.
//!
//! Sources of the default layout: RAM below 2 GiB, MMIO from there to 4 GiB, the rest from 4 GiB up
//! (as the maps of real EPYC hosts show); `0xFD_0000_0000` to `0xFF_FFFF_FFFF` is `HyperTransport`'s and
//! holds no RAM (Linux `HyperTransport` range; spec/snp-arch.md 4.4 for its first part, HV-fixed).

use snp_defs::{
    LARGE_PAGE_BYTES, PAGE_BYTES, PAGE_SHIFT, PAGES_PER_REGION, Pfn, REGION_BYTES, REGION_SHIFT,
    Region,
};
use thiserror::Error;

/// A run of 4 KiB pages of system memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// The first page.
    pub first: Pfn,
    /// Pages, at least one.
    pub pages: u64,
}

impl Extent {
    /// The pages from `start` to before `end`, both in bytes, that lie wholly inside; `None` if none does.
    pub fn inside(start: u64, end: u64) -> Option<Self> {
        let (first, end) = (start.div_ceil(PAGE_BYTES), end / PAGE_BYTES);
        (first < end).then_some(Self { first: Pfn::new(first)?, pages: end - first })
    }

    /// Number of the first page after the run.
    pub const fn end(&self) -> u64 {
        self.first.get() + self.pages
    }

    /// Address of the first byte.
    pub const fn start_byte(&self) -> u64 {
        self.first.get() << PAGE_SHIFT
    }

    /// Address after the last byte.
    pub const fn end_byte(&self) -> u64 {
        self.end() << PAGE_SHIFT
    }

    /// Size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.pages << PAGE_SHIFT
    }

    /// The regions it touches, ascending.
    pub fn regions(&self) -> impl Iterator<Item = Region> + use<> {
        let first = self.first.get() / PAGES_PER_REGION;
        let end = self.end().div_ceil(PAGES_PER_REGION);
        (first..end).filter_map(|r| Region::new(r as u32))
    }
}

/// Sorts and joins what overlaps or touches.
pub(crate) fn merge(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|e| e.pages != 0);
    extents.sort_unstable();
    extents.dedup_by(|next, last| {
        let joins = next.first.get() <= last.end();
        if joins {
            last.pages = last.end().max(next.end()) - last.first.get();
        }
        joins
    });
    extents
}

/// What a firmware map says a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeKind {
    /// RAM that the operating system may use.
    Usable,
    /// Reserved, by firmware or for MMIO.
    Reserved,
    /// ACPI tables or non-volatile storage.
    Acpi,
    /// Anything else: soft reserved, persistent, unusable, vendor types.
    Other,
}

/// One entry of a firmware map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapEntry {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What the range is.
    pub kind: RangeKind,
}

/// A range of one NUMA node (ACPI SRAT). It may span holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// The node.
    pub node: u32,
}

/// How usable RAM is divided among NUMA nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeMemory {
    /// This many nodes from 0 on, equal shares in address order.
    Equal(u32),
    /// `(node, bytes)` in address order, as `numactl -H` gives them: each node its size, the last one the
    /// rest. If the sizes miss the map by more than an eighth, they are taken as proportions.
    Sizes(Vec<(u32, u64)>),
    /// Ranges, as the SRAT gives them. RAM that none of them names goes to the node of the RAM below it.
    Ranges(Vec<NodeRange>),
}

/// Why a memory map cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// Size out of range.
    #[error("memory is {bytes} bytes, must be from 2 MiB x nodes, at least 2 GiB, to 64 TiB")]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// Size that is not made of 2 MiB blocks.
    #[error("memory is {bytes} bytes, must be a multiple of 2 MiB")]
    Granularity {
        /// What was asked for.
        bytes: u64,
    },
    /// Number of nodes out of range.
    #[error("{nodes} NUMA nodes, must be 1 to 1024 and each below 1024")]
    Nodes {
        /// What was asked for.
        nodes: u64,
    },
    /// A node is given twice in a list of sizes.
    #[error("NUMA node {node} has two sizes")]
    DuplicateNode {
        /// The node.
        node: u32,
    },
    /// No node has any memory.
    #[error("no NUMA node has memory")]
    NoNodeMemory,
    /// A range that ends before it begins, or is empty.
    #[error("range {start:#x}-{end:#x} is empty or reversed")]
    Reversed {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// Two ranges that contradict each other.
    #[error(
        "ranges {first_start:#x}-{first_end:#x} and {second_start:#x}-{second_end:#x} overlap \
         (ends exclusive)"
    )]
    Overlap {
        /// First byte of the lower range.
        first_start: u64,
        /// Its end.
        first_end: u64,
        /// First byte of the higher range.
        second_start: u64,
        /// Its end.
        second_end: u64,
    },
    /// The map has no usable RAM.
    #[error("the memory map has no usable RAM")]
    NoUsable,
    /// Usable RAM at an address that is not supported.
    #[error(
        "usable RAM up to {end:#x}, supported are addresses below 64 TiB ({:#x})",
        PhysicalMemory::LIMIT
    )]
    TooHigh {
        /// Where it ends.
        end: u64,
    },
}

/// Usable RAM of one node, as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// The NUMA node.
    pub node: u32,
}

impl RamRange {
    /// Size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Its whole pages; `None` if it has none.
    pub fn extent(&self) -> Option<Extent> {
        Extent::inside(self.start, self.end)
    }
}

/// The host's memory map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalMemory {
    ram: Vec<RamRange>,
    others: Vec<MapEntry>,
    memory_bytes: u64,
    regions: u32,
    /// Bytes of usable RAM in each spanned region; at most 2^30.
    region_ram: Vec<u32>,
    region_node: Vec<u16>,
    bitmap: Vec<u64>,
    assumed: Vec<String>,
}

impl PhysicalMemory {
    /// Usable RAM lies below this address: 64 TiB.
    pub const LIMIT: u64 = 1 << 46;
    /// Start of the MMIO hole in maps made from numbers: 2 GiB.
    pub const HOLE_START: u64 = 2 << 30;
    /// End of that hole: 4 GiB.
    pub const HOLE_END: u64 = 4 << 30;
    /// `HyperTransport`'s reserved range begins here: 1,012 GiB.
    pub const HT_START: u64 = 0xFD_0000_0000;
    /// ... and ends here: 1 TiB.
    pub const HT_END: u64 = 0x100_0000_0000;

    /// The map of a host of `bytes` and `nodes` equal NUMA nodes.
    ///
    /// `bytes` is a multiple of 2 MiB from 2 GiB to below 64 TiB. Nodes take equal shares in address
    /// order, in 2 MiB blocks; the first ones take what does not divide.
    pub fn from_size(bytes: u64, nodes: u32) -> Result<Self, MemoryError> {
        let ht = Self::HT_END - Self::HT_START;
        let hole = Self::HOLE_END - Self::HOLE_START;
        if bytes < Self::HOLE_START || bytes > Self::LIMIT - ht - hole {
            return Err(MemoryError::Size { bytes });
        }
        if !bytes.is_multiple_of(LARGE_PAGE_BYTES) {
            return Err(MemoryError::Granularity { bytes });
        }
        let mut entries = Vec::new();
        let mut left = bytes;
        let mut add = |start: u64, room: u64| {
            let take = left.min(room);
            if take != 0 {
                entries.push(MapEntry { start, end: start + take, kind: RangeKind::Usable });
                left -= take;
            }
        };
        add(0, Self::HOLE_START);
        add(Self::HOLE_END, Self::HT_START - Self::HOLE_END);
        add(Self::HT_END, u64::MAX);
        let reserved = RangeKind::Reserved;
        entries.push(MapEntry { start: Self::HOLE_START, end: Self::HOLE_END, kind: reserved });
        entries.push(MapEntry { start: Self::HT_START, end: Self::HT_END, kind: reserved });
        Self::from_map(&entries, &NodeMemory::Equal(nodes))
    }

    /// The map that a host's firmware listed.
    ///
    /// Entries may come in any order. Usable RAM may begin and end inside a page: it counts in full, and
    /// only whole pages are used. An overlap that involves usable RAM is an error; other entries may
    /// overlap one another.
    pub fn from_map(entries: &[MapEntry], nodes: &NodeMemory) -> Result<Self, MemoryError> {
        let mut sorted = entries.to_vec();
        if let Some(bad) = sorted.iter().find(|e| e.start >= e.end) {
            return Err(MemoryError::Reversed { start: bad.start, end: bad.end });
        }
        sorted.sort_unstable_by_key(|e| (e.start, e.end));
        check_overlaps(&sorted)?;
        let (usable, others): (Vec<MapEntry>, _) =
            sorted.into_iter().partition(|e| e.kind == RangeKind::Usable);
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for entry in &usable {
            match joined.last_mut() {
                Some(last) if last.1 == entry.start => last.1 = entry.end,
                _ => joined.push((entry.start, entry.end)),
            }
        }
        let Some(&(_, top)) = joined.last() else { return Err(MemoryError::NoUsable) };
        if top > Self::LIMIT {
            return Err(MemoryError::TooHigh { end: top });
        }
        let mut assumed = Vec::new();
        let ram = match nodes {
            NodeMemory::Equal(count) => divide_by_sizes(&joined, &equal(&joined, *count)?),
            NodeMemory::Sizes(sizes) => {
                divide_by_sizes(&joined, &fit_sizes(&joined, sizes, &mut assumed)?)
            }
            NodeMemory::Ranges(ranges) => divide_by_ranges(&joined, ranges, &mut assumed)?,
        };
        Ok(Self::count(ram, others, assumed))
    }

    fn count(ram: Vec<RamRange>, others: Vec<MapEntry>, assumed: Vec<String>) -> Self {
        let top = ram.last().map_or(0, |r| r.end);
        let spanned = top.div_ceil(REGION_BYTES) as usize;
        let mut region_ram = vec![0u32; spanned];
        let mut region_node = vec![0u16; spanned];
        let mut bitmap = vec![0u64; spanned.div_ceil(64)];
        // Bytes of the node that leads in a region; a region's ranges come one after another.
        let mut lead: (usize, u64) = (usize::MAX, 0);
        let mut same: (usize, u32, u64) = (usize::MAX, 0, 0);
        for range in &ram {
            let mut start = range.start;
            while start < range.end {
                let region = (start >> REGION_SHIFT) as usize;
                let end = range.end.min((region as u64 + 1) << REGION_SHIFT);
                region_ram[region] += (end - start) as u32;
                bitmap[region / 64] |= 1 << (region % 64);
                if (same.0, same.1) != (region, range.node) {
                    same = (region, range.node, 0);
                }
                same.2 += end - start;
                if lead.0 != region || same.2 > lead.1 {
                    lead = (region, same.2);
                    region_node[region] = range.node as u16;
                }
                start = end;
            }
        }
        let memory_bytes = ram.iter().map(RamRange::bytes).sum();
        let regions = bitmap.iter().map(|w| w.count_ones()).sum();
        Self { ram, others, memory_bytes, regions, region_ram, region_node, bitmap, assumed }
    }

    /// Usable RAM as listed, ascending, divided by node.
    pub fn ram(&self) -> &[RamRange] {
        &self.ram
    }

    /// Entries that are not usable RAM, ascending.
    pub fn others(&self) -> &[MapEntry] {
        &self.others
    }

    /// Whole usable pages, ascending and joined.
    pub fn dram(&self) -> Vec<Extent> {
        merge(self.ram.iter().filter_map(RamRange::extent).collect())
    }

    /// Sum of usable RAM as listed, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// 1 GiB slots that hold any usable RAM.
    pub fn regions(&self) -> u32 {
        self.regions
    }

    /// All 1 GiB slots up to the top of usable RAM.
    pub fn spanned_regions(&self) -> u32 {
        self.region_ram.len() as u32
    }

    /// End of the highest usable byte.
    pub fn top(&self) -> u64 {
        self.ram.last().map_or(0, |r| r.end)
    }

    /// Usable RAM inside a region, in bytes; 0 outside the map.
    pub fn region_ram_bytes(&self, region: Region) -> u64 {
        self.region_ram.get(region.index()).copied().unwrap_or(0).into()
    }

    /// The node that has most of a region's RAM (the lower address at a tie); `None` without RAM.
    pub fn region_node(&self, region: Region) -> Option<u32> {
        let has_ram = self.region_ram_bytes(region) != 0;
        has_ram.then(|| u32::from(self.region_node[region.index()]))
    }

    /// One bit for each spanned region, set where there is usable RAM; region `r` is bit `r % 64` of
    /// word `r / 64`.
    pub fn ram_bitmap(&self) -> &[u64] {
        &self.bitmap
    }

    /// The regions with usable RAM, ascending.
    pub fn iter_regions(&self) -> impl Iterator<Item = Region> + '_ {
        let spanned = 0..self.spanned_regions();
        spanned.filter_map(Region::new).filter(|&r| self.region_ram_bytes(r) != 0)
    }

    /// Nodes that have RAM, ascending.
    pub fn nodes(&self) -> Vec<u32> {
        let mut nodes: Vec<u32> = self.ram.iter().map(|r| r.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Usable RAM of a node, in bytes.
    pub fn node_bytes(&self, node: u32) -> u64 {
        self.ram.iter().filter(|r| r.node == node).map(RamRange::bytes).sum()
    }

    /// What had to be assumed; for the report.
    pub fn assumptions(&self) -> &[String] {
        &self.assumed
    }
}

/// Refuses overlaps that involve usable RAM. `sorted` is by start.
fn check_overlaps(sorted: &[MapEntry]) -> Result<(), MemoryError> {
    // The furthest-reaching entry so far, of any kind and of usable RAM alone.
    let mut any: Option<MapEntry> = None;
    let mut ram: Option<MapEntry> = None;
    for entry in sorted {
        let before = if entry.kind == RangeKind::Usable { any } else { ram };
        if let Some(low) = before.filter(|low| low.end > entry.start) {
            return Err(overlap((low.start, low.end), (entry.start, entry.end)));
        }
        let further = |old: Option<MapEntry>| old.is_none_or(|old| old.end < entry.end);
        if further(any) {
            any = Some(*entry);
        }
        if entry.kind == RangeKind::Usable && further(ram) {
            ram = Some(*entry);
        }
    }
    Ok(())
}

fn overlap(first: (u64, u64), second: (u64, u64)) -> MemoryError {
    MemoryError::Overlap {
        first_start: first.0,
        first_end: first.1,
        second_start: second.0,
        second_end: second.1,
    }
}

fn total(joined: &[(u64, u64)]) -> u64 {
    joined.iter().map(|r| r.1 - r.0).sum()
}

/// Equal shares in 2 MiB blocks; the first nodes take what does not divide, the last the odd bytes.
fn equal(joined: &[(u64, u64)], nodes: u32) -> Result<Vec<(u32, u64)>, MemoryError> {
    let blocks = total(joined) / LARGE_PAGE_BYTES;
    let count = u64::from(nodes);
    if !(1..=1024).contains(&nodes) || (nodes > 1 && blocks < count) {
        return Err(MemoryError::Nodes { nodes: count });
    }
    let share = |n: u32| blocks / count + u64::from(u64::from(n) < blocks % count);
    Ok((0..nodes).map(|n| (n, share(n) * LARGE_PAGE_BYTES)).collect())
}

/// Checks stated sizes, and scales them if they are not this map's.
fn fit_sizes(
    joined: &[(u64, u64)],
    sizes: &[(u32, u64)],
    assumed: &mut Vec<String>,
) -> Result<Vec<(u32, u64)>, MemoryError> {
    for (at, &(node, _)) in sizes.iter().enumerate() {
        if node >= 1024 {
            return Err(MemoryError::Nodes { nodes: u64::from(node) + 1 });
        }
        if sizes[..at].iter().any(|s| s.0 == node) {
            return Err(MemoryError::DuplicateNode { node });
        }
    }
    let mut sizes: Vec<(u32, u64)> = sizes.iter().copied().filter(|s| s.1 != 0).collect();
    let ram = total(joined);
    let stated: u128 = sizes.iter().map(|s| u128::from(s.1)).sum();
    if stated == 0 {
        return Err(MemoryError::NoNodeMemory);
    }
    if u128::from(ram).abs_diff(stated) > u128::from(ram / 8) {
        for size in &mut sizes {
            size.1 = (u128::from(size.1) * u128::from(ram) / stated) as u64;
        }
        assumed.push(format!(
            "NUMA node sizes: {} stated for {} of usable RAM, taken as proportions",
            crate::words::size(u64::try_from(stated).unwrap_or(u64::MAX)),
            crate::words::size(ram)
        ));
    }
    Ok(sizes)
}

/// Gives each node its size in address order, the last one the rest. Cuts fall on 2 MiB.
fn divide_by_sizes(joined: &[(u64, u64)], sizes: &[(u32, u64)]) -> Vec<RamRange> {
    let mut ram = Vec::new();
    let mut sizes = sizes.iter().copied().peekable();
    let (mut node, mut left) = sizes.next().unwrap_or((0, u64::MAX));
    for &(mut start, end) in joined {
        while start < end {
            let last = sizes.peek().is_none();
            let room = end - start;
            let cut = if last || left >= room {
                end
            } else {
                (start + left) / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES
            };
            if cut > start {
                ram.push(RamRange { start, end: cut, node });
                left = left.saturating_sub(cut - start);
                start = cut;
            }
            if !last && (start < end || left == 0) {
                (node, left) = sizes.next().unwrap_or((node, u64::MAX));
            }
        }
    }
    ram
}

/// Gives each byte the node whose range it lies in.
fn divide_by_ranges(
    joined: &[(u64, u64)],
    ranges: &[NodeRange],
    assumed: &mut Vec<String>,
) -> Result<Vec<RamRange>, MemoryError> {
    let mut ranges = ranges.to_vec();
    for range in &ranges {
        if range.start >= range.end {
            return Err(MemoryError::Reversed { start: range.start, end: range.end });
        }
        if range.node >= 1024 {
            return Err(MemoryError::Nodes { nodes: u64::from(range.node) + 1 });
        }
    }
    ranges.sort_unstable_by_key(|r| (r.start, r.end));
    for pair in ranges.windows(2) {
        if pair[0].end > pair[1].start {
            return Err(overlap((pair[0].start, pair[0].end), (pair[1].start, pair[1].end)));
        }
    }
    let Some(mut node) = ranges.first().map(|r| r.node) else {
        return Err(MemoryError::NoNodeMemory);
    };
    let mut ram: Vec<RamRange> = Vec::new();
    let mut unnamed = 0u64;
    let mut rest = ranges.iter().peekable();
    for &(mut start, end) in joined {
        while start < end {
            while rest.next_if(|r| r.end <= start).is_some() {}
            let (cut, named) = match rest.peek() {
                Some(r) if r.start <= start => (end.min(r.end), Some(r.node)),
                Some(r) => (end.min(r.start), None),
                None => (end, None),
            };
            match named {
                Some(named) => node = named,
                None => unnamed += cut - start,
            }
            match ram.last_mut() {
                Some(last) if last.end == start && last.node == node => last.end = cut,
                _ => ram.push(RamRange { start, end: cut, node }),
            }
            start = cut;
        }
    }
    if unnamed != 0 {
        assumed.push(format!(
            "NUMA node of {} of RAM that no node range names: that of the RAM below",
            crate::words::size(unnamed)
        ));
    }
    Ok(ram)
}

#[cfg(test)]
mod tests;
