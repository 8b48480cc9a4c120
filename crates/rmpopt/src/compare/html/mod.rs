//! The report as one page that needs nothing else: no script, no font, no picture from outside; charts are
//! SVG drawn here. All text that comes from files is escaped.

mod chart;
mod jitter;
mod pareto;
mod tables;
mod text;
mod timeline;

use self::text::{Escaped, Text};
use super::{Comparison, ScenarioInfo};
use crate::units::{count, things};

/// Colours; policies beyond share them and differ by their dashes.
const COLOURS: usize = 8;

/// The page.
pub(crate) fn page(all: &Comparison) -> String {
    let mut out = Text::default();
    out.put(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>rmpopt: policies compared (emulated)</title>\n<style>\n{}</style>\n\
         </head>\n<body>\n",
        include_str!("style.css")
    ));
    head(&mut out, all);
    out.put(format_args!("<h2 id=\"overview\">Overview</h2>\n"));
    tables::overview(&mut out, all);
    for (number, scenario) in all.scenarios.iter().enumerate() {
        if all.results.iter().any(|run| run.scenario == scenario.name) {
            section(&mut out, all, number, scenario);
        }
    }
    out.put(format_args!("<h2 id=\"parameters\">Parameters</h2>\n"));
    tables::parameters(&mut out, all);
    out.put(format_args!("</body>\n</html>\n"));
    out.finish()
}

fn head(out: &mut Text, all: &Comparison) {
    out.put(format_args!(
        "<header>\n<h1>RMPOPT policies compared <span class=\"emulated\">EMULATED</span></h1>\n\
         <p>{} by {} polic{} from {}: {} of {} done. Made by <code>{}</code> of rmpopt {}.</p>\n",
        things(all.scenarios.len() as u64, "scenario"),
        all.policies.len(),
        if all.policies.len() == 1 { "y" } else { "ies" },
        things(all.seeds.len() as u64, "seed"),
        count(all.done),
        things(all.planned, "run"),
        Escaped(&all.command),
        env!("CARGO_PKG_VERSION"),
    ));
    out.put(format_args!(
        "<p><b>Everything here is emulated.</b> No hardware with RMPOPT was used. Counts follow from what \
         each policy does; times follow from the cost model below, most of which is assumed.</p>\n"
    ));
    if all.incomplete {
        out.put(format_args!(
            "<p class=\"warn\">Incomplete: it was interrupted. What was done by then is shown; {} \
             under way then and nothing of them is kept{}",
            match all.interrupted.len() as u64 {
                1 => "1 run was".to_owned(),
                n => format!("{} were", things(n, "run")),
            },
            if all.interrupted.is_empty() { "." } else { ": " },
        ));
        for (number, run) in all.interrupted.iter().enumerate() {
            let delay = run.delay_s.map_or_else(String::new, |s| format!(", delay {s} s"));
            out.put(format_args!(
                "{}{}, {}, seed {}{delay}",
                if number > 0 { "; " } else { "" },
                Escaped(&run.scenario),
                run.policy,
                run.seed,
            ));
        }
        out.put(format_args!("</p>\n"));
    }
    let laws = match all.law_violations {
        0 => "<p>No law that a policy claims was broken".to_owned(),
        n => {
            let runs = all.results.iter().filter(|run| run.law_violations > 0).count() as u64;
            let (laws, runs) = (things(n, "breach"), things(runs, "run"));
            format!("<p class=\"warn\">Laws that policies claim were broken: {laws} in {runs}")
        }
    };
    out.put(format_args!(
        "{laws}; breaches of laws that they do not claim: {}.</p>\n<nav><a href=\"#overview\">Overview\
         </a>",
        count(all.law_breaches_unclaimed)
    ));
    for (number, scenario) in all.scenarios.iter().enumerate() {
        out.put(format_args!("<a href=\"#s{number}\">{}</a>", Escaped(&scenario.name)));
    }
    out.put(format_args!("<a href=\"#parameters\">Parameters</a></nav>\n</header>\n"));
}

fn section(out: &mut Text, all: &Comparison, number: usize, scenario: &ScenarioInfo) {
    out.put(format_args!(
        "<section>\n<h2 id=\"s{number}\">{}</h2>\n<p>{}</p>\n",
        Escaped(&scenario.name),
        Escaped(&scenario.description)
    ));
    tables::scenario(out, all, &scenario.name);
    out.put(format_args!("<h3>Optimised share over time, and delay against work</h3>\n"));
    legend(out, all);
    out.put(format_args!("<div class=\"grid\">\n"));
    timeline::figures(out, all, &scenario.name);
    pareto::figure(out, all, &scenario.name);
    out.put(format_args!("</div>\n"));
    jitter::figures(out, all, &scenario.name);
    out.put(format_args!("</section>\n"));
}

/// The classes of a policy's colour and dashes.
fn style(policy: usize) -> (usize, usize) {
    (policy % COLOURS, policy / COLOURS % 3)
}

fn legend(out: &mut Text, all: &Comparison) {
    out.put(format_args!("<ul class=\"legend\">"));
    for (number, policy) in all.policies.iter().enumerate() {
        let (colour, dash) = style(number);
        out.put(format_args!(
            "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"line s{colour} d{dash}\" \
             d=\"M0 5h26\"/></svg>{policy}</li>"
        ));
    }
    out.put(format_args!("</ul>\n"));
}

#[cfg(test)]
mod tests;
