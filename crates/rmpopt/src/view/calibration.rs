//! The calibration: a table for each reading of the parallel slowdown.

use snp_lab::calibrate::{Calibration, Reading, Row};

use super::page::{BAD, FAINT, GOOD, Page, paint};

/// Columns of a figure's name.
const NAMES: usize = 47;

/// All of it.
pub(super) fn calibration(page: &mut Page, found: &Calibration) {
    page.line("Costs held against what AMD posted. Every simulated figure is emulated.");
    for reading in &found.readings {
        table(page, found, reading);
    }
    page.title("Not held against the lab", "simulated by posted, under each reading");
    for item in &found.excluded {
        if found.readings.first().is_some_and(|first| first.parallel != item.parallel) {
            continue;
        }
        let ratios: Vec<_> = found
            .excluded
            .iter()
            .filter(|other| other.name == item.name)
            .map(|other| ratio(other.ratio))
            .collect();
        page.line(&format!("  {:<63}{}", item.name, ratios.join("  ")));
        page.wrapped("    ", 4, item.reason);
    }
    page.line("");
    let (style, word) = if found.holds { (GOOD, "holds") } else { (BAD, "does not hold") };
    page.line(&format!(
        "Largest error of a predicted figure: {:.1} % of {:.0} % allowed: {}",
        found.held_out_error * 100.0,
        found.tolerance * 100.0,
        paint(style, word)
    ));
}

fn table(page: &mut Page, found: &Calibration, reading: &Reading) {
    let about = match reading.parallel {
        "misses" => "RMPOPTs that run together miss the cached result and scan",
        "contention" => "RMPOPTs that run together queue for the cached result",
        _ => "",
    };
    page.title(&format!("Reading: {}", reading.parallel), about);
    let head = format!("  {:<NAMES$}{:>10}{:>12}{:>7}", "", "posted", "simulated", "ratio");
    page.line(&paint(FAINT, &head));
    for row in found.rows.iter().filter(|row| row.parallel == reading.parallel) {
        line(page, row, found.tolerance);
    }
    for fitted in found.parameters.iter().filter(|fitted| fitted.parallel == reading.parallel) {
        page.line(&format!(
            "  {:<22}{:>9} {}, range {} to {}",
            fitted.name, fitted.value, fitted.unit, fitted.low, fitted.high
        ));
    }
    page.line(&format!(
        "  largest error of a predicted figure: {:.1} %",
        reading.held_out_error * 100.0
    ));
}

fn line(page: &mut Page, row: &Row, tolerance: f64) {
    let good = row.fitted || (row.ratio - 1.0).abs() <= tolerance;
    let style = if good { GOOD } else { BAD };
    page.line(&format!(
        "  {:<NAMES$}{:>10}{:>12}{}",
        row.name,
        row.published,
        format!("{:.1}", row.simulated),
        paint(style, &format!("{:>7}", ratio(row.ratio)))
    ));
    let [low, high] = row.spread;
    let spread = if low < high { format!("posted {low} to {high}; ") } else { String::new() };
    let kind = if row.fitted { "fitted" } else { "predicted" };
    page.wrapped("    ", 4, &format!("{kind}; {spread}{}", row.source));
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.3}")
}
