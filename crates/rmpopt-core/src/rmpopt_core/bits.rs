//! Bitmaps: one bit per region of the host, per region of a core's window, and per core.

use crate::rmpopt_core::CoreId;
use crate::snp_defs::{Region, Window};

/// Words of a [`WindowMask`]: 2,048 bits.
pub const WINDOW_WORDS: usize = (Window::REGIONS / 64) as usize;

/// 64-bit words that hold one bit for each of `regions`.
pub const fn words_for(regions: u32) -> usize {
    regions.div_ceil(64) as usize
}

/// Whether bit `index` is set; bits past the end are clear.
pub(crate) fn test(words: &[u64], index: u32) -> bool {
    words.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

/// Sets or clears bit `index`; past the end nothing happens. Returns what it was.
pub(crate) fn assign(words: &mut [u64], index: u32, on: bool) -> bool {
    let Some(word) = words.get_mut((index / 64) as usize) else { return false };
    let bit = 1u64 << (index % 64);
    let was = *word & bit != 0;
    if on {
        *word |= bit;
    } else {
        *word &= !bit;
    }
    was
}

/// Index of the first set bit at or after `from`.
pub(crate) fn next_set(words: &[u64], from: u32) -> Option<u32> {
    let mut keep = u64::MAX << (from % 64);
    // A range without an end would panic where it ends.
    for (index, word) in (0..u32::MAX).zip(words).skip((from / 64) as usize) {
        let rest = word & keep;
        if rest != 0 {
            return Some(index.wrapping_mul(64).wrapping_add(rest.trailing_zeros()));
        }
        keep = u64::MAX;
    }
    None
}

/// One bit for each of the 2,048 regions of a core's window; bit 0 is the window's base.
///
/// 256 bytes: a core's RMPOPT table has exactly these bits (spec/rmpopt.md 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowMask([u64; WINDOW_WORDS]);

impl Default for WindowMask {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl WindowMask {
    /// No bit set.
    pub const EMPTY: Self = Self([0; WINDOW_WORDS]);

    /// The bits of a host-wide bitmap that lie in `window`.
    pub fn of(words: &[u64], window: Window) -> Self {
        let (first, shift) = ((window.base.get() / 64) as usize, window.base.get() % 64);
        let mut mask = Self::EMPTY;
        for (index, out) in (first..usize::MAX).zip(&mut mask.0) {
            let low = words.get(index).copied().unwrap_or(0);
            *out = low >> shift;
            if shift != 0 {
                let high = words.get(index.wrapping_add(1)).copied().unwrap_or(0);
                *out |= high << (64 - shift);
            }
        }
        mask
    }

    /// Whether bit `slot` is set.
    pub fn contains(&self, slot: u32) -> bool {
        test(&self.0, slot)
    }

    /// Sets bit `slot`; returns whether it was clear.
    pub fn insert(&mut self, slot: u32) -> bool {
        slot < Window::REGIONS && !assign(&mut self.0, slot, true)
    }

    /// Clears bit `slot`; returns whether it was set.
    pub fn remove(&mut self, slot: u32) -> bool {
        assign(&mut self.0, slot, false)
    }

    /// The bits that are set here and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = *self;
        for (word, gone) in rest.0.iter_mut().zip(&other.0) {
            *word &= !gone;
        }
        rest
    }

    /// The bits that are set in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = *self;
        for (word, kept) in both.0.iter_mut().zip(&other.0) {
            *word &= kept;
        }
        both
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Bits set.
    pub fn count(&self) -> u32 {
        // At most 2,048.
        self.0.iter().fold(0, |sum, word| sum.wrapping_add(word.count_ones()))
    }

    /// First set bit at or after `from`.
    pub fn next(&self, from: u32) -> Option<u32> {
        next_set(&self.0, from)
    }

    /// The set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let slot = self.next(from)?;
            from = slot.wrapping_add(1);
            Some(slot)
        })
    }

    /// The regions that the set bits stand for in `window`, ascending.
    pub fn regions(&self, window: Window) -> impl Iterator<Item = Region> + '_ {
        self.iter().filter_map(move |slot| window.region(slot))
    }
}

/// A set of cores, up to 4,096: what the core's storage is sized for at worst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CoreSet([u64; Self::WORDS]);

impl CoreSet {
    /// Cores that fit in.
    pub(crate) const MAX: u16 = 4096;
    const WORDS: usize = (Self::MAX / 64) as usize;
    /// No core.
    pub(crate) const EMPTY: Self = Self([0; Self::WORDS]);

    /// Holds the first `cores` cores and no other.
    pub(crate) fn fill(&mut self, cores: u16) {
        let mut left = u32::from(cores);
        for word in &mut self.0 {
            let here = left.min(64);
            *word = u64::MAX.checked_shr(64 - here).unwrap_or(0);
            left = left.saturating_sub(here);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(crate) fn contains(&self, core: CoreId) -> bool {
        test(&self.0, u32::from(core.0))
    }

    /// Takes a core in or out; one that does not fit is never in.
    pub(crate) fn put(&mut self, core: CoreId, on: bool) {
        assign(&mut self.0, u32::from(core.0), on);
    }

    /// The first core at or after `from`.
    pub(crate) fn next(&self, from: u16) -> Option<CoreId> {
        next_set(&self.0, u32::from(from)).map(|core| CoreId(core as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_cuts_the_bitmap_where_its_base_lies() {
        let mut words = [0u64; 40];
        for index in [0, 15, 16, 63, 64, 100, 2063, 2064, 2500] {
            assign(&mut words, index, true);
        }
        let at = |base| {
            let window = Window { base: Region::new(base).unwrap() };
            WindowMask::of(&words, window).regions(window).map(Region::get).collect::<Vec<_>>()
        };
        assert_eq!(at(0), [0, 15, 16, 63, 64, 100]);
        assert_eq!(at(16), [16, 63, 64, 100, 2063]);
        assert_eq!(at(64), [64, 100, 2063, 2064]);
        assert_eq!(at(2501), Vec::<u32>::new());
    }

    #[test]
    fn a_set_of_cores_holds_no_more_than_there_are() {
        let mut set = CoreSet::EMPTY;
        for cores in [0, 1, 63, 64, 65, 512, 4095, 4096] {
            set.fill(cores);
            let last = cores.checked_sub(1).map(CoreId);
            assert!(last.is_none_or(|last| set.contains(last)), "{cores}");
            assert_eq!(set.next(cores), None, "{cores}");
        }
        set.put(CoreId(9), false);
        assert_eq!((set.next(9), set.next(4095)), (Some(CoreId(10)), Some(CoreId(4095))));
        set.put(CoreId(4096), true);
        assert!(!set.contains(CoreId(4096)));
        set.clear();
        assert_eq!(set, CoreSet::EMPTY);
    }

    #[test]
    fn masks_count_what_they_hold() {
        let mut mask = WindowMask::EMPTY;
        assert!(mask.insert(2047) && !mask.insert(2047) && !mask.insert(2048));
        assert!(mask.insert(0) && mask.contains(0) && !mask.contains(5000));
        assert_eq!((mask.count(), mask.next(1), mask.next(2048)), (2, Some(2047), None));
        let mut other = WindowMask::EMPTY;
        other.insert(0);
        assert_eq!(mask.without(&other).iter().collect::<Vec<_>>(), [2047]);
        assert_eq!(mask.intersect(&other), other);
        assert!(mask.remove(0) && !mask.remove(0) && !mask.is_empty());
    }
}
