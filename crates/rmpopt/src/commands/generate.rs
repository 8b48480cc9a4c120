//! `rmpopt completions` and `rmpopt man`: what is derived from the command line itself.

use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::atomic;
use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::date::rfc3339;
use crate::exit::Failure;
use crate::output;

const MODE: u32 = 0o644;

/// `rmpopt completions`.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rmpopt", &mut script);
    output::result(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// `rmpopt man`: the main page on standard output, or all pages into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    // `help` is no command that needs a page of its own.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.dir else {
        let (_, page) = page(&command)?;
        output::result(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::SUCCESS);
    };
    let written = pages(&command, folder)?;
    output::note(&format!("{}: {written} pages written", folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and of its subcommands; how many there are.
fn pages(command: &Command, folder: &Path) -> Result<usize, Failure> {
    let (name, text) = page(command)?;
    let file = folder.join(name);
    atomic::replace(&file, &text, Some(MODE))?;
    let mut written = 1;
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        written += pages(command, folder)?;
    }
    Ok(written)
}

/// A page and the name of its file.
fn page(command: &Command) -> Result<(String, Vec<u8>), Failure> {
    let man = Man::new(command.clone())
        .manual("RMPOPT for Linux")
        .source(concat!("rmpopt ", env!("CARGO_PKG_VERSION")))
        .date(date());
    let name = man.get_filename();
    let mut text = Vec::new();
    man.render(&mut text).map_err(|e| Failure::CannotRead(format!("{name}: {e}")))?;
    Ok((name, text))
}

/// The date at the foot of a page: that of SOURCE_DATE_EPOCH, which builders of packages set. Without
/// it there is none, so that the pages are the same whenever they are made.
fn date() -> String {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    // An empty one would make the next field the date.
    epoch.map_or_else(|| " ".to_owned(), |seconds| rfc3339(seconds).chars().take(10).collect())
}
