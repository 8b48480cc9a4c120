//! The common RMPUPDATE in few steps: a 4K page, not a head, that the hypervisor gives or takes back.
//!
//! Nothing is decided here. Whatever a check might refuse, and whatever is rare, goes back untouched to
//! the full rules in `rmp.rs`, which take the block's lock anew. The order of the checks does not
//! matter where none fails.
//!
//! Few steps, because what an update costs is the wait for two lines of the RMP: a CPU waits for the
//! lines of as many updates at once as it has instructions of them in view.

use crate::snp_defs::{Pfn, RmpEntry, RmpOperand, RmpStatus, Spa, PAGE_BYTES, PAGE_SHIFT};
use crate::snp_model::block_lock::BLOCK_BUSY;
use crate::snp_model::rmp::{index_in_block, lines_with_head};
use crate::snp_model::sync::{as_long_as, store_over_others, Ordering};
use crate::snp_model::{Block, BlockView, Issuer, Rmp, Storage, Update, ASIDS, WORDS_PER_BLOCK};

/// What the two kinds look at in an entry: it must be assigned, or not, and nothing else of this.
const STATE: u64 = RmpEntry::ASSIGNED_BIT
    | RmpEntry::PAGE_SIZE_BIT
    | RmpEntry::HYPERVISOR.with_immutable(true).lo
    | RmpEntry::HYPERVISOR.with_lock(true).lo;

/// The flags of an operand as one word: `assigned` is bit 0, what is not of the common kind above it.
#[inline]
fn flags(operand: &RmpOperand) -> u32 {
    u32::from_le_bytes([operand.assigned, operand.page_size, operand.immutable, operand.reserved])
}

impl<S: Storage> Rmp<S> {
    /// RMPUPDATE, if it is of the common kind; then it clears RMPOPT's bits. `None`: it is not, and
    /// nothing happened.
    #[inline]
    pub(super) fn update_4k(
        &self,
        issuer: Issuer,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Option<Update> {
        let bad_gpa = operand.gpa & !(RmpEntry::MAX_GPA_PAGE << PAGE_SHIFT);
        let unaligned = spa.get() & (PAGE_BYTES - 1);
        if bad_gpa | unaligned | u64::from(issuer.asid) != 0 || self.choices().defect.is_some() {
            return None;
        }
        match (flags(operand), operand.asid) {
            (0, 0) => self.turn::<false>(spa.pfn(), RmpEntry::HYPERVISOR),
            (1, asid) if asid <= RmpEntry::MAX_ASID => {
                let entry = RmpEntry { lo: 0, hi: RmpEntry::VMPL0_ALL }
                    .with_assigned(true)
                    .with_gpa_page(operand.gpa >> PAGE_SHIFT)
                    .with_asid(asid);
                self.turn::<true>(spa.pfn(), entry)
            }
            _ => None,
        }
    }

    /// Gives a page away (`ASSIGNS`) or takes it back: its entry becomes `new`.
    #[inline]
    fn turn<const ASSIGNS: bool>(&self, pfn: Pfn, new: RmpEntry) -> Option<Update> {
        let index = index_in_block(pfn);
        if index == 0 || !self.coverage().covers(pfn) {
            return None;
        }
        let BlockView::Dense(words) = self.storage().block(Block::of(pfn)) else { return None };
        // With lengths known no access below is held against one.
        let words = as_long_as::<WORDS_PER_BLOCK>(words)?;
        let counters = as_long_as::<ASIDS>(self.storage().asid_counters())?;
        let at = index as usize * 2;
        let (head_lo, head_hi) = (words.first()?, words.get(1)?);
        let (lo, hi) = (words.get(at)?, words.get(at + 1)?);

        let free_hi = head_hi.fetch_or(BLOCK_BUSY, Ordering::Acquire);
        if free_hi & BLOCK_BUSY != 0 {
            return None;
        }
        // A store lets go as well as `fetch_and` does: only the holder changes the head, and one who
        // waits writes back what it read, in one step, before this store or after it.
        let let_go = || store_over_others(head_hi, free_hi);
        let (head, old) = (head_lo.load(Ordering::Acquire), lo.load(Ordering::Acquire));
        let expected = if ASSIGNS { 0 } else { RmpEntry::ASSIGNED_BIT };
        // Of a head the size bit alone tells: it is set in a 2M page only.
        if old & STATE != expected || head & RmpEntry::PAGE_SIZE_BIT != 0 {
            let_go();
            return None;
        }
        // `hi` first, as the firmware does.
        hi.store(new.hi, Ordering::Release);
        lo.store(new.lo, Ordering::Release);
        let one = RmpEntry::SUBPAGE_COUNT_ONE;
        let count = if ASSIGNS { head.wrapping_add(one) } else { head.wrapping_sub(one) };
        head_lo.store(count, Ordering::Release);
        let owner = if ASSIGNS { new.asid() } else { RmpEntry { lo: old, hi: 0 }.asid() };
        if let (true, Some(counter)) = (owner != 0, counters.get(owner as usize)) {
            let step = if ASSIGNS { 1 } else { 1_u64.wrapping_neg() };
            counter.fetch_add(step, Ordering::AcqRel);
        }
        let_go();
        Some(Update {
            status: RmpStatus::SUCCESS,
            lines: lines_with_head(index),
            was_assigned: !ASSIGNS,
            is_assigned: ASSIGNS,
            resized: false,
        })
    }
}
