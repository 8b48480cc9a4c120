//! `Activity`: what probes and hooks touch.
//!
//! Code that changes RMP entries runs anywhere, with preemption off, perhaps in an interrupt. All it
//! does for RMPOPT is to set a bit here. No queue, no lock, no time: a worker drains the bits on a
//! tick and hands them to the policy as events.
//!
//! **Invariant.** Marks are lossless: once the last update that gave a region's pages back has
//! committed, a mark of that region exists that no drain from before the commit has taken. Callers
//! keep it by marking *after* the RMPUPDATE (an exit probe); a caller that can only mark before must
//! not let the mark be consumed until a verify that started later has succeeded.

use core::borrow::Borrow;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::snp_defs::Region;

/// Marks of one 64-region word, taken by [`Activity::drain`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Index of the word: it holds regions `64 * word` to `64 * word + 63`.
    pub word: u32,
    /// Regions of which pages became shared.
    pub shared: u64,
    /// Regions of which pages were assigned.
    pub lost: u64,
}

/// Two bitmaps, one bit per region each, over storage of the executor's choice.
#[derive(Debug)]
pub struct Activity<W> {
    shared: W,
    lost: W,
    pending: AtomicBool,
}

impl<W: Borrow<[AtomicU64]>> Activity<W> {
    /// `shared` and `lost` hold [`words_for`](super::words_for) words each, all zero.
    pub const fn new(shared: W, lost: W) -> Self {
        Self { shared, lost, pending: AtomicBool::new(false) }
    }

    /// Pages of `region` became shared; call it after the RMPUPDATE has completed.
    ///
    /// Returns whether this is the first mark since the last drain: then a tick must be armed.
    /// A region past the bitmap is not tracked.
    pub fn became_shared(&self, region: Region) -> bool {
        self.mark(&self.shared, region)
    }

    /// Pages of `region` were assigned: its RMPOPT bits are gone on every core.
    ///
    /// Returns whether a tick must be armed, as [`Self::became_shared`] does.
    pub fn lost(&self, region: Region) -> bool {
        self.mark(&self.lost, region)
    }

    fn mark(&self, words: &W, region: Region) -> bool {
        let Some(word) = words.borrow().get(region.index() / 64) else { return false };
        let bit = 1u64 << (region.get() % 64);
        // Test, then set: a page conversion in a region marked already must not take the line from
        // other CPUs. SeqCst orders the caller's update before the test: if the bit is still seen
        // set, the drain that will clear it comes after that update.
        if word.load(Ordering::SeqCst) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
        }
        !self.pending.load(Ordering::SeqCst) && !self.pending.swap(true, Ordering::SeqCst)
    }

    /// Whether marks may be waiting.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// Takes all marks, a word at a time. Each mark is seen by exactly one drain.
    pub fn drain(&self, mut each: impl FnMut(Drained)) {
        // Cleared first: a mark that comes while we read arms the next tick.
        self.pending.store(false, Ordering::SeqCst);
        let words = self.shared.borrow().iter().zip(self.lost.borrow());
        for (word, (shared, lost)) in (0..u32::MAX).zip(words) {
            let take = |bits: &AtomicU64| match bits.load(Ordering::SeqCst) {
                0 => 0,
                _ => bits.swap(0, Ordering::SeqCst),
            };
            let drained = Drained { word, shared: take(shared), lost: take(lost) };
            if drained.shared | drained.lost != 0 {
                each(drained);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Activity<Vec<AtomicU64>> {
        let words = || (0..2).map(|_| AtomicU64::new(0)).collect();
        Activity::new(words(), words())
    }

    fn region(number: u32) -> Region {
        Region::new(number).unwrap()
    }

    #[test]
    fn marks_are_taken_once_and_the_first_arms() {
        let activity = activity();
        assert!(activity.became_shared(region(3)));
        assert!(!activity.became_shared(region(3)) && !activity.lost(region(127)));
        assert!(!activity.lost(region(128)), "past the bitmap");
        let mut seen = Vec::new();
        activity.drain(|d| seen.push((d.word, d.shared, d.lost)));
        assert_eq!(seen, [(0, 8, 0), (1, 0, 1 << 63)]);
        activity.drain(|d| panic!("nothing is left, got {d:?}"));
        assert!(activity.became_shared(region(3)), "armed again after the drain");
    }

    #[test]
    fn no_mark_is_lost_between_threads() {
        let activity = activity();
        let mut taken = [0u32; 128];
        std::thread::scope(|scope| {
            let marker = scope.spawn(|| {
                for round in 0..20_000u32 {
                    activity.became_shared(region(round % 128));
                }
            });
            while !marker.is_finished() {
                activity.drain(|d| {
                    for bit in 0..64 {
                        taken[d.word as usize * 64 + bit] += u32::from(d.shared >> bit & 1 == 1);
                    }
                });
            }
        });
        // The last round of marks came after any earlier drain: each is either taken or waiting.
        activity.drain(|d| {
            for bit in 0..64 {
                taken[d.word as usize * 64 + bit] += u32::from(d.shared >> bit & 1 == 1);
            }
        });
        assert!(taken.iter().all(|&times| times > 0));
    }
}
