//! `rmpopt top`: a host watched, on the screen or as frames and JSON for scripts.

mod frames;
mod reader;
mod screen;
mod terminal;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use snp_top::{Look, Sample};

use self::reader::Reader;
use crate::cli::TopArgs;
use crate::exit::Failure;
use crate::output;

/// Where samples come from.
enum Source {
    /// A host, again and again.
    Host(Reader),
    /// A picture that does not go on, and where it is from.
    Still(Box<Sample>, String),
}

/// Runs the command.
pub(crate) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let screen = args.frames().is_none() && !args.host.json;
    if screen && !io::stdout().is_terminal() {
        return Err(Failure::Unsupported(
            "standard output is no terminal: --once, --frames and --json print without one"
                .to_owned(),
        ));
    }
    if screen && args.size.is_some() {
        return Err(Failure::BadInput("--size is for --once and --frames".to_owned()));
    }
    let ended = ended_by()?;
    let source = match &args.host.source.from {
        Some(file) => still(file)?,
        None => Source::Host(Reader::start(
            super::host::open(args.host.source.root.as_deref())?,
            args.host.source.deep,
            std::time::Duration::from_nanos(args.interval),
        )?),
    };
    let stdout = anstream::AutoStream::choice(&io::stdout());
    let look = Look {
        unicode: !args.no_unicode && output::locale_is_utf8(),
        colour: stdout != anstream::ColorChoice::Never,
    };
    if screen { screen::run(source, look, &ended) } else { frames::run(args, source, look, &ended) }
}

fn still(file: &Path) -> Result<Source, Failure> {
    let (state, taken_s) = super::host::still(file)?;
    let sample = Sample::still(state, taken_s.saturating_mul(1000));
    Ok(Source::Still(Box::new(sample), file.display().to_string()))
}

/// The signal that asks for the end, 0 until there is one. A second Ctrl-C ends the process at once.
fn ended_by() -> Result<Arc<AtomicUsize>, Failure> {
    let ended = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&ended), number)
            .map_err(|e| Failure::Unsupported(format!("signal {signal} cannot be caught: {e}")))?;
    }
    Ok(ended)
}

/// How shells see a process that a signal ended.
fn exit_code(signal: usize) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}
