//! A host as metrics. Names, units and labels: docs/fleet.md.
//!
//! What is not known has no sample: 0 would be a claim. Labels have few values (never one for each
//! region or CPU), so that a host of any size stays within 200 series.

use snp_host::state::{DriverKind, HostState, RegionKind, Verdict, doctor};

use super::encode::{Family, Kind, Labels, Value};

/// Most series of one host.
#[cfg(test)]
pub(crate) const MAX_SERIES: usize = 200;
/// Nodes with series of their own; the others are summed up.
const MAX_NODES: usize = 12;
/// ASID pools, as a file names them.
const MAX_POOLS: usize = 4;

/// All metrics of a host.
pub(crate) fn families(state: &HostState) -> Vec<Family> {
    let mut all = Vec::new();
    host(&mut all, state);
    memory(&mut all, state);
    guests(&mut all, state);
    driver(&mut all, state);
    checks(&mut all, state);
    sources(&mut all, state);
    all
}

fn family(name: &'static str, help: &'static str, kind: Kind) -> Family {
    Family { name, help, kind, samples: Vec::new() }
}

/// A gauge without labels; none if it is not known.
pub(crate) fn gauge(name: &'static str, help: &'static str, value: Option<Value>) -> Family {
    let samples = value.into_iter().map(|value| (Vec::new(), value)).collect();
    Family { samples, ..family(name, help, Kind::Gauge) }
}

fn whole(value: impl Into<u64>) -> Value {
    Value::Whole(value.into())
}

fn label(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

fn host(all: &mut Vec<Family>, state: &HostState) {
    let (cap, cpus) = (&state.capability, &state.cpus);
    let mut online =
        family("rmp_cpus", "CPUs that are online, and present ones that are offline.", Kind::Gauge);
    let offline = cpus.offline.as_deref().and_then(count);
    for (word, number) in [("online", cpus.online), ("offline", offline)] {
        online.samples.extend(number.map(|n| (label("state", word), whole(n))));
    }
    all.push(online);
    let cores = "Cores with an online CPU.";
    all.push(gauge("rmp_cores", cores, cpus.cores.map(whole)));
    let capable = "Whether all CPUs asked have SEV-SNP, a segmented RMP and RMPOPT.";
    all.push(gauge("rmp_rmpopt_capable", capable, cap.rmpopt_capable.map(whole)));
    let enabled = "Whether SYSCFG has SNP_EN on all CPUs asked.";
    all.push(gauge("snp_enabled", enabled, state.snp.enabled.map(whole)));

    let rmp = &state.rmp;
    let known = rmp.kind.is_some();
    let bytes = "Memory of the RMP as far as it is known.";
    all.push(gauge("rmp_table_bytes", bytes, known.then(|| whole(rmp.bytes))));
    let covers = "Memory from address 0 that has entries, of a contiguous RMP.";
    all.push(gauge("rmp_covered_bytes", covers, rmp.covers_bytes.map(whole)));
    let without = "RAM that has no entry in the RMP.";
    all.push(gauge("rmp_ram_uncovered_bytes", without, rmp.uncovered_bytes.map(whole)));

    let opt = state.rmpopt.as_ref();
    let asked = "Cores whose RMPOPT_BASE was read; one, unless every CPU is asked.";
    all.push(gauge("rmp_cores_asked", asked, opt.map(|o| whole(o.cores_asked))));
    let on = "Cores of those asked on which RMPOPT is enabled.";
    all.push(gauge("rmp_cores_enabled", on, opt.map(|o| whole(o.cores_enabled))));
    let differ = "Cores whose RMPOPT_BASE is not what most have; only where several were asked.";
    let several = opt.filter(|o| o.cores_asked > 1);
    let most = several.map(|o| {
        let off = o.cores_asked - o.cores_enabled;
        o.cores_asked - o.windows.iter().map(|w| w.cores).chain([off]).max().unwrap_or(0)
    });
    all.push(gauge("rmp_cores_disagreeing", differ, most.map(whole)));
}

/// How many CPUs a list such as `0-3,7` has.
fn count(list: &str) -> Option<u32> {
    if list.is_empty() {
        return Some(0);
    }
    snp_host::CpuList::parse(list).ok().map(|list| list.len())
}

fn memory(all: &mut Vec<Family>, state: &HostState) {
    let memory = &state.memory;
    let mut regions = family("rmp_regions", "Regions of 1 GiB with RAM, by state.", Kind::Gauge);
    if memory.source.is_some() {
        for kind in RegionKind::ALL {
            let number = memory.regions.get(kind.word()).copied().unwrap_or(0);
            regions.samples.push((label("state", word(kind)), whole(number)));
        }
    }
    all.push(regions);
    let mut ram = family("rmp_ram_bytes", "RAM by NUMA node.", Kind::Gauge);
    let mut optimised = family(
        "rmp_optimized_bytes",
        "RAM in regions that every core has optimised, by NUMA node.",
        Kind::Gauge,
    );
    let mut partial = family(
        "rmp_partial_bytes",
        "RAM in regions that some cores have optimised, by NUMA node.",
        Kind::Gauge,
    );
    let mut put = |node: &str, bytes: [Option<u64>; 3]| {
        for (family, bytes) in [&mut ram, &mut optimised, &mut partial].into_iter().zip(bytes) {
            family.samples.extend(bytes.map(|bytes| (label("node", node), whole(bytes))));
        }
    };
    if memory.nodes.is_empty() && memory.source.is_some() {
        let known = memory.by_state.keys().any(|state| *state != RegionKind::Unknown.word());
        let of = |kind: RegionKind| memory.by_state.get(kind.word()).copied().unwrap_or(0);
        let of = |kind| known.then(|| of(kind));
        let all = Some(memory.ram_bytes);
        put("all", [all, of(RegionKind::Optimised), of(RegionKind::Partial)]);
    }
    let (own, rest) = memory.nodes.split_at(memory.nodes.len().min(MAX_NODES));
    let bytes = |node: &snp_host::state::NodeState| {
        [Some(node.ram_bytes), node.optimised_bytes, node.partial_bytes]
    };
    for node in own {
        put(&node.node.to_string(), bytes(node));
    }
    let sum =
        rest.iter().map(bytes).reduce(|a, b| [0, 1, 2].map(|n| Some(a[n]?.saturating_add(b[n]?))));
    if let Some(sum) = sum {
        put("other", sum);
    }
    all.extend([ram, optimised, partial]);
}

const fn word(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Optimised => "optimized",
        RegionKind::Partial => "partial",
        RegionKind::None => "unoptimized",
        RegionKind::Outside => "outside",
        RegionKind::Unknown => "unknown",
    }
}

fn guests(all: &mut Vec<Family>, state: &HostState) {
    let processes = state.guests.processes.as_ref();
    let guests = "SNP guests among processes.";
    all.push(gauge("snp_guests", guests, processes.map(|p| whole(p.len() as u64))));
    let asked = "Memory that SNP guests were started with, where their command line says it.";
    let sum = processes
        .map(|p| p.iter().filter_map(|guest| guest.memory_bytes).fold(0, u64::saturating_add));
    all.push(gauge("snp_guest_memory_bytes", asked, sum.map(whole)));
    let mut used =
        family("snp_asids", "ASIDs in use; SNP guests count in pool sev_es.", Kind::Gauge);
    let mut limit = family("snp_asids_limit", "ASIDs that there are.", Kind::Gauge);
    for (pool, (in_use, capacity)) in state.guests.asids.iter().take(MAX_POOLS) {
        used.samples.push((label("pool", pool), whole(*in_use)));
        limit.samples.extend(capacity.map(|n| (label("pool", pool), whole(n))));
    }
    all.extend([used, limit]);
}

/// A counter of the driver: its key, the metric, a label, and units of the file in one of ours.
type Counted =
    (&'static str, &'static str, &'static str, Option<(&'static str, &'static str)>, f64);

const COUNTED: [Counted; 24] = [
    ("rmpopt.executed", "rmp_rmpopt", "RMPOPT instructions run.", None, 1.0),
    ("rmpopt.leader", "rmp_rmpopt_verifies", VERIFIES, Some(("role", "leader")), 1.0),
    ("rmpopt.followers", "rmp_rmpopt_verifies", VERIFIES, Some(("role", "follower")), 1.0),
    ("rmpopt.clean", "rmp_rmpopt_results", RESULTS, Some(("result", "clean")), 1.0),
    ("rmpopt.dirty", "rmp_rmpopt_results", RESULTS, Some(("result", "dirty")), 1.0),
    ("rmpopt.report", "rmp_rmpopt_reports", "RMPOPT instructions that only report.", None, 1.0),
    ("rmpopt.slow", "rmp_rmpopt_slow", "RMPOPTs that took longer than their slot.", None, 1.0),
    ("ipis", "rmp_ipis", "Interprocessor interrupts, counted per target CPU.", None, 1.0),
    ("wakeups", "rmp_wakeups", "Work items that woke their worker.", None, 1.0),
    ("interruptions.total", "rmp_interruptions", "Involuntary losses of a CPU.", None, 1.0),
    ("cpu.taken_ns", "rmp_cpu_seconds", "CPU time taken from all CPUs together.", None, 1e9),
    ("passes", "rmp_passes", "Passes.", None, 1.0),
    ("results.stale", "rmp_results_stale", "Results void by the time they came.", None, 1.0),
    ("pairs.gained", "rmp_pairs", PAIRS, Some(("change", "gained")), 1.0),
    ("pairs.lost", "rmp_pairs", PAIRS, Some(("change", "lost")), 1.0),
    ("marks.shared", "rmp_marks", MARKS, Some(("page", "shared")), 1.0),
    ("marks.lost", "rmp_marks", MARKS, Some(("page", "assigned")), 1.0),
    ("audits.run", "rmp_audits", "Bits that an audit read back.", None, 1.0),
    ("audits.failed", "rmp_audit_failures", "Audits that found a bit clear.", None, 1.0),
    ("base_writes", "rmp_base_writes", "Writes of RMPOPT_BASE.", None, 1.0),
    ("snp_inits", "snp_inits", "Initialisations of SNP that made RMPOPT usable.", None, 1.0),
    ("contradicted", "rmp_contradictions", "Times hardware contradicted the driver.", None, 1.0),
    ("faults", "rmp_faults", "Exceptions in the driver's instructions.", None, 1.0),
    ("unclean", "rmp_unclean_ends", "Ends of SNP before the driver had stopped.", None, 1.0),
];

const VERIFIES: &str = "RMPOPT instructions that verify, by who ran them.";
const RESULTS: &str = "Verifies by what they found: no assigned page (clean) or one (dirty).";
const PAIRS: &str = "Pairs of core and region that became or ceased to be optimised.";
const MARKS: &str = "Regions marked because a page in them became shared or assigned.";

fn driver(all: &mut Vec<Family>, state: &HostState) {
    let driver = &state.driver;
    let mut info = family("rmp_driver", "Who runs RMPOPT, and how.", Kind::Info);
    let kind = match driver.kind {
        DriverKind::Ours => "rmpopt",
        DriverKind::Upstream => "upstream",
        DriverKind::None => "none",
        DriverKind::Unknown => "unknown",
    };
    let words = [
        ("driver", kind.to_owned()),
        ("policy", driver.policy.clone().unwrap_or_default()),
        ("life", driver.life.clone().unwrap_or_default()),
        ("emulated", driver.emulated.map_or_else(|| "unknown".to_owned(), |is| is.to_string())),
    ];
    info.samples.push((words.to_vec(), whole(1u64)));
    all.push(info);
    let over = "Whether every region was looked at once since SNP came up.";
    let first = driver.first_pass_over.map(whole);
    all.push(gauge("rmp_driver_first_pass_complete", over, first));
    let age = "How long before the reading the driver's belief last changed.";
    let changed = driver.changed_ms_ago.map(|ms| Value::Real(ms as f64 / 1e3));
    all.push(gauge("rmp_driver_belief_age_seconds", age, changed));
    let hold = "The longest time a CPU was held since the driver was loaded.";
    let longest = driver.stats.get("hold.longest_ns").map(|ns| Value::Real(*ns as f64 / 1e9));
    all.push(gauge("rmp_longest_hold_seconds", hold, longest));
    for (key, name, help, labelled, scale) in COUNTED {
        let Some(value) = driver.stats.get(key).copied() else { continue };
        // Counters with the same name follow each other in the table.
        if all.last().is_none_or(|last| last.name != name) {
            all.push(family(name, help, Kind::Counter));
        }
        let value = if scale > 1.0 { Value::Real(value as f64 / scale) } else { whole(value) };
        let labels = labelled.into_iter().map(|(name, word)| (name, word.to_owned())).collect();
        if let Some(last) = all.last_mut() {
            last.samples.push((labels, value));
        }
    }
}

fn checks(all: &mut Vec<Family>, state: &HostState) {
    let checks = doctor(state);
    let mut by_status =
        family("rmp_doctor_checks", "Checks of rmpopt doctor, by how they ended.", Kind::Gauge);
    for (verdict, word) in [
        (Verdict::Ok, "ok"),
        (Verdict::Problem, "problem"),
        (Verdict::Unknown, "unknown"),
        (Verdict::NotApplicable, "not_applicable"),
    ] {
        let number = checks.iter().filter(|check| check.status == verdict).count();
        by_status.samples.push((label("status", word), whole(number as u64)));
    }
    let mut failed = family(
        "rmp_doctor_check_failed",
        "Whether a check of rmpopt doctor failed; none for one that could not be made.",
        Kind::Gauge,
    );
    for check in checks.iter().filter(|check| check.status != Verdict::Unknown) {
        let labels = vec![("id", check.id.to_owned()), ("severity", check.severity.to_owned())];
        failed.samples.push((labels, whole(check.status == Verdict::Problem)));
    }
    all.extend([by_status, failed]);
}

fn sources(all: &mut Vec<Family>, state: &HostState) {
    let mut info = family("rmp_source", "Which source answered for which fact.", Kind::Info);
    for source in &state.sources {
        let labels = vec![
            ("fact", source.fact.to_owned()),
            ("state", source.state.to_owned()),
            ("source", source.source.clone().unwrap_or_default()),
        ];
        info.samples.push((labels, whole(1u64)));
    }
    all.push(info);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use snp_host::state::{CHECKS, NodeState};
    use snp_host::system::{Record, Root, System};

    use super::super::encode::{Format, encode};
    use super::*;

    fn empty() -> HostState {
        HostState::of(&System::read(&Root::snapshot(Record::default()), false))
    }

    fn samples(families: &[Family]) -> usize {
        families.iter().map(|family| family.samples.len()).sum()
    }

    /// A host with more of everything than there is.
    fn largest() -> HostState {
        let mut state = empty();
        let nodes = (0..1024).map(|node| NodeState {
            node,
            ram_bytes: 1,
            optimised_bytes: Some(1),
            partial_bytes: Some(1),
            ..NodeState::default()
        });
        state.memory.nodes = nodes.collect();
        state.memory.source = Some("iomem");
        state.guests.asids = (0..99).map(|n| (format!("sev{n}"), (1, Some(1)))).collect();
        state.guests.processes = Some(Vec::new());
        state.driver.stats = COUNTED.iter().map(|row| (row.0.to_owned(), 7)).collect();
        state.driver.stats.insert("hold.longest_ns".to_owned(), 1_500);
        state.driver.changed_ms_ago = Some(1);
        state.driver.first_pass_over = Some(true);
        state.rmpopt = Some(snp_host::state::Rmpopt::default());
        state.rmp.covers_bytes = Some(1);
        state.rmp.uncovered_bytes = Some(1);
        state.rmp.kind = Some("contiguous");
        state.snp.enabled = Some(true);
        state.cpus.cores = Some(1);
        state.cpus.online = Some(1);
        state.cpus.offline = Some("1-3,9".to_owned());
        state.capability.rmpopt_capable = Some(true);
        state
    }

    #[test]
    fn the_largest_host_has_few_series() {
        let families = families(&largest());
        let series = samples(&families);
        // Checks that this host leaves unknown, and what a server says of itself, come on top.
        let unknown = CHECKS.len();
        assert!(series + unknown + super::super::sample::OWN_SERIES <= MAX_SERIES, "{series}");
        let other = families.iter().find(|family| family.name == "rmp_ram_bytes").unwrap();
        let (labels, value) = other.samples.last().unwrap();
        assert_eq!((labels[0].1.as_str(), *value), ("other", Value::Whole(1024 - 12)));
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let text = encode(&families(&empty()), Format::Prometheus);
        for absent in ["snp_enabled", "rmp_regions", "rmp_ram_bytes", "rmp_cpus", "snp_guests"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        assert!(text.contains("rmp_driver_info{driver=\"unknown\""), "{text}");
    }

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let all = families(&largest());
        let names: BTreeSet<_> = all.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), all.len());
        for family in &all {
            assert!(family.name.starts_with("rmp_") || family.name.starts_with("snp_"));
            assert!(!family.name.ends_with("_total") && !family.name.ends_with("_info"));
            assert!(family.help.ends_with('.') && !family.help.contains('"'), "{}", family.name);
        }
    }

    #[test]
    fn cores_that_differ_from_most() {
        let mut state = empty();
        let window = |first_gib, cores| snp_host::state::WindowState {
            first_gib,
            end_gib: first_gib + 2048,
            cores,
        };
        state.rmpopt = Some(snp_host::state::Rmpopt {
            cores_asked: 10,
            cores_enabled: 9,
            windows: vec![window(0, 7), window(1, 2)],
            ..Default::default()
        });
        let text = encode(&families(&state), Format::Prometheus);
        assert!(text.contains("\nrmp_cores_disagreeing 3\n"), "{text}");
    }
}
