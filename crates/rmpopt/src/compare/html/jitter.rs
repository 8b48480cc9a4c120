//! Which CPU lost how much when: CPUs down, time across.

use std::fmt::Write as _;

use snp_lab::report::{JitterMap, RunReport};

use super::Comparison;
use super::chart::{Plot, Tick, time_axis};
use super::text::Text;
use crate::units::{count, micros};

/// Colours begin at these microseconds of a window of 1 ms.
const LEVELS: [(f64, &str); 6] = [
    (0.0, "under 3 µs"),
    (3.0, "3 to 10 µs"),
    (10.0, "10 to 30 µs"),
    (30.0, "30 to 100 µs"),
    (100.0, "100 to 300 µs"),
    (300.0, "300 µs to 1 ms"),
];

/// One picture for each policy that took anything.
pub(super) fn figures(out: &mut Text, all: &Comparison, scenario: &str) {
    let runs = all.policies.iter().filter_map(|policy| all.pictured(scenario, policy));
    let (some, none): (Vec<_>, Vec<_>) = runs.partition(|run| !run.jitter_map.cells.is_empty());
    out.put(format_args!(
        "<h3>Stolen time by CPU and time</h3>\n<p class=\"notes\">The most that one CPU of the cell lost to \
         the driver in any 1 ms of the cell's time; empty cells lost nothing. Seed {}.</p>\n\
         <ul class=\"legend\">",
        all.seeds.first().copied().unwrap_or(1)
    ));
    for (level, (_, text)) in LEVELS.iter().enumerate() {
        out.put(format_args!(
            "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"h{level}\" \
             d=\"M0 0h26v10h-26z\"/></svg>{text}</li>"
        ));
    }
    out.put(format_args!("</ul>\n<div class=\"grid\">\n"));
    for run in some {
        figure(out, run);
    }
    out.put(format_args!("</div>\n"));
    if !none.is_empty() {
        let names: Vec<_> = none.iter().map(|run| run.policy).collect();
        out.put(format_args!("<p class=\"notes\">Nothing taken by {}.</p>\n", names.join(", ")));
    }
}

fn figure(out: &mut Text, run: &RunReport) {
    let map = &run.jitter_map;
    out.put(format_args!("<figure>"));
    let about = format!("stolen time by CPU and time under {}", run.policy);
    let plot = Plot::begin(out, 170.0, &about);
    let (x, name) = time_axis(run.simulated_s);
    plot.axes(out, (&x, name), (&cpu_ticks(map), "CPU"));
    let (columns, rows) = (f64::from(map.columns.max(1)), f64::from(map.rows.max(1)));
    out.put(format_args!(
        "<g transform=\"translate({} {}) scale({:.4} {:.4})\">",
        plot.left,
        plot.top,
        plot.width / columns,
        plot.height / rows
    ));
    for level in 0..LEVELS.len() {
        let cells = cells(map, level);
        if !cells.is_empty() {
            out.put(format_args!("<path class=\"h{level}\" d=\"{cells}\"/>"));
        }
    }
    out.put(format_args!("</g>"));
    Plot::end(out);
    let each = match map.cpus_per_row {
        1 => "a row is one CPU".to_owned(),
        n => format!("a row is {} CPUs", count(n.into())),
    };
    let p999 = |us: Option<f64>| us.map_or_else(|| "none".to_owned(), |us| micros(us, true));
    out.put(format_args!(
        "<figcaption><b>{}</b>: {each}, a column {}. Of all 1 ms, 99.9 % lost at most {} of a CPU and {} of \
         an ordinary vCPU.</figcaption></figure>\n",
        run.policy,
        crate::units::seconds(map.step_s),
        p999(run.jitter_us.cpu.p999),
        p999(run.jitter_us.vcpu.p999),
    ));
}

/// CPU 0 is at the top.
fn cpu_ticks(map: &JitterMap) -> Vec<Tick> {
    let rows = map.rows.max(1);
    let every = rows.div_ceil(4).max(1);
    (0..rows)
        .step_by(every as usize)
        .map(|row| {
            let at = 1.0 - (f64::from(row) + 0.5) / f64::from(rows);
            (at, count(u64::from(row) * u64::from(map.cpus_per_row)))
        })
        .collect()
}

/// The cells of a level, joined along each row.
fn cells(map: &JitterMap, level: usize) -> String {
    let of = |us: f64| LEVELS.iter().rposition(|&(from, _)| us >= from).unwrap_or(0);
    let mut path = String::new();
    let mut run: Option<(u32, u32, u32)> = None;
    let mut flush = |run: Option<(u32, u32, u32)>| {
        if let Some((row, from, to)) = run {
            let length = to - from;
            // Writing to a string cannot fail.
            let _ = write!(path, "M{from} {row}h{length}v1h-{length}z");
        }
    };
    for &(row, column, _) in map.cells.iter().filter(|cell| of(cell.2) == level) {
        run = match run {
            Some((at, from, to)) if at == row && to == column => Some((at, from, column + 1)),
            before => {
                flush(before);
                Some((row, column, column + 1))
            }
        };
    }
    flush(run);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_level_are_joined_along_rows() {
        let cell = |row, column, us| (row, column, us);
        let map = JitterMap {
            cpus_per_row: 4,
            rows: 2,
            columns: 9,
            step_s: 1.0,
            cells: vec![
                cell(0, 0, 5.0),
                cell(0, 1, 9.9),
                cell(0, 2, 10.0),
                cell(0, 4, 3.0),
                cell(1, 5, 4.0),
            ],
        };
        assert_eq!(cells(&map, 1), "M0 0h2v1h-2zM4 0h1v1h-1zM5 1h1v1h-1z");
        assert_eq!(cells(&map, 2), "M2 0h1v1h-1z");
        assert_eq!(cells(&map, 5), "");
        assert_eq!(cpu_ticks(&map), [(0.75, "0".into()), (0.25, "4".into())]);
    }
}
