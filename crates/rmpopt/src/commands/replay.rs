//! `rmpopt replay`: a script, or random operations, on the model of the hardware and on its oracle.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use snp_host::MAX_FILE_BYTES;
use snp_model::trial::{Difference, Random, Script, Trial, random, shrink};

use super::interrupt;
use crate::cli::ReplayArgs;
use crate::exit::{Failure, INTERRUPTED, LAW_VIOLATED};
use crate::output;
use snp_lab::words::things;

/// Operations of one run of `--random`.
const RUN: u64 = 50_000;

/// The result; field by field in docs/replay.md.
#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    emulated: bool,
    /// `script` or `random`.
    mode: &'static str,
    /// The script's file, absent in random runs.
    file: Option<String>,
    /// Number of the first random run.
    first_run: Option<u64>,
    /// Random runs done, the one with a difference included.
    runs: Option<u64>,
    /// Operations done.
    operations: u64,
    agree: bool,
    interrupted: bool,
    wall_s: f64,
    difference: Option<DifferenceReport>,
    /// What each operation of a script did, if asked for.
    effects: Option<Vec<EffectReport>>,
}

/// Where model and oracle part.
#[derive(Debug, Serialize)]
struct DifferenceReport {
    /// What was compared.
    what: String,
    model: String,
    oracle: String,
    /// The operation that showed it, from 0, in the script below or in the file.
    operation: usize,
    /// A script that shows it: of random runs the shortened one.
    script: Option<String>,
}

#[derive(Debug, Serialize)]
struct EffectReport {
    operation: String,
    effect: String,
}

/// Runs the command; the exit code is 0, 1 for a difference, or 130 for an interrupted run.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let mut report = match (&args.file, args.random) {
        (Some(file), _) => replay(file, args.verbose)?,
        (None, operations) => random_runs(args.seed, operations.unwrap_or(RUN))?,
    };
    report.wall_s = started.elapsed().as_secs_f64();
    // A script that cannot be written must not be lost: then it is printed.
    let unwritten = write_script(args, &report).err();
    let out = args.out.as_deref().filter(|_| unwritten.is_none());
    let text = if args.json { output::json(&report)? } else { shown(&report, out) };
    output::result(&text)?;
    if let Some(failure) = unwritten {
        return Err(failure);
    }
    Ok(match (report.agree, report.interrupted) {
        (false, _) => ExitCode::from(LAW_VIOLATED),
        (true, true) => ExitCode::from(INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn write_script(args: &ReplayArgs, report: &Report) -> Result<(), Failure> {
    let script = report.difference.as_ref().and_then(|difference| difference.script.as_ref());
    let (Some(path), Some(script)) = (&args.out, script) else { return Ok(()) };
    std::fs::write(path, script).map_err(|error| {
        Failure::CannotRead(format!("{}: cannot be written: {error}", path.display()))
    })
}

fn replay(file: &Path, verbose: bool) -> Result<Report, Failure> {
    let name =
        if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    let text = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::CannotRead(format!("{name}: cannot be read: {error}")))?;
        snp_host::text_from_bytes(&name, bytes)?
    } else {
        snp_host::read_text(file)?
    };
    let script: Script = text.parse().map_err(|error: snp_model::trial::ScriptError| {
        Failure::BadInput(format!(
            "{name}:{}: {}, expected {}",
            error.line, error.found, error.expected
        ))
    })?;
    let mut effects = Vec::new();
    let result = Trial::replay(&script, |_, operation, effect| {
        if verbose {
            let (operation, effect) = (operation.to_string(), effect.to_string());
            effects.push(EffectReport { operation, effect });
        }
    });
    let operations = script.operations.len() as u64;
    let (done, difference) = match result {
        Ok(()) => (operations, None),
        Err((at, difference)) => (at as u64 + 1, Some(told(difference, at, None))),
    };
    Ok(Report {
        file: Some(name),
        operations: done,
        effects: verbose.then_some(effects),
        ..empty("script", difference)
    })
}

fn empty(mode: &'static str, difference: Option<DifferenceReport>) -> Report {
    Report {
        schema_version: 1,
        emulated: true,
        mode,
        file: None,
        first_run: None,
        runs: None,
        operations: 0,
        agree: difference.is_none(),
        interrupted: false,
        wall_s: 0.0,
        difference,
        effects: None,
    }
}

fn told(difference: Difference, operation: usize, script: Option<String>) -> DifferenceReport {
    let Difference { what, model, oracle } = difference;
    DifferenceReport { what, model, oracle, operation, script }
}

/// Random runs until enough operations are done, a difference is found, or somebody interrupts.
fn random_runs(first: u64, operations: u64) -> Result<Report, Failure> {
    let stop = interrupt::catch()?;
    let bar = progress(operations);
    let (mut done, mut runs, mut difference) = (0, 0, None);
    while done < operations && difference.is_none() && !stop.load(Ordering::SeqCst) {
        let run = Random::numbered(first.wrapping_add(runs), RUN.min(operations - done));
        runs += 1;
        match random(&run, |_, _| ()) {
            Ok(()) => done += run.operations,
            Err(found) => {
                done += found.script.operations.len() as u64;
                bar.set_message("a difference: shortening its script");
                let short = shrink(&found);
                let last = short.script.operations.len().saturating_sub(1);
                difference = Some(told(short.difference, last, Some(short.script.to_string())));
            }
        }
        bar.set_position(done);
    }
    bar.finish_and_clear();
    Ok(Report {
        first_run: Some(first),
        runs: Some(runs),
        operations: done,
        interrupted: done < operations && difference.is_none(),
        ..empty("random", difference)
    })
}

/// A bar on standard error if someone is watching.
fn progress(operations: u64) -> ProgressBar {
    if !output::stderr_is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(operations);
    let template =
        "[{bar:36}] {percent:>3} %  {human_pos} operations, {per_sec}, {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let chars = if output::locale_is_utf8() { "━━╌" } else { "=> " };
        bar.set_style(style.progress_chars(chars));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn shown(report: &Report, out: Option<&Path>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (number, done) in report.effects.iter().flatten().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{number:>5}  {}\n       {}", done.operation, done.effect);
    }
    let what = match (&report.file, report.runs, report.first_run) {
        (Some(file), ..) => {
            format!("{}: {}", output::harmless(file), things(report.operations, "operation"))
        }
        (None, Some(runs), Some(first)) => format!(
            "{} in {} from number {first} on",
            things(report.operations, "operation"),
            things(runs, "run")
        ),
        _ => things(report.operations, "operation"),
    };
    let took = if report.mode == "random" {
        let rate = report.operations as f64 / report.wall_s.max(1e-3) / 1e6;
        format!(" ({:.0} s, {rate:.1} million a second)", report.wall_s)
    } else {
        String::new()
    };
    match &report.difference {
        None if report.interrupted => {
            let _ = writeln!(text, "interrupted after {what}{took}: model and oracle agree so far");
        }
        None => {
            let _ = writeln!(
                text,
                "{what}{took}: model and oracle agree in every result, entry and bit"
            );
        }
        Some(difference) => {
            let _ = writeln!(
                text,
                "{what}{took}: a difference after operation {}",
                difference.operation
            );
            let _ = writeln!(text, "  {}", difference.what);
            let _ = writeln!(text, "  model:  {}", difference.model);
            let _ = writeln!(text, "  oracle: {}", difference.oracle);
            match (out, &difference.script) {
                (Some(path), Some(_)) => {
                    let path = path.display().to_string();
                    let _ = writeln!(text, "shortened script: {}", output::harmless(&path));
                }
                (None, Some(script)) => {
                    let _ = write!(text, "shortened script, for `rmpopt replay -`:\n\n{script}");
                }
                _ => {}
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &Path) -> ReplayArgs {
        let out = Some(out.to_owned());
        ReplayArgs { file: None, random: Some(1), seed: 0, out, verbose: false, json: false }
    }

    fn report(script: &str) -> Report {
        let difference = Difference { what: "x".into(), model: "1".into(), oracle: "2".into() };
        empty("random", Some(told(difference, 0, Some(script.into()))))
    }

    #[test]
    fn a_script_is_written_or_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("found.trial");
        write_script(&args(&file), &report("rmpopt-trial 1\n")).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "rmpopt-trial 1\n");
        assert!(shown(&report("reset core=0\n"), Some(&file)).contains("found.trial"));
        let nowhere = folder.path().join("none/found.trial");
        let failure = write_script(&args(&nowhere), &report("reset core=0\n")).unwrap_err();
        assert!(failure.to_string().contains("none/found.trial: cannot be written"));
        assert!(shown(&report("reset core=0\n"), None).contains("reset core=0\n"));
    }
}
