//! The two streams: results on standard output, all else on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::ser::Formatter;
pub(crate) use snp_host::harmless;
use snp_host::steers;

use crate::exit::Failure;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

/// Writes a result; colours are left out where they are not wanted. A reader that has gone away
/// is no failure.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    result_read(text).map(drop)
}

/// The same, and whether there is still a reader.
pub(crate) fn result_read(text: &str) -> Result<bool, Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::CannotRead(format!("standard output: cannot be written: {e}"))),
        Ok(()) => Ok(true),
    }
}

/// A result as JSON, on one line. Strings may come from anywhere, and JSON lets C1 controls and bidi
/// marks stand as they are: they are written as escapes, which mean the same.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, Harmless);
    value
        .serialize(&mut to)
        .map_err(|error| Failure::BadInput(format!("the report has no JSON form: {error}")))?;
    bytes.push(b'\n');
    String::from_utf8(bytes)
        .map_err(|error| Failure::BadInput(format!("the report has no JSON form: {error}")))
}

/// serde_json's compact form without a character that steers a terminal.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(steers) {
            let (plain, from) = rest.split_at(at);
            to.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            for unit in chars.next().unwrap_or_default().encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        to.write_all(rest.as_bytes())
    }
}

/// Says why the command failed.
pub(crate) fn error(failure: &Failure) {
    to_stderr(&format!("{ERROR}error:{ERROR:#} {}\n", harmless(&failure.to_string())));
}

/// Ends the process as clap would, for help, version or wrong usage. What was given on the command
/// line is quoted in the message, and may have come from anywhere.
pub(crate) fn usage(error: &clap::Error) -> ! {
    let text = error.to_string();
    if text.contains(|c| steers(c) && c != '\n') {
        let lines: Vec<_> = text.lines().map(harmless).collect();
        to_stderr(&format!("{}\n", lines.join("\n")));
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// Says something the user should know.
pub(crate) fn note(text: &str) {
    to_stderr(&format!("{NOTE}note:{NOTE:#} {}\n", harmless(text)));
}

/// Whether someone is watching standard error.
pub(crate) fn stderr_is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Columns of standard output's terminal, within what is good to read; 80 if it is none.
pub(crate) fn stdout_width() -> usize {
    let columns = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
    usize::from(columns.unwrap_or(80)).clamp(40, 120)
}

/// Whether the locale's characters are UTF-8.
pub(crate) fn locale_is_utf8() -> bool {
    is_utf8(|name| std::env::var(name).ok())
}

fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    locale.is_some_and(|l| {
        let l = l.to_ascii_lowercase();
        l.contains("utf-8") || l.contains("utf8")
    })
}

fn to_stderr(text: &str) {
    // Nowhere is left to say that standard error is gone.
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(harmless("pod-1: 5 µs"), "pod-1: 5 µs");
        assert_eq!(harmless("\u{1b}[31mred\u{7}\u{9b}1m"), "\\u{1b}[31mred\\u{7}\\u{9b}1m");
    }

    #[test]
    fn json_steers_nothing_and_means_the_same() {
        let odd = "a\u{1b}\n\"\u{9b}\u{202e}\u{e0041}\\b µ";
        let json = json(&odd).unwrap();
        assert_eq!(json, "\"a\\u001b\\n\\\"\\u009b\\u202e\\udb40\\udc41\\\\b µ\"\n");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), odd);
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let locale = |pairs: &'static [(&str, &str)]| {
            is_utf8(move |name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_owned()))
        };
        assert!(locale(&[("LANG", "en_US.UTF-8")]));
        assert!(locale(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!locale(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!locale(&[]));
    }
}
