//! What the other steps need: formatter, lints, test runner, licence checker.
//!
//! As root, what is missing is installed: components by rustup, programs by `cargo install` into
//! `target/xtask-tools`, where they stay. Debian's programs are seen to by `packages.rs`. What cannot be
//! had is said, and its step or test says so again.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::{Ci, Outcome, packages};
use crate::process::is_installed;

/// Seconds after which an installation is given up.
const LIMIT: &str = "420";

/// Whether a cargo command answers.
fn has(ci: &Ci, command: &str) -> bool {
    ci.program("cargo")
        .args([command, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub(super) fn has_nextest(ci: &Ci) -> bool {
    has(ci, "nextest")
}

pub(super) fn has_deny(ci: &Ci) -> bool {
    has(ci, "deny")
}

/// `timeout SECONDS program`: nothing that asks a network may hold the run for ever.
pub(super) fn limited(ci: &Ci, program: &str) -> Command {
    let mut command = ci.program("timeout");
    command.args([LIMIT, program]);
    command
}

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let mut notes = Vec::new();
    for component in ["fmt", "clippy"] {
        if has(ci, component) {
            continue;
        }
        let package = if component == "fmt" { "rustfmt" } else { component };
        if !ci.install || !is_installed("rustup") {
            bail!("cargo {component} is missing: rustup component add {package}");
        }
        ci.show(limited(ci, "rustup").args(["component", "add", package]))?;
        notes.push(format!("installed {package}"));
    }
    for (command, package) in [("nextest", "cargo-nextest"), ("deny", "cargo-deny")] {
        if has(ci, command) {
            continue;
        }
        if !ci.install {
            notes.push(format!("{package} is missing (installed only as root)"));
            continue;
        }
        let mut install = limited(ci, "cargo");
        install.args(["install", package, "--locked", "--quiet", "--root"]).arg(ci.tools());
        match ci.show(&mut install) {
            Ok(_) => notes.push(format!("installed {package}")),
            Err(error) => notes.push(format!("{package} is missing: {error:#}")),
        }
    }
    notes.extend(packages::run(ci));
    notes.extend(packages::unpacked(ci));
    Ok(Outcome::Passed(notes.join("; ")))
}
