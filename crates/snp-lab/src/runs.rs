//! Runs of pages: cut, joined, taken apart.

use snp_defs::{PAGES_PER_LARGE_PAGE, PAGES_PER_REGION, Pfn, Region};

use crate::memory::Extent;

/// Takes `pages` from the `offset`-th page on out of `runs` (which stay sorted).
pub(crate) fn take(runs: &mut Vec<Extent>, offset: u64, pages: u64) -> Vec<Extent> {
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    let (mut at, end) = (0, offset + pages);
    for run in runs.drain(..) {
        let (from, to) = (offset.clamp(at, at + run.pages), end.clamp(at, at + run.pages));
        let push = |list: &mut Vec<Extent>, low: u64, high: u64| {
            if let Some(first) = run.first.checked_add(low - at).filter(|_| high > low) {
                list.push(Extent { first, pages: high - low });
            }
        };
        push(&mut kept, at, from);
        push(&mut taken, from, to);
        push(&mut kept, to, at + run.pages);
        at += run.pages;
    }
    *runs = kept;
    taken
}

pub(crate) fn pages_of(runs: &[Extent]) -> u64 {
    runs.iter().map(|run| run.pages).sum()
}

/// Adds runs and keeps the whole sorted and joined.
pub(crate) fn give(runs: &mut Vec<Extent>, more: &[Extent]) {
    runs.extend_from_slice(more);
    runs.sort_unstable_by_key(|run| run.first);
    let mut joined: Vec<Extent> = Vec::with_capacity(runs.len());
    for &run in runs.iter() {
        match joined.last_mut() {
            Some(last) if last.end() == run.first.get() => last.pages += run.pages,
            _ => joined.push(run),
        }
    }
    *runs = joined;
}

/// The parts of a run by region.
pub(crate) fn by_region(run: Extent) -> impl Iterator<Item = (Region, Extent)> {
    let (mut at, end) = (run.first, run.end());
    std::iter::from_fn(move || {
        let left = end.checked_sub(at.get()).filter(|&left| left > 0)?;
        let region = at.region();
        let room = PAGES_PER_REGION - u64::from(at.index_in_region());
        let part = Extent { first: at, pages: left.min(room) };
        at = Pfn::new(part.end())?;
        Some((region, part))
    })
}

/// `runs` without the pages `first..end`.
pub(crate) fn without(runs: &[Extent], first: u64, end: u64) -> Vec<Extent> {
    let mut rest = Vec::with_capacity(runs.len() + 1);
    for run in runs {
        let (low, high) = (run.first.get(), run.end());
        for (from, to) in [(low, first.clamp(low, high)), (end.clamp(low, high), high)] {
            if let Some(first) = Pfn::new(from).filter(|_| to > from) {
                rest.push(Extent { first, pages: to - from });
            }
        }
    }
    rest
}

/// The run without its first pages; empty if it has no more.
pub(crate) fn skip(run: Extent, pages: u64) -> Extent {
    let pages = pages.min(run.pages);
    Extent { first: run.first.checked_add(pages).unwrap_or(run.first), pages: run.pages - pages }
}

/// The first pages of a run.
pub(crate) fn start(run: Extent, pages: u64) -> Extent {
    Extent { first: run.first, pages: pages.min(run.pages) }
}

/// Pages from the run's first to the end of its 2 MiB block, or of the run.
pub(crate) fn in_first_block(run: Extent) -> u64 {
    let inside = run.first.get() % PAGES_PER_LARGE_PAGE;
    run.pages.min(PAGES_PER_LARGE_PAGE - inside)
}

/// The parts of a run by 2 MiB block.
pub(crate) fn by_block(run: Extent) -> impl Iterator<Item = Extent> {
    let mut left = run;
    std::iter::from_fn(move || {
        let part = start(left, in_first_block(left));
        left = skip(left, part.pages);
        (part.pages > 0).then_some(part)
    })
}

/// One page.
pub(crate) const fn page(first: Pfn) -> Extent {
    Extent { first, pages: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, pages: u64) -> Extent {
        Extent { first: Pfn::new(first).unwrap(), pages }
    }

    #[test]
    fn taking_and_giving_keep_every_page() {
        let mut runs = vec![run(0, 10), run(20, 10), run(40, 10)];
        let taken = take(&mut runs, 5, 10);
        assert_eq!(taken, [run(5, 5), run(20, 5)]);
        assert_eq!(runs, [run(0, 5), run(25, 5), run(40, 10)]);
        give(&mut runs, &taken);
        assert_eq!(runs, [run(0, 10), run(20, 10), run(40, 10)]);
    }

    #[test]
    fn runs_are_cut_at_regions() {
        let parts: Vec<_> = by_region(run(262_143, 3)).collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0], (Region::new(0).unwrap(), run(262_143, 1)));
        assert_eq!(parts[1], (Region::new(1).unwrap(), run(262_144, 2)));
    }

    #[test]
    fn holes_are_cut_out() {
        assert_eq!(without(&[run(0, 10), run(10, 10)], 5, 12), [run(0, 5), run(12, 8)]);
        assert_eq!(without(&[run(0, 10)], 20, 30), [run(0, 10)]);
    }
}
