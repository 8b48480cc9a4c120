//! Sets of a 2 MiB block's pages.

use snp_defs::PAGES_PER_LARGE_PAGE;

/// A bit for each page of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PageMask([u64; 8]);

impl PageMask {
    pub(super) const NONE: Self = Self([0; 8]);
    pub(super) const ALL: Self = Self([u64::MAX; 8]);

    /// The pages `from..to` of a block (0 to 512).
    pub(super) fn of(from: u64, to: u64) -> Self {
        if (from, to) == (0, PAGES_PER_LARGE_PAGE) {
            return Self::ALL;
        }
        let mut mask = [0; 8];
        for (index, word) in mask.iter_mut().enumerate() {
            let base = index as u64 * 64;
            let (low, high) =
                (from.clamp(base, base + 64) - base, to.clamp(base, base + 64) - base);
            let below = |bit: u64| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
            *word = below(high) & !below(low);
        }
        Self(mask)
    }

    fn zip(mut self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word = with(*word, other);
        }
        self
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    pub(super) fn without(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// `self` with the pages of `span` in or out.
    pub(super) fn set(self, span: Self, on: bool) -> Self {
        if on { self.or(span) } else { self.without(span) }
    }

    pub(super) fn has(&self, page: u64) -> bool {
        self.0.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The lowest page.
    pub(super) fn first(&self) -> Option<u64> {
        let (index, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(index as u64 * 64 + u64::from(word.trailing_zeros()))
    }
}

const _: () = assert!(PAGES_PER_LARGE_PAGE == 512);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cover_what_they_say() {
        for (from, to) in [(0, 512), (0, 0), (511, 512), (63, 65), (1, 511)] {
            let mask = PageMask::of(from, to);
            assert_eq!(u64::from(mask.count()), to - from, "{from}..{to}");
            assert_eq!(mask.first(), (to > from).then_some(from));
            assert!((0..512).all(|page| mask.has(page) == (from..to).contains(&page)));
        }
    }

    #[test]
    fn sets_are_sets() {
        let (low, high) = (PageMask::of(0, 100), PageMask::of(50, 512));
        assert_eq!(low.or(high), PageMask::ALL);
        assert_eq!(low.and(high), PageMask::of(50, 100));
        assert_eq!(low.without(high), PageMask::of(0, 50));
        assert_eq!(low.set(high, true), PageMask::ALL);
        assert_eq!(low.set(PageMask::ALL, false), PageMask::NONE);
    }
}
