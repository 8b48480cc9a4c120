//! What happened when.

use anstyle::Style;
use snp_lab::report::{RunReport, TimelineEntry, TimelineKind};

use super::page::{BAD, FAINT, FIRMWARE, GOOD, GUEST, Page, paint};
use crate::units::count;

/// Longer timelines show their first and last entries.
const MOST: usize = 40;

/// One line for each entry.
pub(super) fn timeline(page: &mut Page, report: &RunReport) {
    let entries = &report.timeline;
    if entries.is_empty() {
        return;
    }
    page.title("Timeline", "");
    let long = report.simulated_s >= 1000.0;
    if entries.len() <= MOST {
        all(page, entries, long);
        return;
    }
    let half = MOST / 2;
    let (head, rest) = entries.split_at(half);
    let (middle, tail) = rest.split_at(rest.len() - half);
    all(page, head, long);
    let left_out =
        format!("{:>12}  {} more in --json", page.pick("⋮", "..."), count(middle.len() as u64));
    page.line(&paint(FAINT, &left_out));
    all(page, tail, long);
}

fn all(page: &mut Page, entries: &[TimelineEntry], long: bool) {
    for entry in entries {
        one(page, entry, long);
    }
}

fn one(page: &mut Page, entry: &TimelineEntry, long: bool) {
    let label = format!(
        "{:>12}  {}  ",
        time(entry.t_s, long),
        paint(style(entry.kind), &format!("{:<8}", entry.kind.as_str()))
    );
    page.wrapped(&label, 24, &entry.text);
}

/// `12.34 s`, or in long runs days and time of day.
pub(super) fn time(t_s: f64, long: bool) -> String {
    if !long {
        return format!("{t_s:.2} s");
    }
    #[expect(clippy::cast_sign_loss, reason = "never below 0")]
    let s = t_s.max(0.0) as u64;
    let (days, h, m, s) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    if days == 0 {
        format!("{h:02}:{m:02}:{s:02}")
    } else {
        format!("{days}d {h:02}:{m:02}:{s:02}")
    }
}

const fn style(kind: TimelineKind) -> Style {
    match kind {
        TimelineKind::Host | TimelineKind::Operator | TimelineKind::Cpu => Style::new(),
        TimelineKind::Snp => FIRMWARE,
        TimelineKind::Guest | TimelineKind::Convert => GUEST,
        TimelineKind::Pass => GOOD,
        TimelineKind::Law => BAD,
    }
}
