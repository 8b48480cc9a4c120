//! The module in real kernels, by `cargo xtask kernel-test`, where its environment can be made.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::tests::tee;
use super::{Ci, Outcome};
use crate::kernel_env::UNAVAILABLE;
use crate::kernel_test::ONLY_TOGETHER;
use crate::process::is_installed;

/// After so long a kernel is given up: the machine is too slow for it.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// The same with all that is slow.
const LONG_LIMIT: Duration = Duration::from_secs(90 * 60);
/// Seconds after which one boot is given up: an emulated machine on a busy one is slow.
const BOOT_LIMIT: &str = "900";

/// The stock kernel.
pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let limit = if ci.full { LONG_LIMIT } else { LIMIT };
    let slow: &[&str] = if ci.full { &["--stock", "--slow"] } else { &["--stock"] };
    test(ci, limit, slow)
}

/// The debug kernel, which is built from source first.
pub(super) fn run_debug(ci: &mut Ci) -> Result<Outcome> {
    test(ci, if ci.full { LONG_LIMIT } else { LIMIT }, &["--debug"])
}

/// The debug kernel with KASAN, which is built from source first.
pub(super) fn run_kasan(ci: &mut Ci) -> Result<Outcome> {
    if !ci.full {
        return Ok(Outcome::Skipped("not asked for (--full)".to_owned()));
    }
    test(ci, LONG_LIMIT, &["--kasan"])
}

fn test(ci: &mut Ci, limit: Duration, options: &[&str]) -> Result<Outcome> {
    let skipped = |reason: &str| {
        Ok(Outcome::Skipped(format!("the module was neither built nor booted: {reason}")))
    };
    if !ci.kernel {
        return skipped("it was not to be (--no-kernel)");
    }
    if !ci.install {
        return skipped("that installs packages, as root (and not with --no-install)");
    }
    if !is_installed("apt-get") {
        return skipped("that needs Debian's packages, apt-get is missing");
    }
    let begun = Instant::now();
    let mut command = ci.program("timeout");
    // What it runs is told, too, so that no machine is left behind.
    command.args(["--kill-after=30", &limit.as_secs().to_string(), "cargo", "xtask"]);
    command.args(["kernel-test", "--again", "--limit", BOOT_LIMIT]).args(options);
    let (lines, succeeded) = tee(&mut command)?;
    let (passed, failed) = outcomes(&lines);
    ci.totals.passed += passed;
    if !succeeded {
        if let Some(reason) = lines.iter().find_map(|line| line.strip_prefix(UNAVAILABLE)) {
            return skipped(reason);
        }
        if begun.elapsed() >= limit && failed == 0 {
            return Ok(Outcome::Skipped(format!(
                "not done after {} minutes: {passed} tests passed, the others were not run",
                limit.as_secs() / 60
            )));
        }
        ci.totals.failed += failed;
        bail!("kernel-test failed: {failed} of {} tests", passed + failed);
    }
    let only_together = lines.iter().filter(|line| line.starts_with(ONLY_TOGETHER)).cloned();
    let told: Vec<String> =
        [format!("{passed} tests in machines")].into_iter().chain(only_together).collect();
    Ok(Outcome::Passed(told.join("; ")))
}

/// How many tests in machines passed and failed: of a machine that was booted twice, the second time. A
/// console that is shown once more is indented.
fn outcomes(lines: &[String]) -> (u64, u64) {
    let (mut machines, mut machine) = (BTreeMap::new(), "");
    for line in lines {
        if let Some((name, _)) =
            line.strip_prefix("machine ").and_then(|rest| rest.split_once(": -smp "))
        {
            machine = name;
            machines.insert(name, (0, 0));
        } else if let Some(test) = line.strip_prefix("    test: ") {
            let counts = machines.entry(machine).or_default();
            if test.ends_with(" ok") { counts.0 += 1 } else { counts.1 += 1 }
        }
    }
    machines.values().fold((0, 0), |all: (u64, u64), counts| (all.0 + counts.0, all.1 + counts.1))
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
            "    test: gate.nothing-left NOT RUN",
            "console of gate:",
            "    | test: gate.enodev ok",
        ];
        assert_eq!(outcomes(&lines.map(str::to_owned)), (1, 2));
    }

    #[test]
    fn of_a_machine_that_was_booted_twice_the_second_time_counts() {
        let lines = [
            "machine gate: -smp 4, 5.0 s",
            "    test: gate.enodev ok",
            "    test: gate.log FAILED: cmp gives 1",
            "machine trap: -smp 4, 5.0 s",
            "    test: trap.v10 ok",
            "machine gate: once more, alone",
            "machine gate: -smp 4, 3.0 s",
            "    test: gate.enodev ok",
            "    test: gate.log ok",
        ];
        assert_eq!(outcomes(&lines.map(str::to_owned)), (3, 0));
    }
}
