//! The optimised share over time, one line for each policy.

use snp_lab::report::{RunReport, SharePoint};

use super::chart::{Plot, Tick, time_axis};
use super::text::{Escaped, Text};
use super::{Comparison, style};

/// A share of a point.
type Share = fn(&SharePoint) -> Option<f64>;

/// Three charts: of all pairs, of what can be optimised, of ordinary guests' writes.
pub(super) fn figures(out: &mut Text, all: &Comparison, scenario: &str) {
    let charts: [(Share, &str); 3] = [
        (|point| point.optimized, "of all pairs of a core and a region in its window"),
        (|point| point.optimizable, "of the pairs whose region holds no assigned page"),
        (|point| point.weighted, "of ordinary guests' writes, 80 % of them local"),
    ];
    for (share, of) in charts {
        let any = all.policies.iter().filter_map(|policy| all.pictured(scenario, policy));
        if any.flat_map(|run| &run.share).any(|point| share(point).is_some()) {
            figure(out, all, scenario, share, of);
        }
    }
}

fn figure(out: &mut Text, all: &Comparison, scenario: &str, share: Share, of: &str) {
    let runs = |policy: &str| all.pictured(scenario, policy);
    let end = all.policies.iter().filter_map(|policy| runs(policy)).map(|run| run.simulated_s);
    let end = end.fold(0.0, f64::max);
    out.put(format_args!("<figure>"));
    let plot = Plot::begin(out, 190.0, &format!("optimised share over time, {of}"));
    let (x, name) = time_axis(end);
    let y: Vec<Tick> = (0..=4).map(|n| (f64::from(n) / 4.0, (n * 25).to_string())).collect();
    plot.axes(out, (&x, name), (&y, "optimised, %"));
    for (number, policy) in all.policies.iter().enumerate() {
        let Some(run) = runs(policy) else { continue };
        let (colour, dash) = style(number);
        out.put(format_args!(
            "<path class=\"line s{colour} d{dash}\" d=\"{}\"><title>{policy}</title></path>",
            path(&plot, run, end, share)
        ));
    }
    Plot::end(out);
    out.put(format_args!(
        "<figcaption><b>Optimised share</b> {}; no line while SNP is down. Seed {}.</figcaption>\
         </figure>\n",
        Escaped(of),
        all.seeds.first().copied().unwrap_or(1)
    ));
}

/// Steps from point to point; a gap where there is no share.
fn path(plot: &Plot, run: &RunReport, end: f64, share: Share) -> String {
    let mut path = String::new();
    let mut last: Option<f64> = None;
    let mut put = |text: String| path.push_str(&text);
    let across = |t_s: f64| plot.x(t_s / end.max(1e-9));
    for point in &run.share {
        let x = across(point.t_s);
        match (last, share(point).map(|share| plot.y(share))) {
            (None, Some(y)) => {
                put(format!("M{x} {y}"));
                last = Some(y);
            }
            (Some(before), Some(y)) if (before - y).abs() > 0.05 => {
                put(format!("H{x}V{y}"));
                last = Some(y);
            }
            (Some(_), None) => {
                put(format!("H{x}"));
                last = None;
            }
            _ => {}
        }
    }
    if last.is_some() {
        put(format!("H{}", across(run.simulated_s)));
    }
    path
}
