//! What the other steps need: formatter, lints, test runner, licence checker.
//!
//! As root, what is missing is installed: components by rustup, programs by `cargo install` into
//! `target/xtask-tools`, where they stay. Programs of Debian's that tests run are unpacked there, not
//! installed: their packages would start services. What cannot be had is said, and its step or test
//! says so again.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{Ci, Outcome, packages};
use crate::process::is_installed;

/// Seconds after which an installation is given up.
const LIMIT: &str = "420";

/// Programs that tests run, and Debian's packages of them; each needs no library but libc and zlib.
const UNPACKED: [(&str, &str); 4] = [
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    ("mandoc", "mandoc"),
];

/// Downloads the packages and unpacks them; says what became of it.
fn unpack(ci: &Ci, packages: &BTreeSet<&str>) -> Result<()> {
    let (debs, root) = (ci.tools().join("debs"), ci.tools().join("debian"));
    for folder in [&debs, &root] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let download = || {
        let mut apt = limited(ci, "apt-get");
        apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(packages);
        ci.show(apt.current_dir(&debs))
    };
    if download().is_err() {
        ci.show(limited(ci, "apt-get").args(["-q", "update"]))?;
        download()?;
    }
    for entry in fs::read_dir(&debs)? {
        let deb = entry?.path();
        let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if packages.iter().any(|package| name.starts_with(&format!("{package}_"))) {
            ci.show(ci.program("dpkg-deb").arg("--extract").arg(&deb).arg(&root))?;
        }
    }
    Ok(())
}

/// What tests run of Debian's programs.
fn debian(ci: &Ci) -> Option<String> {
    let here = |program: &str| {
        is_installed(program) || ci.tools().join("debian/usr/bin").join(program).is_file()
    };
    let missing: BTreeSet<&str> = UNPACKED
        .iter()
        .filter(|(program, _)| !here(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names = missing.iter().copied().collect::<Vec<_>>().join(", ");
    if !ci.install || !is_installed("apt-get") || !is_installed("dpkg-deb") {
        return Some(format!("{names} missing (unpacked only as root, with apt-get)"));
    }
    Some(match unpack(ci, &missing) {
        Ok(()) => format!("unpacked {names}"),
        Err(error) => format!("{names} missing: {error:#}"),
    })
}

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
    notes.extend(debian(ci));
    Ok(Outcome::Passed(notes.join("; ")))
}
