//! A guest's end, as KVM does it: `#VMEXIT`, WBINVD, `DECOMMISSION`, reclaim of what needs it, memory
//! given back; what cannot be given back leaks (spec/snp-arch.md 6.2, 6.5, case 91).

use rmpopt_core::Event as PolicyEvent;
use snp_defs::{PAGE_BYTES, PAGES_PER_LARGE_PAGE, PageSize, Pfn};

use super::Engine;
use super::convert::{Job, Way};
use super::guests::{State, round_up};
use super::queue::Event;
use crate::memory::Extent;
use crate::report::TimelineKind;
use crate::rmp::{Command, RmpError};
use crate::runs::{by_block, by_region, give, page, pages_of, take, without};
use crate::scenario::GuestKind;
use crate::seeded::Defect;
use crate::words::things;

/// Why a guest ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// It was shut down.
    ShutDown,
    /// Its launch failed half-way.
    LaunchFailed,
}

impl Engine<'_> {
    /// The guest is shut down.
    pub(super) fn end(&mut self, index: usize) {
        if self.guests.get(index).is_some_and(super::guests::Guest::is_there) {
            self.stop(index, Why::ShutDown);
        }
    }

    /// The guest's vCPUs stop; an SNP guest is then decommissioned.
    pub(super) fn stop(&mut self, index: usize, why: Why) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        let ran = guest.state == State::Running;
        guest.state = State::Ending;
        // The launch or slice under way is not completed.
        guest.slice += 1;
        let (name, traced) = (guest.spec.name.clone(), guest.traced);
        let (kind, cpus) = (guest.spec.kind, guest.cpus.clone());
        let save_areas = guest.save_areas.clone();
        self.cpus.release(&cpus);
        self.cpus_changed(index);
        if kind == GuestKind::Ordinary {
            self.meter.slices.ordinary(self.now, &cpus, false);
            self.touches(index, false);
            self.gone(index);
            return;
        }
        if ran && !self.defect(Defect::NoVmexit) {
            for vmsa in
                save_areas.iter().flat_map(|r| (r.first.get()..r.end()).filter_map(Pfn::new))
            {
                self.rmp.vmexit(vmsa);
            }
        }
        if why == Why::ShutDown {
            self.note_guest(traced, || format!("SNP guest {name} shut down"));
        }
        let at = self.now + self.wbinvd() + self.cost.firmware_command;
        self.queue.push(at, Event::Decommissioned(index));
    }

    /// `DECOMMISSION`. Where the firmware refuses, context page and ASID stay as they are for ever.
    pub(super) fn decommission(&mut self, index: usize) -> bool {
        let Some(context) = self.guests.get(index).map(|guest| guest.pages.context) else {
            return false;
        };
        let command = Command::Decommission(context);
        let Err(status) = self.command(command) else { return true };
        self.leak(index, page(context), format!("{}: {status}", command.name()));
        if let Some(guest) = self.guests.get_mut(index) {
            guest.asid_lost = true;
        }
        false
    }

    /// The firmware lets the guest go; its pages are given back from now on.
    pub(super) fn decommissioned(&mut self, index: usize) -> Result<(), RmpError> {
        if self.decommission(index)
            && let Some(context) = self.guests.get(index).map(|guest| guest.pages.context)
        {
            self.reclaim(index, context)?;
        }
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        // What was still to become private is not touched; what was to become shared still is.
        let mut private = std::mem::take(&mut guest.private);
        for job in guest.jobs.drain(..) {
            if job.way == Way::Shared {
                give(&mut private, &job.rest());
            }
        }
        let save_areas = std::mem::take(&mut guest.save_areas);
        let size = guest.backing();
        let wanted = round_up(guest.leak_pages * PAGE_BYTES, size) / PAGE_BYTES;
        let jammed = wanted.min(pages_of(&private));
        let jammed = take(&mut private.clone(), pages_of(&private) - jammed, jammed);
        let kernel_pages = 1 + pages_of(&save_areas);
        guest.jobs.push_back(Job::new(Way::Shared, private));
        for run in jammed {
            self.jam(run)?;
        }
        for (region, part) in save_areas.iter().copied().flat_map(by_region) {
            self.give_back(index, region, part, PageSize::Size4K)?;
        }
        self.tell(PolicyEvent::GuestDecommissioned);
        let cost = &self.cost;
        let from =
            self.now + cost.firmware_command + kernel_pages * (cost.to_shared_4k + cost.rmpupdate);
        self.next_slice(index, from);
        Ok(())
    }

    /// Entries of these pages will refuse every RMPUPDATE.
    fn jam(&mut self, run: Extent) -> Result<(), RmpError> {
        for part in by_block(run) {
            let entries = if self.rmp.block(part.first).large { 1 } else { part.pages };
            let pages = part.first.get()..part.first.get() + entries;
            for pfn in pages.filter_map(Pfn::new) {
                self.rmp.jam(pfn)?;
            }
        }
        Ok(())
    }

    /// A page that is immutable goes back: `PAGE_RECLAIM`, then RMPUPDATE. Where either fails it leaks.
    pub(super) fn reclaim(&mut self, index: usize, pfn: Pfn) -> Result<(), RmpError> {
        let command = Command::PageReclaim(pfn);
        if let Err(status) = self.command(command) {
            self.leak(index, page(pfn), format!("{}: {status}", command.name()));
            return Ok(());
        }
        self.give_back(index, pfn.region(), page(pfn), PageSize::Size4K)
    }

    /// Pages that could not be given back: they stay assigned and are never used again.
    pub(super) fn leak(&mut self, index: usize, run: Extent, reason: String) {
        let ops = &mut self.meter.counts.guests;
        ops.reclaim_failures += 1;
        ops.leaked_pages += run.pages;
        if let Some(guest) = self.guests.get_mut(index) {
            give(&mut guest.leaked, &[run]);
            guest.leak_reason.get_or_insert(reason);
        }
    }

    /// Some pages of this guest will not be given back.
    pub(super) fn will_leak(&mut self, index: usize, pages: u64) {
        if let Some(guest) = self.guests.get_mut(index) {
            guest.leak_pages += pages;
        }
    }

    /// The guest's ASID may be used again once it was flushed, unless it is lost.
    pub(super) fn retire_asid(&mut self, index: usize) {
        let Some(guest) = self.guests.get(index) else { return };
        if !guest.asid_lost {
            self.asids.retire(guest.asid);
        }
    }

    /// Everything allocated for the guest is free again but for what leaked, which keeps its whole
    /// 2 MiB blocks.
    pub(super) fn free_all(&mut self, index: usize) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        let mut memory = std::mem::take(&mut guest.memory);
        let mut kernel = std::mem::take(&mut guest.kernel);
        let leaked = guest.leaked.clone();
        if leaked.is_empty() || !self.defect(Defect::LeakFreed) {
            for run in &leaked {
                let (first, end) = (run.first.head().get(), run.end());
                let end = end.next_multiple_of(PAGES_PER_LARGE_PAGE);
                memory = without(&memory, first, end);
                kernel = without(&kernel, first, end);
            }
        }
        self.free_memory(&kernel);
        self.free_memory(&memory);
    }

    /// Nothing of the guest is left but what it leaked.
    pub(super) fn gone(&mut self, index: usize) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.state = State::Gone;
        let (traced, bytes) = (guest.traced, guest.spec.memory);
        let (name, kind) = (guest.spec.name.clone(), guest.spec.kind);
        let leaked = pages_of(&guest.leaked);
        let reason = guest.leak_reason.take().unwrap_or_default();
        self.free_all(index);
        self.held_bytes(traced, bytes, false);
        if kind == GuestKind::Ordinary {
            self.note_guest(traced, || format!("ordinary guest {name} ended"));
        } else {
            self.retire_asid(index);
            self.tell(PolicyEvent::GuestMemoryFreed);
            if leaked > 0 {
                let stay = if leaked == 1 { "stays" } else { "stay" };
                let pages = things(leaked, "page");
                self.note(
                    TimelineKind::Guest,
                    format!(
                        "{name}: {pages} could not be given back ({reason}) and {stay} assigned"
                    ),
                );
            }
            let rest = if leaked > 0 { "all else of" } else { "all" };
            self.note_guest(traced, || format!("{name}: {rest} its memory is shared again"));
        }
        self.guest_gone();
    }
}
