//! CPUs that lose the same at the same times, such as those that a broadcast interrupts region after
//! region: their windows are kept once for all of them.
//!
//! What is counted is what would be counted CPU by CPU. A lane's first window may have begun with other
//! thefts, and its last may go on with others; those two are added to each CPU's own, the windows between
//! are counted for all CPUs at once.

use super::{Open, Slices, WINDOW_NS};
use crate::scenario::Nanos;

/// CPUs that lose the same at the same times. All have as many vCPUs of ordinary guests.
#[derive(Debug)]
pub(super) struct Lane {
    cpus: Vec<u32>,
    /// Rows of the picture that the CPUs are in.
    rows: Vec<u32>,
    /// The window that is not over yet, while the lane is ahead of its CPUs.
    open: Option<Open>,
    /// It is the first since then: it is added to each CPU's own.
    first: bool,
}

impl Slices {
    /// From now on these are the lanes. CPUs of one lane have as many vCPUs of ordinary guests
    /// ([`Self::vcpus_on`]), and none is in two lanes.
    pub(in crate::engine) fn set_lanes(&mut self, lanes: &[Vec<u32>]) {
        self.give_lanes_up();
        for cpus in lanes {
            for &cpu in cpus {
                if let Some(laned) = self.laned.get_mut(cpu as usize) {
                    *laned = true;
                }
            }
            let mut rows: Vec<_> = cpus.iter().map(|cpu| cpu / self.cpus_per_row).collect();
            rows.sort_unstable();
            rows.dedup();
            self.lanes.push(Lane { cpus: cpus.clone(), rows, open: None, first: false });
        }
    }

    /// Lanes that were set at another epoch are no more.
    pub(in crate::engine) const fn lanes_epoch(&self) -> u64 {
        self.lanes_epoch
    }

    /// vCPUs of ordinary guests on the CPU.
    pub(in crate::engine) fn vcpus_on(&self, cpu: u32) -> u32 {
        self.ordinary.get(cpu as usize).copied().unwrap_or(0)
    }

    pub(super) fn give_lanes_up(&mut self) {
        self.settle();
        self.lanes.clear();
        self.laned.fill(false);
        self.lanes_epoch += 1;
    }

    /// Each CPU of the lane loses `ns`, as if by [`Self::steal`].
    pub(in crate::engine) fn steal_lane(&mut self, now: Nanos, index: usize, ns: Nanos) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.open.is_none() {
            let own = &self.open;
            let later = |&cpu: &u32| own.get(cpu as usize).is_some_and(|o| o.taken_until > now);
            if lane.cpus.iter().any(later) {
                for cpu in lane.cpus.clone() {
                    self.steal_alone(now, cpu, ns);
                }
                return;
            }
        }
        let mut open = lane.open.unwrap_or_else(|| {
            lane.first = true;
            Open { number: now / WINDOW_NS, taken_until: now, ..Open::default() }
        });
        self.ahead = true;
        let mut at = now.max(open.taken_until);
        let end = at + ns;
        while at < end {
            let number = at / WINDOW_NS;
            let part = end.min((number + 1) * WINDOW_NS) - at;
            if number != open.number {
                self.close_lane(index, open);
                (open.number, open.ns) = (number, 0);
            }
            if open.ns == 0 {
                open.steady = self.steady_from.is_some_and(|from| number * WINDOW_NS >= from);
            }
            open.ns += part;
            at += part;
        }
        open.taken_until = end;
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.open = Some(open);
        }
    }

    /// A window of a lane is over.
    fn close_lane(&mut self, index: usize, open: Open) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if std::mem::take(&mut lane.first) {
            self.settle_lane(index, open);
            return;
        }
        let begins = open.number.saturating_mul(WINDOW_NS);
        let Some(&cpu) = lane.cpus.first().filter(|_| open.ns > 0 && begins < self.until) else {
            return;
        };
        let (cpus, rows) = (lane.cpus.len() as u64, std::mem::take(&mut lane.rows));
        self.count(open.ns, self.vcpus_on(cpu), open.steady, cpus);
        for &row in &rows {
            self.shade(begins, row, open.ns);
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.rows = rows;
        }
    }

    /// Adds a lane's window to each CPU's own.
    fn settle_lane(&mut self, index: usize, open: Open) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let cpus = std::mem::take(&mut lane.cpus);
        for &cpu in &cpus {
            if open.ns > 0 {
                self.add(cpu, open.number, open.ns);
            }
            if let Some(own) = self.open.get_mut(cpu as usize) {
                own.taken_until = own.taken_until.max(open.taken_until);
            }
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.cpus = cpus;
        }
    }

    /// No lane is ahead of its CPUs any more.
    pub(in crate::engine) fn settle(&mut self) {
        if !std::mem::take(&mut self.ahead) {
            return;
        }
        for index in 0..self.lanes.len() {
            if let Some(open) = self.lanes.get_mut(index).and_then(|lane| lane.open.take()) {
                self.settle_lane(index, open);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to two hosts alike: to one by lanes, to the other CPU by CPU.
    #[derive(Clone, Debug)]
    enum Step {
        Lane(usize, Nanos),
        Cpu(u32, Nanos),
        Ordinary(u32, bool),
        Steady(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let ns = || prop_oneof![0..5_000u64, 100_000..3_000_000u64];
        prop_oneof![
            8 => (0..2usize, ns()).prop_map(|(lane, ns)| Step::Lane(lane, ns)),
            2 => (0..8u32, ns()).prop_map(|(cpu, ns)| Step::Cpu(cpu, ns)),
            1 => (0..8u32, any::<bool>()).prop_map(|(cpu, come)| Step::Ordinary(cpu, come)),
            1 => any::<bool>().prop_map(Step::Steady),
        ]
    }

    proptest! {
        #[test]
        fn lanes_count_what_their_cpus_would(
            steps in prop::collection::vec((0..2_000_000u64, step()), 1..120),
        ) {
            let lanes = [vec![0, 3, 7], vec![1, 2]];
            let until = 60 * WINDOW_NS;
            let (mut one, mut each) = (Slices::new(8, until), Slices::new(8, until));
            let mut now = 0;
            for (gap, step) in steps {
                now += gap;
                match step {
                    Step::Lane(lane, ns) => {
                        if one.lanes.is_empty() {
                            let equal = |cpus: &Vec<u32>| {
                                cpus.iter().all(|&c| one.vcpus_on(c) == one.vcpus_on(cpus[0]))
                            };
                            if lanes.iter().all(equal) {
                                one.set_lanes(&lanes);
                            }
                        }
                        if one.lanes.is_empty() {
                            lanes[lane].iter().for_each(|&cpu| one.steal(now, cpu, ns));
                        } else {
                            one.steal_lane(now, lane, ns);
                        }
                        lanes[lane].iter().for_each(|&cpu| each.steal(now, cpu, ns));
                    }
                    Step::Cpu(cpu, ns) => {
                        one.steal(now, cpu, ns);
                        each.steal(now, cpu, ns);
                    }
                    Step::Ordinary(cpu, come) => {
                        one.ordinary(now, &[cpu], come);
                        each.ordinary(now, &[cpu], come);
                    }
                    Step::Steady(on) => {
                        for slices in [&mut one, &mut each] {
                            if on { slices.begin_steady(now) } else { slices.end_steady(now) }
                        }
                    }
                }
            }
            one.finish();
            each.finish();
            prop_assert_eq!(one.reports(8), each.reports(8));
            prop_assert_eq!(one.map(), each.map());
        }
    }
}
