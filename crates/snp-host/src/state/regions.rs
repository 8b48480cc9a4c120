//! Regions of 1 GiB: who has them optimised.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use snp_defs::REGION_BYTES;

use super::registers::Rmpopt;
use crate::cpulist::CpuList;
use crate::e820::Span;
use crate::system::{Node, System};

/// How a region stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionKind {
    /// Every core has it.
    Optimised,
    /// Some cores have it.
    Partial,
    /// No core has it.
    None,
    /// No core's window reaches it.
    Outside,
    /// Not known.
    Unknown,
}

impl RegionKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Optimised, Self::Partial, Self::None, Self::Outside, Self::Unknown];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Optimised => "optimised",
            Self::Partial => "partial",
            Self::None => "none",
            Self::Outside => "outside",
            Self::Unknown => "unknown",
        }
    }
}

/// A region with RAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegionState {
    /// Its number: the GiB from address 0.
    pub gib: u32,
    /// How it stands.
    pub state: RegionKind,
    /// RAM in it, in bytes.
    pub ram_bytes: u64,
    /// Cores that have it; null if not known.
    pub cores: Option<u32>,
    /// Its NUMA nodes.
    pub nodes: Vec<u32>,
    /// What is known to be in it that keeps it from being optimised.
    pub held_by: Vec<&'static str>,
}

/// RAM as ranges, ascending, and where that is known from. Memory blocks are coarser than RAM.
pub(super) fn ram(system: &System, log: &super::log::Log) -> Option<(&'static str, Vec<Span>)> {
    if let Ok(iomem) = &system.iomem
        && !iomem.ram.is_empty()
    {
        return Some(("iomem", iomem.ram.clone()));
    }
    if let Some(map) = &log.map {
        let mut spans: Vec<Span> = map.usable().collect();
        spans.sort_by_key(|span| span.start);
        if !spans.is_empty() {
            return Some(("log", spans));
        }
    }
    let nodes = system.nodes.as_ref().ok()?;
    let mut spans: Vec<Span> =
        nodes.values().flat_map(|node| node.memory.iter().copied()).collect();
    spans.sort_by_key(|span| span.start);
    let apart = |pair: &[Span]| matches!(pair, [a, b] if a.end_inclusive < b.start);
    (!spans.is_empty() && spans.windows(2).all(apart)).then_some(("memory-blocks", spans))
}

/// What an emulated driver has for RAM, by its regions: where in a region it lies is not known.
pub(super) fn emulated_ram(system: &System) -> Option<(&'static str, Vec<Span>)> {
    let emulated = system.emulated.as_ref().is_ok_and(|emulated| *emulated);
    let regions = system.regions.as_ref().ok().filter(|_| emulated)?;
    let span = |(&gib, row): (&u32, &crate::system::ModuleRegion)| {
        let start = u64::from(gib) * REGION_BYTES;
        (row.ram_mib > 0).then(|| Span { start, end_inclusive: start + (row.ram_mib << 20) - 1 })
    };
    Some(("driver", regions.rows.iter().filter_map(span).collect()))
}

/// Bytes of `spans` (ascending) in `start..end`.
pub(super) fn bytes_in(spans: &[Span], start: u64, end: u64) -> u64 {
    let first = spans.partition_point(|span| span.end_inclusive < start);
    let spans = spans.iter().skip(first).take_while(|span| span.start < end);
    spans.map(|s| s.end_inclusive.saturating_add(1).min(end) - s.start.max(start)).sum()
}

/// All regions that have RAM.
pub(super) fn regions(
    system: &System,
    ram: &[Span],
    nodes: Option<&BTreeMap<u32, Node>>,
    rmp: &[Span],
    rmpopt: Option<&Rmpopt>,
) -> Vec<RegionState> {
    let cores = Cores::of(system);
    let mut counted: HashMap<&CpuList, (u32, u32)> = HashMap::new();
    // A policy that believes nothing prints `none` in each row.
    let believes = system.regions.as_ref().map_or(true, |regions| regions.policy != "v10");
    let table = system.table.as_ref().ok().filter(|_| believes).map(|(_, table)| table);
    let last_row = table.filter(|t| !t.cut).and_then(|t| t.rows.keys().next_back().copied());
    let mut all = Vec::new();
    for gib in gibs(ram) {
        let start = u64::from(gib) * REGION_BYTES;
        let end = start + REGION_BYTES;
        let ram_bytes = bytes_in(ram, start, end);
        if ram_bytes == 0 {
            continue;
        }
        let row = table.and_then(|table| table.rows.get(&gib));
        let having = row.map(|list| *counted.entry(list).or_insert_with(|| cores.having(list)));
        let windows = rmpopt.map(|rmpopt| &rmpopt.windows).filter(|w| !w.is_empty());
        let in_window = windows.map(|w| w.iter().any(|w| (w.first_gib..w.end_gib).contains(&gib)));
        let state = match (having, in_window) {
            (Some((0, _)) | None, Some(false)) => RegionKind::Outside,
            (Some((0, _)), _) => RegionKind::None,
            (Some((some, all)), _) if some >= all => RegionKind::Optimised,
            (Some(_), _) => RegionKind::Partial,
            (None, _) if last_row.is_some_and(|last| gib > last) => RegionKind::Outside,
            (None, _) => RegionKind::Unknown,
        };
        let mut held_by = Vec::new();
        let region = Span { start, end_inclusive: end - 1 };
        if rmp.iter().any(|span| span.overlaps(&region)) {
            held_by.push("rmp-table");
        }
        let in_node = |node: &Node| {
            let at = node.memory.partition_point(|span| span.end_inclusive < start);
            node.memory.get(at).is_some_and(|span| span.overlaps(&region))
        };
        let of = nodes.into_iter().flatten().filter(|(_, node)| in_node(node));
        all.push(RegionState {
            gib,
            state,
            ram_bytes,
            cores: having.map(|(some, _)| some),
            nodes: of.map(|(number, _)| *number).collect(),
            held_by,
        });
    }
    all
}

/// The regions that RAM touches, ascending: only those, as a hole may be larger than all RAM.
fn gibs(ram: &[Span]) -> impl Iterator<Item = u32> + '_ {
    let mut next = 0u64;
    ram.iter().flat_map(move |span| {
        let first = (span.start / REGION_BYTES).max(next);
        next = span.end_inclusive / REGION_BYTES + 1;
        (first..next).map(|gib| gib as u32)
    })
}

/// Cores, by which a row's CPUs are counted.
struct Cores {
    of: BTreeMap<u32, u32>,
    all: u32,
    online: u32,
}

impl Cores {
    fn of(system: &System) -> Self {
        let cpus = system.cpus.as_ref().ok();
        let all = cpus.map_or(0, |cpus| cpus.cores.len() as u32);
        let online = cpus.map_or(u32::MAX, |cpus| cpus.online.len());
        Self { of: super::registers::cores(cpus), all, online }
    }

    /// How many cores have a CPU in the list, of how many; of CPUs where cores are not
    /// known; where nothing is known no list is all of them.
    fn having(&self, list: &CpuList) -> (u32, u32) {
        if self.all == 0 {
            return (list.len(), self.online);
        }
        let cores: std::collections::BTreeSet<_> =
            list.iter().filter_map(|cpu| self.of.get(&cpu)).collect();
        (cores.len() as u32, self.all)
    }
}
