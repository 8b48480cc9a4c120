//! A frame: where each part goes. No part keeps anything between frames.

mod canvas;
mod map;
mod parts;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use self::canvas::Canvas;
use crate::Model;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Characters beyond ASCII.
    pub unicode: bool,
    /// Colours.
    pub colour: bool,
}

/// Rows that the head takes: title, driver, optimised share.
const HEAD: u16 = 3;
/// From this width on the lists stand beside the map.
const WIDE: u16 = 120;
/// The width of the lists there.
const SIDE: u16 = 56;

/// Draws a frame that fills the buffer. How the map was cut is kept for the keys that move on it.
pub fn draw(model: &mut Model, look: Look, buffer: &mut Buffer) {
    let area = buffer.area;
    buffer.reset();
    let mut canvas = Canvas { buffer, look };
    let mut rest = area;
    for part in [parts::title, parts::driver_line, parts::total] {
        if let Some(row) = take_top(&mut rest, 1) {
            part(&mut canvas, row, model);
        }
    }
    if area.height > HEAD + 1
        && let Some(row) = take_bottom(&mut rest, 1)
    {
        parts::keys(&mut canvas, row, model);
    }
    let Some(sample) = model.shown().cloned() else {
        canvas.text(rest, 1, 0, "reading ...", canvas.faint());
        return;
    };
    if model.help {
        parts::help(&mut canvas, rest);
        return;
    }
    let nodes = u16::try_from(sample.state.memory.nodes.len()).unwrap_or(u16::MAX);
    let guests = model.guests().map_or(1, |guests| guests.len().max(1));
    let guests = u16::try_from(guests).unwrap_or(u16::MAX);
    if area.width >= WIDE && rest.height >= 16 {
        let mut side = rest;
        side.width = SIDE;
        side.x = rest.right() - SIDE;
        rest.width -= SIDE + 1;
        let list = rest.height / 4;
        let changes = take_bottom(&mut rest, list.max(4));
        let driver = take_top(&mut side, parts::DRIVER_ROWS + 1);
        let half = side.height / 2;
        let nodes = take_top(&mut side, (nodes + 1).min(half));
        lists(&mut canvas, model, driver, nodes, changes, Some(side));
    } else {
        // The map first, then the lists as far as there is room for a title and a line each.
        let free = rest.height.saturating_sub(map::LEAST);
        let [mut driver, mut nodes, mut guests, mut changes] =
            [3, nodes.min(2) + 1, guests.min(2) + 1, 3];
        let mut left = free;
        for wish in [&mut driver, &mut nodes, &mut changes, &mut guests] {
            *wish = if left >= *wish { *wish } else { 0 };
            left -= *wish;
        }
        // Half of what is left goes to the lists, the rest to the map.
        let more = left / 4;
        if guests > 0 && changes > 0 {
            changes += more;
            guests += more;
        }
        let mut bottom = |height| (height > 0).then(|| take_bottom(&mut rest, height)).flatten();
        let changes = bottom(changes);
        let guests = bottom(guests);
        let driver = bottom(driver);
        let nodes = bottom(nodes);
        lists(&mut canvas, model, driver, nodes, changes, guests);
    }
    model.cut = map::draw(&mut canvas, rest, model, &sample);
}

/// Draws one part of the screen.
type Part = fn(&mut Canvas<'_>, Rect, &Model);

fn lists(
    canvas: &mut Canvas<'_>,
    model: &Model,
    driver: Option<Rect>,
    nodes: Option<Rect>,
    changes: Option<Rect>,
    guests: Option<Rect>,
) {
    let all: [(Option<Rect>, Part); 4] = [
        (driver, parts::driver),
        (nodes, parts::nodes),
        (guests, parts::guests),
        (changes, parts::changes),
    ];
    for (area, part) in all {
        if let Some(area) = area.filter(|area| area.height > 0) {
            part(canvas, area, model);
        }
    }
}

/// Cuts rows off the top; `None` if there are none.
fn take_top(rest: &mut Rect, height: u16) -> Option<Rect> {
    let height = height.min(rest.height);
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    (height > 0).then_some(taken)
}

/// Cuts rows off the bottom; `None` if there are none.
fn take_bottom(rest: &mut Rect, height: u16) -> Option<Rect> {
    let height = height.min(rest.height);
    rest.height -= height;
    let taken = Rect { y: rest.bottom(), height, ..*rest };
    (height > 0).then_some(taken)
}
