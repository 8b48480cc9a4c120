//! The parts that are mostly words: headline, host, trace, what was assumed.

use snp_lab::report::RunReport;

use super::page::{BAD, FAINT, FAIR, GOOD, Page, STRONG, WIDTH, paint};
use crate::units::{count, percent, seconds, size, things};

/// What ran, how much is optimised, whether the laws were kept.
pub(super) fn headline(page: &mut Page, report: &RunReport) {
    let what = format!(
        "rmpopt run: {}, policy {}, seed {}, fidelity {}",
        report.scenario, report.policy, report.seed, report.fidelity
    );
    let emulated = if report.emulated { "EMULATED" } else { "" };
    let gap = WIDTH.saturating_sub(what.chars().count() + emulated.len()).max(2);
    let line =
        format!("{}{}{}", paint(STRONG, &what), " ".repeat(gap), paint(FAIR.bold(), emulated));
    page.line(&line);
    page.rule();
    let shares = &report.optimized;
    let share = |value: Option<f64>, style| paint(style, &format!("{:>9}", percent(value)));
    let strong = GOOD.bold();
    page.line(&format!(
        "{}  optimised at the end          {}  of what can be",
        share(shares.at_end, strong),
        share(shares.optimizable_at_end, strong)
    ));
    page.line(&format!(
        "{}  mean while SNP was up         {}  of what can be",
        share(shares.mean, GOOD),
        share(shares.optimizable_mean, GOOD)
    ));
    laws(page, report);
    if let Some(why) = &report.driver.refused {
        let lead = format!("  {} ", paint(FAIR, "RMPOPT is not in use:"));
        page.wrapped(&lead, 24, why);
    }
}

fn laws(page: &mut Page, report: &RunReport) {
    let claimed = report.laws.iter().filter(|l| l.claimed).count() as u64;
    let checks: u64 = report.laws.iter().filter(|l| l.claimed).map(|l| l.checks).sum();
    if report.law_violations == 0 {
        let tick = page.pick("✓", "ok:");
        let kept = paint(GOOD, &format!("{tick} {} kept", things(claimed, "claimed law")));
        page.line(&format!("  {kept} in {}", things(checks, "check")));
    } else {
        let cross = page.pick("✗", "BROKEN:");
        let broken = format!("{cross} {} of claimed laws", breaches(report.law_violations));
        page.line(&format!("  {}", paint(BAD, &broken)));
    }
    if report.law_breaches_unclaimed > 0 {
        let unclaimed = format!(
            "! {} of laws the policy does not claim",
            breaches(report.law_breaches_unclaimed)
        );
        page.line(&format!("  {}", paint(FAIR, &unclaimed)));
    }
}

fn breaches(number: u64) -> String {
    format!("{} breach{}", count(number), if number == 1 { "" } else { "es" })
}

/// The machine, the trace, and how long it took.
pub(super) fn host(page: &mut Page, report: &RunReport) {
    let host = &report.host;
    page.title("Host", "");
    page.wrapped(
        "  ",
        2,
        &format!(
            "{}, {}, {}; {} of RAM in {} ({} spanned, {} in a window)",
            things(u64::from(host.sockets), "socket"),
            things(u64::from(host.cores), "core"),
            things(u64::from(host.cpus), "CPU"),
            size(host.memory_bytes),
            things(host.regions, "region"),
            count(host.spanned_regions),
            count(host.window_regions),
        ),
    );
    let took = format!("{} simulated in {}", seconds(report.simulated_s), seconds(report.wall_s));
    page.line(&format!("  {}", paint(FAINT, &took)));
    let Some(trace) = &report.trace else { return };
    page.title("Trace", "");
    for line in [
        format!(
            "{}: {} unscheduled, {} invalid, {} left out",
            things(trace.rows, "row"),
            count(trace.unscheduled),
            count(trace.invalid),
            count(trace.left_out)
        ),
        format!(
            "{} admitted ({} SNP, {} ordinary), {} rejected, at most {} at once",
            things(trace.admitted, "guest"),
            count(trace.snp),
            count(trace.ordinary),
            count(trace.rejected),
            size(trace.peak_bytes)
        ),
        format!(
            "{} there before it begins, {} still there when it ends",
            count(trace.left_censored),
            count(trace.right_censored)
        ),
    ] {
        page.wrapped("  ", 2, &line);
    }
}

/// What the input did not say.
pub(super) fn assumed(page: &mut Page, report: &RunReport) {
    if report.assumed.is_empty() {
        return;
    }
    page.title("Assumed", "because the input does not say");
    for sentence in &report.assumed {
        page.wrapped("  - ", 4, sentence);
    }
}
