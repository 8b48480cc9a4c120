//! A frame as a picture.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

const WIDTH: u16 = 8;
const HEIGHT: u16 = 17;

fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Red => "#e06c75",
        Color::Green => "#7cc36e",
        Color::Yellow => "#e5c07b",
        Color::DarkGray => "#7a8290",
        _ => "#d7dae0",
    }
}

/// The picture: runs of cells that look alike, each at its place.
pub(crate) fn of(buffer: &Buffer) -> String {
    let (columns, rows) = (buffer.area.width, buffer.area.height);
    let (width, height) = (columns * WIDTH + 2 * WIDTH, rows * HEIGHT + HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\">\n<title>rmpopt top</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" \
         fill=\"#16191f\"/>\n<g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"13\" xml:space=\"preserve\">\n"
    );
    for (y, row) in buffer.content().chunks(usize::from(columns)).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a.fg == b.fg && a.modifier == b.modifier) {
            put(&mut svg, x, y as u16, run);
            x += run.len() as u16;
        }
    }
    svg + "</g>\n</svg>\n"
}

fn put(svg: &mut String, x: u16, y: u16, run: &[Cell]) {
    let text: String = run.iter().map(Cell::symbol).collect();
    let first = &run[0];
    let reversed = first.modifier.contains(Modifier::REVERSED);
    if text.trim().is_empty() && !reversed {
        return;
    }
    let (left, top) = (WIDTH + x * WIDTH, HEIGHT / 2 + y * HEIGHT);
    let width = run.len() as u16 * WIDTH;
    let fill = if reversed { "#16191f" } else { colour(first.fg) };
    if reversed {
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{HEIGHT}\" fill=\"{}\"/>",
            colour(first.fg)
        );
    }
    let bold = if first.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let base = top + 13;
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{base}\" fill=\"{fill}\"{bold} textLength=\"{width}\" \
         lengthAdjust=\"spacingAndGlyphs\">{text}</text>"
    );
}
