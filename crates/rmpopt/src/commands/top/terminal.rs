//! The terminal: taken, and given back whatever happens.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _, stdin, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::exit::Failure;

/// The exit code: 128 and SIGHUP.
const HUNG_UP: i32 = 129;

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is given back when this is dropped.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

fn failed(error: &io::Error) -> Failure {
    Failure::Unsupported(format!("the terminal cannot be used: {error}"))
}

impl Screen {
    /// Takes it. A panic gives it back before it says why, whichever thread panics.
    pub(super) fn take() -> Result<Self, Failure> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        end_when_it_is_gone().map_err(|error| failed(&error))?;
        enter().map_err(|error| failed(&error))?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(1 << 16, stdout()));
        let terminal = Terminal::new(backend).map_err(|error| failed(&error))?;
        Ok(Self { terminal })
    }

    /// Takes it again, after it was given back or somebody else had it.
    pub(super) fn take_again(&mut self) -> Result<(), Failure> {
        enter().map_err(|error| failed(&error))?;
        self.terminal.clear().map_err(|error| failed(&error))
    }

    /// Whether the terminal is still ours: a panic of another thread gives it back.
    pub(super) fn is_ours() -> bool {
        TAKEN.load(Ordering::SeqCst)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(stdout(), EnterAlternateScreen)
}

/// Ends the process when the terminal hangs up, also where SIGHUP does not come. By a thread, since
/// crossterm reads a terminal that is gone without end and never returns.
fn end_when_it_is_gone() -> io::Result<()> {
    let watch = || {
        let (input, output) = (stdin(), stdout());
        let mut fds = vec![PollFd::new(&output, PollFlags::empty())];
        if input.is_terminal() {
            fds.push(PollFd::new(&input, PollFlags::empty()));
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        loop {
            // Nothing is asked for: it returns when something is wrong, and sleeps until then.
            match poll(&mut fds, None) {
                Ok(_) if fds.iter().any(|fd| fd.revents().intersects(gone)) => {
                    give_back();
                    std::process::exit(HUNG_UP);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name("hang-up".to_owned()).spawn(watch).map(drop)
}

/// Gives the terminal back, once. A terminal that is gone needs nothing.
pub(super) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}
