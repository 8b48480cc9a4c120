//! The module in real kernels, by `cargo xtask kernel-test`, where its environment can be made.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::tests::tee;
use super::{Ci, Outcome};
use crate::kernel_env::UNAVAILABLE;
use crate::process::is_installed;

/// After so long a step is given up: the machine is too slow for it.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// Seconds after which one boot is given up: an emulated machine on a busy one is slow.
const BOOT_LIMIT: &str = "900";

/// The stock kernel.
pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    test(ci, ci.kernel, "not asked for (--kernel)", &[])
}

/// The debug kernel, which is built from source first.
pub(super) fn run_debug(ci: &mut Ci) -> Result<Outcome> {
    test(ci, ci.kernel && ci.full, "not asked for (--kernel --full)", &["--debug"])
}

fn test(ci: &mut Ci, wanted: bool, unwanted: &str, options: &[&str]) -> Result<Outcome> {
    let skipped = |reason: String| Ok(Outcome::Skipped(reason));
    if !wanted {
        return skipped(unwanted.to_owned());
    }
    if !ci.install {
        return skipped("its environment is made as root".to_owned());
    }
    if !is_installed("apt-get") {
        return skipped(
            "its environment is made of Debian packages, apt-get is missing".to_owned(),
        );
    }
    let begun = Instant::now();
    let mut command = ci.program("timeout");
    // What it runs is told, too, so that no machine is left behind.
    command.args(["--kill-after=30", &LIMIT.as_secs().to_string(), "cargo", "xtask"]);
    command.args(["kernel-test", "--limit", BOOT_LIMIT]).args(options);
    let (lines, succeeded) = tee(&mut command)?;
    let (passed, failed) = outcomes(&lines);
    if !succeeded {
        if let Some(reason) = lines.iter().find_map(|line| line.strip_prefix(UNAVAILABLE)) {
            return skipped(format!("its environment cannot be made here: {reason}"));
        }
        if begun.elapsed() >= LIMIT && failed == 0 {
            return skipped(format!("not done after {} minutes", LIMIT.as_secs() / 60));
        }
        bail!("kernel-test failed: {failed} of {} tests", passed + failed);
    }
    ci.totals.passed += passed;
    Ok(Outcome::Passed(format!("{passed} tests in machines")))
}

/// How many tests in machines passed and failed. A console that is shown once more is indented.
fn outcomes(lines: &[String]) -> (u64, u64) {
    let mut counts = (0, 0);
    for line in lines {
        match line.strip_prefix("    test: ") {
            Some(test) if test.ends_with(" ok") => counts.0 += 1,
            Some(_) => counts.1 += 1,
            None => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_in_machines_are_counted_once() {
        let lines = [
            "machine gate: -smp 4, 5.0 s",
            "    test: gate.enodev ok",
            "    test: gate.log FAILED: cmp gives 1",
            "console of gate:",
            "    | test: gate.enodev ok",
        ];
        assert_eq!(outcomes(&lines.map(str::to_owned)), (1, 1));
    }
}
