//! Conversions: which pages change hands when. They advance in slices of simulated time, planned by
//! what the RMP's entries are and what each step costs.

use std::collections::VecDeque;

use rand::RngExt as _;
use snp_defs::{PAGE_BYTES, PAGES_PER_LARGE_PAGE, PageSize};

use super::Engine;
use super::guests::{State, round_up};
use super::queue::Event;
use crate::cost::CostModel;
use crate::memory::Extent;
use crate::report::TimelineKind;
use crate::rmp::{BlockState, RmpError};
use crate::runs::{by_block, give, pages_of, skip, take};
use crate::scenario::{Grain, Nanos, SECOND};
use crate::words::{count, size as size_of};

/// Conversions advance in slices of this much simulated time, or of one block if that takes longer:
/// marks, bits and checks are this fine.
const SLICE_NS: Nanos = 50_000_000;

/// Which way pages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Private,
    Shared,
}

/// Consecutive pages that are handled alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) run: Extent,
    /// To private: they become 2 MiB entries. To shared: they are.
    pub(super) large: bool,
    /// They are whole 2 MiB blocks.
    pub(super) whole: bool,
}

/// A conversion that has been asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) way: Way,
    /// Runs still to be converted, without the slice under way.
    pub(super) runs: VecDeque<Extent>,
    /// The slice under way.
    pub(super) slice: Vec<Piece>,
    /// 2 MiB entries that were split for it so far.
    splits: u64,
}

impl Job {
    pub(super) fn new(way: Way, runs: Vec<Extent>) -> Self {
        Self { way, runs: runs.into(), slice: Vec::new(), splits: 0 }
    }

    /// What is not converted yet, the slice under way included.
    pub(super) fn rest(self) -> Vec<Extent> {
        self.slice.iter().map(|piece| piece.run).chain(self.runs).collect()
    }
}

/// How a guest's pages are converted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) way: Way,
    /// The guest is there: it accepts and rescinds.
    pub(super) guest: bool,
    /// Size of the pages behind it.
    pub(super) backing: PageSize,
    /// Size in which it accepts.
    pub(super) accept: Grain,
    /// Bytes per second, if the scenario says.
    pub(super) rate: Option<u64>,
}

impl Manner {
    /// How a part of a block with this state is handled.
    fn piece(&self, run: Extent, block: BlockState) -> Piece {
        let whole = run.pages == PAGES_PER_LARGE_PAGE;
        let large = match self.way {
            // `is_large_rmp_possible`: the whole range is unassigned.
            Way::Private => whole && self.backing == PageSize::Size2M && block.assigned == 0,
            Way::Shared => block.large,
        };
        Piece { run, large, whole }
    }

    /// The size in which the guest asks for a piece.
    pub(super) fn asks(&self, piece: &Piece) -> PageSize {
        if piece.whole { self.accept.size() } else { PageSize::Size4K }
    }

    /// What a part of one block takes.
    fn cost(&self, cost: &CostModel, piece: &Piece) -> Nanos {
        let pages = piece.run.pages;
        if let Some(rate) = self.rate {
            let ns = u128::from(pages * PAGE_BYTES) * u128::from(SECOND) / u128::from(rate.max(1));
            return u64::try_from(ns).unwrap_or(u64::MAX).max(1);
        }
        let asks = self.asks(piece);
        // Accepting and rescinding: one of each size, or what a mismatch leads to.
        let split = cost.rmp_fault + cost.psmash;
        let (guest, smashed) = match (piece.large, asks) {
            (true, PageSize::Size2M) => (cost.pvalidate_2m, false),
            (true, PageSize::Size4K) => (split + pages * cost.pvalidate_4k, true),
            (false, PageSize::Size2M) => ((1 + pages) * cost.pvalidate_4k, false),
            (false, PageSize::Size4K) => (pages * cost.pvalidate_4k, false),
        };
        let (guest, smashed) = if self.guest { (guest, smashed) } else { (0, false) };
        let small = cost.to_shared_4k + cost.rmpupdate;
        let host = match (self.way, piece.large) {
            (Way::Private, true) => cost.to_private_2m + cost.rmpupdate,
            (Way::Private, false) => pages * (cost.to_private_4k + cost.rmpupdate),
            (Way::Shared, true) if piece.whole && !smashed => cost.to_shared_2m + cost.rmpupdate,
            (Way::Shared, true) if !smashed => cost.psmash + pages * small,
            (Way::Shared, _) => pages * small,
        };
        guest.saturating_add(host).max(1)
    }
}

impl Engine<'_> {
    /// How the guest's first job is done.
    fn manner(&self, index: usize) -> Option<Manner> {
        let guest = self.guests.get(index)?;
        Some(Manner {
            way: guest.jobs.front()?.way,
            guest: guest.state == State::Running,
            backing: guest.backing(),
            accept: guest.spec.accept,
            rate: guest.spec.convert_rate,
        })
    }

    /// Begins the next slice of the guest's first job at `from`.
    pub(super) fn next_slice(&mut self, index: usize, from: Nanos) {
        let Some(manner) = self.manner(index) else { return };
        let Some(guest) = self.guests.get_mut(index) else { return };
        let Some(job) = guest.jobs.front_mut() else { return };
        let mut took: Nanos = 0;
        'runs: while let Some(run) = job.runs.pop_front() {
            for part in by_block(run) {
                let piece = manner.piece(part, self.rmp.block(part.first));
                let ns = manner.cost(&self.cost, &piece);
                if !job.slice.is_empty() && took.saturating_add(ns) > SLICE_NS {
                    let done = part.first.get() - run.first.get();
                    job.runs.push_front(skip(run, done));
                    break 'runs;
                }
                took = took.saturating_add(ns);
                match job.slice.last_mut() {
                    Some(last)
                        if last.run.end() == part.first.get()
                            && (last.large, last.whole) == (piece.large, piece.whole)
                            && piece.whole =>
                    {
                        last.run.pages += part.pages;
                    }
                    _ => job.slice.push(piece),
                }
            }
        }
        guest.slice += 1;
        let slice = guest.slice;
        self.queue.push(from.saturating_add(took), Event::Converted { guest: index, slice });
    }

    /// The slice under way is done: its pages change hands now. A finished job makes way.
    pub(super) fn converted(&mut self, index: usize, slice: u64) -> Result<(), RmpError> {
        let Some(manner) = self.manner(index) else { return Ok(()) };
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        if guest.slice != slice {
            return Ok(());
        }
        let Some(job) = guest.jobs.front_mut() else { return Ok(()) };
        let pieces = std::mem::take(&mut job.slice);
        let finished = job.runs.is_empty();
        let splits = self.meter.counts.guests.psmashes;
        for piece in &pieces {
            match manner.way {
                Way::Private => self.make_private(index, manner, piece)?,
                Way::Shared => self.make_shared(index, manner, piece)?,
            }
        }
        let splits = self.meter.counts.guests.psmashes - splits;
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        // An ending guest's books are closed: what it had private is what its job holds.
        if guest.state == State::Running {
            let mut moved: Vec<_> = pieces.iter().map(|piece| piece.run).collect();
            if manner.way == Way::Private {
                give(&mut guest.private, &moved);
            } else {
                for leaked in &guest.leaked {
                    moved = crate::runs::without(&moved, leaked.first.get(), leaked.end());
                }
                give(&mut guest.shared, &moved);
            }
        }
        if let Some(job) = guest.jobs.front_mut() {
            job.splits += splits;
        }
        if finished {
            let splits = guest.jobs.pop_front().map_or(0, |job| job.splits);
            let (name, traced) = (guest.spec.name.clone(), guest.traced);
            if splits > 0 {
                let were = if splits == 1 { "was" } else { "were" };
                let splits = count(splits);
                self.note_split(traced, || {
                    format!("{name}: {splits} of its 2 MiB RMP entries {were} split")
                });
            }
            let Some(guest) = self.guests.get(index) else { return Ok(()) };
            if guest.state == State::Ending && guest.jobs.is_empty() {
                self.gone(index);
                return Ok(());
            }
        }
        let now = self.now;
        self.next_slice(index, now);
        Ok(())
    }

    /// Asks for a conversion of some of a running guest's memory, in multiples of `unit`.
    pub(super) fn convert(
        &mut self,
        index: usize,
        bytes: u64,
        unit: Option<Grain>,
        to_shared: bool,
    ) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        let name = guest.spec.name.clone();
        let size = unit.map_or(guest.backing(), Grain::size);
        let running = guest.state == State::Running;
        let from = if to_shared { &mut guest.private } else { &mut guest.shared };
        let had = pages_of(from);
        let pages = (round_up(bytes, size) / PAGE_BYTES).min(had);
        if !running || pages == 0 {
            self.note(TimelineKind::Convert, format!("{name}: nothing to convert"));
            return;
        }
        let steps = (had - pages) / size.pages();
        let offset = if to_shared && steps > 0 {
            self.rng.random_range(0..=steps) * size.pages()
        } else {
            0
        };
        let runs = take(from, offset, pages);
        let way = if to_shared { Way::Shared } else { Way::Private };
        let idle = guest.jobs.is_empty();
        guest.jobs.push_back(Job::new(way, runs));
        let word = if to_shared { "shared" } else { "private" };
        self.note(
            TimelineKind::Convert,
            format!("{name} makes {} {word}", size_of(pages * PAGE_BYTES)),
        );
        if idle {
            let now = self.now;
            self.next_slice(index, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snp_defs::Pfn;

    const COST: CostModel = CostModel::DEFAULT;

    fn manner(way: Way, guest: bool, accept: Grain) -> Manner {
        Manner { way, guest, backing: PageSize::Size2M, accept, rate: None }
    }

    fn run(first: u64, pages: u64) -> Extent {
        Extent { first: Pfn::new(first).unwrap(), pages }
    }

    #[test]
    fn a_large_entry_needs_a_whole_free_block() {
        let private = manner(Way::Private, true, Grain::Large);
        let free = BlockState::default();
        assert!(private.piece(run(512, 512), free).large);
        assert!(!private.piece(run(513, 511), free).large);
        let taken = BlockState { assigned: 1, large: false };
        assert!(!private.piece(run(512, 512), taken).large);
        let small = Manner { backing: PageSize::Size4K, ..private };
        assert!(!small.piece(run(512, 512), free).large);
    }

    #[test]
    fn each_way_costs_what_it_is_made_of() {
        let large = BlockState { assigned: 512, large: true };
        let cost = |manner: Manner, run, block| manner.cost(&COST, &manner.piece(run, block));
        let whole = run(512, 512);
        let split = COST.rmp_fault + COST.psmash;
        let shared = |guest, accept| manner(Way::Shared, guest, accept);
        let private = |accept| manner(Way::Private, true, accept);
        for (ns, expected) in [
            (
                cost(private(Grain::Large), whole, BlockState::default()),
                COST.to_private_2m + COST.rmpupdate + COST.pvalidate_2m,
            ),
            (
                cost(private(Grain::Small), whole, BlockState::default()),
                COST.to_private_2m + COST.rmpupdate + split + 512 * COST.pvalidate_4k,
            ),
            (
                cost(private(Grain::Large), whole, BlockState { assigned: 2, large: false }),
                512 * (COST.to_private_4k + COST.rmpupdate) + 513 * COST.pvalidate_4k,
            ),
            (
                cost(shared(true, Grain::Large), whole, large),
                COST.to_shared_2m + COST.rmpupdate + COST.pvalidate_2m,
            ),
            (cost(shared(false, Grain::Large), whole, large), COST.to_shared_2m + COST.rmpupdate),
            (
                cost(shared(true, Grain::Large), run(512, 3), large),
                split + 3 * (COST.pvalidate_4k + COST.to_shared_4k + COST.rmpupdate),
            ),
            (
                cost(shared(false, Grain::Large), run(512, 3), large),
                COST.psmash + 3 * (COST.to_shared_4k + COST.rmpupdate),
            ),
        ] {
            assert_eq!(ns, expected);
        }
    }
}
