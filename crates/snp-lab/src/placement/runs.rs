//! Runs of blocks, and the bits of a bitmap that stand for them.

use snp_defs::{PAGES_PER_LARGE_PAGE, Pfn};

use crate::memory::Extent;

/// Runs of blocks in ascending order; those that touch are joined.
#[derive(Default)]
pub(super) struct Runs(Vec<(usize, usize)>);

impl Runs {
    /// The set bits of a bitmap.
    pub(super) fn of(bitmap: &[u64]) -> Self {
        let mut runs = Self::default();
        for (word, &bits) in bitmap.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            runs.add_word(word, bits);
        }
        runs
    }

    /// Start and end of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.0.iter().copied()
    }

    /// Puts runs that were added in any order into ascending order. None overlap.
    pub(super) fn in_order(mut self) -> Self {
        self.0.sort_unstable();
        let mut runs = Self::default();
        for (start, end) in self.0 {
            runs.add(start, end);
        }
        runs
    }

    pub(super) fn extents(&self) -> Vec<Extent> {
        let extent = |&(start, end): &(usize, usize)| {
            let first = Pfn::new(start as u64 * PAGES_PER_LARGE_PAGE)?;
            Some(Extent { first, pages: (end - start) as u64 * PAGES_PER_LARGE_PAGE })
        };
        self.0.iter().filter_map(extent).collect()
    }

    pub(super) fn add(&mut self, start: usize, end: usize) {
        match self.0.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.0.push((start, end)),
        }
    }

    /// Every set bit of a word.
    pub(super) fn add_word(&mut self, word: usize, mut bits: u64) {
        let mut at = word * 64;
        while bits != 0 {
            let skip = bits.trailing_zeros();
            let run = (bits >> skip).trailing_ones();
            let start = at + skip as usize;
            self.add(start, start + run as usize);
            let used = skip + run;
            bits = bits.checked_shr(used).unwrap_or(0);
            at += used as usize;
        }
    }
}

/// Bits `[from, to)` of a word, `to` at most 64.
pub(super) const fn mask(from: usize, to: usize) -> u64 {
    let upto = if to >= 64 { u64::MAX } else { (1 << to) - 1 };
    if from >= 64 { 0 } else { upto & (u64::MAX << from) }
}

/// The words that hold blocks `[start, end)`, each with the bits that are meant.
pub(super) fn words(start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    (start / 64..end.div_ceil(64)).map(move |word| {
        let base = word * 64;
        (word, mask(start.saturating_sub(base), end - base))
    })
}

pub(super) fn for_bits(mut bits: u64, mut each: impl FnMut(usize)) {
    while bits != 0 {
        each(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}
