//! The tables: what the driver did, what it took, the laws.

use snp_lab::report::{LawReport, RunReport};

use super::page::{BAD, FAINT, FAIR, GOOD, Page, paint};
use crate::units::{count, micros, seconds};

/// Columns of the names of what the driver did.
const NAMES: usize = 26;

/// Windows that are shown one by one.
const WINDOWS: usize = 4;

/// What the driver did.
pub(super) fn driver(page: &mut Page, report: &RunReport) {
    page.title("Driver", &format!("policy {}", report.policy));
    let rmpopt = &report.rmpopt;
    row(page, "passes", &count(report.passes));
    row(page, "RMPOPT", &count(rmpopt.executed));
    let of_them = [
        ("verify, leader", rmpopt.leader),
        ("verify, followers", rmpopt.followers),
        ("report", rmpopt.report),
        ("all: scanned whole", rmpopt.slow),
        ("all: ended at a page", rmpopt.early),
        ("all: nothing scanned", rmpopt.fast),
    ];
    for (name, value) in of_them {
        row(page, &format!("  {name}"), &count(value));
    }
    let windows = &report.driver.windows;
    for window in windows.iter().take(WINDOWS) {
        let text = format!(
            "{} GiB, 2 TiB long, on {}",
            count(window.base_region),
            crate::units::things(u64::from(window.cores), "core")
        );
        wide(page, "window from", &text);
    }
    if windows.len() > WINDOWS {
        wide(page, "", &format!("and {} more windows", windows.len() - WINDOWS));
    }
    for fact in &report.driver.facts {
        match fact.value.strip_suffix(" us") {
            Some(value) if page.unicode => wide(page, &fact.name, &format!("{value} µs")),
            _ => wide(page, &fact.name, &fact.value),
        }
    }
    let back = &report.reoptimize_s;
    // Who waited for less than a driver needs is no more than cut short by the end.
    let never = match back.never_longest {
        Some(longest) => format!("never: {}, of up to {}", count(back.never), seconds(longest)),
        None => format!("never: {}", count(back.never)),
    };
    let text = match (back.p50, back.p99, back.max) {
        (Some(p50), Some(p99), Some(max)) => format!(
            "half within {}, 99 % within {}, longest {}; {never}",
            seconds(p50),
            seconds(p99),
            seconds(max),
        ),
        _ if back.never == 0 => "no region had to be".to_owned(),
        _ => format!("none came back; {never}"),
    };
    wide(page, "re-optimised after", &text);
}

/// What host, guests and firmware did to the RMP.
pub(super) fn guests(page: &mut Page, report: &RunReport) {
    page.title("SNP guests", "what host, guests and firmware did to the RMP");
    let ops = &report.guests;
    row(page, "RMPUPDATE", &count(report.rmpupdates));
    row(page, "PVALIDATE", &count(ops.pvalidates));
    row(page, "  2 MiB asked of 4 KiB", &count(ops.size_mismatches));
    row(page, "  faults, 4 KiB of 2 MiB", &count(ops.sizem_faults));
    row(page, "PSMASH", &count(ops.psmashes));
    row(page, "firmware commands", &count(ops.firmware_commands));
    row(page, "  that failed", &count(ops.firmware_errors));
    row(page, "WBINVD on all CPUs", &count(ops.wbinvds));
    row(page, "DF_FLUSH", &count(ops.df_flushes));
    row(page, "pages not given back", &count(ops.reclaim_failures));
    row(page, "  leaked, in 4 KiB", &count(ops.leaked_pages));
}

fn row(page: &mut Page, name: &str, value: &str) {
    page.line(&format!("  {name:<NAMES$}{value:>16}"));
}

fn wide(page: &mut Page, name: &str, value: &str) {
    page.wrapped(&format!("  {name:<NAMES$}  "), NAMES + 4, value);
}

/// What the driver took from the CPUs, and how often it interrupted them.
pub(super) fn taken(page: &mut Page, report: &RunReport) {
    page.title("Taken from the CPUs", "by all the driver does");
    let unicode = page.unicode;
    let time = |us: f64| micros(us, unicode);
    let (stolen, steady, often) = (&report.stolen_us, &report.steady, &report.interruptions);
    let head = ["", "all CPUs", "worst CPU", "99 % of CPUs", "longest hold"];
    let line = |cells: [&str; 5]| {
        format!(
            "  {:<20}{:>14}{:>14}{:>14}{:>14}",
            cells[0], cells[1], cells[2], cells[3], cells[4]
        )
    };
    page.line(&paint(FAINT, &line(head)));
    page.line(&line([
        "time",
        &time(stolen.total),
        &time(stolen.max_per_cpu),
        &time(stolen.p99_per_cpu),
        &time(stolen.max_hold),
    ]));
    page.line(&line([
        "interruptions",
        &count(often.total),
        &count(often.max_per_cpu),
        &count(often.p99_per_cpu),
        "",
    ]));
    page.line("");
    let line = |cells: [&str; 3]| format!("  {:<20}{:>14}{:>14}", cells[0], cells[1], cells[2]);
    page.line(&paint(FAINT, &line(["", "whole run", "steady"])));
    page.line(&line(["RMPOPT", &count(report.rmpopt.executed), &count(steady.rmpopt)]));
    page.line(&line(["IPIs", &count(report.ipis), &count(steady.ipis)]));
    page.line(&line(["wake-ups", &count(report.wakeups), &count(steady.wakeups)]));
    page.line(&line(["interruptions", &count(often.total), &count(steady.interruptions)]));
    page.line(&line(["time", &time(stolen.total), &time(steady.stolen_us)]));
    page.line(&paint(FAINT, "  steady: from the end of the first pass on"));
    page.line("");
    let line = |cells: [&str; 5]| {
        format!(
            "  {:<20}{:>14}{:>14}{:>14}{:>14}",
            cells[0], cells[1], cells[2], cells[3], cells[4]
        )
    };
    page.line(&paint(FAINT, &line(["in each 1 ms", "half", "99 %", "99.9 %", "all"])));
    for (name, slices) in [
        ("CPUs lost at most", &report.jitter_us.cpu),
        ("  steady", &steady.jitter_us.cpu),
        ("ordinary vCPUs", &report.jitter_us.vcpu),
        ("  steady", &steady.jitter_us.vcpu),
    ] {
        let cell = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time);
        page.line(&line([
            name,
            &cell(slices.p50),
            &cell(slices.p99),
            &cell(slices.p999),
            &cell(slices.max),
        ]));
    }
}

/// Each law: claimed, checked, broken, and what it asks.
pub(super) fn laws(page: &mut Page, report: &RunReport) {
    if report.laws.is_empty() {
        return;
    }
    page.title("Laws", "");
    let head = format!("     {:<11}{:>8}{:>15}{:>10}", "", "claimed", "checks", "breaches");
    page.line(&paint(FAINT, &head));
    for law in &report.laws {
        let (style, mark) = match law {
            LawReport { breaches: 0, checks: 0, .. } => (FAINT, "  "),
            LawReport { breaches: 0, .. } => (GOOD, page.pick("✓ ", "ok")),
            LawReport { claimed: true, .. } => (BAD, page.pick("✗ ", "!!")),
            LawReport { .. } => (FAIR, "! "),
        };
        let (name, asks) = law.name.split_once(": ").unwrap_or((law.name, ""));
        let claimed = if law.claimed { "yes" } else { "no" };
        let label = format!(
            "  {}  {name:<11}{claimed:>8}{:>15}{} {} ",
            law.law,
            count(law.checks),
            paint(style, &format!("{:>10}", count(law.breaches))),
            paint(style, mark)
        );
        page.wrapped(&label, 53, asks);
        if let Some(first) = &law.first {
            page.wrapped("       first: ", 14, first);
        }
    }
}
