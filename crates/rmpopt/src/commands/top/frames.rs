//! Frames and JSON for scripts: nothing but text on standard output.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anstyle::{AnsiColor, Effects, Style};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use snp_top::{Look, Model, Record, Sample, draw};

use super::{Source, exit_code};
use crate::cli::TopArgs;
use crate::exit::Failure;
use crate::output;

/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Prints as many as are wanted.
pub(super) fn run(
    args: &TopArgs,
    source: Source,
    look: Look,
    ended: &AtomicUsize,
) -> Result<ExitCode, Failure> {
    let (columns, rows) = args.size.unwrap_or((80, 24));
    let mut printer = Printer {
        model: Model::new(),
        json: args.host.json,
        look,
        buffer: Buffer::empty(Rect::new(0, 0, columns, rows)),
        printed: 0,
    };
    let reader = match source {
        Source::Still(sample, file) => {
            printer.model.still = Some(output::harmless(&file).into_owned());
            printer.print(*sample)?;
            return Ok(ExitCode::SUCCESS);
        }
        Source::Host(reader) => reader,
    };
    loop {
        match reader.samples.recv_timeout(LOOK) {
            Ok(sample) => {
                if !printer.print(sample)? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::CannotRead("the reader of the host ended".to_owned()));
            }
        }
        if args.frames().is_some_and(|frames| printer.printed >= frames) {
            return Ok(ExitCode::SUCCESS);
        }
        match ended.load(Ordering::SeqCst) {
            0 => {}
            signal => return Ok(exit_code(signal)),
        }
    }
}

struct Printer {
    model: Model,
    json: bool,
    look: Look,
    buffer: Buffer,
    printed: u64,
}

impl Printer {
    /// Prints one; `false` if nobody reads any more.
    fn print(&mut self, sample: Sample) -> Result<bool, Failure> {
        let before = self.model.latest().map(|before| before.at);
        let interval = before.and_then(|before| sample.at.checked_sub(before));
        let interval_ms = interval.and_then(|i| u64::try_from(i.as_millis()).ok());
        let changes = self.model.take(sample);
        let mut text = String::new();
        if self.json {
            if let Some(sample) = self.model.latest() {
                let rates = self.model.rates();
                text = output::json(&Record::new(sample, interval_ms, rates, &changes))?;
            }
        } else {
            draw(&mut self.model, self.look, &mut self.buffer);
            if self.printed > 0 {
                text.push('\n');
            }
            text += &ansi(&self.buffer);
        }
        self.printed += 1;
        output::result_read(&text)
    }
}

/// A frame as lines, styles as escapes; blanks at the end of a line are left out.
fn ansi(buffer: &Buffer) -> String {
    let mut out = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width.max(1))) {
        let blank = |cell: &ratatui::buffer::Cell| {
            cell.symbol() == " " && !cell.modifier.contains(Modifier::REVERSED)
        };
        let used = row.iter().rposition(|cell| !blank(cell)).map_or(0, |last| last + 1);
        let mut now = Style::new();
        for cell in row.iter().take(used) {
            let style = style(cell);
            if style != now {
                // Writing to a string cannot fail.
                let _ = write!(out, "{now:#}{style}");
                now = style;
            }
            out += cell.symbol();
        }
        let _ = writeln!(out, "{now:#}");
    }
    out
}

fn style(cell: &ratatui::buffer::Cell) -> Style {
    let colour = match cell.fg {
        Color::Red => Some(AnsiColor::Red),
        Color::Green => Some(AnsiColor::Green),
        Color::Yellow => Some(AnsiColor::Yellow),
        Color::DarkGray => Some(AnsiColor::BrightBlack),
        _ => None,
    };
    let mut effects = Effects::new();
    if cell.modifier.contains(Modifier::BOLD) {
        effects |= Effects::BOLD;
    }
    if cell.modifier.contains(Modifier::REVERSED) {
        effects |= Effects::INVERT;
    }
    Style::new().fg_color(colour.map(Into::into)).effects(effects)
}
