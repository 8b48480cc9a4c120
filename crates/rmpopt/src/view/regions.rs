//! `rmpopt regions` for people: a heat map, 64 regions to a line, or a list.

use anstyle::Style;
use snp_host::state::{HostState, RegionKind, RegionState};

use super::page::{BAD, CELLS, FAINT, FAIR, GOOD, MARGIN, Page, STRONG, paint};
use crate::units::size;

/// The map or the list, then the sums.
pub(super) fn regions(page: &mut Page, state: &HostState, regions: &[&RegionState], list: bool) {
    if regions.is_empty() {
        let why = if state.regions.is_empty() {
            "no regions are known: neither /proc/iomem, nor memory blocks, nor a log say where RAM is"
        } else {
            "no region is as asked for"
        };
        page.line(why);
        return;
    }
    page.line(&paint(STRONG, "Regions of 1 GiB that have RAM"));
    if list {
        rows(page, state, regions);
    } else {
        map(page, regions);
    }
    page.line("");
    for kind in RegionKind::ALL {
        let of = || regions.iter().filter(|region| region.state == kind);
        let bytes = of().map(|region| region.ram_bytes).sum();
        let glyph = paint(style(kind), &glyph(page, kind, None).to_string());
        page.line(&format!("{glyph} {:<44}{:>7}  {:>10}", words(kind), of().count(), size(bytes)));
    }
    let table = state.sources.iter().find(|source| source.fact == "rmpopt-table");
    if let Some(detail) = table.and_then(|source| source.detail.as_deref()) {
        page.wrapped(&paint(FAINT, "table: "), 7, detail);
    }
}

const fn words(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Optimised => "optimised on every core",
        RegionKind::Partial => "on some cores (0-9: tenths of them)",
        RegionKind::None => "on no core",
        RegionKind::Outside => "outside of every window",
        RegionKind::Unknown => "not known",
    }
}

const fn style(kind: RegionKind) -> Style {
    match kind {
        RegionKind::Optimised => GOOD,
        RegionKind::Partial => FAIR,
        RegionKind::None => BAD,
        RegionKind::Outside | RegionKind::Unknown => FAINT,
    }
}

/// One character; of a region that some cores have the tenths, if they are known.
fn glyph(page: &Page, kind: RegionKind, tenths: Option<u32>) -> char {
    match kind {
        RegionKind::Optimised => page.pick('█', '#'),
        RegionKind::Partial => tenths.and_then(|n| char::from_digit(n.min(9), 10)).unwrap_or('+'),
        RegionKind::None => page.pick('·', '.'),
        RegionKind::Outside => page.pick('×', 'x'),
        RegionKind::Unknown => '?',
    }
}

/// Lines without RAM are left out.
fn map(page: &mut Page, regions: &[&RegionState]) {
    let most = regions.iter().filter_map(|region| region.cores).max().unwrap_or(0);
    let line_of = |region: &&RegionState| region.gib as usize / CELLS;
    for line in regions.chunk_by(|a, b| line_of(a) == line_of(b)) {
        let Some(first) = line.first().map(line_of) else { continue };
        let mut cells = String::new();
        let mut at = first * CELLS;
        for region in line {
            cells.push_str(&" ".repeat(region.gib as usize - at));
            let tenths =
                region.cores.map(|cores| (u64::from(cores) * 10 / u64::from(most.max(1))) as u32);
            cells.push_str(&paint(
                style(region.state),
                &glyph(page, region.state, tenths).to_string(),
            ));
            at = region.gib as usize + 1;
        }
        let label = format!("{:>w$} GiB ", first * CELLS, w = MARGIN - 5);
        page.line(&format!("{}{cells}", paint(FAINT, &label)));
    }
}

fn rows(page: &mut Page, state: &HostState, regions: &[&RegionState]) {
    let of = state.cpus.cores.map_or_else(String::new, |cores| format!("/{cores}"));
    page.line(&paint(FAINT, "    GiB        RAM  node   state       cores        held by"));
    for region in regions {
        let nodes: Vec<String> = region.nodes.iter().map(u32::to_string).collect();
        let cores = region.cores.map_or_else(|| "?".to_owned(), |cores| format!("{cores}{of}"));
        let state = paint(style(region.state), &format!("{:<10}", region.state.word()));
        page.line(&format!(
            "{:>7} {:>10}  {:<5}  {state}  {cores:<11}  {}",
            region.gib,
            size(region.ram_bytes),
            nodes.join(","),
            region.held_by.join(", ")
        ));
    }
}
