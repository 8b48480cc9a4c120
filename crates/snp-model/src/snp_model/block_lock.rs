//! The model's own lock on a 2M block, and what another instruction sees of it.
//!
//! It is not the entry's bit 63, which VMRUN and the firmware set and which software sees as
//! `FAIL_INUSE`. Order everywhere: the block's head first, then its entries; no instruction holds two.

use crate::snp_defs::RmpEntry;
use crate::snp_model::sync::{spin_loop, AtomicU64, Ordering};

/// Set in the head's `hi` while an instruction changes the block: the model's own use of one of the
/// reserved bits 48:33, never seen through [`crate::snp_model::Rmp::entry`].
pub(super) const BLOCK_BUSY: u64 = 1 << 48;

/// What an instruction does that meets another one at work in the same 2M block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NeighbourRace {
    /// It waits for the other to end; after [`Self::SPIN_LIMIT`] looks it gives up as below.
    #[default]
    Spin,
    /// It gives up at once, with a code that software repeats for: RMPUPDATE `FAIL_OVERLAP`, PSMASH
    /// `FAIL_INUSE`, a guest's instruction a spurious nested page fault.
    FailOverlap,
}

impl NeighbourRace {
    /// How often a waiting instruction looks before it gives up.
    pub const SPIN_LIMIT: u32 = 1 << 24;

    const fn looks(self) -> u32 {
        match self {
            Self::Spin => Self::SPIN_LIMIT,
            Self::FailOverlap => 0,
        }
    }
}

/// A dense block whose busy bit this instruction holds.
#[derive(Debug)]
pub(super) struct Held<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Held<'a> {
    /// `None` if another instruction holds it, for longer than this one waits.
    pub(super) fn take(words: &'a [AtomicU64], race: NeighbourRace) -> Option<Self> {
        let head = words.get(1)?;
        let mut looks = race.looks();
        while head.fetch_or(BLOCK_BUSY, Ordering::Acquire) & BLOCK_BUSY != 0 {
            loop {
                looks = looks.checked_sub(1)?;
                spin_loop();
                if head.load(Ordering::Relaxed) & BLOCK_BUSY == 0 {
                    break;
                }
            }
        }
        Some(Self { words })
    }

    /// For whoever has the whole table for itself.
    pub(super) const fn alone(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// Writes the entry at a position (0 to 511): `hi` first, as the firmware does.
    pub(super) fn store(&self, index: u64, entry: RmpEntry) {
        let at = index as usize * 2;
        let (Some(lo), Some(hi)) = (self.words.get(at), self.words.get(at + 1)) else { return };
        if index == 0 {
            // The head's `hi` is the lock as well, and most changes leave it alone. It is swapped, so
            // that all writes to it, those of whoever waits included, are in one order for loom too.
            let new = entry.hi | BLOCK_BUSY;
            if hi.load(Ordering::Relaxed) != new {
                hi.swap(new, Ordering::Release);
            }
        } else {
            hi.store(entry.hi & !BLOCK_BUSY, Ordering::Release);
        }
        lo.store(entry.lo, Ordering::Release);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(hi) = self.words.get(1) {
            hi.fetch_and(!BLOCK_BUSY, Ordering::Release);
        }
    }
}
