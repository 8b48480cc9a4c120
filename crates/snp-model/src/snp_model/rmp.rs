//! The Reverse Map Table and the instructions that change and read it: RMPUPDATE, RMPREAD (PSMASH: `psmash.rs`).
//!
//! Source: spec/snp-arch.md 2.4, 2.6, 3.3, 3.7, 3.9. Choices where it is silent: docs/not-modelled.md.

use crate::snp_defs::{
    Gpa, PageSize, PageState, Pfn, RmpEntry, RmpOperand, RmpStatus, Spa, LARGE_PAGES_PER_REGION,
    PAGES_PER_LARGE_PAGE, PAGES_PER_REGION, PAGE_SHIFT,
};
use crate::snp_model::block_lock::{Held, BLOCK_BUSY};
use crate::snp_model::page_lock::LockFailure;
use crate::snp_model::sync::{spin_loop, Ordering};
use crate::snp_model::{
    Block, BlockView, Choices, Coverage, Defect, Fill, FreeWithOwner, NeighbourRace, OutOfMemory,
    PfnRange, Stop, Storage, BLOCKS_PER_REGION,
};

/// Entries in a 64-byte line of the RMP.
const ENTRIES_PER_LINE: u64 = 64 / RmpEntry::BYTES;

/// Lines that hold a block's 512 entries.
pub(super) const LINES_PER_BLOCK: u32 = (PAGES_PER_LARGE_PAGE / ENTRIES_PER_LINE) as u32;

/// Who runs an instruction: the host, or a guest with its ASID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Issuer {
    /// 0 for the host.
    pub asid: u32,
}

impl Issuer {
    /// The host (ASID 0).
    pub const HOST: Self = Self { asid: 0 };
}

/// One of RMPUPDATE's checks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Check {
    /// `FAIL_INPUT`: alignment, coverage, reserved bits, an unassigned page with owner.
    Input,
    /// `FAIL_PERMISSION`: run inside a guest.
    Issuer,
    /// `FAIL_INUSE`: the addressed entry is locked.
    Lock,
    /// `FAIL_PERMISSION`: the addressed entry is immutable.
    Immutable,
    /// `FAIL_OVERLAP`: 4K inside a 2M entry, or 2M over a block with an assigned 4K entry.
    Overlap,
    /// `FAIL_INUSE`: 2M over a free block in which another entry is locked.
    SubpageLock,
    /// `FAIL_PERMISSION`: 2M over a free block in which another entry is immutable (HV-fixed).
    SubpageImmutable,
}

/// The order of RMPUPDATE's checks: the first that fails gives the code.
///
/// No source states it (spec/snp-arch.md 3.9), hence a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateOrder(pub [Check; 7]);

impl UpdateOrder {
    /// The order suggested in spec/snp-arch.md 3.9.
    pub const SUGGESTED: Self = Self([
        Check::Input,
        Check::Issuer,
        Check::Lock,
        Check::Immutable,
        Check::Overlap,
        Check::SubpageLock,
        Check::SubpageImmutable,
    ]);

    /// Immutable before lock.
    pub const IMMUTABLE_FIRST: Self = Self([
        Check::Input,
        Check::Issuer,
        Check::Immutable,
        Check::Lock,
        Check::Overlap,
        Check::SubpageImmutable,
        Check::SubpageLock,
    ]);

    /// Overlap before lock and immutable.
    pub const OVERLAP_FIRST: Self = Self([
        Check::Input,
        Check::Issuer,
        Check::Overlap,
        Check::Lock,
        Check::Immutable,
        Check::SubpageLock,
        Check::SubpageImmutable,
    ]);
}

impl Default for UpdateOrder {
    fn default() -> Self {
        Self::SUGGESTED
    }
}

/// What an RMPUPDATE did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Update {
    /// EAX.
    pub status: RmpStatus,
    /// RMP cache lines (64 bytes) touched.
    pub lines: u32,
    /// The page was assigned before. False if the instruction failed.
    pub was_assigned: bool,
    /// The page is assigned now. False if the instruction failed.
    pub is_assigned: bool,
    /// A page assigned before and after has another size now.
    pub resized: bool,
}

impl Update {
    pub(super) const fn failed(status: RmpStatus, lines: u32) -> Self {
        Self { status, lines, was_assigned: false, is_assigned: false, resized: false }
    }

    /// Whether this update clears RMPOPT bits and the cached scan result of its region.
    pub const fn clears_rmpopt(&self) -> bool {
        self.was_assigned || self.is_assigned || self.resized
    }
}

/// What an RMPREAD gave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RmpRead {
    /// EAX.
    pub status: RmpStatus,
    /// What it wrote to memory; all zero if it failed.
    pub operand: RmpOperand,
    /// RMP cache lines (64 bytes) touched.
    pub lines: u32,
}

/// An RMP: its entries, which pages it covers, and the instructions.
#[derive(Debug)]
pub struct Rmp<S> {
    storage: S,
    coverage: Coverage,
    order: UpdateOrder,
    choices: Choices,
}

/// What RMPUPDATE's checks look at.
struct Request<'a> {
    issuer: Issuer,
    spa: Spa,
    operand: &'a RmpOperand,
    free_with_owner: FreeWithOwner,
    /// Entries of the addressed block, absent if the page is not covered.
    target: Option<Target<'a>>,
}

/// The addressed block.
#[derive(Clone, Copy)]
struct Target<'a> {
    view: BlockView<'a>,
    index: u64,
}

impl Target<'_> {
    fn entry(&self) -> RmpEntry {
        self.view.entry(self.index)
    }
    fn head(&self) -> RmpEntry {
        self.view.entry(0)
    }
    /// The block is one 2M page.
    fn is_large(&self) -> bool {
        is_large(self.head())
    }
    fn any_subpage(&self, test: impl Fn(RmpEntry) -> bool) -> bool {
        match self.view {
            BlockView::Uniform(fill) => test(fill.entry(1)),
            BlockView::Dense(_) => (1..PAGES_PER_LARGE_PAGE).any(|i| test(self.view.entry(i))),
        }
    }
}

pub(super) const fn is_large(head: RmpEntry) -> bool {
    head.assigned() && matches!(head.page_size(), PageSize::Size2M)
}

/// Whether some page of the block with this head is assigned.
pub(super) const fn block_has_assigned(head: RmpEntry) -> bool {
    head.assigned() || head.subpage_count() != 0
}

/// Lines that reading the entry and its block's head touches.
pub(super) const fn lines_with_head(index: u64) -> u32 {
    if index < ENTRIES_PER_LINE {
        1
    } else {
        2
    }
}

impl BlockView<'_> {
    /// The entry at a position (0 to 511) without the VMPL permissions: one word, so that it is of
    /// one instant whatever instruction is at work.
    #[inline]
    pub(super) fn owner(&self, index: u64) -> RmpEntry {
        match self {
            Self::Uniform(fill) => RmpEntry { hi: 0, ..fill.entry(index as u32) },
            Self::Dense(words) => {
                let word = words.get(index as usize * 2);
                RmpEntry { lo: word.map_or(0, |word| word.load(Ordering::Acquire)), hi: 0 }
            }
        }
    }

    /// The entry at a position (0 to 511).
    #[inline]
    pub(super) fn entry(&self, index: u64) -> RmpEntry {
        match self {
            Self::Uniform(fill) => fill.entry(index as u32),
            Self::Dense(words) => {
                let at = index as usize * 2;
                let load = |at: usize| words.get(at).map_or(0, |w| w.load(Ordering::Acquire));
                RmpEntry { lo: load(at), hi: load(at + 1) & !BLOCK_BUSY }
            }
        }
    }
}

impl Check {
    /// Checks that look at the operand alone, not at the RMP.
    const fn is_static(self) -> bool {
        matches!(self, Self::Input | Self::Issuer)
    }

    /// `Some(code)` if the check fails.
    fn failure(self, request: &Request<'_>, counters: usize) -> Option<RmpStatus> {
        let Request { issuer, spa, operand, target, .. } = request;
        let size = operand.size();
        let large = size == PageSize::Size2M;
        let of_target =
            |test: fn(RmpEntry) -> bool| target.is_some_and(|target| test(target.entry()));
        let of_subpage = |test: fn(RmpEntry) -> bool| {
            large && target.is_some_and(|t| !t.is_large() && t.any_subpage(test))
        };
        let (fails, status) = match self {
            Self::Input => {
                let gpa = Gpa::new(operand.gpa).filter(|gpa| {
                    gpa.is_aligned(size) && gpa.get() >> PAGE_SHIFT <= RmpEntry::MAX_GPA_PAGE
                });
                let free_with_owner =
                    !operand.is_assigned() && (operand.is_immutable() || operand.asid != 0);
                let bad = !spa.is_aligned(size)
                    || operand.has_reserved_bits()
                    || gpa.is_none()
                    || operand.asid > RmpEntry::MAX_ASID
                    || operand.asid as usize >= counters
                    || target.is_none();
                let status = match request.free_with_owner {
                    FreeWithOwner::FailPermission if !bad => RmpStatus::FAIL_PERMISSION,
                    _ => RmpStatus::FAIL_INPUT,
                };
                (bad || free_with_owner, status)
            }
            Self::Issuer => (issuer.asid != 0, RmpStatus::FAIL_PERMISSION),
            Self::Lock => (of_target(RmpEntry::lock), RmpStatus::FAIL_INUSE),
            Self::Immutable => (of_target(RmpEntry::immutable), RmpStatus::FAIL_PERMISSION),
            Self::Overlap => (
                target.is_some_and(|target| {
                    if large {
                        !target.is_large() && block_has_assigned(target.head())
                    } else {
                        target.is_large()
                    }
                }),
                RmpStatus::FAIL_OVERLAP,
            ),
            Self::SubpageLock => (of_subpage(RmpEntry::lock), RmpStatus::FAIL_INUSE),
            Self::SubpageImmutable => (of_subpage(RmpEntry::immutable), RmpStatus::FAIL_PERMISSION),
        };
        fails.then_some(status)
    }
}

/// The entry that a successful RMPUPDATE leaves at the addressed page.
#[inline]
pub(super) fn updated(old: RmpEntry, operand: &RmpOperand) -> RmpEntry {
    if !operand.is_assigned() {
        return RmpEntry::HYPERVISOR;
    }
    let gpa_page = operand.gpa >> PAGE_SHIFT;
    let new = RmpEntry::default()
        .with_assigned(true)
        .with_page_size(operand.size())
        .with_immutable(operand.is_immutable())
        .with_gpa_page(gpa_page)
        .with_asid(operand.asid);
    let same_owner = old.assigned()
        && old.asid() == operand.asid
        && old.gpa_page() == gpa_page
        && old.page_size() == operand.size();
    if same_owner {
        let kept = new.with_validated(old.validated()).with_vmsa(old.vmsa());
        RmpEntry { hi: old.hi, ..kept }
    } else {
        RmpEntry { hi: RmpEntry::VMPL0_ALL, ..new }
    }
}

impl<S: Storage> Rmp<S> {
    /// An RMP whose pages are all hypervisor-owned.
    pub const fn new(storage: S, coverage: Coverage, order: UpdateOrder) -> Self {
        Self { storage, coverage, order, choices: Choices::DEFAULT }
    }

    /// With other choices.
    pub fn with_choices(mut self, choices: Choices) -> Self {
        self.choices = choices;
        self
    }

    /// The choices in force.
    pub const fn choices(&self) -> &Choices {
        &self.choices
    }

    /// The pages that have an entry.
    pub const fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The memory behind it.
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    #[inline]
    pub(super) fn covers(&self, pfn: Pfn) -> bool {
        pfn.region().get() < self.storage.regions() && self.coverage.covers(pfn)
    }

    /// The page's own raw entry; `None` if it has none. In a 2M page only the head says whose it is.
    pub fn entry(&self, pfn: Pfn) -> Option<RmpEntry> {
        self.covers(pfn).then(|| self.storage.block(Block::of(pfn)).entry(index_in_block(pfn)))
    }

    /// The state of a page; one inside a 2M page has its head's. Waits for an instruction at work in
    /// the block, since two entries can say what it is.
    pub fn page_state(&self, pfn: Pfn) -> PageState {
        loop {
            match self.lock_as(pfn, NeighbourRace::Spin) {
                Ok(page) => return PageState::of(page.governing().entry),
                Err(LockFailure::NotCovered) => return PageState::Default,
                Err(LockFailure::Busy) => spin_loop(),
            }
        }
    }

    /// Pages assigned to a guest, counted in 4K; ASID 0 is not counted.
    pub fn assigned_to(&self, asid: u32) -> u64 {
        self.storage.asid_counters().get(asid as usize).map_or(0, |c| c.load(Ordering::Acquire))
    }

    /// RMPUPDATE. The caller brackets it for RMPOPT ([`crate::snp_model::Machine::rmpupdate`] does).
    ///
    /// What one does that meets another at work in the same 2M block:
    /// [`NeighbourRace`](crate::snp_model::NeighbourRace).
    #[inline]
    pub fn rmpupdate(
        &self,
        issuer: Issuer,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Result<Update, Stop> {
        match self.update_4k(issuer, spa, operand) {
            Some(update) => Ok(update),
            None => self.update_by_all_rules(issuer, spa, operand),
        }
    }

    /// [`Self::rmpupdate`] of every kind.
    #[inline(never)]
    pub(super) fn update_by_all_rules(
        &self,
        issuer: Issuer,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Result<Update, Stop> {
        let pfn = spa.pfn();
        let target = self.covers(pfn).then(|| Target {
            view: self.storage.block(Block::of(pfn)),
            index: index_in_block(pfn),
        });
        let free_with_owner = self.choices.free_with_owner;
        let mut request = Request { issuer, spa, operand, free_with_owner, target: None };
        let mut lines = 0;
        let held = match target {
            Some(Target { view: BlockView::Dense(words), .. }) => {
                Held::take(words, self.choices.neighbour_race)
            }
            _ => None,
        };
        let contended =
            held.is_none() && matches!(target, Some(Target { view: BlockView::Dense(_), .. }));
        request.target = target;
        let counters = self.storage.asid_counters().len();
        for check in self.order.0 {
            if contended && !check.is_static() {
                return Ok(Update::failed(RmpStatus::FAIL_OVERLAP, 1));
            }
            if !check.is_static() {
                lines = match operand.size() {
                    PageSize::Size4K => lines_with_head(index_in_block(pfn)),
                    PageSize::Size2M => LINES_PER_BLOCK,
                };
            }
            if matches!(check, Check::Lock) && self.choices.has(Defect::LockIgnored) {
                continue;
            }
            if let Some(status) = check.failure(&request, counters) {
                return Ok(Update::failed(status, lines));
            }
        }
        let Some(target) = target else {
            return Ok(Update::failed(RmpStatus::FAIL_INPUT, lines));
        };
        let old = target.entry();
        // The head's own count of assigned sub-pages is not the operand's business.
        let mut new = updated(old, operand);
        if target.index == 0 && operand.size() == PageSize::Size4K {
            new = new.with_subpage_count(old.subpage_count());
        }
        if new.assigned() && self.choices.has(Defect::ValidatedKept) {
            new = new.with_validated(old.validated());
        }
        if new != old {
            let Some(held) = held else { return Err(Stop::NotReserved(pfn.region())) };
            match operand.size() {
                PageSize::Size4K if self.choices.has(Defect::CountLost) => {
                    held.store(target.index, new);
                }
                PageSize::Size4K => commit_4k(&held, &target, old, new),
                PageSize::Size2M => commit_2m(&held, &target, new),
            }
            self.count(old, operand.size(), false);
            self.count(new, operand.size(), true);
        }
        Ok(Update {
            status: RmpStatus::SUCCESS,
            lines,
            was_assigned: old.assigned(),
            is_assigned: new.assigned(),
            resized: old.assigned() && new.assigned() && old.page_size() != new.page_size(),
        })
    }

    /// Changes what others than the host's instructions may change in a page's own entry: the
    /// firmware (immutable, VMSA, lock, gpa), its guest (validated, permissions), a running vCPU
    /// (lock). Assignment, size, ASID and sub-page count stay. False if another instruction is at
    /// work in the block, the page has no entry, or it lies inside a 2M page, where the head speaks
    /// for all.
    pub fn edit_entry(
        &self,
        pfn: Pfn,
        edit: impl FnOnce(RmpEntry) -> RmpEntry,
    ) -> Result<bool, Stop> {
        if !self.covers(pfn) {
            return Ok(false);
        }
        let view = self.storage.block(Block::of(pfn));
        let BlockView::Dense(words) = view else {
            return Err(Stop::NotReserved(pfn.region()));
        };
        let Some(held) = Held::take(words, self.choices.neighbour_race) else { return Ok(false) };
        if !pfn.is_head() && is_large(view.entry(0)) {
            return Ok(false);
        }
        let old = view.entry(index_in_block(pfn));
        let new = edit(old)
            .with_assigned(old.assigned())
            .with_page_size(old.page_size())
            .with_asid(old.asid())
            .with_subpage_count(old.subpage_count());
        held.store(index_in_block(pfn), new);
        Ok(true)
    }

    /// Adds or takes a page in its owner's counter.
    fn count(&self, entry: RmpEntry, size: PageSize, add: bool) {
        if !entry.assigned() || entry.asid() == 0 {
            return;
        }
        if let Some(counter) = self.storage.asid_counters().get(entry.asid() as usize) {
            if add {
                counter.fetch_add(size.pages(), Ordering::AcqRel);
            } else {
                counter.fetch_sub(size.pages(), Ordering::AcqRel);
            }
        }
    }

    /// RMPREAD: the page's own entry in architectural form. It waits for an instruction at work in the
    /// block; where waiting ends, `FAIL_INUSE`.
    pub fn rmpread(&self, issuer: Issuer, spa: Spa) -> RmpRead {
        let failed = |status| RmpRead { status, operand: RmpOperand::default(), lines: 0 };
        let pfn = spa.pfn();
        if !self.covers(pfn) || !spa.is_aligned(PageSize::Size4K) {
            return failed(RmpStatus::FAIL_INPUT);
        }
        if issuer.asid != 0 {
            return failed(RmpStatus::FAIL_PERMISSION);
        }
        let Ok(page) = self.lock_as(pfn, NeighbourRace::Spin) else {
            return failed(RmpStatus::FAIL_INUSE);
        };
        let (entry, head) = (page.own(), page.at(0));
        let block = if block_has_assigned(head) { RmpOperand::BLOCK_HAS_ASSIGNED } else { 0 };
        let operand = RmpOperand {
            gpa: entry.gpa_page() << PAGE_SHIFT,
            assigned: u8::from(entry.assigned()),
            page_size: entry.page_size().bit() as u8 | block,
            immutable: u8::from(entry.immutable()),
            reserved: 0,
            asid: entry.asid(),
        };
        RmpRead { status: RmpStatus::SUCCESS, operand, lines: lines_with_head(index_in_block(pfn)) }
    }

    /// Whether the hypervisor owns what an access of this size at this page needs, and the RMP lines
    /// read: the page alone for 4K, all pages of its block for 2M (spec/snp-arch.md 5.1).
    pub fn hv_owned(&self, pfn: Pfn, size: PageSize) -> (bool, u32) {
        let pfn = match size {
            PageSize::Size4K => pfn,
            PageSize::Size2M => pfn.head(),
        };
        let entry =
            self.covers(pfn).then(|| self.storage.block(Block::of(pfn)).owner(index_in_block(pfn)));
        match (entry, size) {
            (None, _) => (true, 0),
            (Some(entry), PageSize::Size4K) => (!entry.assigned(), 1),
            (Some(head), PageSize::Size2M) => (!block_has_assigned(head), 1),
        }
    }

    /// Makes the pages writable by instructions. May sleep.
    pub fn reserve(&self, range: PfnRange) -> Result<(), OutOfMemory> {
        let mut at = range.first.get();
        while let Some(pfn) = Pfn::new(at).filter(|_| at < range.end()) {
            let region = pfn.region();
            let region_end = at.saturating_add(PAGES_PER_REGION);
            let is_whole = pfn == region.first_pfn()
                && region_end <= range.end()
                && self.coverage.covered_pages(region) == PAGES_PER_REGION;
            if is_whole && self.covers(pfn) {
                self.storage.reserve_region(region)?;
                at = region_end;
                continue;
            }
            if self.covers(pfn) {
                self.storage.reserve(Block::of(pfn))?;
            }
            at = pfn.head().get().saturating_add(PAGES_PER_LARGE_PAGE);
        }
        Ok(())
    }

    /// Writes one entry to every covered page of a range, as firmware does, and keeps the heads'
    /// counts right. `fill` is the uniform state of that entry, if there is one. No instruction runs
    /// meanwhile.
    pub(super) fn write_range(
        &self,
        range: PfnRange,
        entry: RmpEntry,
        fill: Option<Fill>,
    ) -> Result<(), OutOfMemory> {
        let mut at = range.first.get();
        while let Some(pfn) = Pfn::new(at).filter(|_| at < range.end()) {
            let region = pfn.region();
            if region.get() >= self.storage.regions() {
                break;
            }
            let region_first = region.first_pfn().get();
            let region_end = region_first.saturating_add(PAGES_PER_REGION);
            let covered_end = region_first.saturating_add(self.coverage.covered_pages(region));
            let end = range.end().min(covered_end);
            match fill {
                Some(fill) if at == region_first && end == region_end => {
                    self.storage.fill_region(region, fill)?;
                }
                _ => self.write_blocks(at, end, entry, fill)?,
            }
            at = region_end;
        }
        Ok(())
    }

    /// [`Self::write_range`] inside a region, for covered pages only.
    fn write_blocks(
        &self,
        from: u64,
        end: u64,
        entry: RmpEntry,
        fill: Option<Fill>,
    ) -> Result<(), OutOfMemory> {
        let mut at = from;
        while let Some(pfn) = Pfn::new(at).filter(|_| at < end) {
            let block = Block::of(pfn);
            let first = pfn.head().get();
            let block_end = first.saturating_add(PAGES_PER_LARGE_PAGE);
            match fill {
                Some(fill) if at == first && end >= block_end => {
                    self.storage.fill_block(block, fill)?;
                }
                _ => self.write_pages(block, at - first, end.min(block_end) - first, entry)?,
            }
            at = block_end;
        }
        Ok(())
    }

    fn write_pages(
        &self,
        block: Block,
        from: u64,
        end: u64,
        entry: RmpEntry,
    ) -> Result<(), OutOfMemory> {
        self.storage.reserve(block)?;
        let view = self.storage.block(block);
        let BlockView::Dense(words) = view else { return Err(OutOfMemory) };
        let held = Held::alone(words);
        for index in from..end {
            held.store(index, entry);
        }
        let assigned = (1..PAGES_PER_LARGE_PAGE).filter(|&i| view.entry(i).assigned()).count();
        held.store(0, view.entry(0).with_subpage_count(assigned as u16));
        Ok(())
    }

    /// All ASID counters to zero.
    pub(super) fn reset_counters(&self) {
        for counter in self.storage.asid_counters() {
            counter.store(0, Ordering::Release);
        }
    }
}

pub(super) const fn index_in_block(pfn: Pfn) -> u64 {
    pfn.get() % PAGES_PER_LARGE_PAGE
}

fn commit_4k(held: &Held<'_>, target: &Target<'_>, old: RmpEntry, new: RmpEntry) {
    held.store(target.index, new);
    if target.index != 0 && old.assigned() != new.assigned() {
        let head = target.head();
        let count = if new.assigned() {
            head.subpage_count().saturating_add(1)
        } else {
            head.subpage_count().saturating_sub(1)
        };
        held.store(0, head.with_subpage_count(count));
    }
}

fn commit_2m(held: &Held<'_>, target: &Target<'_>, new: RmpEntry) {
    let sub = RmpEntry::default().with_assigned(new.assigned());
    if target.head().assigned() != new.assigned() {
        for index in 1..PAGES_PER_LARGE_PAGE {
            held.store(index, sub);
        }
    }
    held.store(0, new);
}

const _: () = assert!(LARGE_PAGES_PER_REGION == BLOCKS_PER_REGION as u64);
