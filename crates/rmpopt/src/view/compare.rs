//! The comparison: one table for each scenario, a line for each policy.

use super::page::{BAD, FAINT, FAIR, GOOD, Page, STRONG, paint};
use crate::compare::Comparison;
use crate::compare::row::Row;
use crate::output::harmless;
use crate::units::{count, micros, percent, seconds, short, things};

/// Headline, tables, and what the columns mean.
pub(super) fn comparison(page: &mut Page, all: &Comparison) {
    let what = "rmpopt compare";
    let gap = page.width.saturating_sub(what.len() + 8).max(2);
    let emulated = paint(FAIR.bold(), "EMULATED");
    page.line(&format!("{}{}{emulated}", paint(STRONG, what), " ".repeat(gap)));
    page.rule();
    let did = format!(
        "{} of {} done in {}: {} by {} from {}",
        count(all.done),
        things(all.planned, "run"),
        seconds(all.wall_s),
        things(all.scenarios.len() as u64, "scenario"),
        of_policies(all.policies.len() as u64),
        things(all.seeds.len() as u64, "seed")
    );
    page.wrapped("  ", 2, &did);
    if all.incomplete {
        page.line(&format!("  {}", paint(BAD, "INCOMPLETE: it was interrupted")));
        let cut = things(all.interrupted.len() as u64, "run");
        page.line(&format!("  {cut} under way then, of which nothing is kept"));
    }
    for scenario in &all.scenarios {
        let rows = all.rows(&scenario.name);
        if rows.is_empty() {
            continue;
        }
        page.title(&harmless(&scenario.name), "");
        page.wrapped("  ", 2, &scenario.description);
        table(page, &rows);
    }
    meaning(page);
    verdict(page, all);
}

fn of_policies(number: u64) -> String {
    format!("{} polic{}", count(number), if number == 1 { "y" } else { "ies" })
}

fn line(cells: [&str; 9]) -> String {
    let [name, can, writes, back, never, rmpopt, ipis, worst, vcpu] = cells;
    format!(
        "  {name:<14}{can:>8}{writes:>8}{back:>8}{never:>7}{rmpopt:>8}{ipis:>8}{worst:>9}{vcpu:>8}"
    )
}

fn table(page: &mut Page, rows: &[(String, Row)]) {
    let heads = [
        ["", "of what", "of", "half", "", "", "IPIs +", "worst", "vCPU"],
        ["", "can be", "writes", "after", "never", "RMPOPT", "wakes", "CPU", "in 1 ms"],
    ];
    for head in heads {
        page.line(&paint(FAINT, &line(head)));
    }
    for (policy, row) in rows {
        let unicode = page.unicode;
        let time = |us: f64| micros(us, unicode).replace(' ', "");
        let share = |share: Option<f64>| percent(share).replace(' ', "");
        let text = line([
            policy,
            &share(row.optimizable_mean),
            &share(row.weighted_mean),
            &row.back_p50.map_or_else(|| "-".into(), |s| seconds(s).replace(' ', "")),
            &short(row.never),
            &short(row.steady_rmpopts),
            &short(row.steady_ipis + row.steady_wakeups),
            &time(row.worst_stolen_us),
            &row.vcpu_max_us.map_or_else(|| "-".into(), time),
        ]);
        let broken = match row {
            Row { violations: 1.., .. } => paint(BAD, " !"),
            _ => String::new(),
        };
        page.line(&format!("{text}{broken}"));
    }
}

fn meaning(page: &mut Page) {
    page.title("Columns", "medians over the seeds");
    for (name, text) in [
        ("of what can be", "optimised share of what can be, mean over the time SNP is up"),
        ("of writes", "the same of ordinary guests' writes"),
        ("half after", "half of the regions that became free were optimised after this time"),
        ("never", "regions that became free and were not when the run ended (worst seed)"),
        ("RMPOPT, IPIs + wakes", "after the first pass"),
        ("worst CPU", "time taken after the first pass from the CPU that gave most"),
        ("vCPU in 1 ms", "the most an ordinary guest's vCPU lost in 1 ms after the first pass"),
    ] {
        page.wrapped(&format!("  {name:<22}"), 24, text);
    }
}

fn verdict(page: &mut Page, all: &Comparison) {
    page.line("");
    let unclaimed = match all.law_breaches_unclaimed {
        0 => String::new(),
        n => format!("; {} of laws that were not", count(n)),
    };
    let (style, mark, text) = match all.law_violations {
        0 => (GOOD, page.pick("✓", "ok"), "no claimed law was broken".to_owned()),
        n => (BAD, page.pick("✗", "!!"), format!("claimed laws were broken {}", times(n))),
    };
    page.line(&format!("  {}{unclaimed}", paint(style, &format!("{mark} {text}"))));
    let swept = all.delay_sweep.iter().map(|swept| &swept.report);
    for run in all.results.iter().chain(swept).filter(|run| run.law_violations > 0) {
        let broken = run.laws.iter().filter(|law| law.claimed && law.breaches > 0);
        for law in broken {
            let first = law.first.as_deref().unwrap_or(law.name);
            let what = format!(
                "{}, {}, seed {}: law {}: {first}",
                run.scenario, run.policy, run.seed, law.law
            );
            page.wrapped("    ", 4, &what);
        }
    }
}

fn times(number: u64) -> String {
    if number == 1 { "once".into() } else { format!("{} times", count(number)) }
}
