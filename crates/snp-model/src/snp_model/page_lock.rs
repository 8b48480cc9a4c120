//! A page's entry under the lock of its block: what guests, VMRUN and the firmware change.

use crate::snp_defs::{PageSize, Pfn, RmpEntry, PAGES_PER_LARGE_PAGE};
use crate::snp_model::block_lock::Held;
use crate::snp_model::rmp::{index_in_block, is_large, lines_with_head};
use crate::snp_model::{Block, BlockView, NeighbourRace, Rmp, Storage};

/// Why a page's block could not be locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LockFailure {
    /// The page has no entry.
    NotCovered,
    /// Another instruction is at work in the block.
    Busy,
}

/// A covered page, its block locked unless it is uniform.
#[derive(Debug)]
pub(super) struct LockedPage<'a> {
    view: BlockView<'a>,
    held: Option<Held<'a>>,
    index: u64,
}

/// What an RMP entry says of one page: of a page inside a 2M page, the head speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Governing {
    /// The entry that counts.
    pub(super) entry: RmpEntry,
    /// The guest page number of this very page.
    pub(super) gpa_page: u64,
    /// RMP cache lines read to know it.
    pub(super) lines: u32,
}

impl Governing {
    pub(super) fn of(head: RmpEntry, own: RmpEntry, index: u64) -> Self {
        let lines = lines_with_head(index);
        if is_large(head) {
            Self { entry: head, gpa_page: head.gpa_page().wrapping_add(index), lines }
        } else {
            Self { entry: own, gpa_page: own.gpa_page(), lines }
        }
    }

    pub(super) const fn size(&self) -> PageSize {
        self.entry.page_size()
    }
}

impl LockedPage<'_> {
    /// The entry at a position of the block.
    pub(super) fn at(&self, index: u64) -> RmpEntry {
        self.view.entry(index)
    }

    /// The page's own entry.
    pub(super) fn own(&self) -> RmpEntry {
        self.at(self.index)
    }

    pub(super) fn governing(&self) -> Governing {
        Governing::of(self.at(0), self.own(), self.index)
    }

    /// Position of the entry that governs the page.
    fn governing_index(&self) -> u64 {
        if is_large(self.at(0)) {
            0
        } else {
            self.index
        }
    }

    /// The block has memory of its own, so that entries can be written.
    pub(super) const fn is_writable(&self) -> bool {
        self.held.is_some()
    }

    /// Writes the entry at a position. Nothing happens in a uniform block.
    pub(super) fn put(&self, index: u64, entry: RmpEntry) {
        if let Some(held) = &self.held {
            held.store(index % PAGES_PER_LARGE_PAGE, entry);
        }
    }

    /// Writes the entry that governs the page.
    pub(super) fn put_governing(&self, entry: RmpEntry) {
        self.put(self.governing_index(), entry);
    }
}

impl<S: Storage> Rmp<S> {
    /// Locks the page's block, waiting as instructions do.
    pub(super) fn lock(&self, pfn: Pfn) -> Result<LockedPage<'_>, LockFailure> {
        self.lock_as(pfn, self.choices().neighbour_race)
    }

    pub(super) fn lock_as(
        &self,
        pfn: Pfn,
        race: NeighbourRace,
    ) -> Result<LockedPage<'_>, LockFailure> {
        if !self.covers(pfn) {
            return Err(LockFailure::NotCovered);
        }
        let view = self.storage().block(Block::of(pfn));
        let held = match view {
            BlockView::Uniform(_) => None,
            BlockView::Dense(words) => Some(Held::take(words, race).ok_or(LockFailure::Busy)?),
        };
        Ok(LockedPage { view, held, index: index_in_block(pfn) })
    }
}
