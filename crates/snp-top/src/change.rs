//! What changed from one sample to the next.

use std::collections::BTreeMap;

use serde::Serialize;
use snp_host::harmless;
use snp_host::state::{DriverKind, HostState, RegionKind, RegionState};

use crate::Sample;

/// Whether a change is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// Better than before.
    Good,
    /// Neither.
    Plain,
    /// Worse than before.
    Bad,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When it was seen, in milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// Whether it is good news.
    pub mood: Mood,
    /// What changed; nothing in it steers a terminal.
    pub text: String,
}

/// All changes between two samples, the driver's first.
pub(crate) fn changes(before: &Sample, now: &Sample) -> Vec<Change> {
    let mut found = Found { unix_ms: now.unix_ms, all: Vec::new() };
    let (old, new) = (&before.state, &now.state);
    found.driver(old, new);
    found.snp(old, new);
    found.sources(old, new);
    found.guests(old, new);
    if !std::sync::Arc::ptr_eq(&old.regions, &new.regions) {
        found.regions(&old.regions, &new.regions);
    }
    found.log(old, new);
    for anomaly in new.anomalies.iter().filter(|a| !old.anomalies.contains(a)) {
        found.add(Mood::Bad, anomaly);
    }
    found.all
}

struct Found {
    unix_ms: u64,
    all: Vec<Change>,
}

/// A fact before and after, for people.
fn moved<T: PartialEq + Copy>(old: T, new: T) -> Option<(T, T)> {
    (old != new).then_some((old, new))
}

pub(crate) const fn driver_name(kind: DriverKind) -> &'static str {
    match kind {
        DriverKind::Ours => "rmpopt.ko",
        DriverKind::Upstream => "AMD's series in the kernel",
        DriverKind::None => "none",
        DriverKind::Unknown => "not known",
    }
}

impl Found {
    fn add(&mut self, mood: Mood, text: &str) {
        self.all.push(Change { unix_ms: self.unix_ms, mood, text: harmless(text).into_owned() });
    }

    fn driver(&mut self, old: &HostState, new: &HostState) {
        let (old, new) = (&old.driver, &new.driver);
        if let Some((from, to)) = moved(old.kind, new.kind) {
            let mood = match to {
                DriverKind::Ours | DriverKind::Upstream => Mood::Good,
                DriverKind::None => Mood::Bad,
                DriverKind::Unknown => Mood::Plain,
            };
            self.add(mood, &format!("driver: {}, was {}", driver_name(to), driver_name(from)));
        }
        for (what, from, to) in
            [("policy", &old.policy, &new.policy), ("driver", &old.life, &new.life)]
        {
            if let (Some(from), Some(to)) = (from, to)
                && from != to
            {
                let mood = if to == "runs" { Mood::Good } else { Mood::Plain };
                self.add(mood, &format!("{what}: {to}, was {from}"));
            }
        }
        match (old.first_pass_over, new.first_pass_over) {
            (Some(false), Some(true)) => self.add(Mood::Good, "first pass over"),
            (Some(true), Some(false)) => self.add(Mood::Plain, "first pass under way again"),
            _ => {}
        }
        for (counter, words) in [
            ("audits.failed", "audits found a bit clear that was believed set"),
            ("faults", "exceptions in RMPOPT"),
            ("contradicted", "answers that contradict the belief"),
            ("unclean", "unclean ends"),
        ] {
            let of = |stats: &BTreeMap<String, u64>| stats.get(counter).copied().unwrap_or(0);
            let more = of(&new.stats).saturating_sub(of(&old.stats));
            if more > 0 && !old.stats.is_empty() {
                self.add(Mood::Bad, &format!("{more} {words}"));
            }
        }
    }

    fn snp(&mut self, old: &HostState, new: &HostState) {
        if let Some((_, Some(on))) = moved(old.snp.enabled, new.snp.enabled) {
            let (mood, word) = if on { (Mood::Good, "on") } else { (Mood::Bad, "off") };
            self.add(mood, &format!("SNP: {word}"));
        }
        let cores = |state: &HostState| state.rmpopt.as_ref().map(|r| r.cores_enabled);
        if let Some((Some(from), Some(to))) = moved(cores(old), cores(new)) {
            let mood = if to > from { Mood::Good } else { Mood::Bad };
            self.add(mood, &format!("RMPOPT on on {to} cores, was {from}"));
        }
    }

    /// A source that vanished or answers again.
    fn sources(&mut self, old: &HostState, new: &HostState) {
        for now in &new.sources {
            let Some(then) = old.sources.iter().find(|then| then.fact == now.fact) else {
                continue;
            };
            match (then.state == "answered", now.state == "answered") {
                (true, false) => {
                    let why = now.detail.as_deref().unwrap_or(now.state);
                    self.add(Mood::Bad, &format!("{} is gone: {why}", now.fact));
                }
                (false, true) => self.add(Mood::Plain, &format!("{} answers", now.fact)),
                _ => {}
            }
        }
    }

    fn guests(&mut self, old: &HostState, new: &HostState) {
        let (Some(old), Some(new)) = (&old.guests.processes, &new.guests.processes) else { return };
        let name = |guest: &snp_host::state::Guest| {
            let name = guest.name.as_deref().unwrap_or("without a name");
            format!("{name} ({}, pid {})", guest.vmm, guest.pid)
        };
        let among = |all: &[snp_host::state::Guest], pid| all.iter().any(|g| g.pid == pid);
        for guest in new.iter().filter(|guest| !among(old, guest.pid)) {
            self.add(Mood::Plain, &format!("SNP guest started: {}", name(guest)));
        }
        for guest in old.iter().filter(|guest| !among(new, guest.pid)) {
            self.add(Mood::Plain, &format!("SNP guest ended: {}", name(guest)));
        }
    }

    /// Regions that went from one state to another, one line for each pair of states.
    fn regions(&mut self, old: &[RegionState], new: &[RegionState]) {
        let mut moves: BTreeMap<(RegionKind, RegionKind), (u32, u32, u32)> = BTreeMap::new();
        let mut before = old.iter().peekable();
        for region in new {
            while before.next_if(|then| then.gib < region.gib).is_some() {}
            let Some(then) = before.next_if(|then| then.gib == region.gib) else { continue };
            if then.state != region.state {
                let (count, _, last) =
                    moves.entry((then.state, region.state)).or_insert((0, region.gib, region.gib));
                *count += 1;
                *last = region.gib;
            }
        }
        for ((from, to), (count, first, last)) in moves {
            let mood = match (from, to) {
                (_, RegionKind::Optimised) => Mood::Good,
                (RegionKind::Optimised, _) => Mood::Bad,
                _ => Mood::Plain,
            };
            let noun = if count == 1 { "region" } else { "regions" };
            let place =
                if first == last { format!("GiB {first}") } else { format!("GiB {first}-{last}") };
            let text = format!("{count} {noun}: {}, was {} ({place})", to.word(), from.word());
            self.add(mood, &text);
        }
        if old.len() != new.len() {
            let text = format!("{} regions are known, were {}", new.len(), old.len());
            self.add(Mood::Plain, &text);
        }
    }

    /// What the kernel's log has that it had not; `rmpopt-` kinds are the driver's own doings.
    fn log(&mut self, old: &HostState, new: &HostState) {
        if old.log.source != new.log.source {
            return;
        }
        for (kind, count) in &new.log.findings {
            let more = count.saturating_sub(old.log.count(kind));
            if more > 0 {
                let last = new.log.last_text(kind).unwrap_or_default();
                let (mood, times) =
                    (Mood::Plain, if more > 1 { format!(" x{more}") } else { String::new() });
                self.add(mood, &format!("log: {kind}{times}: {last}"));
            }
        }
    }
}
