//! Time stolen from CPUs, and from ordinary guests' vCPUs, in windows of 1 ms.
//!
//! Only windows that lost something are kept, as counts by how many nanoseconds they lost; the others
//! are zeros that the percentiles imply. What is kept is bounded by the number of CPUs and by the length
//! of a window, not by the length of the run.

mod lanes;

use self::lanes::Lane;
use crate::report::{JitterMap, JitterReport, SliceReport};
use crate::scenario::{Nanos, SECOND};

/// Length of a window.
const WINDOW_NS: Nanos = 1_000_000;
/// Lengths that one page of a histogram counts.
const PAGE: usize = 1_000;
/// Most rows and columns of the picture.
const ROWS: u32 = 64;
const COLUMNS: u32 = 96;

/// How many windows lost how much, to the nanosecond.
#[derive(Debug, Default)]
struct Histogram {
    /// Counts by nanoseconds, in pages that are there once something was counted.
    pages: Vec<Option<Box<[u64; PAGE]>>>,
    count: u64,
}

impl Histogram {
    fn add(&mut self, ns: Nanos, times: u64) {
        if times == 0 {
            return;
        }
        let ns = ns.min(WINDOW_NS) as usize;
        if self.pages.len() <= ns / PAGE {
            self.pages.resize_with(ns / PAGE + 1, || None);
        }
        if let Some(page) = self.pages.get_mut(ns / PAGE) {
            page.get_or_insert_with(|| Box::new([0; PAGE]))[ns % PAGE] += times;
            self.count += times;
        }
    }

    /// The percentile by nearest rank among `total` windows; those not counted here lost nothing.
    fn percentile(&self, total: u64, per_mille: u64) -> Option<Nanos> {
        if total == 0 {
            return None;
        }
        let rank = (u128::from(total) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut passed = u128::from(total - self.count.min(total));
        if rank <= passed {
            return Some(0);
        }
        for (number, page) in self.pages.iter().enumerate() {
            for (place, &times) in page.iter().flat_map(|page| page.iter()).enumerate() {
                passed += u128::from(times);
                if times > 0 && rank <= passed {
                    return Some((number * PAGE + place) as Nanos);
                }
            }
        }
        None
    }

    fn report(&self, windows: u64) -> SliceReport {
        // Windows at a guest's coming and going are cut, and may count more than its time.
        let windows = windows.max(self.count);
        let us = |per_mille| self.percentile(windows, per_mille).map(|ns| ns as f64 / 1e3);
        SliceReport {
            windows,
            hit: self.count,
            p50: us(500),
            p99: us(990),
            p999: us(999),
            max: us(1000),
        }
    }
}

/// Histograms of one stretch of time: of CPUs and of vCPUs, with how long those were there.
#[derive(Debug, Default)]
struct Part {
    cpu: Histogram,
    vcpu: Histogram,
    ns: Nanos,
    vcpu_ns: u128,
}

impl Part {
    fn report(&self, cpus: u64) -> JitterReport {
        let windows = |ns: u128| u64::try_from(ns / u128::from(WINDOW_NS)).unwrap_or(u64::MAX);
        JitterReport {
            cpu: self.cpu.report(windows(u128::from(self.ns) * u128::from(cpus))),
            vcpu: self.vcpu.report(windows(self.vcpu_ns)),
        }
    }
}

/// The window of a CPU that is not over yet.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    number: u64,
    ns: Nanos,
    vcpus: u32,
    steady: bool,
    /// Up to here the CPU's time is taken: what else takes it comes after.
    taken_until: Nanos,
}

/// Windows of all CPUs.
#[derive(Debug)]
pub(super) struct Slices {
    open: Vec<Open>,
    /// vCPUs of ordinary guests by CPU.
    ordinary: Vec<u32>,
    vcpus: u64,
    whole: Part,
    steady: Part,
    steady_from: Option<Nanos>,
    /// Up to here time is counted.
    at: Nanos,
    until: Nanos,
    cpus_per_row: u32,
    /// The worst window of each cell.
    cells: Vec<u32>,
    /// CPUs that lose the same at the same times; no CPU is in two.
    lanes: Vec<Lane>,
    /// CPUs that are in a lane.
    laned: Vec<bool>,
    /// Moves on when lanes are given up.
    lanes_epoch: u64,
    /// Some lane's windows are ahead of its CPUs'.
    ahead: bool,
}

impl Slices {
    pub(super) fn new(cpu_limit: u32, until: Nanos) -> Self {
        Self {
            open: vec![Open::default(); cpu_limit as usize],
            ordinary: vec![0; cpu_limit as usize],
            vcpus: 0,
            whole: Part::default(),
            steady: Part::default(),
            steady_from: None,
            at: 0,
            until,
            cpus_per_row: cpu_limit.div_ceil(ROWS).max(1),
            cells: vec![0; (ROWS * COLUMNS) as usize],
            lanes: Vec::new(),
            laned: vec![false; cpu_limit as usize],
            lanes_epoch: 0,
            ahead: false,
        }
    }

    /// `cpu` loses `ns` from `now` on, or from when it is free of what else takes it.
    pub(super) fn steal(&mut self, now: Nanos, cpu: u32, ns: Nanos) {
        if self.ahead && self.laned.get(cpu as usize).is_some_and(|&laned| laned) {
            self.settle();
        }
        self.steal_alone(now, cpu, ns);
    }

    fn steal_alone(&mut self, now: Nanos, cpu: u32, ns: Nanos) {
        let Some(open) = self.open.get(cpu as usize) else { return };
        let (mut at, end) = (now.max(open.taken_until), now.max(open.taken_until) + ns);
        while at < end {
            let number = at / WINDOW_NS;
            let part = end.min((number + 1) * WINDOW_NS) - at;
            self.add(cpu, number, part);
            at += part;
        }
        if let Some(open) = self.open.get_mut(cpu as usize) {
            open.taken_until = end;
        }
    }

    fn add(&mut self, cpu: u32, number: u64, ns: Nanos) {
        let steady = self.steady_from.is_some_and(|from| number * WINDOW_NS >= from);
        let vcpus = self.ordinary.get(cpu as usize).copied().unwrap_or(0);
        if self.open.get(cpu as usize).is_some_and(|open| open.number != number) {
            self.close(cpu);
        }
        let Some(open) = self.open.get_mut(cpu as usize) else { return };
        if open.ns == 0 {
            *open = Open { number, ns: 0, vcpus, steady, ..*open };
        }
        open.ns += ns;
    }

    fn close(&mut self, cpu: u32) {
        let Some(open) = self.open.get_mut(cpu as usize) else { return };
        let Open { number, ns, vcpus, steady, .. } = *open;
        open.ns = 0;
        let begins = number.saturating_mul(WINDOW_NS);
        if ns == 0 || begins >= self.until {
            return;
        }
        self.count(ns, vcpus, steady, 1);
        self.shade(begins, cpu / self.cpus_per_row, ns);
    }

    /// So many CPUs' windows lost `ns` each, with so many vCPUs on each CPU.
    fn count(&mut self, ns: Nanos, vcpus: u32, steady: bool, cpus: u64) {
        let parts = std::iter::once(&mut self.whole).chain(steady.then_some(&mut self.steady));
        for part in parts {
            part.cpu.add(ns, cpus);
            part.vcpu.add(ns, cpus * u64::from(vcpus));
        }
    }

    /// In the picture's `row` a window that begins then lost `ns`.
    fn shade(&mut self, begins: Nanos, row: u32, ns: Nanos) {
        let column = u128::from(begins) * u128::from(COLUMNS) / u128::from(self.until.max(1));
        let cell = row as usize * COLUMNS as usize + column as usize;
        if let Some(cell) = self.cells.get_mut(cell) {
            *cell = (*cell).max(ns.min(WINDOW_NS) as u32);
        }
    }

    /// Counts the time up to `now`.
    fn advance(&mut self, now: Nanos) {
        let passed = now.saturating_sub(self.at);
        self.at = now;
        let steady = self.steady_from.is_some().then_some(&mut self.steady);
        for part in std::iter::once(&mut self.whole).chain(steady) {
            part.ns += passed;
            part.vcpu_ns += u128::from(passed) * u128::from(self.vcpus);
        }
    }

    /// vCPUs of an ordinary guest came to these CPUs, or left them.
    pub(super) fn ordinary(&mut self, now: Nanos, cpus: &[u32], come: bool) {
        self.give_lanes_up();
        self.advance(now);
        for &cpu in cpus {
            let Some(vcpus) = self.ordinary.get_mut(cpu as usize) else { continue };
            if come {
                *vcpus += 1;
                self.vcpus += 1;
            } else if *vcpus > 0 {
                *vcpus -= 1;
                self.vcpus -= 1;
            }
        }
    }

    pub(super) fn begin_steady(&mut self, now: Nanos) {
        self.settle();
        self.advance(now);
        self.steady_from = Some(now);
    }

    pub(super) fn end_steady(&mut self, now: Nanos) {
        self.settle();
        self.advance(now);
        self.steady_from = None;
    }

    /// The run is over.
    pub(super) fn finish(&mut self) {
        self.settle();
        self.advance(self.until);
        for cpu in 0..self.open.len() {
            self.close(cpu as u32);
        }
    }

    /// Whole run and steady, of a host with so many CPUs.
    pub(super) fn reports(&self, cpus: u64) -> (JitterReport, JitterReport) {
        (self.whole.report(cpus), self.steady.report(cpus))
    }

    pub(super) fn map(&self) -> JitterMap {
        let cells = self.cells.iter().enumerate().filter(|&(_, &ns)| ns > 0);
        let place = |at: usize| (at as u32 / COLUMNS, at as u32 % COLUMNS);
        JitterMap {
            cpus_per_row: self.cpus_per_row,
            rows: (self.open.len() as u32).div_ceil(self.cpus_per_row),
            columns: COLUMNS,
            step_s: self.until as f64 / SECOND as f64 / f64::from(COLUMNS),
            cells: cells.map(|(at, &ns)| (place(at).0, place(at).1, f64::from(ns) / 1e3)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::percentile::Samples;

    const MS: Nanos = WINDOW_NS;

    #[expect(clippy::cast_sign_loss, reason = "no time is below 0")]
    fn exact(report: &SliceReport) -> [Option<u64>; 4] {
        [report.p50, report.p99, report.p999, report.max]
            .map(|us| us.map(|us| (us * 1e3).round() as u64))
    }

    #[test]
    fn what_crosses_a_border_is_split_and_no_window_loses_more_than_it_has() {
        let mut slices = Slices::new(2, 10 * MS);
        slices.steal(MS - 100, 0, 300);
        // Two at once on one CPU come one after the other.
        slices.steal(3 * MS, 1, 900_000);
        slices.steal(3 * MS, 1, 900_000);
        slices.finish();
        let report = slices.reports(2).0.cpu;
        assert_eq!((report.windows, report.hit), (20, 4));
        assert_eq!(exact(&report), [Some(0), Some(MS), Some(MS), Some(MS)]);
        let map = slices.map();
        let sum: f64 = map.cells.iter().map(|cell| cell.2).sum();
        assert!((sum - 1800.3).abs() < 1e-6, "{map:?}");
    }

    #[test]
    fn vcpus_and_steady_time_have_windows_of_their_own() {
        let mut slices = Slices::new(4, 100 * MS);
        slices.steal(0, 0, 10);
        slices.ordinary(20 * MS, &[0, 1], true);
        slices.steal(25 * MS, 0, 20);
        slices.begin_steady(50 * MS);
        slices.steal(60 * MS, 0, 30);
        slices.steal(60 * MS, 3, 40);
        slices.ordinary(70 * MS, &[0, 1], false);
        slices.steal(80 * MS, 0, 50);
        slices.end_steady(90 * MS);
        slices.steal(95 * MS, 0, 60);
        slices.finish();
        let (whole, steady) = slices.reports(4);
        assert_eq!((whole.cpu.windows, whole.cpu.hit), (400, 6));
        assert_eq!((whole.vcpu.windows, whole.vcpu.hit), (100, 2));
        assert_eq!((steady.cpu.windows, steady.cpu.hit), (160, 3));
        assert_eq!((steady.vcpu.windows, steady.vcpu.hit), (40, 1));
        assert_eq!(steady.vcpu.max, Some(0.03));
        assert_eq!(whole.cpu.max, Some(0.06));
    }

    #[test]
    fn without_vcpus_there_is_no_percentile() {
        let mut slices = Slices::new(1, 5 * MS);
        slices.finish();
        let (whole, steady) = slices.reports(1);
        assert_eq!(exact(&whole.vcpu), [None; 4]);
        assert_eq!(exact(&steady.cpu), [None; 4]);
        assert_eq!(exact(&whole.cpu), [Some(0); 4]);
    }

    #[test]
    fn a_day_of_a_large_host_takes_little_memory() {
        let mut slices = Slices::new(512, 86_400 * SECOND);
        for second in 0..200 {
            for cpu in 0..512 {
                slices.steal(second * 400 * SECOND, cpu, 1_000 + u64::from(cpu));
            }
        }
        slices.finish();
        let report = slices.reports(512).0.cpu;
        assert_eq!((report.windows, report.hit), (512 * 86_400_000, 512 * 200));
        assert!(slices.whole.cpu.pages.len() <= 1_001);
        assert_eq!(report.p999, Some(0.0));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_all_windows(
            thefts in prop::collection::vec((0u64..100, 1u64..3_000_000), 0..40),
        ) {
            let mut slices = Slices::new(1, 200 * MS);
            let mut at = 0;
            let mut lost = vec![0u64; 200];
            for (gap, ns) in thefts {
                at += gap * 10_000;
                slices.steal(at, 0, ns);
                for step in at..at + ns {
                    if let Some(lost) = lost.get_mut((step / MS) as usize) {
                        *lost += 1;
                    }
                }
                at += ns;
            }
            slices.finish();
            let all = Samples::new(lost, 0);
            let wanted = [500, 990, 999, 1000].map(|per_mille| all.percentile(per_mille));
            prop_assert_eq!(exact(&slices.reports(1).0.cpu), wanted);
        }
    }
}
