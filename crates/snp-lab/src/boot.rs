//! What firmware and driver take of the memory before the first guest starts, placed as on a real host.
//!
//! | what | size | where | pages become | source |
//! |---|---|---|---|---|
//! | ASEG, TSEG | 128 KiB, 16 MiB | `0xA_0000`; top of the RAM below 4 GiB | HV-fixed | spec/snp-arch.md 4.4; TSEG's size is assumed. Only in maps made from numbers: a firmware map lists them as reserved |
//! | bookkeeping and segment table | 20 KiB in 1 MiB | first RAM at or above 4 GiB | Firmware | spec/snp-arch.md 2.2; region 4 in upstream's sample is never optimised (spec/rmpopt.md 4) |
//! | each segment's RMP | 4 MiB per GiB covered | top of the RAM in its segment | Firmware | spec/snp-arch.md 2.2; spec/performance.md 4.1 |
//! | contiguous RMP | 16 B per page + 16 KiB, in MiB | top of all RAM | Firmware | spec/snp-arch.md 2.1; logs of real hosts |
//! | TMR | 2 MiB | region 1 | Firmware | spec/snp-arch.md 6.2; region 1 in upstream's sample |
//! | `INIT_EX` area, command buffers, status page | 32, 8, 4 KiB | region 0 | Firmware | spec/snp-arch.md 6.2; region 0 in upstream's sample |
//! | event, PPR and completion buffers | 8 + 8 + 4 KiB per IOMMU | region 0 | Firmware-IOMMU | spec/snp-arch.md 4.4, 6.6; Linux's sizes; 4 IOMMUs per socket as on Genoa, assumed |
//! | host kernel | 64 MiB and 1/64 of each node | lowest RAM; top of the node | unchanged | 64 B of page structures per 4 KiB page; assumed that the rest of the host fits in as well |
//!
//! What is covered by the RMP and is not usable RAM becomes HV-fixed: `SNP_INIT` starts from "all
//! HV-fixed" and opens the DRAM regions (spec/snp-arch.md 4.4).

use std::fmt;

use snp_defs::{
    BOOKKEEPING_BYTES, ContiguousRmp, Fn80000025, GeometryError, LARGE_PAGE_BYTES, PAGE_BYTES,
    PageState, Pfn, REGION_BYTES, RST_BYTES, RST_ENTRIES, Region, RmpCfg, RmpEntry, RmpGeometry,
    RstEntry, SegmentedRmp, Spa,
};
use thiserror::Error;

use crate::memory::{Extent, PhysicalMemory, merge};
use crate::scenario::RmpKind;
use crate::words::size;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// First byte of ASEG, SMM's memory in the legacy hole.
const ASEG_START: u64 = 0xA_0000;
/// Its end.
const ASEG_END: u64 = 0xC_0000;
/// Size of TSEG, SMM's memory at the top of low RAM; assumed.
const TSEG_BYTES: u64 = 16 * MIB;
/// Kernel image and low memory, at the bottom of RAM; assumed.
const HOST_LOW_BYTES: u64 = 64 * MIB;
/// One part in so many of each node's RAM is the host's own.
const HOST_SHARE: u64 = 64;
/// The trusted memory region that the secure processor's firmware asks for.
const TMR_BYTES: u64 = 2 * MIB;
const INIT_EX_BYTES: u64 = 32 << 10;
const COMMAND_BYTES: u64 = 8 << 10;
const STATUS_BYTES: u64 = 4 << 10;
/// Event log, PPR log and completion store of one IOMMU.
const IOMMU_BYTES: u64 = (8 + 8 + 4) << 10;

/// What an assigned range serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Processor bookkeeping and segment table of a segmented RMP.
    RmpBookkeeping,
    /// RMP of one segment, by its position.
    RmpSegment(u32),
    /// Contiguous RMP.
    RmpTable,
    /// Trusted memory region.
    Tmr,
    /// Non-volatile area of `INIT_EX`.
    InitEx,
    /// Command buffers.
    CommandBuffers,
    /// Status page.
    StatusPage,
    /// Event, PPR and completion buffers of the IOMMUs.
    IommuBuffers,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RmpBookkeeping => f.pad("RMP bookkeeping"),
            Self::RmpSegment(n) => f.pad(&format!("RMP segment {n}")),
            Self::RmpTable => f.pad("RMP"),
            Self::Tmr => f.pad("TMR"),
            Self::InitEx => f.pad("INIT_EX area"),
            Self::CommandBuffers => f.pad("command buffers"),
            Self::StatusPage => f.pad("status page"),
            Self::IommuBuffers => f.pad("IOMMU buffers"),
        }
    }
}

/// A run of pages assigned at boot. None of its regions can ever be optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignedRange {
    /// The first page.
    pub first: Pfn,
    /// Pages.
    pub pages: u64,
    /// Their state once SNP is up: Firmware or Firmware-IOMMU.
    pub state: PageState,
    /// What for.
    pub purpose: Purpose,
}

impl AssignedRange {
    /// The pages.
    pub const fn extent(&self) -> Extent {
        Extent { first: self.first, pages: self.pages }
    }
}

/// A region that can never be optimised while SNP is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverOptimized {
    /// The region.
    pub region: Region,
    /// What it holds: "RMP segment 3", "TMR, RMP bookkeeping".
    pub reason: String,
}

/// Where the RMP lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RmpLayout {
    /// One table. RMPOPT needs segments (spec/rmpopt.md 2).
    Contiguous(ContiguousRmp),
    /// Segments.
    Segmented {
        /// `RMP_BASE`: bookkeeping, then the segment table.
        base: Spa,
        /// log2 of a segment's size in bytes.
        shift: u32,
        /// All 512 entries of the segment table.
        rst: Vec<RstEntry>,
    },
    /// None: what the registers of a machine say whose BIOS was not told to set SNP up.
    Unset {
        /// `RMP_BASE`.
        base: u64,
        /// `RMP_END`.
        end: u64,
    },
}

/// `RMP_BASE` and `RMP_END` without an RMP (spec/snp-arch.md case 63).
const UNSET: RmpLayout = RmpLayout::Unset { base: 0, end: 0x1FFF };

/// CPUID `Fn8000_0025` of the emulated host: RMPOPT, segments of 64 GiB to 4 TiB and 16 of them cached as
/// on Turin (`InstLatx64`'s dump of an EPYC 9655, `0xaa4` and `0x410`). Unlike there 16 is no hard limit:
/// 2 TiB in segments of 64 GiB take 33. What Venice reports is not public.
pub const SEGMENT_LIMITS: Fn80000025 = Fn80000025 { eax: 0xAA4, ebx: 0x10, ecx: 0, edx: 1 };

impl RmpLayout {
    /// The layout as the architecture's rules see it.
    pub fn geometry(&self) -> Result<RmpGeometry<'_>, GeometryError> {
        match self {
            Self::Contiguous(rmp) => Ok(RmpGeometry::Contiguous(*rmp)),
            Self::Unset { base, end } => {
                ContiguousRmp::new(*base, *end).map(RmpGeometry::Contiguous)
            }
            Self::Segmented { base, shift, rst } => {
                let cfg = RmpCfg::segmented(*shift);
                SegmentedRmp::new(base.get(), cfg, SEGMENT_LIMITS, rst).map(RmpGeometry::Segmented)
            }
        }
    }
}

/// What boot leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLayout {
    /// The RMP.
    pub rmp: RmpLayout,
    /// Pages that have an RMP entry, ascending.
    pub covered: Vec<Extent>,
    /// Pages assigned from `SNP_INIT` on, ascending, not overlapping.
    pub assigned: Vec<AssignedRange>,
    /// Covered pages that are HV-fixed, ascending.
    pub hv_fixed: Vec<Extent>,
    /// Whole pages of usable RAM, ascending; what is assigned or carved out of it included.
    pub dram: Vec<Extent>,
    /// Usable RAM that no guest gets, ascending: what the rows above took, in whole 2 MiB blocks.
    pub reserved_from_allocation: Vec<Extent>,
    /// Of that, the host kernel's own, in bytes.
    pub host_bytes: u64,
    /// Regions that can never be optimised, ascending.
    pub never_optimized: Vec<NeverOptimized>,
    /// What had to be assumed; for the report.
    pub assumed: Vec<String>,
}

impl BootLayout {
    /// Whether RMPOPT can be enabled at all: it needs a segmented RMP.
    pub const fn rmpopt_possible(&self) -> bool {
        matches!(self.rmp, RmpLayout::Segmented { .. })
    }

    /// Why Linux leaves SNP off on this host (spec/snp-arch.md 6.1); `None` if it does not.
    pub fn linux_refuses(&self) -> Option<String> {
        let top = self.dram.last().and_then(|run| Pfn::new(run.end())).unwrap_or_default();
        match self.rmp.geometry() {
            Err(error) => Some(error.to_string()),
            Ok(geometry) => geometry.linux_check(top).err().map(|refusal| refusal.to_string()),
        }
    }

    /// Bytes of memory that the RMP takes, bookkeeping included.
    pub fn rmp_bytes(&self) -> u64 {
        let of_rmp = |a: &&AssignedRange| {
            use Purpose::{RmpBookkeeping, RmpSegment, RmpTable};
            matches!(a.purpose, RmpBookkeeping | RmpSegment(_) | RmpTable)
        };
        self.assigned.iter().filter(of_rmp).map(|a| a.pages * PAGE_BYTES).sum()
    }
}

/// Why a host cannot boot with SNP.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BootError {
    /// No run of RAM is large enough.
    #[error("no room in RAM for {what} ({bytes} bytes in one piece)")]
    NoRoom {
        /// For what.
        what: String,
        /// How large a run it takes.
        bytes: u64,
    },
}

/// log2 of the default segment size, 64 GiB: the smallest that Turin's CPUID reports.
pub const SEGMENT_SHIFT: u32 = 36;

/// Boots a host of `sockets` sockets.
pub fn boot(memory: &PhysicalMemory, sockets: u32, rmp: RmpKind) -> Result<BootLayout, BootError> {
    let dram = memory.dram();
    let mut plan = Plan {
        space: Space { free: dram.clone() },
        reserved: Vec::new(),
        assigned: Vec::new(),
        assumed: Vec::new(),
    };
    let smm = plan.smm();
    let (layout, covered) = match rmp {
        RmpKind::Segmented => plan.segmented(memory)?,
        RmpKind::Contiguous => plan.contiguous(memory)?,
        RmpKind::Unset => (UNSET, Vec::new()),
    };
    let host_low = plan.host_low();
    if rmp != RmpKind::Unset {
        plan.tmr()?;
        plan.firmware_pages(sockets)?;
    }
    let host_bytes = host_low + plan.host_share(memory);
    plan.assumed.push(format!(
        "host kernel: {} that guests cannot get (lowest {}, and 1/{HOST_SHARE} of each node at its \
         top)",
        size(host_bytes),
        size(HOST_LOW_BYTES)
    ));

    let mut assigned = plan.assigned;
    assigned.sort_unstable_by_key(|a| a.first);
    let open = subtract(&dram, &smm);
    let hv_fixed = subtract(&covered, &open);
    let never_optimized = never_optimized(&assigned);
    let reserved_from_allocation = intersect(&merge(plan.reserved), &dram);
    Ok(BootLayout {
        rmp: layout,
        covered,
        assigned,
        hv_fixed,
        dram,
        reserved_from_allocation,
        host_bytes,
        never_optimized,
        assumed: plan.assumed,
    })
}

/// The regions of assigned pages, with what they hold.
fn never_optimized(assigned: &[AssignedRange]) -> Vec<NeverOptimized> {
    let mut pairs: Vec<(Region, Purpose)> =
        assigned.iter().flat_map(|a| a.extent().regions().map(|r| (r, a.purpose))).collect();
    pairs.sort_unstable();
    pairs
        .chunk_by(|a, b| a.0 == b.0)
        .map(|chunk| {
            let names: Vec<String> = chunk.iter().map(|(_, p)| p.to_string()).collect();
            NeverOptimized { region: chunk[0].0, reason: names.join(", ") }
        })
        .collect()
}

/// What is being taken, step by step.
struct Plan {
    space: Space,
    reserved: Vec<Extent>,
    assigned: Vec<AssignedRange>,
    assumed: Vec<String>,
}

impl Plan {
    /// Takes `[start, end)`, with all of each 2 MiB block it touches.
    fn reserve(&mut self, start: u64, end: u64) {
        let start = start / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES;
        let end = end.next_multiple_of(LARGE_PAGE_BYTES);
        if let Some(extent) = Extent::inside(start, end) {
            self.space.free = subtract(&self.space.free, &[extent]);
            self.reserved.push(extent);
        }
    }

    /// Notes that pages from byte `start` on will be assigned.
    fn assign(&mut self, start: u64, bytes: u64, state: PageState, purpose: Purpose) {
        if let Some(Extent { first, pages }) = Extent::inside(start, start + bytes) {
            self.assigned.push(AssignedRange { first, pages, state, purpose });
        }
    }

    /// SMM's memory, if the map lists it as usable.
    fn smm(&mut self) -> Vec<Extent> {
        if self.space.lowest(ASEG_END - ASEG_START, PAGE_BYTES, ASEG_START, ASEG_END).is_none() {
            return Vec::new();
        }
        let mut smm: Vec<Extent> = Extent::inside(ASEG_START, ASEG_END).into_iter().collect();
        self.reserve(ASEG_START, ASEG_END);
        if let Some(at) = self.space.highest(TSEG_BYTES, LARGE_PAGE_BYTES, 0, 4 * GIB) {
            smm.extend(Extent::inside(at, at + TSEG_BYTES));
            self.reserve(at, at + TSEG_BYTES);
        }
        self.assumed.push(format!(
            "SMM memory: ASEG 128 KiB and TSEG {} MiB at the top of the RAM below 4 GiB",
            TSEG_BYTES / MIB
        ));
        smm
    }

    fn segmented(
        &mut self,
        memory: &PhysicalMemory,
    ) -> Result<(RmpLayout, Vec<Extent>), BootError> {
        let mut shift = SEGMENT_SHIFT;
        while memory.top() > (RST_ENTRIES as u64) << shift {
            shift += 1;
        }
        let segment = 1u64 << shift;
        self.assumed.push(format!("RMP: segments of {} GiB", segment / GIB));

        let base = self
            .space
            .lowest(MIB, MIB, 4 * GIB, u64::MAX)
            .or_else(|| self.space.highest(MIB, MIB, 0, 4 * GIB))
            .ok_or_else(|| no_room(Purpose::RmpBookkeeping, MIB))?;
        self.reserve(base, base + MIB);
        let bytes = BOOKKEEPING_BYTES + RST_BYTES;
        self.assign(base, bytes, PageState::Firmware, Purpose::RmpBookkeeping);

        let mut rst = vec![RstEntry::ABSENT; RST_ENTRIES];
        let mut covered = Vec::new();
        for (index, entry) in (0u32..).zip(&mut rst) {
            let start = u64::from(index) << shift;
            let inside = |r: &&crate::memory::RamRange| r.start < start + segment && start < r.end;
            let Some(top) = memory.ram().iter().filter(inside).map(|r| r.end).max() else {
                continue;
            };
            let gib = (top.min(start + segment) - start).div_ceil(GIB);
            let (bytes, purpose) = (gib * 4 * MIB, Purpose::RmpSegment(index));
            // In its own segment if there is room, else as close below as there is.
            let table = self
                .space
                .highest(bytes, LARGE_PAGE_BYTES, start, start + segment)
                .or_else(|| self.space.highest(bytes, LARGE_PAGE_BYTES, 0, start))
                .or_else(|| self.space.lowest(bytes, LARGE_PAGE_BYTES, start, u64::MAX))
                .ok_or_else(|| no_room(purpose, bytes))?;
            self.reserve(table, table + bytes);
            self.assign(table, bytes, PageState::Firmware, purpose);
            *entry = RstEntry::new(spa(table), gib as u32);
            covered.extend(Extent::inside(start, start + gib * GIB));
        }
        Ok((RmpLayout::Segmented { base: spa(base), shift, rst }, merge(covered)))
    }

    fn contiguous(
        &mut self,
        memory: &PhysicalMemory,
    ) -> Result<(RmpLayout, Vec<Extent>), BootError> {
        let entries = memory.top().div_ceil(PAGE_BYTES) * RmpEntry::BYTES;
        let bytes = (BOOKKEEPING_BYTES + entries).next_multiple_of(MIB);
        let refused = || no_room(Purpose::RmpTable, bytes);
        let base = self.space.highest(bytes, MIB, MIB, u64::MAX).ok_or_else(refused)?;
        let rmp = ContiguousRmp::new(base, base + bytes - 1).map_err(|_| refused())?;
        self.reserve(base, base + bytes);
        self.assign(base, bytes, PageState::Firmware, Purpose::RmpTable);
        let covered = Extent::inside(0, rmp.covered_bytes()).into_iter().collect();
        Ok((RmpLayout::Contiguous(rmp), covered))
    }

    /// The lowest RAM, for kernel image and low memory. Bytes taken.
    fn host_low(&mut self) -> u64 {
        let mut left = HOST_LOW_BYTES;
        let mut taken = 0;
        while left != 0 {
            let Some(low) = self.space.free.first().copied() else { break };
            let end = low.end_byte().min(low.start_byte() + left);
            let before = self.space.bytes();
            self.reserve(low.start_byte(), end);
            left -= end - low.start_byte();
            taken += before - self.space.bytes();
        }
        taken
    }

    fn tmr(&mut self) -> Result<(), BootError> {
        let (bytes, align) = (TMR_BYTES, LARGE_PAGE_BYTES);
        let at = self
            .space
            .highest(bytes, align, REGION_BYTES, 2 * REGION_BYTES)
            .or_else(|| self.space.highest(bytes, align, 0, 4 * GIB))
            .or_else(|| self.space.lowest(bytes, align, 0, u64::MAX))
            .ok_or_else(|| no_room(Purpose::Tmr, bytes))?;
        self.reserve(at, at + bytes);
        self.assign(at, bytes, PageState::Firmware, Purpose::Tmr);
        Ok(())
    }

    /// The driver's and the IOMMUs' pages: each group in 2 MiB blocks of its own.
    fn firmware_pages(&mut self, sockets: u32) -> Result<(), BootError> {
        let iommus = 4 * u64::from(sockets.max(1));
        self.assumed.push(format!("IOMMUs: {iommus}, 4 for each socket"));
        let driver = [
            (Purpose::InitEx, INIT_EX_BYTES),
            (Purpose::CommandBuffers, COMMAND_BYTES),
            (Purpose::StatusPage, STATUS_BYTES),
        ];
        let buffers = [(Purpose::IommuBuffers, IOMMU_BYTES * iommus)];
        for (group, state) in
            [(&driver[..], PageState::Firmware), (&buffers[..], PageState::FirmwareIommu)]
        {
            let bytes = group.iter().map(|g| g.1).sum();
            let mut at = self
                .space
                .lowest(bytes, LARGE_PAGE_BYTES, 0, u64::MAX)
                .ok_or_else(|| no_room(group[0].0, bytes))?;
            self.reserve(at, at + bytes);
            for &(purpose, bytes) in group {
                self.assign(at, bytes, state, purpose);
                at += bytes;
            }
        }
        Ok(())
    }

    /// The host's share of each node, from its top down. Bytes taken.
    fn host_share(&mut self, memory: &PhysicalMemory) -> u64 {
        let mut taken = 0;
        for node in memory.nodes() {
            let share = (memory.node_bytes(node) / HOST_SHARE).next_multiple_of(LARGE_PAGE_BYTES);
            let ram: Vec<Extent> = memory
                .ram()
                .iter()
                .filter(|r| r.node == node)
                .filter_map(crate::memory::RamRange::extent)
                .collect();
            let mut left = share;
            for run in intersect(&self.space.free, &ram).iter().rev() {
                let end = run.end_byte() / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES;
                let start = run.start_byte().next_multiple_of(LARGE_PAGE_BYTES);
                if start >= end {
                    continue;
                }
                let start = start.max(end.saturating_sub(left));
                self.reserve(start, end);
                taken += end - start;
                left -= end - start;
                if left == 0 {
                    break;
                }
            }
        }
        taken
    }
}

fn spa(bytes: u64) -> Spa {
    // RAM lies below `PhysicalMemory::LIMIT`, far below 2^52.
    Spa::new(bytes).unwrap_or_default()
}

fn no_room(what: Purpose, bytes: u64) -> BootError {
    BootError::NoRoom { what: what.to_string(), bytes }
}

/// RAM that is still free, as ascending runs of pages.
struct Space {
    free: Vec<Extent>,
}

impl Space {
    fn bytes(&self) -> u64 {
        self.free.iter().map(Extent::bytes).sum()
    }

    /// Lowest aligned address of `bytes` free bytes inside `[low, high)`.
    fn lowest(&self, bytes: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        self.free.iter().find_map(|run| {
            let start = run.start_byte().max(low).checked_next_multiple_of(align)?;
            let end = run.end_byte().min(high);
            (start.checked_add(bytes)? <= end).then_some(start)
        })
    }

    /// Highest such address.
    fn highest(&self, bytes: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        self.free.iter().rev().find_map(|run| {
            let end = run.end_byte().min(high);
            let start = end.checked_sub(bytes)? / align * align;
            (start >= run.start_byte().max(low)).then_some(start)
        })
    }
}

/// What of `from` is in none of `what`. Both ascending, without overlaps.
fn subtract(from: &[Extent], what: &[Extent]) -> Vec<Extent> {
    let mut left = Vec::with_capacity(from.len() + what.len());
    let mut holes = what.iter().peekable();
    for run in from {
        let mut at = run.first.get();
        while holes.next_if(|h| h.end() <= at).is_some() {}
        let mut inside = holes.clone();
        while let Some(hole) = inside.next_if(|h| h.first.get() < run.end()) {
            push(&mut left, at, hole.first.get());
            at = at.max(hole.end());
        }
        push(&mut left, at, run.end());
    }
    left
}

/// What lies in both. Both ascending, without overlaps.
fn intersect(a: &[Extent], b: &[Extent]) -> Vec<Extent> {
    let mut common = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        push(&mut common, x.first.get().max(y.first.get()), x.end().min(y.end()));
        if x.end() <= y.end() {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

fn push(to: &mut Vec<Extent>, start: u64, end: u64) {
    if let Some(first) = Pfn::new(start).filter(|_| start < end) {
        to.push(Extent { first, pages: end - start });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MapEntry, NodeMemory, RangeKind};
    use proptest::prelude::*;

    const TIB: u64 = 1 << 40;

    fn never(layout: &BootLayout) -> Vec<(u32, &str)> {
        layout.never_optimized.iter().map(|n| (n.region.get(), n.reason.as_str())).collect()
    }

    #[test]
    fn two_tebibytes_lose_what_upstreams_sample_lost() {
        let memory = PhysicalMemory::from_size(2 * TIB, 2).unwrap();
        let layout = boot(&memory, 2, RmpKind::Segmented).unwrap();
        let never = never(&layout);
        assert_eq!(
            never[..4],
            [
                (0, "INIT_EX area, command buffers, status page, IOMMU buffers"),
                (1, "TMR"),
                (4, "RMP bookkeeping"),
                (63, "RMP segment 0"),
            ]
        );
        // 33 segments hold RAM; segment 15 ends at 1,012 GiB, segment 32 has 14 GiB.
        assert_eq!(never.len(), 3 + 33);
        assert!(never.contains(&(1011, "RMP segment 15")));
        assert_eq!(never.last(), Some(&(2061, "RMP segment 32")));
        assert!(layout.rmpopt_possible());
        // 4 MiB per GiB covered: 2,062 slots less the 12 of HyperTransport, and 20 KiB.
        assert_eq!(layout.rmp_bytes(), 2050 * 4 * MIB + 20 * 1024);
        // 1/64 of 2 TiB is the host's.
        assert_eq!(layout.host_bytes, 2 * TIB / 64 + HOST_LOW_BYTES);
        let RmpLayout::Segmented { base, shift, rst } = &layout.rmp else { panic!() };
        assert_eq!((base.get(), *shift), (4 * GIB, 36));
        assert_eq!(rst[15].covered_gib(), 52);
        assert_eq!(rst.iter().filter(|e| e.is_present()).count(), 33);
    }

    #[test]
    fn holes_and_smm_are_fixed() {
        let memory = PhysicalMemory::from_size(8 * GIB, 1).unwrap();
        let layout = boot(&memory, 1, RmpKind::Segmented).unwrap();
        let fixed: Vec<_> =
            layout.hv_fixed.iter().map(|e| (e.start_byte(), e.end_byte())).collect();
        assert_eq!(fixed, [(ASEG_START, ASEG_END), (2 * GIB - TSEG_BYTES, 4 * GIB)]);
        assert_eq!(layout.covered, [Extent::inside(0, 10 * GIB).unwrap()]);
    }

    #[test]
    fn contiguous_table_is_at_the_top() {
        let memory = PhysicalMemory::from_size(512 * GIB, 2).unwrap();
        let layout = boot(&memory, 2, RmpKind::Contiguous).unwrap();
        assert!(!layout.rmpopt_possible());
        let RmpLayout::Contiguous(rmp) = layout.rmp else { panic!() };
        // 514 GiB of addresses: 2,056 MiB and 16 KiB, in whole MiB.
        assert_eq!(rmp.bytes(), 2057 * MIB);
        assert_eq!(rmp.end().get() + 1, 514 * GIB);
        let max_pfn = Pfn::new(memory.top() / PAGE_BYTES).unwrap();
        assert_eq!(rmp.linux_check(max_pfn), Ok(()));
        assert_eq!(rmp.firmware_check(), Ok(()));
        let tops: Vec<_> = never(&layout).into_iter().filter(|n| n.1 == "RMP").collect();
        assert_eq!(tops, [(511, "RMP"), (512, "RMP"), (513, "RMP")]);
    }

    /// The map of a host with two EPYC Genoa and 512 GiB; its own contiguous RMP is the reserved range
    /// below `0x80_7f10_0000`. Origin: A. Kalra's mail on Linux commit 400fea4b9651.
    #[test]
    fn a_real_map() {
        let usable = |start, end: u64| MapEntry { start, end: end + 1, kind: RangeKind::Usable };
        let other = |start, end: u64| MapEntry { start, end: end + 1, kind: RangeKind::Reserved };
        let map = [
            usable(0, 0x8efff),
            other(0x8f000, 0x8ffff),
            usable(0x90000, 0x9ffff),
            usable(0x100000, 0x5a14afff),
            other(0x5a14b000, 0x5a34afff),
            usable(0x5a34b000, 0x67acefff),
            other(0x67acf000, 0x6effefff),
            usable(0x6efff000, 0x6effffff),
            other(0x6f000000, 0x6f00afff),
            usable(0x6f00b000, 0x6fffffff),
            other(0x70000000, 0x8fffffff),
            other(0xfd000000, 0xffffffff),
            usable(0x100000000, 0x407fcfffff),
            other(0x407fd00000, 0x407fffffff),
            usable(0x4080000000, 0x7ffe7fffff),
            other(0x7ffe800000, 0x807f0fffff),
            usable(0x807f100000, 0x807f1fefff),
        ];
        let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(2)).unwrap();
        assert_eq!(memory.memory_bytes(), 547_187_208_192);
        assert_eq!((memory.regions(), memory.spanned_regions()), (511, 514));
        let layout = boot(&memory, 2, RmpKind::Segmented).unwrap();
        // The last segment has not 1 MiB of RAM: its table lies in the segment below.
        assert_eq!(never(&layout).last(), Some(&(511, "RMP segment 7, RMP segment 8")));
        let max_pfn = Pfn::new(0x807f1ff).unwrap();
        assert_eq!(layout.rmp.geometry().unwrap().linux_check(max_pfn), Ok(()));
    }

    #[test]
    fn smallest_host_boots() {
        let memory = PhysicalMemory::from_size(2 * GIB, 1).unwrap();
        for kind in RmpKind::ALL {
            let layout = boot(&memory, 1, kind).unwrap();
            let last = layout.assigned.last().map(AssignedRange::extent);
            assert!(last.is_none_or(|last| last.end_byte() <= 2 * GIB));
            assert_eq!((last.is_none(), layout.linux_refuses().is_some()), {
                let unset = kind == RmpKind::Unset;
                (unset, unset)
            });
        }
    }

    #[test]
    fn too_little_ram_is_refused() {
        // A map with a single RAM range of 1 MiB far up: its segment's table has no room.
        let usable = RangeKind::Usable;
        let map = [MapEntry { start: 64 * GIB, end: 64 * GIB + MIB, kind: usable }];
        let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
        assert_eq!(
            boot(&memory, 1, RmpKind::Segmented).unwrap_err().to_string(),
            "no room in RAM for RMP segment 1 (4194304 bytes in one piece)"
        );
    }

    #[test]
    fn a_sliver_in_a_segment_takes_its_table_below() {
        let usable = RangeKind::Usable;
        let map = [
            MapEntry { start: 0x10_0000, end: 3 * GIB, kind: usable },
            MapEntry { start: 64 * GIB, end: 64 * GIB + MIB + 5, kind: usable },
        ];
        let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
        let layout = boot(&memory, 1, RmpKind::Segmented).unwrap();
        assert!(never(&layout).contains(&(2, "RMP segment 0, RMP segment 1")));
    }

    fn sorted_apart(extents: &[Extent]) -> bool {
        extents.windows(2).all(|w| w[0].end() < w[1].first.get())
    }

    proptest! {
        #[test]
        fn layouts_are_sound(
            cuts in prop::collection::btree_set(0u64..200 * GIB, 2..16), sockets in 1u32..=2,
            segmented: bool,
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let map: Vec<MapEntry> = cuts
                .chunks_exact(2)
                .map(|c| MapEntry { start: c[0], end: c[1], kind: RangeKind::Usable })
                .collect();
            let memory = PhysicalMemory::from_map(&map, &NodeMemory::Equal(1)).unwrap();
            let kind = if segmented { RmpKind::Segmented } else { RmpKind::Contiguous };
            let Ok(layout) = boot(&memory, sockets, kind) else { return Ok(()) };
            let assigned: Vec<Extent> = layout.assigned.iter().map(AssignedRange::extent).collect();
            prop_assert!(assigned.windows(2).all(|w| w[0].end() <= w[1].first.get()));
            let assigned = merge(assigned);
            // Assigned pages are RAM, covered, and kept from guests; HV-fixed ones are not assigned.
            for within in [&layout.dram, &layout.covered, &layout.reserved_from_allocation] {
                prop_assert_eq!(intersect(&assigned, within), assigned.clone());
                prop_assert!(sorted_apart(within));
            }
            prop_assert!(intersect(&assigned, &layout.hv_fixed).is_empty());
            // All RAM is covered; reserved memory is RAM.
            prop_assert_eq!(intersect(&layout.dram, &layout.covered), layout.dram.clone());
            prop_assert!(subtract(&layout.reserved_from_allocation, &layout.dram).is_empty());
            // The architecture sees the same RMP, and Linux would run SNP with it.
            let geometry = layout.rmp.geometry().unwrap();
            let own = geometry.own_ranges().filter_map(|r| Extent::inside(r.start.get(), r.end()));
            let own = merge(own.collect());
            prop_assert_eq!(intersect(&own, &assigned), own.clone());
            prop_assert_eq!(own.iter().map(Extent::bytes).sum::<u64>(), layout.rmp_bytes());
            let max_pfn = Pfn::new(layout.dram.last().unwrap().end()).unwrap();
            prop_assert_eq!(geometry.linux_check(max_pfn), Ok(()));
            for extent in &layout.covered {
                let last = Pfn::new(extent.end() - 1).unwrap();
                prop_assert!(geometry.covers(extent.first) && geometry.covers(last));
            }
            // The regions are exactly those that hold assigned pages.
            let regions: std::collections::BTreeSet<Region> =
                assigned.iter().flat_map(Extent::regions).collect();
            let told: Vec<Region> = layout.never_optimized.iter().map(|n| n.region).collect();
            prop_assert_eq!(told, regions.into_iter().collect::<Vec<_>>());
        }
    }
}
