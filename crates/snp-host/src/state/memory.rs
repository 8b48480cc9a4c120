//! Memory, and how much of it is optimised.

use std::collections::BTreeMap;

use serde::Serialize;
use snp_defs::REGION_BYTES;

use super::regions::{RegionKind, RegionState, bytes_in};
use crate::e820::Span;
use crate::system::{Node, System};

/// Memory. All in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What RAM is known from: `iomem`, `log`, `memory-blocks` (coarser than RAM), `driver` (an emulated
    /// one's), or null.
    pub source: Option<&'static str>,
    /// RAM.
    pub ram_bytes: u64,
    /// RAM by state of its region (docs/status.md).
    pub by_state: BTreeMap<&'static str, u64>,
    /// Regions by state.
    pub regions: BTreeMap<&'static str, u32>,
    /// NUMA nodes.
    pub nodes: Vec<NodeState>,
    /// Huge pages.
    pub hugepages: Vec<Pool>,
}

/// A NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeState {
    /// Its number.
    pub node: u32,
    /// Its CPUs, as a list.
    pub cpus: String,
    /// RAM as the kernel counts it (MemTotal).
    pub total_bytes: Option<u64>,
    /// RAM in its memory blocks.
    pub ram_bytes: u64,
    /// RAM in regions that every core has optimised; null if no region's state is known.
    pub optimised_bytes: Option<u64>,
    /// RAM in regions that some cores have.
    pub partial_bytes: Option<u64>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Size of a page.
    pub page_bytes: u64,
    /// Pages.
    pub pages: u64,
    /// Free pages.
    pub free: u64,
}

pub(super) fn memory(
    system: &System,
    source: Option<&'static str>,
    ram: &[Span],
    nodes: Option<&BTreeMap<u32, Node>>,
    regions: &[RegionState],
) -> Memory {
    let mut memory =
        Memory { source, ram_bytes: ram.iter().map(Span::bytes).sum(), ..Memory::default() };
    for region in regions {
        *memory.by_state.entry(region.state.word()).or_default() += region.ram_bytes;
        *memory.regions.entry(region.state.word()).or_default() += 1;
    }
    let known = regions.iter().any(|region| region.state != RegionKind::Unknown);
    for (node, found) in nodes.into_iter().flatten() {
        let within = |kind| -> u64 {
            let of = regions.iter().filter(|r| r.state == kind && r.nodes.contains(node));
            of.map(|region| region_in(region, &found.memory, ram)).sum()
        };
        let ram_in = |s: &Span| bytes_in(ram, s.start, s.end_inclusive.saturating_add(1));
        memory.nodes.push(NodeState {
            node: *node,
            cpus: found.cpus.to_string(),
            total_bytes: found.total_kib.and_then(|kib| kib.checked_mul(1024)),
            ram_bytes: found.memory.iter().map(ram_in).sum(),
            optimised_bytes: known.then(|| within(RegionKind::Optimised)),
            partial_bytes: known.then(|| within(RegionKind::Partial)),
        });
    }
    if let Ok(pools) = &system.hugepages {
        let pool = |&(kib, pages, free): &(u64, u64, u64)| Pool {
            page_bytes: kib.saturating_mul(1024),
            pages,
            free,
        };
        memory.hugepages = pools.iter().map(pool).collect();
    }
    memory
}

/// RAM of a region that lies in a node's blocks.
fn region_in(region: &RegionState, blocks: &[Span], ram: &[Span]) -> u64 {
    let start = u64::from(region.gib) * REGION_BYTES;
    let end = start + REGION_BYTES;
    let first = blocks.partition_point(|block| block.end_inclusive < start);
    let blocks = blocks.iter().skip(first).take_while(|block| block.start < end);
    let part =
        |b: &Span| bytes_in(ram, b.start.max(start), b.end_inclusive.saturating_add(1).min(end));
    blocks.map(part).sum()
}
