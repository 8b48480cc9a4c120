//! What KVM does to the RMP for a guest's memory (`sev_gmem_prepare`, `sev_gmem_invalidate`,
//! `sev_handle_rmp_fault`), what the guest does (PVALIDATE), and what follows from each RMPUPDATE for
//! the lab's books and the laws (spec/snp-arch.md 3.5, 6.3 to 6.5).

use snp_defs::{PAGES_PER_LARGE_PAGE, PageSize, Pfn, Region, RmpStatus};

use super::convert::{Manner, Piece};
use super::{Engine, laws};
use crate::memory::Extent;
use crate::rmp::{Owner, RmpError, Unvalidated, Updated};
use crate::runs::{by_region, in_first_block, skip, start};
use crate::seeded::Defect;

/// How often an instruction is repeated that was refused because of another one at work. Linux repeats
/// RMPUPDATE for ever (spec/snp-arch.md case 14): a refusal that stays is a soft lockup there, and a
/// failure here.
const TRIES: u32 = 8;

impl Engine<'_> {
    /// Pages of a guest become private: the host prepares them, the guest accepts them.
    pub(super) fn make_private(
        &mut self,
        index: usize,
        manner: Manner,
        piece: &Piece,
    ) -> Result<(), RmpError> {
        let Some(asid) = self.guests.get(index).map(|guest| guest.asid) else { return Ok(()) };
        let size = if piece.large { PageSize::Size2M } else { PageSize::Size4K };
        for (region, part) in by_region(piece.run) {
            self.assign(region, part, size, Owner::Guest(asid))?;
        }
        match self.validate(asid, piece.run, manner.asks(piece), true)? {
            None => Ok(()),
            Some((page, stop)) => Err(RmpError::Validate { page: page.spa(), stop }),
        }
    }

    /// Pages of a guest become shared: the guest, if it is there, rescinds them, the host takes them.
    pub(super) fn make_shared(
        &mut self,
        index: usize,
        manner: Manner,
        piece: &Piece,
    ) -> Result<(), RmpError> {
        let Some(asid) = self.guests.get(index).map(|guest| guest.asid) else { return Ok(()) };
        if manner.guest {
            // Where it cannot, the host takes the pages all the same: nothing obliges a guest.
            self.validate(asid, piece.run, manner.asks(piece), false)?;
        }
        for (region, part) in by_region(piece.run) {
            self.invalidate(index, region, part)?;
        }
        Ok(())
    }

    /// PVALIDATE of a run by its guest, in the size asked for as far as the RMP's entries allow.
    /// Returns where it was stopped for good.
    fn validate(
        &mut self,
        asid: u32,
        run: Extent,
        size: PageSize,
        on: bool,
    ) -> Result<Option<(Pfn, Unvalidated)>, RmpError> {
        let (mut left, mut tries) = (run, 0);
        while left.pages > 0 {
            let validated = self.rmp.pvalidate(asid, left, size, on)?;
            let ops = &mut self.meter.counts.guests;
            ops.pvalidates += validated.instructions;
            ops.size_mismatches += validated.mismatches;
            left = skip(left, validated.pages);
            if validated.pages > 0 {
                tries = 0;
            }
            match validated.stop {
                None => break,
                Some(Unvalidated::SizeMismatch) if tries < TRIES => {
                    ops.sizem_faults += 1;
                    tries += 1;
                    self.handle_rmp_fault(left.first)?;
                }
                Some(stop) => return Ok(Some((left.first, stop))),
            }
        }
        Ok(None)
    }

    /// A nested page fault with SIZEM. Linux splits the entry if it is one of 2 MiB; else the fault was
    /// spurious.
    fn handle_rmp_fault(&mut self, page: Pfn) -> Result<(), RmpError> {
        if self.rmp.block(page).large {
            self.psmash(page.head())?;
        }
        Ok(())
    }

    /// PSMASH, repeated while the entry is in use.
    fn psmash(&mut self, head: Pfn) -> Result<(), RmpError> {
        if self.defect(Defect::NoPsmash) {
            return Ok(());
        }
        for _ in 0..TRIES {
            let status = self.rmp.psmash(head)?;
            self.meter.counts.guests.psmashes += u64::from(status.is_success());
            if status != RmpStatus::FAIL_INUSE {
                break;
            }
        }
        Ok(())
    }

    /// The host takes pages of one region back: a 2 MiB entry whole if the run covers it, else it is
    /// split first.
    pub(super) fn invalidate(
        &mut self,
        index: usize,
        region: Region,
        run: Extent,
    ) -> Result<(), RmpError> {
        let mut left = run;
        while left.pages > 0 {
            let pages = in_first_block(left);
            let large = self.rmp.block(left.first).large;
            let whole = large && pages == PAGES_PER_LARGE_PAGE;
            if large && !whole {
                self.psmash(left.first.head())?;
            }
            // What follows and is the same goes along.
            let mut same = pages;
            while same < left.pages && large == whole {
                let next = skip(left, same);
                let pages = in_first_block(next);
                let large = self.rmp.block(next.first).large;
                if large != whole || (large && pages != PAGES_PER_LARGE_PAGE) {
                    break;
                }
                same += pages;
            }
            let size = if whole { PageSize::Size2M } else { PageSize::Size4K };
            self.give_back(index, region, start(left, same), size)?;
            left = skip(left, same);
        }
        Ok(())
    }

    /// RMPUPDATEs that assign pages of one region, and what follows from them.
    pub(super) fn assign(
        &mut self,
        region: Region,
        run: Extent,
        size: PageSize,
        to: Owner,
    ) -> Result<(), RmpError> {
        let empty = self.ledger.regions.get(region.index()).is_some_and(|b| b.assigned == 0);
        let mut rest = run;
        if empty {
            // Law 1 holds from the completion of this very update on.
            let first = start(run, size.pages());
            self.must_update(first, size, to)?;
            let left = self.check_cleared(region);
            self.ledger.assigned(region.index(), first.pages, Some(left));
            rest = skip(run, first.pages);
        }
        if rest.pages > 0 {
            self.must_update(rest, size, to)?;
            self.ledger.assigned(region.index(), rest.pages, None);
        }
        self.probe_write(region, run.first, true);
        if self.policy.tick_ns().is_some() {
            let first = self.activity.lost(region);
            self.marked(first);
        }
        Ok(())
    }

    /// RMPUPDATEs that make pages of one region shared, and what follows from them. What is refused
    /// leaks.
    pub(super) fn give_back(
        &mut self,
        index: usize,
        region: Region,
        run: Extent,
        size: PageSize,
    ) -> Result<(), RmpError> {
        let mut left = run;
        while left.pages > 0 {
            let updated = self.rmpupdate(left, size, Owner::Hypervisor)?;
            let done = start(left, updated.done * size.pages());
            if done.pages > 0 {
                self.given_back(region, done);
            }
            left = skip(left, done.pages);
            if !updated.status.is_success() {
                let reason = format!("RMPUPDATE: {}", updated.status);
                self.leak(index, start(left, size.pages()), reason);
                left = skip(left, size.pages());
            }
        }
        Ok(())
    }

    fn given_back(&mut self, region: Region, run: Extent) {
        if let Some(freed) = self.ledger.given_back(self.now, region.index(), run.pages) {
            self.oracle_freed(region, freed);
            self.watch_liveness(region, freed);
        }
        self.probe_write(region, run.first, false);
        if self.policy.tick_ns().is_some() {
            let first = self.activity.became_shared(region);
            self.marked(first);
        }
    }

    /// RMPUPDATEs, counted; an overlap with a neighbour's work is tried again.
    fn rmpupdate(&mut self, run: Extent, size: PageSize, to: Owner) -> Result<Updated, RmpError> {
        let mut sum = Updated { done: 0, status: RmpStatus::SUCCESS };
        for _ in 0..TRIES {
            let left = skip(run, sum.done * size.pages());
            let updated = self.rmp.update(left, size, to)?;
            sum = Updated { done: sum.done + updated.done, status: updated.status };
            if updated.status != RmpStatus::FAIL_OVERLAP {
                break;
            }
        }
        self.meter.counts.rmpupdates += sum.done;
        Ok(sum)
    }

    /// RMPUPDATEs that the lab's books allow.
    fn must_update(&mut self, run: Extent, size: PageSize, to: Owner) -> Result<(), RmpError> {
        let updated = self.rmpupdate(run, size, to)?;
        if updated.status.is_success() {
            return Ok(());
        }
        let status = updated.status;
        Err(RmpError::Update { first: run.first.spa(), pages: run.pages, status })
    }

    /// Law 1 after the first update that assigned a page of `region`. Returns how many covering
    /// cores still have its bit.
    fn check_cleared(&mut self, region: Region) -> u32 {
        let set: Vec<_> = (0..self.driver.enabled.len() as u16)
            .map(rmpopt_core::CoreId)
            .filter(|core| {
                self.rmp.unit().is_optimised(snp_model::CoreId(u32::from(core.0)), region)
            })
            .collect();
        self.check(laws::SAFETY, set.is_empty(), || {
            format!("{} cores have region {region} optimised after a page was assigned", set.len())
        });
        set.into_iter().filter(|&core| self.covers(core, region)).count() as u32
    }

    /// Law 2: a write to a page of the conversion meets what the RMP says, RMPOPT or not.
    fn probe_write(&mut self, region: Region, page: Pfn, assigned: bool) {
        let cores = self.driver.enabled.len() as u32;
        let core = snp_model::CoreId(self.probe % cores.max(1));
        self.probe = self.probe.wrapping_add(1);
        let verdicts = self.rmp.write(core, page.spa());
        let refused = verdicts.rmp_alone != snp_model::Verdict::Allowed;
        let holds = verdicts.with_rmpopt == verdicts.rmp_alone && refused == assigned;
        self.check(laws::REFINEMENT, holds, || {
            format!("a write to {} in region {region} met {verdicts:?}", page.spa())
        });
    }
}
