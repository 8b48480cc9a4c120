//! Guests: launch, touch, conversion, shutdown whose conversion takes time, decommission, leak.

use std::collections::VecDeque;

use rand::RngExt as _;
use rmpopt_core::Event as PolicyEvent;
use snp_defs::{PAGE_BYTES, PageSize, Pfn, Region};

use super::queue::Event;
use super::{Engine, REJECTED_NOTES, laws};
use crate::memory::Extent;
use crate::placement::Request;
use crate::report::TimelineKind;
use crate::rmp::{Owner, RmpError};
use crate::scenario::{GuestKind, GuestSpec, Nanos, Placement, SECOND};
use crate::words::{size as size_of, things};

/// Conversions advance in slices of this much simulated time: marks, bits and checks are this fine.
const SLICE_NS: Nanos = 50_000_000;

/// Where a guest is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Future,
    Running,
    /// Its CPUs have stopped; memory is being given back.
    Ending,
    Gone,
}

/// Which way pages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Private,
    Shared,
}

/// A conversion that has been asked for.
#[derive(Debug)]
struct Job {
    way: Way,
    /// Runs still to be converted, each with the size of its RMP entries.
    runs: VecDeque<(Extent, PageSize)>,
    /// 4 KiB pages in the slice under way.
    slice: u64,
}

/// One guest.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) spec: GuestSpec,
    /// It comes from a trace.
    pub(super) traced: bool,
    state: State,
    /// Everything allocated for it.
    memory: Vec<Extent>,
    /// Save areas and context page of an SNP guest.
    context: Vec<Extent>,
    private: Vec<Extent>,
    shared: Vec<Extent>,
    cpus: Vec<u32>,
    asid: u32,
    jobs: VecDeque<Job>,
    leak_pages: u64,
    /// Number of the slice under way: an event of another one is void.
    slice: u64,
}

impl Guest {
    pub(super) fn new(spec: GuestSpec, traced: bool) -> Self {
        Self {
            spec,
            traced,
            state: State::Future,
            memory: Vec::new(),
            context: Vec::new(),
            private: Vec::new(),
            shared: Vec::new(),
            cpus: Vec::new(),
            asid: 0,
            jobs: VecDeque::new(),
            leak_pages: 0,
            slice: 0,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// An SNP guest that still holds pages.
    pub(super) fn holds_pages(&self) -> bool {
        self.spec.kind == GuestKind::Snp && matches!(self.state, State::Running | State::Ending)
    }

    /// Size of its RMP entries: there is none above 2 MiB.
    fn entry_size(&self) -> PageSize {
        match self.spec.placement {
            Placement::Pages4K | Placement::Scattered4K => PageSize::Size4K,
            Placement::Pages2M | Placement::Scattered2M | Placement::Pages1G => PageSize::Size2M,
        }
    }
}

/// Takes `pages` from the `offset`-th page on out of `runs` (which stay sorted).
fn take(runs: &mut Vec<Extent>, offset: u64, pages: u64) -> Vec<Extent> {
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

fn pages_of(runs: &[Extent]) -> u64 {
    runs.iter().map(|run| run.pages).sum()
}

/// Adds runs and keeps the whole sorted and joined.
fn give(runs: &mut Vec<Extent>, more: &[Extent]) {
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
fn by_region(run: Extent) -> impl Iterator<Item = (Region, Extent)> {
    let (mut at, end) = (run.first, run.end());
    std::iter::from_fn(move || {
        let left = end.checked_sub(at.get()).filter(|&left| left > 0)?;
        let region = at.region();
        let room = snp_defs::PAGES_PER_REGION - u64::from(at.index_in_region());
        let part = Extent { first: at, pages: left.min(room) };
        at = Pfn::new(part.end())?;
        Some((region, part))
    })
}

/// How a guest's memory lies, for people.
const fn lies(placement: Placement) -> &'static str {
    match placement {
        Placement::Pages4K => "4 KiB pages",
        Placement::Pages2M => "2 MiB pages",
        Placement::Pages1G => "1 GiB pages",
        Placement::Scattered4K => "scattered 4 KiB pages",
        Placement::Scattered2M => "scattered 2 MiB pages",
    }
}

impl Engine<'_> {
    // ---- launch ----

    pub(super) fn launch(&mut self, index: usize) {
        let Some(guest) = self.guests.get(index) else { return };
        let (spec, traced) = (guest.spec.clone(), guest.traced);
        if spec.kind == GuestKind::Snp && (!self.ledger.is_up() || self.shutting_down) {
            let why = if self.shutting_down { "SNP is going down" } else { "SNP is not up" };
            self.reject(index, why);
            return;
        }
        let request = Request { bytes: spec.memory, placement: spec.placement, node: spec.node };
        let memory = match self.allocator.allocate(request, &mut self.rng) {
            Ok(memory) => memory,
            Err(error) => {
                self.reject(index, &error.to_string());
                return;
            }
        };
        let mut context = Vec::new();
        let mut asid = 0;
        if spec.kind == GuestKind::Snp {
            let Some(free) = self.asids.pop() else {
                self.free_memory(&memory);
                self.reject(index, "no ASID is free");
                return;
            };
            asid = free;
            // The context page and a save area for each vCPU, from ordinary kernel memory.
            let bytes = (u64::from(spec.vcpus) + 1) * PAGE_BYTES;
            let small = Request { bytes, placement: Placement::Pages4K, node: spec.node };
            match self.allocator.allocate(small, &mut self.rng) {
                Ok(block) => {
                    self.contexts.insert(index, block.clone());
                    context = take(&mut block.clone(), 0, bytes / PAGE_BYTES);
                }
                Err(error) => {
                    self.asids.push(asid);
                    self.free_memory(&memory);
                    self.reject(index, &format!("save areas: {error}"));
                    return;
                }
            }
        }
        let cpus = self.cpus.place(spec.vcpus, spec.node);
        self.held_bytes(traced, spec.memory, true);
        self.admit(traced, spec.kind);
        let what = if spec.kind == GuestKind::Snp { "SNP guest" } else { "ordinary guest" };
        self.note_guest(traced, || {
            format!(
                "{what} {} launched: {} in {}",
                spec.name,
                size_of(spec.memory),
                lies(spec.placement)
            )
        });
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.state = State::Running;
        guest.cpus = cpus;
        guest.memory = memory;
        guest.asid = asid;
        guest.context = context;
        if spec.kind == GuestKind::Snp {
            let size = guest.entry_size();
            let mut all = guest.memory.clone();
            let touched = round_up(spec.touched.min(spec.memory), size) / PAGE_BYTES;
            let private = take(&mut all, 0, touched);
            guest.shared = all;
            let context = guest.context.iter().map(|&run| (run, PageSize::Size4K));
            let runs = context.chain(private.into_iter().map(|run| (run, size))).collect();
            guest.jobs.push_back(Job { way: Way::Private, runs, slice: 0 });
            let launched = self.now + self.cost.firmware_command;
            self.next_slice(index, launched);
        }
        self.cpus_changed(index);
    }

    fn reject(&mut self, index: usize, why: &str) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.state = State::Gone;
        let (name, traced, memory) = (guest.spec.name.clone(), guest.traced, guest.spec.memory);
        if traced {
            self.trace.rejected += 1;
        }
        self.rejected += 1;
        if self.rejected <= REJECTED_NOTES {
            let text = format!("guest {name} rejected ({}): {why}", size_of(memory));
            self.note(TimelineKind::Guest, text);
        } else {
            self.untold += 1;
        }
    }

    fn free_memory(&mut self, memory: &[Extent]) {
        // What was allocated can be freed; a failure would be a fault of the books.
        if let Err(error) = self.allocator.free(memory) {
            self.breach(laws::CLEAN_EXIT, || format!("memory could not be freed: {error}"));
        }
    }

    /// vCPUs came or went: cores that wait for an interrupt may have ticks now, or none any more.
    fn cpus_changed(&mut self, index: usize) {
        let cpus = self.guests.get(index).map(|guest| guest.cpus.clone()).unwrap_or_default();
        let mut cores: Vec<_> =
            cpus.into_iter().filter_map(|cpu| self.topology.core_of(cpu)).collect();
        cores.dedup();
        for core in cores {
            self.queue_turn(rmpopt_core::CoreId(core as u16));
        }
    }

    // ---- conversion ----

    /// Begins the next slice of the guest's first job at `from`; a finished job makes way.
    fn next_slice(&mut self, index: usize, from: Nanos) {
        let cost = self.cost;
        let Some(guest) = self.guests.get_mut(index) else { return };
        let rate = guest.spec.convert_rate;
        let Some(job) = guest.jobs.front_mut() else { return };
        let mut slice = 0;
        let mut took: Nanos = 0;
        for &(run, size) in &job.runs {
            let each = match (rate, job.way, size) {
                (Some(rate), _, size) => {
                    let ns =
                        u128::from(size.bytes()) * u128::from(SECOND) / u128::from(rate.max(1));
                    u64::try_from(ns).unwrap_or(u64::MAX)
                }
                (None, Way::Private, PageSize::Size4K) => cost.to_private_4k,
                (None, Way::Private, PageSize::Size2M) => cost.to_private_2m,
                (None, Way::Shared, PageSize::Size4K) => cost.to_shared_4k,
                (None, Way::Shared, PageSize::Size2M) => cost.to_shared_2m,
            }
            .max(1);
            let entries = run.pages / size.pages();
            let fit =
                (SLICE_NS.saturating_sub(took) / each).max(u64::from(slice == 0)).min(entries);
            slice += fit * size.pages();
            took = took.saturating_add(fit * each);
            if fit < entries || took >= SLICE_NS {
                break;
            }
        }
        job.slice = slice;
        guest.slice += 1;
        let slice = guest.slice;
        self.queue.push(from.saturating_add(took), Event::Converted { guest: index, slice });
    }

    /// The slice under way is done: its pages change hands now.
    pub(super) fn converted(&mut self, index: usize, slice: u64) -> Result<(), RmpError> {
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        if guest.slice != slice {
            return Ok(());
        }
        let asid = guest.asid;
        let Some(job) = guest.jobs.front_mut() else { return Ok(()) };
        let way = job.way;
        let mut left = std::mem::take(&mut job.slice);
        let mut parts = Vec::new();
        while left > 0 {
            let Some((run, size)) = job.runs.pop_front() else { break };
            let now = run.pages.min(left);
            left -= now;
            parts.push((Extent { first: run.first, pages: now }, size));
            if let Some(first) = run.first.checked_add(now).filter(|_| run.pages > now) {
                job.runs.push_front((Extent { first, pages: run.pages - now }, size));
            }
        }
        let finished = job.runs.is_empty();
        for &(run, size) in &parts {
            for (region, part) in by_region(run) {
                match way {
                    Way::Private => self.assign(region, part, size, asid)?,
                    Way::Shared => self.give_back(region, part, size)?,
                }
            }
        }
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        // An ending guest's books are closed: what it had private is what its job holds.
        if guest.state == State::Running {
            let moved: Vec<_> = parts.iter().map(|part| part.0).collect();
            let own = own_memory(&guest.memory, &moved);
            match way {
                Way::Private => give(&mut guest.private, &own),
                Way::Shared => give(&mut guest.shared, &own),
            }
        }
        if finished {
            guest.jobs.pop_front();
            if guest.state == State::Ending && guest.jobs.is_empty() {
                self.gone(index);
                return Ok(());
            }
        }
        let now = self.now;
        self.next_slice(index, now);
        Ok(())
    }

    /// RMPUPDATEs that make pages of one region private, and what follows from them.
    fn assign(
        &mut self,
        region: Region,
        run: Extent,
        size: PageSize,
        asid: u32,
    ) -> Result<(), RmpError> {
        let empty = self.ledger.regions.get(region.index()).is_some_and(|b| b.assigned == 0);
        let mut rest = run;
        if empty {
            // Law 1 holds from the completion of this very update on.
            let first = Extent { first: run.first, pages: size.pages() };
            self.update(first, size, Owner::Guest(asid))?;
            let left = self.check_cleared(region);
            self.ledger.assigned(region.index(), first.pages, Some(left));
            rest.pages -= first.pages;
            rest.first = run.first.checked_add(first.pages).unwrap_or(run.first);
        }
        if rest.pages > 0 {
            self.update(rest, size, Owner::Guest(asid))?;
            self.ledger.assigned(region.index(), rest.pages, None);
        }
        self.probe_write(region, run.first, true);
        if self.policy.tick_ns().is_some() {
            let first = self.activity.lost(region);
            self.marked(first);
        }
        Ok(())
    }

    /// RMPUPDATEs that make pages of one region shared, and what follows from them.
    fn give_back(&mut self, region: Region, run: Extent, size: PageSize) -> Result<(), RmpError> {
        self.update(run, size, Owner::Hypervisor)?;
        if let Some(freed) = self.ledger.given_back(self.now, region.index(), run.pages) {
            self.watch_liveness(region, freed);
        }
        self.probe_write(region, run.first, false);
        if self.policy.tick_ns().is_some() {
            let first = self.activity.became_shared(region);
            self.marked(first);
        }
        Ok(())
    }

    fn update(&mut self, run: Extent, size: PageSize, owner: Owner) -> Result<(), RmpError> {
        self.meter.counts.rmpupdates += self.rmp.update(run, size, owner)?;
        Ok(())
    }

    /// Law 1 after the first update that assigned a page of `region`. Returns how many covering
    /// cores still have its bit.
    fn check_cleared(&mut self, region: Region) -> u32 {
        let set: Vec<_> = (0..self.driver.enabled.len() as u16)
            .map(rmpopt_core::CoreId)
            .filter(|core| {
                self.rmp.unit().is_optimised(snp_model::CoreId(u32::from(core.0)), region)
            })
            .collect();
        self.check(laws::SAFETY, set.is_empty(), || {
            format!("{} cores have region {region} optimised after a page was assigned", set.len())
        });
        set.into_iter().filter(|&core| self.covers(core, region)).count() as u32
    }

    /// Law 2: a write to a page of the conversion meets what the RMP says, RMPOPT or not.
    fn probe_write(&mut self, region: Region, page: Pfn, assigned: bool) {
        let cores = self.driver.enabled.len() as u32;
        let core = snp_model::CoreId(self.probe % cores.max(1));
        self.probe = self.probe.wrapping_add(1);
        let verdicts = self.rmp.write(core, page.spa());
        let refused = verdicts.rmp_alone != snp_model::Verdict::Allowed;
        let holds = verdicts.with_rmpopt == verdicts.rmp_alone && refused == assigned;
        self.check(laws::REFINEMENT, holds, || {
            format!("a write to {} in region {region} met {verdicts:?}", page.spa())
        });
    }

    /// Asks for a conversion of some of a running guest's memory.
    pub(super) fn convert(&mut self, index: usize, bytes: u64, to_shared: bool) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        let (name, size) = (guest.spec.name.clone(), guest.entry_size());
        let running = guest.is_running();
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
        let runs = take(from, offset, pages).into_iter().map(|run| (run, size)).collect();
        let way = if to_shared { Way::Shared } else { Way::Private };
        let idle = guest.jobs.is_empty();
        guest.jobs.push_back(Job { way, runs, slice: 0 });
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

    /// Some pages of this guest will not be given back.
    pub(super) fn leak(&mut self, index: usize, pages: u64) {
        if let Some(guest) = self.guests.get_mut(index) {
            guest.leak_pages += pages;
        }
    }

    // ---- end ----

    pub(super) fn end(&mut self, index: usize) {
        let Some(guest) = self.guests.get_mut(index).filter(|guest| guest.is_running()) else {
            return;
        };
        guest.state = State::Ending;
        // Its vCPUs have stopped: the slice under way is not completed.
        guest.slice += 1;
        let (name, traced) = (guest.spec.name.clone(), guest.traced);
        let (kind, cpus) = (guest.spec.kind, guest.cpus.clone());
        self.cpus.release(&cpus);
        self.cpus_changed(index);
        match kind {
            GuestKind::Ordinary => self.gone(index),
            GuestKind::Snp => {
                self.note_guest(traced, || format!("SNP guest {name} shut down"));
                let at = self.now + self.cost.firmware_command;
                self.queue.push(at, Event::Decommissioned(index));
            }
        }
    }

    /// The firmware has let the guest go; its pages are given back from now on.
    pub(super) fn decommissioned(&mut self, index: usize) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        let size = guest.entry_size();
        // What was still to become private is not touched; what was to become shared still is.
        let mut context = std::mem::take(&mut guest.context);
        let mut private = std::mem::take(&mut guest.private);
        for job in guest.jobs.drain(..) {
            match job.way {
                Way::Shared => {
                    give(&mut private, &job.runs.iter().map(|r| r.0).collect::<Vec<_>>());
                }
                Way::Private => {
                    for (run, _) in job.runs {
                        context = without(&context, run.first.get(), run.end());
                    }
                }
            }
        }
        let mut runs: VecDeque<_> =
            context.into_iter().map(|run| (run, PageSize::Size4K)).collect();
        let leaked = round_up(guest.leak_pages * PAGE_BYTES, size) / PAGE_BYTES;
        let leaked = leaked.min(pages_of(&private));
        let kept = pages_of(&private) - leaked;
        let leak = take(&mut private, kept, leaked);
        runs.extend(private.into_iter().map(|run| (run, size)));
        guest.jobs.push_back(Job { way: Way::Shared, runs, slice: 0 });
        guest.shared = leak;
        let name = guest.spec.name.clone();
        if leaked > 0 {
            self.note(
                TimelineKind::Guest,
                format!(
                    "{name}: {} could not be given back and {} assigned",
                    things(leaked, "page"),
                    if leaked == 1 { "stays" } else { "stay" }
                ),
            );
        }
        self.tell(PolicyEvent::GuestDecommissioned);
        let now = self.now;
        self.next_slice(index, now);
    }

    /// Nothing of the guest is left but what it leaked.
    fn gone(&mut self, index: usize) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.state = State::Gone;
        let leaked = std::mem::take(&mut guest.shared);
        let mut memory = std::mem::take(&mut guest.memory);
        // Leaked pages keep their whole 2 MiB blocks.
        for run in &leaked {
            let end = run.end().next_multiple_of(snp_defs::PAGES_PER_LARGE_PAGE);
            memory = without(&memory, run.first.head().get(), end);
        }
        let (traced, bytes, asid) = (guest.traced, guest.spec.memory, guest.asid);
        let (name, kind) = (guest.spec.name.clone(), guest.spec.kind);
        if let Some(block) = self.contexts.remove(&index) {
            self.free_memory(&block);
        }
        self.free_memory(&memory);
        self.held_bytes(traced, bytes, false);
        if kind == GuestKind::Snp {
            self.asids.push(asid);
            self.note_guest(traced, || format!("{name}: all its memory is shared again"));
        } else {
            self.note_guest(traced, || format!("ordinary guest {name} ended"));
        }
        self.guest_gone();
    }
}

/// Bytes rounded up to whole pages of a size.
fn round_up(bytes: u64, size: PageSize) -> u64 {
    bytes.div_ceil(size.bytes()) * size.bytes()
}

/// Of `runs`, what lies in `memory` (the rest are context pages).
fn own_memory(memory: &[Extent], runs: &[Extent]) -> Vec<Extent> {
    let inside = |run: &&Extent| {
        let at = memory.partition_point(|extent| extent.end() <= run.first.get());
        memory.get(at).is_some_and(|extent| extent.first <= run.first)
    };
    runs.iter().filter(inside).copied().collect()
}

/// `runs` without the pages `first..end`.
fn without(runs: &[Extent], first: u64, end: u64) -> Vec<Extent> {
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
