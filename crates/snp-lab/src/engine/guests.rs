//! Guests: what the host keeps of each, and how one comes to have memory.

use std::collections::VecDeque;

use snp_defs::{LARGE_PAGE_BYTES, PAGE_BYTES, PAGES_PER_LARGE_PAGE, PageSize, Pfn};

use super::convert::Job;
use super::{Engine, REJECTED_NOTES, laws};
use crate::memory::Extent;
use crate::placement::Request;
use crate::report::TimelineKind;
use crate::rmp::RmpError;
use crate::runs::{by_block, by_region, give, page};
use crate::scenario::{GuestKind, GuestSpec, Placement};
use crate::words::size as size_of;

/// The most vCPUs of a guest, and so its most save areas (`KVM_MAX_VCPUS` of x86).
const VCPUS_MAX: u64 = 4096;

/// Where a guest is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Future,
    /// It has memory; an SNP guest's launch is under way.
    Launching,
    Running,
    /// Its CPUs have stopped; memory is being given back.
    Ending,
    Gone,
}

/// Kernel pages of an SNP guest.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelPages {
    pub(super) context: Pfn,
    /// One page for each vCPU.
    pub(super) save_areas: Vec<Extent>,
    /// As many.
    pub(super) vmcbs: Vec<Extent>,
}

/// One guest.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) spec: GuestSpec,
    /// It comes from a trace.
    pub(super) traced: bool,
    pub(super) state: State,
    /// Everything allocated for it.
    pub(super) memory: Vec<Extent>,
    /// Blocks of the kernel's that hold what belongs to it.
    pub(super) kernel: Vec<Extent>,
    pub(super) pages: KernelPages,
    /// Save areas that are assigned.
    pub(super) save_areas: Vec<Extent>,
    pub(super) private: Vec<Extent>,
    pub(super) shared: Vec<Extent>,
    /// Pages, memory or kernel's, that could not be given back, and why the first could not.
    pub(super) leaked: Vec<Extent>,
    pub(super) leak_reason: Option<String>,
    pub(super) cpus: Vec<u32>,
    pub(super) asid: u32,
    /// Its ASID cannot be used again.
    pub(super) asid_lost: bool,
    pub(super) jobs: VecDeque<Job>,
    /// Pages that the scenario wants to leak.
    pub(super) leak_pages: u64,
    /// Number of the slice, or launch, under way: an event of another one is void.
    pub(super) slice: u64,
    /// Why it could not be had.
    pub(super) refusal: Option<String>,
}

impl Guest {
    pub(super) fn new(spec: GuestSpec, traced: bool) -> Self {
        Self {
            spec,
            traced,
            state: State::Future,
            memory: Vec::new(),
            kernel: Vec::new(),
            pages: KernelPages::default(),
            save_areas: Vec::new(),
            private: Vec::new(),
            shared: Vec::new(),
            leaked: Vec::new(),
            leak_reason: None,
            cpus: Vec::new(),
            asid: 0,
            asid_lost: false,
            jobs: VecDeque::new(),
            leak_pages: 0,
            slice: 0,
            refusal: None,
        }
    }

    /// It was launched, or is being, and has not ended.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.state, State::Launching | State::Running)
    }

    /// An SNP guest that still holds pages.
    pub(super) fn holds_pages(&self) -> bool {
        self.spec.kind == GuestKind::Snp && (self.is_there() || self.state == State::Ending)
    }

    /// Size of the pages its memory is made of, as the RMP knows sizes: there is none above 2 MiB.
    pub(super) fn backing(&self) -> PageSize {
        match self.spec.placement {
            Placement::Pages4K | Placement::Scattered4K => PageSize::Size4K,
            Placement::Pages2M | Placement::Scattered2M | Placement::Pages1G => PageSize::Size2M,
        }
    }

    /// Save areas that it has.
    pub(super) fn vcpus(&self) -> u64 {
        u64::from(self.spec.vcpus).min(VCPUS_MAX)
    }

    /// Pages of the kernel's for it: a context page, and a VMCB and a save area for each vCPU, of which
    /// none may be 2 MiB aligned (a page in use would lock its block: spec/snp-arch.md 5.5).
    fn kernel_bytes(&self) -> u64 {
        let small = 2 * self.vcpus();
        (1 + small + small / (PAGES_PER_LARGE_PAGE - 1)) * PAGE_BYTES
    }
}

/// Shares out a guest's kernel pages.
fn kernel_pages(blocks: &[Extent], vcpus: u64) -> KernelPages {
    let all = blocks.iter().flat_map(|run| (run.first.get()..run.end()).filter_map(Pfn::new));
    let mut small = all.filter(|pfn| !pfn.is_head()).map(page);
    let mut some = || {
        let mut runs = Vec::new();
        give(&mut runs, &small.by_ref().take(vcpus as usize).collect::<Vec<_>>());
        runs
    };
    let context = blocks.first().map_or(Pfn::default(), |run| run.first);
    KernelPages { context, save_areas: some(), vmcbs: some() }
}

/// How a guest's memory lies, for people.
const fn lies(placement: Placement) -> &'static str {
    match placement {
        Placement::Pages4K => "4 KiB pages",
        Placement::Pages2M => "2 MiB pages",
        Placement::Pages1G => "1 GiB pages",
        Placement::Scattered4K => "scattered 4 KiB pages",
        Placement::Scattered2M => "scattered 2 MiB pages",
    }
}

/// Bytes rounded up to whole pages of a size.
pub(super) fn round_up(bytes: u64, size: PageSize) -> u64 {
    bytes.div_ceil(size.bytes()) * size.bytes()
}

impl Engine<'_> {
    /// The guest's time has come.
    pub(super) fn launch(&mut self, index: usize) -> Result<(), RmpError> {
        let Some(guest) = self.guests.get(index) else { return Ok(()) };
        let (spec, traced) = (guest.spec.clone(), guest.traced);
        let (kernel_bytes, vcpus) = (guest.kernel_bytes(), guest.vcpus());
        let snp = spec.kind == GuestKind::Snp;
        if snp && (!self.ledger.is_up() || self.shutting_down) {
            let why = if self.shutting_down { "SNP is going down" } else { "SNP is not up" };
            self.reject(index, why);
            return Ok(());
        }
        let request = Request { bytes: spec.memory, placement: spec.placement, node: spec.node };
        let order = self.advised(&spec);
        let memory = match self.allocator.allocate_in(request, &order, &mut self.rng) {
            Ok(memory) => memory,
            Err(error) => {
                self.reject(index, &error.to_string());
                return Ok(());
            }
        };
        self.check_given_out(&memory)?;
        let mut launch_ns = None;
        if snp {
            // Ordinary kernel memory.
            let small =
                Request { bytes: kernel_bytes, placement: Placement::Pages4K, node: spec.node };
            let kernel = match self.allocator.allocate(small, &mut self.rng) {
                Ok(kernel) => kernel,
                Err(error) => {
                    self.free_memory(&memory);
                    self.reject(index, &format!("save areas: {error}"));
                    return Ok(());
                }
            };
            self.check_given_out(&kernel)?;
            if let Some(guest) = self.guests.get_mut(index) {
                guest.pages = kernel_pages(&kernel, vcpus);
                guest.kernel = kernel;
                guest.memory = memory;
            }
            match self.begin_launch(index)? {
                Ok(took) => launch_ns = Some(took),
                Err(why) => {
                    self.free_all(index);
                    self.reject(index, &why);
                    return Ok(());
                }
            }
        } else if let Some(guest) = self.guests.get_mut(index) {
            guest.memory = memory;
        }
        let cpus = self.cpus.place(spec.vcpus, spec.node);
        self.held_bytes(traced, spec.memory, true);
        self.admit(traced, spec.kind);
        let what = if snp { "SNP guest" } else { "ordinary guest" };
        self.note_guest(traced, || {
            format!(
                "{what} {} launched: {} in {}",
                spec.name,
                size_of(spec.memory),
                lies(spec.placement)
            )
        });
        let now = self.now;
        if !snp {
            self.meter.slices.ordinary(now, &cpus, true);
            self.touches(index, true);
        }
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        guest.cpus = cpus;
        guest.state = if snp { State::Launching } else { State::Running };
        if let Some(took) = launch_ns {
            guest.slice += 1;
            let slice = guest.slice;
            let event = super::queue::Event::Launched { guest: index, slice };
            self.queue.push(now.saturating_add(took), event);
        }
        self.cpus_changed(index);
        Ok(())
    }

    /// An ordinary guest touches its memory, the first of it if not all, or no longer.
    pub(super) fn touches(&mut self, index: usize, begins: bool) {
        let Some(guest) = self.guests.get(index) else { return };
        let mut left = guest.spec.touched / PAGE_BYTES;
        for (region, part) in guest.memory.iter().copied().flat_map(by_region) {
            let pages = part.pages.min(left);
            left -= pages;
            self.ledger.writes.touched(region.index(), pages * PAGE_BYTES, begins);
        }
    }

    pub(super) fn reject(&mut self, index: usize, why: &str) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.state = State::Gone;
        guest.refusal = Some(why.to_owned());
        self.note_rejected(index, why);
    }

    /// Tells and counts that the guest could not be had.
    pub(super) fn note_rejected(&mut self, index: usize, why: &str) {
        let Some(guest) = self.guests.get(index) else { return };
        let (name, traced, memory) = (guest.spec.name.clone(), guest.traced, guest.spec.memory);
        if traced {
            self.trace.rejected += 1;
        }
        self.rejected += 1;
        if self.rejected <= REJECTED_NOTES {
            let text = format!("guest {name} rejected ({}): {why}", size_of(memory));
            self.note(TimelineKind::Guest, text);
        } else {
            self.untold += 1;
        }
    }

    /// Memory that was given out must be the hypervisor's: a page that leaked never comes back.
    fn check_given_out(&self, memory: &[Extent]) -> Result<(), RmpError> {
        for (region, part) in memory.iter().copied().flat_map(by_region) {
            let book = self.ledger.regions.get(region.index());
            if book.is_none_or(|book| book.assigned == 0) {
                continue;
            }
            for block in by_block(part) {
                if self.rmp.block(block.first).assigned > 0 {
                    return Err(RmpError::GivenOut { block: block.first.head().spa() });
                }
            }
        }
        Ok(())
    }

    pub(super) fn free_memory(&mut self, memory: &[Extent]) {
        // What was allocated can be freed; a failure would be a fault of the books.
        if let Err(error) = self.allocator.free(memory) {
            self.breach(laws::CLEAN_EXIT, || format!("memory could not be freed: {error}"));
        }
    }

    /// vCPUs came or went: cores that wait for an interrupt may have ticks now, or none any more.
    pub(super) fn cpus_changed(&mut self, index: usize) {
        let cpus = self.guests.get(index).map(|guest| guest.cpus.clone()).unwrap_or_default();
        let mut cores: Vec<_> =
            cpus.into_iter().filter_map(|cpu| self.topology.core_of(cpu)).collect();
        cores.dedup();
        for core in cores {
            self.queue_turn(rmpopt_core::CoreId(core as u16));
        }
    }
}

const _: () = assert!(LARGE_PAGE_BYTES == PAGES_PER_LARGE_PAGE * PAGE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_pages_are_enough_and_none_in_use_is_aligned() {
        for vcpus in [1, 2, 255, 256, 300, 511, 4096] {
            let small = 2 * vcpus;
            let pages = 1 + small + small / (PAGES_PER_LARGE_PAGE - 1);
            let blocks = [Extent { first: Pfn::new(1024).unwrap(), pages }];
            let kernel = kernel_pages(&blocks, vcpus);
            assert_eq!(kernel.context, blocks[0].first);
            for runs in [&kernel.save_areas, &kernel.vmcbs] {
                assert_eq!(runs.iter().map(|run| run.pages).sum::<u64>(), vcpus);
                for run in runs {
                    assert!((run.first.get()..run.end()).all(|pfn| pfn % 512 != 0));
                }
            }
        }
    }
}
