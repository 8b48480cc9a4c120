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

mod plan;
mod space;
#[cfg(test)]
mod tests;

use std::fmt;

use plan::{HOST_LOW_BYTES, HOST_SHARE, Plan};
use snp_defs::{
    ContiguousRmp, Fn80000025, GeometryError, PAGE_BYTES, PageState, Pfn, Region, RmpCfg,
    RmpGeometry, RstEntry, SegmentedRmp, Spa,
};
use space::{intersect, subtract};
use thiserror::Error;

use crate::memory::{Extent, PhysicalMemory, merge};
use crate::scenario::RmpKind;
use crate::words::size;

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
    let mut plan = Plan::of(dram.clone());
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
