//! The map of all regions: one character for each GiB, 64 to a line.

use anstyle::Style;
use snp_lab::report::{RegionMark, RunReport};

use super::page::{CELLS, FAINT, FAIR, FIRMWARE, GOOD, GUEST, MARGIN, Page, WIDTH, paint};
use crate::units::{count, things};

/// Maps with more rows than this leave out rows that repeat the one above.
const ROWS: usize = 48;

/// Order of the legend: best first.
const LEGEND: [RegionMark; 7] = [
    RegionMark::AllCores,
    RegionMark::SomeCores,
    RegionMark::NotYet,
    RegionMark::SnpGuest,
    RegionMark::Firmware,
    RegionMark::Outside,
    RegionMark::NoRam,
];

/// The map and its legend, and why some regions never can be optimised.
pub(super) fn map(page: &mut Page, report: &RunReport) {
    let marks: Vec<RegionMark> = report.map.marks().collect();
    if marks.is_empty() {
        return;
    }
    let when = match report.optimized.at_end {
        Some(_) => "when SNP was last up",
        None => "before SNP is up",
    };
    page.title("Regions", &format!("of 1 GiB, 64 to a line, {when}"));
    let rows: Vec<&[RegionMark]> = marks.chunks(CELLS).collect();
    let mut repeated = 0;
    for (n, row) in rows.iter().enumerate() {
        let again = n > 0 && n + 1 < rows.len() && rows.get(n - 1) == Some(row);
        if again && rows.len() > ROWS {
            repeated += 1;
            continue;
        }
        same_again(page, &mut repeated);
        let first = report.map.first_region + (n * CELLS) as u64;
        let label = format!("{:>w$} GiB ", count(first), w = MARGIN - 5);
        let cells = cells(page, row);
        page.line(&format!("{}{cells}", paint(FAINT, &label)));
    }
    same_again(page, &mut repeated);
    legend(page, &marks);
    never(page, report);
}

fn same_again(page: &mut Page, repeated: &mut usize) {
    if *repeated > 0 {
        let dots = page.pick("⋮", ":");
        let rows = if *repeated == 1 { "line" } else { "lines" };
        let text = format!("{:>w$} {repeated} {rows} like this one", dots, w = MARGIN - 1);
        page.line(&paint(FAINT, &text));
    }
    *repeated = 0;
}

/// Neighbours of one mark are painted together.
fn cells(page: &Page, row: &[RegionMark]) -> String {
    row.chunk_by(|a, b| a == b)
        .map(|run| {
            let mark = run.first().copied().unwrap_or(RegionMark::NoRam);
            paint(style(mark), &glyph(page, mark).to_string().repeat(run.len()))
        })
        .collect()
}

fn legend(page: &mut Page, marks: &[RegionMark]) {
    page.line("");
    let entry = |page: &Page, mark: RegionMark| {
        let number = marks.iter().filter(|m| **m == mark).count() as u64;
        let words = format!("{:<23}{:>7}", mark.meaning(), count(number));
        let style_of_words = if number == 0 { FAINT } else { Style::new() };
        format!(
            "{} {}",
            paint(style(mark), &glyph(page, mark).to_string()),
            paint(style_of_words, &words)
        )
    };
    for pair in LEGEND.chunks(2) {
        let entries: Vec<String> = pair.iter().map(|m| entry(page, *m)).collect();
        page.line(&format!("{}{}", " ".repeat(MARGIN), entries.join("  ")));
    }
}

const fn glyph(page: &Page, mark: RegionMark) -> char {
    match (mark, page.unicode) {
        (RegionMark::AllCores, true) => '█',
        (RegionMark::AllCores, false) => '#',
        (RegionMark::SomeCores, true) => '▒',
        (RegionMark::SomeCores, false) => '+',
        (RegionMark::NotYet, _) => 'o',
        (RegionMark::SnpGuest, _) => 'S',
        (RegionMark::Firmware, _) => 'R',
        (RegionMark::Outside, _) => '-',
        (RegionMark::NoRam, true) => '·',
        (RegionMark::NoRam, false) => '.',
    }
}

const fn style(mark: RegionMark) -> Style {
    match mark {
        RegionMark::AllCores => GOOD,
        RegionMark::SomeCores | RegionMark::NotYet => FAIR,
        RegionMark::SnpGuest => GUEST,
        RegionMark::Firmware => FIRMWARE,
        RegionMark::Outside | RegionMark::NoRam => FAINT,
    }
}

/// Regions that never can be optimised, gathered by reason.
fn never(page: &mut Page, report: &RunReport) {
    if report.never_optimizable.is_empty() {
        return;
    }
    let mut reasons: Vec<(&str, Vec<u64>)> = Vec::new();
    for never in &report.never_optimizable {
        // "RMP segment 0", "RMP segment 1" and so on are one reason.
        let reason = never.reason.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, regions)) => regions.push(never.region),
            None => reasons.push((reason, vec![never.region])),
        }
    }
    page.line("");
    page.line("  Never, whatever the driver does:");
    for (reason, regions) in reasons {
        let number = things(regions.len() as u64, "region");
        let text = format!("{reason}: {number} ({})", ranges(&regions));
        page.wrapped("  - ", 4, &text);
    }
}

/// Region numbers as ranges, no more than fit on two lines: `0, 4-7, 1,024`.
fn ranges(regions: &[u64]) -> String {
    let mut sorted = regions.to_vec();
    sorted.sort_unstable();
    let mut out = String::new();
    for run in sorted.chunk_by(|a, b| a + 1 == *b) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        if out.len() > WIDTH {
            out.push_str(", ...");
            break;
        }
        let comma = if out.is_empty() { "" } else { ", " };
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        out.push_str(comma);
        out.push_str(&range);
    }
    out
}
