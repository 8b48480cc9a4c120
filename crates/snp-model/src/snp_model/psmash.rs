//! PSMASH: a 2M page becomes 512 pages of 4K.
//!
//! Source: spec/snp-arch.md 3.4. The order of its checks is in no source, hence a table.

use crate::snp_defs::{PageSize, RmpEntry, RmpStatus, Spa, PAGES_PER_LARGE_PAGE};
use crate::snp_model::block_lock::Held;
use crate::snp_model::rmp::{is_large, LINES_PER_BLOCK};
use crate::snp_model::{Block, BlockView, Choices, Defect, Issuer, Rmp, Storage, Update};

/// One of PSMASH's checks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SmashCheck {
    /// `FAIL_INPUT`: the address is not 2M aligned or has no entry.
    Input,
    /// `FAIL_PERMISSION`: run inside a guest.
    Issuer,
    /// `FAIL_INUSE`: the entry is locked.
    Lock,
    /// `FAIL_PERMISSION`: the entry is immutable.
    Immutable,
    /// The entry is no assigned 2M page: see [`NotLarge`].
    Large,
}

/// The order of PSMASH's checks: the first that fails gives the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmashOrder(pub [SmashCheck; 5]);

impl SmashOrder {
    /// As RMPUPDATE's suggested order.
    pub const SUGGESTED: Self = Self([
        SmashCheck::Input,
        SmashCheck::Issuer,
        SmashCheck::Lock,
        SmashCheck::Immutable,
        SmashCheck::Large,
    ]);
    /// Immutable before lock.
    pub const IMMUTABLE_FIRST: Self = Self([
        SmashCheck::Input,
        SmashCheck::Issuer,
        SmashCheck::Immutable,
        SmashCheck::Lock,
        SmashCheck::Large,
    ]);
    /// The page's size before what else the entry says.
    pub const LARGE_FIRST: Self = Self([
        SmashCheck::Input,
        SmashCheck::Issuer,
        SmashCheck::Large,
        SmashCheck::Lock,
        SmashCheck::Immutable,
    ]);
}

/// PSMASH's code for an entry that is no assigned 2M page: sources disagree (spec/snp-arch.md 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NotLarge {
    /// `FAIL_BADADDR` (7): a compiler's manual and a report from the field.
    #[default]
    FailBadaddr,
    /// `FAIL_OVERLAP` (4): an early Linux patch.
    FailOverlap,
}

impl NotLarge {
    const fn status(self) -> RmpStatus {
        match self {
            Self::FailBadaddr => RmpStatus::FAIL_BADADDR,
            Self::FailOverlap => RmpStatus::FAIL_OVERLAP,
        }
    }
}

impl SmashCheck {
    /// Checks that do not look at the entry.
    const fn is_static(self) -> bool {
        matches!(self, Self::Input | Self::Issuer)
    }

    /// `Some(code)` if the check fails. `head` is absent if the page has no entry.
    fn failure(
        self,
        issuer: Issuer,
        spa: Spa,
        head: Option<RmpEntry>,
        choices: &Choices,
    ) -> Option<RmpStatus> {
        let of_head = |test: fn(RmpEntry) -> bool| head.is_some_and(test);
        let (fails, status) = match self {
            Self::Input => {
                (!spa.is_aligned(PageSize::Size2M) || head.is_none(), RmpStatus::FAIL_INPUT)
            }
            Self::Issuer => (issuer.asid != 0, RmpStatus::FAIL_PERMISSION),
            Self::Lock => (
                of_head(RmpEntry::lock) && !choices.has(Defect::LockIgnored),
                RmpStatus::FAIL_INUSE,
            ),
            Self::Immutable => (of_head(RmpEntry::immutable), RmpStatus::FAIL_PERMISSION),
            Self::Large => (!of_head(is_large), choices.not_large.status()),
        };
        fails.then_some(status)
    }
}

impl<S: Storage> Rmp<S> {
    /// PSMASH: splits an assigned 2M page into 512 pages of 4K with consecutive guest addresses and
    /// the same owner, validation and rights. The caller brackets it for RMPOPT.
    pub fn psmash(&self, issuer: Issuer, spa: Spa) -> Update {
        let pfn = spa.pfn();
        let choices = self.choices();
        let view = self.covers(pfn).then(|| self.storage().block(Block::of(pfn)));
        let held = match view {
            Some(BlockView::Dense(words)) => Held::take(words, choices.neighbour_race),
            _ => None,
        };
        let contended = held.is_none() && matches!(view, Some(BlockView::Dense(_)));
        let head = view.map(|view| view.entry(0));
        let mut lines = 0;
        for check in choices.psmash.0 {
            if !check.is_static() {
                lines = 1;
                if contended {
                    return Update::failed(RmpStatus::FAIL_INUSE, lines);
                }
            }
            if let Some(status) = check.failure(issuer, spa, head, choices) {
                return Update::failed(status, lines);
            }
        }
        // A uniform block holds no 2M page: this is for tables without the check.
        let (Some(held), Some(head)) = (held, head) else {
            return Update::failed(choices.not_large.status(), lines);
        };
        let small = head.with_page_size(PageSize::Size4K);
        for index in 1..PAGES_PER_LARGE_PAGE {
            let offset = if choices.has(Defect::SmashSameGpa) { 0 } else { index };
            held.store(index, small.with_gpa_page(head.gpa_page().wrapping_add(offset)));
        }
        held.store(0, small.with_subpage_count(PAGES_PER_LARGE_PAGE as u16 - 1));
        Update {
            status: RmpStatus::SUCCESS,
            lines: LINES_PER_BLOCK,
            was_assigned: true,
            is_assigned: true,
            resized: true,
        }
    }
}
