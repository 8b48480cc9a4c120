//! Running other programs: what they said is kept in a log, and a failure shows the end of it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a log shown when its program failed.
const TAIL: usize = 15;

/// Whether a program of this name is on the search path (or in the folders only root searches).
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

/// Runs a program to its end with its output in `log`.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let err = out.try_clone()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .with_context(|| format!("starting {name}"))?;
    if status.success() {
        return Ok(());
    }
    bail!("{name} failed ({status}); the end of {}:\n{}", log.display(), tail(log)?)
}

/// Runs a program to its end and returns what it wrote to its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, said.trim())
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a pipeline written for `sh`, whose `$1`, `$2` ... are `arguments`; any part may fail it.
pub(crate) fn pipeline(script: &str, arguments: &[&Path], log: &Path) -> Result<()> {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-euc", script, "bash"]).args(arguments);
    run_logged(&mut command, log)
}

/// The last lines of a text file.
pub(crate) fn tail(file: &Path) -> Result<String> {
    let reader = BufReader::new(File::open(file)?);
    let lines: Vec<String> =
        reader.split(b'\n').map_while(Result::ok).map(|line| lossy(&line)).collect();
    Ok(lines[lines.len().saturating_sub(TAIL)..].join("\n"))
}

/// Bytes of a console as text, without the carriage return.
pub(crate) fn lossy(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
}
