//! Runs the tests and counts those that said they could not run.
//!
//! A test that lacks something prints `skipped: <name>: <reason>` and passes. Both runners hide
//! what passing tests print, so nextest writes it to its JUnit file (profile `ci` in
//! `.config/nextest.toml`) and libtest is asked to show it.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{Ci, Outcome, shown, tools};

/// Tests of all runners together.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// One line for each test that could not run.
    pub(super) notices: Vec<String>,
}

impl fmt::Display for Totals {
    /// A test that skipped itself passed for its runner; here it counts once, as skipped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.notices.len() as u64;
        let passed = self.passed.saturating_sub(skipped);
        write!(f, "{passed} passed, {} failed, {skipped} skipped", self.failed)
    }
}

/// How long the threaded stress of snp-model takes here, unless the environment says otherwise.
const STRESS_SECONDS: (&str, &str) = ("RMPOPT_STRESS_S", "30");

fn with_stress(command: &mut Command) {
    if std::env::var_os(STRESS_SECONDS.0).is_none() {
        command.env(STRESS_SECONDS.0, STRESS_SECONDS.1);
    }
}

/// All tests but those in documentation.
pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    if tools::has_nextest(ci) { nextest(ci) } else { libtest(ci) }
}

fn nextest(ci: &mut Ci) -> Result<Outcome> {
    // nextest keeps its files here wherever cargo builds.
    let report = ci.root.join("target/nextest/ci/junit.xml");
    if report.exists() {
        fs::remove_file(&report).with_context(|| format!("removing {}", report.display()))?;
    }
    let mut command = ci.program("cargo");
    command.args(["nextest", "run", "--workspace", "--locked", "--profile", "ci"]);
    with_stress(&mut command);
    let (lines, succeeded) = tee(&mut command)?;
    let Some(summary) = lines.iter().rfind(|line| line.trim_start().starts_with("Summary ["))
    else {
        bail!("{} closed without a summary", shown(&command));
    };
    let (passed, failed) = nextest_counts(summary);
    ci.totals.passed += passed;
    ci.totals.failed += failed;
    ci.closing.push(summary.trim().to_owned());
    let text =
        fs::read_to_string(&report).with_context(|| format!("reading {}", report.display()))?;
    let notices = notices(&text, "<testcase");
    let note = note(passed, notices.len());
    ci.totals.notices.extend(notices);
    if !succeeded || failed > 0 {
        bail!("{failed} of {} tests failed", passed + failed);
    }
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(Outcome::Passed(note))
}

fn libtest(ci: &mut Ci) -> Result<Outcome> {
    let mut command = ci.program("cargo");
    command.args(["test", "--workspace", "--all-targets", "--no-fail-fast", "--locked"]);
    command.args(["--", "--show-output"]);
    with_stress(&mut command);
    let outcome = count_libtest(ci, &mut command)?.0;
    Ok(match outcome {
        Outcome::Passed(note) => Outcome::Passed(format!("{note}; cargo-nextest is missing")),
        skipped @ Outcome::Skipped(_) => skipped,
    })
}

/// The examples in documentation, which nextest does not run.
pub(super) fn run_doctests(ci: &mut Ci) -> Result<Outcome> {
    let mut command = ci.program("cargo");
    command.args(["test", "--workspace", "--doc", "--no-fail-fast", "--locked"]);
    command.args(["--", "--show-output"]);
    Ok(count_libtest(ci, &mut command)?.0)
}

/// The atomics of snp-model under loom, in a target folder of their own: `--cfg loom` is for all crates.
pub(super) fn run_loom(ci: &mut Ci) -> Result<Outcome> {
    let mut command = ci.program("cargo");
    command.args(["test", "--package", "snp-model", "--test", "loom", "--no-default-features"]);
    command.args(["--release", "--locked", "--no-fail-fast", "--target-dir"]);
    command.arg(ci.target.join("loom"));
    command.args(["--", "--show-output"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg loom").trim_start());
    let (outcome, lines) = count_libtest(ci, &mut command)?;
    let explored: u64 = lines.iter().map(|line| interleavings(line)).sum();
    if explored == 0 {
        bail!("loom explored nothing");
    }
    Ok(match outcome {
        Outcome::Passed(note) => Outcome::Passed(format!("{note}, {explored} interleavings")),
        skipped @ Outcome::Skipped(_) => skipped,
    })
}

/// `loom: NAME: 86 interleavings, preemptions 3, 4.2ms`.
fn interleavings(line: &str) -> u64 {
    if line.starts_with("loom: ") { number_before(line, " interleavings") } else { 0 }
}

fn count_libtest(ci: &mut Ci, command: &mut Command) -> Result<(Outcome, Vec<String>)> {
    let (lines, succeeded) = tee(command)?;
    let results: Vec<_> = lines.iter().filter(|line| line.starts_with("test result: ")).collect();
    let (mut passed, mut failed) = (0, 0);
    for line in &results {
        passed += number_before(line, " passed");
        failed += number_before(line, " failed");
    }
    let notices = notices(&lines.join("\n"), "---- ");
    let note = note(passed, notices.len());
    ci.totals.passed += passed;
    ci.totals.failed += failed;
    ci.totals.notices.extend(notices);
    // One line for each executable: those that ran nothing say nothing.
    let ran = results.iter().filter(|line| number_before(line, " passed") > 0 || !succeeded);
    ci.closing.extend(ran.map(|line| (*line).clone()));
    if !succeeded || failed > 0 {
        bail!("{} failed: {failed} of {} tests", shown(command), passed + failed);
    }
    Ok((Outcome::Passed(note), lines))
}

fn note(passed: u64, skipped: usize) -> String {
    match skipped {
        0 => format!("{passed} tests"),
        _ => format!("{passed} tests, {skipped} of them could not run"),
    }
}

/// Runs a program, shows both its outputs as they come, and returns their lines and its success.
pub(super) fn tee(command: &mut Command) -> Result<(Vec<String>, bool)> {
    println!("$ {}", shown(command));
    // One pipe for both would need a file descriptor to share: the shell does it.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 2>&1", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    let mut child = shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", shown(command)))?;
    let output = child.stdout.take().context("the output was not piped")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        lines.push(line);
    }
    std::io::stdout().flush()?;
    Ok((lines, child.wait()?.success()))
}

/// `Summary [   0.1s] 41 tests run: 40 passed (1 slow), 1 failed, 2 timed out, 0 skipped`.
fn nextest_counts(summary: &str) -> (u64, u64) {
    let failed = [" failed", " timed out", " exec failed"];
    let failed = failed.iter().map(|what| number_before(summary, what)).sum();
    (number_before(summary, " passed"), failed)
}

/// The number right before `what`, 0 if there is none.
fn number_before(line: &str, what: &str) -> u64 {
    let Some((before, _)) = line.split_once(what) else { return 0 };
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// The first `skipped: <name>: <reason>` of each test; a line that begins with `separator` (after
/// blanks) begins another test's output.
fn notices(text: &str, separator: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut taken = false;
    for line in text.lines() {
        if line.trim_start().starts_with(separator) {
            taken = false;
        }
        if taken {
            continue;
        }
        if let Some(notice) = notice(line) {
            found.push(notice);
            taken = true;
        }
    }
    found
}

fn notice(line: &str) -> Option<String> {
    const MARK: &str = "skipped: ";
    let rest = line.get(line.find(MARK)? + MARK.len()..)?;
    let (name, reason) = rest.split_once(": ")?;
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    let reason = reason.split("</").next().unwrap_or(reason).trim_end();
    (is_name && !reason.is_empty()).then(|| unescape(&format!("{MARK}{name}: {reason}")))
}

/// The five entities of XML.
fn unescape(text: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn runners_summaries_are_counted() {
        let line = "     Summary [   0.012s] 41 tests run: 39 passed (1 slow), 1 failed, 1 timed \
                    out, 3 skipped";
        assert_eq!(nextest_counts(line), (39, 2));
        let line = "     Summary [   0.012s] 41 tests run: 41 passed, 0 skipped";
        assert_eq!(nextest_counts(line), (41, 0));
        let line = "test result: ok. 37 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!((number_before(line, " passed"), number_before(line, " failed")), (37, 2));
    }

    #[test]
    fn interleavings_are_counted() {
        let line = "loom: two owners, one page: 1906 interleavings, preemptions 3, 264.5ms";
        assert_eq!(interleavings(line), 1906);
        assert_eq!(interleavings("12 interleavings"), 0);
    }

    #[test]
    fn each_test_is_skipped_once() {
        let junit = "<testcase name=\"a\">\n<system-out>running 1 test\n\
                     skipped: boots: qemu &lt;10&gt; is missing\nskipped: boots: again\n</system-out>\n\
                     </testcase>\n  <testcase name=\"b\">\n<system-out>test b ... skipped: env: \
                     no root</system-out>\n<testcase name=\"c\">skipped: not a notice\n";
        assert_eq!(
            notices(junit, "<testcase"),
            ["skipped: boots: qemu <10> is missing", "skipped: env: no root"]
        );
        let mut totals = Totals { passed: 5, failed: 1, notices: Vec::new() };
        totals.notices = notices(junit, "<testcase");
        assert_eq!(totals.to_string(), "3 passed, 1 failed, 2 skipped");
    }
}
