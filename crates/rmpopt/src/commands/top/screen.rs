//! The loop of the screen: samples and keys in, frames out.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGCONT, SIGTSTP};
use snp_top::{Key, Look, Model, draw};

use super::terminal::{Screen, give_back};
use super::{Source, exit_code};
use crate::exit::Failure;
use crate::output;

/// How long a key is waited for before samples and signals are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Runs until somebody quits.
pub(super) fn run(source: Source, look: Look, ended: &AtomicUsize) -> Result<ExitCode, Failure> {
    let mut model = Model::new();
    let mut reader = match source {
        Source::Host(reader) => Some(reader),
        Source::Still(sample, file) => {
            model.take(*sample);
            model.still = Some(format!("still: {}", output::harmless(&file)));
            None
        }
    };
    let (stop, go_on) = (flag(SIGTSTP)?, flag(SIGCONT)?);
    let mut screen = Screen::take()?;
    let mut fresh = true;
    loop {
        if let Some(from) = &reader {
            match from.samples.try_recv() {
                Ok(sample) => {
                    model.take(sample);
                    fresh = true;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    model.ended(unix_ms(), "the reader of the host ended");
                    reader = None;
                    fresh = true;
                }
            }
        }
        if !Screen::is_ours() {
            return Err(Failure::Unsupported("the reader of the host panicked".to_owned()));
        }
        if fresh {
            let drawn = screen.terminal.draw(|frame| draw(&mut model, look, frame.buffer_mut()));
            drawn.map_err(|e| {
                Failure::Unsupported(format!("the terminal cannot be written: {e}"))
            })?;
            fresh = false;
        }
        let failed = |e| Failure::Unsupported(format!("the terminal cannot be read: {e}"));
        let mut wait = LOOK;
        // All that was typed or sent at once is one frame.
        while event::poll(wait).map_err(failed)? {
            wait = Duration::ZERO;
            match event::read().map_err(failed)? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match asked(key) {
                    Some(Asked::Quit) => return Ok(ExitCode::SUCCESS),
                    Some(Asked::Suspend) => stop.store(true, Ordering::SeqCst),
                    Some(Asked::ReadAll) => reader.iter().for_each(super::Reader::read_all),
                    Some(Asked::Model(key)) => model.press(key),
                    None if model.help => model.press(Key::Back),
                    None => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            fresh = true;
        }
        match ended.load(Ordering::SeqCst) {
            0 => {}
            signal => return Ok(exit_code(signal)),
        }
        if stop.swap(false, Ordering::SeqCst) {
            give_back();
            // Stops this process; what follows runs when it goes on.
            signal_hook::low_level::emulate_default_handler(SIGTSTP)
                .map_err(|e| Failure::Unsupported(format!("cannot be suspended: {e}")))?;
            go_on.store(true, Ordering::SeqCst);
        }
        if go_on.swap(false, Ordering::SeqCst) {
            screen.take_again()?;
            fresh = true;
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Quit,
    Suspend,
    ReadAll,
    Model(Key),
}

fn asked(key: KeyEvent) -> Option<Asked> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'q') => Some(Asked::Quit),
            KeyCode::Char('z') => Some(Asked::Suspend),
            KeyCode::Char('l') => Some(Asked::ReadAll),
            _ => None,
        };
    }
    Some(Asked::Model(match key.code {
        KeyCode::Char('q') => return Some(Asked::Quit),
        KeyCode::Char('r') => return Some(Asked::ReadAll),
        KeyCode::Char('?') | KeyCode::F(1) => Key::Help,
        KeyCode::Esc => Key::Back,
        KeyCode::Char('p' | ' ') => Key::Pause,
        KeyCode::Char('n') => Key::NextNode,
        KeyCode::Char('N') => Key::PreviousNode,
        KeyCode::Char('f') => Key::NextFilter,
        KeyCode::Char('F') => Key::PreviousFilter,
        KeyCode::Char('s') => Key::Sort,
        KeyCode::Char('+' | '=') => Key::ZoomIn,
        KeyCode::Char('-') => Key::ZoomOut,
        KeyCode::Char('0') => Key::ZoomFit,
        KeyCode::Char('c') => Key::Clear,
        KeyCode::Tab => Key::Focus,
        KeyCode::Left | KeyCode::Char('h') => Key::Left,
        KeyCode::Right | KeyCode::Char('l') => Key::Right,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Key::Home,
        KeyCode::End | KeyCode::Char('G') => Key::End,
        _ => return None,
    }))
}

fn flag(signal: i32) -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, Arc::clone(&flag))
        .map_err(|e| Failure::Unsupported(format!("signal {signal} cannot be caught: {e}")))?;
    Ok(flag)
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
