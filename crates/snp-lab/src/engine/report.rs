//! The report of a run.

use rmpopt_core::table;
use rmpopt_core::upstream::version::Trigger;
use snp_defs::Region;

use super::{Engine, REJECTED_NOTES, mark_of};
use crate::policies::Kind;
use crate::report::{
    DriverReport, Fact, HostReport, MapReport, NeverReport, RegionMark, RunReport, TimelineEntry,
    TimelineKind, WindowReport,
};
use crate::scenario::{Nanos, PolicyName, SECOND};
use crate::words::count;

/// Map and table at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    map: MapReport,
    table: String,
}

impl Engine<'_> {
    /// Map and table as they are now.
    pub(super) fn take_snapshot(&self) -> Snapshot {
        Snapshot { map: MapReport::new(0, self.marks()), table: self.table() }
    }

    /// What each region is. Before the first SNP_INIT there are neither windows nor assigned pages:
    /// then, what firmware will take and what nobody has optimised yet.
    fn marks(&self) -> Vec<RegionMark> {
        let mut marks: Vec<_> = self.ledger.regions.iter().map(mark_of).collect();
        if self.windows.iter().flatten().next().is_none() {
            for mark in &mut marks {
                if *mark == RegionMark::Outside {
                    *mark = RegionMark::NotYet;
                }
            }
            for never in &self.boot.never_optimized {
                if let Some(mark) = marks.get_mut(never.region.index()) {
                    *mark = RegionMark::Firmware;
                }
            }
        }
        marks
    }

    /// Upstream's debugfs text: the rows of the window (of all windows, where there are several).
    fn table(&self) -> String {
        let windows = || self.windows.iter().flatten();
        let first = windows().map(|window| window.base.get()).min().unwrap_or(0);
        let end = windows().map(|window| window.end()).max().unwrap_or(0);
        let end = end.min(self.memory.spanned_regions());
        let mut text = String::new();
        for region in (first..end).filter_map(Region::new) {
            let mut cpus: Vec<u32> = (0..self.topology.cores())
                .filter(|&core| self.rmp.unit().is_optimised(snp_model::CoreId(core), region))
                .flat_map(|core| self.topology.cpus(core).iter().copied())
                .filter(|&cpu| self.cpus.is_online(cpu))
                .collect();
            cpus.sort_unstable();
            // Writing to a string cannot fail.
            let _ = table::write_row(&mut text, region, cpus.into_iter());
        }
        text
    }

    /// Everything the run found, once it is over. `wall_s` is the caller's to set.
    pub(crate) fn report(mut self) -> RunReport {
        let cpus: Vec<u32> = self.topology.iter_cpus().collect();
        let laws = self.laws.reports();
        let breaches = |claimed: bool| {
            laws.iter().filter(|law| law.claimed == claimed).map(|law| law.breaches).sum()
        };
        let mut assumed = self.setup.assumed.clone();
        assumed.extend(self.topology.assumptions().iter().cloned());
        assumed.extend(self.memory.assumptions().iter().cloned());
        assumed.extend(self.boot.assumed.iter().cloned());
        let snapshot = self.snapshot.take().unwrap_or_else(|| self.take_snapshot());
        if self.rejected > REJECTED_NOTES {
            let text = format!("{} guests were rejected in all", count(self.rejected));
            let t_s = self.now as f64 / SECOND as f64;
            self.timeline.push(TimelineEntry { t_s, kind: TimelineKind::Guest, text });
        }
        if self.untold > 0 {
            let text = format!("and {} more that are left out", count(self.untold));
            let t_s = self.now as f64 / SECOND as f64;
            self.timeline.push(TimelineEntry { t_s, kind: TimelineKind::Host, text });
        }
        let trace = self.setup.scenario.trace.as_ref().map(|_| {
            let mut trace = self.trace.clone();
            let left = self.guests.iter().filter(|guest| guest.traced && guest.is_there());
            trace.right_censored = left.count() as u64;
            trace
        });
        RunReport {
            schema_version: crate::report::SCHEMA_VERSION,
            emulated: true,
            scenario: self.setup.scenario.name.clone(),
            seed: self.setup.seed,
            policy: self.setup.policy.as_str(),
            fidelity: self.rmp.fidelity(),
            assumed,
            host: self.host_report(),
            trace,
            optimized: self.ledger.optimized(),
            rmpopt: self.meter.rmpopt(),
            ipis: self.meter.counts.ipis,
            wakeups: self.meter.counts.wakeups,
            interruptions: self.meter.interruptions(&cpus),
            passes: self.policy.passes(),
            reoptimize_s: self.ledger.reoptimize(),
            stolen_us: self.meter.stolen(&cpus),
            rmpupdates: self.meter.counts.rmpupdates,
            guests: self.meter.counts.guests,
            jitter_us: self.meter.jitter(&cpus),
            steady: self.meter.steady(&cpus),
            law_violations: breaches(true),
            law_breaches_unclaimed: breaches(false),
            simulated_s: self.now as f64 / SECOND as f64,
            wall_s: 0.0,
            share: self.ledger.points(),
            map: snapshot.map,
            never_optimizable: self
                .boot
                .never_optimized
                .iter()
                .map(|never| NeverReport {
                    region: u64::from(never.region.get()),
                    reason: never.reason.clone(),
                })
                .collect(),
            driver: self.driver_report(),
            cpus: self.meter.cpus(),
            jitter_map: self.meter.jitter_map(),
            table: snapshot.table,
            timeline: self.timeline,
            laws,
        }
    }

    fn host_report(&self) -> HostReport {
        let in_window =
            |region: &Region| self.windows.iter().flatten().any(|window| window.covers(*region));
        HostReport {
            sockets: self.topology.sockets(),
            cores: self.topology.cores(),
            cpus: self.topology.cpu_count(),
            memory_bytes: self.memory.memory_bytes(),
            regions: u64::from(self.memory.regions()),
            spanned_regions: u64::from(self.memory.spanned_regions()),
            window_regions: self.memory.iter_regions().filter(in_window).count() as u64,
        }
    }

    fn driver_report(&self) -> DriverReport {
        let mut windows: Vec<WindowReport> = Vec::new();
        for window in self.windows.iter().flatten() {
            let base_region = u64::from(window.base.get());
            match windows.iter_mut().find(|known| known.base_region == base_region) {
                Some(known) => known.cores += 1,
                None => windows.push(WindowReport { base_region, cores: 1 }),
            }
        }
        windows.sort_by_key(|window| window.base_region);
        let mut facts = Vec::new();
        let config = &self.config;
        match self.setup.policy.kind() {
            Kind::Tracked { .. } => {
                facts.push(Fact::new("delay after last activity", time(config.delay_ns)));
                facts.push(Fact::new("delay bound", time(config.bound_ns)));
                facts.push(Fact::new("tick", time(config.tick_ns)));
                facts.push(Fact::new("followers ride for", time(config.follow_ns)));
                facts.push(Fact::new("hold budget", time(config.hold_ns)));
                facts.push(Fact::new(
                    "followers woken at once",
                    config.followers_at_once.to_string(),
                ));
                facts.push(Fact::new("audit", time(config.audit_ns)));
                facts.push(Fact::new("drains of marks", count(self.meter.counts.drains)));
            }
            Kind::Upstream(version) if version.trigger == Trigger::RequestOnly => {}
            Kind::Upstream(version) => {
                facts.push(Fact::new(
                    "delay after a guest's end",
                    time(super::upstream_delay(self.setup, version)),
                ));
            }
            Kind::Oracle { delayed: true } => {
                facts.push(Fact::new("delay after last activity", time(config.delay_ns)));
            }
            Kind::Oracle { delayed: false } | Kind::Off => {}
        }
        if self.setup.policy != PolicyName::Off {
            facts.push(Fact::new("liveness bound", time(self.bound_ns)));
        }
        DriverReport { refused: self.refused.clone(), windows, facts }
    }
}

/// A time for people: `250 ms`.
fn time(ns: Nanos) -> String {
    let units = [(SECOND, "s"), (1_000_000, "ms"), (1_000, "us")];
    let (unit, name) = units.into_iter().find(|&(unit, _)| ns >= unit).unwrap_or((1, "ns"));
    let value = ns as f64 / unit as f64;
    let text = format!("{value:.3}");
    format!("{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
}
