//! `rmpopt host status` and `host guest list` for people.

use snp_hostfs::{Guest, Status};
use snp_lab::scenario::SECOND;

use super::page::{BAD, FAINT, Page, STRONG, paint};
use crate::units::{percent, size};

/// Columns of the labels.
const LABEL: usize = 12;

fn row(page: &mut Page, label: &str, text: &str) {
    page.wrapped(&format!("{label:<LABEL$}"), LABEL, text);
}

fn seconds(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / SECOND as f64)
}

/// How a host is.
pub(super) fn status(page: &mut Page, status: &Status) {
    let name = crate::output::harmless(&status.name).into_owned();
    page.line(&format!("{}  {}", paint(STRONG, &name), paint(FAINT, "emulated")));
    row(page, "mounted on", &status.root.display().to_string());
    row(page, "scenario", &format!("{}, policy {}", status.scenario, status.policy));
    let clock = match status.speed {
        0.0 => "stands".to_owned(),
        speed => format!("{speed} x"),
    };
    let behind = match status.behind_ns {
        0 => String::new(),
        behind => format!(", {} behind", seconds(behind)),
    };
    row(page, "time", &format!("{} since power-on, clock {clock}{behind}", seconds(status.now_ns)));
    let snp = if status.snp_up { "up" } else { "down" };
    let pass = if status.first_pass_over { ", first pass over" } else { "" };
    row(page, "SNP", &format!("{snp}{pass}"));
    if let Some(why) = &status.refused {
        row(page, "RMPOPT", why);
    } else {
        let (all, free) = (percent(status.optimised), percent(status.optimisable));
        row(page, "optimised", &format!("{all} of pairs, {free} of those that could be"));
    }
    row(page, "CPUs", &format!("{} online", status.cpus_online));
    row(page, "guests", &format!("{}, of them {} SNP guests", status.guests, status.snp_guests));
    if status.law_breaches > 0 || status.foreign_writes > 0 {
        let text = format!(
            "{} breaches of laws, {} writes of RMPOPT_BASE by others",
            status.law_breaches, status.foreign_writes
        );
        row(page, "laws", &text);
    }
    if let Some(why) = &status.fell {
        page.line(&paint(BAD, "the emulation has failed and stands still"));
        row(page, "", why);
    }
    for (at, text) in &status.notes {
        page.wrapped(&format!("{at:>9.3} s "), LABEL, text);
    }
}

/// Its guests.
pub(super) fn guests(page: &mut Page, guests: &[Guest]) {
    if guests.is_empty() {
        page.line("no guests");
        return;
    }
    let head = format!(
        "{:<9} {:<10} {:>10} {:>10} {:>5} {:>4} {:>5}  {}",
        "kind", "state", "memory", "private", "vcpus", "node", "asid", "name"
    );
    page.line(&paint(FAINT, &head));
    let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for guest in guests {
        page.line(&format!(
            "{:<9} {:<10} {:>10} {:>10} {:>5} {:>4} {:>5}  {}",
            guest.kind,
            guest.state,
            size(guest.memory_bytes),
            size(guest.private_bytes),
            guest.vcpus,
            number(guest.node),
            number(guest.asid),
            crate::output::harmless(&guest.name),
        ));
    }
}
