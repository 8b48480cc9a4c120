//! Text, bars and titles on a buffer, clipped and harmless.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use snp_host::harmless;
use snp_host::state::RegionKind;

use crate::{Look, Mood};

/// Eighths of a cell; the ASCII bar has whole ones only.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_SPARKS: [char; 8] = ['_', '.', '-', ':', '=', '+', '*', '#'];

/// A buffer and what may be drawn on it.
pub(super) struct Canvas<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) look: Look,
}

#[expect(
    clippy::unused_self,
    reason = "all styles are asked of the canvas, those too that look the same on every one"
)]
#[expect(clippy::cast_sign_loss, reason = "shares and values are 0 or more")]
impl Canvas<'_> {
    fn colour(&self, colour: Color) -> Style {
        if self.look.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// What matters least. Dimmed is unreadable on some terminals: grey where there are colours.
    pub(super) fn faint(&self) -> Style {
        self.colour(Color::DarkGray)
    }

    pub(super) fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn good(&self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn fair(&self) -> Style {
        self.colour(Color::Yellow)
    }

    pub(super) fn bad(&self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn plain(&self) -> Style {
        Style::new()
    }

    pub(super) fn inverse(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn of(&self, kind: RegionKind) -> Style {
        match kind {
            RegionKind::Optimised => self.good(),
            RegionKind::Partial => self.fair(),
            RegionKind::None => self.colour(Color::Red),
            RegionKind::Outside | RegionKind::Unknown => self.faint(),
        }
    }

    pub(super) fn mood(&self, mood: Mood) -> Style {
        match mood {
            Mood::Good => self.good(),
            Mood::Plain => self.plain(),
            Mood::Bad => self.colour(Color::Red),
        }
    }

    pub(super) fn pick<T>(&self, unicode: T, ascii: T) -> T {
        if self.look.unicode { unicode } else { ascii }
    }

    /// The character of a state.
    pub(super) fn glyph(&self, kind: RegionKind) -> char {
        match kind {
            RegionKind::Optimised => self.pick('█', '#'),
            RegionKind::Partial => '+',
            RegionKind::None => self.pick('·', '.'),
            RegionKind::Outside => self.pick('×', 'x'),
            RegionKind::Unknown => '?',
        }
    }

    /// Text at a place in an area, cut at its edge; returns the column behind it. Without Unicode
    /// what is not ASCII is shown as `?`.
    pub(super) fn text(&mut self, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
        if x >= area.width || y >= area.height {
            return x;
        }
        let mut text = harmless(text);
        if !self.look.unicode && !text.is_ascii() {
            text = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        }
        let most = usize::from(area.width - x);
        let (end, _) = self.buffer.set_stringn(area.x + x, area.y + y, text, most, style);
        end - area.x
    }

    /// Text that ends at the right edge, not beginning before `least`.
    pub(super) fn right(&mut self, area: Rect, least: u16, y: u16, text: &str, style: Style) {
        let length = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
        if area.width >= least.saturating_add(length) {
            self.text(area, area.width - length, y, text, style);
        }
    }

    /// One character.
    pub(super) fn put(&mut self, area: Rect, x: u16, y: u16, c: char, style: Style) {
        if x < area.width
            && y < area.height
            && let Some(cell) = self.buffer.cell_mut((area.x + x, area.y + y))
        {
            cell.set_char(c).set_style(style);
        }
    }

    /// The first line of a part: its name, something about it, a rule.
    pub(super) fn head(&mut self, area: Rect, name: &str, about: &str, focused: bool) {
        let rule = self.pick('─', '-');
        let faint = self.faint();
        for x in 0..area.width {
            self.put(area, x, 0, rule, faint);
        }
        let style = if focused { self.inverse() } else { self.strong() };
        let end = self.text(area, 1, 0, &format!(" {name} "), style);
        if !about.is_empty() {
            self.text(area, end, 0, &format!("{about} "), faint);
        }
    }

    /// A bar of shares (each 0 to 1, together at most 1), each in its style.
    pub(super) fn bar(
        &mut self,
        area: Rect,
        x: u16,
        y: u16,
        width: u16,
        parts: &[(f64, char, Style)],
    ) {
        let mut from = 0.0;
        for cell in 0..width {
            self.put(area, x + cell, y, self.pick('░', '-'), self.faint());
        }
        for &(share, glyph, style) in parts {
            let to = (from + share * f64::from(width)).min(f64::from(width));
            let (first, end) = (from.round() as u16, to.round() as u16);
            for cell in first..end {
                self.put(area, x + cell, y, glyph, style);
            }
            // What is there but less than half a cell is still seen.
            let whole = glyph == '█';
            if end == first && share > 0.0 && first < width {
                let eighth = (share * f64::from(width) * 8.0) as usize;
                let small = if whole { EIGHTHS.get(eighth.min(6)).copied() } else { Some(glyph) };
                self.put(area, x + first, y, small.unwrap_or(glyph), style);
            }
            from = to;
        }
    }

    /// The last values as a line of small bars, the newest at the right end.
    pub(super) fn spark(&mut self, area: Rect, x: u16, y: u16, width: u16, values: &[Option<f64>]) {
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let shown = values.len().min(usize::from(width));
        let sparks = self.pick(SPARKS, ASCII_SPARKS);
        for (at, value) in values.iter().skip(values.len() - shown).enumerate() {
            let Some(value) = value else { continue };
            let level = if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
            let left = width - shown as u16 + at as u16;
            let style = if *value > 0.0 { self.fair() } else { self.faint() };
            self.put(area, x + left, y, sparks.get(level).copied().unwrap_or(' '), style);
        }
    }
}
