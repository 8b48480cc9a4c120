//! Which source answered for which fact, and why others did not.

use serde::Serialize;

use crate::system::{Got, System};

const FIRMWARE: &str = "firmware";

/// One fact's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The fact.
    pub fact: &'static str,
    /// `answered`, or a word for why not: `absent`, `forbidden`, `malformed`, `not-asked`,
    /// `too-large`, `failed`.
    pub state: &'static str,
    /// The source that answered.
    pub source: Option<String>,
    /// How old what it says is, in milliseconds; null: it was true when it was read.
    pub age_ms: Option<u64>,
    /// Why it gave no answer.
    pub detail: Option<String>,
}

fn row<T>(fact: &'static str, got: &Got<T>, source: impl Fn(&T) -> String) -> Source {
    match got {
        Ok(value) => Source {
            fact,
            state: "answered",
            source: Some(source(value)),
            age_ms: None,
            detail: None,
        },
        Err(error) => Source {
            fact,
            state: error.why.word(),
            source: None,
            age_ms: None,
            detail: Some(error.to_string()),
        },
    }
}

pub(super) fn sources(system: &System) -> Vec<Source> {
    let at = |path: &'static str| move || path.to_owned();
    macro_rules! plain {
        ($fact:expr, $got:expr, $path:expr) => {{
            let path = at($path);
            row($fact, $got, |_| path())
        }};
    }
    let mut all = vec![
        plain!("cpus", &system.cpus, "/sys/devices/system/cpu"),
        row("cpuid", &system.cpuid, |cpuid| cpuid.source.clone()),
    ];
    for (number, name) in crate::system::MSRS {
        if let Some(got) = system.msrs.get(&number) {
            all.push(row(name, got, |(source, _)| source.clone()));
        }
    }
    all.extend([
        plain!("ram", &system.iomem, crate::system::IOMEM),
        plain!("nodes", &system.nodes, "/sys/devices/system/node"),
        plain!("hugepages", &system.hugepages, "/sys/kernel/mm/hugepages"),
        plain!("parameters", &system.params, "/sys/module"),
        plain!("tunables", &system.tunables, crate::system::TUNABLES),
        plain!("asids", &system.asids, "/sys/fs/cgroup/misc.current"),
        plain!("driver-stats", &system.stats, crate::system::STATS),
        plain!("driver-regions", &system.regions, crate::system::REGIONS),
        row("rmpopt-table", &system.table, |(path, _)| path.clone()),
        plain!("guests", &system.guests, "/proc/PID/cmdline"),
        plain!("libvirt", &system.libvirt, "/run/libvirt and /etc/libvirt"),
        plain!(FIRMWARE, &system.firmware, crate::system::SEV),
        row("kernel-log", &system.log, |(path, _)| path.clone()),
    ]);
    // Our module prints what it believes; how old that is stands in the head of its regions.
    if let (Ok(regions), Ok(_)) = (&system.regions, &system.stats) {
        for source in &mut all {
            if source.state == "answered"
                && ["rmpopt-table", "driver-regions"].contains(&source.fact)
            {
                source.age_ms = Some(regions.changed_ms_ago);
            }
        }
    }
    all
}

/// Facts whose source is in this state.
pub(super) fn needing(system: &System, state: &str) -> Vec<&'static str> {
    sources(system).iter().filter(|s| s.state == state).map(|s| s.fact).collect()
}

/// Facts that need `deep`.
pub(super) fn not_deep(system: &System) -> Vec<&'static str> {
    let mut facts = needing(system, "not-asked");
    // Nothing but --firmware asks it.
    facts.retain(|fact| *fact != FIRMWARE);
    let online = system.cpus.as_ref().map_or(0, |cpus| cpus.online.len() as usize);
    let fewer = |asked: usize| !system.deep && asked > 0 && asked < online;
    let asked =
        |got: &Got<(String, crate::system::Values)>| got.as_ref().map_or(0, |(_, v)| v.len());
    if system.msrs.values().any(|got| fewer(asked(got))) {
        facts.push("MSRs of all CPUs");
    }
    if fewer(system.cpuid.as_ref().map_or(0, |cpuid| cpuid.cpus.len())) {
        facts.push("CPUID of all CPUs");
    }
    facts
}
