//! Charts of blocks: the share over time, what was taken over the CPUs.

use snp_lab::report::{RunReport, SharePoint};

use super::page::{CELLS, FAINT, FAIR, GOOD, MARGIN, Page, paint};
use super::timeline::time;
use crate::units::{count, micros};

/// Rows of the chart of shares.
const ROWS: usize = 6;

/// Steps of one character, from nothing to full.
const UNICODE: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 9] = [' ', '.', '.', ':', ':', '+', '+', '#', '#'];

/// The optimised share over time.
pub(super) fn share(page: &mut Page, report: &RunReport) {
    if report.share.is_empty() || report.simulated_s <= 0.0 {
        return;
    }
    page.title("Optimised share over time", "empty while SNP is down");
    let all = columns(&report.share, report.simulated_s, |p| p.optimized);
    for row in (0..ROWS).rev() {
        let label = match row {
            r if r == ROWS - 1 => "100 %",
            r if r == ROWS / 2 - 1 => "50 %",
            0 => "0 %",
            _ => "",
        };
        let cells: String = all
            .iter()
            .map(|value| {
                let height = value.unwrap_or(0.0) * ROWS as f64 - row as f64;
                step(page, height, value.is_some() && row == 0)
            })
            .collect();
        let edge = page.pick(if label.is_empty() { '│' } else { '┤' }, '|');
        let label = format!("{label:>w$} {edge}", w = MARGIN - 2);
        page.line(&format!("{}{}", paint(FAINT, &label), paint(GOOD, cells.trim_end())));
    }
    let corner =
        format!("{:>w$}{}", page.pick("└", "+"), page.pick("─", "-").repeat(CELLS), w = MARGIN);
    page.line(&paint(FAINT, &corner));
    axis(page, report.simulated_s);
    let can_be = columns(&report.share, report.simulated_s, |p| p.optimizable);
    let cells: String =
        can_be.iter().map(|value| step(page, value.unwrap_or(0.0), value.is_some())).collect();
    let label = format!("{:>w$}  ", "can be", w = MARGIN - 2);
    let note = paint(FAINT, "the same over what can be optimised, 0 to 100 %");
    page.line(&format!("{label}{}", paint(GOOD, cells.trim_end())));
    page.line(&format!("{}{note}", " ".repeat(MARGIN)));
}

fn axis(page: &mut Page, end: f64) {
    let long = end >= 1000.0;
    let (middle, last) = (time(end / 2.0, long), time(end, long));
    let mut line = format!("{}{}", " ".repeat(MARGIN), time(0.0, long));
    let place = |line: &mut String, column: usize, text: &str| {
        let gap = column.saturating_sub(line.chars().count());
        line.push_str(&" ".repeat(gap));
        line.push_str(text);
    };
    place(&mut line, MARGIN + CELLS / 2 - middle.chars().count() / 2, &middle);
    place(&mut line, MARGIN + CELLS - last.chars().count(), &last);
    page.line(&paint(FAINT, &line));
}

/// The character for a height from 0 (nothing) to 1 (full). `some` keeps a small value visible.
fn step(page: &Page, height: f64, some: bool) -> char {
    let steps = if page.unicode { UNICODE } else { ASCII };
    #[expect(clippy::cast_sign_loss, reason = "clamped to 0 and above")]
    let index = (height.clamp(0.0, 1.0) * 8.0).floor() as usize;
    steps[index.max(usize::from(some)).min(8)]
}

/// The mean of each column's time; `None` where SNP was down all through it.
fn columns(
    points: &[SharePoint],
    end: f64,
    value: impl Fn(&SharePoint) -> Option<f64>,
) -> Vec<Option<f64>> {
    let width = end / CELLS as f64;
    (0..CELLS)
        .map(|column| {
            let (from, to) = (column as f64 * width, (column + 1) as f64 * width);
            let (mut sum, mut time) = (0.0, 0.0);
            for (n, point) in points.iter().enumerate() {
                let until = points.get(n + 1).map_or(end, |next| next.t_s);
                let part = until.min(to) - point.t_s.max(from);
                if let Some(value) = value(point)
                    && part > 0.0
                {
                    sum += value * part;
                    time += part;
                }
            }
            (time > 0.0).then(|| sum / time)
        })
        .collect()
}

/// What was taken from each CPU, the worst of each column's CPUs.
pub(super) fn cpus(page: &mut Page, report: &RunReport) {
    let stolen = &report.cpus.stolen_us;
    let interruptions: Vec<f64> = report.cpus.interruptions.iter().map(|n| *n as f64).collect();
    if stolen.is_empty() && interruptions.is_empty() {
        return;
    }
    let cpus = stolen.len().max(interruptions.len());
    let per_column = cpus.div_ceil(CELLS).max(1);
    page.line("");
    let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let micros = |us: f64| micros(us, page.unicode);
    let most_stolen = micros(worst(stolen));
    let most_often = count(report.cpus.interruptions.iter().copied().max().unwrap_or(0));
    let rows = [
        ("time", stolen.as_slice(), most_stolen, ""),
        ("interrupts", &interruptions, most_often, ""),
    ];
    for (name, values, most, unit) in rows {
        if values.is_empty() {
            continue;
        }
        let top = worst(values).max(f64::MIN_POSITIVE);
        let cells: String = values
            .chunks(per_column)
            .map(|chunk| match worst(chunk) {
                0.0 => page.pick('·', '_'),
                value => step(page, value / top, true),
            })
            .collect();
        let label = format!("{name:>w$}  ", w = MARGIN - 2);
        let cells = paint(FAIR, cells.trim_end());
        page.line(&format!("{label}{cells}"));
        let height = format!("{}full height: {most}{unit}", " ".repeat(MARGIN));
        page.line(&paint(FAINT, &height));
    }
    let each = if per_column == 1 {
        "one CPU to a column".to_owned()
    } else {
        format!("{per_column} CPUs to a column, the worst of them")
    };
    let text = format!("{}CPU 0 to {}, {each}", " ".repeat(MARGIN), cpus - 1);
    page.line(&paint(FAINT, &text));
}
