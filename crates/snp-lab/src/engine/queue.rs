//! Discrete events in the order of their time; of one time, ends first, then as they were put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rmpopt_core::{CoreId, Ticket};
use snp_defs::{Region, RmpoptBase};
use snp_model::Begun;

use crate::scenario::Nanos;

/// Something that happens on the emulated host.
#[derive(Debug)]
pub(super) enum Event {
    /// The driver of the secure processor initialises SNP.
    SnpInit,
    /// An event of the scenario, by index.
    Scenario(usize),
    /// A guest is launched.
    Launch(usize),
    /// An SNP guest's launch is over; with the number of the launch.
    Launched { guest: usize, slice: u64 },
    /// A guest is shut down.
    End(usize),
    /// The firmware has decommissioned the guest.
    Decommissioned(usize),
    /// A slice of a guest's conversion is done; with the slice's number.
    Converted { guest: usize, slice: u64 },
    /// Marks are to be drained; with the number of the drain.
    Drain(u64),
    /// The policy's timer, with the number it was armed under.
    Timer(u64),
    /// A write of a core's `RMPOPT_BASE`.
    WriteBase { core: CoreId, base: RmpoptBase },
    /// A leader's RMPOPT ends.
    VerifyEnd { core: CoreId, region: Region, ticket: Ticket, begun: Begun, took_ns: u64 },
    /// A core may work on its batch; with the number of the turn.
    Turn { core: CoreId, turn: u64 },
    /// A hold of a core's batch ends; with the number of the turn.
    HoldEnd { core: CoreId, turn: u64 },
    /// A region's RMPOPT has ended on every core that was interrupted for it.
    BroadcastEnd { region: Region, ticket: Ticket },
    /// `oracle-delayed` optimises the region now, if it stayed free since it was freed.
    Oracle { region: Region, freed: u64 },
    /// Law 3: by now the region must be optimised, if it stayed free since it was freed.
    LivenessDue { region: Region, freed: u64 },
}

#[derive(Debug)]
struct Entry {
    at: Nanos,
    /// Ends come before anything else of the same time.
    late: bool,
    seq: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Nanos, bool, u64) {
        (self.at, self.late, self.seq)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Events to come.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Nanos, event: Event) {
        self.seq += 1;
        let late = !matches!(event, Event::End(_));
        self.heap.push(Reverse(Entry { at, late, seq: self.seq, event }));
    }

    /// When the next event comes.
    pub(super) fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next event that comes no later than `until`.
    pub(super) fn pop(&mut self, until: Nanos) -> Option<(Nanos, Event)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_come_before_starts_of_the_same_time() {
        let mut queue = Queue::default();
        queue.push(5, Event::Launch(1));
        queue.push(5, Event::End(2));
        queue.push(3, Event::Launch(0));
        queue.push(9, Event::Drain(1));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(8)).collect();
        assert!(matches!(
            order[..],
            [(3, Event::Launch(0)), (5, Event::End(2)), (5, Event::Launch(1))]
        ));
    }
}
