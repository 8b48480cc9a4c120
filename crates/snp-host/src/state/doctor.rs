//! Numbered checks of a host: what is wrong, how that is known, what to do.

use serde::Serialize;

use super::{DriverKind, HostState, RegionKind};
use crate::decode::Severity;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Looked at and fine.
    Ok,
    /// Something is wrong.
    Problem,
    /// It could not be looked at.
    Unknown,
    /// It does not matter on this host.
    NotApplicable,
}

/// A check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its number, such as `D002`.
    pub id: &'static str,
    /// What is checked.
    pub title: &'static str,
    /// How bad it is if it fails: `error`, `warning`, `info`.
    pub severity: &'static str,
    /// How it ended.
    pub status: Verdict,
    /// What that is based on.
    pub evidence: String,
    /// What to do; empty unless it failed.
    pub fix: &'static str,
}

type Ended = (Verdict, String);
type Rule = fn(&HostState) -> Ended;

/// Id, title, severity, what to do, and the check itself. Ids are never used again.
type Row = (&'static str, &'static str, Severity, &'static str, Rule);

use Severity::{Error, Info, Warning};

const ROWS: [Row; 24] = [
    (
        "D001",
        "the CPU has SEV-SNP",
        Error,
        "Enable SEV-SNP in the BIOS (SMEE, SEV control, SNP support); a CPU before EPYC Milan has none.",
        has_snp,
    ),
    (
        "D002",
        "the BIOS reserved memory for the RMP",
        Error,
        "In the BIOS set SNP Memory (RMP Table) Coverage to Enabled, or to a custom size of all RAM.",
        reserved,
    ),
    (
        "D003",
        "the RMP covers all RAM",
        Error,
        "In the BIOS set the custom SNP memory coverage to at least the end of RAM, or coverage to Enabled.",
        covers,
    ),
    (
        "D004",
        "the RMP's edges lie on 2 MiB",
        Warning,
        "Use a kernel with commit 88a921aa3c6b (6.11 or later), which keeps the 2 MiB around the edges from use.",
        edges,
    ),
    (
        "D005",
        "all CPUs have the same SNP registers",
        Error,
        "A BIOS fault: update it; do not run SNP guests until SYSCFG and the RMP registers are equal on all CPUs.",
        registers_agree,
    ),
    (
        "D006",
        "SNP is on",
        Error,
        "Boot with kvm_amd.sev_snp=1 on a kernel with SNP host support (6.11 or later), IOMMU on and no passthrough; the evidence says what stopped it.",
        snp_on,
    ),
    (
        "D007",
        "the RMP is segmented",
        Warning,
        "Enable the segmented RMP in the BIOS; RMPOPT needs it.",
        segmented,
    ),
    (
        "D008",
        "all CPUs have the same CPUID",
        Error,
        "CPUs of different kinds, or microcode that was not loaded on all: update BIOS and microcode.",
        cpuid_agrees,
    ),
    (
        "D009",
        "the CPU has RMPOPT",
        Info,
        "None: RMPOPT comes with EPYC Venice (Zen 6).",
        has_rmpopt,
    ),
    (
        "D010",
        "RMPOPT is on on every core",
        Error,
        "Load the driver again once all CPUs are online; a core that was offline then has no base.",
        enabled,
    ),
    (
        "D011",
        "all cores have the same window",
        Warning,
        "Bases differ: two drivers, or one that was stopped half way. Shut SNP down and load one driver.",
        same_window,
    ),
    (
        "D012",
        "the window reaches all RAM",
        Warning,
        "RAM beyond 2 TiB from the base keeps its RMP checks; place SNP guests there and ordinary ones below.",
        window,
    ),
    (
        "D013",
        "somebody runs RMPOPT",
        Warning,
        "Load a driver (rmpopt.ko), or a kernel with AMD's RMPOPT series.",
        driver,
    ),
    (
        "D014",
        "regions are optimised on all cores alike",
        Warning,
        "Wait for the pass under way; if it stays, read the driver's audit file and its log.",
        partial,
    ),
    (
        "D015",
        "no pages leaked",
        Warning,
        "Pages that could not be taken back stay assigned until a reboot; each keeps its region from being optimised.",
        leaked,
    ),
    (
        "D016",
        "regions do not churn",
        Warning,
        "Most verifies find assigned pages: raise delay_ms, or place SNP guests on fewer regions (1 GiB huge pages).",
        churn,
    ),
    (
        "D017",
        "the firmware is new enough",
        Error,
        "Update the SEV firmware (amd_sev_*.sbin in /lib/firmware/amd, or the BIOS) and reload ccp.",
        firmware,
    ),
    (
        "D018",
        "the firmware initialised SNP",
        Error,
        "See `rmpopt decode` on the log for the command's status and what it means.",
        initialised,
    ),
    (
        "D019",
        "no RMPUPDATE or PSMASH failed",
        Error,
        "See `rmpopt decode` on the log: result, page and caller name the cause.",
        updates,
    ),
    (
        "D020",
        "no access broke on the RMP",
        Error,
        "See `rmpopt decode` on the log; a host that writes to a guest's page is a kernel bug or a device.",
        faults,
    ),
    (
        "D021",
        "the driver's belief holds",
        Error,
        "Unload the driver and report it with `rmpopt snapshot`.",
        belief,
    ),
    (
        "D022",
        "ASIDs are left for SNP guests",
        Warning,
        "Raise the number of SEV-ES/SNP ASIDs in the BIOS (SEV-ES ASID Space Limit).",
        asids,
    ),
    (
        "D023",
        "KVM runs SNP guests",
        Warning,
        "Load kvm_amd with sev_snp=1; its log says why it was switched off.",
        kvm,
    ),
    (
        "D024",
        "all CPUs are online",
        Warning,
        "Bring all CPUs online before SNP starts: a CPU without SNP_EN does no RMP checks, and Linux refuses SNP.",
        online,
    ),
];

/// The checks: id, title, severity, what to do.
pub const CHECKS: [(&str, &str, &str, &str); ROWS.len()] = {
    let mut all = [("", "", "", ""); ROWS.len()];
    let mut n = 0;
    while n < ROWS.len() {
        all[n] = (ROWS[n].0, ROWS[n].1, ROWS[n].2.name(), ROWS[n].3);
        n += 1;
    }
    all
};

/// Runs all checks, in the order of their numbers.
pub fn doctor(state: &HostState) -> Vec<Check> {
    let check = |&(id, title, severity, fix, rule): &Row| {
        let (status, evidence) = rule(state);
        let fix = if status == Verdict::Problem { fix } else { "" };
        Check { id, title, severity: severity.name(), status, evidence, fix }
    };
    ROWS.iter().map(check).collect()
}

fn ok(evidence: impl Into<String>) -> Ended {
    (Verdict::Ok, evidence.into())
}

fn problem(evidence: impl Into<String>) -> Ended {
    (Verdict::Problem, evidence.into())
}

fn unknown(evidence: impl Into<String>) -> Ended {
    (Verdict::Unknown, evidence.into())
}

fn idle(evidence: impl Into<String>) -> Ended {
    (Verdict::NotApplicable, evidence.into())
}

/// Why a fact is not there: its source's own words.
fn why(state: &HostState, fact: &str) -> String {
    let source = state.sources.iter().find(|source| source.fact == fact);
    source.and_then(|s| s.detail.clone()).unwrap_or_else(|| format!("{fact} is not known"))
}

fn capable(state: &HostState) -> bool {
    state.capability.rmpopt_capable == Some(true)
}

fn has_snp(state: &HostState) -> Ended {
    match state.capability.first.snp {
        Some(true) => ok("CPUID Fn8000_001F EAX[4] is set"),
        Some(false) => problem(state.capability.reasons.join("; ")),
        None => unknown(why(state, "cpuid")),
    }
}

/// A finding of the log, or nothing of it.
fn logged(state: &HostState, kinds: &[&str]) -> Ended {
    for kind in kinds {
        if let Some(text) = state.log.first_text(kind) {
            return problem(format!("{} in the log, the first: {text}", state.log.count(kind)));
        }
    }
    match &state.log.source {
        Some(path) if state.log.role != Some("guest") => ok(format!("nothing of it in {path}")),
        Some(path) => unknown(format!("{path} is a guest's log")),
        None => unknown(why(state, "kernel-log")),
    }
}

fn reserved(state: &HostState) -> Ended {
    if state.log.count("rmp-not-reserved") > 0 {
        return logged(state, &["rmp-not-reserved"]);
    }
    match state.rmp.kind {
        Some("none") if state.capability.first.snp == Some(false) => {
            idle("the CPU shows no SNP; RMP_BASE and RMP_END are 0")
        }
        Some("none") => problem("RMP_BASE and RMP_END are 0"),
        Some(kind) => ok(format!("{kind}, {} MiB", state.rmp.bytes >> 20)),
        None => unknown(why(state, "RMP_BASE")),
    }
}

fn covers(state: &HostState) -> Ended {
    if state.log.count("rmp-too-small") > 0 {
        return logged(state, &["rmp-too-small"]);
    }
    match (state.rmp.kind, state.rmp.uncovered_bytes) {
        (Some("none"), _) => idle("there is no RMP"),
        (_, Some(0)) => ok("every byte of RAM has an entry"),
        (_, Some(bytes)) => {
            problem(format!("{} MiB of RAM have no entry", bytes.div_ceil(1 << 20)))
        }
        (Some("segmented"), None) => unknown("the segments are known from the kernel log alone"),
        (Some(_), None) => unknown(why(state, "ram")),
        (None, None) => unknown(why(state, "RMP_BASE")),
    }
}

fn edges(state: &HostState) -> Ended {
    let edges = &state.rmp.unaligned_edges;
    if state.rmp.kind.is_none_or(|kind| kind == "none") || state.rmp.ranges.is_empty() {
        return idle("no RMP is known");
    }
    if edges.is_empty() {
        return ok("all edges lie on 2 MiB");
    }
    let kept = state.log.count("rmp-edge-reserved");
    if kept > 0 {
        return ok(format!("{}; the kernel keeps {kept} edges from use", edges.join(", ")));
    }
    // Of a log cut at its head nothing follows from what it lacks.
    if state.log.kernel.is_none() {
        return unknown(format!(
            "{}; no whole log says whether the kernel keeps them",
            edges.join(", ")
        ));
    }
    problem(format!(
        "{}; the log does not say that the kernel keeps them from use",
        edges.join(", ")
    ))
}

fn registers_agree(state: &HostState) -> Ended {
    let snp: Vec<_> = state.registers.iter().filter(|r| r.name != "RMPOPT_BASE").collect();
    for register in &snp {
        if register.values.len() > 1 {
            let values = register.values.iter().take(4);
            let values: Vec<_> = values.map(|v| format!("{} on {}", v.value, v.cpus)).collect();
            return problem(format!("{}: {}", register.name, values.join("; ")));
        }
    }
    match snp.first() {
        None => unknown(why(state, "SYSCFG")),
        Some(register) if register.cpus_asked < 2 => unknown("one CPU was asked; --deep asks all"),
        Some(register) => ok(format!("equal on {} CPUs", register.cpus_asked)),
    }
}

fn snp_on(state: &HostState) -> Ended {
    let reasons = state.snp.reasons.join("; ");
    match state.snp.enabled {
        _ if state.capability.first.snp == Some(false) => idle("the CPU shows no SNP"),
        Some(true) => ok(reasons),
        Some(false) => problem(reasons),
        None => {
            let off = super::log::SNP_OFF.iter().any(|(kind, _)| state.log.count(kind) > 0);
            if off { problem(reasons) } else { unknown(reasons) }
        }
    }
}

fn segmented(state: &HostState) -> Ended {
    match (state.capability.first.segmented_rmp, state.rmp.kind) {
        (Some(false), _) => idle("the CPU has contiguous RMPs only"),
        (Some(true), Some("contiguous")) => {
            problem("the CPU can have one, and the RMP is contiguous")
        }
        (_, Some("segmented")) => ok("RMP_CFG or the log say so"),
        (_, Some("none")) => idle("there is no RMP"),
        (None, _) => unknown(why(state, "cpuid")),
        (_, _) => unknown(why(state, "RMP_CFG")),
    }
}

fn cpuid_agrees(state: &HostState) -> Ended {
    match (state.capability.cpus_agree, state.capability.differs) {
        (Some(true), _) => ok(format!("equal on {} CPUs", state.capability.cpus_asked)),
        (Some(false), cpu) => problem(format!(
            "CPU {} differs from the first one",
            cpu.map_or_else(|| "?".to_owned(), |cpu| cpu.to_string())
        )),
        (None, _) if state.capability.cpus_asked == 1 => {
            unknown("one CPU was asked; --deep asks all")
        }
        (None, _) => unknown(why(state, "cpuid")),
    }
}

fn has_rmpopt(state: &HostState) -> Ended {
    match state.capability.first.rmpopt {
        Some(true) => ok("CPUID Fn8000_0025 EDX[0] is set"),
        Some(false) => problem("CPUID does not show Fn8000_0025 EDX[0]"),
        None => unknown(why(state, "cpuid")),
    }
}

fn enabled(state: &HostState) -> Ended {
    let Some(rmpopt) = &state.rmpopt else {
        if state.capability.rmpopt_capable == Some(false) {
            return idle("no RMPOPT here");
        }
        return unknown(why(state, "RMPOPT_BASE"));
    };
    if !rmpopt.cpus_malformed.is_empty() {
        return problem(format!("reserved bits of RMPOPT_BASE on CPUs {}", rmpopt.cpus_malformed));
    }
    let counted = format!("{} of {} cores asked", rmpopt.cores_enabled, rmpopt.cores_asked);
    if rmpopt.cores_enabled == 0 {
        return idle(format!("on nowhere ({counted})"));
    }
    if rmpopt.cores_enabled < rmpopt.cores_asked {
        return problem(format!("{counted}; off on CPUs {}", rmpopt.cpus_disabled));
    }
    if rmpopt.cores_asked < 2 { unknown("one CPU was asked; --deep asks all") } else { ok(counted) }
}

fn same_window(state: &HostState) -> Ended {
    let Some(rmpopt) = state.rmpopt.as_ref().filter(|r| r.cores_enabled > 0) else {
        return idle("RMPOPT is on nowhere, or that is not known");
    };
    let words: Vec<_> = rmpopt
        .windows
        .iter()
        .map(|w| format!("{}-{} GiB on {} cores", w.first_gib, w.end_gib, w.cores))
        .collect();
    match words.len() {
        1 if rmpopt.cores_asked < 2 => unknown("one CPU was asked; --deep asks all"),
        1 => ok(words.join("; ")),
        _ => problem(words.join("; ")),
    }
}

fn window(state: &HostState) -> Ended {
    let outside = |kind: RegionKind| state.memory.by_state.get(kind.word()).copied().unwrap_or(0);
    let beyond = outside(RegionKind::Outside);
    if beyond > 0 {
        return problem(format!("{} GiB of RAM lie outside of every window", beyond >> 30));
    }
    if state.log.count("rmpopt-window") > 0 {
        return logged(state, &["rmpopt-window"]);
    }
    match &state.rmpopt {
        Some(rmpopt) if rmpopt.cores_enabled > 0 && !state.regions.is_empty() => ok("it does"),
        Some(rmpopt) if rmpopt.cores_enabled == 0 => idle("RMPOPT is on nowhere"),
        _ if state.capability.rmpopt_capable == Some(false) => idle("no RMPOPT here"),
        _ => unknown(why(state, "RMPOPT_BASE")),
    }
}

fn driver(state: &HostState) -> Ended {
    match state.driver.kind {
        DriverKind::Ours | DriverKind::Upstream => ok(state.driver.evidence.clone()),
        _ if state.capability.rmpopt_capable == Some(false) => idle("no RMPOPT here"),
        DriverKind::None if capable(state) => problem(state.driver.evidence.clone()),
        DriverKind::None | DriverKind::Unknown => unknown(state.driver.evidence.clone()),
    }
}

fn partial(state: &HostState) -> Ended {
    let of = |kind: RegionKind| state.memory.regions.get(kind.word()).copied().unwrap_or(0);
    let (some, all) = (of(RegionKind::Partial), of(RegionKind::Optimised));
    if some + all + of(RegionKind::None) == 0 {
        return unknown(why(state, "rmpopt-table"));
    }
    if some == 0 {
        return ok(format!("{all} regions on all cores, none on some"));
    }
    let counted = format!("{some} regions are optimised on some cores only, {all} on all");
    if state.driver.first_pass_over == Some(false) {
        return ok(format!("{counted}; the first pass is under way"));
    }
    problem(counted)
}

fn leaked(state: &HostState) -> Ended {
    logged(state, &["pages-leaked"])
}

/// Verifies that are counted before a share means something.
const ENOUGH_VERIFIES: u64 = 1000;

fn churn(state: &HostState) -> Ended {
    let of = |key: &str| state.driver.stats.get(key).copied();
    let (Some(clean), Some(dirty), Some(stale)) =
        (of("rmpopt.clean"), of("rmpopt.dirty"), of("results.stale"))
    else {
        return unknown(why(state, "driver-stats"));
    };
    let counted =
        format!("RMPOPT ended clean {clean}, dirty {dirty} times; {stale} results were stale");
    let wasted = dirty.saturating_add(stale);
    if clean.saturating_add(wasted) >= ENOUGH_VERIFIES && wasted > clean {
        return problem(counted);
    }
    ok(counted)
}

fn firmware(state: &HostState) -> Ended {
    logged(state, &["firmware-too-old", "firmware-update-failed"])
}

fn initialised(state: &HostState) -> Ended {
    logged(state, &["snp-init-failed", "sev-init-failed", "rmp-init-failed", "psp-unreachable"])
}

fn updates(state: &HostState) -> Ended {
    logged(state, &["rmpupdate-failed", "psmash-failed"])
}

fn faults(state: &HostState) -> Ended {
    logged(
        state,
        &["rmp-page-fault", "iommu-rmp-fault", "iommu-rmp-hardware-error", "unexpected-rmp-fault"],
    )
}

fn belief(state: &HostState) -> Ended {
    if state.driver.stats.is_empty() {
        return unknown(why(state, "driver-stats"));
    }
    let bad = ["contradicted", "audits.failed", "faults", "unclean"];
    let of = |key: &&str| state.driver.stats.get(*key).copied().filter(|n| *n > 0);
    let found: Vec<_> = bad.iter().filter_map(|key| Some(format!("{key} {}", of(key)?))).collect();
    if found.is_empty() {
        ok("no contradiction, fault or failed audit")
    } else {
        problem(found.join(", "))
    }
}

fn asids(state: &HostState) -> Ended {
    match state.guests.asids.get("sev_es") {
        Some((used, Some(capacity))) if used >= capacity && *capacity > 0 => {
            problem(format!("{used} of {capacity} in use"))
        }
        Some((used, Some(capacity))) => ok(format!("{used} of {capacity} in use")),
        _ => unknown(why(state, "asids")),
    }
}

fn kvm(state: &HostState) -> Ended {
    match (state.driver.kvm_sev_snp, state.snp.enabled) {
        (Some(true), _) => ok("kvm_amd has sev_snp=Y"),
        (Some(false), Some(true)) => problem("SNP is on and kvm_amd has sev_snp=N"),
        (Some(false), _) => idle("kvm_amd has sev_snp=N, and SNP is not known to be on"),
        (None, _) => unknown("kvm_amd is not loaded, or has no parameter sev_snp"),
    }
}

fn online(state: &HostState) -> Ended {
    match &state.cpus.offline {
        Some(off) if off.is_empty() => ok("all CPUs present are online"),
        Some(off) => problem(format!("offline: {off}")),
        None => unknown(why(state, "cpus")),
    }
}

#[cfg(test)]
mod tests;
