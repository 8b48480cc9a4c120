//! `rmpopt status` for people.

use std::fmt::Write as _;

use snp_host::state::{DriverKind, HostState, LibvirtGuest, RegionKind, Source};
use snp_host::system::NUMBERS;

use super::page::{BAD, FAINT, FAIR, GOOD, Page, paint};
use crate::units::size;

/// Columns of the labels.
const LABEL: usize = 14;

/// All of it.
pub(super) fn status(page: &mut Page, state: &HostState) {
    capability(page, state);
    snp(page, state);
    firmware(page, state);
    rmp(page, state);
    rmpopt(page, state);
    memory(page, state);
    guests(page, state);
    driver(page, state);
    for anomaly in &state.anomalies {
        row(page, "anomaly", anomaly);
    }
    missing(page, state);
}

fn row(page: &mut Page, label: &str, text: &str) {
    page.wrapped(&format!("{label:<LABEL$}"), LABEL, text);
}

/// A row with its verdict in colour.
fn verdict(page: &mut Page, label: &str, value: Option<bool>, words: [&str; 2], text: &str) {
    let (style, word) = match value {
        Some(true) => (GOOD, words[0]),
        Some(false) => (BAD, words[1]),
        None => (FAIR, "not known"),
    };
    page.line(&format!("{label:<LABEL$}{}", paint(style, word)));
    if !text.is_empty() {
        page.wrapped(&" ".repeat(LABEL), LABEL, text);
    }
}

fn capability(page: &mut Page, state: &HostState) {
    let capability = &state.capability;
    let reasons = capability.reasons.join("; ");
    verdict(page, "RMPOPT by CPU", capability.rmpopt_capable, ["yes", "no"], &reasons);
    let cpus = &state.cpus;
    let number = |n: Option<u32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let (online, cores, sockets) = (number(cpus.online), number(cpus.cores), number(cpus.sockets));
    let text = format!(
        "{online} online, {cores} cores, {sockets} sockets; CPUID of {} read",
        capability.cpus_asked
    );
    row(page, "CPUs", &text);
}

fn snp(page: &mut Page, state: &HostState) {
    verdict(page, "SNP", state.snp.enabled, ["on", "off"], &state.snp.reasons.join("; "));
}

/// Nothing where nobody asked it.
fn firmware(page: &mut Page, state: &HostState) {
    let Some(firmware) = &state.firmware else {
        let asked = |source: &&Source| source.fact == "firmware" && source.state != "not-asked";
        if let Some(detail) = state.sources.iter().find(asked).and_then(|s| s.detail.as_deref()) {
            row(page, "firmware", detail);
        }
        return;
    };
    let not = |is: bool| if is { "" } else { "not " };
    row(
        page,
        "firmware",
        &format!(
            "API {}, build {}, {}; RMP {}initialised; alias check {}complete; {} guests",
            firmware.api,
            firmware.build,
            firmware.state,
            not(firmware.rmp_initialised),
            not(firmware.alias_check_complete),
            firmware.guests
        ),
    );
    let ciphertext = match (firmware.ciphertext_hiding_capable, firmware.ciphertext_hiding) {
        (_, true) => "on",
        (true, false) => "off",
        (false, false) => "not offered",
    };
    let (tcb, reported) = (&firmware.tcb, &firmware.reported_tcb);
    row(page, "", &format!("TCB {tcb}, reported {reported}; ciphertext hiding {ciphertext}"));
}

fn rmp(page: &mut Page, state: &HostState) {
    let rmp = &state.rmp;
    let Some(kind) = rmp.kind else {
        row(page, "RMP", "not known");
        return;
    };
    let mut text = format!("{kind}, by {}", rmp.source.unwrap_or("?"));
    for range in rmp.ranges.iter().take(4) {
        let _ = write!(text, ", {}-{}", range.start, range.last);
    }
    if rmp.ranges.len() > 4 {
        let _ = write!(text, " and {} more ranges", rmp.ranges.len() - 4);
    }
    row(page, "RMP", &text);
    let covers = rmp
        .covers_bytes
        .map(|bytes| format!("covers {:.4} GiB", bytes as f64 / (1u64 << 30) as f64));
    let uncovered = match rmp.uncovered_bytes {
        Some(0) => "all RAM has entries".to_owned(),
        Some(bytes) => format!("{} of RAM have no entry", size(bytes)),
        None => "whether all RAM has entries is not known".to_owned(),
    };
    let text: Vec<String> = covers.into_iter().chain([uncovered]).collect();
    row(page, "", &text.join(", "));
}

fn rmpopt(page: &mut Page, state: &HostState) {
    let Some(rmpopt) = &state.rmpopt else {
        row(page, "RMPOPT", "whether it is on is not known");
        return;
    };
    let mut text = format!("on on {} of {} cores asked", rmpopt.cores_enabled, rmpopt.cores_asked);
    for window in &rmpopt.windows {
        let _ = write!(text, "; window {}-{} GiB", window.first_gib, window.end_gib);
    }
    row(page, "RMPOPT", &text);
    if rmpopt.cores_enabled > 0 && !rmpopt.cpus_disabled.is_empty() {
        row(page, "", &format!("off on CPUs {}", rmpopt.cpus_disabled));
    }
}

fn memory(page: &mut Page, state: &HostState) {
    let memory = &state.memory;
    let Some(source) = memory.source else {
        row(page, "memory", "not known");
        return;
    };
    let whose = if source == "driver" { "the emulated host's RAM" } else { "RAM" };
    row(page, "memory", &format!("{} of {whose} by {source}", size(memory.ram_bytes)));
    for kind in RegionKind::ALL {
        if let Some(bytes) = memory.by_state.get(kind.word()) {
            let regions = memory.regions.get(kind.word()).copied().unwrap_or(0);
            row(
                page,
                "",
                &format!("{:<10} {:>10} in {regions} regions", kind.word(), size(*bytes)),
            );
        }
    }
    for node in memory.nodes.iter().take(64) {
        let optimised = node.optimised_bytes.map_or_else(|| "not known".to_owned(), size);
        let (of, cpus) = (size(node.ram_bytes), &node.cpus);
        row(
            page,
            &format!("  node {}", node.node),
            &format!("{optimised} of {of} optimised, CPUs {cpus}"),
        );
    }
}

/// Guests of each kind that are shown.
const SHOWN: usize = 32;

fn guests(page: &mut Page, state: &HostState) {
    let guests = &state.guests;
    match &guests.processes {
        None => row(page, "SNP guests", "processes cannot be seen"),
        Some(running) => {
            row(page, "SNP guests", &format!("{} among processes", running.len()));
            for guest in running.iter().take(SHOWN) {
                let name = guest.name.as_deref().unwrap_or("without a name");
                let memory = guest.memory_bytes.map_or_else(|| "?".to_owned(), size);
                let of = guest.libvirt.as_ref().map_or_else(String::new, libvirt);
                row(page, "", &format!("{} {name}, {memory}, pid {}{of}", guest.vmm, guest.pid));
            }
            more(page, running.len());
        }
    }
    if let Some(defined) = guests.defined.as_ref().filter(|defined| !defined.is_empty()) {
        row(page, "", &format!("{} defined in libvirt, not running", defined.len()));
        for guest in defined.iter().take(SHOWN) {
            let memory = guest.memory_bytes.map_or_else(|| "?".to_owned(), size);
            let of = libvirt(&guest.libvirt);
            row(page, "", &format!("{} {}, {memory}{of}", guest.vmm, guest.name));
        }
        more(page, defined.len());
    }
    for (name, (used, capacity)) in &guests.asids {
        let capacity = capacity.map_or_else(|| "?".to_owned(), |n| n.to_string());
        row(page, "", &format!("ASIDs {name}: {used} of {capacity}"));
    }
}

fn more(page: &mut Page, all: usize) {
    if all > SHOWN {
        row(page, "", &format!("and {} more", all - SHOWN));
    }
}

/// What libvirt says of a guest, to go on a line.
fn libvirt(guest: &LibvirtGuest) -> String {
    let mut text = String::new();
    if let Some(vcpus) = guest.vcpus {
        let _ = write!(text, ", {vcpus} vCPUs");
    }
    if let Some(sizes) = &guest.hugepages_bytes {
        let sizes: Vec<String> = sizes.iter().copied().map(size).collect();
        let sizes = if sizes.is_empty() { "default size".to_owned() } else { sizes.join(", ") };
        let _ = write!(text, ", huge pages ({sizes})");
    }
    if let Some(nodes) = &guest.numa_nodes {
        let _ = write!(text, ", memory of nodes {nodes}");
    }
    if let Some(policy) = &guest.policy {
        let _ = write!(text, ", policy {policy}");
    }
    if let Some(state) = &guest.state {
        let _ = write!(text, ", libvirt: {state}");
    }
    text
}

fn driver(page: &mut Page, state: &HostState) {
    let driver = &state.driver;
    let kind = match driver.kind {
        DriverKind::Ours => "rmpopt.ko",
        DriverKind::Upstream => "AMD's series in the kernel",
        DriverKind::None => "none",
        DriverKind::Unknown => "not known",
    };
    let emulated = if driver.emulated == Some(true) { ", on emulated hardware" } else { "" };
    let mut text = format!("{kind}{emulated} ({})", driver.evidence);
    if let (Some(policy), Some(life)) = (&driver.policy, &driver.life) {
        let _ = write!(text, "; policy {policy}, {life}");
    }
    if let Some(age) = driver.changed_ms_ago {
        let _ = write!(text, "; its belief last changed {age} ms before it was read");
    }
    row(page, "driver", &text);
    let parameters = driver.parameters.iter().map(|(name, value)| format!("{name} {value}"));
    let known = driver.tunables.iter().flatten();
    let numbers = NUMBERS.iter().filter_map(|name| known.clone().find(|(n, _)| *n == name));
    let settings: Vec<String> =
        parameters.chain(numbers.map(|(name, value)| format!("{name} {value}"))).collect();
    if !settings.is_empty() {
        row(page, "", &format!("set to {}", settings.join(", ")));
    }
    if driver.kind == DriverKind::Ours && driver.tunables.is_none() {
        row(page, "", "its numbers are not known: configfs is not mounted, or not its folder");
    }
}

fn missing(page: &mut Page, state: &HostState) {
    let list = |facts: &[&str]| facts.join(", ");
    if !state.needs_root.is_empty() {
        row(page, &paint(FAINT, &format!("{:<LABEL$}", "needs root")), &list(&state.needs_root));
    }
    if !state.needs_deep.is_empty() {
        row(page, &paint(FAINT, &format!("{:<LABEL$}", "needs --deep")), &list(&state.needs_deep));
    }
}
