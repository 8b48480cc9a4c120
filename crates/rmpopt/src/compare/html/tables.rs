//! The tables: an overview, one for each scenario, the parameters.

use snp_lab::scenario::PolicyName;

use super::Comparison;
use super::text::{Escaped, Text};
use crate::compare::row::Row;
use crate::units::{count, micros, percent, seconds, size, things};

/// Scenarios by policies: the mean share of what can be optimised.
pub(super) fn overview(out: &mut Text, all: &Comparison) {
    out.put(format_args!(
        "<p class=\"notes\">Optimised share of what can be optimised, mean over the time SNP is up, in \
         per cent. <span class=\"warn\">never</span>: regions that became free and were not optimised when \
         the run ended.</p>\n<div class=\"box\"><table><thead><tr><th>scenario</th>"
    ));
    for policy in &all.policies {
        out.put(format_args!("<th>{policy}</th>"));
    }
    out.put(format_args!("</tr></thead><tbody>\n"));
    for (number, scenario) in all.scenarios.iter().enumerate() {
        let name = Escaped(&scenario.name);
        out.put(format_args!("<tr><td><a href=\"#s{number}\">{name}</a></td>"));
        for policy in &all.policies {
            match Row::new(all.runs(&scenario.name, policy)) {
                None => out.put(format_args!("<td class=\"faint\">not run</td>")),
                Some(row) => overview_cell(out, &row),
            }
        }
        out.put(format_args!("</tr>\n"));
    }
    out.put(format_args!("</tbody></table></div>\n"));
}

fn overview_cell(out: &mut Text, row: &Row) {
    let class = match row.optimizable_mean {
        None => "faint",
        Some(share) if share >= 0.99 => "good",
        Some(share) if share >= 0.9 => "fair",
        Some(share) if share >= 0.5 => "poor",
        Some(_) => "bad",
    };
    let share = percent(row.optimizable_mean);
    out.put(format_args!("<td class=\"{class}\">{}", share.trim_end_matches(" %")));
    if row.never > 0 {
        out.put(format_args!("<span class=\"never\">never {}</span>", count(row.never)));
    }
    if row.violations > 0 {
        out.put(format_args!("<span class=\"never\">{}</span>", breaches(row.violations)));
    }
    out.put(format_args!("</td>"));
}

fn breaches(number: u64) -> String {
    format!("{} claimed breach{}", count(number), if number == 1 { "" } else { "es" })
}

const HEADS: [(&str, &str); 18] = [
    ("policy", ""),
    ("of all pairs", "mean"),
    ("of what can be", "mean"),
    ("of writes", "mean"),
    ("freed to optimised", "p50"),
    ("freed to optimised", "p99"),
    ("never", "regions, worst seed"),
    ("RMPOPT", "whole run"),
    ("full scans", "whole run"),
    ("RMPOPT", "steady"),
    ("IPIs", "steady"),
    ("wake-ups", "steady"),
    ("CPU time taken", "steady"),
    ("worst CPU", "interruptions, steady"),
    ("worst CPU", "time taken, steady"),
    ("ordinary vCPU", "p99.9 of 1 ms, steady"),
    ("ordinary vCPU", "worst 1 ms, steady"),
    ("longest hold", "worst seed"),
];

/// Every number of a scenario's policies.
pub(super) fn scenario(out: &mut Text, all: &Comparison, scenario: &str) {
    out.put(format_args!("<div class=\"box\"><table><thead><tr>"));
    for (head, unit) in HEADS {
        out.put(format_args!("<th>{head}<span class=\"unit\">{unit}</span></th>"));
    }
    out.put(format_args!("<th>laws broken<span class=\"unit\">claimed / not</span></th>"));
    out.put(format_args!("</tr></thead><tbody>\n"));
    let time = |us: f64| micros(us, true);
    let maybe =
        |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| "-".into(), show);
    let mut seeds = 0;
    for (policy, row) in all.rows(scenario) {
        seeds = seeds.max(row.seeds);
        let cells = [
            percent(row.mean),
            percent(row.optimizable_mean),
            percent(row.weighted_mean),
            maybe(row.back_p50, seconds),
            maybe(row.back_p99, seconds),
            count(row.never),
            count(row.rmpopts),
            count(row.slow),
            count(row.steady_rmpopts),
            count(row.steady_ipis),
            count(row.steady_wakeups),
            time(row.steady_stolen_us),
            count(row.worst_interruptions),
            time(row.worst_stolen_us),
            maybe(row.vcpu_p999_us, |us| micros(us, true)),
            maybe(row.vcpu_max_us, |us| micros(us, true)),
            time(row.max_hold_us),
        ];
        out.put(format_args!("<tr><td>{policy}</td>"));
        for cell in cells {
            out.put(format_args!("<td>{cell}</td>"));
        }
        let class = if row.violations > 0 { " class=\"bad\"" } else { "" };
        let (claimed, not) = (count(row.violations), count(row.unclaimed));
        out.put(format_args!("<td{class}>{claimed} / {not}</td></tr>\n"));
    }
    out.put(format_args!("</tbody></table></div>\n"));
    let host = all.results.iter().find(|run| run.scenario == scenario);
    if let Some(run) = host {
        out.put(format_args!(
            "<p class=\"notes\">{}, {}, {}, {} of RAM; {} simulated; RMP held as {}. Medians over {} unless \
             said otherwise; steady is after the first pass.{}</p>\n",
            things(run.host.sockets.into(), "socket"),
            things(run.host.cores.into(), "core"),
            things(run.host.cpus.into(), "CPU"),
            size(run.host.memory_bytes),
            seconds(run.simulated_s),
            run.fidelity,
            things(seeds, "seed"),
            if all.delay_sweep.is_empty() {
                ""
            } else {
                " Lines with a time: that delay in place of the policy's own, from seed 1."
            },
        ));
    }
}

/// Costs with their ranges and sources, and what each policy was set to.
pub(super) fn parameters(out: &mut Text, all: &Comparison) {
    out.put(format_args!(
        "<p>The cost model, in whole nanoseconds. Nothing was measured on hardware with RMPOPT.</p>\n\
         <div class=\"box\"><table><thead><tr><th>cost</th><th>value</th><th>lowest</th><th>highest</th>\
         <th>unit</th><th>source</th></tr></thead><tbody>\n"
    ));
    for cost in &all.costs {
        out.put(format_args!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"words\">{}</td></tr>\n",
            cost.name,
            count(cost.value),
            count(cost.low),
            count(cost.high),
            cost.unit,
            Escaped(cost.source)
        ));
    }
    out.put(format_args!(
        "</tbody></table></div>\n<div class=\"box\"><table><thead><tr><th>policy</th>\
         <th>what it does</th><th>settings in the first scenario</th><th>windows</th></tr></thead><tbody>\n"
    ));
    for policy in &all.policies {
        let Some(run) = all.results.iter().find(|run| run.policy == *policy) else { continue };
        let facts: Vec<String> =
            run.driver.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value)).collect();
        let facts = run.driver.refused.clone().unwrap_or_else(|| facts.join("; "));
        out.put(format_args!(
            "<tr><td>{policy}</td><td class=\"words\">{}</td><td class=\"words\">{}</td><td>{}</td></tr>\n",
            Escaped(policy.parse().map_or("", PolicyName::about)),
            Escaped(if facts.is_empty() { "none" } else { &facts }),
            run.driver.windows.len()
        ));
    }
    out.put(format_args!(
        "</tbody></table></div>\n<p class=\"notes\">Every number with unit and definition: docs/counting.md; \
         what each policy does: docs/policies.md; how this page is made: docs/compare.md, all in the \
         project's repository. Seeds: {}.</p>\n",
        all.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
    ));
}
