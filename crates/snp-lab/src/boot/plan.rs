//! Who takes which memory, step by step.

use snp_defs::{
    BOOKKEEPING_BYTES, ContiguousRmp, LARGE_PAGE_BYTES, PAGE_BYTES, PageState, REGION_BYTES,
    RST_BYTES, RST_ENTRIES, RmpEntry, RstEntry, Spa,
};

use super::space::{Space, intersect, subtract};
use super::{AssignedRange, BootError, Purpose, RmpLayout, SEGMENT_SHIFT};
use crate::memory::{Extent, PhysicalMemory, merge};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// First byte of ASEG, SMM's memory in the legacy hole.
pub(super) const ASEG_START: u64 = 0xA_0000;
/// Its end.
pub(super) const ASEG_END: u64 = 0xC_0000;
/// Size of TSEG, SMM's memory at the top of low RAM; assumed.
pub(super) const TSEG_BYTES: u64 = 16 * MIB;
/// Kernel image and low memory, at the bottom of RAM; assumed.
pub(super) const HOST_LOW_BYTES: u64 = 64 * MIB;
/// One part in so many of each node's RAM is the host's own.
pub(super) const HOST_SHARE: u64 = 64;
/// The trusted memory region that the secure processor's firmware asks for.
pub(super) const TMR_BYTES: u64 = 2 * MIB;
pub(super) const INIT_EX_BYTES: u64 = 32 << 10;
pub(super) const COMMAND_BYTES: u64 = 8 << 10;
pub(super) const STATUS_BYTES: u64 = 4 << 10;
/// Event log, PPR log and completion store of one IOMMU.
pub(super) const IOMMU_BYTES: u64 = (8 + 8 + 4) << 10;

/// What is being taken, step by step.
pub(super) struct Plan {
    space: Space,
    pub(super) reserved: Vec<Extent>,
    pub(super) assigned: Vec<AssignedRange>,
    pub(super) assumed: Vec<String>,
}

impl Plan {
    pub(super) const fn of(dram: Vec<Extent>) -> Self {
        Self {
            space: Space { free: dram },
            reserved: Vec::new(),
            assigned: Vec::new(),
            assumed: Vec::new(),
        }
    }

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
    pub(super) fn smm(&mut self) -> Vec<Extent> {
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

    pub(super) fn segmented(
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

    pub(super) fn contiguous(
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
    pub(super) fn host_low(&mut self) -> u64 {
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

    pub(super) fn tmr(&mut self) -> Result<(), BootError> {
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
    pub(super) fn firmware_pages(&mut self, sockets: u32) -> Result<(), BootError> {
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
    pub(super) fn host_share(&mut self, memory: &PhysicalMemory) -> u64 {
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
