//! Delay against work: how long regions wait to be optimised again, and what that takes from the CPUs.

use snp_lab::report::RunReport;

use super::chart::{Log, Plot, round};
use super::text::Text;
use super::{Comparison, style};
use crate::compare::row::Row;

/// Where those stand that have no wait.
const NEVER: f64 = 0.94;

/// A policy's place, or that of one of its delays.
#[derive(Clone, Debug)]
struct Point {
    policy: usize,
    /// Its name, or its delay.
    label: String,
    /// Half of the regions wait no longer, in seconds; `None`: none came back.
    wait: Option<f64>,
    /// CPU time taken after the first pass, in seconds for each hour of simulated time.
    work: f64,
    swept: bool,
    /// Its label is shown beside it: all but the delays in between.
    named: bool,
}

/// The chart; nothing where no region had to be optimised again.
pub(super) fn figure(out: &mut Text, all: &Comparison, scenario: &str) {
    let mut points = points(all, scenario);
    // Large dots lie on small ones.
    points.sort_by_key(|point| !point.swept);
    let Some(x) = Log::over(points.iter().filter_map(|point| point.wait)) else { return };
    let y = Log::over(points.iter().map(|point| point.work));
    out.put(format_args!("<figure>"));
    let about = "delay against work: median wait of freed regions, CPU time taken in each hour";
    let plot = Plot::begin(out, 190.0, about);
    // The right edge is for those that never came back, the lower one for those that take nothing.
    let across = |wait: Option<f64>| wait.map_or(NEVER, |wait| x.at(wait) * 0.8 + 0.02);
    let mut x_ticks = x.ticks();
    for tick in &mut x_ticks {
        tick.0 = tick.0 * 0.8 + 0.02;
    }
    x_ticks.push((NEVER, "never".to_owned()));
    let up = |work: f64| match &y {
        Some(y) if work > 0.0 => y.at(work) * 0.84 + 0.12,
        _ => 0.03,
    };
    let mut y_ticks = y.iter().flat_map(Log::ticks).collect::<Vec<_>>();
    for tick in &mut y_ticks {
        tick.0 = tick.0 * 0.84 + 0.12;
    }
    y_ticks.push((0.03, "0".to_owned()));
    plot.axes(
        out,
        (&x_ticks, "half of the freed regions optimised after, seconds"),
        (&y_ticks, "CPU time taken after the first pass, seconds per hour"),
    );
    lines(out, &plot, &points, across, up);
    let mut labels: Vec<(f64, f64, &Point)> = Vec::new();
    for point in &points {
        let (cx, cy) = (plot.x(across(point.wait)), plot.y(up(point.work)));
        let radius = if point.swept { 2.6 } else { 4.5 };
        out.put(format_args!(
            "<circle class=\"dot f{}\" cx=\"{cx}\" cy=\"{cy}\" r=\"{radius}\"><title>{}, {}</title></circle>",
            style(point.policy).0,
            all.policies.get(point.policy).copied().unwrap_or_default(),
            point.label
        ));
        if point.named {
            labels.push((cx, cy, point));
        }
    }
    place(out, &plot, labels);
    Plot::end(out);
    out.put(format_args!(
        "<figcaption><b>Delay against work</b>: nearer to the lower left is better. Large dots: medians over \
         the seeds{}{}.</figcaption></figure>\n",
        if points.iter().any(|point| point.swept) {
            "; small dots on lines: delays from 0.1 s to 30 s, seed 1"
        } else {
            ""
        },
        if points.iter().any(|point| point.wait == Some(0.0)) {
            "; who waits for nothing stands at the left edge"
        } else {
            ""
        }
    ));
}

fn points(all: &Comparison, scenario: &str) -> Vec<Point> {
    let work = |us: f64, simulated_s: f64| us / 1e6 / simulated_s.max(1e-9) * 3600.0;
    let mut points = Vec::new();
    for (policy, name) in all.policies.iter().enumerate() {
        let mine = |run: &&RunReport| run.scenario == scenario && run.policy == *name;
        let Some(row) = Row::new(all.runs(scenario, name)) else { continue };
        let Some(first) = all.pictured(scenario, name) else { continue };
        // Nothing became free, or nobody tried.
        if row.rmpopts > 0 && (row.back_p50.is_some() || row.never > 0) {
            points.push(Point {
                policy,
                label: (*name).to_owned(),
                wait: row.back_p50,
                work: work(row.steady_stolen_us, first.simulated_s),
                swept: false,
                named: true,
            });
        }
        let swept: Vec<_> = all.delay_sweep.iter().filter(|swept| mine(&&swept.report)).collect();
        let all_swept = swept.len();
        for (number, swept) in swept.iter().enumerate() {
            let run = &swept.report;
            if run.reoptimize_s.p50.is_some() || run.reoptimize_s.never > 0 {
                points.push(Point {
                    policy,
                    label: format!("{} s", swept.delay_s),
                    wait: run.reoptimize_s.p50,
                    work: work(run.steady.stolen_us, run.simulated_s),
                    swept: true,
                    named: number == 0 || number + 1 == all_swept,
                });
            }
        }
    }
    points
}

/// A line through the delays of each policy.
fn lines(
    out: &mut Text,
    plot: &Plot,
    points: &[Point],
    across: impl Fn(Option<f64>) -> f64,
    up: impl Fn(f64) -> f64,
) {
    let mut policies: Vec<usize> = points.iter().map(|point| point.policy).collect();
    policies.sort_unstable();
    policies.dedup();
    for policy in policies {
        let mine = points.iter().filter(|point| point.policy == policy && point.swept);
        let path: Vec<String> = mine
            .map(|point| format!("{} {}", plot.x(across(point.wait)), plot.y(up(point.work))))
            .collect();
        if path.len() > 1 {
            let colour = style(policy).0;
            let path = path.join("L");
            out.put(format_args!("<path class=\"thin s{colour}\" d=\"M{path}\"/>"));
        }
    }
}

/// Names beside their dots, moved apart where they would lie on one another.
fn place(out: &mut Text, plot: &Plot, mut labels: Vec<(f64, f64, &Point)>) {
    // Policies first: their names lie nearest to their dots.
    labels.sort_by(|a, b| {
        a.2.swept.cmp(&b.2.swept).then(a.1.total_cmp(&b.1)).then(a.0.total_cmp(&b.0))
    });
    let mut placed: Vec<(f64, f64)> = Vec::new();
    for (x, y, point) in labels {
        let mut at = y + 4.0;
        while let Some(other) =
            placed.iter().find(|other| (other.0 - x).abs() < 95.0 && (other.1 - at).abs() < 11.5)
        {
            at = other.1 + 12.0;
        }
        placed.push((x, at));
        let right = x < plot.left + plot.width * 0.72;
        let (shift, anchor) = if right { (8.0, "start") } else { (-8.0, "end") };
        if at - y > 6.0 {
            out.put(format_args!(
                "<path class=\"lead\" d=\"M{x} {y}L{} {}\"/>",
                round(x + shift * 0.8),
                round(at - 4.0)
            ));
        }
        out.put(format_args!(
            "<text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            round(x + shift),
            round(at),
            point.label
        ));
    }
}
