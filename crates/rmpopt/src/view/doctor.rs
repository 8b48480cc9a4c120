//! `rmpopt doctor` for people: problems first, then what could not be looked at, then the rest.

use anstyle::Style;
use snp_host::state::{Check, Verdict};

use super::page::{BAD, FAINT, FAIR, GOOD, Page, STRONG, paint};

/// Columns left of evidence and fix.
const INDENT: usize = 7;

/// All checks.
pub(super) fn doctor(page: &mut Page, checks: &[Check]) {
    let of = |verdict| checks.iter().filter(move |check| check.status == verdict);
    let problems = of(Verdict::Problem).filter(|check| check.severity != "info").count();
    let unknown = of(Verdict::Unknown).count();
    let words = if problems == 0 {
        paint(GOOD, "no problem found")
    } else {
        paint(BAD, &format!("{problems} problem{}", if problems == 1 { "" } else { "s" }))
    };
    page.line(&format!("{words}, {unknown} of {} checks could not be made", checks.len()));
    for check in of(Verdict::Problem) {
        let style = match check.severity {
            "error" => BAD,
            "warning" => FAIR,
            _ => FAINT,
        };
        page.line("");
        let title = paint(STRONG, check.title);
        page.line(&format!("{}  {} {}: not so", check.id, paint(style, check.severity), title));
        page.wrapped(&" ".repeat(INDENT), INDENT, &check.evidence);
        page.wrapped(&format!("{}fix: ", " ".repeat(INDENT)), INDENT + 5, check.fix);
    }
    short(page, "Could not be checked", FAIR, of(Verdict::Unknown));
    short(page, "Fine", GOOD, of(Verdict::Ok));
    short(page, "Not for this host", FAINT, of(Verdict::NotApplicable));
}

fn short<'a>(page: &mut Page, title: &str, style: Style, checks: impl Iterator<Item = &'a Check>) {
    let mut any = false;
    for check in checks {
        if !any {
            page.title(title, "");
        }
        any = true;
        let label = format!("{}   ", paint(style, check.id));
        page.wrapped(&label, INDENT, &format!("{}: {}", check.title, check.evidence));
    }
}
