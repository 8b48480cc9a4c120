//! The heat map: a cell for one region or for several.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use snp_host::state::{RegionKind, RegionState};

use super::canvas::Canvas;
use crate::{Focus, Model, Sample};

/// Fewest rows that are worth drawing: title, two rows of cells, the cursor's line.
pub(super) const LEAST: u16 = 4;
/// Columns of the labels.
const LABEL: u16 = 8;
/// Most GiB in a cell.
const MOST: u32 = 1 << 12;

/// What lies in a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Cell {
    /// Regions with RAM, and those of them that are shown, by state.
    by_state: [u32; 5],
    hidden: u32,
    /// Cores that have the shown regions, over all of them.
    cores: u64,
}

impl Cell {
    fn add(&mut self, region: &RegionState, shown: bool) {
        if !shown {
            self.hidden += 1;
            return;
        }
        if let Some(count) = self.by_state.get_mut(region.state as usize) {
            *count += 1;
        }
        self.cores += u64::from(region.cores.unwrap_or(0));
    }

    fn shown(&self) -> u32 {
        self.by_state.iter().sum()
    }

    fn of(&self, kind: RegionKind) -> u32 {
        self.by_state.get(kind as usize).copied().unwrap_or(0)
    }

    /// The state of all regions in it, if it is one.
    fn alike(&self) -> Option<RegionKind> {
        let all = self.shown();
        RegionKind::ALL.into_iter().find(|kind| all > 0 && self.of(*kind) == all)
    }

    /// Tenths of the pairs of core and region that are optimised, 0 to 9.
    fn tenths(&self, cores: u32) -> u32 {
        let all = u64::from(self.shown()) * u64::from(cores.max(1));
        let tenths = (self.cores * 10).checked_div(all).unwrap_or(0);
        u32::try_from(tenths).unwrap_or(9).min(9)
    }
}

/// A row: its first cell, and cells.
type Row = (u32, Vec<Cell>);

/// Rows with RAM, `columns` cells of `gib` regions each.
fn rows(regions: &[RegionState], model: &Model, gib: u32, columns: u32) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for region in regions {
        let cell = region.gib / gib;
        let (row, column) = (cell - cell % columns, (cell % columns) as usize);
        if rows.last().is_none_or(|(first, _)| *first != row) {
            rows.push((row, vec![Cell::default(); columns as usize]));
        }
        let lets = model.filter.lets(region);
        if let Some(cell) = rows.last_mut().and_then(|(_, cells)| cells.get_mut(column)) {
            cell.add(region, lets);
        }
    }
    rows
}

/// Rows with RAM, counted only.
fn count_rows(regions: &[RegionState], gibs: u32) -> usize {
    let mut last = None;
    regions
        .iter()
        .filter(|region| last.replace(region.gib / gibs) != Some(region.gib / gibs))
        .count()
}

/// Draws it; returns how it was cut: GiB in a cell, cells in a row.
pub(super) fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    model: &Model,
    sample: &Sample,
) -> (u32, u32) {
    let regions = &sample.state.regions;
    let columns = columns(area.width);
    let lines = usize::from(area.height.saturating_sub(if area.height >= LEAST { 2 } else { 1 }));
    let fits = |gib: &u32| count_rows(regions, gib * columns) <= lines;
    let gib = match model.zoom {
        Some(zoom) => 1 << zoom.min(12),
        None => (0..=12).map(|n| 1 << n).find(fits).unwrap_or(MOST),
    };
    let cut = (gib, columns);
    if area.height == 0 {
        return cut;
    }
    canvas.head(area, "Regions", &about(model, regions, gib), model.focus == Focus::Map);
    if regions.is_empty() {
        let why = "no regions are known: nothing says where RAM is (docs/status.md)";
        canvas.text(area, 1, 1, why, canvas.faint());
        return cut;
    }
    let rows = rows(regions, model, gib, columns);
    let cursor = model.cursor.map(|at| at / gib);
    let from = first_row(&rows, cursor, lines, columns);
    for (y, (first, cells)) in rows.iter().skip(from).take(lines).enumerate() {
        let y = y as u16 + 1;
        let label =
            format!("{:>w$}", u64::from(*first) * u64::from(gib), w = usize::from(LABEL) - 1);
        canvas.text(area, 0, y, &label, canvas.faint());
        for (x, cell) in cells.iter().enumerate() {
            let at_cursor = cursor == Some(first + x as u32);
            if let Some((glyph, mut style)) = picture(canvas, cell, model.most_cores) {
                if at_cursor {
                    style = style.add_modifier(Modifier::REVERSED);
                }
                canvas.put(area, LABEL + x as u16, y, glyph, style);
            }
        }
    }
    if area.height >= LEAST {
        let y = area.height - 1;
        match (cursor, rows.len() > from + lines || from > 0) {
            (Some(cell), _) => details(canvas, area, y, model, sample, (cell, gib)),
            (None, true) => {
                let text = format!(
                    "rows {}-{} of {}; move with the arrows",
                    from + 1,
                    (from + lines).min(rows.len()),
                    rows.len()
                );
                canvas.text(area, LABEL, y, &text, canvas.faint());
            }
            (None, false) => legend(canvas, area, y),
        }
    }
    cut
}

/// Cells in a row: a power of two, so that labels are round.
fn columns(width: u16) -> u32 {
    let room = u32::from(width.saturating_sub(LABEL)).max(1);
    1 << room.ilog2()
}

/// The first row to show, so that the cursor's is among them.
fn first_row(rows: &[Row], cursor: Option<u32>, lines: usize, columns: u32) -> usize {
    let Some(cursor) = cursor else { return 0 };
    let row = rows.partition_point(|(first, _)| first + columns <= cursor);
    let most = rows.len().saturating_sub(lines);
    (row + 1).saturating_sub(lines.div_ceil(2)).min(most)
}

fn about(model: &Model, regions: &[RegionState], gib: u32) -> String {
    let mut about = format!("{} of 1 GiB", regions.len());
    if gib > 1 {
        about = format!("{about}, {gib} to a cell");
    }
    if let Some(node) = model.filter.node {
        about = format!("{about}; node {node} alone");
    }
    if let Some(state) = model.filter.state {
        about = format!("{about}; {} alone", state.word());
    }
    about
}

/// The character and style of a cell; `None` where there is no RAM.
fn picture(canvas: &Canvas<'_>, cell: &Cell, cores: u32) -> Option<(char, Style)> {
    if cell.shown() == 0 {
        return (cell.hidden > 0).then(|| (canvas.pick('–', '-'), canvas.faint()));
    }
    let digit = |style| {
        let tenths = cell.tenths(cores);
        (char::from_digit(tenths, 10).unwrap_or('+'), style)
    };
    Some(match cell.alike() {
        Some(RegionKind::Partial) => digit(canvas.of(RegionKind::Partial)),
        Some(kind) => (canvas.glyph(kind), canvas.of(kind)),
        None if cell.of(RegionKind::Optimised) + cell.of(RegionKind::Partial) > 0 => {
            digit(canvas.of(RegionKind::Partial))
        }
        // None of it is optimised: what a driver could do comes before what it cannot.
        None => {
            let mixed = [RegionKind::None, RegionKind::Outside, RegionKind::Unknown];
            let kind = mixed.into_iter().find(|kind| cell.of(*kind) > 0)?;
            (canvas.glyph(kind), canvas.of(kind))
        }
    })
}

fn legend(canvas: &mut Canvas<'_>, area: Rect, y: u16) {
    let mut x = LABEL;
    let all = [
        (RegionKind::Optimised, "optimised"),
        (RegionKind::Partial, "partly (0-9 tenths)"),
        (RegionKind::None, "on no core"),
        (RegionKind::Outside, "outside"),
        (RegionKind::Unknown, "unknown"),
    ];
    for (kind, words) in all {
        let glyph = if kind == RegionKind::Partial { '5' } else { canvas.glyph(kind) };
        canvas.put(area, x, y, glyph, canvas.of(kind));
        x = canvas.text(area, x + 2, y, words, canvas.faint()) + 2;
    }
}

/// What lies under the cursor.
fn details(
    canvas: &mut Canvas<'_>,
    area: Rect,
    y: u16,
    model: &Model,
    sample: &Sample,
    (cell, gib): (u32, u32),
) {
    let regions = &sample.state.regions;
    let first = u64::from(cell) * u64::from(gib);
    let last = first + u64::from(gib) - 1;
    let from = regions.partition_point(|region| u64::from(region.gib) < first);
    let inside = || regions.iter().skip(from).take_while(|region| u64::from(region.gib) <= last);
    let mut text = if gib == 1 { format!("GiB {first}:") } else { format!("GiB {first}-{last}:") };
    for kind in RegionKind::ALL {
        let count = inside().filter(|region| region.state == kind).count();
        if count > 0 {
            text = if gib == 1 {
                format!("{text} {}", kind.word())
            } else {
                format!("{text} {count} {}", kind.word())
            };
        }
    }
    let list = |values: Vec<String>| {
        let mut values = values;
        values.sort_unstable();
        values.dedup();
        values.join(",")
    };
    let nodes = list(inside().flat_map(|r| &r.nodes).map(u32::to_string).collect());
    if !nodes.is_empty() {
        text = format!("{text}; node {nodes}");
    }
    let cores: Option<Vec<u32>> = inside().map(|region| region.cores).collect();
    if let Some(cores) = cores
        && let (Some(least), Some(most)) = (cores.iter().min(), cores.iter().max())
    {
        let of = sample.state.cpus.cores.unwrap_or(model.most_cores);
        text = if least == most {
            format!("{text}; {most} of {of} cores")
        } else {
            format!("{text}; {least}-{most} of {of} cores")
        };
    }
    let held = list(inside().flat_map(|r| &r.held_by).map(|held| (*held).to_owned()).collect());
    if !held.is_empty() {
        text = format!("{text}; held by {held}");
    }
    canvas.text(area, LABEL, y, &text, canvas.strong());
}
