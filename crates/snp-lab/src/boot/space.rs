//! Runs of pages: what is free, what is in one and not in another.

use snp_defs::Pfn;

use crate::memory::Extent;

/// RAM that is still free, as ascending runs of pages.
pub(super) struct Space {
    pub(super) free: Vec<Extent>,
}

impl Space {
    pub(super) fn bytes(&self) -> u64 {
        self.free.iter().map(Extent::bytes).sum()
    }

    /// Lowest aligned address of `bytes` free bytes inside `[low, high)`.
    pub(super) fn lowest(&self, bytes: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        self.free.iter().find_map(|run| {
            let start = run.start_byte().max(low).checked_next_multiple_of(align)?;
            let end = run.end_byte().min(high);
            (start.checked_add(bytes)? <= end).then_some(start)
        })
    }

    /// Highest such address.
    pub(super) fn highest(&self, bytes: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        self.free.iter().rev().find_map(|run| {
            let end = run.end_byte().min(high);
            let start = end.checked_sub(bytes)? / align * align;
            (start >= run.start_byte().max(low)).then_some(start)
        })
    }
}

/// What of `from` is in none of `what`. Both ascending, without overlaps.
pub(super) fn subtract(from: &[Extent], what: &[Extent]) -> Vec<Extent> {
    let mut left = Vec::with_capacity(from.len() + what.len());
    let mut holes = what.iter().peekable();
    for run in from {
        let mut at = run.first.get();
        while holes.next_if(|h| h.end() <= at).is_some() {}
        let mut inside = holes.clone();
        while let Some(hole) = inside.next_if(|h| h.first.get() < run.end()) {
            push(&mut left, at, hole.first.get());
            at = at.max(hole.end());
        }
        push(&mut left, at, run.end());
    }
    left
}

/// What lies in both. Both ascending, without overlaps.
pub(super) fn intersect(a: &[Extent], b: &[Extent]) -> Vec<Extent> {
    let mut common = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        push(&mut common, x.first.get().max(y.first.get()), x.end().min(y.end()));
        if x.end() <= y.end() {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

fn push(to: &mut Vec<Extent>, start: u64, end: u64) {
    if let Some(first) = Pfn::new(start).filter(|_| start < end) {
        to.push(Extent { first, pages: end - start });
    }
}
